"""Drawings of a training under way: SVG built in a millisecond, where matplotlib takes hundreds."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

# seaborn's "colorblind" palette, in an order that also differs in lightness
PALETTE = ["#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#56b4e9"]
GREY = "#6b6b6b"
GRID = "#e4e4e4"


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
        """Names under the chart, each at its value."""
        under = self.y + self.height + 16
        return [text(self.at(x, 0)[0], under, name) for x, name in places]

    def curve(self, points: Sequence[tuple[float, float]], color: str) -> list[str]:
        """A line through points (x, y)."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in points))
        return [f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.8"/>']

    def mark(self, x: float, y: float, radius: float, color: str, fill: str = "none") -> str:
        """A circle around a point."""
        cx, cy = self.at(x, y)
        return (
            f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="{radius:.1f}" fill="{fill}" '
            f'fill-opacity="0.7" stroke="{color}"/>'
        )


def text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    """Words at a point in pixels; they may come from data."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def key(x: float, y: float, entries: Sequence[tuple[str, str]]) -> list[str]:
    """A legend in one line from pairs (colour, words)."""
    parts = []
    for color, words in entries:
        parts.append(f'<rect x="{x:.1f}" y="{y - 9:.1f}" width="10" height="10" fill="{color}"/>')
        parts.append(text(x + 15, y, words, "start"))
        x += 30 + 6.6 * len(words)
    return parts
