"""A table as a chart: a row of dots with intervals for each column of numbers.

The chart is drawn from the text of the table's cells, so the two cannot disagree.
"""

import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import floor, log10

from kdnb.course.diagrams.diagram import BLUE, Diagram, line, words
from kdnb.course.figures.picture import far_below

NUMBER = r"[+-]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)"
VALUE = re.compile(rf"({NUMBER})(?: ?(%|[a-zA-Zµ][\w/µ]*))?(?: \((.*)\))?")
RANGE = re.compile(rf"({NUMBER})(?: %)?(?: to |–)({NUMBER})(?: %)?")
SEEDS = re.compile(rf"{NUMBER}(?:, {NUMBER})+(?: and [\d,]+ more)?(?: of \d+)?")
WIDTH, MOST, GAP = 800, 4, 26  # pixels; panels side by side; pixels between them
LETTER = 6.4  # pixels, of 13-pixel letters
STEEP = 50  # times the smallest value: an axis to a larger one is logarithmic


@dataclass(frozen=True)
class Mark:
    """A cell: a number with its unit and ends, or one number for each seed, or both."""

    value: float | None = None
    unit: str = ""
    ends: tuple[float, ...] = ()
    seeds: tuple[float, ...] = ()
    signed: bool = False

    @property
    def reach(self) -> tuple[float, ...]:
        """All numbers that must be on the axis."""
        return (*(() if self.value is None else (self.value,)), *self.ends, *self.seeds)

    def __str__(self) -> str:
        def said(numbers: Sequence[float], between: str) -> str:
            return between.join(f"{v:{'+' if self.signed else ''},.10g}" for v in numbers)

        value = "" if self.value is None else said([self.value], "")
        ends = f"({said(self.ends, ' to ')})" if self.ends else ""
        return " ".join(filter(None, [value, self.unit, ends, said(self.seeds, ", ")]))


@dataclass(frozen=True)
class Column:
    """A column of numbers; None where a cell has none."""

    title: str
    marks: Sequence[Mark | None]

    @property
    def filled(self) -> list[Mark]:
        """The marks that there are."""
        return [mark for mark in self.marks if mark]


