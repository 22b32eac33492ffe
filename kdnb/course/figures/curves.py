"""Curves: training of models, and their calibration."""

from collections.abc import Mapping, Sequence

from kdnb.course.figures.picture import GREY, Picture, looks, panels, styled
from kdnb.evaluation.metrics import Calibration
from kdnb.evaluation.statistics import Interval
from kdnb.training.history import History


@styled
def training_curves(histories: Mapping[str, History], epochs: int, title: str = "") -> Picture:
    """Training and validation loss on the left, validation accuracy on the right, by epoch."""
    figure, (left, right) = panels(7.6, 3.1, 2)
    for (label, history), color, marker in looks(histories.items()):
        x, done = range(1, len(history.epochs) + 1), history.validated
        style = {"color": color, "marker": marker, "markersize": 4, "markevery": 0.1}
        left.plot(x, [e.train_loss for e in history.epochs], **style, label=f"{label}: training")
        left.plot(
            [*done], [e.val_loss for e in done.values()], **style, ls="--",
            label=f"{label}: validation",
        )  # fmt: skip
        right.plot([*done], [100 * e.val_accuracy for e in done.values()], **style)
    left.set(xlabel="epoch", ylabel="loss (nats)", yscale="log", xlim=(0.5, epochs + 0.5))
    right.set(xlabel="epoch", ylabel="validation accuracy (%)", xlim=(0.5, epochs + 0.5))
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    figure.suptitle(title, fontsize=10)
    return Picture(figure, training_words(histories, epochs))


def training_words(histories: Mapping[str, History], epochs: int) -> str:
    """The text alternative of `training_curves`."""
    alt = [
        f"{label}: validation accuracy {100 * epoch.val_accuracy:.2f} % after epoch {number}"
        for label, history in histories.items()
        for number, epoch in list(history.validated.items())[-1:]
    ]
    return f"Training curves over {epochs} epochs. {'; '.join(alt)}."


@styled
def learning_curves(
    curves: Mapping[str, Sequence[Interval]],
    epochs: Sequence[int],
    quantity: str,
    epoch: int,
    digits: int,
) -> Picture:
    """Mean over seeds with its interval after ``epochs``, by method; words give one ``epoch``."""
    figure, ax = panels(6.8, 3.1)
    means, alt, drawn = [], [], {}
    for (label, values), color, marker in looks(curves.items()):
        style = {"color": color, "marker": marker, "ms": 4, "markevery": 0.1}
        (middle,) = ax.plot(epochs, [m.mean for m in values], **style)
        ends = [m.low for m in values], [m.high for m in values]
        drawn[label] = (ax.fill_between(epochs, *ends, color=color, alpha=0.2, lw=0), middle)
        now = values[epochs.index(epoch)]
        means.append(f"{label} {now.mean:.{digits}f}")
        alt.append(f"{means[-1]} ({now.low:.{digits}f} to {now.high:.{digits}f})")
    ax.axvline(epoch, color=GREY, ls=":", lw=1)
    ax.set(xlabel="epoch", ylabel=quantity)
    ax.set_title(f"after epoch {epoch}: {'; '.join(means)}", fontsize=8)
    title = "mean, 95 % interval over seeds"
    ax.legend(drawn.values(), drawn, fontsize=8, title=title, title_fontsize=8, alignment="left")
    return Picture(
        figure,
        f"{quantity} after epoch {epoch} of {epochs[-1]}, mean over seeds: {'; '.join(alt)}.",
    )


@styled
def reliability(calibrations: Mapping[str, Calibration], note: str = "") -> Picture:
    """Accuracy against confidence; a calibrated model lies on the diagonal."""
    figure, ax = panels(4.4, 3.6)
    ax.plot([0, 1], [0, 1], color=GREY, ls=":", label="perfectly calibrated")
    for (label, c), color, marker in looks(calibrations.items()):
        confidence, accuracy = c.confidence.numpy(), c.accuracy.numpy()
        ax.plot(confidence, accuracy, color=color, lw=1)
        ax.scatter(
            confidence, accuracy, s=15 + 250 * c.share.numpy(), color=color, marker=marker,
            alpha=0.75, label=f"{label}: calibration error {100 * c.error:.2f} %",
        )  # fmt: skip
    ax.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.03), ylim=(0, 1.03))
    for share in (0.05, 0.5):
        ax.scatter([], [], s=15 + 250 * share, color=GREY, label=f"{share:.0%} of the images")
    ax.legend(fontsize=8)
    ax.set_title(note, fontsize=8)
    return Picture(figure, reliability_words(calibrations) + (f" Note: {note}." if note else ""))


def reliability_words(calibrations: Mapping[str, Calibration]) -> str:
    """The text alternative of `reliability`."""
    alt = "; ".join(
        f"{label} has an expected calibration error of {100 * c.error:.2f} %"
        for label, c in calibrations.items()
    )
    return f"Reliability diagram, larger marks hold more images: {alt}."
