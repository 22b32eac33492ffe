"""The subclass head: one softmax over all subclasses, and one logit for each class."""

from collections.abc import Sequence

from torch import Tensor

from kdnb.course.diagrams.diagram import INKS, Diagram, arrow, box, line, words
from kdnb.course.labels import shortened
from kdnb.losses import class_logits

WIDTH, SIZE, GAP = 420, 13, 16
DOTS = 64  # the width of classes that are left out
HIGH = 36  # of the bar of the largest probability


def subclass_head(logits: Tensor, class_names: Sequence[str], temperature: float) -> Diagram:
    """The two uses of one image's subclass logits (C·s,), which lie class after class.

    Of more than three classes the first two and the last are shown, of many subclasses the first
    and the last.
    """
    classes, logits = len(class_names), logits.double()
    by_class = class_logits(logits[None], classes)[0]
    size, soft, p = len(logits) // classes, (logits / temperature).softmax(0), by_class.softmax(0)
    groups = list(range(classes)) if classes <= 3 else [0, 1, None, classes - 1]
    cells = list(range(size)) if size <= (5 if classes == 2 else 3) else [0, None, size - 1]
    parts = [
        *_term(1, "soft term", f"one softmax over all {len(logits)} logits, T = {temperature:g}"),
        *_term(292, "hard term", f"cross-entropy of {classes} class probabilities"),
    ]
    free = WIDTH - GAP * (len(groups) - 1) - DOTS * groups.count(None)
    room, x = free / (len(groups) - groups.count(None)), 0.0
    names = shortened(class_names, round(room / (0.8 * SIZE)))  # bold capitals are wide
    for c in groups:
        if c is None:
            parts += [words(x + DOTS / 2, y, f"{classes - 3} more", size=SIZE) for y in (139, 242)]
            x += DOTS + GAP
            continue
        ink, middle = INKS[c % len(INKS)], x + room / 2
        for at, k in enumerate(cells):
            center = x + (at + 0.5) * room / len(cells)
            if k is not None:
                tall = (HIGH * soft[c * size + k] / soft.max()).item()
                parts.append(box(center - 7, 116 - tall, 14, tall, ink, fill=0.8, rounded=0))
            shown = "…" if k is None else f"{logits[c * size + k]:.1f}"
            parts.append(words(center, 139, shown, size=SIZE))
        parts += [
            arrow([(middle, 76), (middle, 48)], ink),
            box(x + 1, 120, room - 2, 28, ink),
            line([(middle, 148), (middle, 162)], ink),
            words(middle, 177, "logsumexp", size=SIZE),
            arrow([(middle, 184), (middle, 206)], ink),
            box(x + 1, 206, room - 2, 62, ink, fill=0.15),
            words(middle, 223, names[c], size=SIZE, bold=True),
            words(middle, 242, f"z = {by_class[c]:.2f}", size=SIZE),
            words(middle, 260, f"P = {p[c]:.3f}", size=SIZE),
            arrow([(middle, 268), (middle, 292)], ink),
        ]
        x += room + GAP
    said = "; ".join(
        f"class {class_names[c]}: z = {by_class[c]:.2f}, P = {p[c]:.3f}"
        for c in groups
        if c is not None
    )
    alt = (
        f"A head of {classes} classes with {size} subclasses each. The soft term compares one "
        f"softmax over all {len(logits)} logits at T = {temperature:g}. The logsumexp of the "
        f"{size} logits of a class is the class logit z, and the softmax of the {classes} class "
        f"logits is the class probability P of the hard term. Here {said}."
    )
    return Diagram(WIDTH, 340, parts, alt)


def _term(y: float, name: str, about: str) -> list[str]:
    """One term of the loss."""
    return [
        box(1, y, WIDTH - 2, 46),
        words(WIDTH / 2, y + 19, name, size=SIZE, bold=True),
        words(WIDTH / 2, y + 37, about, size=SIZE),
    ]
