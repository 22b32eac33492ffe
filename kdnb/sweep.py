"""Temperatures × weights × seeds: where distillation is understood, in one call."""

from collections.abc import Sequence
from itertools import product

from kdnb.experiment import Experiment
from kdnb.methods import ALONE, conventional
from kdnb.runs import Comparison


def sweep(
    experiment: Experiment,
    temperatures: Sequence[float],
    soft_weights: Sequence[float],
    seeds: Sequence[int],
) -> Comparison:
    """Conventional distillation at every temperature and weight, beside the student alone.

    Small students are trained together (`Experiment.train_ahead`). Accuracies are those on the
    validation split, since a sweep is there to choose from. What the run store holds is not trained
    again, so a sweep that was stopped goes on when it is called again.
    """
    methods = [ALONE]
    methods += [
        conventional(float(t), float(w), f"T = {t:g}, soft_weight = {w:g}")
        for t, w in product(temperatures, soft_weights)
    ]
    experiment.train_ahead(methods, seeds)
    return experiment.compare(methods, seeds, split="val")
