"""Bars for classes: a model's probabilities for one image, and a loss's push on its logits."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from kdnb.course.figures.picture import GREY, PALETTE, Picture, panels, styled
from kdnb.course.figures.samples import show_image
from kdnb.course.figures.top_classes import MATRIX, MOST, TopClasses, top_classes
from kdnb.course.labels import written
from kdnb.evaluation.metrics import entropy_bits
from kdnb.losses import distillation_loss

WIDE = 4  # characters: a longer class name does not fit under a bar
LONG = 8  # characters: a longer class name gets a line of its own in a title


def softmax_at(logits: Tensor, temperature: float) -> Tensor:
    """(C,) probabilities in double precision."""
    return F.softmax(logits.double() / temperature, 0)


@styled
def softened(
    image: Tensor, logits: Tensor, class_names: Sequence[str], temperatures: Sequence[float],
    label: int,
) -> Picture:  # fmt: skip
    """One image (1 or 3, H, W) uint8 and softmax(logits / T) for each T; ``logits`` is (C,).

    Of many classes, the likeliest are shown, and the others as their sum.
    """
    named, few, bars = written(class_names), top_classes(logits, [label]), []
    for temperature in temperatures:
        p = softmax_at(logits, temperature)
        top = int(p.argmax())
        outside = _then(f"{1 - p[top].item():.1%} outside", named[top])
        title = f"T = {temperature:.3g}: entropy {entropy_bits(p).item():.2f} bits,\n{outside}"
        bars.append((title, few, p))
    figure = _beside(image, label, named, bars)
    return Picture(figure, softened_words(logits, class_names, temperatures, label))


def softened_words(
    logits: Tensor, class_names: Sequence[str], temperatures: Sequence[float], label: int
) -> str:
    """The text alternative of `softened`."""
    alt = []
    for temperature in temperatures:
        p = softmax_at(logits, temperature)
        (first, next_), (top, second) = (t.tolist() for t in p.topk(2))
        alt.append(
            f"at T = {temperature:.3g}, class {class_names[top]} has probability {first:.3f}, next "
            f"is {class_names[second]} with {next_:.3f}, entropy {entropy_bits(p).item():.2f} bits"
        )
    named = class_names[label]
    return f"An image labelled {named} and the teacher's probabilities: {'; '.join(alt)}."


@styled
def predictions(
    image: Tensor, logits: Mapping[str, Tensor], class_names: Sequence[str], temperature: float,
    label: int,
) -> Picture:  # fmt: skip
    """One image (1 or 3, H, W) uint8 and each model's probabilities: softmax((C,) logits / T)."""
    named, bars, alt = written(class_names), [], []
    for name, z in logits.items():
        p = softmax_at(z, temperature)
        top = int(p.argmax())
        share = f"with {p[top].item():.3f}"
        title = f"{textwrap.fill(name, 26)}\n{named[top]} {share}"
        bars.append((title, top_classes(z, [label]), p))
        alt.append(f"{name} predicts {class_names[top]} {share}")
    heading = f"probabilities at T = {temperature:.3g}"
    figure = _beside(image, label, named, bars, fontsize=9)
    figure.suptitle(heading, fontsize=10)
    alt = f"An image labelled {class_names[label]}, and {heading}: {'; '.join(alt)}."
    return Picture(figure, alt)


def _beside(
    image: Tensor, label: int, named: Sequence[str], bars: Sequence[tuple[str, TopClasses, Tensor]],
    **look: object,
) -> Figure:  # fmt: skip
    """An image and, beside it, bars of (C,) probabilities, the likeliest class in another colour.

    ``bars`` holds title, classes to show and probabilities; ``look`` holds options of the titles.
    """
    names = [few.names(named) for _, few, _ in bars]
    size = 1.7 + 2.35 * len(bars), 2.75 + max(map(room_for, names))
    ratios = [1.5, *[2.35] * len(bars)]
    figure, (first, *axes) = panels(*size, len(ratios), width_ratios=ratios)
    show_image(first, image)
    first.set_title(_then("label:", named[label]))
    for ax, (title, few, p) in zip(axes, bars, strict=True):
        colors = [PALETTE[0] if c == p.argmax() else PALETTE[1] for c in few.rows]
        shown = few.of(p).numpy()
        ax.bar(range(len(shown)), shown, color=[*colors, GREY][: len(shown)])
        name_bars(ax, few.names(named))
        ax.set_ylim(0, 1.05)
        ax.grid(axis="x", visible=False)
        ax.set_title(title, **look)
    key = [
        Patch(color=PALETTE[0], label="likeliest class"),
        Patch(color=PALETTE[1], label="others"),
    ]
    figure.legend(handles=key, loc="outside lower center", ncols=2, fontsize=8)
    return figure


