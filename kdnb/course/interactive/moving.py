"""The pictures that follow a slider or a training, drawn fast; each has its words in `plots`."""

from collections.abc import Mapping, Sequence
from math import log10

import torch
import torch.nn.functional as F
from torch import Tensor

from kdnb.course.figures.drawings import (
    GREY,
    HALVES,
    PALETTE,
    Drawing,
    Frame,
    key,
    picture,
    room_below,
    text,
)
from kdnb.course.figures.leading import MATRIX, MOST, Leading, leading
from kdnb.course.figures.lettering import shortened
from kdnb.evaluation.metrics import Calibration, entropy_bits
from kdnb.losses import distillation_loss
from kdnb.training.history import History

STEP = 44  # pixels between bars
TOP, TALL = 42, 160  # where charts begin, and their height, in pixels
FOOT = TOP + TALL + 26
EDGE = 58  # room for the names of ticks


def softened(
    source: str,
    logits: Tensor,
    class_names: Sequence[str],
    temperature: float,
    label: int,
    words: str,
) -> Drawing:
    """One image, given as an HTML image's source, and softmax(logits / T); ``logits`` is (C,)."""
    p = F.softmax(logits.double() / temperature, 0)
    top, named, few = int(p.argmax()), shortened(class_names), leading(logits, [label])
    names, shown = few.names(named), few.of(p).tolist()
    frame = _bar_frame(180, len(shown), 0, 1)
    title = (
        f"T = {temperature:.3g}: entropy {entropy_bits(p).item():.2f} bits, "
        f"{1 - p[top].item():.1%} outside {named[top]} (dotted: T = 1)"
    )
    parts = [
        text(80, TOP - 10, f"label: {named[label]}"),
        picture(source, 10, TOP, 140),
        *frame.grid(HALVES, title),
        *frame.bars(shown, lambda i: _colour(few, i, top)),
        *frame.bars(few.of(F.softmax(logits.double(), 0)).tolist(), lambda i: "", outline=True),
        *frame.below(list(enumerate(names))),
    ]
    return _drawing(frame, parts, words, names, least=600)


