"""A task: data, two networks, their training configs, and texts."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import nn

from kdnb import data
from kdnb.data import Dataset, Split
from kdnb.data.dataset import stratified_indices
from kdnb.training.config import TrainConfig
from kdnb.training.objectives import AuxiliaryLoss, MutualInformation, Objective

SUBSET_SEED = 1
# The numbers of the notebooks in a report.
COURSE = ("00", "01", "02", "03", "04", "05", "06")
# Notebook 00 is about the wrong classes, of which it needs several.
TWO_CLASSES = COURSE[1:]
# In a report only on request: 07 makes its own data, 08 is about bugs.
APART = ("07", "08")


@dataclass(frozen=True)
class SubclassConfig:
    """One way for a teacher to divide each class into subclasses: an objective and a config."""

    label: str
    objective: Objective
    train_config: TrainConfig


@dataclass(frozen=True)
class SubclassConfigs:
    """The task's way to divide, ``others`` for comparison, and true subclasses if known."""

    default: SubclassConfig
    others: tuple[SubclassConfig, ...] = ()
    known: SubclassConfig | None = None


@dataclass(frozen=True)
class DistillationConfig:
    """The defaults of distillation (`kdnb.losses.distillation_loss`).

    ``train_config`` is the config of students with a teacher, if other than without one.
    """

    temperature: float = 4.0
    soft_weight: float = 0.9
    train_config: TrainConfig | None = None


@dataclass(frozen=True)
class Sizes:
    """The number of training images that each student sees (None: all), and sweeps over sizes.

    ``student_image_counts`` are other numbers of images. ``students`` are pairs of a name and a
    function that builds a student, the largest first; ``swept`` names that of sweeps and controls.
    """

    student_images: int | None = None
    student_image_counts: tuple[int, ...] = ()
    students: tuple[tuple[str, Callable[..., nn.Module]], ...] = ()
    swept: str = ""


@dataclass(frozen=True)
class SaliencySettings:
    """The number of test ``images`` and the ``methods`` (`kdnb.evaluation.saliency.Saliency`).

    ``background`` is the brightness of an empty image, in [0, 1]; ``steps`` the number of steps in
    which pixels are removed.
    """

    images: int = 60
    steps: int = 10
    methods: tuple[str, ...] = ("gradient", "integrated gradients")
    background: float = 0.0


@dataclass(frozen=True)
class TaskText:
    """A task's texts in the course, and its ``notebooks`` (none: as its classes allow).

    ``choices`` gives the choices and their reasons, ``teacher`` describes the teacher,
    ``subclass_configs`` the differences of the configs, ``caveats`` the limits of the results, and
    ``published`` the results of others, with weighted F1 by label in ``published_scores``.
    ``two_class_task`` names the task with the same images and two classes.
    """

    title: str
    choices: str = ""
    teacher: str = ""
    subclass_configs: str = ""
    caveats: str = ""
    published: str = ""
    published_scores: tuple[tuple[str, float], ...] = ()
    notebooks: tuple[str, ...] = ()
    two_class_task: str = ""


@dataclass(frozen=True)
class Task:
    """The subject of one run of the course; its report has the same ``name``.

    ``dataset`` is a name that `kdnb.data.load` knows, or a source such as `kdnb.data.ImageFolder`.
    ``teacher`` and ``student`` build an untrained network when called with ``num_classes`` and
    ``subclasses``. ``student_config`` is for a student without a teacher, `distilled_config` for
    one with a teacher. ``balanced`` gives every class the same weight in the label loss.
    """

    name: str
    dataset: str | Callable[[], Dataset]
    teacher: Callable[..., nn.Module]
    student: Callable[..., nn.Module]
    teacher_config: TrainConfig
    student_config: TrainConfig
    subclass_configs: SubclassConfigs
    text: TaskText
    distillation: DistillationConfig = DistillationConfig()
    sizes: Sizes = Sizes()
    saliency: SaliencySettings = SaliencySettings()
    balanced: bool = False

    def __post_init__(self):
        check_name(self.name)

    @property
    def temperature(self) -> float:
        """The default temperature of distillation."""
        return self.distillation.temperature

    @property
    def soft_weight(self) -> float:
        """The default weight of the soft targets, in [0, 1]."""
        return self.distillation.soft_weight

    @property
    def distilled_config(self) -> TrainConfig:
        """The config of a student with a teacher."""
        return self.distillation.train_config or self.student_config

    def with_student(self, student: Callable[..., nn.Module], **changes: object) -> "Task":
        """The task with another student; ``changes`` apply to both configs."""
        alone, distilled = (
            replace(config, **changes) for config in (self.student_config, self.distilled_config)
        )
        distillation = replace(self.distillation, train_config=distilled)
        return replace(self, student=student, student_config=alone, distillation=distillation)

    @property
    def subclass_config(self) -> SubclassConfig:
        """The way in which a teacher of this task divides classes."""
        return self.subclass_configs.default

    def load(self) -> Dataset:
        """The task's dataset; raises `kdnb.data.DataError` where it is not available."""
        if callable(self.dataset):
            return replace(self.dataset(), name=self.name)
        return data.load(self.dataset)

    def resolved(self, dataset: Dataset) -> "Task":
        """The task with all settings that follow from its data: itself, if none do."""
        return self

    def chapters(self, dataset: Dataset) -> tuple[str, ...]:
        """The numbers of the notebooks that a report on this task holds."""
        return self.text.notebooks or (COURSE if len(dataset.class_names) > 2 else TWO_CLASSES)

    def transfer_set(self, dataset: Dataset) -> Split:
        """The training images that every student of this task sees, with the class shares kept."""
        count, total = self.sizes.student_images, len(dataset.train)
        if count in (None, total):
            return dataset.train
        if not 0 < count <= total:
            raise ValueError(
                f"student_images must lie in 1..{total} for {dataset.name}, got {count}"
            )
        (index,) = stratified_indices(dataset.train.labels, (count,), SUBSET_SEED)
        return dataset.train.take(index)


def check_name(name: str) -> None:
    """Raise ValueError unless a task's ``name`` can be a file name."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(
            f"a task's name is also a file name: use letters, digits, - and _, got {name!r}"
        )


def auxiliary_loss(subclasses: int, config: TrainConfig) -> SubclassConfig:
    """Müller, Kornblith & Hinton 2020, eq. 6-7."""
    return SubclassConfig("Müller's auxiliary loss", AuxiliaryLoss(subclasses=subclasses), config)


def two_views(
    subclasses: int,
    config: TrainConfig,
    others: TrainConfig | None = None,
    weight: float = 1.0,
    evenness: float = 1.5,
) -> SubclassConfigs:
    """Mutual information between the subclasses of two views of an image, trained by ``config``.

    If ``others`` is given, it trains Müller's auxiliary loss and none for comparison.
    """
    objective = MutualInformation(subclasses=subclasses, evenness=evenness, weight=weight)
    alone = SubclassConfig("no auxiliary loss", Objective(subclasses=subclasses), others)
    compared = (alone, auxiliary_loss(subclasses, others)) if others else ()
    return SubclassConfigs(SubclassConfig("mutual information (IIC)", objective, config), compared)
