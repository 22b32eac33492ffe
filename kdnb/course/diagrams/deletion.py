"""The probability of a class as an image loses, or gains, pixels in the order of a map."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from kdnb.course.diagrams.axes import Axis
from kdnb.course.diagrams.diagram import INKS, Diagram, line, words
from kdnb.course.labels import shortened
from kdnb.evaluation.saliency import Saliency
from kdnb.experiment.results import Run
from kdnb.experiment.saliency_study import SaliencyStudy
from kdnb.losses import class_logits
from kdnb.training.predict import evaluating

RANDOM = "random order"
WAYS = ("deletion", "insertion")
WIDTH, LEFT, GAP, HEIGHT = 440, 34, 14, 130  # CSS pixels of the whole and of one panel
# Lines differ by more than colour.
DASHES = ("", "7 3", "2 3", "9 3 2 3")

Curves = Mapping[str, Mapping[str, tuple[Tensor, Tensor]]]


def curves(
    model: nn.Module, images: Tensor, maps: Tensor, *, steps: int, num_classes: int,
    background: float, device: torch.device,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(steps + 1, N) probabilities of the predicted class, for deletion and for insertion.

    These are the curves whose areas `kdnb.evaluation.saliency.deletion_and_insertion` returns.
    """
    pixels = images.to(device, torch.float32) / 255
    empty = torch.full_like(pixels, background)
    rank = maps.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    rank = rank.view_as(maps)[:, None].to(device)
    cuts = [step * rank[0].numel() / steps for step in range(steps + 1)]

    def probabilities(old: Tensor, new: Tensor) -> Tensor:
        shown = (torch.where(rank < cut, new, old) for cut in cuts)
        logits = torch.stack([class_logits(model(one), num_classes) for one in shown])
        return logits.cpu().double().softmax(2)

    with evaluating(model):
        deleted, inserted = probabilities(pixels, empty), probabilities(empty, pixels)
        rows, predicted = range(len(images)), deleted[0].argmax(1)
        return deleted[:, rows, predicted], inserted[:, rows, predicted]


def study_curves(
    study: SaliencyStudy, runs: Mapping[str, Run], kinds: Sequence[Saliency]
) -> Curves:
    """For each run, the curves by each kind of its own maps, and in random order.

    Images and orders are those of the study's deletion and insertion areas.
    """
    found, steps = {}, study.experiment.task.saliency.steps
    for label, run in runs.items():
        orders = {str(kind): study.maps(run, study.predicted(run), kind) for kind in kinds}
        generator = torch.Generator().manual_seed(run.seed)
        orders[RANDOM] = torch.rand(next(iter(orders.values())).shape, generator=generator)
        model = run.model.to(study.options["device"])
        found[label] = {
            order: curves(model, study.images.images, maps, steps=steps, **study.options)
            for order, maps in orders.items()
        }
    return found


def deletion_curves(found: Curves) -> Diagram:
    """Mean curves over the images: a row for each model, deletion beside insertion."""
    orders = list(next(iter(found.values())))
    parts, x, y = [], 0.0, 14
    for order in orders:
        if x + 40 + 7 * len(order) > WIDTH:
            x, y = 0.0, y + 20
        parts.append(_curve([(x, y - 4), (x + 26, y - 4)], orders.index(order), order))
        parts.append(words(x + 32, y, order, "start", size=13))
        x += 48 + 7 * len(order)
    wide = (WIDTH - 2 * (LEFT + GAP)) / 2
    for model, name in zip(found.values(), shortened(list(found), 60), strict=True):
        y += 32
        parts.append(words(0, y, name, "start", bold=True))
        for panel, way in enumerate(WAYS):
            start = LEFT + panel * (wide + LEFT + GAP)
            parts += _panel(
                Axis(0, 100, start, start + wide), Axis(0, 1, y + 22 + HEIGHT, y + 22),
                {order: pair[panel].mean(1) for order, pair in model.items()},
                "pixels deleted (%)" if way == "deletion" else "pixels inserted (%)",
            )  # fmt: skip
        y += HEIGHT + 56
    return Diagram(WIDTH, y + 6, parts, deletion_words(found), of_data=True)


def deletion_words(found: Curves) -> str:
    """A sentence for each model with the mean probabilities after about a fifth of the pixels."""
    sentences = []
    for label, model in found.items():
        steps = len(model[RANDOM][0]) - 1
        at = round(0.2 * steps)
        said = [
            f"{100 * at / steps:.0f} % of the pixels {way[:-3]}ed: "
            + ", ".join(f"{pair[panel][at].mean():.2f} ({order})" for order, pair in model.items())
            for panel, way in enumerate(WAYS)
        ]
        sentences.append(
            f"Mean probability of the predicted class, {label}, with {'; with '.join(said)}."
        )
    return "\n\n".join(sentences)


def _panel(across: Axis, up: Axis, means: Mapping[str, Tensor], name: str) -> list[str]:
    parts = up.beside(across.start, across.end, "probability", (0, 0.5, 1))
    parts += across.below(up.start, up.end, name, across.ticks(4))
    for number, (order, mean) in enumerate(means.items()):
        shares = torch.linspace(0, 100, len(mean)).tolist()
        points = [(across.at(x), up.at(p)) for x, p in zip(shares, mean.tolist(), strict=True)]
        parts.append(_curve(points, number, order))
    return parts


def _curve(points: Sequence[tuple[float, float]], number: int, order: str) -> str:
    ink = "currentColor" if order == RANDOM else INKS[number % len(INKS)]
    dash = "4 3" if order == RANDOM else DASHES[number % len(DASHES)]
    made = line(points, ink, width=2)
    return made.replace("/>", f' stroke-dasharray="{dash}"/>') if dash else made
