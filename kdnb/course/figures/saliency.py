"""How saliency maps, and what is measured of them, are shown."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import ipywidgets
import numpy as np
import torch
import torch.nn.functional as F
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from kdnb.course.figures.lettering import written
from kdnb.course.figures.plots import MARKERS, PALETTE, Picture, show_image, styled
from kdnb.course.interactive.widgets import Live, explorer, png_source, png_text
from kdnb.course.report.protocol import RESULTS
from kdnb.course.text import percent
from kdnb.evaluation.saliency import Saliency
from kdnb.evaluation.similarity import normalised
from kdnb.experiment.saliency_study import RANDOM, Measured

FOR, AGAINST = PALETTE[3], PALETTE[0]
LEVELS = 20  # of strength in the page, for and against
LARGEST_IN_PAGE = 64  # pixels of a map's side
NEAR = 0.8  # of a trained network's likeness: then random weights are not far below


@styled
def saliency_grid(
    image: Tensor, columns: Sequence[str], rows: Mapping[str, Sequence[Tensor | None]]
) -> Picture:
    """Maps (H, W) over an image (1 or 3, H, W) uint8: a row per entry, a column per model.

    What speaks for the class is orange, what speaks against it blue; each map is scaled by its own
    largest magnitude. Where a model has no such map, the place says so.
    """
    width = 1.2 * (len(columns) + 1)
    figure = Figure(figsize=(width, 0.6 + 1.2 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(columns) + 1, squeeze=False)
    alt = []
    for (first, *others), (row, maps) in zip(axes, rows.items(), strict=True):
        show_image(first, image)
        first.set_title("image" if first is axes[0, 0] else "", fontsize=8)
        first.text(-0.08, 0.5, row.replace(" ", "\n"), transform=first.transAxes, fontsize=8,
                   ha="right", va="center")  # fmt: skip
        for ax, column, own in zip(others, columns, maps, strict=True):
            if ax in axes[0]:
                ax.set_title(textwrap.fill(column, 14), fontsize=8)
            ax.axis("off")
            if own is None:
                ax.text(0.5, 0.5, "no\nfeature\nmaps", ha="center", va="center", fontsize=7)
                continue
            _overlay(ax, image, own)
            share, y, x = evidence(own)
            alt.append(
                f"{row}, {column}: strongest at row {y}, column {x}, "
                f"{percent(share, 0)} of all evidence speaks for the class"
            )
    return Picture(
        figure,
        f"Saliency maps of {len(columns)} models for one image of {image.shape[1]} by "
        f"{image.shape[2]} pixels. {'; '.join(alt)}.",
    )


def saliency_picker(
    images: Tensor,
    captions: Sequence[str],
    class_names: Sequence[str],
    maps: Mapping[str, Mapping[Saliency, Tensor]],
    start: int,
) -> Live:
    """Choose an image, a class, a kind of map and a model; at rest all models, for class ``start``.

    ``images`` (N, C, H, W) uint8; ``maps`` (N, classes, H, W) by model and kind, where it has one.
    """

    def choice(name: str, options: Sequence, tooltip: str, value: object) -> ipywidgets.Widget:
        return ipywidgets.Dropdown(
            options=options, value=value, description=name, tooltip=tooltip,
            layout={"width": "16em"},
        )  # fmt: skip

    every = "all models"
    controls = {
        "image": choice("image", [(c, i) for i, c in enumerate(captions)], "which image", 0),
        "target": choice(
            "class", [(c, i) for i, c in enumerate(class_names)], "evidence for which class", start
        ),
        "saliency": choice(
            "map", [(str(s), s) for s in Saliency], "which kind of map", Saliency.GRADIENT
        ),
        "model": choice("model", [every, *maps], "whose map", every),
    }

    def draw(image: int, target: int, saliency: Saliency, model: str) -> Picture:
        shown = list(maps) if model == every else [model]
        found = [maps[name].get(saliency) for name in shown]
        row = [None if own is None else own[image, target] for own in found]
        name = f"{saliency} for {written(class_names)[target]}"
        return saliency_grid(images[image], shown, {name: row})

    component = {
        "component": "saliency",
        "classes": list(class_names),
        "models": list(maps),
        "target": start,
        "images": [
            {"name": caption, "png": png_source(image)}
            for caption, image in zip(captions, images, strict=True)
        ],
        "kinds": [
            {
                "name": str(saliency),
                "maps": [
                    _sprite(own[saliency]) if saliency in own else None for own in maps.values()
                ],
            }
            for saliency in Saliency
        ],
    }
    return explorer(controls, draw, draw(0, start, Saliency.GRADIENT, every), component)


def _sprite(maps: Tensor) -> dict:
    """Maps (N, classes, H, W) as one picture, a row for each image, and what each map says.

    Colours are those of `saliency_grid`, in `LEVELS` steps of strength; large maps are averaged.
    """
    each = maps.flatten(0, 1)
    if each.shape[-1] > LARGEST_IN_PAGE:
        each = F.adaptive_avg_pool2d(each, LARGEST_IN_PAGE)
    steps = (normalised(each) * LEVELS).round() + LEVELS  # the middle one is clear
    grid = steps.unflatten(0, maps.shape[:2]).permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
    picture = Image.fromarray(grid.to(torch.uint8).numpy(), "P")
    signed = range(-LEVELS, LEVELS + 1)
    picture.putpalette([round(255 * v) for s in signed for v in to_rgb(FOR if s > 0 else AGAINST)])
    opacity = bytes(round(255 * abs(step) / LEVELS) for step in signed)
    return {
        "png": png_text(picture, transparency=opacity),
        "says": [[evidence(own) for own in row] for row in maps],
    }


def evidence(own: Tensor) -> tuple[float, int, int]:
    """Of a map (H, W): the share for the class; row and column, from 1, of its strongest pixel."""
    y, x = divmod(own.abs().argmax().item(), own.shape[1])
    share = (own.clamp(min=0).sum() / own.abs().sum().clamp(min=1e-30)).item()
    return share, y + 1, x + 1


@styled
def measured_bars(measured: Measured, title: str) -> Picture:
    """A panel for each measure, in it for each model the mean over seeds with its interval."""
    labels = list(measured.values)
    size = (1.9 + 1.75 * len(measured.measures), 1.0 + 0.3 * len(labels))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(measured.measures), sharey=True, squeeze=False)[0]
    alt = []
    for ax, measure in zip(axes, measured.measures, strict=True):
        for row, label in enumerate(labels):
            mean = measured.mean(label, measure)
            ax.errorbar(
                mean.mean, row, xerr=[[mean.mean - mean.low], [mean.high - mean.mean]],
                color=PALETTE[row % len(PALETTE)], marker=MARKERS[row % len(MARKERS)], capsize=3,
            )  # fmt: skip
            alt.append(f"{measure} of {label} {mean.mean:.3f}")
        ax.set_title(textwrap.fill(measure, 18), fontsize=9)
    axes[0].set_yticks(range(len(labels)), labels, fontsize=8)
    axes[0].set_ylim(len(labels) - 0.5, -0.5)
    figure.suptitle(title, fontsize=9)
    return Picture(figure, f"{title}: {', '.join(alt)}.")


class MeasuredTable:
    """What was measured of each model, for the reader and for whoever collects results.

    Entries are means over images with their intervals over seeds. ``over`` names the model against
    which gains are counted.
    """

    def __init__(self, measured: Mapping[str, Measured], over: str, dataset: str, kind: str):
        self.measured, self.over, self.dataset, self.kind = measured, over, dataset, kind

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict:
        table = self._markdown()
        return {"text/markdown": table, "text/plain": table, RESULTS: self._data()}

    def _markdown(self) -> str:
        measures = next(iter(self.measured.values())).measures
        rows = [f"| map | model | {' | '.join(measures)} |", "| --- " * (2 + len(measures)) + "|"]
        for name, measured in self.measured.items():
            for label in measured.values:
                cells = []
                for measure in measures:
                    mean = measured.mean(label, measure)
                    cells.append(f"{mean.mean:.3f} ({mean.low:.3f} to {mean.high:.3f})")
                rows.append(f"| {name} | {label} | {' | '.join(cells)} |")
        return "\n".join(rows)

    def _data(self) -> dict:
        return {
            "dataset": self.dataset,
            "kind": self.kind,
            "over": self.over,
            "measured": {
                name: {
                    label: {m: asdict(measured.mean(label, m)) for m in measured.measures}
                    for label in measured.values
                }
                for name, measured in self.measured.items()
            },
        }


def likeness_answer(
    likeness: Mapping[str, Measured], students: Sequence[str], alone: str
) -> Markdown:
    """Does distillation bring explanations along? A sentence for each student, made from counts.

    A gain over the student without a teacher counts where its intervals over seeds and over images
    both leave out 0.
    """
    lines = [f"{_verdict(likeness, label, alone)}" for label in students]
    lines.append(_control(likeness, alone))
    return Markdown("\n\n".join(lines))


def _verdict(likeness: Mapping[str, Measured], label: str, alone: str) -> str:
    signs = [m.clear_gain(label, alone, name) for m in likeness.values() for name in m.measures]
    more, less, total = signs.count(1), signs.count(-1), len(signs)
    if more == total:
        answer = "Yes, by every measure"
    elif more and less:
        answer = "The measures disagree"
    elif more:
        answer = "Partly"
    elif less:
        answer = "No, rather less"
    else:
        answer = "No clear sign"
    kinds = ", ".join(likeness)
    return (
        f"**{answer}**: the maps of *{label}* are clearly more like the teacher's than those of "
        f"*{alone}* in {more or 'none'} of {total} comparisons ({kinds}, by all measures), clearly "
        f"less in {less or 'none'}."
    )


def _control(likeness: Mapping[str, Measured], alone: str) -> str:
    blind = [
        f"{measure} of {name}"
        for name, m in likeness.items()
        for measure in m.measures
        if m.clear_gain(alone, RANDOM, measure) != 1
    ]
    total = sum(len(m.measures) for m in likeness.values())
    near = [
        f"{measure}, {name}: {m.mean(RANDOM, measure).mean:.3f} "
        f"against {m.mean(alone, measure).mean:.3f}"
        for name, m in likeness.items()
        for measure in m.measures
        if m.mean(RANDOM, measure).mean >= NEAR * m.mean(alone, measure).mean
    ]
    if blind:
        text = (
            f"**The control fails** for {len(blind)} of {total}: {', '.join(blind)}. There a "
            "network with random weights is not clearly less like the teacher than a trained "
            "student, so such a number says little about what a model has learnt to look at."
        )
    else:
        text = (
            f"**The control holds**: with random weights all {total} likenesses are clearly below "
            "those of a student trained without a teacher."
        )
    if near:
        text += (
            f" Little is learnt from those where random weights reach {percent(NEAR, 0)} of the "
            f"trained student's likeness ({'; '.join(near)}): there the image makes the maps alike."
        )
    return text


def _overlay(ax: Axes, image: Tensor, own: Tensor) -> None:
    show_image(ax, image, faint=True)
    strength = normalised(own[None])[0].numpy()
    colours = np.where(strength[..., None] > 0, to_rgb(FOR), to_rgb(AGAINST))
    ax.imshow(np.concatenate([colours, np.abs(strength)[..., None]], 2), interpolation="nearest")
