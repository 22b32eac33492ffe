"""Drawings for sliders: SVG built in a millisecond, where matplotlib takes hundreds."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

# seaborn's "colorblind" palette, in an order that also differs in lightness
PALETTE = ["#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#56b4e9"]
GREY = "#6b6b6b"
GRID = "#e4e4e4"
WIDE = 5  # letters: a longer name does not fit under a bar
HALVES = [(0.0, "0"), (0.5, "0.5"), (1.0, "1")]  # ticks of a probability


def data_url(kind: str, content: bytes) -> str:
    """A picture as the source of an HTML image."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


class Drawing:
    """SVG elements ``parts`` on a white canvas in CSS pixels, and their text alternative."""

    def __init__(self, width: int, height: int, parts: Sequence[str], alt: str):
        self.width, self.alt = width, alt
        self.svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">'
            f'<rect width="{width}" height="{height}" fill="white"/>{"".join(parts)}</svg>'
        )

    @property
    def source(self) -> str:
        """The drawing as the source of an HTML image."""
        return data_url("svg+xml", self.svg.encode())


@dataclass(frozen=True)
class Frame:
    """The frame of a chart: a box in pixels, and the values at its edges."""

    x: float
    y: float
    width: float
    height: float
    left: float
    right: float
    bottom: float
    top: float

    @property
    def end(self) -> float:
        """The right edge in pixels."""
        return self.x + self.width

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The position of the values ``x`` and ``y`` in pixels."""
        across = (x - self.left) / ((self.right - self.left) or 1)
        up = (y - self.bottom) / ((self.top - self.bottom) or 1)
        return self.x + self.width * across, self.y + self.height * (1 - up)

    def grid(self, ticks: Sequence[tuple[float, str]], title: str) -> list[str]:
        """A line with its name for each of the ``ticks`` (value, name), and a title above."""
        parts = [text(self.x, self.y - 10, title, "start")]
        for value, name in ticks:
            y = self.at(self.left, value)[1]
            parts.append(
                f'<line x1="{self.x:.1f}" y1="{y:.1f}" x2="{self.end:.1f}" y2="{y:.1f}" '
                f'stroke="{GRID}"/>'
            )
            parts.append(text(self.x - 5, y + 4, name, "end"))
        return parts

    def below(self, places: Sequence[tuple[float, str]]) -> list[str]:
        """Names under the chart, each at its value; slanted if one is long."""
        under, slant = self.y + self.height + 16, room_below([name for _, name in places]) > 0
        return [text(self.at(x, 0)[0], under, name, slant=slant) for x, name in places]

    def curve(self, points: Sequence[tuple[float, float]], color: str, dash: str = "") -> list[str]:
        """A line through points (x, y)."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in points))
        return [
            f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.8" '
            f'stroke-dasharray="{dash}"/>'
        ]

    def mark(self, x: float, y: float, radius: float, color: str, fill: str = "none") -> str:
        """A circle around a point."""
        cx, cy = self.at(x, y)
        return (
            f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="{radius:.1f}" fill="{fill}" '
            f'fill-opacity="0.7" stroke="{color}"/>'
        )

    def bars(
        self, values: Sequence[float], fill: Callable[[int], str] | None, share: tuple = (0, 1)
    ) -> list[str]:
        """Bars at 0, 1, 2 and so on; with ``share`` (k, n), each is the k-th of n side by side.

        Without ``fill``, bars are dotted outlines.
        """
        place, among = share
        parts = []
        for i, value in enumerate(values):
            x0, y0 = self.at(i - 0.4 + 0.8 * place / among, max(value, 0))
            x1, y1 = self.at(i - 0.4 + 0.8 * (place + 1) / among, min(value, 0))
            dotted = f'fill="none" stroke="{GREY}" stroke-dasharray="3 2"'
            look = f'fill="{fill(i)}"' if fill else dotted
            parts.append(
                f'<rect x="{x0:.1f}" y="{y0:.2f}" width="{x1 - x0:.1f}" height="{y1 - y0:.2f}" '
                f"{look}/>"
            )
        return parts


def room_below(names: Sequence[str]) -> int:
    """The height, in pixels, that these names need under a chart."""
    longest = max(map(len, names))
    return 0 if longest <= WIDE else round(4.6 * longest)


def text(x: float, y: float, words: str, anchor: str = "middle", *, slant: bool = False) -> str:
    """Words at a point in pixels, or slanted up to the point; they may come from data."""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{"end" if slant else anchor}"'
    if slant:
        place += f' transform="rotate(-35 {x:.1f} {y:.1f})"'
    return f"<text {place}>{escape(words)}</text>"


def key(x: float, y: float, entries: Sequence[tuple[str, str]]) -> list[str]:
    """A legend in one line from pairs (colour, words)."""
    parts = []
    for color, words in entries:
        parts.append(f'<rect x="{x:.1f}" y="{y - 9:.1f}" width="10" height="10" fill="{color}"/>')
        parts.append(text(x + 15, y, words, "start"))
        x += 30 + 6.6 * len(words)
    return parts
