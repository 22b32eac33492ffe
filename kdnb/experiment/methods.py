"""The methods that are compared: each student's objective and teacher."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from kdnb import losses
from kdnb.tasks.config import SubclassConfig
from kdnb.training.objectives import (
    LABELS,
    Distillation,
    Objective,
    TeacherObjective,
    WithinClasses,
)


@dataclass(frozen=True)
class Method:
    """A way to train a student: its objective, and the division of its teacher's classes.

    A `TeacherObjective` here has no teacher's logits yet. An objective with several subclasses
    matches those of the teacher; only such a student has a head for them. ``soft_targets`` turns
    the teacher's logits (views, N, outputs) into others, given the labels (N,) of the images.
    """

    label: str
    objective: Objective = LABELS
    subclass_config: SubclassConfig | None = None
    soft_targets: Callable[[Tensor, Tensor], Tensor] | None = None

    def __post_init__(self):
        size = self.subclass_config.objective.subclasses if self.subclass_config else 1
        if self.objective.subclasses not in (1, size):
            raise ValueError(
                f"a student cannot match {self.objective.subclasses} subclasses of each class, "
                f"its teacher has {size}"
            )

    @property
    def has_teacher(self) -> bool:
        """Whether the student has a teacher."""
        return isinstance(self.objective, TeacherObjective)

    def matched(self, teacher_logits: Tensor, labels: Tensor, num_classes: int) -> Tensor:
        """The logits that this student matches, from its teacher's (views, N, outputs) logits."""
        if self.objective.subclasses == 1:
            classes = [losses.class_logits(view, num_classes) for view in teacher_logits]
            teacher_logits = torch.stack(classes)
        return self.soft_targets(teacher_logits, labels) if self.soft_targets else teacher_logits


ALONE = Method("student without teacher")


def conventional(
    temperature: float,
    soft_weight: float = 0.9,
    label: str = "student + conventional KD",
    subclass_config: SubclassConfig | None = None,
) -> Method:
    """Hinton, Vinyals & Dean 2015: soft targets at ``temperature``, mixed with the labels.

    With a ``subclass_config`` the teacher has subclasses, of which only the sums are matched.

    >>> conventional(temperature=4.0).objective.soft_weight
    0.9
    """
    objective = Distillation(temperature=temperature, soft_weight=soft_weight)
    return Method(label, objective, subclass_config)


def subclass(
    temperature: float,
    soft_weight: float,
    subclass_config: SubclassConfig,
    label: str = "student + subclass KD",
) -> Method:
    """Müller, Kornblith & Hinton 2020: the soft targets are the teacher's subclasses."""
    size = subclass_config.objective.subclasses
    objective = Distillation(temperature=temperature, soft_weight=soft_weight, subclasses=size)
    return Method(label, objective, subclass_config)


def within_classes(
    temperature: float,
    subclass_config: SubclassConfig,
    label: str = "student, relative probabilities only",
) -> Method:
    """Only the relative probabilities within each class, and no label."""
    size = subclass_config.objective.subclasses
    return Method(label, WithinClasses(temperature=temperature, subclasses=size), subclass_config)


def controls(method: Method, num_classes: int) -> list[Method]:
    """Conventional distillation by ``method``, each time without one of its parts.

    If a control gains as much, the gain does not need this part. Omitted are the permutation of
    wrong classes with two classes, and T² without labels, where it is only a constant factor.
    """
    one, given = method.objective, "teacher's argmax as hard label"
    spread = partial(smoothed, temperature=one.temperature)
    hard = replace(one, temperature=1.0)
    bare = replace(one, soft_weight=without_t2(one.temperature, one.soft_weight))
    found = [
        replace(method, label="KD, wrong classes permuted", soft_targets=permuted),
        replace(method, label=given, objective=hard, soft_targets=argmax),
        replace(method, label="labels smoothed to the teacher's confidence", soft_targets=spread),
        replace(method, label="KD without T²", objective=bare),
    ]
    first, last = (1 if num_classes == 2 else 0), (3 if one.soft_weight == 1 else 4)
    return found[first:last]


def permuted(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """The logits of an image's wrong classes in another order, by a fixed seed.

    All views of an image have the same order. Confidence and entropy are unchanged; the similarity
    of classes is lost.

    >>> permuted(torch.tensor([[[9.0, 1.0, 2.0, 3.0]]]), torch.tensor([0])).sort().values
    tensor([[[1., 2., 3., 9.]]])
    """
    views, _, classes = teacher_logits.shape
    order = torch.rand(len(labels), classes, generator=torch.Generator().manual_seed(0))
    label = F.one_hot(labels, classes).bool()
    wrong = torch.arange(classes).expand(len(labels), -1)[~label].view(len(labels), -1)
    drawn = wrong.gather(1, order[:, 1:].argsort(1))
    source = labels[:, None].repeat(1, classes)
    source[~label] = drawn.flatten()
    return teacher_logits.gather(2, source.expand(views, -1, -1))


def argmax(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """Logits whose softmax at T = 1 is 1 for the teacher's largest class and 0 for the others."""
    return 1e4 * F.one_hot(teacher_logits.argmax(2), teacher_logits.shape[2]).float()


def smoothed(teacher_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Logits that give each label the teacher's mean probability of labels, at ``temperature``.

    The means are over images and views; the rest is spread evenly over the other classes.
    """
    shape, classes = teacher_logits.shape, teacher_logits.shape[2]
    label = F.one_hot(labels, classes).bool().expand(shape)
    mean = losses.soften(teacher_logits.double(), temperature)[label].mean()
    other = (1 - mean) / (classes - 1)
    return (temperature * torch.where(label, mean, other).log()).to(teacher_logits.dtype)


def without_t2(temperature: float, soft_weight: float) -> float:
    """The weight at which the loss is a multiple of that without T² at ``soft_weight``.

    w · soft / T² + (1 − w) · hard = (w / T² + 1 − w) · (w' · soft + (1 − w') · hard). Adam ignores
    the factor.

    >>> round(without_t2(temperature=4.0, soft_weight=0.9), 2)
    0.36
    """
    soft = soft_weight / temperature**2
    return soft / (soft + 1 - soft_weight)


LARGEST_SEED = 2**32 - 1  # torch takes larger ones, numpy does not


def check_seed(seed: object) -> None:
    """Raise ValueError unless torch, numpy and `random` can all be seeded with it."""
    # True is an int in Python, and a number of numpy's cannot be stored with a run.
    if type(seed) is not int or not 0 <= seed <= LARGEST_SEED:
        raise ValueError(f"a seed must be a whole number from 0 to {LARGEST_SEED}, got {seed!r}")


def check_seeds(seeds: object) -> None:
    """Raise ValueError unless these are seeds: at least one, and each only once."""
    check_each("seed", seeds, check_seed, "d")


def check_each(
    what: str, values: object, check: Callable[[object], None], written: str = "g"
) -> None:
    """Raise ValueError unless there are ``values``, ``check`` passes each, and they differ.

    They must differ as ``written`` in labels, "g" in six digits: else two methods have one label.
    """
    if not isinstance(values, Iterable) or isinstance(values, str):
        raise ValueError(f"give a list of {what}s, got {values!r}")
    values = list(values)
    for value in values:
        check(value)
    if len({format(value, written) for value in values}) != len(values) or not values:
        raise ValueError(f"give at least one {what} and each only once, got {values}")
