"""A fast drawing of `kdnb.course.figures` that follows a training."""

from collections.abc import Mapping, Sequence
from math import log10

from kdnb.course.figures.curves import training_words
from kdnb.course.figures.svg import PALETTE, Drawing, Frame, key, text
from kdnb.training.history import History

TOP, TALL = 42, 160  # where charts begin, and their height, in pixels
FOOT = TOP + TALL + 26
EDGE = 58  # room for the names of ticks


def training(label: str, history: History, epochs: int) -> Drawing:
    """Training and validation loss, and validation accuracy, by epoch, out of ``epochs``."""
    train = {n: log10(max(e.train_loss, 1e-9)) for n, e in enumerate(history.epochs, 1)}
    val = {n: log10(max(e.val_loss, 1e-9)) for n, e in history.validated.items()}
    accuracies = {n: 100 * e.val_accuracy for n, e in history.validated.items()}
    left = _epoch_frame(EDGE, epochs, [*train.values(), *val.values()] or [-1.0, 0.0])
    right = _epoch_frame(left.end + EDGE, epochs, [*accuracies.values()] or [0.0, 100.0])
    powers, levels = ((f.bottom, (f.bottom + f.top) / 2, f.top) for f in (left, right))
    ends = [(1, "1"), (epochs, str(epochs))]
    parts = [
        *left.grid([(v, f"{10**v:.2g}") for v in powers], "loss (nats)"),
        *_by_epoch(left, train, PALETTE[0]),
        *_by_epoch(left, val, PALETTE[1]),
        *left.below(ends),
        *key(left.x, FOOT + 14, [(PALETTE[0], "training"), (PALETTE[1], "validation")]),
        *right.grid([(v, f"{v:.1f}") for v in levels], "validation accuracy (%)"),
        *right.below(ends),
        text(right.x, FOOT + 14, f"{label}, by epoch", "start"),
        *_by_epoch(right, accuracies, PALETTE[1]),
    ]
    words = training_words({label: history}, epochs)
    return Drawing(round(right.end + 20), FOOT + 24, parts, words)


def _by_epoch(frame: Frame, values: Mapping[int, float], color: str) -> list[str]:
    points = list(values.items())
    return [*frame.curve(points, color), *(frame.mark(x, y, 2, color, color) for x, y in points)]


def _epoch_frame(x: float, epochs: int, values: Sequence[float]) -> Frame:
    low, high = min(values), max(values)
    room = 0.05 * (high - low) or 0.05
    return Frame(x, TOP, 280, TALL, 0.5, epochs + 0.5, low - room, high + room)
