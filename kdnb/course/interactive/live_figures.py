"""Fast drawings of `kdnb.course.figures` that follow a slider or a training."""

from collections.abc import Callable, Mapping, Sequence
from math import log10

from torch import Tensor

from kdnb.course.figures.classes import Pushes, SubclassProbabilities, softened_words, softmax_at
from kdnb.course.figures.curves import reliability_words, training_words
from kdnb.course.figures.svg import GREY, HALVES, PALETTE, Drawing, Frame, key, room_below, text
from kdnb.course.figures.top_classes import TopClasses, top_classes
from kdnb.course.labels import shortened
from kdnb.evaluation.metrics import Calibration, entropy_bits
from kdnb.training.history import History

STEP = 44  # pixels between bars
TOP, TALL = 42, 160  # where charts begin, and their height, in pixels
FOOT = TOP + TALL + 26
EDGE = 58  # room for the names of ticks


def softened(
    source: str, logits: Tensor, class_names: Sequence[str], label: int, temperature: float
) -> Drawing:
    """One image, given as an HTML image's source, and softmax(logits / T); ``logits`` is (C,)."""
    p, plain = softmax_at(logits, temperature), softmax_at(logits, 1)
    top, named, few = int(p.argmax()), shortened(class_names), top_classes(logits, [label])
    names = few.names(named)
    frame = _bar_frame(180, len(names))
    title = (
        f"T = {temperature:.3g}: entropy {entropy_bits(p).item():.2f} bits, "
        f"{1 - p[top].item():.1%} outside {named[top]} (dotted: T = 1)"
    )
    parts = [
        *_image(source, f"label: {named[label]}"),
        *frame.grid(HALVES, title),
        *frame.bars(few.of(p).tolist(), _fill(few, lambda c: PALETTE[c != top])),
        *frame.bars(few.of(plain).tolist(), None),
        *frame.below(list(enumerate(names))),
    ]
    words = softened_words(logits, class_names, [temperature], label)
    return Drawing(max(round(frame.end + 20), 600), FOOT + room_below(names), parts, words)


def subclass_bars(
    source: str, subclass_logits: Tensor, class_names: Sequence[str], label: int,
    temperature: float,
) -> Drawing:  # fmt: skip
    """One image, its probabilities by class and by subclass at T; ``subclass_logits`` (C·s,)."""
    said = SubclassProbabilities(subclass_logits, class_names, label, temperature)
    few, size, named = said.shown, said.size, shortened(class_names)
    names, every = few.names(named), few.subclasses(size)
    left = _bar_frame(190, max(len(names), 3))
    right = _bar_frame(left.end + EDGE, len(every))
    fill = _fill(few, lambda c: PALETTE[c % len(PALETTE)])
    parts = [
        *_image(source, f"class {named[label]}"),
        *left.grid(HALVES, f"T = {temperature:.3g}: entropy {said.bits[0]:.2f} bits"),
        *left.bars(few.of(said.by_class).tolist(), fill),
        *left.below(list(enumerate(names))),
        *right.grid(HALVES, f"invented subclasses: entropy {said.bits[1]:.2f} bits"),
        *right.bars(said.p[every].tolist(), lambda i: fill(i // size)),
        *right.below([(i, str(k % size + 1)) for i, k in enumerate(every)]),
    ]
    return Drawing(round(right.end + 20), FOOT + room_below(names), parts, said.words)


def reliability(calibrations: Mapping[str, Calibration]) -> Drawing:
    """Accuracy against confidence; larger marks hold more images."""
    frame = Frame(EDGE, TOP, 300, 260, 0, 1.03, 0, 1.03)
    parts = frame.grid(HALVES, "accuracy, by confidence")
    parts += frame.below(HALVES)
    parts += frame.curve([(0, 0), (1, 1)], GREY, "2 3")
    beside = frame.end + 16
    for row, ((label, c), color) in enumerate(zip(calibrations.items(), PALETTE, strict=False)):
        points = list(zip(c.confidence.tolist(), c.accuracy.tolist(), strict=True))
        parts += frame.curve(points, color)
        for (x, y), share in zip(points, c.share.tolist(), strict=True):
            parts.append(frame.mark(x, y, (4 + 60 * share) ** 0.5 + 1, color, color))
        error = f"{label}: calibration error {100 * c.error:.2f} %"
        parts += key(beside, TOP + 12 + 20 * row, [(color, error)])
    parts.append(text(beside, TOP + 52, "dotted: perfectly calibrated", "start"))
    return Drawing(600, TOP + 260 + 26, parts, reliability_words(calibrations))


def push_bars(push: Pushes, class_names: Sequence[str]) -> Drawing:
    """Probabilities of both models at T, and the push of each part of the loss on each logit."""
    few = push.shown
    student, teacher, soft, hard, total = (
        few.of(v).tolist() for v in (push.student, push.teacher, push.soft, push.hard, push.total)
    )
    low, high = min(*soft, *hard, *total, 0), max(*soft, *hard, *total, 0)
    names = few.names(shortened(class_names))
    foot = FOOT + room_below(names)
    left = _bar_frame(EDGE - 20, len(names), step=30)
    right = _bar_frame(left.end + EDGE - 20, len(names), low, high, step=30)
    places = list(enumerate(names))
    ticks = [(value, f"{value:.2g}") for value in (low, 0.0, high)]
    parts = [
        *left.grid(HALVES, f"probability at T = {push.temperature:.3g}"),
        *left.bars(teacher, lambda i: PALETTE[0], (0, 2)),
        *left.bars(student, lambda i: PALETTE[1], (1, 2)),
        *left.below(places),
        *key(left.x, foot + 14, [(PALETTE[0], "teacher"), (PALETTE[1], "student")]),
        *right.grid(ticks, f"push on the logit; loss {push.loss:.3f} nats"),
        *right.bars(soft, lambda i: PALETTE[0], (0, 2)),
        *right.bars(hard, lambda i: PALETTE[2], (1, 2)),
        *(right.mark(i, value, 3, "black", "black") for i, value in enumerate(total)),
        *right.below(places),
        *key(
            right.x, foot + 14,
            [(PALETTE[0], "soft part"), (PALETTE[2], "hard part"), ("black", "together")],
        ),
    ]  # fmt: skip
    return Drawing(round(right.end + 20), foot + 24, parts, push.words(class_names))


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


def _bar_frame(x: float, bars: int, low: float = 0, high: float = 1, step: int = STEP) -> Frame:
    return Frame(x + 20, TOP, step * bars, TALL, -0.5, bars - 0.5, low, high)


def _fill(few: TopClasses, color: Callable[[int], str]) -> Callable[[int], str]:
    """The colour of each bar by its class; the bar of the others is grey."""
    return lambda bar: GREY if bar == len(few.rows) else color(few.rows[bar])


def _image(source: str, title: str) -> list[str]:
    """An image, given as the source of an HTML image, without smoothing its pixels."""
    look = 'width="140" height="140" style="image-rendering:pixelated"'
    return [text(80, TOP - 10, title), f'<image href="{source}" x="10" y="{TOP}" {look}/>']
