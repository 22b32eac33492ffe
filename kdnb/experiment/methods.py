"""The methods that are compared: what each student learns from, and from which teacher."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from kdnb import losses
from kdnb.tasks.config import SubclassConfig
from kdnb.training.objectives import LABELS, Distillation, Objective, WithinClasses


class Match(StrEnum):
    """What of a teacher's output the student shall match."""

    CLASSES = "class probabilities"
    SUBCLASSES = "subclass probabilities"
    WITHIN_CLASSES = "relative probabilities within each class"


@dataclass(frozen=True)
class Method:
    """How a student is trained. Without a ``temperature`` it never meets the teacher.

    ``subclass_config`` says how its teacher came by subclasses (None: it has none). Only a student
    that matches subclasses has a head for them.
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

    def objective(self) -> Objective:
        """What the student minimises; its teacher's logits are still to be put in."""
        if self.temperature is None:
            return LABELS
        own_head = self.match != Match.CLASSES
        subclasses = self.subclass_config.objective.subclasses if own_head else 1
        # A whole number is described otherwise than the same number with decimals.
        temperature, soft_weight = float(self.temperature), float(self.soft_weight)
        if self.match == Match.WITHIN_CLASSES:
            return WithinClasses(temperature=temperature, subclasses=subclasses)
        return Distillation(temperature=temperature, soft_weight=soft_weight, subclasses=subclasses)

    def matched(self, teacher_logits: Tensor, num_classes: int) -> Tensor:
        """What of its teacher's (views, N, outputs) logits this student shall match."""
        if self.match != Match.CLASSES:
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

    >>> conventional(temperature=4.0).soft_weight
    0.9
    """
    return Method(label, temperature, soft_weight, subclass_config)


def subclass(
    temperature: float,
    soft_weight: float,
    subclass_config: SubclassConfig,
    label: str = "student + subclass KD",
) -> Method:
    """Müller, Kornblith & Hinton 2020: the soft targets are the teacher's subclasses."""
    return Method(label, temperature, soft_weight, subclass_config, Match.SUBCLASSES)


def within_classes(
    temperature: float,
    subclass_config: SubclassConfig,
    label: str = "student, relative probabilities only",
) -> Method:
    """Only the relative probabilities within each class, and no label."""
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
