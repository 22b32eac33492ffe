"""Statistics: confidence intervals over seeds and images, and the majority baseline."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import expit, logit, stdtrit  # scipy.stats takes longer to import
from torch import Tensor

from kdnb.evaluation.metrics import Metric

LEAST_P = 1e-100  # anything below is called 0


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval, from ``n`` seeds and ``images`` images (0: over seeds).

    ``p`` is two-sided, against 0; ``p_holm`` is adjusted for all claims of one table.
    """

    mean: float
    low: float
    high: float
    n: int
    level: float = 0.95
    images: int = 0
    p: float = 1.0
    p_holm: float | None = None

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of zero; never where it has no width."""
        return self.low < self.high and (self.low > 0 or self.high < 0)

    @property
    def sign(self) -> int:
        """1 for a gain, -1 for a loss, 0 if not distinguishable, by ``p_holm`` if available."""
        clear = self.excludes_zero and (self.p_holm or 0) < 1 - self.level
        return int(np.sign(self.mean)) if clear else 0


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean and two-sided t interval of independent ``values``, one a seed (at least 2).

    For numbers without images, such as seconds; `joint_interval` is for values by image.
    """
    values = torch.as_tensor(values, dtype=torch.float64)
    _require_seeds(len(values))
    variance = (values.var() / len(values)).item()
    return _interval(values.mean().item(), (variance, 0), (len(values), 0), level)


def image_interval(values: Tensor, level: float = 0.95) -> Interval:
    """The mean of ``values`` (N,) and its interval over images, for a deterministic method."""
    values = values.double()
    variance = (values.var() / len(values)).item()
    return _interval(values.mean().item(), (0, variance), (1, len(values)), level)


def joint_interval(values: Tensor, level: float = 0.95) -> Interval:
    """The mean of ``values`` (S, N), with an interval for other seeds and other images.

    Seeds and images are both random and crossed, as readers and cases in radiology (Dorfman,
    Berbaum & Metz 1992; Gallas et al. 2009). Raises ValueError for fewer than 2 seeds.

    >>> interval = joint_interval(torch.tensor([[0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 1, 1]]))
    >>> interval.n, interval.images, round(interval.mean, 3)
    (3, 4, 0.833)
    """
    _require_seeds(len(values))
    values = values.double()
    return _interval(values.mean().item(), _parts(values), tuple(values.shape), level)


def pair_interval(values: Tensor, level: float = 0.95) -> Interval:
    """The mean over all pairs of S seeds, in the order of `itertools.combinations`: (pairs, N).

    Pairs share seeds, so that they are not independent. The variance of their mean comes from
    leaving out one seed after the other (jackknife), corrected for its excess of a pair's own part
    (Arvesen 1969). With 3 seeds this part is unknown, and the interval is too wide rather than too
    narrow. Raises ValueError for fewer than 3 seeds.
    """
    seeds = round((1 + (1 + 8 * len(values)) ** 0.5) / 2)
    if seeds < 3 or seeds * (seeds - 1) // 2 != len(values):
        raise ValueError(f"needs all pairs of at least 3 seeds, got {len(values)} pairs")
    pairs = torch.tensor(list(combinations(range(seeds), 2)))
    member = torch.zeros(seeds, len(pairs)).double().scatter_(0, pairs.T, 1)  # (S, pairs)

    def spread(each: Tensor) -> Tensor:
        centred = each - each.mean(0)
        main = member @ centred / (seeds - 2)  # the part of each seed
        jackknife = 4 / seeds * main.square().sum(0) / (seeds - 1)
        freedom = seeds * (seeds - 3) / 2
        if not freedom:
            return jackknife
        own = (centred - member.T @ main).square().sum(0) / freedom
        least = own / len(pairs)
        return (jackknife - 4 / (seeds * (seeds - 2)) * own + least).maximum(least)

    values = values.double()
    counts = seeds, values.shape[1]
    return _interval(values.mean().item(), _parts(values, spread), counts, level)


def _require_seeds(seeds: int) -> None:
    if seeds < 2:
        raise ValueError(f"an interval needs at least 2 seeds, got {seeds}")


def _over_seeds(values: Tensor) -> Tensor:
    """The variance of the mean over independent rows, by column."""
    return values.var(0) / len(values)


