"""Costs of models, and the accuracy of students of each size."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice

from matplotlib.axes import Axes

from kdnb.course.figures.picture import GREY, PALETTE, Picture, bar_ends, looks, panels, styled
from kdnb.course.tables.costs import not_counted
from kdnb.evaluation.cost import Cost, Timing
from kdnb.evaluation.statistics import Interval
from kdnb.experiment.size_sweep import SizeResult

STEPS = 20  # of the budget's slider
# The units of a budget, and how much of each a model spends.
BUDGETS: dict[str, Callable[[Cost, Timing], float]] = {
    "MFLOPs per image": lambda cost, latency: max(cost.flops, 1) / 1e6,  # no logarithm of 0
    "thousand parameters": lambda cost, latency: cost.parameters / 1e3,
    "µs per image, one thread": lambda cost, latency: 1e6 * latency.median,
}


@styled
def cost_bars(costs: Mapping[str, Cost]) -> Picture:
    """Parameters and FLOPs per image, a bar for each model, the first orange, the next blue."""
    import seaborn as sns  # slow to import, and only figures like this one need it

    figure, axes = panels(7.6, 0.9 + 0.34 * len(costs), 2, sharey=True)
    labels, alt = list(costs), []
    palette = list(islice(cycle([PALETTE[1], PALETTE[0], *PALETTE[2:]]), len(labels)))
    quantities = {
        "million parameters": [c.parameters / 1e6 for c in costs.values()],
        "MFLOPs per image": [c.flops / 1e6 for c in costs.values()],
    }
    for ax, (name, values) in zip(axes, quantities.items(), strict=True):
        sns.barplot(x=values, y=labels, hue=labels, palette=palette, legend=False, ax=ax)
        for bars in ax.containers:
            ax.bar_label(bars, fmt="{:,.2f}", fontsize=8, padding=3)
        ax.set(xlabel=name, xlim=(0, 1.2 * (max(values) or 1)))
        said = [f"{k} {v:.2f}" for k, v in zip(labels, values, strict=True)]
        alt.append(f"{name}: {', '.join(said)}")
    return Picture(figure, f"Bar charts. {'; '.join(alt)}.{_under(axes[1], costs)}")


@styled
def size_sweep(
    sizes: Sequence[SizeResult], teacher: tuple[float, Interval] | None, by: str, chosen: str = "",
    budget: float | None = None,
) -> Picture:  # fmt: skip
    """Accuracy with intervals against one cost, a curve per method; rings mark the Pareto front.

    ``by`` is one of `BUDGETS`, ``teacher`` the teacher's cost and accuracy, ``budget`` a limit to
    draw and ``chosen`` the best student within this limit.
    """
    figure, ax = panels(6.8, 3.5)
    x, alt = [spent(size, by) for size in sizes], []
    for label, color, marker in looks(sizes[0].result.labels):
        mean, ends = bar_ends([size.result.mean(label) for size in sizes])
        ax.errorbar(x, mean, yerr=ends, capsize=3, label=label, color=color, marker=marker)
        said = [f"{size.name} {v:.1f} %" for size, v in zip(sizes, mean, strict=True)]
        alt.append(f"{label}: {', '.join(said)}")
    front = pareto_front(sizes, by)
    ax.plot(
        [spent(size, by) for size, _ in front], [100 * size.mean(label) for size, label in front],
        "o", ms=13, mfc="none", mec="black", label="Pareto front",
    )  # fmt: skip
    alt.append("Pareto front: " + ", ".join(f"{size.name} {label}" for size, label in front))
    if teacher:
        cost, accuracy = teacher
        mean, ends = bar_ends([accuracy])
        ax.errorbar(
            cost, mean, yerr=ends, color=GREY, marker="*", ms=12, capsize=3, lw=0, elinewidth=1,
            label="teacher",
        )  # fmt: skip
        alt.append(f"teacher {mean[0]:.1f} % at {cost:,.3g}")
        x.append(cost)
    left, right = 0.7 * min(x), 1.5 * max(x)
    if budget is not None:
        ax.axvspan(budget, right, color=GREY, alpha=0.18, lw=0, label="over budget")
        within = f"best within a budget of {budget:,.3g} {by}:"
        ax.set_title(f"{within}\n{chosen}", fontsize=9)
        alt.append(f"{within} {chosen}")
    ax.set(xscale="log", xlabel=by, ylabel="test accuracy (%)", xlim=(left, right))
    ax.legend(fontsize=8)
    note = _under(ax, {size.name: size.cost for size in sizes}) if "FLOPs" in by else ""
    return Picture(figure, f"Accuracy against {by}. {'; '.join(alt)}.{note}")


def spent(size: SizeResult, by: str) -> float:
    """A student's cost in a unit of `BUDGETS`."""
    return BUDGETS[by](size.cost, size.latency)


def pareto_front(sizes: Sequence[SizeResult], by: str) -> list[tuple[SizeResult, str]]:
    """The (size, method) pairs with a higher mean than all pairs that cost no more, by cost."""
    offers = [(size, label) for size in sizes for label in size.result.labels]
    offers.sort(key=lambda offer: (spent(offer[0], by), -offer[0].mean(offer[1])))
    front: list[tuple[SizeResult, str]] = []
    for size, label in offers:
        if not front or size.mean(label) > front[-1][0].mean(front[-1][1]):
            front.append((size, label))
    return front


def best_within(sizes: Sequence[SizeResult], by: str, budget: int) -> tuple[SizeResult, str, float]:
    """The (size, method) with the best validation accuracy within a budget, and the limit.

    Of equally good ones the cheapest. ``budget`` 0 pays for the cheapest student, `STEPS` for all.
    """
    costs = [spent(size, by) for size in sizes]
    limit = min(costs) * (max(costs) / min(costs)) ** (budget / STEPS) * 1.001
    affordable = [size for size in sizes if spent(size, by) <= limit]
    offers = [(size, label) for size in affordable for label in size.result.labels]
    return *max(offers, key=lambda o: (validated(*o), -spent(o[0], by))), limit


def validated(size: SizeResult, label: str) -> float:
    """The mean validation accuracy of a method over seeds; test images choose no size."""
    runs = size.result.runs[label]
    return sum(run.history.val_accuracy or 0 for run in runs) / len(runs)


def _under(ax: Axes, costs: Mapping[str, Cost]) -> str:
    """Write the operations not counted under an axis of FLOPs; the same for the alt text."""
    sentence = not_counted(costs).replace("`", "")
    if not sentence:
        return ""
    lines = textwrap.wrap(sentence, 50)
    ax.set_xlabel("\n".join([ax.get_xlabel(), *lines]), fontsize=8)
    ax.figure.set_figheight(ax.figure.get_figheight() + 0.14 * len(lines))
    return f" {sentence}"
