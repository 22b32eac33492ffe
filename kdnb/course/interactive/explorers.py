"""Ideas to explore by hand: softened probabilities, the loss, subclasses, calibration, learning."""

from collections.abc import Mapping, Sequence

from scipy.special import stdtrit
from torch import Tensor

from kdnb.course.figures.classes import Pushes, push_bars, softened, subclass_bars
from kdnb.course.figures.curves import learning_curves, reliability
from kdnb.course.figures.picture import png_url
from kdnb.course.interactive.widgets import Live, explorer, packed, temperatures
from kdnb.evaluation.metrics import calibration
from kdnb.evaluation.statistics import mean_interval
from kdnb.training.history import Epoch, History

MOST_IN_PAGE = 500_000  # logits in a page, about three million bytes


def temperature_explorer(
    images: Tensor, labels: Tensor, logits: Tensor, class_names: Sequence[str], temperature: float
) -> Live:
    """The teacher's softened probabilities for some images, under a temperature slider.

    ``images`` (N, 1 or 3, H, W) uint8, ``labels`` (N,), ``logits`` (N, C).
    """
    captions = [f"a {class_names[label]}" for label in labels.tolist()]
    rest = softened(images[0], logits[0], class_names, [1, temperature, 16], labels[0].item())
    data = _of_images(images, logits, class_names, captions, temperature)
    return explorer("temperature", data, rest, "Softened probabilities by temperature")


def subclass_explorer(
    images: Tensor, labels: Tensor, subclass_logits: Tensor, class_names: Sequence[str],
    captions: Sequence[str], temperature: float,
) -> Live:  # fmt: skip
    """Class and subclass probabilities of a teacher for some images, under a temperature slider.

    ``images`` (N, 1 or 3, H, W) uint8, ``labels`` (N,), ``subclass_logits`` (N, C·s); ``captions``
    name the images.
    """
    rest = subclass_bars(images[0], subclass_logits[0], class_names, labels[0].item(), temperature)
    data = _of_images(images, subclass_logits, class_names, captions, temperature)
    return explorer("subclasses", data, rest, "Classes and subclasses by temperature")


def _of_images(
    images: Tensor, logits: Tensor, class_names: Sequence[str], captions: Sequence[str],
    temperature: float,
) -> dict:  # fmt: skip
    """What the page needs to show images to choose from, and their probabilities at any T."""
    return {
        "classes": list(class_names),
        **temperatures(temperature),
        "images": [
            {"name": f"image {i}: {caption}", "png": png_url(image), "logits": z}
            for i, (caption, image, z) in enumerate(
                zip(captions, images, logits.double().tolist(), strict=True), start=1
            )
        ],
    }


def calibration_explorer(logits: Tensor, labels: Tensor, temperature: float = 1.0) -> Live:
    """The reliability diagram of softmax(logits / T) under a temperature slider.

    There is a slider only for at most `MOST_IN_PAGE` logits.
    """
    images, classes = logits.shape
    data = note = None
    if logits.numel() > MOST_IN_PAGE:
        note = f"no slider here, since {images:,} × {classes:,} logits are too many"
    else:
        data = {
            "logits": packed(logits.float()),
            "labels": labels.tolist(),
            "classes": classes,
            **temperatures(temperature, lowest=0.25, highest=4.0),
        }
    both = {
        "T = 1": calibration(logits, labels),
        f"T = {temperature:.2f}": calibration(logits, labels, temperature),
    }
    rest = reliability(both, note or "")
    return explorer("calibration", data, rest, "Calibration by temperature")


def curves_explorer(histories: Mapping[str, Sequence[History]]) -> Live:
    """Learning curves: a quantity by epoch, as a mean over seeds with its interval.

    ``histories`` by method, one for each seed. Only epochs with validation are shown. A method
    without validation at an epoch, or that has already ended, shows its last value.
    """
    first = next(iter(histories.values()))
    validated = [seeds[0].validated for seeds in histories.values()]
    begin = max(map(min, validated))
    epochs = sorted(n for n in set().union(*validated) if n >= begin)
    quantities = {
        "validation accuracy (%)": (lambda epoch: 100 * epoch.val_accuracy, 2),
        "validation loss (nats)": (lambda epoch: epoch.val_loss, 4),
        "training loss (nats)": (lambda epoch: epoch.train_loss, 4),
    }
    values = {
        name: [
            [[read(_last(h.validated, n)) for n in epochs] for h in seeds]
            for seeds in histories.values()
        ]
        for name, (read, _) in quantities.items()
    }
    data = {
        "methods": list(histories),
        "t": float(stdtrit(len(first) - 1, 0.975)),
        "epochs": epochs,
        "quantities": [
            {"name": name, "digits": digits, "values": values[name]}
            for name, (_, digits) in quantities.items()
        ],
    }
    drawn, (_, digits) = next(iter(quantities.items()))
    curves = {
        label: [mean_interval(each) for each in zip(*seeds, strict=True)]
        for label, seeds in zip(histories, values[drawn], strict=True)
    }
    rest = learning_curves(curves, epochs, drawn, epochs[-1], digits)
    return explorer("curves", data, rest, "Learning curves")


def _last(validated: Mapping[int, Epoch], number: int) -> Epoch:
    return validated[max(n for n in validated if n <= number)]


def loss_explorer(
    student_logits: Tensor, teacher_logits: Tensor, label: int, class_names: Sequence[str],
    temperature: float, soft_weight: float,
) -> Live:  # fmt: skip
    """The push of each part of the loss on each student logit, by T and soft_weight.

    Logits are (C,). Bars show minus the gradient: the direction in which the logit moves.
    """
    data = {
        "classes": list(class_names),
        "student": student_logits.double().tolist(),
        "teacher": teacher_logits.double().tolist(),
        "label": label,
        "soft_weight": soft_weight,
        **temperatures(temperature),
    }
    rest = push_bars(
        Pushes(student_logits, teacher_logits, label, temperature, soft_weight), class_names
    )
    return explorer("loss", data, rest, "The loss by T and soft_weight")
