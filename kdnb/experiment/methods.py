"""The methods that are compared: what each student learns from, and from which teacher."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
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
    """How a student is trained: what it minimises, and how its teacher came by subclasses.

    A `TeacherObjective` is still without its teacher's logits. An objective with several subclasses
    matches those of the teacher; only such a student has a head for them.
    """

    label: str
    objective: Objective = LABELS
    subclass_config: SubclassConfig | None = None

    def __post_init__(self):
        size = self.subclass_config.objective.subclasses if self.subclass_config else 1
        if self.objective.subclasses not in (1, size):
            raise ValueError(
                f"a student cannot match {self.objective.subclasses} subclasses of each class, "
                f"its teacher has {size}"
            )

    @property
    def has_teacher(self) -> bool:
        """Whether the student ever meets a teacher."""
        return isinstance(self.objective, TeacherObjective)

    def matched(self, teacher_logits: Tensor, num_classes: int) -> Tensor:
        """What of its teacher's (views, N, outputs) logits this student shall match."""
        if self.objective.subclasses > 1:
            return teacher_logits
        return torch.stack([losses.class_logits(view, num_classes) for view in teacher_logits])


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
