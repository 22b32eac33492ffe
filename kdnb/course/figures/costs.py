"""How costs, and what a student of each size gains from its teacher, are shown."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import ipywidgets
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdnb.course.figures.plots import GREY, MARKERS, PALETTE, Picture, styled
from kdnb.course.interactive.widgets import Live, explorer
from kdnb.course.report.protocol import RESULTS
from kdnb.course.text import percent, points
from kdnb.evaluation.cost import Cost, Timing
from kdnb.evaluation.statistics import Interval, mean_interval
from kdnb.experiment.size_sweep import SizeResult

STEPS = 20  # of the budget's slider
# What a budget may limit: its unit, and how much of it a model spends.
BUDGETS: dict[str, Callable[[Cost, Timing], float]] = {
    "MFLOPs per image": lambda cost, latency: max(cost.flops, 1) / 1e6,  # no logarithm of 0
    "thousand parameters": lambda cost, latency: cost.parameters / 1e3,
    "µs per image, one thread": lambda cost, latency: 1e6 * latency.median,
}


def not_counted(costs: Mapping[str, Cost]) -> str:
    """A sentence that names the operations which no count includes; empty where there are none."""
    labels: dict[tuple[str, ...], list[str]] = {}
    for label, cost in costs.items():
        if cost.uncounted:
            labels.setdefault(cost.uncounted, []).append(label)
    if not labels:
        return ""
    named = "; ".join(
        f"{', '.join(f'`{name}`' for name in names)} ({', '.join(where)})"
        for names, where in labels.items()
    )
    return f"Not counted: {named}, so FLOPs and multiply-adds there are lower limits."


def fewer_flops(big: Cost, small: Cost) -> str:
    """How many times fewer FLOPs one model takes than another, as far as they are counted."""
    if not small.flops:
        return "no FLOPs that are counted"
    counted = "counted " if big.uncounted or small.uncounted else ""
    return f"{big.flops / small.flops:.1f} times fewer {counted}FLOPs"


class CostTable:
    """What each model costs, for the reader and for whoever collects results."""

    def __init__(
        self, costs: Mapping[str, Cost], timings: Mapping[str, Sequence[Timing]],
        joules: Mapping[str, float | None], image_shape: tuple[int, ...],
    ):  # fmt: skip
        self.costs, self.timings, self.joules = costs, timings, joules
        self.image_shape = image_shape

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict:
        table = self._markdown()
        data = {
            "image_shape": list(self.image_shape),
            "cost": {label: asdict(cost) for label, cost in self.costs.items()},
            "timing": {label: [asdict(t) for t in each] for label, each in self.timings.items()},
            "joules_per_image": dict(self.joules),
        }
        return {"text/markdown": table, "text/plain": table, RESULTS: data}

    def _markdown(self) -> str:
        height, width = self.image_shape[1:]
        first = next(iter(self.timings.values()))
        rows = [
            f"| one image of {height} × {width} | parameters | MFLOPs | million multiply-adds "
            "| the same by thop | MB on disk | peak activations, kB |",
            "| --- " * 7 + "|",
        ]
        for label, cost in self.costs.items():
            rows.append(
                f"| {label} | {cost.parameters:,} | {cost.flops / 1e6:,.2f} "
                f"| {cost.macs / 1e6:,.2f} | {_by_thop(cost)} "
                f"| {cost.stored_bytes / 1e6:.2f} | {cost.activation_bytes / 1e3:,.0f} |"
            )
        columns = [f"batch of {t.batch}, {_where(t)}" for t in first]
        rows += ["", f"| measured here | {' | '.join(columns)} | mJ per image |"]
        rows.append("| --- " * (2 + len(columns)) + "|")
        for label, each in self.timings.items():
            cells = [_time(t) for t in each]
            joules = self.joules[label]
            cells.append("not shown" if joules is None else f"{1000 * joules:.2f}")
            rows.append(f"| {label} | {' | '.join(cells)} |")
        rows += [
            "",
            "Times are medians, with quartiles in brackets. Energy is that of the whole processor, "
            "where the machine lets it be read.",
            *_below(self.costs),
        ]
        return "\n".join(rows)


def counts_compared(costs: Mapping[str, Cost]) -> Markdown:
    """Why thop and kdnb count different numbers of multiply-adds, model by model."""
    lines = []
    for label, cost in costs.items():
        if cost.thop_macs is None:
            lines.append(f"- {label}: kdnb counts {cost.macs:,}; thop fails ({cost.thop_failure}).")
            continue
        difference = cost.thop_macs - cost.macs
        kinds = ", ".join(f"{kind} {ops / 1e6:,.2f}" for kind, ops in cost.thop_extra.items())
        if not difference:
            lines.append(f"- {label}: both count {cost.macs:,}.")
        elif difference == sum(cost.thop_extra.values()):
            lines.append(
                f"- {label}: thop counts {difference / 1e6:,.2f} million more, all of them "
                f"operations of layers without products of weights ({kinds})."
            )
        else:
            lines.append(
                f"- {label}: thop counts {cost.thop_macs:,} and kdnb {cost.macs:,}. thop's layers "
                f"other than convolutions and dense ones, in millions ({kinds or 'none'}), do not "
                "explain the difference. thop counts nothing where it has no rule for a layer, as "
                "for attention: **trust neither** before you have counted by hand."
            )
    return Markdown("\n".join([*lines, *_below(costs)]))


@styled
def cost_bars(costs: Mapping[str, Cost]) -> Picture:
    """Parameters on the left and FLOPs per image on the right, a bar for each model."""
    import seaborn as sns  # slow to import, and only figures like this one need it

    figure = Figure(figsize=(7.6, 0.9 + 0.34 * len(costs)), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    labels, alt = list(costs), []
    quantities = {
        "million parameters": [c.parameters / 1e6 for c in costs.values()],
        "MFLOPs per image": [c.flops / 1e6 for c in costs.values()],
    }
    for ax, (name, values) in zip(axes, quantities.items(), strict=True):
        sns.barplot(
            x=values,
            y=labels,
            hue=labels,
            palette=[PALETTE[i % len(PALETTE)] for i in range(len(labels))],
            legend=False,
            ax=ax,
        )
        for bars in ax.containers:
            ax.bar_label(bars, fmt="{:,.2f}", fontsize=8, padding=3)
        ax.set(xlabel=name, xlim=(0, 1.2 * (max(values) or 1)))
        alt.append(
            f"{name}: {', '.join(f'{k} {v:.2f}' for k, v in zip(labels, values, strict=True))}"
        )
    return Picture(figure, f"Bars. {'; '.join(alt)}.{_under(axes[1], costs)}")


@styled
def ladder(
    rungs: Sequence[SizeResult], teacher: tuple[float, Interval] | None, by: str, chosen: str = "",
    budget: float | None = None,
) -> Picture:  # fmt: skip
    """Accuracy with intervals against one cost, a curve per method; rings mark the Pareto front.

    ``by`` is one of `BUDGETS`, ``teacher`` its own cost and accuracy, ``budget`` a limit to draw
    and ``chosen`` the rung that is picked under it.
    """
    figure = Figure(figsize=(6.8, 3.5), layout="constrained")
    ax = figure.subplots()
    labels = list(rungs[0].scores)
    x = [_spends(rung, by) for rung in rungs]
    alt = []
    for row, label in enumerate(labels):
        means = [mean_interval(rung.scores[label]) for rung in rungs]
        style = {
            "color": PALETTE[row % len(PALETTE)],
            "marker": MARKERS[row % len(MARKERS)],
        }
        y = [100 * m.mean for m in means]
        errors = [[100 * (m.mean - m.low) for m in means], [100 * (m.high - m.mean) for m in means]]
        ax.errorbar(x, y, yerr=errors, capsize=3, label=label, **style)
        alt.append(f"{label}: " + ", ".join(
            f"{r.name} {v:.1f} %" for r, v in zip(rungs, y, strict=True)))  # fmt: skip
    front = pareto_front(rungs, by)
    ax.plot(
        [_spends(rung, by) for rung, _ in front], [100 * rung.mean(label) for rung, label in front],
        "o", ms=13, mfc="none", mec="black", label="Pareto front",
    )  # fmt: skip
    alt.append("Pareto front: " + ", ".join(f"{rung.name} {label}" for rung, label in front))
    ends = [*x, *([teacher[0]] if teacher else [])]
    left, right = 0.7 * min(ends), 1.5 * max(ends)
    if teacher:
        cost, accuracy = teacher
        mean, low, high = _percents(accuracy)
        ax.errorbar(
            cost, mean, yerr=[[mean - low], [high - mean]], color=GREY, marker="*", ms=12,
            capsize=3, lw=0, elinewidth=1, label="teacher",
        )  # fmt: skip
        alt.append(f"teacher {mean:.1f} % at {cost:,.3g}")
    if budget is not None:
        ax.axvspan(budget, right, color=GREY, alpha=0.18, lw=0, label="over budget")
        ax.set_title(f"a budget of {budget:,.3g} {by} buys\n{chosen}", fontsize=9)
        alt.append(f"a budget of {budget:,.3g} {by} buys {chosen}")
    ax.set(xscale="log", xlabel=by, ylabel="test accuracy (%)", xlim=(left, right))
    ax.legend(fontsize=8)
    note = _under(ax, {r.name: r.cost for r in rungs}) if "FLOPs" in by else ""
    return Picture(figure, f"Accuracy against {by}. {'; '.join(alt)}.{note}")


def pareto_front(rungs: Sequence[SizeResult], by: str) -> list[tuple[SizeResult, str]]:
    """The (rung, method) pairs that are better on average than all that cost no more, by cost."""
    offers = [(rung, label) for rung in rungs for label in rung.scores]
    offers.sort(key=lambda offer: (_spends(offer[0], by), -offer[0].mean(offer[1])))
    front: list[tuple[SizeResult, str]] = []
    for offer in offers:
        if not front or offer[0].mean(offer[1]) > front[-1][0].mean(front[-1][1]):
            front.append(offer)
    return front


def best_within(rungs: Sequence[SizeResult], by: str, budget: int) -> tuple[SizeResult, str, float]:
    """The best (rung, method) that a budget buys, and its limit.

    ``budget`` is 0 for what the cheapest student needs and `STEPS` for what the dearest does.
    """
    costs = [_spends(rung, by) for rung in rungs]
    limit = min(costs) * (max(costs) / min(costs)) ** (budget / STEPS) * 1.001
    affordable = [(r, m) for r in rungs if _spends(r, by) <= limit for m in r.scores]
    return *max(affordable, key=lambda offer: offer[0].mean(offer[1])), limit


def budget_explorer(
    rungs: Sequence[SizeResult], teacher_costs: Mapping[str, float], accuracy: Interval
) -> Live:
    """What a device with a given budget would get: a slider over each cost of `BUDGETS`."""

    def draw(by: str, budget: int) -> Picture:
        rung, label, limit = best_within(rungs, by, budget)
        chosen = f"{rung.name}, {label}: {percent(rung.mean(label), 1)}"
        return ladder(rungs, (teacher_costs[by], accuracy), by, chosen, limit)

    controls = {
        "by": ipywidgets.Dropdown(
            options=list(BUDGETS), description="budget in", tooltip="what is scarce"
        ),
        "budget": ipywidgets.IntSlider(
            value=STEPS // 2, min=0, max=STEPS, description="budget", readout=False,
            tooltip="from what the cheapest student needs to what the dearest needs",
        ),
    }  # fmt: skip
    component = {
        "component": "ladder",
        "steps": STEPS,
        "rungs": [rung.name for rung in rungs],
        "budgets": [
            {"name": by, "spends": [_spends(r, by) for r in rungs], "teacher": teacher_costs[by]}
            for by in BUDGETS
        ],
        "methods": [
            {
                "name": label,
                "intervals": [_percents(mean_interval(rung.scores[label])) for rung in rungs],
            }
            for label in rungs[0].scores
        ],
        "teacher": {
            "y": 100 * accuracy.mean,
            "low": 100 * accuracy.low,
            "high": 100 * accuracy.high,
        },
    }
    return explorer(controls, draw, draw(next(iter(BUDGETS)), STEPS // 2), component)


def _percents(share: Interval) -> tuple[float, float, float]:
    return 100 * share.mean, 100 * share.low, 100 * share.high


def ladder_answer(rungs: Sequence[SizeResult], distilled: str, alone: str) -> Markdown:
    """How small can a distilled student be and still beat the big one alone?"""
    big = max(rungs, key=lambda rung: rung.cost.parameters)
    over = big.scores[alone]
    better, level = [], []
    for rung in sorted(rungs, key=lambda rung: rung.cost.parameters):
        gain = rung.gain(distilled, over)
        if gain.low > 0:
            better.append((rung, gain))
        elif gain.high > 0:
            level.append((rung, gain))
    reference = f"*{big.name}* without a teacher ({percent(big.mean(alone))})"
    if better:
        rung, gain = better[0]
        text = (
            f"**As small as {rung.name}**: distilled, it beats {reference} by {points(gain)}, with "
            f"{big.cost.parameters / rung.cost.parameters:.1f} times fewer parameters and "
            f"{fewer_flops(big.cost, rung.cost)}."
        )
    else:
        text = f"**None of them**: no distilled student clearly beats {reference}."
    if level:
        rung, gain = level[0]
        if not better or rung.cost.parameters < better[0][0].cost.parameters:
            text += (
                f" The smallest that cannot be told from it (the interval includes 0) is "
                f"{rung.name}: {points(gain)}."
            )
    return Markdown(text)


def times_smaller(rungs: Sequence[SizeResult], distilled: str, alone: str) -> float | None:
    """In parameters, by which factor the smallest distilled student that beats the big one alone.

    None where none of them clearly beats it.
    """
    big = max(rungs, key=lambda rung: rung.cost.parameters)
    better = [rung for rung in rungs if rung.gain(distilled, big.scores[alone]).low > 0]
    if not better:
        return None
    return big.cost.parameters / min(rung.cost.parameters for rung in better)


class LadderTable:
    """Students by size: cost, accuracy of each method, and what the teacher gains each of them."""

    def __init__(self, rungs: Sequence[SizeResult], distilled: str, alone: str):
        self.rungs, self.distilled, self.alone = rungs, distilled, alone

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict:
        table = self._markdown()
        data = {
            "ladder": [
                {
                    "name": rung.name,
                    "cost": asdict(rung.cost),
                    "latency": asdict(rung.latency),
                    "accuracy": rung.scores,
                }
                for rung in self.rungs
            ]
        }
        return {"text/markdown": table, "text/plain": table, RESULTS: data}

    def _markdown(self) -> str:
        rows = [
            f"| student | parameters | MFLOPs | µs per image | {self.alone} | {self.distilled} "
            "| gain |",
            "| --- " * 7 + "|",
        ]
        for rung in self.rungs:
            means = [rung.mean(label) for label in (self.alone, self.distilled)]
            gain = rung.gain(self.distilled, rung.scores[self.alone])
            rows.append(
                f"| {rung.name} | {rung.cost.parameters:,} | {rung.cost.flops / 1e6:,.3f} "
                f"| {1e6 * rung.latency.median:,.0f} | {percent(means[0])} | {percent(means[1])} "
                f"| {points(gain)} |"
            )
        return "\n".join([*rows, *_below({rung.name: rung.cost for rung in self.rungs})])


def _spends(rung: SizeResult, by: str) -> float:
    return BUDGETS[by](rung.cost, rung.latency)


def _by_thop(cost: Cost) -> str:
    return "failed" if cost.thop_macs is None else f"{cost.thop_macs / 1e6:,.2f}"


def _below(costs: Mapping[str, Cost]) -> list[str]:
    """The lines that end a table or a list of costs: a sentence on what is not counted, if any."""
    sentence = not_counted(costs)
    return ["", sentence] if sentence else []


def _under(ax: Axes, costs: Mapping[str, Cost]) -> str:
    """Write what is not counted under an axis of FLOPs; the same for the picture's words."""
    sentence = not_counted(costs).replace("`", "")
    if not sentence:
        return ""
    lines = textwrap.wrap(sentence, 50)
    ax.set_xlabel("\n".join([ax.get_xlabel(), *lines]), fontsize=8)
    ax.figure.set_figheight(ax.figure.get_figheight() + 0.14 * len(lines))
    return f" {sentence}"


def _where(timing: Timing) -> str:
    if timing.device != "cpu":
        return timing.device.upper()
    return "one thread" if timing.threads == 1 else f"{timing.threads} threads"


def _time(timing: Timing) -> str:
    if timing.batch == 1:
        low, median, high = (1000 * t for t in (timing.low, timing.median, timing.high))
        return f"{median:.2f} ms ({low:.2f} to {high:.2f})"
    slow, fast = timing.batch / timing.high, timing.batch / timing.low
    return f"{timing.images_per_second:,.0f} images/s ({slow:,.0f} to {fast:,.0f})"
