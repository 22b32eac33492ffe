"""The fullest cells of a table that is too large to be drawn."""

from collections.abc import Sequence

from IPython.display import Markdown
from torch import Tensor

from kdnb.course.text import in_table, percent

PAIRS = 20


def common_pairs(
    counts: Tensor,
    totals: Tensor,
    rows: tuple[str, Sequence[str]],
    columns: tuple[str, Sequence[str]],
    says: str,
) -> Markdown:
    """The `PAIRS` largest of (R, C) counts: row, column, number and its share of ``totals`` (R,).

    ``rows`` and ``columns`` are what they are called, and the name of each; ``says`` stands above.
    """
    row, column = counts.nonzero(as_tuple=True)
    found = counts[row, column]
    order = found.argsort(descending=True, stable=True)[:PAIRS]
    lines = [
        f"| {rows[0]} | {columns[0]} | images | share of this row's |",
        "| --- | --- | --- | --- |",
    ]
    for r, c, n in zip(*(t[order].tolist() for t in (row, column, found)), strict=True):
        names = in_table(rows[1][r]), in_table(columns[1][c])
        lines.append(f"| {names[0]} | {names[1]} | {n:,} | {percent(n / totals[r].item(), 1)} |")
    more = len(found) - len(order)
    left = f"\n\n{more:,} other pairs are not listed." if more else ""
    return Markdown(f"{says}\n\n" + "\n".join(lines) + left)
