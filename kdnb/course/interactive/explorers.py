"""Ideas to explore by hand: softened probabilities, the loss, subclasses, calibration, learning."""

from collections.abc import Callable, Mapping, Sequence

import ipywidgets
from scipy.special import stdtrit
from torch import Tensor

from kdnb.course.figures.classes import Pushes, push_bars, softened, subclass_bars
from kdnb.course.figures.curves import learning_curves, reliability
from kdnb.course.figures.picture import Picture, png_url
from kdnb.course.figures.svg import Drawing
from kdnb.course.interactive import live_figures
from kdnb.course.interactive.widgets import (
    Live,
    dropdown,
    ends_of,
    explorer,
    packed,
    temperature_slider,
)
from kdnb.evaluation.metrics import Calibration, calibration
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
    about = images, labels, logits, class_names, captions, temperature
    return _images_explorer("temperature", live_figures.softened, rest, *about)


def subclass_explorer(
    images: Tensor, labels: Tensor, subclass_logits: Tensor, class_names: Sequence[str],
    captions: Sequence[str], temperature: float,
) -> Live:  # fmt: skip
    """Class and subclass probabilities of a teacher for some images, under a temperature slider.

    ``images`` (N, 1 or 3, H, W) uint8, ``labels`` (N,), ``subclass_logits`` (N, C·s); ``captions``
    name the images.
    """
    rest = subclass_bars(images[0], subclass_logits[0], class_names, labels[0].item(), temperature)
    about = images, labels, subclass_logits, class_names, captions, temperature
    return _images_explorer("subclasses", live_figures.subclass_bars, rest, *about)


def _images_explorer(
    component: str, drawing: Callable[..., Drawing], rest: Picture, images: Tensor, labels: Tensor,
    logits: Tensor, class_names: Sequence[str], captions: Sequence[str], temperature: float,
) -> Live:  # fmt: skip
    """Choose an image and move the temperature of its probabilities."""
    names = [f"image {i + 1}: {caption}" for i, caption in enumerate(captions)]
    sources, slider = [png_url(image) for image in images], temperature_slider(temperature)
    controls = {
        "image": dropdown("image", "image", [(name, i) for i, name in enumerate(names)]),
        "temperature": slider,
    }

    def draw(image: int, temperature: float) -> Drawing:
        label = labels[image].item()
        return drawing(sources[image], logits[image], class_names, label, temperature)

    data = {
        "classes": list(class_names),
        **ends_of(slider),
        "images": [
            {"name": name, "png": source, "logits": z}
            for name, source, z in zip(names, sources, logits.double().tolist(), strict=True)
        ],
    }
    return explorer(component, controls, draw, data, rest)


def calibration_explorer(logits: Tensor, labels: Tensor, temperature: float = 1.0) -> Live:
    """The reliability diagram of softmax(logits / T) under a temperature slider.

    A page has a slider only for at most `MOST_IN_PAGE` logits.
    """
    plain = calibration(logits, labels)
    slider = temperature_slider(temperature, lowest=0.25, highest=4.0)

    def beside_plain(temperature: float) -> dict[str, Calibration]:
        return {"T = 1": plain, f"T = {temperature:.2f}": calibration(logits, labels, temperature)}

    def draw(temperature: float) -> Drawing:
        return live_figures.reliability(beside_plain(temperature))

    images, classes = logits.shape
    data = note = None
    if logits.numel() > MOST_IN_PAGE:
        note = f"no slider in the page, since {images:,} × {classes:,} logits are too many"
    else:
        data = {
            "logits": packed(logits.float()),
            "labels": labels.tolist(),
            "classes": classes,
            **ends_of(slider),
        }
    rest = reliability(beside_plain(temperature), note or "")
    return explorer("calibration", {"temperature": slider}, draw, data, rest)


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
    controls = {
        "quantity": dropdown("quantity", "quantity drawn", list(quantities)),
        "epoch": ipywidgets.SelectionSlider(
            options=epochs, value=epochs[-1], description="epoch", tooltip="epochs trained"
        ),
    }

    def draw(quantity: str, epoch: int) -> Picture:
        curves = {
            label: [mean_interval(each) for each in zip(*seeds, strict=True)]
            for label, seeds in zip(histories, values[quantity], strict=True)
        }
        return learning_curves(curves, epochs, quantity, epoch, quantities[quantity][1])

    data = {
        "methods": list(histories),
        "t": float(stdtrit(len(first) - 1, 0.975)),
        "epochs": epochs,
        "quantities": [
            {"name": name, "digits": digits, "values": values[name]}
            for name, (_, digits) in quantities.items()
        ],
    }
    return explorer("curves", controls, draw, data)


def _last(validated: Mapping[int, Epoch], number: int) -> Epoch:
    return validated[max(n for n in validated if n <= number)]


def loss_explorer(
    student_logits: Tensor, teacher_logits: Tensor, label: int, class_names: Sequence[str],
    temperature: float, soft_weight: float,
) -> Live:  # fmt: skip
    """The push of each part of the loss on each student logit, by T and soft_weight.

    Logits are (C,). Bars show minus the gradient: the direction in which the logit moves.
    """

    def pushes(temperature: float, soft_weight: float) -> Pushes:
        return Pushes(student_logits, teacher_logits, label, temperature, soft_weight)

    def draw(temperature: float, soft_weight: float) -> Drawing:
        return live_figures.push_bars(pushes(temperature, soft_weight), class_names)

    controls = {
        "temperature": temperature_slider(temperature),
        "soft_weight": ipywidgets.FloatSlider(
            value=soft_weight, min=0, max=1, step=0.05, description="soft_weight",
            tooltip="0: labels only, 1: teacher only",
        ),
    }  # fmt: skip
    data = {
        "classes": list(class_names),
        "student": student_logits.double().tolist(),
        "teacher": teacher_logits.double().tolist(),
        "label": label,
        "soft_weight": soft_weight,
        **ends_of(controls["temperature"]),
    }
    rest = push_bars(pushes(temperature, soft_weight), class_names)
    return explorer("loss", controls, draw, data, rest)
