"""Point values: how right, how sure and how alike predictions are.

Tensors may be on any device. They are measured on the CPU: not every device has double precision.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import stdtrit  # quantiles of Student's t; scipy.stats takes longer to import
from torch import Tensor


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


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of rows of ``logits`` (N, C) whose largest entry is at the label (N,)."""
    return (logits.argmax(1).cpu() == labels.cpu()).double().mean().item()


def agreement(student_logits: Tensor, teacher_logits: Tensor) -> float:
    """Share of images on which both give the same class (Stanton et al. 2021, arXiv 2106.05945)."""
    return accuracy(student_logits, teacher_logits.argmax(1))


def entropy_bits(probabilities: Tensor) -> Tensor:
    """Entropy in bits along the last dimension; 0 for certainty, log2(C) for even odds."""
    return -torch.xlogy(probabilities, probabilities).sum(-1) / math.log(2)


def confusion(logits: Tensor, labels: Tensor) -> Tensor:
    """(C, C) int64 counts: rows are true classes, columns predicted ones."""
    classes = logits.shape[1]
    return _pair_counts(labels.cpu(), logits.argmax(1).cpu(), classes, classes)


def _pair_counts(rows: Tensor, columns: Tensor, height: int, width: int) -> Tensor:
    return torch.bincount(rows * width + columns, minlength=height * width).view(height, width)


@dataclass(frozen=True)
class Matching:
    """Invented subclasses beside true ones.

    ``counts``: (invented, true) int64 numbers of images. ``partner``: (invented,) the true subclass
    matched to each invented one, -1 for none. ``recovered``: share of images whose invented
    subclass is the partner of their true one, in [0, 1].
    """

    counts: Tensor
    partner: Tensor
    recovered: float


def match_subclasses(subclass_logits: Tensor, true_subclasses: Tensor, true: int) -> Matching:
    """Pair invented with true subclasses one to one, so that as many images as possible agree.

    ``subclass_logits`` (N, K), of which the largest counts; ``true_subclasses`` (N,) int64 in
    [0, true). The best pairing is found by the Hungarian method (Kuhn 1955).
    """
    from scipy.optimize import linear_sum_assignment  # heavy: only those who match wait for it

    invented = subclass_logits.shape[1]
    counts = _pair_counts(subclass_logits.argmax(1).cpu(), true_subclasses.cpu(), invented, true)
    rows, columns = map(torch.from_numpy, linear_sum_assignment(counts.numpy(), maximize=True))
    partner = torch.full((invented,), -1)
    partner[rows] = columns
    return Matching(counts, partner, counts[rows, columns].sum().item() / len(true_subclasses))


def live_subclasses(subclass_logits: Tensor, share: float = 0.01) -> int:
    """How many of the K columns of (N, K) logits are the largest for at least ``share`` of rows."""
    used = torch.bincount(subclass_logits.argmax(1).cpu(), minlength=subclass_logits.shape[1])
    return int((used >= share * len(subclass_logits)).sum())


@dataclass(frozen=True)
class Calibration:
    """Predictions grouped by confidence: per group mean confidence, accuracy and share of all.

    ``error`` is the expected calibration error: the mean over predictions of |confidence −
    accuracy| of their group (Guo et al. 2017, arXiv 1706.04599, eq. 3), in [0, 1].
    """

    confidence: Tensor
    accuracy: Tensor
    share: Tensor
    error: float


def calibration(
    logits: Tensor, labels: Tensor, temperature: float = 1.0, bins: int = 10
) -> Calibration:
    """Group the predictions softmax(logits / temperature) by confidence into equal-width bins.

    ``logits``: (N, C), ``labels``: (N,). Empty bins are left out.
    """
    confidence, predicted = F.softmax(logits.cpu().double() / temperature, 1).max(1)
    correct = (predicted == labels.cpu()).double()
    bin_of = (confidence * bins).ceil().long().clamp(1, bins) - 1
    _, group, count = bin_of.unique(return_inverse=True, return_counts=True)
    means = [torch.bincount(group, values) / count for values in (confidence, correct)]
    share = count.double() / len(labels)
    return Calibration(*means, share, (share * (means[0] - means[1]).abs()).sum().item())
