"""Diagrams drawn by code: inline SVG whose ink is that of the text around it.

Words and lines are in ``currentColor``, so a diagram is right in the light and the dark page, in
JupyterLab's themes and in print. Colours are those of `INKS`, which stand out from both papers.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from math import atan2, cos, pi, sin

import ipywidgets
from torch import Tensor

from kdnb.course.figures.picture import png_url
from kdnb.course.report.protocol import COMPONENT, DIAGRAM, THIS_DATA, live_kernel

# At least 3:1 against the page, light and dark; static/page/base.js has the same.
BLUE, ORANGE, GREEN = INKS = ("#0173b2", "#c27c0e", "#029e73")


@dataclass(frozen=True)
class Steps:
    """What a diagram's ``<g class="step">`` groups are: a ``name`` for all and one for each.

    ``rest`` says what the still shows. At a step, its group is shown alone, or with ``faint``
    before the others.
    """

    name: str
    names: Sequence[str]
    rest: str = "all steps"
    faint: bool = False


class Diagram:
    """SVG elements ``parts`` in a box of CSS pixels, and their text alternative.

    The diagram is a still that shows everything at once. With ``steps``, the page adds a slider
    and a button that go through the parts made by `step`; in a live notebook a frame does the same.
    ``of_data`` marks a result of this run, under which a report names the data.
    """

    def __init__(
        self, width: int, height: int, parts: Sequence[str], alt: str, steps: Steps | None = None,
        *, of_data: bool = False,
    ):  # fmt: skip
        self.alt, self.steps, self.of_data = alt, steps, of_data
        self.svg = (
            f'{DIAGRAM} viewBox="0 0 {width} {height}" role="img" '
            f'aria-label="{escape(alt)}" font-family="sans-serif" font-size="14" '
            f'fill="currentColor" style="--legible:{_legible(width, parts):.0f}px;width:100%;'
            f'max-width:{width}px;height:auto">{"".join(parts)}</svg>'
        )

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple:
        shown = {"text/html": self.svg, "text/plain": self.alt}
        about = {"text/html": {THIS_DATA: True}} if self.of_data else {}
        if not self.steps:
            return shown, about
        # Not above: the package `kdnb.course.interactive` draws diagrams.
        from kdnb.course.interactive.components import frame
        from kdnb.course.interactive.widgets import Live

        component = {"component": "steps", **asdict(self.steps)}
        if not live_kernel():
            return {**shown, COMPONENT: component}, about
        made = frame(component, self.steps.name, self.svg)
        box = ipywidgets.HTML(made, layout={"width": "100%"})
        return Live(box, shown, about)._repr_mimebundle_()


def step(parts: Sequence[str], *, hidden: bool = False) -> str:
    """One of a diagram's steps; a ``hidden`` one is not in the still."""
    hide = ' display="none"' if hidden else ""
    return f'<g class="step"{hide}>{"".join(parts)}</g>'


def words(
    x: float, y: float, text: str, anchor: str = "middle", *, size: float = 14, bold: bool = False
) -> str:
    """A line of text with its base line at ``y``; the text may come from data."""
    weight = ' font-weight="700"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size:g}"{weight}>'
        f"{escape(text)}</text>"
    )


def box(
    x: float, y: float, width: float, height: float, ink: str = "currentColor", *,
    fill: float = 0, dashed: bool = False, rounded: float = 6,
) -> str:  # fmt: skip
    """A rectangle with an outline, and inside the same ink with the opacity ``fill``."""
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{rounded:g}" '
        f'fill="{ink}" fill-opacity="{fill:g}" stroke="{ink}" stroke-width="1.5"{dash}/>'
    )


def line(
    points: Sequence[tuple[float, float]], ink: str = "currentColor", *, width: float = 1.5,
    dashed: bool = False, opacity: float = 1,
) -> str:  # fmt: skip
    """A line through points (x, y)."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    return (
        f'<polyline points="{path}" fill="none" stroke="{ink}" stroke-width="{width:g}" '
        f'stroke-opacity="{opacity:g}"{dash}/>'
    )


def arrow(points: Sequence[tuple[float, float]], ink: str = "currentColor", **look: object) -> str:
    """A line through points (x, y) with a head at the last of them."""
    (x0, y0), (x, y) = points[-2:]
    turn, length = atan2(y - y0, x - x0), 8
    wings = [
        (x - length * cos(turn + side), y - length * sin(turn + side)) for side in (pi / 7, -pi / 7)
    ]
    head = " ".join(f"{a:.1f},{b:.1f}" for a, b in ((x, y), *wings))
    # The line ends inside its head, whose tip stays sharp.
    end = (x - 0.7 * length * cos(turn), y - 0.7 * length * sin(turn))
    return line([*points[:-1], end], ink, **look) + f'<polygon points="{head}" fill="{ink}"/>'


def picture(x: float, y: float, size: float, image: Tensor) -> str:
    """An image (1 or 3, H, W) uint8 as a square; the diagram's text alternative is its own."""
    return (
        f'<image x="{x:.1f}" y="{y:.1f}" width="{size:g}" height="{size:g}" '
        f'href="{png_url(image)}" style="image-rendering:pixelated"/>'
        + box(x, y, size, size, rounded=0)
    )


def _legible(width: float, parts: Sequence[str]) -> float:
    """The width at which the smallest letters have 11 pixels; below it a page scrolls sideways."""
    sizes = re.findall(r'font-size="([\d.]+)"', "".join(parts))
    return width * 11 / min(map(float, sizes), default=14)
