"""Comparisons of methods, and sweeps over a setting."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np

from kdnb.course.figures.picture import Picture, bar_ends, looks, name_rows, panels, styled
from kdnb.course.figures.svg import GREY, PALETTE
from kdnb.course.figures.top_classes import MOST
from kdnb.course.labels import written
from kdnb.evaluation.statistics import Interval
from kdnb.experiment.results import Comparison

LABEL = 48  # characters of a method's name
METHODS = 30  # rows of a comparison


@styled
def comparison(result: Comparison, baseline: str, guess: float | None = None) -> Picture:
    """Left: each seed's accuracy per method. Right: paired gains over ``baseline``.

    ``guess`` is the reader's guess of the last method's gain, in percentage points. Of more than
    `METHODS` methods, those with the highest means are shown.
    """
    labels = list(result.labels)
    if len(labels) > METHODS:
        best = sorted(labels, key=lambda label: -result.mean(label).mean)[:METHODS]
        labels = [label for label in labels if label in (baseline, *best)]
    figure, (left, right) = panels(8.6, 1.3 + 0.42 * len(labels), 2, sharey=True)
    alt = []
    for row, (label, color, marker) in enumerate(looks(labels)):
        values = 100 * result.accuracy(label).numpy()
        left.plot(values, np.full(len(values), row), marker, color=color, alpha=0.5, ms=5)
        intervals = [(left, result.mean(label))]
        alt.append(f"{label} {100 * result.mean(label).mean:.2f} %")
        if label != baseline:
            gain = result.gain(label, baseline)
            intervals.append((right, gain))
            alt.append(
                f"gain over {baseline} {100 * gain.mean:+.2f} points (95 % interval "
                f"{100 * gain.low:+.2f} to {100 * gain.high:+.2f})"
            )
        for ax, interval in intervals:
            mean, ends = bar_ends([interval])
            ax.errorbar(mean, row, xerr=ends, color=color, marker=marker, ms=8, capsize=4)
    name_rows(left, written(labels, LABEL, "method"))
    left.set(xlabel="accuracy (%)")
    right.axvline(0, color=GREY, lw=1)
    right.set(xlabel=textwrap.fill(f"gain in points over {baseline}", 36))
    says = "each seed, and the mean with its 95 % interval over seeds and images"
    if len(labels) < len(result.labels):
        chosen = f"the {METHODS} methods with the highest means, of {len(result.labels):,}"
        says += f"\n{chosen}"
        alt.append(chosen)
    figure.suptitle(says, fontsize=9)
    if guess is not None:
        right.axvline(guess, color=PALETTE[4], ls="--", lw=1.5, label=f"your guess: {guess:+.1f}")
        right.legend(fontsize=8)
        alt.append(f"your guess {guess:+.1f} points")
    return Picture(figure, f"Comparison over {len(result.seeds)} seeds: {'; '.join(alt)}.")


@styled
def sweep(
    values: Sequence[float], curves: Mapping[str, Sequence[Interval]], *, xlabel: str, ylabel: str,
    log: bool = False, baseline: Interval | None = None, baseline_label: str = "",
) -> Picture:  # fmt: skip
    """A curve with intervals for each entry of ``curves`` over the swept ``values``, in percent."""
    figure, ax = panels(6.4, 3.1)
    alt = []
    if baseline is not None:
        ax.axhspan(100 * baseline.low, 100 * baseline.high, color=GREY, alpha=0.15, lw=0)
        ax.axhline(100 * baseline.mean, color=GREY, ls="--", lw=1, label=baseline_label)
        alt.append(f"{baseline_label} {100 * baseline.mean:.2f} %")
    for (label, intervals), color, marker in looks(curves.items()):
        mean, ends = bar_ends(intervals)
        ax.errorbar(values, mean, yerr=ends, color=color, marker=marker, capsize=3, label=label)
        said = [f"{m:.2f} % at {v:g}" for v, m in zip(values, mean, strict=True)]
        alt.append(f"{label}: {', '.join(said)}")
    if log:
        ax.set_xscale("log", base=2)
    each = -(-len(values) // MOST)  # as many as stay legible
    ax.set_xticks(values[::each], [f"{v:g}" for v in values[::each]])
    ax.minorticks_off()
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_ylim(top=min(ax.get_ylim()[1], 101))  # an interval of few seeds can pass 100 %
    ax.legend(fontsize=8)
    return Picture(figure, f"{ylabel} against {xlabel}. {'; '.join(alt)}.")