def _parts(values: Tensor, spread: Callable[[Tensor], Tensor] = _over_seeds) -> np.ndarray:
    """The variances of the mean of ``values`` (rows, N) that are due to seeds and to images.

    ``spread`` gives the variance of a mean over rows, by column. The first part holds the
    interaction of seeds and images already; the second is without it, and can be below 0.
    """
    images = values.shape[1]
    by_row, by_image = values.mean(1, keepdim=True), values.mean(0)
    residual = values - by_row - by_image + values.mean()
    own = by_image.var() - spread(residual).sum() / (images - 1)
    return np.array([spread(by_row).item(), own.item() / images])


def _half_width(parts: Sequence[float], counts: tuple[int, int], p: float) -> float:
    """The quantile of an interval that excludes ``p``, from both variances and their numbers.

    The quantile lies between the t quantiles of both, by how much of the variance is due to seeds.
    With that share itself as the weight (Cochran & Cox 1957) 3 to 10 seeds cover 95.0 to 97.1 %,
    with its power 1.5 94.3 to 96.0 %, with Satterthwaite's degrees of freedom 92.5 to 95.3 %.
    """
    by_seed, by_image = max(parts[0], 0.0), max(parts[1], 0.0)
    if not (variance := by_seed + by_image):
        return 0.0
    seed, image = (-stdtrit(max(count - 1, 1), p / 2) for count in counts)
    weight = (by_seed / variance) ** 1.5
    return float((weight * seed + (1 - weight) * image) * variance**0.5)


def _interval(
    mean: float, parts: Sequence[float], counts: tuple[int, int], level: float
) -> Interval:
    """From the variances of a mean that are due to seeds and to images, and the number of each."""
    half = partial(_half_width, parts, counts)
    if half(0.5) <= 1e-12 * abs(mean):  # only rounding
        return Interval(mean, mean, mean, counts[0], level, counts[1])
    p = brentq(lambda p: half(p) - abs(mean), LEAST_P, 1) if half(LEAST_P) > abs(mean) else 0.0
    reach = half(1 - level)
    return Interval(mean, mean - reach, mean + reach, counts[0], level, counts[1], p)


