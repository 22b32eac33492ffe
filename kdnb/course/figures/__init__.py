"""Figures and drawings, each with a text alternative from the same data."""

from kdnb.course.figures.classes import predictions, softened, subclass_bars
from kdnb.course.figures.costs import BUDGETS, cost_bars, size_sweep
from kdnb.course.figures.curves import (
    learning_curves,
    reliability,
    training_curves,
    training_words,
)
from kdnb.course.figures.matrices import confusion_matrix, subclass_tables
from kdnb.course.figures.methods import comparison, sweep
from kdnb.course.figures.picture import GREY, PALETTE, Picture, styled
from kdnb.course.figures.saliency import measured_bars, saliency_grid
from kdnb.course.figures.samples import gallery, images, logit_map
from kdnb.course.figures.top_classes import MATRIX, MOST
from kdnb.course.labels import written

__all__ = [
    "BUDGETS", "GREY", "MATRIX", "MOST", "PALETTE", "Picture", "comparison", "confusion_matrix",
    "cost_bars", "gallery", "images", "learning_curves", "logit_map", "measured_bars",
    "predictions", "reliability", "saliency_grid", "size_sweep", "softened", "styled",
    "subclass_bars", "subclass_tables", "sweep", "training_curves", "training_words", "written",
]  # fmt: skip
