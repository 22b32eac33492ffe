"""The methods that are compared: what each student hears, and from which teacher."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from kdnb import losses
from kdnb.tasks.config import SubclassConfig
from kdnb.training.objectives import LABELS, Distillation, Objective, WithinClasses


class Match(StrEnum):
    """What of a teacher's answer the student shall match."""

    CLASSES = "class probabilities"
    SUBCLASSES = "subclass probabilities"
    WITHIN_CLASSES = "relative probabilities within each class"


@dataclass(frozen=True)
class Method:
    """How a student is trained. Without a ``temperature`` it never meets the teacher.

    ``subclass_config`` says how its teacher came by subclasses (None: it has none), ``match`` what
    the
    student learns from that teacher. Only a student that matches subclasses has a head for them.
    """

    label: str
    temperature: float | None = None
    soft_weight: float = 0.0
    subclass_config: SubclassConfig | None = None
    match: Match = Match.CLASSES

    def __post_init__(self):
        if self.temperature is not None:
            losses.check_temperature(self.temperature)
        losses.check_soft_weight(self.soft_weight)
        if self.match != Match.CLASSES and self.subclass_config is None:
            raise ValueError(f"a teacher without subclasses has no {self.match.value} to match")

    @property
    def subclasses(self) -> int:
        """How many logits the student has for each class."""
        return 1 if self.match == Match.CLASSES else self.subclass_config.objective.subclasses

    def objective(self) -> Objective:
        """What the student minimises; its teacher's answers are still to be put in."""
        if self.temperature is None:
            return LABELS
        shared = {"temperature": self.temperature, "subclasses": self.subclasses}
        if self.match == Match.WITHIN_CLASSES:
            return WithinClasses(**shared)
        return Distillation(**shared, soft_weight=self.soft_weight)

    def matched(self, teacher_logits: Tensor, num_classes: int) -> Tensor:
        """What of its teacher's (views, N, outputs) logits this student shall match."""
        if self.match != Match.CLASSES:
            return teacher_logits
        return torch.stack([losses.class_logits(view, num_classes) for view in teacher_logits])


ALONE = Method("student without teacher")


def conventional(
    temperature: float,
    soft_weight: float,
    label: str = "",
    subclass_config: SubclassConfig | None = None,
) -> Method:
    """Hinton, Vinyals & Dean 2015: soft targets at ``temperature``, mixed with the labels.

    With a ``subclass_config`` the teacher has subclasses, but only its class probabilities are
    matched.
    """
    label = label or "student + conventional KD"
    return Method(label, temperature, soft_weight, subclass_config)


def subclass(
    temperature: float, soft_weight: float, subclass_config: SubclassConfig, label: str = ""
) -> Method:
    """Müller, Kornblith & Hinton 2020: the soft targets are the teacher's subclasses."""
    label = label or "student + subclass KD"
    return Method(label, temperature, soft_weight, subclass_config, Match.SUBCLASSES)


def within_classes(temperature: float, subclass_config: SubclassConfig, label: str = "") -> Method:
    """Only the relative probabilities within each class, and no label."""
    label = label or "student, relative probabilities only"
    return Method(label, temperature, 1.0, subclass_config, Match.WITHIN_CLASSES)


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
