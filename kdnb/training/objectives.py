"""Training objectives: a function of `kdnb.losses` with its settings."""

from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from kdnb import losses


class LossTerms(NamedTuple):
    """The loss to minimise and its terms, each a scalar tensor (nats)."""

    total: Tensor
    hard: Tensor | None = None
    soft: Tensor | None = None
    auxiliary: Tensor | None = None


class Batch(NamedTuple):
    """The targets of (B,) images for a loss; None where the objective does not need them.

    Labels, true subclasses, indices of the images and numbers of their views are (B,) int64, the
    teacher's logits and soft targets (B, outputs).
    """

    labels: Tensor
    index: Tensor | None = None
    view: Tensor | None = None
    subclasses: Tensor | None = None
    teacher_logits: Tensor | None = None
    soft_targets: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The label loss, to which subclasses of this add terms; each class has ``subclasses`` logits.

    ``class_weights`` weigh the images of each class in the label loss; none means equal weights.
    The weights of a batch are divided by their sum. ``label_smoothing`` comes from the config.
    """

    subclasses: int = 1
    class_weights: tuple[float, ...] = ()
    label_smoothing: float = 0.0

    # The number of views of each image in a batch: all images in one view, then in another.
    views_per_image: ClassVar[int] = 1
    # Whether the true subclasses of the training images are shown.
    uses_subclass_labels: ClassVar[bool] = False

    def __post_init__(self):
        if self.subclasses < 1:
            raise ValueError(f"subclasses must be at least 1, got {self.subclasses}")

    def loss(self, logits: Tensor, batch: Batch) -> LossTerms:
        """The loss of (B, C·s) logits; a pure function, so that `torch.vmap` can map it."""
        hard = self._label_loss(logits, batch)
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

    def check_table(self, views: int, images: int) -> None:
        """Raise ValueError unless the cached logits cover these views and images."""

    def on(self, device: torch.device) -> "Objective":
        """The objective on ``device``, with everything that can be computed before training."""
        return self

    def batch(self, labels: Tensor, index: Tensor, view: Tensor) -> Batch:
        """The targets of image ``index[b]``, with its label, in view ``view[b]``."""
        return Batch(labels, index, view)

    def _label_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        numbers = self._weights(logits), self.label_smoothing
        return losses.label_loss(self.class_logits(logits), batch.labels, *numbers)

    def _weights(self, logits: Tensor) -> Tensor | None:
        """``class_weights`` (C,) in the type and on the device of ``logits``."""
        if not self.class_weights:
            return None
        if len(self.class_weights) != self.num_classes(logits):
            raise ValueError(
                f"class_weights must have one entry for each of {self.num_classes(logits)} "
                f"classes, got {len(self.class_weights)}"
            )
        # Copied from the CPU, they could not be part of a recording (`kdnb.training.recorded`).
        return torch.stack([logits.new_full((), weight) for weight in self.class_weights])


LABELS = Objective()


@dataclass(frozen=True, kw_only=True)
class AuxiliaryLoss(Objective):
    """The label loss plus ``weight`` (β) times Müller's auxiliary loss (eq. 8)."""

    weight: float = 1.0
    temperature: float = 1.0

    def loss(self, logits: Tensor, batch: Batch) -> LossTerms:
        hard = self._label_loss(logits, batch)
        auxiliary = losses.subclass_auxiliary_loss(
            logits, self.num_classes(logits), self.temperature
        )
        return LossTerms(hard + self.weight * auxiliary, hard, auxiliary=auxiliary)


@dataclass(frozen=True, kw_only=True)
class MutualInformation(Objective):
    """The label loss, minus ``weight`` times the mutual information of two views' subclasses."""

    weight: float = 1.0
    evenness: float = 1.0
    views_per_image: ClassVar[int] = 2

    def loss(self, logits: Tensor, batch: Batch) -> LossTerms:
        hard = self._label_loss(logits, batch)
        one, other = logits.chunk(2)
        auxiliary = losses.subclass_agreement_loss(
            one, other, batch.labels[: len(one)], self.num_classes(logits), self.evenness
        )
        return LossTerms(hard + self.weight * auxiliary, hard, auxiliary=auxiliary)


