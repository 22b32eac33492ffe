"""Intervals hold the true value as often as they claim: 95 of 100, in simulation.

`python tests/test_coverage.py` prints the table of all coverages, the old ways beside the new.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations, product

import pytest
import torch
from torch import Tensor

from kdnb.evaluation.metrics import auc, weighted_f1
from kdnb.evaluation.statistics import (
    Bootstrap,
    Interval,
    adjusted,
    detectable_difference,
    image_interval,
    joint_interval,
    mean_interval,
    pair_interval,
    share_of_gap,
)

REPETITIONS = 2000  # of 2,000 at 95 %, one standard error is 0.5 %
# Standard deviations of what a seed, an image and a seed with an image add to a number.
DOMINATED = {
    "seeds": (0.10, 0.2, 0.2),
    "images": (0.002, 1.0, 0.3),
    "interaction": (0.001, 0.05, 1.0),
    "all alike": (0.03, 0.5, 0.5),
}


def crossed(generator, seeds: int, images: int, by_seed, by_image, both) -> Tensor:
    """(seeds, images) numbers with mean 0."""
    shapes = {(seeds, 1): by_seed, (1, images): by_image, (seeds, images): both}
    return sum(torch.randn(shape, generator=generator) * sd for shape, sd in shapes.items())


def covered(intervals: Iterator[Interval], truth: float) -> float:
    """How many of 100 intervals hold the truth."""
    found = [interval.low <= truth <= interval.high for interval in intervals]
    return 100 * sum(found) / len(found)


def of_means(seeds, images, parts, interval: Callable = joint_interval) -> float:
    generator = torch.Generator().manual_seed(0)
    drawn = (crossed(generator, seeds, images, *parts) for _ in range(REPETITIONS))
    return covered(map(interval, drawn), 0.0)


def over_seeds(values: Tensor) -> Interval:
    """The old way: Student's t over the seeds' means."""
    return mean_interval(values.mean(1))


def over_images(values: Tensor) -> Interval:
    """The other old way: over the images of the seeds' mean."""
    return image_interval(values.mean(0))


def of_gains(seeds, images, moved: float) -> float:
    """Right or wrong of two methods that share seeds and images; the second is better by 3 %.

    Whether an image is right depends on how hard it is, on the seed, and on both.
    """
    generator = torch.Generator().manual_seed(0)
    hard = torch.distributions.Normal(0, 1)
    cut = hard.icdf(torch.tensor([0.90, 0.93]))  # accuracies without seeds that move them
    gains = []
    for _ in range(REPETITIONS):
        image = torch.randn(1, images, generator=generator) * 0.9
        right = []
        for threshold in cut:
            seed = torch.randn(seeds, 1, generator=generator) * moved
            own = torch.randn(seeds, images, generator=generator) * 0.19**0.5
            right.append(image + own < threshold + seed)
        gains.append(joint_interval(right[1].double() - right[0].double()))
    # Of a normal cut that moves by `moved`: P(z < c + s) = Φ(c / √(1 + s²))
    truth = hard.cdf(cut / (1 + moved**2) ** 0.5).diff().item()
    return covered(iter(gains), truth)


def of_pairs(seeds, by_teacher, by_pair, by_image, interval: Callable = pair_interval) -> float:
    generator = torch.Generator().manual_seed(0)
    one, other = torch.tensor(list(combinations(range(seeds), 2))).T
    intervals = []
    for _ in range(REPETITIONS):
        teachers = crossed(generator, seeds, 40, by_teacher, 0.0, by_image)
        pairs = crossed(generator, len(one), 40, by_pair, by_image, by_image)
        intervals.append(interval(teachers[one] + teachers[other] + pairs))
    return covered(iter(intervals), 0.0)


