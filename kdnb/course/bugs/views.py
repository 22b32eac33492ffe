"""The question about a bug's effect, and figures and sentences that show the effect."""

from collections.abc import Sequence

import numpy as np
from IPython.display import Markdown
from matplotlib.figure import Figure

from kdnb.course.bugs.bug import Bug, Outcome, Place
from kdnb.course.bugs.running import TEMPERATURES, VALIDATION, BugResult
from kdnb.course.figures import GREY, PALETTE, Picture, styled
from kdnb.course.interactive.widgets import Prediction
from kdnb.course.text import SPLITS, percent, points

VERSIONS = (("with the bug", PALETTE[3], "o", "-"), ("repaired", PALETTE[0], "s", "--"))


def ask(bug: Bug, number: int, task: str) -> Prediction:
    """The question about one bug: which effect, and how large? All bugs share one scale."""
    return Prediction(
        f"Bug {number}: what is its effect on the reported accuracy, and by how many points?",
        [outcome.value for outcome in Outcome],
        Outcome.SAME.value,
        -80, 20, 0,
        unit="points", digits=2, step=0.5, task=task, key=f"08/{number}",
    )  # fmt: skip


@styled
def picture(result: BugResult) -> Picture:
    """Validation accuracy on the left, the symptom on the right: means, and each seed faintly."""
    figure = Figure(figsize=(7.8, 3.0), layout="constrained")
    axes = figure.subplots(1, 2)
    said, x = [], result.broken[0].x
    for ax, name in zip(axes, (VALIDATION, result.bug.symptom), strict=True):
        positive = True
        both = zip((result.broken, result.repaired), VERSIONS, strict=True)
        for trials, (version, color, marker, line) in both:
            values = np.array([trial.curves[name] for trial in trials], dtype=float)
            ax.plot(x, values.T, color=color, alpha=0.25, lw=1, ls=line)
            ax.plot(x, values.mean(0), color=color, marker=marker, ms=4, ls=line,
                    markevery=max(1, len(x) // 10), label=version)  # fmt: skip
            positive &= bool((values > 0).all())
            said.append(f"{name}, {version}: at the end {values.mean(0)[-1]:.3g}")
        ax.set(title=name, xlabel="epoch")
        if result.bug.place == Place.SWEEP:
            ax.set_xscale("log", base=2)
            ax.set_xticks(x, [f"{t:g}" for t in x])
            ax.minorticks_off()
            ax.set(xlim=(1.1 * x[0], 0.9 * x[-1]), xlabel="temperature T, from first to last")
        elif name != VALIDATION and positive:
            ax.set_yscale("log")
    axes[0].legend(fontsize=8)
    seeds = len(result.broken)
    return Picture(figure, f"Means over {seeds} seeds. {'; '.join(said)}.")


def reveal(result: BugResult, guess: Prediction) -> Markdown:
    """The outcome beside the reader's guess."""
    return guess.reveal_choice(result.outcome.value, *result.points, before=sentence(result))


def sentence(result: BugResult) -> str:
    """Accuracy with and without the bug, and the difference with its interval."""
    wrong, right = result.accuracies
    last = f" at T = {TEMPERATURES[-1]:g}" if result.bug.place == Place.SWEEP else ""
    text = (
        f"**{result.outcome.value.capitalize()}**: {percent(wrong)} with the bug, {percent(right)} "
        f"without it{last}, on {result.images:,} {SPLITS[result.split]} images. The difference is "
        f"{points(result.difference)}."
    )
    if result.outcome == Outcome.SAME:
        text += " The interval contains 0, so the accuracy alone does not reveal the bug."
    return text


def found(results: Sequence[BugResult]) -> Markdown:
    """A table of all bugs: the name, the difference and the outcome of each."""
    head = "| bug | difference in points (95 % interval over seeds) | outcome |"
    rows = [head, "| --- | --- | --- |"]
    for number, result in enumerate(results, 1):
        mean, low, high = result.points
        gap = f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"
        rows.append(f"| {number}. {result.bug.name} | {gap} | {result.outcome.value} |")
    hidden = sum(result.outcome == Outcome.SAME for result in results)
    rows.append(
        f"\n{hidden} of {len(results)} bugs make no distinguishable difference to the accuracy "
        f"with {len(results[0].broken)} seeds. A test of the code would find them."
    )
    return Markdown("\n".join(rows))


@styled
def overview(results: Sequence[BugResult]) -> Picture:
    """The difference that each bug makes, with its interval."""
    figure = Figure(figsize=(7.8, 0.9 + 0.34 * len(results)), layout="constrained")
    ax = figure.subplots()
    said = []
    for row, result in enumerate(results):
        mean, low, high = result.points
        clear = result.difference.excludes_zero
        ax.errorbar(
            mean, row, xerr=[[mean - low], [high - mean]], capsize=4, ms=7,
            color=PALETTE[3] if clear else GREY, marker="o" if clear else "D",
        )  # fmt: skip
        said.append(f"{result.bug.name} {mean:+.1f} ({low:+.1f} to {high:+.1f})")
    ax.axvline(0, color=GREY, lw=1)
    ax.set_yticks(range(len(results)), [f"{n}. {t.bug.name}" for n, t in enumerate(results, 1)])
    ax.set_ylim(len(results) - 0.5, -0.5)
    ax.set_xscale("symlog", linthresh=5)
    ticks = [-80, -40, -20, -10, -5, 0, 5]
    ax.set_xticks(ticks, [f"{t:+d}" if t else "0" for t in ticks])
    ax.minorticks_off()
    ax.set(xlabel="points of accuracy (grey: interval contains 0)")
    return Picture(figure, f"Effect of each bug on accuracy, in points: {'; '.join(said)}.")
