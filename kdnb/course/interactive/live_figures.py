"""A diagram that follows a training: drawn in a millisecond, where matplotlib takes hundreds."""

from kdnb.course.diagrams.axes import SMALL, Axis, dot
from kdnb.course.diagrams.diagram import BLUE, ORANGE, Diagram, line, words
from kdnb.course.figures.curves import training_words
from kdnb.course.labels import shortened
from kdnb.training.history import History

TOP, BOTTOM, LEFT, WIDE = 66, 226, 58, 280  # CSS pixels of a chart


def training(label: str, history: History, epochs: int) -> Diagram:
    """Training and validation loss, and validation accuracy, by epoch, out of ``epochs``."""
    train = {n: max(e.train_loss, 1e-9) for n, e in enumerate(history.epochs, 1)}
    val = {n: max(e.val_loss, 1e-9) for n, e in history.validated.items()}
    accuracies = {n: 100 * e.val_accuracy for n, e in history.validated.items()}
    losses = Axis.over([*train.values(), *val.values()] or [0.1, 1], BOTTOM, TOP, log=True)
    percent = Axis.over([*accuracies.values()] or [0, 100], BOTTOM, TOP)
    (name,) = shortened([label], 80)
    parts = [
        words(0, 14, name, "start", bold=True),
        dot(8, 32, 4, BLUE), words(18, 36, "training", "start", size=SMALL),
        dot(88, 32, 4, ORANGE, filled=False), words(98, 36, "validation", "start", size=SMALL),
    ]  # fmt: skip
    for start, up, unit, curves in (
        (LEFT, losses, "loss (nats)", [(BLUE, train), (ORANGE, val)]),
        (2 * LEFT + WIDE, percent, "validation accuracy (%)", [(ORANGE, accuracies)]),
    ):
        across = Axis(0.5, epochs + 0.5, start, start + WIDE)
        parts += across.below(BOTTOM, TOP, "epoch", sorted({1, epochs}))
        parts += up.beside(across.start, across.end, unit)
        for ink, values in curves:
            points = [(across.at(n), up.at(value)) for n, value in values.items()]
            parts.append(line(points, ink))
            parts += [dot(x, y, 2, ink, filled=ink == BLUE) for x, y in points]
    width = 2 * (LEFT + WIDE) + 12
    return Diagram(width, BOTTOM + 38, parts, training_words({label: history}, epochs))
