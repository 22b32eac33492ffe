"""Saliency maps and their measures."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from kdnb.course.figures.picture import (
    PALETTE,
    Picture,
    bar_ends,
    key_of_intervals,
    looks,
    name_rows,
    panels,
    styled,
)
from kdnb.course.figures.samples import FAINT, show_image
from kdnb.course.text import percent
from kdnb.evaluation.similarity import normalised
from kdnb.experiment.saliency_study import Measured

FOR, AGAINST = PALETTE[3], PALETTE[0]


@styled
def saliency_grid(
    image: Tensor, columns: Sequence[str], rows: Mapping[str, Sequence[Tensor | None]]
) -> Picture:
    """Maps (H, W) over an image (1 or 3, H, W) uint8: a row per entry, a column per model.

    Positive values are orange, negative ones blue; each map is scaled by its own largest
    magnitude. A panel without a map says that the model has no feature maps.
    """
    size = 1.2 * (len(columns) + 1), 0.85 + 1.2 * len(rows)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(rows), len(columns) + 1, squeeze=False)
    alt = []
    for (first, *others), (row, maps) in zip(axes, rows.items(), strict=True):
        show_image(first, image)
        first.set_title("image" if first is axes[0, 0] else "", fontsize=8)
        first.text(-0.08, 0.5, row.replace(" ", "\n"), transform=first.transAxes, fontsize=8,
                   ha="right", va="center")  # fmt: skip
        for ax, column, values in zip(others, columns, maps, strict=True):
            if ax in axes[0]:
                ax.set_title(textwrap.fill(column, 14), fontsize=8)
            ax.axis("off")
            if values is None:
                ax.text(0.5, 0.5, "no\nfeature\nmaps", ha="center", va="center", fontsize=7)
                continue
            _overlay(ax, image, values)
            share, y, x = evidence(values)
            alt.append(
                f"{row}, {column}: strongest at row {y}, column {x}, "
                f"{percent(share, 0)} of its magnitude is positive"
            )
    key = [Patch(color=FOR, label="positive"), Patch(color=AGAINST, label="negative")]
    figure.legend(handles=key, loc="outside lower center", ncols=2, fontsize=8)
    return Picture(
        figure,
        f"Saliency maps of {len(columns)} models for one image of {image.shape[1]} by "
        f"{image.shape[2]} pixels. {'; '.join(alt)}.",
    )


def overlaid(image: Tensor, values: Tensor) -> Tensor:
    """A map (H, W) over a faint image (1 or 3, H, W) uint8, as colours (3, H, W) uint8.

    The map is averaged to the size of the image.
    """
    paper = (255 - image).expand(3, -1, -1) if len(image) == 1 else image
    strength = normalised(F.adaptive_avg_pool2d(values[None].float().cpu(), image.shape[1:]))[0]
    inks = torch.tensor([to_rgb(FOR), to_rgb(AGAINST)]).T[..., None, None]  # (3, 2, 1, 1)
    colours = 255 * torch.where(strength > 0, inks[:, 0], inks[:, 1])
    faint = 255 - FAINT * (255 - paper.float())
    return faint.lerp(colours, strength.abs()).round().to(torch.uint8)


def evidence(values: Tensor) -> tuple[float, int, int]:
    """Of a map (H, W): the positive share; row and column, from 1, of its strongest pixel."""
    y, x = divmod(values.abs().argmax().item(), values.shape[1])
    share = (values.clamp(min=0).sum() / values.abs().sum().clamp(min=1e-30)).item()
    return share, y + 1, x + 1


def _overlay(ax: Axes, image: Tensor, values: Tensor) -> None:
    show_image(ax, image, faint=True)
    strength = normalised(values[None])[0].numpy()
    colours = np.where(strength[..., None] > 0, to_rgb(FOR), to_rgb(AGAINST))
    ax.imshow(np.concatenate([colours, np.abs(strength)[..., None]], 2), interpolation="nearest")


@styled
def measured_bars(measured: Measured, title: str) -> Picture:
    """A panel for each measure, with each model's mean and interval."""
    labels, count = list(measured.values), len(measured.measures)
    size = 1.9 + 1.75 * count, 1.25 + 0.3 * len(labels)
    figure, axes = panels(*size, count, sharey=True, squeeze=False)
    alt = []
    for ax, measure in zip(axes[0], measured.measures, strict=True):
        for row, (label, color, marker) in enumerate(looks(labels)):
            mean, ends = bar_ends([measured.mean(label, measure)], scale=1)
            ax.errorbar(mean, row, xerr=ends, color=color, marker=marker, capsize=3)
            alt.append(f"{measure} of {label} {mean[0]:.3f}")
        ax.set_title(textwrap.fill(measure, 18), fontsize=9)
    name_rows(axes[0, 0], labels, fontsize=8)
    figure.suptitle(title, fontsize=9)
    key_of_intervals(figure, over="seeds and images")
    return Picture(figure, f"{title}: {', '.join(alt)}.")