@dataclass(frozen=True, kw_only=True)
class KnownSubclasses(Objective):
    """Training on the true subclasses: one cross-entropy over all of them.

    True subclass k must be column k, so that it belongs to class k // subclasses.
    """

    uses_subclass_labels: ClassVar[bool] = True

    def loss(self, logits: Tensor, batch: Batch) -> LossTerms:
        if batch.subclasses is None:
            raise ValueError("these images have no known subclasses: choose another objective")
        if not torch.equal(batch.subclasses // self.subclasses, batch.labels):
            raise ValueError(
                f"a true subclass lies outside the class of its label: class c must have the "
                f"subclasses {self.subclasses}·c to {self.subclasses}·c + {self.subclasses - 1}"
            )
        weights = self._weights(logits)
        if weights is not None:
            weights = weights.repeat_interleave(self.subclasses)
        hard = losses.label_loss(logits, batch.subclasses, weights, self.label_smoothing)
        return LossTerms(hard, hard)


@dataclass(frozen=True, kw_only=True)
class TeacherObjective(Objective):
    """A teacher's cached logits.

    ``teacher_logits``: (views, images, C·s) float32, views as the config numbers them, images in
    the order of the training split; empty until they are needed. ``soft_targets``, (views · images,
    C·s), are the same softened, computed once when training begins.
    """

    temperature: float
    teacher_logits: Tensor = field(default_factory=lambda: torch.empty(0, 0, 0), compare=False)
    soft_targets: Tensor | None = field(default=None, repr=False, compare=False)

    def __post_init__(self):
        super().__post_init__()
        losses.check_temperature(self.temperature)

    def check_table(self, views: int, images: int) -> None:
        have = tuple(self.teacher_logits.shape[:2])
        if have != (views, images):
            raise ValueError(
                f"teacher_logits must cover {views} views of {images} images, "
                f"got {have[0]} views of {have[1]}"
            )

    def on(self, device: torch.device) -> Objective:
        return replace(self, teacher_logits=self.teacher_logits.to(device))

    def batch(self, labels: Tensor, index: Tensor, view: Tensor) -> Batch:
        if self.soft_targets is None:
            return Batch(labels, index, view, teacher_logits=self.teacher_logits[view, index])
        rows = view * self.teacher_logits.shape[1] + index
        return Batch(labels, index, view, soft_targets=self.soft_targets.index_select(0, rows))


@dataclass(frozen=True, kw_only=True)
class Distillation(TeacherObjective):
    """The teacher's soft targets, mixed with the labels by ``soft_weight``.

    With one subclass per class this is conventional distillation.
    """

    soft_weight: float

    def __post_init__(self):
        super().__post_init__()
        losses.check_soft_weight(self.soft_weight)

    def on(self, device: torch.device) -> Objective:
        ready = super().on(device)
        targets = losses.soften(ready.teacher_logits, self.temperature)
        return replace(ready, soft_targets=targets.flatten(0, 1))

    def loss(self, logits: Tensor, batch: Batch) -> LossTerms:
        numbers = (self.temperature, self.soft_weight, self._weights(logits))
        numbers += (batch.soft_targets, self.label_smoothing)
        if self.subclasses == 1:
            parts = losses.distillation_loss(logits, batch.labels, batch.teacher_logits, *numbers)
        else:
            parts = losses.subclass_distillation_loss(
                logits, batch.labels, batch.teacher_logits, self.num_classes(logits), *numbers
            )
        return LossTerms(parts.total, parts.hard, parts.soft)


@dataclass(frozen=True, kw_only=True)
class WithinClasses(TeacherObjective):
    """Only the teacher's division of each class: no label, and no information about the class."""

    def loss(self, logits: Tensor, batch: Batch) -> LossTerms:
        soft = losses.within_class_loss(
            logits, batch.teacher_logits, self.num_classes(logits), self.temperature
        )
        return LossTerms(soft, soft=soft)
