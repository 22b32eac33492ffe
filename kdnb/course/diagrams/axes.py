"""Axes of diagrams that are charts."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from matplotlib.ticker import MaxNLocator

from kdnb.course.diagrams.diagram import line, words

SMALL = 12  # pixels of a letter at an axis


@dataclass(frozen=True)
class Axis:
    """A scale from the values ``low`` to ``high`` to the pixels ``start`` to ``end``.

    With ``log``, ``low`` and ``high`` are the values' logarithms to base 10.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float, log: bool = False) -> "Axis":
        """An axis that shows all values and a little more."""
        scale = log10 if log else float
        low, high = scale(min(values)), scale(max(values))
        more = 0.04 * (high - low) or 0.5
        return cls(low - more, high + more, start, end, log)

    def at(self, value: float) -> float:
        """The pixel of a value."""
        value = log10(value) if self.log else value
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)

    def ticks(self, most: int = 5) -> list[float]:
        """Round values within the axis."""
        low, high = (10**end if self.log else end for end in (self.low, self.high))
        if self.log and high > 10 * low:
            digits = (1, 2, 5) if high < 300 * low else (1,)
            powers = range(floor(self.low), ceil(self.high))
            found = [digit * 10.0**power for power in powers for digit in digits]
        else:
            found = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        return [float(value) for value in found if low <= value <= high]

    def below(self, y: float, top: float, name: str = "", ticks: Sequence[float] = ()) -> list[str]:
        """The axis at the height ``y``, its grid up to ``top``, and its name."""
        parts = [line([(self.start, y), (self.end, y)])]
        for value in ticks or self.ticks():
            x = self.at(value)
            parts.append(line([(x, y), (x, top)], width=1, opacity=0.15))
            parts.append(words(x, y + 15, f"{value:g}", size=SMALL))
        return [*parts, words((self.start + self.end) / 2, y + 31, name, size=SMALL)]

    def beside(self, x: float, right: float, name: str, ticks: Sequence[float] = ()) -> list[str]:
        """The upright axis at ``x``: its grid up to ``right``, and its name above."""
        parts = [words(x - 34, self.end - 8, name, "start", size=SMALL)]
        for value in ticks or self.ticks():
            y = self.at(value)
            parts.append(line([(x, y), (right, y)], width=1, opacity=0.15))
            parts.append(words(x - 6, y + 4, f"{value:g}", "end", size=SMALL))
        return parts


def dot(x: float, y: float, radius: float, ink: str, *, filled: bool = True) -> str:
    """A round mark, or a ring."""
    look = f'fill="{ink}"' if filled else 'fill="none"'
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" {look} stroke="{ink}" '
        'stroke-width="1.5"/>'
    )
