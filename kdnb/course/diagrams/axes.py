"""Axes of diagrams that are charts."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

from kdnb.course.diagrams.diagram import line, words

SMALL = 12  # pixels of a letter at an axis


@dataclass(frozen=True)
class Axis:
    """A linear scale from the values ``low`` to ``high`` to the pixels ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float) -> "Axis":
        """An axis that shows all values and a little more."""
        low, high = min(values), max(values)
        more = 0.04 * (high - low) or 0.5
        return cls(low - more, high + more, start, end)

    def at(self, value: float) -> float:
        """The pixel of a value."""
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)

    def ticks(self, most: int = 5) -> list[float]:
        """Round values within the axis."""
        found = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
        return [float(value) for value in found if self.low <= value <= self.high]

    def below(self, y: float, top: float, name: str = "", most: int = 5) -> list[str]:
        """The axis at the height ``y``, its grid up to ``top``, and its name."""
        parts = [line([(self.start, y), (self.end, y)])]
        for value in self.ticks(most):
            x = self.at(value)
            parts.append(line([(x, y), (x, top)], width=1, opacity=0.15))
            parts.append(words(x, y + 15, f"{value:g}", size=SMALL))
        return [*parts, words((self.start + self.end) / 2, y + 31, name, size=SMALL)]


def dot(x: float, y: float, radius: float, ink: str, *, filled: bool = True) -> str:
    """A round mark, or a ring."""
    look = f'fill="{ink}"' if filled else 'fill="none"'
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" {look} stroke="{ink}" '
        'stroke-width="1.5"/>'
    )
