"""The probabilities of three classes on a triangle, and the path of an image as T grows."""

from collections.abc import Sequence
from math import sqrt

import torch
from torch import Tensor

from kdnb.course.diagrams.diagram import INKS, Diagram, Steps, box, line, picture, step, words
from kdnb.course.labels import shortened

WIDTH, SIDE, TOP = 400, 330, 40
BOTTOM = TOP + SIDE * sqrt(3) / 2
# Pixels (x, y) of the certain predictions.
CORNERS = [(WIDTH / 2, TOP), ((WIDTH - SIDE) / 2, BOTTOM), ((WIDTH + SIDE) / 2, BOTTOM)]
LOWEST, HIGHEST = -2, 6  # log2 of the temperatures


def three_classes(logits: Tensor, labels: Tensor) -> tuple[list[int], list[int]]:
    """Three classes that share their images' probability, and the row of an image for each.

    Logits are (N, C) with C ≥ 3, labels (N,). Of the triples that are most often the top three
    classes, the one whose classes have images with a probability of about 90 % for their label,
    and 99 % for the triple.
    """
    probabilities = logits.softmax(1)
    triples, counts = logits.topk(3).indices.sort(1).values.unique(dim=0, return_counts=True)
    found = []
    for classes in triples[counts.topk(min(30, len(counts))).indices]:
        among = probabilities[:, classes].sum(1) > 0.99
        # How far from 90 %; 1 for an image that does not fit.
        far = [
            (probabilities[:, c] - 0.9).abs().where(among & (labels == c), 1.0).min(0)
            for c in classes
        ]
        found.append((sum(each.values.item() for each in far), classes, far))
    _, classes, far = min(found, key=lambda one: one[0])
    return classes.tolist(), [each.indices.item() for each in far]


def simplex(
    logits: Tensor, class_names: Sequence[str], temperature: float, images: Tensor
) -> Diagram:
    """What T does to the softmax over three logits (N, 3) of up to three images.

    ``images`` are (N, 1 or 3, H, W) uint8. A ring marks T = 1 and a square the ``temperature``.
    The steps go through the temperatures from 0.25 to 64.
    """
    said, (top, *below) = [], shortened(class_names, 16)
    left, right = (4 * len(name) for name in below)  # half of their widths
    parts = [
        line([*CORNERS, CORNERS[0]], width=1),
        words(WIDTH / 2, TOP - 10, top, bold=True),
        words(max(2, CORNERS[1][0] - left), BOTTOM + 20, below[0], "start", bold=True),
        words(min(WIDTH - 2, CORNERS[2][0] + right), BOTTOM + 20, below[1], "end", bold=True),
    ]
    path = [_points(logits, t) for t in _temperatures(16)]
    for i, (ink, image) in enumerate(zip(INKS, images, strict=False)):
        left, top = 4 + 132 * i, BOTTOM + 36
        ring, square = (_points(logits, t)[i] for t in (1, temperature))
        parts += [
            line([points[i] for points in path], ink, width=2),
            _circle(*ring, 8, ink, fill=0),
            _square(*square, ink),
            picture(left, top, 44, image),
            _circle(left + 62, top + 11, 8, ink, fill=0),
            _square(left + 62, top + 34, ink),
        ]
        for t, y in ((1, 16), (temperature, 39)):
            p = (logits[i].double() / t).softmax(0)
            parts.append(words(left + 78, top + y, f"{p.max():.3f}", "start"))
            listed = (f"{name} {v:.3f}" for name, v in zip(class_names, p.tolist(), strict=True))
            said.append(f"Image {i + 1} at T = {t:g}: {', '.join(listed)}.")
    y = BOTTOM + 106
    parts += [
        _circle(12, y - 5, 8, "currentColor", fill=0),
        words(26, y, "T = 1", "start"),
        _square(86, y - 5, "currentColor"),
        words(100, y, f"T = {temperature:g}", "start"),
        words(172, y, "largest probability", "start"),
    ]
    shown = _temperatures(2)
    parts += [
        step([_circle(*at, 5, ink, fill=1) for at, ink in zip(points, INKS, strict=False)])
        for points in (_points(logits, t) for t in shown)
    ]
    alt = (
        f"The probabilities of {class_names[0]}, {class_names[1]} and {class_names[2]} as points "
        "of a triangle. A corner is a certain prediction, the centre has 1/3 for each class. As T "
        f"grows from {shown[0]:g} to {shown[-1]:g}, each image moves from near the corner of its "
        f"most probable class to the centre. {' '.join(said)}"
    )
    steps = Steps(
        "temperature", [f"T = {t:.3g}" for t in shown], f"T = {shown[0]:g} to {shown[-1]:g}"
    )
    return Diagram(WIDTH, round(y) + 10, parts, alt, steps, of_data=True)


def _temperatures(an_octave: int) -> list[float]:
    return [2 ** (k / an_octave) for k in range(LOWEST * an_octave, HIGHEST * an_octave + 1)]


def _points(logits: Tensor, temperature: float) -> list[tuple[float, float]]:
    """The N points of softmax(z / T): the mean of the corners with the probabilities as weights."""
    corners = torch.tensor(CORNERS, dtype=torch.float64)
    points = (logits.double() / temperature).softmax(1) @ corners
    return [(x, y) for x, y in points.tolist()]


def _circle(x: float, y: float, radius: float, ink: str, fill: float) -> str:
    return (
        f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{radius:g}" fill="{ink}" fill-opacity="{fill:g}" '
        f'stroke="{ink}" stroke-width="2"/>'
    )


def _square(x: float, y: float, ink: str) -> str:
    """The mark of the task's temperature."""
    return box(x - 7, y - 7, 14, 14, ink, rounded=0)
