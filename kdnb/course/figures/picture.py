"""A figure as a picture with a text alternative, in the course's style."""

import base64
import html
import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from itertools import cycle
from threading import RLock

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from kdnb.course.labels import give_fonts
from kdnb.course.report.protocol import live_kernel
from kdnb.evaluation.statistics import Interval

# seaborn's "colorblind" palette, in an order that also differs in lightness
PALETTE = ["#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#56b4e9"]
GREY = "#6b6b6b"
MARKERS = "osD^vPX*"
FAR = 0.6  # of the axis: rows behind such a gap are marked at its edge
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
    """A figure and its text alternative, displayed as a PNG with this text.

    In a live notebook it is HTML with a PNG inside: JupyterLab drops the text of a bare PNG.
    """

    def __init__(self, figure: Figure, alt: str):
        self.alt = alt
        self.png = _png(figure)
        self.width = round(figure.get_figwidth() * 96)  # CSS pixels

    @property
    def source(self) -> str:
        """The picture as the source of an HTML image."""
        return _png_url(self.png)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple:
        if live_kernel():  # there an image of type PNG would be shown without its words
            return {"text/html": image_tag(self), "text/plain": self.alt}, {"text/html": {}}
        data = {"image/png": self.png, "text/plain": self.alt}
        return data, {"image/png": {"alt": self.alt, "width": self.width}}


def image_tag(picture: Picture) -> str:
    """A picture as HTML that needs no other file."""
    return (
        f'<img src="{picture.source}" width="{picture.width}" '
        f'style="max-width:100%;height:auto" alt="{html.escape(picture.alt)}">'
    )


def png_url(picture: Tensor | Image.Image, **options: object) -> str:
    """An image (1 or 3, H, W) uint8 as the source of an HTML image; one channel as ink on paper.

    A Pillow image works too; ``options`` are Pillow's for PNG.
    """
    if isinstance(picture, Tensor):
        grey = len(picture) == 1
        pixels = 255 - picture[0] if grey else picture.permute(1, 2, 0)
        picture = Image.fromarray(pixels.numpy())
    return _png_url(_bytes_of(picture, optimize=True, **options))


def _png_url(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def _bytes_of(picture: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="png", **options)
    return buffer.getvalue()


def _png(figure: Figure) -> bytes:
    """The figure in 256 colours, a third of the bytes; in all colours if it shows photographs.

    A chart has a dozen hues and looks the same in 256 colours; stained tissue would not.
    """
    canvas = FigureCanvasAgg(figure)
    figure.set(dpi=DOTS_PER_INCH, facecolor="white")
    with course_style():
        give_fonts(figure)
        canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    if not any(np.ndim(shown.get_array()) == 3 for ax in figure.axes for shown in ax.images):
        image = image.quantize(256, dither=Image.Dither.NONE)
    return _bytes_of(image, optimize=not live_kernel())  # 7 % smaller


@contextmanager
def course_style() -> Iterator[None]:
    """Matplotlib's defaults and the course's settings, whatever the reader's ``matplotlibrc`` says.

    After the block the reader's settings apply again.
    """
    with DRAWING, style.context(["default", STYLE]):
        yield


def styled(plot: Callable[..., Picture]) -> Callable[..., Picture]:
    """Draw in the course's style without changing matplotlib's settings elsewhere."""

    @wraps(plot)
    def wrapper(*args: object, **kwargs: object) -> Picture:
        with course_style():
            return plot(*args, **kwargs)

    return wrapper


def panels(width: float, height: float, columns: int = 1, **options: object) -> tuple:
    """A figure of this size in inches, and its axes side by side: one, or an array."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns, **options)


def looks(labels: Iterable) -> Iterator[tuple]:
    """Each item with a colour and a marker, distinct as long as the palette lasts."""
    return zip(labels, cycle(PALETTE), cycle(MARKERS))


def bar_ends(intervals: Sequence[Interval], scale: float = 100) -> tuple:
    """Means (N,) and, for ``errorbar``, the intervals' lengths below and above the means (2, N)."""
    mean = scale * np.array([i.mean for i in intervals])
    low, high = (scale * np.array([getattr(i, end) for i in intervals]) for end in ("low", "high"))
    return mean, np.stack([mean - low, high - mean])


def key_of_intervals(figure: Figure, *, over: str, seeds: bool = False) -> None:
    """A key under a figure: a mark with its interval over what, and the marks of single seeds."""
    ax = figure.axes[0]
    nowhere = ([math.nan], [math.nan])
    entries = {
        f"mean, 95 % interval over {over}": ax.errorbar(
            *nowhere, xerr=[1], color=GREY, marker="o", capsize=4
        )
    }
    if seeds:
        (entries["one seed"],) = ax.plot(*nowhere, "o", color=GREY, alpha=0.5, ms=5)
    figure.legend(entries.values(), entries, loc="outside lower center", ncols=2, fontsize=8)


def name_rows(ax: Axes, names: Sequence[str], **options: object) -> None:
    """Write the names of rows, the first at the top."""
    rows = max(1, len(names))
    ax.set_yticks(range(len(names)), names, **options)
    ax.set_ylim(rows - 0.5, -0.5)


def far_below(values: Sequence[float]) -> int:
    """How many of at least four ascending values a chart marks at the edge of its axis.

    At most a third, such as constant predictions, below a gap of `FAR` of the whole span.
    """
    for count in range(len(values) // 3 if len(values) > 3 else 0, 0, -1):
        if values[count] - values[count - 1] > FAR * (values[-1] - values[0]):
            return count
    return 0
