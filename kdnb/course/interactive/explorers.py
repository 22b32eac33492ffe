"""Ideas to explore by hand: softened probabilities, the loss, subclasses, calibration, learning."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import ipywidgets
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from scipy.special import stdtrit
from torch import Tensor

from kdnb.course.figures.drawings import Drawing
from kdnb.course.figures.lettering import written
from kdnb.course.figures.plots import (
    GREY,
    PALETTE,
    Picture,
    by_partner,
    learning_curves,
    name_bars,
    reliability,
    reliability_words,
    room_for,
    softened,
    softened_words,
    styled,
    subclass_bars,
    subclass_tables,
    subclass_words,
)
from kdnb.course.interactive import moving
from kdnb.course.interactive.widgets import (
    Live,
    ends_of,
    explorer,
    packed,
    png_source,
    temperature_slider,
)
from kdnb.course.report.protocol import OTHER_DATA
from kdnb.evaluation.metrics import Calibration, Matching, calibration
from kdnb.evaluation.statistics import mean_interval
from kdnb.training.history import History

MOST_IN_PAGE = 500_000  # logits whose bytes a page can bear, about three million


def temperature_explorer(
    images: Tensor, labels: Tensor, logits: Tensor, class_names: Sequence[str], temperature: float
) -> Live:
    """The teacher's softened probabilities for some images, under a temperature slider.

    ``images`` (N, 1 or 3, H, W) uint8, ``labels`` (N,), ``logits`` (N, C).
    """
    names = [f"image {i + 1}: a {class_names[label]}" for i, label in enumerate(labels.tolist())]
    controls = _image_and_temperature(names, temperature)
    sources = [png_source(image) for image in images]

    def draw(image: int, temperature: float) -> Drawing:
        about = (logits[image], class_names)
        words = softened_words(*about, [temperature], labels[image].item())
        return moving.softened(sources[image], *about, temperature, labels[image].item(), words)

    rest = softened(images[0], logits[0], class_names, [1, temperature, 16], labels[0].item())
    component = {
        "component": "temperature",
        "classes": list(class_names),
        **ends_of(controls["temperature"]),
        "images": _images_with(names, sources, logits),
    }
    return explorer(controls, draw, rest, component)


def _image_and_temperature(
    names: Sequence[str], temperature: float
) -> dict[str, ipywidgets.Widget]:
    image = ipywidgets.Dropdown(
        options=[(name, i) for i, name in enumerate(names)],
        description="image",
        tooltip="which image",
    )
    return {"image": image, "temperature": temperature_slider(temperature)}


def _images_with(names: Sequence[str], sources: Sequence[str], logits: Tensor) -> list[dict]:
    return [
        {"name": name, "png": source, "logits": z.double().tolist()}
        for name, source, z in zip(names, sources, logits, strict=True)
    ]


def subclass_explorer(
    images: Tensor,
    labels: Tensor,
    subclass_logits: Tensor,
    class_names: Sequence[str],
    captions: Sequence[str],
    temperature: float,
) -> Live:
    """Class and subclass probabilities of a teacher for some images, under a temperature slider.

    ``images`` (N, 1 or 3, H, W) uint8, ``labels`` (N,), ``subclass_logits`` (N, C·s); ``captions``
    name the images.
    """
    names = [f"image {i + 1}: {caption}" for i, caption in enumerate(captions)]
    controls = _image_and_temperature(names, temperature)
    sources = [png_source(image) for image in images]

    def draw(image: int, temperature: float) -> Drawing:
        about = (subclass_logits[image], class_names, labels[image].item(), temperature)
        return moving.subclass_bars(sources[image], *about, subclass_words(*about))

    component = {
        "component": "subclasses",
        "classes": list(class_names),
        **ends_of(controls["temperature"]),
        "images": _images_with(names, sources, subclass_logits),
    }
    rest = subclass_bars(images[0], subclass_logits[0], class_names, labels[0].item(), temperature)
    return explorer(controls, draw, rest, component)


def sweep_explorer(path: Path) -> Live:
    """What ``report/reference/subclass_sweep.py`` found, by loss, number of subclasses and weight.

    The picture is the first seed's table of invented against true subclasses, the numbers above it
    are those of all seeds.
    """
    record = json.loads(path.read_text(encoding="utf-8"))
    cells = {(c["loss"], c["subclasses"], c["weight"]): c for c in record["cells"]}
    losses, sizes, weights = (list(dict.fromkeys(values)) for values in zip(*cells, strict=True))

    def slider(name: str, options: list, value: object, tooltip: str) -> ipywidgets.Widget:
        return ipywidgets.SelectionSlider(
            options=options, value=value, description=name, tooltip=tooltip
        )

    controls = {
        "loss": ipywidgets.Dropdown(
            options=losses, value=losses[-1], description="loss", tooltip="which loss divides"
        ),
        "subclasses": slider("subclasses", sizes, sizes[1], "invented subclasses per class"),
        "weight": slider("weight", weights, weights[2], "weight of that loss"),
    }

    names, true_names = record["class_names"], record["subclass_names"]

    def says(cell: dict) -> list[str]:
        live = ", ".join(str(t["live"]) for t in cell["teachers"])
        recovered = mean_interval([t["recovered"] for t in cell["teachers"]])
        student = mean_interval(cell["students"])
        return [
            f"{cell['loss']}, weight {cell['weight']:g}",
            f"alive per seed: {live} of {len(cell['teachers'][0]['counts'])}",
            f"recovered: {100 * recovered.mean:.0f} % "
            f"({100 * recovered.low:.0f} to {100 * recovered.high:.0f})",
            f"subclass student: {100 * student.mean:.1f} % "
            f"({100 * student.low:.1f} to {100 * student.high:.1f})",
        ]

    def matching_of(cell: dict) -> Matching:
        first = cell["teachers"][0]
        return Matching(
            torch.tensor(first["counts"]), torch.tensor(first["partner"]), first["recovered"]
        )

    @cache  # they are few, and slow to draw
    def draw(loss: str, subclasses: int, weight: float) -> Picture:
        cell = cells[loss, subclasses, weight]
        return subclass_tables({"\n".join(says(cell)): matching_of(cell)}, names, true_names)

    def rows(cell: dict) -> list[tuple[str, list[int]]]:
        matching, size = matching_of(cell), cell["subclasses"]
        return [
            (f"{names[i // size]} no. {i % size + 1}", matching.counts[i].tolist())
            for i in by_partner(matching, len(names), len(true_names))
        ]

    component = {
        "component": "sweep",
        "losses": losses,
        "sizes": sizes,
        "weights": weights,
        "names": true_names,
        "cells": [
            {"loss": loss, "subclasses": size, "weight": weight,
             "says": "; ".join(says(cell)) + ".", "rows": rows(cell)}
            for (loss, size, weight), cell in cells.items()
        ],
    }  # fmt: skip
    live = explorer(controls, draw, draw(losses[-1], sizes[1], weights[2]), component)
    for about in live.metadata.values():
        about[OTHER_DATA] = True  # these runs were made beforehand, on digits
    return live


def calibration_explorer(logits: Tensor, labels: Tensor, temperature: float = 1.0) -> Live:
    """The reliability diagram of softmax(logits / T) under a temperature slider.

    In a page the slider moves only where the logits are few enough to travel there.
    """
    plain = calibration(logits, labels)

    def beside_plain(temperature: float) -> dict[str, Calibration]:
        return {"T = 1": plain, f"T = {temperature:.2f}": calibration(logits, labels, temperature)}

    def draw(temperature: float) -> Drawing:
        both = beside_plain(temperature)
        return moving.reliability(both, reliability_words(both))

    slider = temperature_slider(temperature, lowest=0.25, highest=4.0)
    component, note = None, ""
    if logits.numel() > MOST_IN_PAGE:
        images, classes = logits.shape
        note = f"no slider in a page: {images:,} × {classes:,} logits are too many"
    else:
        component = {
            "component": "calibration",
            "logits": packed(logits),
            "labels": labels.tolist(),
            "classes": logits.shape[1],
            **ends_of(slider),
        }
    rest = reliability(beside_plain(temperature), note)
    return explorer({"temperature": slider}, draw, rest, component)


def curves_explorer(histories: Mapping[str, Sequence[History]]) -> Live:
    """How methods learn: a quantity by epoch, mean over seeds with its interval, read at an epoch.

    ``histories`` by method, one for each seed, all with the same number of epochs.
    """
    epochs = len(next(iter(histories.values()))[0].epochs)
    quantities = {
        "validation accuracy (%)": (lambda epoch: 100 * epoch.val_accuracy, 2),
        "validation loss (nats)": (lambda epoch: epoch.val_loss, 4),
        "training loss (nats)": (lambda epoch: epoch.train_loss, 4),
    }
    values = {
        name: {
            label: [[read(epoch) for epoch in history.epochs] for history in seeds]
            for label, seeds in histories.items()
        }
        for name, (read, _) in quantities.items()
    }
    controls = {
        "quantity": ipywidgets.Dropdown(
            options=list(quantities), description="quantity", tooltip="what is drawn"
        ),
        "epoch": ipywidgets.IntSlider(
            value=epochs, min=1, max=epochs, description="epoch", tooltip="after which epoch"
        ),
    }

    def draw(quantity: str, epoch: int) -> Picture:
        curves = {
            label: [mean_interval(each) for each in zip(*seeds, strict=True)]
            for label, seeds in values[quantity].items()
        }
        return learning_curves(curves, quantity, epoch, quantities[quantity][1])

    component = {
        "component": "curves",
        "methods": list(histories),
        "t": float(stdtrit(len(next(iter(histories.values()))) - 1, 0.975)),
        "quantities": [
            {"name": name, "digits": digits, "values": list(values[name].values())}
            for name, (_, digits) in quantities.items()
        ],
    }
    return explorer(controls, draw, draw(next(iter(quantities)), epochs), component)


def loss_explorer(
    student_logits: Tensor,
    teacher_logits: Tensor,
    label: int,
    class_names: Sequence[str],
    temperature: float,
    soft_weight: float,
) -> Live:
    """How the two parts of the loss push each student logit, under T and soft_weight.

    Logits are (C,). Bars show minus the gradient: the way gradient descent moves the logit.
    """

    both = (student_logits, teacher_logits, label)

    def draw(temperature: float, soft_weight: float) -> Drawing:
        push = moving.Pushes(*both, temperature, soft_weight)
        return moving.pushes(*both, class_names, temperature, push)

    controls = {
        "temperature": temperature_slider(temperature),
        "soft_weight": ipywidgets.FloatSlider(
            value=soft_weight, min=0, max=1, step=0.05, description="soft_weight",
            tooltip="0: labels only, 1: teacher only",
        ),
    }  # fmt: skip
    component = {
        "component": "loss",
        "classes": list(class_names),
        "student": student_logits.double().tolist(),
        "teacher": teacher_logits.double().tolist(),
        "label": label,
        "soft_weight": soft_weight,
        **ends_of(controls["temperature"]),
    }
    rest = _gradient_bars(*both, class_names, temperature, soft_weight)
    return explorer(controls, draw, rest, component)


@styled
def _gradient_bars(
    student_logits: Tensor,
    teacher_logits: Tensor,
    label: int,
    class_names: Sequence[str],
    temperature: float,
    soft_weight: float,
) -> Picture:
    push = moving.Pushes(student_logits, teacher_logits, label, temperature, soft_weight)
    few = push.leading(label)
    names = few.names(written(class_names))
    figure = Figure(figsize=(7.6, 2.7 + room_for(names)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.2])
    x = torch.arange(len(names)).numpy()
    teacher_p = few.of(F.softmax(teacher_logits.double() / temperature, 0)).numpy()
    student_p = few.of(F.softmax(student_logits.double() / temperature, 0)).numpy()
    left.bar(x - 0.2, teacher_p, width=0.4, color=PALETTE[0], label="teacher")
    left.bar(x + 0.2, student_p, width=0.4, color=PALETTE[1], label="student", hatch="//")
    left.set(ylim=(0, 1.05), ylabel=f"probability at T = {temperature:.3g}")
    right.bar(x - 0.2, few.of(push.soft).numpy(), width=0.4, color=PALETTE[0], label="soft part")
    right.bar(
        x + 0.2,
        few.of(push.hard).numpy(),
        width=0.4,
        color=PALETTE[2],
        label="hard part",
        hatch="..",
    )
    right.plot(x, few.of(push.total).numpy(), "_", color="black", ms=14, label="together")
    right.axhline(0, color=GREY, lw=0.8)
    right.set_ylabel("push on the logit")
    for ax in (left, right):
        name_bars(ax, names)
        ax.legend(fontsize=8)
    figure.suptitle(
        f"label {written(class_names)[label]}: loss {push.loss:.3f} nats "
        f"(soft {push.soft_loss:.3f}, hard {push.hard_loss:.3f})",
        fontsize=10,
    )
    return Picture(figure, push.words(label, class_names, temperature))