def holm(p_values: Sequence[float]) -> list[float]:
    """``p_values`` adjusted so that of all claims together one in twenty is false (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=float)
    order = p.argsort()
    adjusted = np.maximum.accumulate(np.arange(len(p), 0, -1) * p[order]).clip(max=1)
    return adjusted[order.argsort()].tolist()


def adjusted(gains: Mapping[object, Interval]) -> dict:
    """The same intervals with ``p_holm``, adjusted as claims of one table."""
    p_values = holm([gain.p for gain in gains.values()])
    return {
        key: replace(gain, p_holm=p) for (key, gain), p in zip(gains.items(), p_values, strict=True)
    }


def share_of_gap(gain: Tensor, gap: Tensor, level: float = 0.95) -> Interval | None:
    """The ratio of a ``gain`` (S, N) to a ``gap`` (S, N), with Fieller's interval (1954).

    The interval holds the ratios r for which gain − r·gap is not distinguishable from 0. Where the
    gap itself is not distinguishable from 0, this is no interval, and the result is None.
    """
    gain, gap = gain.double(), gap.double()
    if not joint_interval(gap, level).excludes_zero:
        return None
    own, of_gap, both = map(_parts, (gain, gap, gain + gap))

    def outside(ratio: float) -> float:
        """Above 0 where gain − ratio·gap is distinguishable from 0: variances are quadratic."""
        parts = own + ratio * (own + of_gap - both) + ratio**2 * of_gap
        return abs(gain_mean - ratio * gap_mean) - _half_width(parts, gain.shape, 1 - level)

    gain_mean, gap_mean = gain.mean().item(), gap.mean().item()
    middle, ends = gain_mean / gap_mean, []
    for step in (-0.01, 0.01):
        while outside(middle + step) < 0:
            step *= 2
        ends.append(brentq(outside, middle, middle + step, xtol=1e-6))
    return Interval(middle, *ends, len(gain), level, gain.shape[1])


def detectable_difference(interval: Interval) -> float:
    """The true difference that such a comparison would detect with a power of 0.8.

    A 95 % interval of half-width h excludes 0 so often where the difference is 1.43 h: (1.96 +
    0.84) standard errors, of which h is 1.96.
    """
    return 1.43 * (interval.high - interval.low) / 2


def constant_logits(train_labels: Tensor, num_images: int, num_classes: int) -> Tensor:
    """(num_images, C) logits of the majority baseline: the logs of the training shares.

    Raises ValueError if a class is not among ``train_labels`` (M,).
    """
    shares = torch.bincount(train_labels.cpu(), minlength=num_classes).double() / len(train_labels)
    if not shares.all():
        missing = shares.argmin().item()
        raise ValueError(f"no training image of class {missing}: its log is infinite")
    return shares.log().expand(num_images, -1)


class Bootstrap:
    """Intervals of a metric over the images of a split, by resampling (Efron 1979).

    From ``labels`` (N,), N images are drawn with replacement, ``resamples`` times. Every method is
    evaluated on the same draws, so that differences are paired by image. A draw without any image
    of a class is repeated. For several models, intervals cover seeds as well: resampling gives the
    part of the images, which `joint_interval` computes from a mean's squares.

    >>> from kdnb.evaluation.metrics import weighted_f1
    >>> labels = torch.tensor([0, 1]).repeat(50)
    >>> Bootstrap(labels).interval(weighted_f1, torch.eye(2)[labels][None])
    Interval(mean=1.0, low=1.0, high=1.0, n=1, level=0.95, images=100, p=1.0, p_holm=None)
    """

    FEWEST = 5  # images of a class: a draw then lacks it less than once in a hundred times
    LEAST = 0.05  # of all draws that have every class: of fewer, finding them would not end

    def __init__(self, labels: Tensor, resamples: int = 1000, seed: int = 0):
        self.labels = labels.cpu()
        images = torch.bincount(self.labels)
        fewest, n = images.min().item(), len(labels)
        if fewest < self.FEWEST:
            raise ValueError(
                f"resampling needs at least {self.FEWEST} images of each class, got {fewest} of "
                f"class {images.argmin().item()}"
            )
        absent = (1 - images.double() / n) ** n  # of a draw, by class
        if (1 - absent).prod() < self.LEAST:
            raise ValueError(
                f"resampling {n:,} images of {len(images):,} classes would nearly always miss a "
                f"class: give more images of the rarest, which have {fewest}"
            )
        generator = torch.Generator().manual_seed(seed)
        draws = [torch.ones(n, dtype=torch.int64)]  # first the images as they are
        while len(draws) <= resamples:
            drawn = torch.randint(n, (n,), generator=generator)
            if torch.bincount(self.labels[drawn], minlength=len(images)).all():
                draws.append(torch.bincount(drawn, minlength=n))
        self.counts = torch.stack(draws).double()  # (1 + B, N)

    def interval(self, metric: Metric, logits: Tensor, level: float = 0.95) -> Interval:
        """The mean of ``metric`` over the seeds of ``logits`` (S, N, C), and its interval.

        For one model the interval covers images alone. It is symmetric on the scale of the score's
        logit, since a score ends at 1 and is skewed near 1 (Pepe 2003, for the AUC).
        """
        found = self._joint(self._measured(metric, logits), level)
        odds = found.mean * (1 - found.mean)
        if not odds:
            return found
        reach = (found.high - found.mean) / odds
        low, high = (expit(logit(found.mean) + way * reach).item() for way in (-1, 1))
        return replace(found, low=low, high=high)

    def gain(self, metric: Metric, logits: Tensor, over: Tensor, level: float = 0.95) -> Interval:
        """The gain of ``logits`` (S, N, C) over ``over`` of the same seeds and images.

        Raises ValueError if the numbers of seeds differ.
        """
        if len(logits) != len(over):
            raise ValueError(f"a gain is paired by seed, got {len(logits)} and {len(over)} seeds")
        gains = self._measured(metric, logits) - self._measured(metric, over)
        return self._joint(gains, level)

    def _measured(self, metric: Metric, logits: Tensor) -> Tensor:
        """(S, 1 + B): each seed's score on the images and on each draw."""
        if logits.ndim != 3 or not len(logits):
            raise ValueError(f"logits must be of shape (seeds, N, C), got {tuple(logits.shape)}")
        logits = logits.cpu()
        for one in logits:
            metric.check(one, self.labels)
        return torch.stack([metric.resampled(one, self.labels, self.counts) for one in logits])

    def _joint(self, measured: Tensor, level: float) -> Interval:
        values, draws, seeds = measured[:, 0], measured[:, 1:], len(measured)
        by_image, by_seed = draws.mean(0).var(), 0.0
        if seeds > 1:  # what images do to each seed's model alone is in the part of the seeds
            by_image -= (draws.var(1).mean() - by_image) / (seeds - 1)
            by_seed = (values.var() / seeds).item()
        parts = by_seed, by_image.item()
        return _interval(values.mean().item(), parts, (seeds, len(self.labels)), level)
