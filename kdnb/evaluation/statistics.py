"""Statistics: how far other seeds or other images could move a number, and what chance gives."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import stdtrit  # quantiles of Student's t; scipy.stats takes longer to import
from torch import Tensor

from kdnb.evaluation.metrics import Metric


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval, from ``n`` seeds or ``n`` images."""

    mean: float
    low: float
    high: float
    n: int
    level: float = 0.95

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean and two-sided t interval of independent ``values`` (at least 2)."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        raise ValueError(f"an interval needs at least 2 seeds, got {len(values)}")
    mean = values.mean()
    standard_error = values.std(ddof=1) / math.sqrt(len(values))
    half = stdtrit(len(values) - 1, (1 + level) / 2) * standard_error
    return Interval(float(mean), float(mean - half), float(mean + half), len(values), level)


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
    """How much a metric depends on which images happened to be in the split (Efron 1979).

    From ``labels`` (N,), N images are drawn with replacement, ``resamples`` times. Every method is
    measured on the same draws, so that differences are paired by image. A draw without any image
    of a class is repeated. The intervals say nothing about models trained from other seeds.

    >>> from kdnb.evaluation.metrics import weighted_f1
    >>> labels = torch.tensor([0, 1]).repeat(50)
    >>> Bootstrap(labels).interval(weighted_f1, torch.eye(2)[labels][None])
    Interval(mean=1.0, low=1.0, high=1.0, n=100, level=0.95)
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
        """The mean of ``metric`` over the seeds of ``logits`` (S, N, C), and its interval."""
        return self._percentiles(self._measured(metric, logits), level)

    def gain(self, metric: Metric, logits: Tensor, over: Tensor, level: float = 0.95) -> Interval:
        """By how much ``logits`` (S, N, C) beat ``over`` on the same images, with its interval."""
        gains = self._measured(metric, logits) - self._measured(metric, over)
        return self._percentiles(gains, level)

    def _measured(self, metric: Metric, logits: Tensor) -> Tensor:
        """(1 + B,) means over the seeds."""
        if logits.ndim != 3 or not len(logits):
            raise ValueError(f"logits must be of shape (seeds, N, C), got {tuple(logits.shape)}")
        logits = logits.cpu()
        for one in logits:
            metric.check(one, self.labels)
        return sum(metric.resampled(one, self.labels, self.counts) for one in logits) / len(logits)

    def _percentiles(self, values: Tensor, level: float) -> Interval:
        low, high = values[1:].quantile(values.new_tensor([(1 - level) / 2, (1 + level) / 2]))
        return Interval(values[0].item(), low.item(), high.item(), len(self.labels), level)
