"""Sweeps to explore by hand: what a loss makes of subclasses, what a budget buys."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import ipywidgets
import torch

from kdnb.course.figures.costs import BUDGETS, STEPS, best_within, size_sweep, spent, validated
from kdnb.course.figures.matrices import by_partner, numbered, subclass_tables
from kdnb.course.figures.picture import Picture
from kdnb.course.interactive.widgets import Live, dropdown, explorer
from kdnb.course.report.protocol import OTHER_DATA
from kdnb.course.text import percent
from kdnb.evaluation.metrics import Matching
from kdnb.evaluation.statistics import Interval, mean_interval
from kdnb.experiment.size_sweep import SizeResult


def sweep_explorer(path: Path) -> Live:
    """What ``report/reference/subclass_sweep.py`` found, by loss, number of subclasses and weight.

    The picture is the first seed's table of invented against true subclasses, the numbers above it
    are those of all seeds.
    """
    record = json.loads(path.read_text(encoding="utf-8"))
    cells = {(c["loss"], c["subclasses"], c["weight"]): c for c in record["cells"]}
    losses, sizes, weights = (list(dict.fromkeys(values)) for values in zip(*cells, strict=True))
    names, true_names = record["class_names"], record["subclass_names"]
    slider = ipywidgets.SelectionSlider
    controls = {
        "loss": dropdown("loss", "which loss divides", losses, losses[-1]),
        "subclasses": dropdown(
            "subclasses", "invented subclasses per class", sizes, sizes[1], kind=slider
        ),
        "weight": dropdown("weight", "weight of that loss", weights, weights[2], kind=slider),
    }

    def matching_of(cell: dict) -> Matching:
        first = cell["teachers"][0]
        counts, partner = torch.tensor(first["counts"]), torch.tensor(first["partner"])
        return Matching(counts, partner, first["recovered"])

    @cache  # they are few, and slow to draw
    def draw(loss: str, subclasses: int, weight: float) -> Picture:
        cell = cells[loss, subclasses, weight]
        return subclass_tables({"\n".join(_says(cell)): matching_of(cell)}, names, true_names)

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
    live = explorer("sweep", controls, draw, data)
    for about in live.metadata.values():
        about[OTHER_DATA] = True  # these runs were made beforehand, on digits
    return live


def _says(cell: dict) -> list[str]:
    """One setting, and what came of it over all seeds."""
    live = ", ".join(str(t["live"]) for t in cell["teachers"])
    recovered = mean_interval([t["recovered"] for t in cell["teachers"]])
    student = mean_interval(cell["students"])
    return [
        f"{cell['loss']}, weight {cell['weight']:g}",
        f"alive per seed: {live} of {len(cell['teachers'][0]['counts'])}",
        f"recovered: {100 * recovered.mean:.0f} % "
        f"({100 * recovered.low:.0f} to {100 * recovered.high:.0f})",
        f"subclass student: {100 * student.mean:.1f} % "
        f"({100 * student.low:.1f} to {100 * student.high:.1f})",
    ]


def budget_explorer(
    sizes: Sequence[SizeResult], teacher_costs: Mapping[str, float], accuracy: Interval
) -> Live:
    """What a device with a given budget would get: a slider over each cost of `BUDGETS`."""

    def draw(by: str, budget: int) -> Picture:
        size, label, limit = best_within(sizes, by, budget)
        chosen = f"{size.name}, {label}: {percent(size.mean(label), 1)}"
        return size_sweep(sizes, (teacher_costs[by], accuracy), by, chosen, limit)

    controls = {
        "by": dropdown("budget in", "what is scarce", list(BUDGETS)),
        "budget": ipywidgets.IntSlider(
            value=STEPS // 2, min=0, max=STEPS, description="budget", readout=False,
            tooltip="from what the cheapest student needs to what the dearest needs",
        ),
    }  # fmt: skip

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
    return explorer("size_sweep", controls, draw, data)
