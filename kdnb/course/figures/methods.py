"""Comparisons of methods, and sweeps over a setting."""

import textwrap
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from matplotlib.axes import Axes
from torch import Tensor

from kdnb.course.figures.picture import (
    GREY,
    PALETTE,
    Picture,
    bar_ends,
    far_below,
    key_of_intervals,
    looks,
    name_rows,
    panels,
    styled,
)
from kdnb.course.figures.top_classes import MOST
from kdnb.course.labels import written
from kdnb.evaluation.statistics import Interval, image_interval, joint_interval
from kdnb.experiment.results import Comparison

LABEL = 48  # characters of a method's name
METHODS = 30  # rows of a comparison


@styled
def comparison(
    result: Comparison, baseline: str, guess: float | None = None,
    others: Mapping[str, Tensor] = MappingProxyType({}),
) -> Picture:  # fmt: skip
    """Left: each seed's accuracy per method. Right: paired gains over ``baseline``.

    ``guess`` is the reader's guess of the last method's gain, in percentage points. Of more than
    `METHODS` methods, those with the highest means are shown. ``others`` marks by label the images
    that models without a gain classify correctly, bool: (seeds, N), or (N,) of a model without
    seeds.
    """
    labels = list(result.labels)
    if len(labels) > METHODS:
        best = sorted(labels, key=lambda label: -result.mean(label).mean)[:METHODS]
        labels = [label for label in labels if label in (baseline, *best)]
    rows = [*others, *labels]
    figure, (left, right) = panels(8.6, 1.3 + 0.42 * len(rows), 2, sharey=True)
    alt = []
    means = {
        label: image_interval(right) if right.ndim == 1 else joint_interval(right)
        for label, right in others.items()
    }
    ascending = sorted(100 * mean.mean for mean in [*means.values(), *map(result.mean, labels)])
    edge = ascending[far_below(ascending)]
    for row, (label, mean) in enumerate(means.items()):
        alt.append(f"{label} {100 * mean.mean:.2f} %")
        if 100 * mean.mean < edge:
            left.plot(0.02, row, "<", color=GREY, transform=left.get_yaxis_transform())
            left.annotate(f"{100 * mean.mean:.2f}", (0.05, row), va="center", fontsize=8,
                          xycoords=left.get_yaxis_transform())  # fmt: skip
            continue
        center, ends = bar_ends([mean])
        left.errorbar(center, row, xerr=ends, color=GREY, marker="h", ms=7, capsize=4)
        if others[label].ndim > 1:
            _seeds(left, others[label].double().mean(1), row, GREY, "h")
    for row, (label, color, marker) in enumerate(looks(labels), len(means)):
        _seeds(left, result.accuracy(label), row, color, marker)
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
    name_rows(left, written(rows, LABEL, "method"))
    left.set(xlabel="accuracy (%)")
    right.axvline(0, color=GREY, lw=1)
    right.set(xlabel=textwrap.fill(f"gain in points over {baseline}", 36))
    if len(labels) < len(result.labels):
        chosen = f"the {METHODS} methods with the highest means, of {len(result.labels):,}"
        figure.suptitle(chosen, fontsize=9)
        alt.append(chosen)
    key_of_intervals(figure, seeds=True, over="seeds and images")
    if guess is not None:
        right.axvline(guess, color=PALETTE[4], ls="--", lw=1.5, label=f"your guess: {guess:+.1f}")
        right.legend(fontsize=8)
        alt.append(f"your guess {guess:+.1f} points")
    return Picture(figure, f"Comparison over {len(result.seeds)} seeds: {'; '.join(alt)}.")


def _seeds(ax: Axes, accuracy: Tensor, row: int, color: str, marker: str) -> None:
    ax.plot(100 * accuracy.numpy(), [row] * len(accuracy), marker, color=color, alpha=0.5, ms=5)


@styled
def sweep(
    values: Sequence[float], curves: Mapping[str, Sequence[Interval]], *, xlabel: str, ylabel: str,
    log: bool = False, baseline: Interval | None = None, baseline_label: str = "",
) -> Picture:  # fmt: skip
    """A curve with intervals for each entry of ``curves`` over the swept ``values``, in percent."""
    figure, ax = panels(6.4, 3.1)
    alt, drawn = [], {}
    if baseline is not None:
        band = ax.axhspan(100 * baseline.low, 100 * baseline.high, color=GREY, alpha=0.15, lw=0)
        middle = ax.axhline(100 * baseline.mean, color=GREY, ls="--", lw=1)
        drawn[baseline_label] = (band, middle)
        alt.append(f"{baseline_label} {100 * baseline.mean:.2f} %")
    for (label, intervals), color, marker in looks(curves.items()):
        mean, ends = bar_ends(intervals)
        style = {"color": color, "marker": marker, "capsize": 3, "label": label}
        drawn[label] = ax.errorbar(values, mean, ends, **style)
        said = [f"{m:.2f} % at {v:g}" for v, m in zip(values, mean, strict=True)]
        alt.append(f"{label}: {', '.join(said)}")
    if log:
        ax.set_xscale("log", base=2)
    each = -(-len(values) // MOST)  # as many as stay legible
    ax.set_xticks(values[::each], [f"{v:g}" for v in values[::each]])
    ax.minorticks_off()
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_ylim(top=min(ax.get_ylim()[1], 101))  # an interval of few seeds can pass 100 %
    ax.legend(
        drawn.values(),
        drawn,
        fontsize=8,
        title="mean, 95 % interval",
        title_fontsize=8,
        alignment="left",
    )
    return Picture(figure, f"{ylabel} against {xlabel}. {'; '.join(alt)}.")
