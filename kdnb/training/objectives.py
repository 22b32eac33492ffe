"""What a training run minimises: labels, labels and invented subclasses, or a teacher's answers."""

from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kdnb import losses


class LossTerms(NamedTuple):
    """The loss to minimise and those of its parts that it has, each a scalar tensor (nats)."""

    total: Tensor
    hard: Tensor | None = None
    soft: Tensor | None = None
    auxiliary: Tensor | None = None


class Batch(NamedTuple):
    """What the rows of a batch show: (B,) labels, indices of images and numbers of their views.

    ``subclasses`` (B,) are the true ones where they are known.
    """

    labels: Tensor
    index: Tensor
    view: Tensor
    subclasses: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The labels, and whatever a subclass of this adds; each class has ``subclasses`` logits.

    ``class_weights`` say how much an image of each class counts in the part that hears labels; none
    means all alike. The weights of a batch are divided by their sum.
    """

    subclasses: int = 1
    class_weights: tuple[float, ...] = ()

    # How many views of each image a batch shows: first one of all images, then another.
    views_per_image: ClassVar[int] = 1
    # Whether the labels of the validation split choose the epoch that is kept.
    selects_by_validation: ClassVar[bool] = True
    # Whether the true subclasses of the training images are shown.
    uses_subclass_labels: ClassVar[bool] = False

    def __post_init__(self):
        if self.subclasses < 1:
            raise ValueError(f"subclasses must be at least 1, got {self.subclasses}")

    def loss(self, logits: Tensor, rows: Batch) -> LossTerms:
        """The loss of (B, C·s) logits for what ``rows`` show."""
        hard = self._hard(logits, rows)
        return LossTerms(hard, hard)

    def class_logits(self, logits: Tensor) -> Tensor:
        """(B, C) class logits from the (B, C·s) logits of a model."""
        return losses.class_logits(logits, self.num_classes(logits))

    def num_classes(self, logits: Tensor) -> int:
        """C of (B, C·s) logits; raises ValueError if the width is not a multiple of s."""
        if logits.shape[1] % self.subclasses:
            raise ValueError(
                f"{logits.shape[1]} logits cannot be classes of {self.subclasses} subclasses each"
            )
        return logits.shape[1] // self.subclasses

    def prepared(self, views: int, images: int, device: torch.device) -> "Objective":
        """Itself on ``device``; raises ValueError if it is not made for these views and images."""
        return self

    def _hard(self, logits: Tensor, rows: Batch) -> Tensor:
        classes = self.class_logits(logits)
        losses.check_labels(rows.labels, classes)
        return F.cross_entropy(classes, rows.labels, self._weights(classes, classes.shape[1]))

    def _weights(self, logits: Tensor, num_classes: int) -> Tensor | None:
        """``class_weights`` (C,) in the type and on the device of ``logits``."""
        if not self.class_weights:
            return None
        if len(self.class_weights) != num_classes:
            raise ValueError(
                f"class_weights must have one entry for each of {num_classes} classes, "
                f"got {len(self.class_weights)}"
            )
        return logits.new_tensor(self.class_weights)


LABELS = Objective()


@dataclass(frozen=True, kw_only=True)
class AuxiliaryLoss(Objective):
    """The labels, and ``weight`` (β) times Müller's auxiliary loss at ``temperature`` (eq. 8)."""

    weight: float = 1.0
    temperature: float = 1.0

    def loss(self, logits: Tensor, rows: Batch) -> LossTerms:
        hard = self._hard(logits, rows)
        spread = losses.subclass_auxiliary_loss(logits, self.num_classes(logits), self.temperature)
        return LossTerms(hard + self.weight * spread, hard, auxiliary=spread)


@dataclass(frozen=True, kw_only=True)
class MutualInformation(Objective):
    """The labels, and ``weight`` times the loss by which two views agree on one subclass."""

    weight: float = 1.0
    evenness: float = 1.0
    views_per_image: ClassVar[int] = 2

    def loss(self, logits: Tensor, rows: Batch) -> LossTerms:
        hard = self._hard(logits, rows)
        one, other = logits.chunk(2)
        labels = rows.labels[: len(one)]
        disagreement = losses.subclass_agreement_loss(
            one, other, labels, self.num_classes(logits), self.evenness
        )
        return LossTerms(hard + self.weight * disagreement, hard, auxiliary=disagreement)


