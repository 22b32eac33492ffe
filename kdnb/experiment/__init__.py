"""Methods trained over seeds, stored, and compared pairwise."""

from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import ALONE, Method, conventional, subclass, within_classes

__all__ = ["ALONE", "Experiment", "Method", "conventional", "subclass", "within_classes"]