class SubclassProbabilities:
    """A teacher's probabilities for one image: ``by_class`` (C,) and by subclass, ``p`` (C·s,).

    A class's probability is the sum of its subclasses' probabilities.
    """

    def __init__(
        self, subclass_logits: Tensor, class_names: Sequence[str], label: int, temperature: float
    ):
        self.class_names, self.label, self.temperature = class_names, label, temperature
        self.size = len(subclass_logits) // len(class_names)
        self.p = softmax_at(subclass_logits, temperature)
        self.by_class = self.p.view(-1, self.size).sum(1)

    @property
    def shown(self) -> TopClasses:
        """The classes whose subclasses have room in the figure."""
        most = max(3, min(MOST, 2 * MATRIX // self.size))
        return top_classes(self.by_class, [self.label], most)

    @property
    def bits(self) -> tuple[float, float]:
        """The entropies over classes and over subclasses."""
        return entropy_bits(self.by_class).item(), entropy_bits(self.p).item()

    @property
    def words(self) -> str:
        """The text alternative of their picture."""
        names, top, bits = self.class_names, int(self.p.argmax()), self.bits
        few = top_classes(self.by_class, [self.label])
        shares = zip(few.names(names), few.of(self.by_class).tolist(), strict=True)
        return (
            f"An image of class {names[self.label]} at T = {self.temperature:.3g}: "
            + ", ".join(f"{n} {q:.3f}" for n, q in shares)
            + f", entropy {bits[0]:.2f} bits; the likeliest subclass is no. {top % self.size + 1} "
            f"of {names[top // self.size]} with {self.p[top].item():.3f}, entropy of all "
            f"subclasses {bits[1]:.2f} bits."
        )


@styled
def subclass_bars(
    image: Tensor, subclass_logits: Tensor, class_names: Sequence[str], label: int,
    temperature: float,
) -> Picture:  # fmt: skip
    """One image (1 or 3, H, W) uint8, its probabilities by class and by subclass at T.

    ``subclass_logits`` is (C·s,). Of many classes, the likeliest are shown, and the others as
    their sum.
    """
    said = SubclassProbabilities(subclass_logits, class_names, label, temperature)
    few, named, size = said.shown, written(class_names), said.size
    colours = [PALETTE[c % len(PALETTE)] for c in few.rows]
    shown, every = few.of(said.by_class), few.subclasses(size)
    figure, (left, middle, right) = panels(
        7.6, 2.6 + room_for(few.names(named)), 3, width_ratios=[1, 0.3 * len(shown), 2.6]
    )
    show_image(left, image)
    left.set_title(_then("class", named[label]), fontsize=9)
    middle.bar(range(len(shown)), shown.numpy(), color=[*colours, GREY][: len(shown)])
    name_bars(middle, few.names(named))
    middle.set(ylim=(0, 1.05), ylabel=f"probability at T = {temperature:.3g}", xlabel="class")
    right.bar(range(len(every)), said.p[every].numpy(), color=np.repeat(colours, size))
    right.set_xticks(range(len(every)), [i % size + 1 for i in every])
    right.set(ylim=(0, 1.05), xlabel="invented subclass, class by class")
    key = [Patch(color=PALETTE[c % len(PALETTE)], label=named[c]) for c in few.rows]
    right.legend(handles=key, title="class", fontsize=8, title_fontsize=8)
    for ax, bits in zip((middle, right), said.bits, strict=True):
        ax.set_title(f"entropy {bits:.2f} bits", fontsize=9)
    return Picture(figure, said.words)


class Pushes:
    """The push of each part of the loss on each student logit, (C,) each, and the loss in nats.

    A push is minus the gradient: the direction in which gradient descent moves the logit.
    ``student`` and ``teacher`` are the (C,) probabilities of both models at the temperature.
    """

    def __init__(
        self, student_logits: Tensor, teacher_logits: Tensor, label: int, temperature: float,
        soft_weight: float,
    ):  # fmt: skip
        self.label, self.temperature, self.soft_weight = label, temperature, soft_weight
        self.student = softmax_at(student_logits, temperature)
        self.teacher = softmax_at(teacher_logits, temperature)
        student = student_logits.double()[None].requires_grad_()
        loss = distillation_loss(
            student, torch.tensor([label]), teacher_logits.double()[None], temperature, soft_weight
        )
        (soft,) = torch.autograd.grad(loss.soft, student, retain_graph=True)
        (hard,) = torch.autograd.grad(loss.hard, student)
        self.soft, self.hard = -soft_weight * soft[0], -(1 - soft_weight) * hard[0]
        self.total = self.soft + self.hard
        self.loss, self.soft_loss, self.hard_loss = (
            part.item() for part in (loss.total, loss.soft, loss.hard)
        )

    @property
    def shown(self) -> TopClasses:
        """The classes with the strongest push, and the label's class."""
        return top_classes(self.total.abs(), [self.label])

    def words(self, class_names: Sequence[str]) -> str:
        """The text alternative of their picture."""
        up, down = int(self.total.argmax()), int(self.total.argmin())
        return (
            f"Probabilities and pushes at T = {self.temperature:.3g}, soft_weight "
            f"{self.soft_weight:.2f}, label {class_names[self.label]}: loss {self.loss:.3f} nats; "
            f"logit {class_names[up]} is pushed up most, by {self.total[up].item():.3f}, "
            f"logit {class_names[down]} down by {-self.total[down].item():.3f}."
        )


@styled
def push_bars(push: Pushes, class_names: Sequence[str]) -> Picture:
    """Probabilities of both models at T, and the push of each part of the loss on each logit."""
    few, named = push.shown, written(class_names)
    names = few.names(named)
    figure, (left, right) = panels(7.6, 2.7 + room_for(names), 2, width_ratios=[1, 1.2])
    x = np.arange(len(names))
    for ax, values, shift, color, label, hatch in (
        (left, push.teacher, -0.2, 0, "teacher", ""),
        (left, push.student, 0.2, 1, "student", "//"),
        (right, push.soft, -0.2, 0, "soft part", ""),
        (right, push.hard, 0.2, 2, "hard part", ".."),
    ):
        ax.bar(
            x + shift, few.of(values).numpy(), 0.4, color=PALETTE[color], label=label, hatch=hatch
        )
    right.plot(x, few.of(push.total).numpy(), "_", color="black", ms=14, label="together")
    right.axhline(0, color=GREY, lw=0.8)
    left.set(ylim=(0, 1.05), ylabel=f"probability at T = {push.temperature:.3g}")
    right.set_ylabel("push on the logit")
    for ax in (left, right):
        name_bars(ax, names)
        ax.legend(fontsize=8)
    figure.suptitle(
        f"label {named[push.label]}: loss {push.loss:.3f} nats "
        f"(soft {push.soft_loss:.3f}, hard {push.hard_loss:.3f})",
        fontsize=10,
    )
    return Picture(figure, push.words(class_names))


def name_bars(ax: Axes, names: Sequence[str]) -> None:
    """Write each name, as `written` gives it, under its bar; upright if one is wide."""
    ax.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > WIDE else 0)


def room_for(names: Sequence[str]) -> float:
    """The height, in inches, that these names need below the bars."""
    longest = max(map(len, names))
    return 0.08 * (longest - WIDE) if longest > WIDE else 0.0


def _then(words: str, name: str) -> str:
    """Words and a name, which is on the next line if it is long."""
    return f"{words}{' ' if len(name) <= LONG else chr(10)}{name}"
