"""How strongly the soft term pulls against the labels, over temperature and weight."""

from collections.abc import Sequence
from math import inf, log2

import torch
from torch import Tensor

from kdnb.course.diagrams.diagram import BLUE, ORANGE, Diagram, box, line, words
from kdnb.losses import distillation_loss

TEMPERATURES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
WEIGHTS = (0.99, 0.9, 0.7, 0.5, 0.3, 0.1)
FULL = 4  # doublings of a ratio at which a colour is strongest
WIDTH, LEFT, TOP, ROW = 440, 52, 62, 34  # CSS pixels


def pulls(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float
) -> tuple[float, float]:
    """The mean length per image of the gradients of both terms, without their weights.

    The gradients are those of `kdnb.losses.distillation_loss` with respect to the student's logits
    (N, C); the soft one contains the factor T².
    """
    z = student.detach().double().clone().requires_grad_()
    loss = distillation_loss(z, labels, teacher.double(), temperature, 0.5)
    gradients = [torch.autograd.grad(part, z, retain_graph=True)[0] for part in loss[1:]]
    soft, hard = (len(z) * gradient.norm(dim=1).mean().item() for gradient in gradients)
    return soft, hard


def ratio(soft: float, hard: float, weight: float) -> float:
    """The soft term's pull over the labels', with weights; infinite without labels."""
    return weight * soft / ((1 - weight) * hard) if weight < 1 and hard else inf


def equal_weight(soft: float, hard: float) -> float:
    """The weight at which both terms pull equally."""
    return hard / (soft + hard)


def gradient_ratio(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, weight: float
) -> Diagram:
    """The ratio over a grid of T and w as a heat map, with a line between the two sides of 1.

    ``student`` and ``teacher`` are (N, C) logits. The setting in use, ``temperature`` and
    ``weight``, has a frame.
    """
    ts = sorted({*TEMPERATURES, temperature})
    ws = sorted({*WEIGHTS, weight}, reverse=True)
    found = {t: pulls(student, teacher, labels, t) for t in ts}
    cell = (WIDTH - LEFT - 8) / len(ts)
    parts = [words(0, 16, "gradient of the soft term ÷ gradient of the labels", "start")]
    parts += _scale(28)
    for row, w in enumerate(ws):
        y = TOP + ROW * row
        parts.append(words(LEFT - 8, y + ROW / 2 + 5, f"{w:g}", "end", size=13))
        for column, t in enumerate(ts):
            value, x = ratio(*found[t], w), LEFT + cell * column
            parts.append(_tint(x, y, cell, value))
            parts.append(words(x + cell / 2, y + ROW / 2 + 5, _number(value), size=13))
    below = TOP + ROW * len(ws)
    for column, t in enumerate(ts):
        parts.append(words(LEFT + cell * (column + 0.5), below + 18, f"{t:g}", size=13))
    parts.append(words(LEFT + cell * len(ts) / 2, below + 38, "temperature T", size=13))
    parts.append(words(0, TOP - 8, "weight w", "start", size=13))
    parts.append(line(_border(found, ws, cell), width=3))
    here = LEFT + cell * ts.index(temperature), TOP + ROW * ws.index(weight)
    parts.append(box(*here, cell, ROW))
    parts.append(box(here[0] + 3, here[1] + 3, cell - 6, ROW - 6, rounded=3))
    at = below + 62
    parts += [line([(LEFT, at - 5), (LEFT + 26, at - 5)], width=3)]
    parts.append(words(LEFT + 34, at, "equal", "start", size=13))
    parts += [box(LEFT + 140, at - 14, 26, 18), box(LEFT + 143, at - 11, 20, 12, rounded=3)]
    parts.append(words(LEFT + 174, at, "the setting of this run", "start", size=13))
    return Diagram(WIDTH, at + 10, parts, gradient_words(found, temperature, weight), of_data=True)


def gradient_words(
    found: dict[float, tuple[float, float]], temperature: float, weight: float
) -> str:
    """A sentence on the setting in use, and on the weights at which both terms are equal."""
    value = ratio(*found[temperature], weight)
    if value == inf:
        here = "the labels have no weight"
    elif value == 0:
        here = "the soft term has no weight"
    elif value >= 1:
        here = f"the soft term pulls {_number(value)} times as strongly as the labels"
    else:
        here = f"the labels pull {_number(1 / value)} times as strongly as the soft term"
    first, last = min(found), max(found)
    equal = [f"w = {equal_weight(*found[t]):.2f} for T = {t:g}" for t in (first, last)]
    return (
        f"At T = {temperature:g} and w = {weight:g}, {here}. Both terms pull equally at "
        f"{equal[0]} and {equal[1]}."
    )


def _number(value: float) -> str:
    """Two digits, or more before the point."""
    return "∞" if value == inf else f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _tint(x: float, y: float, width: float, value: float) -> str:
    strength = min(1.0, abs(log2(value)) / FULL) if 0 < value < inf else 1.0
    ink = BLUE if value > 1 else ORANGE
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{ROW}" fill="{ink}" '
        f'fill-opacity="{0.55 * strength:.2f}" stroke="currentColor" stroke-opacity=".2"/>'
    )


def _scale(y: float) -> list[str]:
    """The colours of ratios, weakest in the middle."""
    ends = [2.0**power for power in range(-FULL, FULL + 1, 2)]
    parts, width = [], 30
    for i, value in enumerate(ends):
        x = WIDTH - 8 - width * (len(ends) - i)
        parts.append(_tint(x, y, width, value).replace(f'height="{ROW}"', 'height="18"'))
        said = f"{value:g}" if value >= 1 else f"1/{1 / value:g}"
        parts.append(words(x + width / 2, y + 14, said, size=12))
    parts.append(words(WIDTH - 16 - width * len(ends), y + 14, "labels stronger", "end", size=12))
    return parts


def _border(
    found: dict[float, tuple[float, float]], ws: Sequence[float], cell: float
) -> list[tuple[float, float]]:
    """The edge between the cells where the soft term is stronger and those where labels are."""
    points = []
    for column, pair in enumerate(found.values()):
        above = sum(ratio(*pair, w) >= 1 for w in ws)
        x, y = LEFT + cell * column, TOP + ROW * above
        points += [(x, y), (x + cell, y)]
    return points
