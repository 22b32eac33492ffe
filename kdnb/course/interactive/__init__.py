"""What a reader moves, draws or guesses: live in Jupyter, in the page, and at rest a picture."""

import sys

from kdnb.course.interactive.explorers import (
    calibration_explorer,
    curves_explorer,
    loss_explorer,
    subclass_explorer,
    temperature_explorer,
)
from kdnb.course.interactive.progress import Progress
from kdnb.course.interactive.saliency import saliency_picker
from kdnb.course.interactive.sweeps import budget_explorer, sweep_explorer
from kdnb.course.interactive.widgets import Guess, Prediction

__all__ = [
    "Guess", "Prediction", "Progress", "budget_explorer", "calibration_explorer",
    "curves_explorer", "loss_explorer", "saliency_picker", "subclass_explorer",
    "sweep_explorer", "temperature_explorer",
]  # fmt: skip

if "google.colab" in sys.modules:  # Colab shows widgets of ipywidgets 8 only after this
    from google.colab import output

    output.enable_custom_widget_manager()
