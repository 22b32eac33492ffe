"""Figures, each with a text alternative made from the same data."""

import base64
import html
import io
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from itertools import cycle
from threading import RLock

import numpy as np
import torch
import torch.nn.functional as F
from IPython.display import Markdown
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from kdnb.course.figures.confusions import common_pairs
from kdnb.course.figures.drawings import GREY, PALETTE, Drawing
from kdnb.course.figures.leading import MATRIX, MOST, Leading, leading
from kdnb.course.figures.lettering import give_fonts, written
from kdnb.course.report.protocol import live_kernel
from kdnb.evaluation.metrics import Calibration, Matching, entropy_bits
from kdnb.evaluation.statistics import Interval
from kdnb.experiment.results import Comparison
from kdnb.training.history import History

MARKERS = "osD^vPX*"
WIDE = 4  # characters of a class's name: longer ones do not fit under a bar
LONG = 8  # and longer ones than this not behind other words in a title
LABEL = 48  # characters of a method's name
COLUMNS = 20  # of a gallery
KEYS = 16  # in the key of a map
METHODS = 30  # rows of a comparison
DOTS_PER_INCH = 288  # three dots to a CSS pixel: sharp on paper and at 200 % zoom
# A slider may ask for a picture, on a thread of its own, while a cell draws: one at a time.
DRAWING = RLock()
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
}