def of_shares(seeds, images, by_seed, gap=0.10) -> float:
    """A gain of 0.04 and a gap of 0.10 with parts in common."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(REPETITIONS):
        common = crossed(generator, seeds, images, by_seed, 0.3, 0.3)
        own = crossed(generator, seeds, images, by_seed, 0.3, 0.3)
        share = share_of_gap(common + own + 0.04, common + gap)
        found.append(share or Interval(0, -torch.inf, torch.inf, seeds))
    return covered(iter(found), 0.04 / gap)


def of_scores(metric, seeds, images, by_seed, gain: bool) -> float:
    """A score of two classes; its true value is the mean over all that was simulated."""
    generator, found = torch.Generator().manual_seed(0), []
    labels = (torch.arange(images) % 8 < 3).long()
    sign = 2.0 * labels - 1
    bootstrap = Bootstrap(labels, resamples=100)  # draws know nothing of the scores
    for _ in range(REPETITIONS):
        image = torch.randn(1, images, generator=generator)
        logits = []
        for separation in (1.5, 1.3):
            seed = torch.randn(seeds, 1, generator=generator) * by_seed
            own = torch.randn(seeds, images, generator=generator) * 0.3
            margin = sign * (separation + seed) + image + own
            logits.append(torch.stack([-margin / 2, margin / 2], 2))
        found.append(
            bootstrap.gain(metric, *logits) if gain else bootstrap.interval(metric, logits[0])
        )
    return covered(iter(found), sum(interval.mean for interval in found) / len(found))


def scenarios(thorough: bool = False) -> Iterator[tuple[str, str, Callable[[], float]]]:
    """Kind, scenario and simulation of what is claimed to cover 95 %; ``thorough`` takes minutes.

    Where the pairs' own part dominates that of the teachers the interval of pairs is too wide:
    that is in the table, and no scenario of the test.
    """
    for seeds in (3, 5, 10)[: 3 if thorough else 2]:
        for name, parts in DOMINATED.items():
            what = f"{seeds} seeds, 300 images: {name}"
            yield "mean over seeds and images", what, partial(of_means, seeds, 300, parts)
    for seeds, images in ((3, 10_000), (5, 10_000)) if thorough else ():
        what, parts = f"{seeds} seeds, {images:,} images: all alike", (0.01, 0.7, 0.7)
        yield "mean over seeds and images", what, partial(of_means, seeds, images, parts)
    for seeds, moved in ((3, 0.0), (3, 0.1), (5, 0.1))[0 if thorough else 1 :]:
        what = f"{seeds} seeds, 1,000 images, seeds move the threshold by {moved:g} sd"
        yield "gain in accuracy", what, partial(of_gains, seeds, 1000, moved)
    for seeds in (3, 5, 10)[: 3 if thorough else 2]:
        what = f"{seeds} teachers, 40 images: teachers"
        yield "mean over all pairs of teachers", what, partial(of_pairs, seeds, 1.0, 0.2, 1.0)
    for seeds, by_seed in ((3, 0.01), (5, 0.03))[0 if thorough else 1 :]:
        what = f"{seeds} seeds, 500 images, sd of seeds {by_seed:g}"
        yield "share of the gap (Fieller)", what, partial(of_shares, seeds, 500, by_seed)
    kinds = product((weighted_f1, auc), ("score", "gain"))
    for metric, kind in kinds if thorough else ((weighted_f1, "gain"), (auc, "score")):
        run = partial(of_scores, metric, 3, 250, 0.1, kind == "gain")
        yield f"{metric.name}, {kind} (bootstrap)", "3 seeds, 250 images", run


def old_ways() -> Iterator[tuple[str, str, Callable[[], float]]]:
    """What was done before, and where more is covered than is claimed, for the table."""
    for name, way in product(("seeds", "images", "all alike"), (over_seeds, over_images)):
        run = partial(of_means, 5, 300, DOMINATED[name], way)
        yield f"before: {way.__name__.replace('_', ' ')} alone", f"5 seeds, 300 images: {name}", run
    for seeds in (3, 5, 10):
        run = partial(of_pairs, seeds, 0.1, 1.0, 1.0)
        yield "pairs of teachers, at least", f"{seeds} teachers, 40 images: pairs", run
    run = partial(of_pairs, 3, 1.0, 0.2, 1.0, over_seeds)
    yield "before: pairs of teachers as if independent", "3 teachers, 40 images: teachers", run


@pytest.mark.slow
@pytest.mark.parametrize(
    "simulation", [pytest.param(run, id=f"{kind}: {what}") for kind, what, run in scenarios()]
)
def test_nominal_95_per_cent_are_93_to_97(simulation):
    assert 93 <= simulation() <= 97


@pytest.mark.parametrize("way", [over_seeds, over_images])
def test_seeds_alone_or_images_alone_do_not_cover(way):
    """What the joint interval is for: where the other part dominates, the claim is far off."""
    part = DOMINATED["images" if way is over_seeds else "seeds"]
    assert of_means(5, 300, part, way) < 50


def test_of_many_claims_without_any_effect_one_table_in_twenty_is_wrong():
    """Five methods against one baseline, none of them better: Holm keeps all claims together."""
    generator, wrong, unadjusted = torch.Generator().manual_seed(0), 0, 0
    for _ in range(1000):
        values = crossed(generator, 6 * 5, 100, 0.05, 0.5, 0.5).view(6, 5, 100)
        gains = {method: joint_interval(values[method] - values[0]) for method in range(1, 6)}
        unadjusted += any(gain.sign for gain in gains.values())
        wrong += any(gain.sign for gain in adjusted(gains).values())
    assert 20 <= wrong <= 65 and unadjusted > 100


def test_the_difference_that_is_seen_four_times_in_five():
    generator = torch.Generator().manual_seed(0)
    drawn = [crossed(generator, 5, 300, 0.02, 0.5, 0.5) for _ in range(1000)]
    half = sum(map(detectable_difference, map(joint_interval, drawn))) / 1000
    found = sum(joint_interval(values + half).sign == 1 for values in drawn)
    assert found == pytest.approx(800, abs=50)


def coverage_table() -> str:
    """Markdown: kind, scenario, nominal and simulated coverage."""
    head = ["| interval | scenario | nominal | simulated |", "| --- | --- | --- | --- |"]
    every = [*scenarios(thorough=True), *old_ways()]
    return "\n".join([*head, *(f"| {k} | {w} | 95 % | {run():.1f} % |" for k, w, run in every)])


if __name__ == "__main__":
    print(coverage_table())
