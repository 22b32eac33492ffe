"""The idea in one picture: cached logits, a student, and the two terms of its loss."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kdnb.course.diagrams.diagram import (
    BLUE,
    GREEN,
    ORANGE,
    Diagram,
    arrow,
    box,
    line,
    picture,
    words,
)
from kdnb.course.figures.top_classes import top_classes
from kdnb.course.labels import shortened
from kdnb.losses import distillation_loss

SIZE = 12  # CSS pixels of the letters
LETTER = 0.62 * SIZE  # the mean width of a letter in a wide font
LEFT, RIGHT, MOST = 282, 412, 10  # of the charts: both ends, and bars with legible names


def idea(
    image: Tensor,
    label: int,
    teacher_logits: Tensor,
    student_logits: Tensor,
    class_names: Sequence[str],
    temperature: float,
    soft_weight: float,
) -> Diagram:
    """How a student is distilled, with the numbers of one image (1 or 3, H, W) uint8.

    Logits are (C,). Of many classes the charts show those with the teacher's largest logits and
    the label. The two charts that a term of the loss compares have one scale.
    """
    teacher, student = teacher_logits.double(), student_logits.double()
    target = torch.tensor(label)
    loss = distillation_loss(student[None], target[None], teacher[None], temperature, soft_weight)
    few = top_classes(teacher_logits, [label], MOST)
    hot = F.one_hot(target, len(teacher)).double()
    taught, soft, hard = (
        (teacher / temperature).softmax(0), (student / temperature).softmax(0), student.softmax(0)
    )  # fmt: skip
    tall = 36 / max(few.of(each).max().item() for each in (taught, soft))
    rows = [(54, tall, taught, ORANGE), (114, tall, soft, BLUE)]
    rows += [(188, 32, hard, BLUE), (224, 32, hot, GREEN)]
    names, room = _under(few.names(class_names), 238)
    parts = [*_networks(image, shortened(class_names)[label], f"{temperature:g}"), *names]
    for base, height, values, ink in rows:
        parts += _bars(few.of(values).tolist(), base, height, ink)
        across = base - (18 if base < 60 else 12)
        parts.append(arrow([(RIGHT + 6, across), (434, across)], ink))
    parts += _losses(loss.soft.item(), loss.hard.item(), loss.total.item(), soft_weight)

    def top(values: Tensor) -> str:
        best = values.topk(min(3, len(values)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return ", ".join(f"{class_names[i]} {v:.3f}" for i, v in pairs)

    alt = (
        f"Distillation with an image of class {class_names[label]}. The teacher's logits are "
        f"computed once and cached. Softened at T = {temperature:g}, its largest probabilities are "
        f"{top(taught)}; the student's are {top(soft)}, and at T = 1 {top(hard)}. The soft term, "
        f"T² · KL(teacher ‖ student), is {loss.soft:.3f} and has the weight {soft_weight:g}. The "
        "hard term, the student's cross-entropy with the label at T = 1, is "
        f"{loss.hard:.3f} and has the weight {1 - soft_weight:g}. The loss is {loss.total:.3f}. "
        "Its gradients flow only to the student."
    )
    return Diagram(640, 244 + room, parts, alt, of_data=True)


def _networks(image: Tensor, name: str, temperature: str) -> list[str]:
    """The way of an image through both networks, and of its label, to the charts."""
    middle = (LEFT + RIGHT) / 2
    return [
        picture(4, 62, 52, image),
        arrow([(56, 76), (68, 76), (68, 36), (80, 36)]),
        arrow([(56, 100), (80, 100)]),
        arrow([(30, 114), (30, 212), (LEFT - 6, 212)], GREEN),
        words(40, 206, f"label: {name}", "start", size=SIZE),
        box(80, 16, 70, 40, ORANGE, fill=0.15),
        words(115, 33, "teacher", size=SIZE, bold=True),
        words(115, 49, "frozen", size=SIZE),
        box(80, 78, 70, 110, BLUE, fill=0.15),
        words(115, 127, "student", size=SIZE, bold=True),
        words(115, 143, "learns", size=SIZE),
        arrow([(150, 36), (164, 36)], ORANGE),
        box(164, 16, 100, 40, ORANGE, dashed=True),
        words(214, 33, "cached logits", size=SIZE),
        words(214, 49, "computed once", size=SIZE),
        arrow([(264, 36), (LEFT - 4, 36)], ORANGE),
        words(214, 91, "logits", size=SIZE),
        arrow([(150, 96), (LEFT - 4, 96)], BLUE),
        words(214, 165, "logits", size=SIZE),
        arrow([(150, 170), (LEFT - 4, 170)], BLUE),
        words(middle, 12, f"probabilities at T = {temperature}", size=SIZE),
        words(middle, 72, f"probabilities at T = {temperature}", size=SIZE),
        words(middle, 147, "probabilities at T = 1", size=SIZE),
        arrow([(434, 132), (150, 132)], BLUE, dashed=True),
        words(214, 127, "gradients", size=SIZE),
    ]


def _losses(soft: float, hard: float, total: float, weight: float) -> list[str]:
    """Both terms, and their weighted sum between them."""
    return [
        box(434, 14, 202, 86),
        words(535, 38, "soft term", size=SIZE, bold=True),
        words(535, 58, "T² · KL(teacher ‖ student)", size=SIZE),
        words(535, 78, f"= {soft:.3f}", size=SIZE),
        arrow([(535, 100), (535, 118)]),
        words(543, 113, f"× {weight:.4g}", "start", size=SIZE),
        box(434, 118, 202, 28, BLUE, fill=0.15),
        words(535, 136, f"loss = {total:.3f}", size=SIZE, bold=True),
        arrow([(535, 166), (535, 146)]),
        words(543, 161, f"× {1 - weight:.4g}", "start", size=SIZE),
        box(434, 166, 202, 72),
        words(535, 184, "hard term", size=SIZE, bold=True),
        words(535, 204, "cross-entropy with label", size=SIZE),
        words(535, 224, f"= {hard:.3f}", size=SIZE),
    ]


def _bars(values: Sequence[float], base: float, height: float, ink: str) -> list[str]:
    """Probabilities over a base line; 1 has the ``height``."""
    step = (RIGHT - LEFT) / len(values)
    return [
        f'<rect x="{LEFT + (i + 0.1) * step:.1f}" y="{base - height * v:.2f}" '
        f'width="{0.8 * step:.1f}" height="{height * v:.2f}" fill="{ink}"/>'
        for i, v in enumerate(values)
    ] + [line([(LEFT, base), (RIGHT, base)], width=1, opacity=0.5)]


def _under(names: Sequence[str], y: float) -> tuple[list[str], float]:
    """Names under the charts, upright where they fit, and the height that they need below."""
    step = (RIGHT - LEFT) / len(names)
    fit = int(step / LETTER)
    short = shortened(names, max(8, fit))
    middles = [LEFT + (i + 0.5) * step for i in range(len(names))]
    # A Chinese character is as wide as two letters.
    longest = max(sum(1 + (c > "\u2e7f") for c in name) for name in short)
    if longest <= fit:
        return [words(x, y, name, size=SIZE) for x, name in zip(middles, short, strict=True)], 0
    turned = [
        f'<g transform="translate({x + 4:.1f} {y - 8:.1f}) rotate(-90)">'
        f"{words(0, 0, name, 'end', size=SIZE)}</g>"
        for x, name in zip(middles, short, strict=True)
    ]
    return turned, LETTER * longest
