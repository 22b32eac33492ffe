"""Asking what a bug will do, and showing what it did."""

from collections.abc import Sequence

import numpy as np
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdnb.course.bugs.bug import Bug, Outcome
from kdnb.course.bugs.running import VALIDATION, Tried
from kdnb.course.figures import GREY, PALETTE, Picture, styled
from kdnb.course.interactive.widgets import Prediction
from kdnb.course.text import SPLITS, percent, points

VERSIONS = (("with the bug", PALETTE[3], "o", "-"), ("repaired", PALETTE[0], "s", "--"))


def ask(bug: Bug, number: int, task: str) -> Prediction:
    """What happens, and by how much? Every bug is asked about on the same scale."""
    return Prediction(
        f"Bug {number}: what does it do to the accuracy that is reported, and by how many points?",
        [outcome.value for outcome in Outcome],
        Outcome.SAME.value,
        -80, 20, 0,
        unit="points", digits=2, step=0.5, task=task, key=f"08/{number}",
    )  # fmt: skip


@styled
def picture(tried: Tried) -> Picture:
    """Left validation accuracy, right what shows the bug; means, and each seed faintly."""
    figure = Figure(figsize=(7.8, 3.0), layout="constrained")
    axes = figure.subplots(1, 2)
    said = []
    for ax, name in zip(axes, (VALIDATION, tried.bug.symptom), strict=True):
        positive = True
        for trials, (version, color, marker, line) in zip(_both(tried), VERSIONS, strict=True):
            values = np.array([trial.curves[name] for trial in trials], dtype=float)
            x = trials[0].x
            ax.plot(x, values.T, color=color, alpha=0.25, lw=1, ls=line)
            ax.plot(x, values.mean(0), color=color, marker=marker, ms=4, ls=line,
                    markevery=max(1, len(x) // 10), label=version)  # fmt: skip
            positive &= bool((values > 0).all())
            said.append(f"{name}, {version}: at the end {values.mean(0)[-1]:.3g}")
        _scales(ax, tried, name, positive)
        ax.set(title=name)
    axes[0].legend(fontsize=8)
    seeds = len(tried.broken)
    return Picture(figure, f"Means over {seeds} seeds. {'; '.join(said)}.")


def _scales(ax: Axes, tried: Tried, name: str, positive: bool) -> None:
    if tried.broken[0].history is None:
        ax.set_xscale("log", base=2)
        ax.set_xticks(tried.broken[0].x, [f"{t:g}" for t in tried.broken[0].x])
        ax.minorticks_off()
        if tried.broken[0].x[0] > tried.broken[0].x[-1]:
            ax.invert_xaxis()
        ax.set(xlabel="temperature T, from first to last")
        return
    ax.set(xlabel="epoch")
    if name != VALIDATION and positive:
        ax.set_yscale("log")


def reveal(tried: Tried, guess: Prediction) -> Markdown:
    """What happened beside what was guessed."""
    gap = tried.difference
    said = guess.reveal_choice(
        tried.outcome.value, *(100 * v for v in (gap.mean, gap.low, gap.high))
    )
    return Markdown(f"{sentence(tried)}\n\n{said.data}")


def sentence(tried: Tried) -> str:
    """Accuracy with and without the bug, and the difference with its interval."""
    wrong, right = (sum(t.score for t in trials) / len(trials) for trials in _both(tried))
    last = "" if tried.broken[0].history else f" at T = {tried.broken[0].x[-1]:g}"
    text = (
        f"**{tried.outcome.value.capitalize()}**: {percent(wrong)} with the bug, {percent(right)} "
        f"without it{last}, on {tried.images:,} {SPLITS[tried.split]} images; a difference of "
        f"{points(tried.difference)}."
    )
    if tried.outcome == Outcome.SAME:
        text += " The interval holds 0: the accuracy alone does not give the bug away."
    return text


def found(all_tried: Sequence[Tried]) -> Markdown:
    """All bugs as a table, the name of each beside what it did."""
    rows = ["| bug | points, and 95 % interval | what happened |", "| --- | --- | --- |"]
    for number, tried in enumerate(all_tried, 1):
        gap = tried.difference
        rows.append(
            f"| {number}. {tried.bug.name} | {100 * gap.mean:+.2f} ({100 * gap.low:+.2f} to "
            f"{100 * gap.high:+.2f}) | {tried.outcome.value} |"
        )
    hidden = sum(tried.outcome == Outcome.SAME for tried in all_tried)
    rows.append(
        f"\n{hidden} of {len(all_tried)} make no clear difference to the accuracy with "
        f"{len(all_tried[0].broken)} seeds: a test of the code would have found them."
    )
    return Markdown("\n".join(rows))


@styled
def overview(all_tried: Sequence[Tried]) -> Picture:
    """The difference that each bug makes, with its interval."""
    figure = Figure(figsize=(7.8, 0.9 + 0.34 * len(all_tried)), layout="constrained")
    ax = figure.subplots()
    said = []
    for row, tried in enumerate(all_tried):
        mean, low, high = (100 * getattr(tried.difference, n) for n in ("mean", "low", "high"))
        clear = tried.difference.excludes_zero
        ax.errorbar(
            mean, row, xerr=[[mean - low], [high - mean]], capsize=4, ms=7,
            color=PALETTE[3] if clear else GREY, marker="o" if clear else "D",
        )  # fmt: skip
        said.append(f"{tried.bug.name} {mean:+.1f} ({low:+.1f} to {high:+.1f})")
    ax.axvline(0, color=GREY, lw=1)
    ax.set_yticks(range(len(all_tried)), [f"{n}. {t.bug.name}" for n, t in enumerate(all_tried, 1)])
    ax.set_ylim(len(all_tried) - 0.5, -0.5)
    ax.set_xscale("symlog", linthresh=5)
    ticks = [-80, -40, -20, -10, -5, 0, 5]
    ax.set_xticks(ticks, [f"{t:+d}" if t else "0" for t in ticks])
    ax.minorticks_off()
    ax.set(xlabel="points of accuracy (grey: holds 0)")
    return Picture(figure, f"What each bug did to accuracy, in points: {'; '.join(said)}.")


def _both(tried: Tried) -> tuple[list, list]:
    return tried.broken, tried.repaired
