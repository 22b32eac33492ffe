"""Images of a dataset, in a grid and as points of a map."""

import textwrap
from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from torch import Tensor

from kdnb.course.figures.picture import PALETTE, Picture, panels, styled
from kdnb.course.labels import written

COLUMNS = 20  # of a gallery
KEYS = 16  # in the key of a map
FAINT = 0.35  # opacity of an image under a map


def show_image(ax: Axes, picture: Tensor, faint: bool = False) -> None:
    """An image (1 or 3, H, W) uint8: one channel as ink on paper, three as colours."""
    alpha = FAINT if faint else 1.0
    if len(picture) == 3:
        ax.imshow(picture.permute(1, 2, 0).numpy(), alpha=alpha)
    else:
        ax.imshow(picture[0].numpy(), cmap="gray_r", vmin=0, vmax=255, alpha=alpha)
    ax.axis("off")


def _grid(rows: int, columns: int, width: float, height: float) -> tuple:
    """A figure of this size in inches, and empty axes for images in rows."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    return figure, axes


@styled
def images(pictures: Tensor, captions: Sequence[str]) -> Picture:
    """(N, 1, H, W) grey or (N, 3, H, W) colour uint8 images with a caption above each.

    Images more than 64 pixels wide are drawn twice as large, at most 5 in a row; others 10.
    """
    scale, most = (2, 5) if pictures.shape[-1] > 64 else (1, 10)
    columns = min(most, len(pictures))
    rows = -(-len(pictures) // columns)
    figure, axes = _grid(rows, columns, 0.85 * scale * columns, (0.85 * scale + 0.27) * rows)
    for ax, picture, caption in zip(axes.flat, pictures, captions, strict=False):
        show_image(ax, picture)
        lines = [line for row in caption.split("\n") for line in textwrap.wrap(row, 15 * scale)]
        ax.set_title("\n".join(lines), fontsize=8 if max(map(len, lines), default=0) < 14 else 6.5)
    return Picture(figure, f"{len(pictures)} images: {'; '.join(captions)}.")


@styled
def gallery(columns: Mapping[str, Tensor]) -> Picture:
    """(N, 1 or 3, H, W) uint8 images in columns, each column under its caption.

    Only the first `COLUMNS` are shown.
    """
    every, columns = len(columns), dict(list(columns.items())[:COLUMNS])
    rows = max(map(len, columns.values()))
    figure, axes = _grid(rows, len(columns), 0.8 * len(columns), 0.45 + 0.72 * rows)
    for column, (caption, pictures) in enumerate(columns.items()):
        axes[0, column].set_title(textwrap.fill(caption, 12), fontsize=8)
        for ax, picture in zip(axes[:, column], pictures, strict=False):
            show_image(ax, picture)
    alt = "; ".join(f"{len(p)} of {caption}" for caption, p in columns.items())
    if every > len(columns):
        says = f"first {len(columns)} of {every:,} subclasses"
        figure.suptitle(says, fontsize=9)
        alt = f"{says}: {alt}"
    return Picture(figure, f"Images by subclass: {alt}.")


@styled
def logit_map(
    columns: Mapping[str, Tensor], labels: Tensor, subclasses: Tensor, true_names: Sequence[str],
    drawn_as: str = "true subclass", class_names: Sequence[str] = (),
) -> Picture:  # fmt: skip
    """Per column (N, 2) points, coloured by class, each drawn as the name of its true subclass.

    A key names the first `KEYS` of the ``class_names``.

    If a name is longer than one character, points are dots instead, darker for each further
    subclass of a class, and a key names the first `KEYS`. ``labels`` (N,) and ``subclasses`` (N,)
    are int64; ``drawn_as`` names what the subclasses are.
    """
    named = not all(len(n) == 1 and n.isascii() and n.isalnum() for n in true_names)
    size = 3.7 * len(columns) + 1.2, 3.5
    figure, axes = panels(*size, len(columns), squeeze=False)
    pairs = torch.stack([labels, subclasses], 1).unique(dim=0).tolist()
    names, points_of = written(true_names), {}
    for ax, (label, points) in zip(axes[0], columns.items(), strict=True):
        for c, subclass in sorted(pairs, key=lambda pair: pair[::-1]):
            chosen = points[(subclasses == subclass) & (labels == c)].numpy()
            colour = PALETTE[c % len(PALETTE)]
            if named:
                siblings = [s for d, s in pairs if d == c]
                depth = (siblings.index(subclass) + 1) / len(siblings)
                style = {"marker": "o", "s": 12, "lw": 0, "color": _tint(colour, depth)}
            else:
                style = {"marker": f"${true_names[subclass]}$", "s": 24, "lw": 0.2, "color": colour}
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
    elif class_names:
        key = [Patch(color=PALETTE[c % len(PALETTE)], label=name)
               for c, name in enumerate(written(class_names)[:KEYS])]  # fmt: skip
        key.append(Line2D([], [], lw=0, color="black", marker=f"${true_names[0]}$", label=drawn_as))
        figure.legend(
            handles=key, loc="outside right center", title="class", fontsize=8, title_fontsize=8
        )
    drawn = "dots, darker for each further subclass," if named else f"their {drawn_as}"
    return Picture(
        figure,
        f"{len(labels)} images as points in two dimensions, drawn as {drawn} in the colour of one "
        f"of {len(labels.unique())} classes; panels: {', '.join(columns)}.",
    )


def _tint(color: str, depth: float) -> tuple[float, float, float]:
    """A colour from pale (``depth`` near 0) to full (1)."""
    share = 0.25 + 0.75 * depth
    return tuple(share * channel + 1 - share for channel in to_rgb(color))