def table_chart(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Diagram | None:
    """The numbers of a table as dots, a panel for each column; None of a table without numbers.

    The columns before the first numbers name the rows. A column of intervals belongs to the numbers
    before it. Columns of words, and of one number throughout, are left to the table.
    """
    labels, columns = read(head, rows)
    if not columns:
        return None
    names = [textwrap.wrap(label, 38)[:3] or [""] for label in labels]
    left = LETTER * max(len(part) for name in names for part in name) + 14
    rows_at, below = [], 0.0  # middles of the rows, and the end of the last
    for name in names:
        height = 5 + 15 * len(name)
        rows_at.append(below + height / 2)
        below += height
    bands = -(-len(columns) // MOST)
    across = -(-len(columns) // bands)
    width = min((WIDTH - left - GAP * (across - 1)) / across, 400)
    parts, top = [], 0.0
    for start in range(0, len(columns), across):
        shown = columns[start : start + across]
        titles = [textwrap.wrap(_titled(column), int(width / LETTER))[:4] for column in shown]
        top += 16 * max(map(len, titles)) + 4
        for name, middle in zip(names, rows_at, strict=True):
            for i, part in enumerate(name):
                y = top + middle + 4 + 15 * (i - (len(name) - 1) / 2)
                parts.append(words(0, y, part, "start", size=13))
        for i, (column, title) in enumerate(zip(shown, titles, strict=True)):
            x = left + i * (width + GAP)
            for k, part in enumerate(reversed(title)):
                parts.append(words(x, top - 7 - 16 * k, part, "start", size=13, bold=True))
            parts += _panel(column, x, width, top, rows_at, top + below)
        top += below + 34
    used = int(left + across * (width + GAP) - GAP + 16)
    key = _key(columns, top + 6)
    return Diagram(used, int(top + (18 if key else -8)), parts + key, _alt(labels, columns))


def read(head: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[list[str], list[Column]]:
    """The names of a table's rows, and its columns of numbers."""
    columns: list[Column] = []
    naming = [0]
    for i in range(1, len(head)):
        cells = [row[i] for row in rows]
        marks = [_mark(cell) for cell in cells]
        ends = [RANGE.fullmatch(cell) for cell in cells]
        if columns and _all(cells, RANGE.fullmatch):
            _join(columns, [{"ends": _ends(found)} if found else {} for found in ends])
        elif columns and head[i] == "per seed":
            _join(columns, [{"seeds": mark.seeds} if mark else {} for mark in marks])
        elif not _all(cells, _mark):
            naming += [i] * (not columns)
        elif len({mark.reach for mark in marks if mark}) > 1 or sum(map(bool, marks)) == 1:
            columns.append(Column(re.sub(r" \(95 %.*\)$", "", head[i]), marks))
    return [": ".join(row[i] for i in naming) for row in rows], columns


def _join(columns: list[Column], more: Sequence[dict]) -> None:
    """Give the marks of the last column what the next one says of the same numbers."""
    last = columns.pop()
    pairs = zip(last.marks, more, strict=True)
    columns.append(Column(last.title, [mark and replace(mark, **each) for mark, each in pairs]))


def _all(cells: Sequence[str], holds: Callable[[str], object]) -> bool:
    """Whether this holds of all cells with a digit, and there is one."""
    numbers = [cell for cell in cells if re.search(r"\d", cell)]
    return bool(numbers) and all(holds(cell) for cell in numbers)


def _mark(cell: str) -> Mark | None:
    if SEEDS.fullmatch(cell):
        each = cell.split(" of ")[0].split(" and ")[0].split(", ")
        return Mark(seeds=tuple(map(_number, each)), signed=cell[0] in "+-")
    if not (found := VALUE.fullmatch(cell)):
        return None
    value, unit, inside = found.groups()
    ends = RANGE.search(inside or "")
    ends = _ends(ends) if ends else ()
    return Mark(_number(value), unit or "", ends, signed=cell[0] in "+-")


def _number(text: str) -> float:
    return float(text.replace(",", ""))


def _ends(found: re.Match) -> tuple[float, float]:
    return _number(found[1]), _number(found[2])


def _titled(column: Column) -> str:
    units = {mark.unit for mark in column.filled} - {""}
    unit = units.pop() if len(units) == 1 else ""
    return f"{column.title} ({unit})" if unit and unit not in column.title else column.title


def _panel(
    column: Column, x: float, width: float, top: float, rows: Sequence[float], bottom: float
) -> list[str]:
    """The axis of a column and its marks, from ``x`` to the right; ``rows`` are below ``top``."""
    far = _far(column)
    reach = [v for mark in column.filled if mark not in far for v in mark.reach]
    signed = any(mark.signed for mark in column.filled)
    low, high = min(reach + [0.0] * signed), max(reach + [0.0] * signed)
    log = low > 0 and high / low > STEEP
    scale = log10 if log else float
    start, end = scale(low), scale(high)
    room = 0.08 * (end - start) or abs(end) or 1.0
    start, end = start - room, end + room

    def at(value: float) -> float:
        return x + width * (scale(value) - start) / (end - start)

    ticks = _ticks(start, end, log)
    grid = "".join(f"M{at(tick):.1f} {top:.1f}V{bottom + 4:.1f}" for tick in ticks)
    parts = [
        f'<path d="M{x:.1f} {bottom:.1f}h{width:.1f}{grid}" stroke="currentColor" opacity=".3"/>',
        *(words(at(tick), bottom + 18, f"{tick:,.6g}", size=12) for tick in ticks),
    ]
    if signed:
        parts.append(line([(at(0), top), (at(0), bottom)], width=1.5, dashed=True))
    for middle, mark in zip(rows, column.marks, strict=True):
        y = top + middle
        if mark in far:
            parts.append(f'<path class="far" d="M{x:.1f} {y:.1f}l9 -5v10z" fill="{BLUE}"/>')
            parts.append(words(x + 14, y + 4, f"{mark.value:,.10g}", "start", size=12))
        elif mark:
            parts += _dots(mark, at, y)
    return parts


def _dots(mark: Mark, at: Callable[[float], float], y: float) -> list[str]:
    parts = []
    if mark.ends:
        low, high = map(at, mark.ends)
        path = f"M{low:.1f} {y:.1f}H{high:.1f}m0 -4v8M{low:.1f} {y - 4:.1f}v8"
        parts.append(f'<path d="{path}" stroke="{BLUE}" stroke-width="2"/>')
    for seed in mark.seeds:
        look = f'r="4.5" fill="{BLUE}" fill-opacity="0.25" stroke="{BLUE}"'
        parts.append(f'<circle class="seed" cx="{at(seed):.1f}" cy="{y:.1f}" {look}/>')
    if mark.value is not None:
        look = f'r="4.5" fill="{BLUE}"'
        parts.append(f'<circle cx="{at(mark.value):.1f}" cy="{y:.1f}" {look}/>')
    return parts


def _far(column: Column) -> list[Mark]:
    """Rows far below all others: they would compress the rest."""
    marks = [mark for mark in column.filled if mark.value is not None and not mark.signed]
    if len(marks) < len(column.filled):
        return []
    marks.sort(key=lambda mark: mark.value)
    return marks[: far_below([mark.value for mark in marks])]


def _ticks(start: float, end: float, log: bool) -> list[float]:
    """Two to four round numbers; of a logarithmic axis powers of ten, ``start`` being a power."""
    if log:
        powers = range(floor(start) + 1, floor(end) + 1)
        return [10.0**power for power in powers if (power - floor(end)) % -(-len(powers) // 4) == 0]
    rough = (end - start) / 3.5
    power = 10.0 ** floor(log10(rough))
    step = power * next(m for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.9)
    first = -(-start // step)
    ticks = [step * (first + i) for i in range(int(end // step - first) + 1)]
    return ticks[::2] if max(abs(start), abs(end)) >= 1e4 else ticks  # wide names


def _key(columns: Sequence[Column], y: float) -> list[str]:
    marks = [mark for column in columns for mark in column.filled]
    entries = []
    if any(mark.ends for mark in marks):
        entries.append(("value with its interval", Mark(0, ends=(-1, 1))))
    if any(mark.seeds for mark in marks):
        entries.append(("each seed", Mark(seeds=(-0.4, 0.4))))
    parts, x = [], 0.0
    for name, mark in entries:
        parts += _dots(mark, lambda value, x=x: x + 14 + 13 * value, y)
        parts.append(words(x + 34, y + 4, name, "start", size=13))
        x += 60 + LETTER * len(name)
    if any(_far(column) for column in columns):
        parts.append(f'<path d="M{x:.1f} {y:.1f}l9 -5v10z" fill="{BLUE}"/>')
        parts.append(words(x + 15, y + 4, "left of the axis", "start", size=13))
    return parts


def _alt(labels: Sequence[str], columns: Sequence[Column]) -> str:
    said = []
    for column in columns:
        pairs = zip(labels, column.marks, strict=True)
        each = [f"{label} {mark}" for label, mark in pairs if mark]
        said.append(f"{column.title}: {'; '.join(each)}")
    return f"Chart of the table's numbers. {'. '.join(said)}."
