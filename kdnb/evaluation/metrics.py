"""Metrics (point values): accuracy, calibration, agreement and subclasses of predictions.

Tensors may be on any device. Metrics are computed on the CPU: some devices lack double precision.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of rows of ``logits`` (N, C) whose largest entry is at the label (N,)."""
    return (logits.argmax(1).cpu() == labels.cpu()).double().mean().item()


def agreement(student_logits: Tensor, teacher_logits: Tensor) -> float:
    """Share of images for which both predict one class (Stanton et al. 2021, arXiv 2106.05945)."""
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
    """Invented subclasses matched to true ones.

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


def chance_recovered(labels: Tensor, true_subclasses: Tensor, size: int) -> float:
    """The result of `match_subclasses` if each image gets one of ``size`` subclasses at random.

    The class, ``labels`` (N,), is known. Matching optimises over chance, so the result is slightly
    above 1 / size.
    """
    generator = torch.Generator().manual_seed(0)
    drawn = labels.cpu() * size + torch.randint(size, labels.shape, generator=generator)
    outputs = size * (int(labels.max()) + 1)
    true = int(true_subclasses.max()) + 1
    return match_subclasses(F.one_hot(drawn, outputs), true_subclasses, true).recovered


def most_recovered(live: int, true_subclasses: Tensor) -> float:
    """The largest share that ``live`` subclasses can recover: that of as many true ones (N,).

    >>> most_recovered(2, torch.tensor([0, 0, 0, 1, 1, 2]))
    0.8333333333333334
    """
    return torch.bincount(true_subclasses).sort(descending=True).values[:live].sum().item() / len(
        true_subclasses
    )


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


@dataclass(frozen=True)
class Metric:
    """A named metric of class logits (N, C) and labels (N,); larger is better.

    ``resampled(logits, labels, counts)`` gives it for B resamples at once, as (B,) float64:
    ``counts`` (B, N) float64 says how often each image was drawn. ``classes`` is how many it needs.

    >>> weighted_f1(torch.eye(2), torch.tensor([0, 1]))
    1.0
    """

    name: str
    resampled: Callable[[Tensor, Tensor, Tensor], Tensor] = field(repr=False)
    classes: int | None = None

    def __call__(self, logits: Tensor, labels: Tensor) -> float:
        logits, labels = logits.cpu(), labels.cpu()
        self.check(logits, labels)
        return self.resampled(logits, labels, torch.ones(1, len(labels)).double()).item()

    def check(self, logits: Tensor, labels: Tensor) -> None:
        """Raise ValueError where this metric is not defined."""
        shape, classes = tuple(logits.shape), logits.shape[-1]
        unknown = labels[(labels < 0) | (labels >= classes)].tolist()
        images = torch.bincount(labels.flatten().clamp(0), minlength=classes)
        faults = {
            f"logits (N, C) and labels (N,), got shapes {shape} and {tuple(labels.shape)}": (
                logits.ndim != 2 or shape[:1] != labels.shape
            ),
            "finite logits, got NaN or infinity": not logits.isfinite().all(),
            f"{self.classes} classes, got logits of {classes}": self.classes not in (None, classes),
            f"labels in 0..{classes - 1}, got {unknown[:3]}": bool(unknown),
            f"images of every class, got none of class {images.argmin()}": not images.all(),
        }
        for needed, missing in faults.items():
            if missing:
                raise ValueError(f"{self.name} needs {needed}")


def _totals(logits: Tensor, labels: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, C) float64 images of B resamples by class: correct, of the class, predicted as it.

    The whole confusion matrices would be (B, C, C), and one-hot pairs (N, C²).
    """
    true, predicted = (F.one_hot(c, logits.shape[1]).double() for c in (labels, logits.argmax(1)))
    return counts @ (true * predicted), counts @ true, counts @ predicted


def _accuracy(logits: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    correct, true, _ = _totals(logits, labels, counts)
    return correct.sum(1) / true.sum(1)


def _balanced_accuracy(logits: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    correct, true, _ = _totals(logits, labels, counts)
    return (correct / true).mean(1)


def _weighted_f1(logits: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    correct, true, predicted = _totals(logits, labels, counts)
    return (2 * correct / (true + predicted) * true).sum(1) / true.sum(1)


def _auc(logits: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """Share of pairs of a class-1 and a class-0 image in which the former scores higher.

    This is the area under the ROC curve (Mann & Whitney 1947; Hanley & McNeil 1982). A tie counts
    one half. Images are ordered by the difference of their logits, as by their probability of
    class 1, which float arithmetic would round to 1 for many of them.
    """
    score = logits[:, 1].double() - logits[:, 0].double()
    positive = labels == 1
    negatives, order = score[~positive].sort()
    drawn = counts[:, positive]
    below = F.pad(counts[:, ~positive][:, order].cumsum(1), (1, 0))
    less = below[:, torch.searchsorted(negatives, score[positive])]
    less_or_equal = below[:, torch.searchsorted(negatives, score[positive], right=True)]
    pairs = drawn.sum(1) * below[:, -1]
    return (drawn * (less + less_or_equal)).sum(1) / (2 * pairs)


overall_accuracy = Metric("accuracy", _accuracy)
balanced_accuracy = Metric("balanced accuracy", _balanced_accuracy)  # mean of the classes' recalls
weighted_f1 = Metric("weighted F1", _weighted_f1)  # mean of the classes' F1 by number of images
# Of all images at once: a mean of batches' areas is another number.
auc = Metric("AUC", _auc, classes=2)


def f1(index: int, name: str) -> Metric:
    """F1 of the class ``index``, which is called ``name``: 2 · correct / (true + predicted)."""

    def resampled(logits: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
        correct, true, predicted = _totals(logits, labels, counts)
        return (2 * correct / (true + predicted))[:, index]

    return Metric(f"{name} F1", resampled)


def class_metrics(class_names: Sequence[str]) -> tuple[Metric, ...]:
    """The metrics that suit these classes; of two classes, the second is positive.

    >>> [metric.name for metric in class_metrics(["HP", "SSA"])]
    ['accuracy', 'balanced accuracy', 'weighted F1', 'SSA F1', 'AUC']
    """
    always = (overall_accuracy, balanced_accuracy, weighted_f1)
    return (*always, f1(1, class_names[1]), auc) if len(class_names) == 2 else always
