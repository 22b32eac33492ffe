"""Sweeps to explore: subclasses by auxiliary loss, and the best student within a budget."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from kdnb.course.figures.costs import BUDGETS, STEPS, best_within, size_sweep, spent, validated
from kdnb.course.figures.matrices import by_partner, numbered, subclass_tables
from kdnb.course.interactive.widgets import Live, explorer
from kdnb.course.report.protocol import OTHER_DATA
from kdnb.course.text import percent
from kdnb.evaluation.metrics import Matching
from kdnb.evaluation.statistics import Interval, mean_interval
from kdnb.experiment.size_sweep import SizeResult


def sweep_explorer(path: Path) -> Live:
    """Results of ``report/reference/subclass_sweep.py`` by loss, number of subclasses and weight.

    The picture is the first seed's matrix of invented and true subclasses; the numbers above it
    cover all seeds.
    """
    record = json.loads(path.read_text(encoding="utf-8"))
    cells = {(c["loss"], c["subclasses"], c["weight"]): c for c in record["cells"]}
    losses, sizes, weights = (list(dict.fromkeys(values)) for values in zip(*cells, strict=True))
    names, true_names = record["class_names"], record["subclass_names"]

    def matching_of(cell: dict) -> Matching:
        first = cell["teachers"][0]
        counts, partner = torch.tensor(first["counts"]), torch.tensor(first["partner"])
        return Matching(counts, partner, first["recovered"])

    def rows(matching: Matching) -> list[tuple[str, list[int]]]:
        called, order = numbered(names, matching), by_partner(matching, len(names), len(true_names))
        return [(called[i], matching.counts[i].tolist()) for i in order]

    data = {
        "losses": losses,
        "sizes": sizes,
        "weights": weights,
        "names": true_names,
        "cells": [
            {"loss": loss, "subclasses": size, "weight": weight,
             "says": "; ".join(_says(cell)) + ".", "rows": rows(matching_of(cell))}
            for (loss, size, weight), cell in cells.items()
        ],
    }  # fmt: skip
    first = cells[losses[-1], sizes[1], weights[2]]  # where the page's controls rest
    rest = subclass_tables({"\n".join(_says(first)): matching_of(first)}, names, true_names)
    live = explorer("sweep", data, rest, "Subclasses by loss, number and weight")
    for about in live.metadata.values():
        about[OTHER_DATA] = True  # these runs were made beforehand, on digits
    return live


def _says(cell: dict) -> list[str]:
    """One setting and its results over all seeds."""
    live = ", ".join(str(t["live"]) for t in cell["teachers"])
    recovered = mean_interval([t["recovered"] for t in cell["teachers"]])
    student = mean_interval(cell["students"])
    return [
        f"{cell['loss']}, weight {cell['weight']:g}",
        f"live subclasses per seed: {live} of {len(cell['teachers'][0]['counts'])}",
        f"recovered: {100 * recovered.mean:.0f} % "
        f"({100 * recovered.low:.0f} to {100 * recovered.high:.0f})",
        f"subclass student: {100 * student.mean:.1f} % "
        f"({100 * student.low:.1f} to {100 * student.high:.1f})",
    ]


def budget_explorer(
    sizes: Sequence[SizeResult], teacher_costs: Mapping[str, float], accuracy: Interval
) -> Live:
    """The best student within a device's budget: a slider over each cost of `BUDGETS`."""

    def in_percent(share: Interval) -> tuple[float, float, float]:
        return 100 * share.mean, 100 * share.low, 100 * share.high

    data = {
        "steps": STEPS,
        "sizes": [size.name for size in sizes],
        "budgets": [
            {"name": by, "spends": [spent(s, by) for s in sizes], "teacher": teacher_costs[by]}
            for by in BUDGETS
        ],
        "methods": [
            {"name": m, "intervals": [in_percent(s.result.mean(m)) for s in sizes],
             "validated": [validated(s, m) for s in sizes]}
            for m in sizes[0].result.labels
        ],
        "teacher": dict(zip(("y", "low", "high"), in_percent(accuracy), strict=True)),
    }  # fmt: skip
    by, middle = next(iter(BUDGETS)), STEPS // 2  # where the page's controls rest
    size, label, limit = best_within(sizes, by, middle)
    chosen = f"{size.name}, {label}: {percent(size.mean(label), 1)}"
    rest = size_sweep(sizes, (teacher_costs[by], accuracy), by, chosen, limit)
    return explorer("size_sweep", data, rest, "The best student within a budget")