class Picture:
    """A figure and its text alternative; shows itself as a PNG with that text.

    With a reader before it, as HTML with a PNG in it: JupyterLab drops the text from a bare one.
    """

    def __init__(self, figure: Figure, alt: str):
        self.alt = alt
        self.png = _png(figure)
        self.width = round(figure.get_figwidth() * 96)  # CSS pixels

    @property
    def source(self) -> str:
        """The picture as the source of an HTML image."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple:
        if live_kernel():  # there an image of type PNG would be shown without its words
            return {"text/html": image_tag(self), "text/plain": self.alt}, {"text/html": {}}
        data = {"image/png": self.png, "text/plain": self.alt}
        return data, {"image/png": {"alt": self.alt, "width": self.width}}


def image_tag(picture: Picture | Drawing) -> str:
    """A picture as HTML that needs no other file."""
    return (
        f'<img src="{picture.source}" width="{picture.width}" '
        f'style="max-width:100%;height:auto" alt="{html.escape(picture.alt)}">'
    )


def _png(figure: Figure) -> bytes:
    """The figure in 256 colours, a third of the bytes; in all of them where it holds photographs.

    A chart has hues by the dozen and their edges, and looks the same; stained tissue would not.
    """
    canvas = FigureCanvasAgg(figure)
    figure.set(dpi=DOTS_PER_INCH, facecolor="white")
    with course_style():
        give_fonts(figure)
        canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    if not any(np.ndim(shown.get_array()) == 3 for ax in figure.axes for shown in ax.images):
        image = image.quantize(256, dither=Image.Dither.NONE)
    picture = io.BytesIO()
    image.save(picture, format="png")
    return picture.getvalue()


@contextmanager
def course_style() -> Iterator[None]:
    """Matplotlib's own settings and the course's, whatever a reader's ``matplotlibrc`` says.

    After the block the reader's hold again.
    """
    with DRAWING, style.context(["default", STYLE]):
        yield


def styled(plot: Callable[..., Picture]) -> Callable[..., Picture]:
    """Draw under the course's style without changing matplotlib's settings for anybody else."""

    @wraps(plot)
    def wrapper(*args: object, **kwargs: object) -> Picture:
        with course_style():
            return plot(*args, **kwargs)

    return wrapper


@styled
def images(pictures: Tensor, captions: Sequence[str], columns: int = 10) -> Picture:
    """(N, 1, H, W) grey or (N, 3, H, W) colour uint8 images with a caption above each.

    Images more than 64 pixels wide are drawn twice as large, at most 5 in a row.
    """
    scale, most = (2, 5) if pictures.shape[-1] > 64 else (1, columns)
    columns = min(columns, most, len(pictures))
    rows = -(-len(pictures) // columns)
    size = (0.85 * scale * columns, (0.85 * scale + 0.27) * rows)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, picture, caption in zip(axes.flat, pictures, captions, strict=False):
        show_image(ax, picture)
        rows = [line for row in caption.split("\n") for line in textwrap.wrap(row, 15 * scale)]
        ax.set_title("\n".join(rows), fontsize=8 if max(map(len, rows), default=0) < 14 else 6.5)
    return Picture(figure, f"{len(pictures)} images: {'; '.join(captions)}.")


@styled
def softened(
    image: Tensor,
    logits: Tensor,
    class_names: Sequence[str],
    temperatures: Sequence[float],
    label: int | None = None,
) -> Picture:
    """One image (1 or 3, H, W) uint8 and softmax(logits / T) for each T; ``logits`` is (C,).

    With one temperature, the probabilities at T = 1 stand behind it in outline. Of many classes the
    likeliest are shown, and the sum of the others.
    """
    panels, named = len(temperatures), written(class_names)
    few = leading(logits, [] if label is None else [label])
    size = (1.7 + (4.6 if panels == 1 else 2.35 * panels), 2.5 + room_for(few.names(named)))
    figure = Figure(figsize=size)
    figure.set_layout_engine("constrained")
    ratios = [1.5, *[4.6 if panels == 1 else 2.35] * panels]
    first, *rest = figure.subplots(1, panels + 1, width_ratios=ratios)
    show_image(first, image)
    if label is not None:
        first.set_title(_then("label:", named[label]))
    for ax, temperature in zip(rest, temperatures, strict=True):
        probabilities = F.softmax(logits.double() / temperature, 0)
        top = int(probabilities.argmax())
        _class_bars(ax, few, probabilities, named)
        if panels == 1:
            plain = few.of(F.softmax(logits.double(), 0)).numpy()
            ax.bar(range(len(plain)), plain, fill=False, edgecolor=GREY, lw=0.8, ls=":")
            ax.set_ylabel("probability")
        ax.set_ylim(0, 1.05)
        ax.grid(axis="x", visible=False)
        bits = entropy_bits(probabilities).item()
        rest_mass = 1 - probabilities[top].item()
        ax.set_title(
            f"T = {temperature:.3g}: entropy {bits:.2f} bits,"
            + ("\n" if panels > 1 else " ")
            + _then(f"{rest_mass:.1%} outside", named[top])
        )
    return Picture(figure, softened_words(logits, class_names, temperatures, label))


def softened_words(
    logits: Tensor,
    class_names: Sequence[str],
    temperatures: Sequence[float],
    label: int | None = None,
) -> str:
    """What `softened` shows."""
    alt = []
    for temperature in temperatures:
        probabilities = F.softmax(logits.double() / temperature, 0)
        (first, next_), (top, second) = (t.tolist() for t in probabilities.topk(2))
        alt.append(
            f"at T = {temperature:.3g} {class_names[top]} has probability {first:.3f}, next is "
            f"{class_names[second]} with {next_:.3f}, "
            f"entropy {entropy_bits(probabilities).item():.2f} bits"
        )
    named = "" if label is None else f" labelled {class_names[label]}"
    return f"An image{named} and the teacher's probabilities: {'; '.join(alt)}."


@styled
def answers(
    image: Tensor,
    logits: Mapping[str, Tensor],
    class_names: Sequence[str],
    temperature: float,
    label: int,
) -> Picture:
    """One image (1 or 3, H, W) uint8 and what each model makes of it: softmax((C,) logits / T)."""
    named = written(class_names)
    few = {name: leading(z, [label]) for name, z in logits.items()}
    size = (1.7 + 2.35 * len(logits), 2.5 + max(room_for(f.names(named)) for f in few.values()))
    figure = Figure(figsize=size, layout="constrained")
    first, *rest = figure.subplots(1, 1 + len(logits), width_ratios=[1.5, *[2.35] * len(logits)])
    show_image(first, image)
    first.set_title(_then("label:", named[label]))
    alt = []
    for ax, (name, z) in zip(rest, logits.items(), strict=True):
        p = F.softmax(z.double() / temperature, 0)
        top = int(p.argmax())
        _class_bars(ax, few[name], p, named)
        ax.set_ylim(0, 1.05)
        ax.grid(axis="x", visible=False)
        share = f"with {p[top].item():.3f}"
        ax.set_title(f"{textwrap.fill(name, 26)}\n{named[top]} {share}", fontsize=9)
        alt.append(f"{name} says {class_names[top]} {share}")
    figure.suptitle(f"probabilities at T = {temperature:.3g}", fontsize=10)
    return Picture(
        figure,
        f"An image labelled {class_names[label]}, and probabilities at T = {temperature:.3g}: "
        f"{'; '.join(alt)}.",
    )


@styled
def training_curves(histories: Mapping[str, History], epochs: int, title: str = "") -> Picture:
    """Training and validation loss on the left, validation accuracy on the right, by epoch."""
    figure = Figure(figsize=(7.6, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (label, history), color, marker in zip(histories.items(), cycle(PALETTE), cycle(MARKERS)):
        x = range(1, len(history.epochs) + 1)
        style = {"color": color, "marker": marker, "markersize": 4, "markevery": 0.1}
        left.plot(x, [e.train_loss for e in history.epochs], **style, label=f"{label}: training")
        left.plot(
            x, [e.val_loss for e in history.epochs], **style, ls="--", label=f"{label}: validation"
        )
        accuracies = [100 * e.val_accuracy for e in history.epochs]
        right.plot(x, accuracies, **style)
        if history.best is not None:
            best = accuracies[history.best]
            right.plot(history.best + 1, best, "o", ms=10, mfc="none", mec=color)
    left.set(xlabel="epoch", ylabel="loss (nats)", yscale="log", xlim=(0.5, epochs + 0.5))
    right.set(xlabel="epoch", ylabel="validation accuracy (%)", xlim=(0.5, epochs + 0.5))
    right.set_title("ring: the epoch that is kept", fontsize=8, loc="right")
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    figure.suptitle(title, fontsize=10)
    return Picture(figure, training_words(histories, epochs))


def training_words(histories: Mapping[str, History], epochs: int) -> str:
    """What `training_curves` shows."""
    best = {label: h.epochs[h.best] for label, h in histories.items() if h.best is not None}
    alt = [
        f"{label}: validation accuracy {100 * epoch.val_accuracy:.2f} % at its best epoch "
        f"{histories[label].best + 1}"
        for label, epoch in best.items()
    ]
    return f"Training curves over {epochs} epochs. {'; '.join(alt)}."


@styled
def learning_curves(
    curves: Mapping[str, Sequence[Interval]], quantity: str, epoch: int, digits: int
) -> Picture:
    """Mean over seeds with its interval by epoch, a curve per method, read at ``epoch``."""
    figure = Figure(figsize=(6.8, 3.1), layout="constrained")
    ax = figure.subplots()
    epochs = range(1, len(next(iter(curves.values()))) + 1)
    alt = []
    for (label, means), color, marker in zip(curves.items(), cycle(PALETTE), cycle(MARKERS)):
        ax.plot(epochs, [m.mean for m in means], color=color, marker=marker, ms=4, markevery=0.1,
                label=label)  # fmt: skip
        ax.fill_between(
            epochs, [m.low for m in means], [m.high for m in means], color=color, alpha=0.2, lw=0
        )
        now = means[epoch - 1]
        alt.append(f"{label} {now.mean:.{digits}f} ({now.low:.{digits}f} to {now.high:.{digits}f})")
    ax.axvline(epoch, color=GREY, ls=":", lw=1)
    ax.set(xlabel="epoch", ylabel=quantity)
    ax.set_title(f"after epoch {epoch}: " + "; ".join(a.split(" (")[0] for a in alt), fontsize=8)
    ax.legend(fontsize=8)
    return Picture(
        figure,
        f"{quantity} after epoch {epoch} of {len(epochs)}, mean over seeds: {'; '.join(alt)}.",
    )


@styled
def confusion_matrix(counts: Tensor, class_names: Sequence[str]) -> Picture | Markdown:
    """(C, C) counts, rows true and columns predicted; the right answers are left pale.

    Of more than `MATRIX` classes the most frequent errors, as a table.
    """
    wrong = counts.clone().fill_diagonal_(0)
    right, classes = counts.diag().sum().item(), len(counts)
    if classes > MATRIX:
        return common_pairs(
            wrong,
            counts.sum(1),
            ("true", class_names),
            ("predicted", class_names),
            f"{right:,} of {counts.sum().item():,} images are right. {classes:,} classes are too "
            "many for a matrix: these are the most frequent errors.",
        )
    import seaborn as sns  # slow to import, and only figures like this one need it

    side = 0.26 * classes
    figure = Figure(figsize=(max(4.6, side + 1.7), max(3.9, side + 1)), layout="constrained")
    ax = figure.subplots()
    named = written(class_names)
    sns.heatmap(
        wrong.numpy(),
        annot=counts.numpy(),
        fmt="d",
        cmap="Oranges",
        cbar=False,
        square=True,
        linewidths=0.5,
        annot_kws={"fontsize": 8},
        xticklabels=named,
        yticklabels=named,
        ax=ax,
    )
    ax.set(xlabel="predicted", ylabel="true")
    ax.tick_params(axis="y", rotation=0)
    if max(map(len, named)) > WIDE:
        ax.tick_params(axis="x", rotation=90)
    worst = wrong.flatten().topk(min(3, wrong.numel()))
    pairs = [
        f"{class_names[i // len(counts)]} taken for {class_names[i % len(counts)]} {n} times"
        for i, n in zip(worst.indices.tolist(), worst.values.tolist(), strict=True)
        if n
    ]
    return Picture(
        figure,
        f"Confusion matrix: {right} of {counts.sum().item()} images right. "
        f"Most frequent errors: {'; '.join(pairs) or 'none'}.",
    )


@styled
def subclass_tables(
    matchings: Mapping[str, Matching], class_names: Sequence[str], true_names: Sequence[str]
) -> Picture | Markdown:
    """Per entry a table of images: rows invented subclasses, columns true ones.

    Rows are named by class and number and, within their class, ordered by their partner; an empty
    row is a dead subclass. Where there are too many of either, the fullest cells as a table.
    """
    rows = max(len(m.counts) for m in matchings.values())
    if rows > 2 * MATRIX or len(true_names) > MATRIX:
        return _subclass_pairs(matchings, class_names, true_names)
    import seaborn as sns  # slow to import, and only figures like this one need it

    named, columns = written(class_names), written(true_names)
    upright = max(map(len, columns)) > 2  # too wide to stand side by side
    height = 0.9 + 0.25 * rows + 0.4 * upright
    figure = Figure(figsize=(0.7 + 3.4 * len(matchings), height), layout="constrained")
    axes = figure.subplots(1, len(matchings), squeeze=False)[0]
    alt = []
    for ax, (label, matching) in zip(axes, matchings.items(), strict=True):
        size = len(matching.counts) // len(class_names)
        order = by_partner(matching, len(class_names), len(true_names))
        counts = matching.counts[order]
        sns.heatmap(
            (counts / counts.sum(1, keepdim=True).clamp(min=1)).numpy(),
            annot=counts.numpy(),
            fmt="d",
            cmap="Blues",
            vmin=0,
            vmax=1,
            cbar=False,
            linewidths=0.5,
            annot_kws={"fontsize": 7},
            xticklabels=columns,
            yticklabels=[f"{named[i // size]} no. {i % size + 1}" for i in order],
            ax=ax,
        )
        for boundary in range(size, len(counts), size):
            ax.axhline(boundary, color="black", lw=1.2)
        ax.tick_params(axis="y", rotation=0)
        if upright:
            ax.tick_params(axis="x", rotation=90)
        ax.set_title(label, fontsize=9)
        ax.set_xlabel("true subclass")
        used = [
            f"{class_names[i // size]} no. {i % size + 1} holds "
            f"{counts[row].sum().item()} images, most often {true_names[counts[row].argmax()]}"
            for row, i in enumerate(order)
            if counts[row].any()
        ]
        alt.append(f"{label}: {'; '.join(used)}; {len(counts) - len(used)} hold none")
    axes[0].set_ylabel("invented subclass")
    return Picture(figure, f"Invented against true subclasses. {'. '.join(alt)}.")


def _subclass_pairs(
    matchings: Mapping[str, Matching], class_names: Sequence[str], true_names: Sequence[str]
) -> Markdown:
    tables = []
    for label, matching in matchings.items():
        size = len(matching.counts) // len(class_names)
        rows = [f"{name} no. {i + 1}" for name in class_names for i in range(size)]
        says = (
            f"**{label}**: {len(rows):,} invented by {len(true_names):,} true subclasses are too "
            "many for a matrix: these pairs share most images."
        )
        sides = ("invented subclass", rows), ("true subclass", true_names)
        tables.append(common_pairs(matching.counts, matching.counts.sum(1), *sides, says).data)
    return Markdown("\n\n".join(tables))


def by_partner(matching: Matching, classes: int, true_subclasses: int) -> list[int]:
    """The invented subclasses, class by class, and within a class in the order of their partners.

    Those without one come last.
    """
    order = torch.arange(len(matching.counts)).view(classes, -1)
    partner = matching.partner.where(matching.partner >= 0, true_subclasses).view(classes, -1)
    return order.gather(1, partner.argsort(1)).flatten().tolist()


@styled
def subclass_bars(
    image: Tensor,
    subclass_logits: Tensor,
    class_names: Sequence[str],
    label: int,
    temperature: float,
) -> Picture:
    """One image (1 or 3, H, W) uint8, its probabilities by class and by subclass at T.

    ``subclass_logits`` is (C·s,). A class's probability is the sum of its subclasses'. Of many
    classes the likeliest are shown, and the sum of the others.
    """
    size = len(subclass_logits) // len(class_names)
    p = F.softmax(subclass_logits.double() / temperature, 0)
    by_class, named = p.view(-1, size).sum(1), written(class_names)
    few = leading(by_class, [label], most=max(3, min(MOST, 2 * MATRIX // size)))
    colours = [PALETTE[c % len(PALETTE)] for c in few.rows]
    inches = (7.6, 2.6 + room_for(few.names(named)))
    figure = Figure(figsize=inches, layout="constrained")
    shown = few.of(by_class)
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 0.3 * len(shown), 2.6])
    show_image(left, image)
    left.set_title(_then("class", named[label]), fontsize=9)
    middle.bar(range(len(shown)), shown.numpy(), color=[*colours, GREY][: len(shown)])
    name_bars(middle, few.names(named))
    middle.set(ylim=(0, 1.05), ylabel=f"probability at T = {temperature:.3g}", xlabel="class")
    middle.set_title(f"{entropy_bits(by_class).item():.2f} bits", fontsize=9)
    every = few.subclasses(size)
    divided = p[every]
    right.bar(range(len(divided)), divided.numpy(), color=np.repeat(colours, size))
    right.set_xticks(range(len(divided)), [i % size + 1 for i in every])
    right.set(ylim=(0, 1.05), xlabel="invented subclass, class by class")
    right.set_title(f"{entropy_bits(p).item():.2f} bits", fontsize=9)
    return Picture(figure, subclass_words(subclass_logits, class_names, label, temperature))


def subclass_words(
    subclass_logits: Tensor, class_names: Sequence[str], label: int, temperature: float
) -> str:
    """What `subclass_bars` shows."""
    size = len(subclass_logits) // len(class_names)
    p = F.softmax(subclass_logits.double() / temperature, 0)
    by_class, top = p.view(-1, size).sum(1), int(p.argmax())
    few = leading(by_class, [label])
    shares = zip(few.names(class_names), few.of(by_class).tolist(), strict=True)
    return (
        f"An image of class {class_names[label]} at T = {temperature:.3g}: "
        + ", ".join(f"{n} {q:.3f}" for n, q in shares)
        + f", {entropy_bits(by_class).item():.2f} bits; of the subclasses no. {top % size + 1} of "
        f"{class_names[top // size]} has most with {p[top].item():.3f}, in all "
        f"{entropy_bits(p).item():.2f} bits."
    )


@styled
def gallery(columns: Mapping[str, Tensor]) -> Picture:
    """(N, 1 or 3, H, W) uint8 images in columns, each column under its caption.

    Of more than `COLUMNS` the first.
    """
    every, columns = len(columns), dict(list(columns.items())[:COLUMNS])
    rows = max(map(len, columns.values()))
    figure = Figure(figsize=(0.8 * len(columns), 0.45 + 0.72 * rows), layout="constrained")
    axes = figure.subplots(rows, len(columns), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for column, (caption, pictures) in enumerate(columns.items()):
        axes[0, column].set_title(textwrap.fill(caption, 12), fontsize=8)
        for ax, picture in zip(axes[:, column], pictures, strict=False):
            show_image(ax, picture)
    alt = "; ".join(f"{len(p)} of {caption}" for caption, p in columns.items())
    if every > len(columns):
        says = f"the first {len(columns)} of {every:,} subclasses"
        figure.suptitle(says, fontsize=9)
        alt = f"{says}: {alt}"
    return Picture(figure, f"Images by subclass: {alt}.")


@styled
def logit_map(
    panels: Mapping[str, Tensor],
    labels: Tensor,
    subclasses: Tensor,
    true_names: Sequence[str],
    drawn_as: str = "true subclass",
) -> Picture:
    """Per panel (N, 2) points, coloured by class, each drawn as the name of its true subclass.

    Where a name is longer than one character, the points are dots instead: the later a subclass
    among those of its class, the darker. ``labels`` (N,) and ``subclasses`` (N,) int64;
    ``drawn_as`` says what these are where they are something else. A key names the first.
    """
    named = not all(len(n) == 1 and n.isascii() and n.isalnum() for n in true_names)
    figure = Figure(figsize=(3.7 * len(panels) + 1.2 * named, 3.5), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    pairs = torch.stack([labels, subclasses], 1).unique(dim=0).tolist()
    names, points_of = written(true_names), {}
    for ax, (label, points) in zip(axes, panels.items(), strict=True):
        for c, subclass in sorted(pairs, key=lambda pair: pair[::-1]):
            chosen = points[(subclasses == subclass) & (labels == c)].numpy()
            colour = PALETTE[c % len(PALETTE)]
            if named:
                siblings = [s for d, s in pairs if d == c]
                depth = (siblings.index(subclass) + 1) / len(siblings)
                style = {"marker": "o", "s": 12, "lw": 0, "color": _tint(colour, depth)}
            else:
                style = {"marker": f"${true_names[subclass]}$", "s": 24, "lw": 0.2}
                style["color"] = colour
            points_of[subclass] = ax.scatter(*chosen.T, **style, label=names[subclass])
        ax.set_title(label, fontsize=9)
        ax.set(xticks=[], yticks=[])
    if named:
        keyed = list(points_of)[:KEYS]
        more = f"\n(the first {KEYS} of {len(points_of):,})" if len(points_of) > KEYS else ""
        figure.legend(
            [points_of[k] for k in keyed], [names[k] for k in keyed], loc="outside right center",
            title=f"{drawn_as}{more}", fontsize=8, title_fontsize=8, markerscale=1.6,
        )  # fmt: skip
    classes = len(labels.unique())
    drawn = "dots, darker from subclass to subclass," if named else f"their {drawn_as}"
    return Picture(
        figure,
        f"{len(labels)} images as points in two dimensions, drawn as {drawn} in the "
        f"colour of one of {classes} classes; panels: {', '.join(panels)}.",
    )


@styled
def reliability(calibrations: Mapping[str, Calibration], note: str = "") -> Picture:
    """Accuracy against confidence; on the diagonal, confidence is as good as its word."""
    figure = Figure(figsize=(4.4, 3.6), layout="constrained")
    ax = figure.subplots()
    ax.plot([0, 1], [0, 1], color=GREY, ls=":", label="perfectly calibrated")
    for (label, c), color, marker in zip(calibrations.items(), cycle(PALETTE), cycle(MARKERS)):
        confidence, accuracy = c.confidence.numpy(), c.accuracy.numpy()
        ax.plot(confidence, accuracy, color=color, lw=1)
        ax.scatter(
            confidence, accuracy, s=15 + 250 * c.share.numpy(), color=color, marker=marker,
            alpha=0.75, label=f"{label}: error {100 * c.error:.2f} %",
        )  # fmt: skip
    ax.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.03), ylim=(0, 1.03))
    ax.legend(fontsize=8, markerscale=0.6)
    ax.set_title(note, fontsize=8)
    return Picture(figure, reliability_words(calibrations) + (f" There is {note}." if note else ""))


def reliability_words(calibrations: Mapping[str, Calibration]) -> str:
    """What `reliability` shows."""
    alt = "; ".join(
        f"{label} has an expected calibration error of {100 * c.error:.2f} %"
        for label, c in calibrations.items()
    )
    return f"Reliability diagram, larger marks hold more images: {alt}."


@styled
def comparison(
    result: Comparison, baseline: str, guess: float | None = None, whose: str = "your guess"
) -> Picture:
    """Left: each seed's accuracy per method. Right: paired gains over ``baseline``.

    ``guess`` is a prediction of the last method's gain, in percentage points, and ``whose`` says
    whether it is the reader's. Of more than `METHODS` methods those with the highest means.
    """
    labels = list(result.labels)
    if len(labels) > METHODS:
        best = sorted(labels, key=lambda label: -result.mean(label).mean)[:METHODS]
        labels = [label for label in labels if label in (baseline, *best)]
    height = 1.3 + 0.42 * len(labels)
    figure = Figure(figsize=(8.6, height), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    alt = []
    for row, label in enumerate(labels):
        color, marker = PALETTE[row % len(PALETTE)], MARKERS[row % len(MARKERS)]
        values = 100 * result.accuracy(label).numpy()
        left.plot(values, np.full(len(values), row), marker, color=color, alpha=0.5, ms=5)
        mean = result.mean(label)
        _bar(left, mean, row, color, marker)
        alt.append(f"{label} {100 * mean.mean:.2f} %")
        if label != baseline:
            gain = result.gain(label, baseline)
            _bar(right, gain, row, color, marker)
            alt.append(
                f"its gain over {baseline} {100 * gain.mean:+.2f} points, interval "
                f"{100 * gain.low:+.2f} to {100 * gain.high:+.2f}"
            )
    left.set_yticks(range(len(labels)), written(labels, LABEL, "method"))
    left.set_ylim(len(labels) - 0.5, -0.5)
    left.set(xlabel="accuracy (%)")
    right.axvline(0, color=GREY, lw=1)
    right.set(xlabel=textwrap.fill(f"points over {baseline}", 36))
    says = "each seed, the mean over seeds and its 95 % interval"
    if len(labels) < len(result.labels):
        says += f"\nthe {METHODS} methods with the highest means, of {len(result.labels):,}"
        alt.append(says.splitlines()[1])
    figure.suptitle(says, fontsize=9)
    if guess is not None:
        right.axvline(guess, color=PALETTE[4], ls="--", lw=1.5, label=f"{whose}: {guess:+.1f}")
        right.legend(fontsize=8)
        alt.append(f"{whose} was {guess:+.1f} points")
    return Picture(figure, f"Comparison over {len(result.seeds)} seeds: {', '.join(alt)}.")


@styled
def sweep(
    values: Sequence[float],
    curves: Mapping[str, Sequence[Interval]],
    *,
    xlabel: str,
    ylabel: str,
    log: bool = False,
    baseline: Interval | None = None,
    baseline_label: str = "",
) -> Picture:
    """One curve with intervals per entry of ``curves`` over the swept ``values``; in percent."""
    figure = Figure(figsize=(6.4, 3.1), layout="constrained")
    ax = figure.subplots()
    alt = []
    if baseline is not None:
        ax.axhspan(100 * baseline.low, 100 * baseline.high, color=GREY, alpha=0.15, lw=0)
        ax.axhline(100 * baseline.mean, color=GREY, ls="--", lw=1, label=baseline_label)
        alt.append(f"{baseline_label} {100 * baseline.mean:.2f} %")
    for (label, intervals), color, marker in zip(curves.items(), cycle(PALETTE), cycle(MARKERS)):
        mean = np.array([100 * i.mean for i in intervals])
        low = np.array([100 * i.low for i in intervals])
        high = np.array([100 * i.high for i in intervals])
        ax.errorbar(
            values, mean, yerr=[mean - low, high - mean], color=color, marker=marker,
            capsize=3, label=label,
        )  # fmt: skip
        alt.append(
            f"{label}: "
            + ", ".join(f"{m:.2f} % at {v:g}" for v, m in zip(values, mean, strict=True))
        )
    if log:
        ax.set_xscale("log", base=2)
    each = -(-len(values) // MOST)  # so many that their numbers can be told apart
    ax.set_xticks(values[::each], [f"{v:g}" for v in values[::each]])
    ax.minorticks_off()
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend(fontsize=8)
    return Picture(figure, f"{ylabel} against {xlabel}. {'; '.join(alt)}.")


def name_bars(ax: Axes, names: Sequence[str]) -> None:
    """Write each name, as `written` gives it, under its bar; wide ones upright."""
    ax.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > WIDE else 0)


def room_for(names: Sequence[str]) -> float:
    """How much higher a figure must be, in inches, whose bars have these names."""
    longest = max(map(len, names))
    return 0.08 * (longest - WIDE) if longest > WIDE else 0.0


def _class_bars(ax: Axes, few: Leading, probabilities: Tensor, names: Sequence[str]) -> None:
    """Bars of (C,) probabilities: the likeliest class's stands out."""
    shown, top = few.of(probabilities).numpy(), int(probabilities.argmax())
    colors = [PALETTE[0] if c == top else PALETTE[1] for c in few.rows]
    ax.bar(range(len(shown)), shown, color=[*colors, GREY][: len(shown)])
    name_bars(ax, few.names(names))


def _then(words: str, name: str) -> str:
    """Words and a name: a long one below them."""
    return f"{words}{' ' if len(name) <= LONG else chr(10)}{name}"


def show_image(ax: Axes, picture: Tensor, faint: bool = False) -> None:
    """An image (1 or 3, H, W) uint8: one channel as ink on paper, three as colours."""
    alpha = 0.35 if faint else 1.0
    if len(picture) == 3:
        ax.imshow(picture.permute(1, 2, 0).numpy(), alpha=alpha)
    else:
        ax.imshow(picture[0].numpy(), cmap="gray_r", vmin=0, vmax=255, alpha=alpha)
    ax.axis("off")


def _tint(color: str, depth: float) -> tuple[float, float, float]:
    """A colour from pale (``depth`` near 0) to full (1)."""
    share = 0.25 + 0.75 * depth
    return tuple(share * channel + 1 - share for channel in to_rgb(color))


def _bar(ax: Axes, interval: Interval, row: int, color: str, marker: str) -> None:
    mean, low, high = (100 * v for v in (interval.mean, interval.low, interval.high))
    ax.errorbar(
        mean, row, xerr=[[mean - low], [high - mean]], color=color, marker=marker, ms=8, capsize=4
    )
