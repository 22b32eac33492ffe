"""Counts of images by two kinds of class: a matrix, or a table of the largest cells."""

from collections.abc import Mapping, Sequence

import torch
from IPython.display import Markdown
from matplotlib.axes import Axes
from torch import Tensor

from kdnb.course.figures.classes import WIDE
from kdnb.course.figures.picture import Picture, panels, styled
from kdnb.course.figures.top_classes import MATRIX
from kdnb.course.labels import written
from kdnb.course.text import markdown_table, percent
from kdnb.evaluation.metrics import Matching

PAIRS = 20  # rows of a table of cells


@styled
def confusion_matrix(counts: Tensor, class_names: Sequence[str]) -> Picture | Markdown:
    """(C, C) counts, rows true and columns predicted; only errors are coloured.

    With more than `MATRIX` classes, a table of the most frequent errors.
    """
    wrong = counts.clone().fill_diagonal_(0)
    right, images, classes = counts.diag().sum().item(), counts.sum().item(), len(counts)
    if classes > MATRIX:
        says = (
            f"{right:,} of {images:,} images are classified correctly. {classes:,} classes are too "
            "many for a matrix, so this table lists the most frequent errors."
        )
        sides = ("true", class_names), ("predicted", class_names)
        return Markdown(_common_pairs(wrong, counts.sum(1), *sides, says))
    side, named = 0.26 * classes, written(class_names)
    figure, ax = panels(max(4.6, side + 1.7), max(3.9, side + 1))
    upright = max(map(len, named)) > WIDE
    _heatmap(ax, wrong, counts, named, named, upright, 8, cmap="Oranges", square=True)
    ax.set(xlabel="predicted", ylabel="true")
    worst = wrong.flatten().topk(min(3, wrong.numel()))
    pairs = [
        f"{class_names[i // classes]} predicted as {class_names[i % classes]} ({n} times)"
        for i, n in zip(worst.indices.tolist(), worst.values.tolist(), strict=True)
        if n
    ]
    return Picture(
        figure,
        f"Confusion matrix: {right} of {images} images classified correctly. "
        f"Most frequent errors: {'; '.join(pairs) or 'none'}.",
    )


@styled
def subclass_tables(
    matchings: Mapping[str, Matching], class_names: Sequence[str], true_names: Sequence[str]
) -> Picture | Markdown:
    """For each entry a matrix of images: rows are invented subclasses, columns true ones.

    Rows are named by class and number and, within a class, ordered by their partner; an empty row
    is a dead subclass. Where there are too many of either, a table of the largest cells.
    """
    rows = max(len(m.counts) for m in matchings.values())
    if rows > 2 * MATRIX or len(true_names) > MATRIX:
        tables = [_subclass_pairs(k, m, class_names, true_names) for k, m in matchings.items()]
        return Markdown("\n\n".join(tables))
    named, columns = written(class_names), written(true_names)
    upright = max(map(len, columns)) > 2  # too wide for horizontal labels
    size = 0.7 + 3.4 * len(matchings), 0.9 + 0.25 * rows + 0.4 * upright
    figure, axes = panels(*size, len(matchings), squeeze=False)
    alt = []
    for ax, (label, matching) in zip(axes[0], matchings.items(), strict=True):
        order = by_partner(matching, len(class_names), len(true_names))
        names, counts = numbered(named, matching), matching.counts[order]
        shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
        _heatmap(ax, shares, counts, columns, [names[i] for i in order], upright, 7,
                 cmap="Blues", vmin=0, vmax=1)  # fmt: skip
        size = len(counts) // len(class_names)
        for boundary in range(size, len(counts), size):
            ax.axhline(boundary, color="black", lw=1.2)
        ax.set_title(label, fontsize=9)
        ax.set_xlabel("true subclass")
        names = numbered(class_names, matching)
        used = [
            f"{names[i]} has {row.sum().item()} images, most often {true_names[row.argmax()]}"
            for i, row in zip(order, counts, strict=True)
            if row.any()
        ]
        alt.append(f"{label}: {'; '.join(used)}; {len(counts) - len(used)} have none")
    axes[0, 0].set_ylabel("invented subclass")
    return Picture(figure, f"Images by invented and true subclasses. {'. '.join(alt)}.")


def by_partner(matching: Matching, classes: int, true_subclasses: int) -> list[int]:
    """The invented subclasses, class by class, and within a class in the order of their partners.

    A subclass without a partner comes last.
    """
    order = torch.arange(len(matching.counts)).view(classes, -1)
    partner = matching.partner.where(matching.partner >= 0, true_subclasses).view(classes, -1)
    return order.gather(1, partner.argsort(1)).flatten().tolist()


def numbered(class_names: Sequence[str], matching: Matching) -> list[str]:
    """Names of the invented subclasses: the class and a number within the class."""
    size = len(matching.counts) // len(class_names)
    return [f"{name} no. {i + 1}" for name in class_names for i in range(size)]


def _subclass_pairs(
    label: str, matching: Matching, class_names: Sequence[str], true_names: Sequence[str]
) -> str:
    rows = numbered(class_names, matching)
    says = (
        f"**{label}**: {len(rows):,} invented by {len(true_names):,} true subclasses are too many "
        "for a matrix, so this table lists the pairs with the most images."
    )
    sides = ("invented subclass", rows), ("true subclass", true_names)
    return _common_pairs(matching.counts, matching.counts.sum(1), *sides, says)


def _common_pairs(
    counts: Tensor, totals: Tensor, rows: tuple[str, Sequence[str]],
    columns: tuple[str, Sequence[str]], says: str,
) -> str:  # fmt: skip
    """The `PAIRS` largest of (R, C) counts: row, column, count and its share of ``totals`` (R,).

    ``rows`` and ``columns`` are a heading and the names; ``says`` is the text above the table.
    """
    row, column = counts.nonzero(as_tuple=True)
    order = counts[row, column].argsort(descending=True, stable=True)[:PAIRS]
    cells = [
        [rows[1][r], columns[1][c], f"{counts[r, c].item():,}",
         percent((counts[r, c] / totals[r]).item(), 1)]
        for r, c in zip(row[order].tolist(), column[order].tolist(), strict=True)
    ]  # fmt: skip
    table = markdown_table([rows[0], columns[0], "images", "share of row"], cells)
    more = len(row) - len(order)
    left = f"\n\n{more:,} other pairs are not listed." if more else ""
    return f"{says}\n\n{table}{left}"


def _heatmap(
    ax: Axes, values: Tensor, counts: Tensor, columns: Sequence[str], rows: Sequence[str],
    upright: bool, letters: float, **options: object,
) -> None:  # fmt: skip
    """Cells coloured by their values, the counts written in them in ``letters`` points."""
    import seaborn as sns  # slow to import, and only figures like this one need it

    sns.heatmap(
        values.numpy(), annot=counts.numpy(), fmt="d", cbar=False, linewidths=0.5,
        annot_kws={"fontsize": letters}, xticklabels=columns, yticklabels=rows, ax=ax, **options,
    )  # fmt: skip
    ax.tick_params(axis="y", rotation=0)
    if upright:
        ax.tick_params(axis="x", rotation=90)
