"""All comparisons of a chapter in one chart: each with its interval and its verdict."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kdnb.course.diagrams.axes import SMALL, Axis, dot
from kdnb.course.diagrams.diagram import BLUE, ORANGE, Diagram, line, words
from kdnb.course.labels import shortened
from kdnb.course.text import verdict
from kdnb.evaluation.statistics import Interval

WIDTH, ROW, LETTERS = 440, 36, 36  # CSS pixels, and letters of a row's name
INK = {1: BLUE, 0: "currentColor", -1: ORANGE}


@dataclass(frozen=True)
class Section:
    """Comparisons in one ``unit`` on one axis: gains by group and row, times ``scale``."""

    unit: str
    groups: Mapping[str, Mapping[str, Interval]]
    scale: float = 1
    digits: int = 3

    @property
    def gains(self) -> list[Interval]:
        """All gains in order."""
        return [gain for group in self.groups.values() for gain in group.values()]

    def said(self, gain: Interval) -> str:
        """A gain with its interval, in the section's unit."""
        mean, low, high = (
            f"{self.scale * value:+.{self.digits}f}" for value in (gain.mean, gain.low, gain.high)
        )
        return f"{mean} ({low} to {high})"


def forest(sections: Sequence[Section]) -> Diagram:
    """A row for each comparison: filled where it is claimed (Holm-adjusted), hollow where not."""
    parts = [
        dot(8, 12, 5, BLUE), words(18, 17, "a gain", "start", size=SMALL),
        dot(78, 12, 5, ORANGE), words(88, 17, "a loss", "start", size=SMALL),
        dot(148, 12, 5, "currentColor", filled=False),
        words(158, 17, "not distinguishable (Holm-adjusted)", "start", size=SMALL),
    ]  # fmt: skip
    y = 30
    for section in filter(lambda section: section.gains, sections):
        ends = [section.scale * end for gain in section.gains for end in (gain.low, gain.high)]
        axis = Axis.over([0.0, *ends], 6, WIDTH - 6)
        for text in textwrap.wrap(section.unit, 56):
            y += 18
            parts.append(words(0, y, text, "start", bold=True))
        for title, group in section.groups.items():
            y += 10
            for text in textwrap.wrap(title, 60):
                y += 18
                parts.append(words(0, y, text, "start", size=13, bold=True))
            names = shortened(list(group), LETTERS)
            for name, gain in zip(names, group.values(), strict=True):
                y += ROW
                parts += _row(axis, section, name, gain, y)
        y += 14
        parts += axis.below(y, y - 4)
        y += 30
    return Diagram(WIDTH, y, parts, _words(sections), of_data=True)


def counts(sections: Sequence[Section]) -> str:
    """A sentence with the numbers of gains, losses and undecided comparisons."""
    signs = [gain.sign for section in sections for gain in section.gains]
    return (
        f"Of {len(signs)} comparisons, {signs.count(1)} show a gain and {signs.count(-1)} a loss; "
        f"{signs.count(0)} are not distinguishable from 0 (Holm-adjusted)."
    )


def _words(sections: Sequence[Section]) -> str:
    every = [
        f"{section.unit}, {title}, {name}: {section.said(gain)}, {verdict(gain).lower()}"
        for section in sections
        for title, group in section.groups.items()
        for name, gain in group.items()
    ]
    return f"{counts(sections)} {'; '.join(every)}."


def _row(axis: Axis, section: Section, name: str, gain: Interval, y: float) -> list[str]:
    """A comparison's name and numbers, and below them its interval beside a stroke at 0."""
    ink = INK[gain.sign]
    low, mean, high = (axis.at(section.scale * v) for v in (gain.low, gain.mean, gain.high))
    return [
        words(0, y - 9, name, "start", size=13),
        words(WIDTH, y - 9, section.said(gain), "end", size=SMALL),
        line([(axis.at(0), y - 5), (axis.at(0), y + 9)]),
        line([(low, y + 2), (high, y + 2)], ink, width=2),
        dot(mean, y + 2, 5, ink, filled=gain.sign != 0),
    ]