@dataclass(frozen=True, kw_only=True)
class KnownSubclasses(Objective):
    """The true subclasses are shown: one cross-entropy over all of them.

    True subclass k must be column k, so that it belongs to class k // subclasses.
    """

    uses_subclass_labels: ClassVar[bool] = True

    def loss(self, logits: Tensor, rows: Batch) -> LossTerms:
        if rows.subclasses is None:
            raise ValueError("these images have no known subclasses: choose another objective")
        losses.check_labels(rows.subclasses, logits)
        if not torch.equal(rows.subclasses // self.subclasses, rows.labels):
            raise ValueError(
                f"a true subclass lies outside the class of its label: class c must have the "
                f"subclasses {self.subclasses}·c to {self.subclasses}·c + {self.subclasses - 1}"
            )
        weights = self._weights(logits, self.num_classes(logits))
        if weights is not None:
            weights = weights.repeat_interleave(self.subclasses)
        hard = F.cross_entropy(logits, rows.subclasses, weights)
        return LossTerms(hard, hard)


@dataclass(frozen=True, kw_only=True)
class TeacherObjective(Objective):
    """A teacher's answers, looked up and never computed again.

    ``teacher_logits``: (views, images, C·s) float32, views as the config numbers them, images in
    the order of the training split; empty until they are needed.
    """

    temperature: float
    teacher_logits: Tensor = field(default_factory=lambda: torch.empty(0, 0, 0), compare=False)

    def __post_init__(self):
        super().__post_init__()
        losses.check_temperature(self.temperature)

    def prepared(self, views: int, images: int, device: torch.device) -> Objective:
        have, need = tuple(self.teacher_logits.shape[:2]), (views, images)
        if have != need:
            raise ValueError(
                f"teacher_logits must cover {need[0]} views of {need[1]} images, "
                f"got {have[0]} views of {have[1]}"
            )
        return replace(self, teacher_logits=self.teacher_logits.to(device))

    def _soft_targets(self, rows: Batch) -> Tensor:
        return self.teacher_logits[rows.view, rows.index]


@dataclass(frozen=True, kw_only=True)
class Distillation(TeacherObjective):
    """The teacher's softened answers, mixed with the labels by ``soft_weight``.

    With one subclass per class this is conventional distillation.
    """

    soft_weight: float

    def __post_init__(self):
        super().__post_init__()
        losses.check_soft_weight(self.soft_weight)

    def prepared(self, views: int, images: int, device: torch.device) -> Objective:
        ready = super().prepared(views, images, device)
        if self.subclasses > 1 or self.class_weights:
            return ready
        t, answers = self.temperature, ready.teacher_logits
        return _InOnePass(
            **vars(ready),
            softened=F.softmax(answers / t, dim=2).flatten(0, 1),
            certain=torch.eye(answers.shape[2]).to(answers),
            inverse=answers.new_tensor([1 / t, 1.0])[:, None, None],
            scale=answers.new_tensor([t**2, 1.0]),
            mix=answers.new_tensor([self.soft_weight, 1 - self.soft_weight]),
        )

    def loss(self, logits: Tensor, rows: Batch) -> LossTerms:
        total, soft, hard = losses.subclass_distillation_loss(
            logits,
            rows.labels,
            self._soft_targets(rows),
            self.num_classes(logits),
            self.temperature,
            self.soft_weight,
            self._weights(logits, self.num_classes(logits)),
        )
        return LossTerms(total, hard, soft)


@dataclass(frozen=True, kw_only=True)
class _InOnePass(Distillation):
    """Conventional distillation in few operations, which for a small student are the time.

    A label is a teacher without doubt: the divergence from a one-hot target is the cross-entropy.
    So both parts are one divergence, at two temperatures: from ``softened`` (views·images, C), and
    from ``certain``, the (C, C) one-hot targets, at T = 1. ``inverse`` (2, 1, 1) are 1/T, ``scale``
    (2,) the factors T², ``mix`` (2,) the weights of the parts.
    """

    softened: Tensor
    certain: Tensor
    inverse: Tensor
    scale: Tensor
    mix: Tensor

    def loss(self, logits: Tensor, rows: Batch) -> LossTerms:
        images = self.teacher_logits.shape[1]
        soft_targets = self.softened.index_select(0, rows.view * images + rows.index)
        hard_targets = self.certain.index_select(0, rows.labels)
        targets = torch.stack((soft_targets, hard_targets)).to(logits.dtype)
        log_student = F.log_softmax(logits * self.inverse, dim=2)
        # Where a target underflows to 0, kl_div counts 0, as it should.
        divergences = F.kl_div(log_student, targets, reduction="none").sum((1, 2))
        soft, hard = parts = divergences * (self.scale / len(logits))
        return LossTerms(parts @ self.mix, hard, soft)


@dataclass(frozen=True, kw_only=True)
class WithinClasses(TeacherObjective):
    """Only how the teacher divides each class; no label, and nothing that tells classes apart."""

    selects_by_validation: ClassVar[bool] = False

    def loss(self, logits: Tensor, rows: Batch) -> LossTerms:
        soft = losses.within_class_loss(
            logits, self._soft_targets(rows), self.num_classes(logits), self.temperature
        )
        return LossTerms(soft, soft=soft)
