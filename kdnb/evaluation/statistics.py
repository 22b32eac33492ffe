"""Scores of classes that are not equally frequent, and how far other images could move them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from kdnb.evaluation.metrics import Interval


@dataclass(frozen=True)
class Metric:
    """A named number from class logits (N, C) and labels (N,); the larger, the better.

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
    """The metrics that say something about these classes; of two, the second is the positive one.

    >>> [metric.name for metric in class_metrics(["HP", "SSA"])]
    ['accuracy', 'balanced accuracy', 'weighted F1', 'SSA F1', 'AUC']
    """
    always = (overall_accuracy, balanced_accuracy, weighted_f1)
    return (*always, f1(1, class_names[1]), auc) if len(class_names) == 2 else always


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

    >>> labels = torch.tensor([0, 1]).repeat(50)
    >>> Bootstrap(labels).interval(weighted_f1, F.one_hot(labels).double()[None])
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
