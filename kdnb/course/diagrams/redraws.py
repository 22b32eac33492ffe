"""A hundred repetitions of an experiment with few seeds: how often its interval is right."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kdnb.course.diagrams.axes import SMALL, Axis, dot
from kdnb.course.diagrams.diagram import BLUE, ORANGE, Diagram, Steps, line, step, words
from kdnb.evaluation.statistics import Interval, mean_interval

WIDTH, MIDDLE, TOP, ROW = 400, 262, 62, 3.4  # CSS pixels
# A typical draw: with 3 seeds 5 of 100 intervals miss the mean, whatever the data. It varies by
# chance; other numbers here give 0 to 10.
NOISE_SEED = 1


@dataclass(frozen=True)
class Redraws:
    """Gains in points, (draws, seeds), from a normal distribution with this mean and deviation."""

    mean: float
    deviation: float
    gains: Tensor

    @property
    def intervals(self) -> list[Interval]:
        """The 95 % t interval of each draw."""
        return [mean_interval(gains) for gains in self.gains]

    @property
    def missed(self) -> list[bool]:
        """Whether each draw's interval lies beside the true mean."""
        rounding = 1e-9
        return [not i.low - rounding <= self.mean <= i.high + rounding for i in self.intervals]

    @property
    def sentence(self) -> str:
        """How many intervals miss the mean, and the range of gains from one seed."""
        draws, seeds = self.gains.shape
        first = self.gains[:, 0]
        wrong = int((first * self.mean <= 0).sum())
        return (
            f"If gains were normal with this run's mean of {self.mean:+.2f} points and standard "
            f"deviation of {self.deviation:.2f}, then of {draws} repetitions with {seeds} seeds "
            f"{sum(self.missed)} have a 95 % interval over seeds that misses the mean (expected: "
            f"about {0.05 * draws:.0f}). One seed alone gives a gain between {first.min():+.2f} "
            f"and {first.max():+.2f} points without an interval; in {wrong} of {draws} "
            "repetitions its sign is wrong."
        )


def redrawn(gains: Tensor, draws: int = 100) -> Redraws:
    """New experiments with as many seeds as ``gains`` (S,), the paired gains in points by seed.

    The same numbers are drawn every time. Raises ValueError for fewer than 2 seeds.
    """
    if len(gains) < 2:
        raise ValueError(f"a standard deviation needs at least 2 seeds, got {len(gains)}")
    mean, deviation = gains.double().mean().item(), gains.double().std().item()
    generator = torch.Generator().manual_seed(NOISE_SEED)
    noise = torch.randn(draws, len(gains), generator=generator, dtype=torch.float64)
    return Redraws(mean, deviation, mean + deviation * noise)


def redraws(found: Redraws) -> Diagram:
    """The intervals as a stack, those that miss the mean in orange; one seed's gains beside it."""
    intervals, draws = found.intervals, len(found.gains)
    ends = [end for i in intervals for end in (i.low, i.high)]
    left = Axis.over([*ends, found.mean], 4, MIDDLE - 12)
    right = Axis(left.low, left.high, MIDDLE + 12, WIDTH - 4)
    below = TOP + ROW * draws + 4
    parts = [
        words(left.start, 16, f"{draws} experiments, {found.gains.shape[1]} seeds each", "start"),
        words(left.start, 34, f"{sum(found.missed)} intervals (orange)", "start", size=SMALL),
        words(left.start, 49, "miss the true gain (dashed)", "start", size=SMALL),
        words(right.start, 16, "one seed each", "start"),
        words(right.start, 34, "no interval", "start", size=SMALL),
        *left.below(below, TOP - 6, "gain in points"),
        *right.below(below, TOP - 6, "gain in points", right.ticks(3)),
    ]
    names = []
    for row, (interval, missed) in enumerate(zip(intervals, found.missed, strict=True)):
        y, ink, one = TOP + ROW * row, ORANGE if missed else BLUE, found.gains[row, 0].item()
        stretch = [(left.at(interval.low), y), (left.at(interval.high), y)]
        mean = left.at(interval.mean)
        parts.append(step([
            line(stretch, ink, width=3 if missed else 2, opacity=1 if missed else 0.4),
            line([(mean - 1.5, y), (mean + 1.5, y)], width=3),
            dot(right.at(one), y, 1.5, BLUE),
        ]))  # fmt: skip
        names.append(
            f"{interval.mean:+.2f} points ({interval.low:+.2f} to {interval.high:+.2f}) "
            f"{'misses' if missed else 'contains'} the true gain; one seed: {one:+.2f}"
        )
    for axis in (left, right):
        x = axis.at(found.mean)
        parts.append(line([(x, TOP - 6), (x, below)], dashed=True))
    steps = Steps("redraw", names, f"all {draws} redraws", faint=True)
    return Diagram(WIDTH, round(below) + 40, parts, found.sentence, steps, of_data=True)