def subclass_bars(
    source: str,
    subclass_logits: Tensor,
    class_names: Sequence[str],
    label: int,
    temperature: float,
    words: str,
) -> Drawing:
    """One image, its probabilities by class and by subclass at T; ``subclass_logits`` (C·s,)."""
    size = len(subclass_logits) // len(class_names)
    p = F.softmax(subclass_logits.double() / temperature, 0)
    by_class, named = p.view(-1, size).sum(1), shortened(class_names)
    few = leading(by_class, [label], most=max(3, min(MOST, 2 * MATRIX // size)))
    names, shown, every = few.names(named), few.of(by_class).tolist(), few.subclasses(size)
    left = _bar_frame(190, max(len(shown), 3), 0, 1)
    right = _bar_frame(left.x + left.width + EDGE, len(every), 0, 1)
    parts = [
        text(80, TOP - 10, f"class {named[label]}"),
        picture(source, 10, TOP, 140),
        *left.grid(HALVES, f"T = {temperature:.3g}: {entropy_bits(by_class).item():.2f} bits"),
        *left.bars(shown, lambda i: _by_class(few, i)),
        *left.below(list(enumerate(names))),
        *right.grid(HALVES, f"invented subclasses: {entropy_bits(p).item():.2f} bits"),
        *right.bars(p[every].tolist(), lambda i: _by_class(few, i // size)),
        *right.below([(i, str(k % size + 1)) for i, k in enumerate(every)]),
    ]
    return _drawing(right, parts, words, names)


def reliability(calibrations: Mapping[str, Calibration], words: str) -> Drawing:
    """Accuracy against confidence; larger marks hold more images."""
    frame = Frame(EDGE, TOP, 300, 260, 0, 1.03, 0, 1.03)
    parts = frame.grid(HALVES, "accuracy, by confidence")
    parts += frame.below(HALVES)
    parts += frame.curve([(0, 0), (1, 1)], GREY, "2 3")
    beside = frame.x + frame.width + 16
    for row, ((label, c), color) in enumerate(zip(calibrations.items(), PALETTE, strict=False)):
        points = list(zip(c.confidence.tolist(), c.accuracy.tolist(), strict=True))
        parts += frame.curve(points, color)
        for (x, y), share in zip(points, c.share.tolist(), strict=True):
            parts.append(frame.mark(x, y, (4 + 60 * share) ** 0.5 + 1, color, color))
        parts += key(
            beside, TOP + 12 + 20 * row, [(color, f"{label}: error {100 * c.error:.2f} %")]
        )
    parts.append(text(beside, TOP + 52, "dotted: perfectly calibrated", "start"))
    return Drawing(600, TOP + 260 + 26, parts, words)


def pushes(
    student_logits: Tensor,
    teacher_logits: Tensor,
    label: int,
    class_names: Sequence[str],
    temperature: float,
    push: "Pushes",
) -> Drawing:
    """Probabilities of both at T, and minus the gradient of the loss; logits are (C,)."""
    teacher = F.softmax(teacher_logits.double() / temperature, 0)
    student = F.softmax(student_logits.double() / temperature, 0)
    few = push.leading(label)
    every = torch.cat([few.of(each) for each in (push.soft, push.hard, push.total)])
    low, high = min(every.min().item(), 0), max(every.max().item(), 0)
    names = few.names(shortened(class_names))
    foot, step = FOOT + room_below(names), 30
    left = Frame(EDGE, TOP, step * len(names), TALL, -0.5, len(names) - 0.5, 0, 1)
    right = Frame(
        left.x + left.width + EDGE, TOP, left.width, TALL, -0.5, left.right, low, high
    )  # fmt: skip
    places = list(enumerate(names))
    ticks = [(value, f"{value:.2g}") for value in (low, 0.0, high)]
    parts = [
        *left.grid(HALVES, f"probability at T = {temperature:.3g}"),
        *left.bars(few.of(teacher).tolist(), lambda i: PALETTE[0], (0, 2)),
        *left.bars(few.of(student).tolist(), lambda i: PALETTE[1], (1, 2)),
        *left.below(places),
        *key(left.x, foot + 14, [(PALETTE[0], "teacher"), (PALETTE[1], "student")]),
        *right.grid(ticks, f"push on the logit; loss {push.loss:.3f} nats"),
        *right.bars(few.of(push.soft).tolist(), lambda i: PALETTE[0], (0, 2)),
        *right.bars(few.of(push.hard).tolist(), lambda i: PALETTE[2], (1, 2)),
        *(right.mark(i, v, 3, "black", "black") for i, v in enumerate(few.of(push.total).tolist())),
        *right.below(places),
        *key(
            right.x, foot + 14,
            [(PALETTE[0], "soft part"), (PALETTE[2], "hard part"), ("black", "together")],
        ),
    ]  # fmt: skip
    words = push.words(label, class_names, temperature)
    return Drawing(round(right.x + right.width + 20), foot + 24, parts, words)


class Pushes:
    """How the two parts of the loss push each student logit, (C,) each, and the loss in nats."""

    def __init__(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        label: int,
        temperature: float,
        soft_weight: float,
    ):
        student = student_logits.double()[None].requires_grad_()
        loss = distillation_loss(
            student, torch.tensor([label]), teacher_logits.double()[None], temperature, soft_weight
        )
        (soft,) = torch.autograd.grad(loss.soft, student, retain_graph=True)
        (hard,) = torch.autograd.grad(loss.hard, student)
        self.soft, self.hard = -soft_weight * soft[0], -(1 - soft_weight) * hard[0]
        self.total = self.soft + self.hard
        self.soft_weight = soft_weight
        self.loss, self.soft_loss, self.hard_loss = (
            part.item() for part in (loss.total, loss.soft, loss.hard)
        )

    def leading(self, label: int) -> Leading:
        """The classes that a chart shows: the most pushed ones, and the label's."""
        return leading(self.total.abs(), [label])

    def words(self, label: int, class_names: Sequence[str], temperature: float) -> str:
        """The text alternative of their picture."""
        up, down = int(self.total.argmax()), int(self.total.argmin())
        return (
            f"Probabilities and pushes at T = {temperature:.3g}, soft_weight "
            f"{self.soft_weight:.2f}, label {class_names[label]}: loss {self.loss:.3f} nats; "
            f"logit {class_names[up]} is pushed up by {self.total[up].item():.3f}, "
            f"logit {class_names[down]} down by {-self.total[down].item():.3f}."
        )


def training(label: str, history: History, epochs: int, words: str) -> Drawing:
    """Training and validation loss, and validation accuracy, by epoch, of ``epochs`` to come."""
    done = history.epochs
    losses = [e.train_loss for e in done] + [e.val_loss for e in done]
    logs = [log10(max(loss, 1e-9)) for loss in losses] or [-1.0, 0.0]
    accuracies = [100 * e.val_accuracy for e in done] or [0.0, 100.0]
    left = _epoch_frame(EDGE, epochs, min(logs), max(logs))
    right = _epoch_frame(left.x + left.width + EDGE, epochs, min(accuracies), max(accuracies))
    powers = (left.bottom, (left.bottom + left.top) / 2, left.top)
    levels = (right.bottom, (right.bottom + right.top) / 2, right.top)
    parts = [
        *left.grid([(v, f"{10**v:.2g}") for v in powers], "loss (nats)"),
        *_by_epoch(left, logs[: len(done)], PALETTE[0]),
        *_by_epoch(left, logs[len(done) :], PALETTE[1]) * bool(done),
        *left.below([(1, "1"), (epochs, str(epochs))]),
        *key(left.x, FOOT + 14, [(PALETTE[0], "training"), (PALETTE[1], "validation")]),
        *right.grid([(v, f"{v:.1f}") for v in levels], "validation accuracy (%)"),
        *right.below([(1, "1"), (epochs, str(epochs))]),
        text(right.x, FOOT + 14, f"{label}, by epoch; ring: the epoch that is kept", "start"),
    ]
    if done:
        parts += _by_epoch(right, accuracies, PALETTE[1])
        parts.append(right.mark(history.best + 1, accuracies[history.best], 7, PALETTE[3]))
    return Drawing(round(right.x + right.width + 20), FOOT + 24, parts, words)


def _by_epoch(frame: Frame, values: Sequence[float], color: str) -> list[str]:
    points = list(enumerate(values, start=1))
    return [*frame.curve(points, color), *(frame.mark(x, y, 2, color, color) for x, y in points)]


def _epoch_frame(x: float, epochs: int, low: float, high: float) -> Frame:
    room = 0.05 * (high - low) or 0.05
    return Frame(x, TOP, 280, TALL, 0.5, epochs + 0.5, low - room, high + room)


def _bar_frame(x: float, bars: int, low: float, high: float) -> Frame:
    return Frame(x + 20, TOP, STEP * bars, TALL, -0.5, bars - 0.5, low, high)


def _drawing(
    last: Frame, parts: Sequence[str], words: str, names: Sequence[str], least: int = 0
) -> Drawing:
    width = max(round(last.x + last.width + 20), least)
    return Drawing(width, FOOT + room_below(names), parts, words)


def _colour(few: Leading, bar: int, top: int) -> str:
    """Of a bar: the likeliest class's stands out, and that of the others is grey."""
    if bar == len(few.rows):
        return GREY
    return PALETTE[0] if few.rows[bar] == top else PALETTE[1]


def _by_class(few: Leading, bar: int) -> str:
    return GREY if bar == len(few.rows) else PALETTE[few.rows[bar] % len(PALETTE)]
