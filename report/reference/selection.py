"""Chooses every recipe of the course on validation images, and keeps every trial in selection.json.

    .venv/bin/python report/reference/selection.py [--task mnist-small] [--workers 2]

It cannot read a test split (`stages.ValidationOnly`). Stopped or killed, it goes on with the trials
that the file lacks. The picks are written into `kdnb/tasks/` by hand, and a test compares them.

The rule, written before there was any result, is `RULE`.
"""

import argparse
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import hinton
from measures import (
    by_class,
    by_subclass,
    classifier,
    distilled,
    divisions,
    price,
    students,
    teachers,
    within,
)
from polyps_plan import plan as polyps
from stages import Plan, Settings, Stage, grid, select

from kdnb.experiment.methods import ALONE
from kdnb.models import StudentMLP, TeacherCNN, pretrained
from kdnb.tasks import task
from kdnb.tasks.config import (
    DistillationConfig,
    SubclassConfigs,
    Task,
    auxiliary_loss,
    two_views,
)
from kdnb.training.config import TrainConfig

RULE = (
    "Of the trials of a stage, the one with the highest mean score over three seeds (0 to 2, of "
    "all of MNIST 10 to 12) on the validation images is the best. Among those whose mean is at "
    "most one standard error of the best one's mean below it (over seeds), the cheapest is "
    "picked: the price is training images x epochs x views per image x multiply-adds of the "
    "network. Of equal prices the first in the grid is picked. Trials whose price is above the "
    "stage's bound are not run. A stage's score is the validation accuracy, the mean of all "
    "where several students are trained. Of a teacher that divides it is the share of digits "
    "recovered, and where there are no digits the accuracy of the student that learns its "
    "subclasses. Each stage starts from the picks before."
)
SEEDS = (0, 1, 2)
MNIST_SEEDS = (10, 11, 12)  # so that the course's own, 0 to 2, chose nothing
EMBEDDED = ("mnist-small", "mnist-small-2x5", "polyps")
FILE = Path(__file__).with_suffix(".json")

# The grids. What has one value is given, and stands here because trials are known by it.

STUDENT = {"hidden": [(64, 64)], "student_images": [500], "batch_size": [128], "translate": [2]}
CNN = {"channels": [(16, 32)], "pool_stride": [2], "batch_size": [64]}

TEACHERS = grid(
    **CNN, dropout=[0.1, 0.3], epochs=[12, 16], learning_rate=[5e-3], translate=[1, 2],
    affine=[0.0, 0.15],
)  # fmt: skip
SVMS = grid(C=[1.0, 3.0, 10.0, 30.0], gamma=["scale", 0.01, 0.02, 0.03])
NEIGHBOURS = grid(n_neighbors=[1, 3, 5, 7], weights=["uniform", "distance"])
# Students with and without a teacher are trained equally long. Of a student alone 100 epochs were
# tried as well, and were no better by more than one standard error.
REGULARISED = (
    {"weight_decay": 0.0, "label_smoothing": 0.0},
    {"weight_decay": 0.0, "label_smoothing": 0.05},
    {"weight_decay": 0.0, "label_smoothing": 0.1},
    {"weight_decay": 0.0, "label_smoothing": 0.2},
    {"weight_decay": 0.03, "label_smoothing": 0.0},
    {"weight_decay": 0.1, "label_smoothing": 0.0},
)
STUDENTS = [
    settings | regularised
    for settings in grid(**STUDENT, epochs=[200], learning_rate=[3e-3, 6e-3, 1e-2])
    for regularised in REGULARISED
]
DISTILLED = grid(
    temperature=[4.0, 8.0, 20.0], soft_weight=[0.9, 1.0], learning_rate=[3e-3, 6e-3, 1e-2],
    weight_decay=[0.0], label_smoothing=[0.0],
)  # fmt: skip
# Ten digits, each divided in five by Müller's loss: how long that teacher is trained.
SUBCLASSES = grid(epochs=[3, 6, 12])

# A teacher of the page may take about 15 s of one core, which is 6e10 multiply-adds.
DIVIDING_AT_MOST = 8e10
DIVIDING = grid(
    **CNN, dropout=[0.0, 0.1], epochs=[6, 8], learning_rate=[4e-3], translate=[1, 2],
    affine=[0.2], weight=[1.0], evenness=[1.0, 1.5],
)  # fmt: skip
UNDIVIDED = grid(
    epochs=[6, 8], batch_size=[64], learning_rate=[5e-3], translate=[1], affine=[0.0, 0.2]
)

# All of MNIST: the study's two networks. A trial of a teacher takes 10 to 15 minutes of one core.
STUDY_CNN = {"channels": [(32, 64)], "pool_stride": [1], "batch_size": [64]}
MNIST_TEACHERS = grid(
    **STUDY_CNN, dropout=[0.0, 0.5], epochs=[6, 8], learning_rate=[2e-3], translate=[1],
    affine=[0.15],
)  # fmt: skip
MNIST_DIVIDING = grid(
    **STUDY_CNN, dropout=[0.0], epochs=[3, 4], learning_rate=[2e-3], translate=[1], affine=[0.2],
    weight=[1.0], evenness=[1.5],
)  # fmt: skip
MNIST_STUDENT = {
    "hidden": [(784, 784)], "student_images": [None], "batch_size": [256], "translate": [1],
}  # fmt: skip
# With 20 epochs a student alone was worse by slightly more than one standard error, and a distilled
# one equal.
MNIST_STUDENTS = [
    settings | regularised
    for settings in grid(**MNIST_STUDENT, epochs=[30], learning_rate=[2e-3, 4e-3])
    for regularised in (REGULARISED[0], *REGULARISED[2:4])
]
MNIST_DISTILLED = grid(
    temperature=[2.0, 4.0, 8.0], soft_weight=[0.9], learning_rate=[2e-3, 4e-3],
    weight_decay=[0.0], label_smoothing=[0.0],
)  # fmt: skip
# As two classes: the temperature of all three students. With T = 1 relative probabilities alone
# gave 94.9 % (a trial of an earlier stage, "within").
MNIST_TEMPERATURES = grid(temperature=[4.0, 8.0])


# What a trial's settings make of a task


def with_teacher(of: Task, settings: Settings) -> Task:
    """The teacher, and how it is trained without subclasses."""
    teacher, config = _teacher(settings)
    return replace(of, teacher=teacher, teacher_config=TrainConfig(**config))


def undivided(of: Task, settings: Settings) -> Task:
    """How the network of the teacher that divides is trained without subclasses."""
    return replace(of, teacher_config=TrainConfig(**settings))


def _teacher(settings: Settings) -> tuple[partial, Settings]:
    """The network that these settings name, and the other settings."""
    channels, rest = tuple(settings["channels"]), dict(settings)
    others = {name: rest.pop(name) for name in ("channels", "pool_stride", "dropout")}
    return partial(TeacherCNN, **{**others, "channels": channels}), rest


def with_student(of: Task, settings: Settings) -> Task:
    """The student, its images, and how it is trained without a teacher."""
    config = dict(settings)
    student = partial(StudentMLP, hidden=tuple(config.pop("hidden")))
    sizes = replace(of.sizes, student_images=config.pop("student_images"))
    return replace(of, student=student, sizes=sizes, student_config=TrainConfig(**config))


def with_distillation(of: Task, settings: Settings) -> Task:
    """The defaults of distillation; what they do not say is as without a teacher."""
    config = dict(settings)
    numbers = config.pop("temperature"), config.pop("soft_weight")
    config = replace(of.student_config, **config)
    return replace(of, distillation=DistillationConfig(*numbers, config))


def with_temperature(of: Task, settings: Settings) -> Task:
    """The temperature of distillation, all else as it is."""
    return replace(of, distillation=replace(of.distillation, **settings))


def with_division(of: Task, settings: Settings) -> Task:
    """A teacher whose two views agree; those that it is compared with meet no affine views."""
    teacher, config = _teacher(settings)
    agreement = {name: config.pop(name) for name in ("weight", "evenness")}
    config = TrainConfig(**config)
    configs = two_views(5, config, others=replace(config, affine=0.0), **agreement)
    return replace(of, teacher=teacher, subclass_configs=configs)


def with_subclasses(of: Task, settings: Settings) -> Task:
    """A teacher of all ten digits that divides each in five, trained as long as this says."""
    config = replace(of.teacher_config, **settings)
    return replace(of, subclass_configs=SubclassConfigs(auxiliary_loss(5, config)))


def unchanged(of: Task, settings: Settings) -> Task:
    """A task has no settings of baselines: `kdnb.experiment.baselines` has them."""
    return of


TEACHER = Stage("teacher", TEACHERS, with_teacher, teachers, price("teacher"))
ALONE_STAGE = Stage("alone", STUDENTS, with_student, students(lambda of: ALONE), price("alone"))
PLANS = {
    "mnist-small": partial(
        Plan,
        stages=(
            TEACHER,
            ALONE_STAGE,
            Stage(
                "distilled", DISTILLED, with_distillation, students(distilled),
                price("distilled"), after=("teacher", "alone"),
            ),
            Stage(
                "subclasses", SUBCLASSES, with_subclasses, students(by_subclass),
                price("division"), after=("teacher", "alone", "distilled"),
            ),
            Stage("SVM", SVMS, unchanged, classifier("SVM"), after=("alone",)),
            Stage("neighbours", NEIGHBOURS, unchanged, classifier("neighbours"), after=("alone",)),
        ),
        as_many=("alone", "distilled"),
    ),
    "mnist-small-2x5": partial(
        Plan,
        stages=(
            Stage(
                "division", DIVIDING, with_division, divisions,
                price("division"), most=DIVIDING_AT_MOST,
            ),
            Stage(
                "teacher", UNDIVIDED, undivided, teachers, price("teacher"), after=("division",)
            ),
            ALONE_STAGE,
            # Students of classes and of subclasses have one recipe: the score is their mean.
            Stage(
                "distilled", DISTILLED, with_distillation, students(by_class, by_subclass),
                price("distilled"), after=("division", "alone"),
            ),
        ),
        as_many=("alone", "distilled"),
    ),
    "mnist": partial(
        Plan,
        stages=(
            replace(TEACHER, trials=MNIST_TEACHERS),
            replace(ALONE_STAGE, trials=MNIST_STUDENTS),
            Stage(
                "distilled", MNIST_DISTILLED, with_distillation, students(distilled),
                price("distilled"), after=("teacher", "alone"),
            ),
        ),
        as_many=("alone", "distilled"),
    ),
    "mnist-2x5": partial(
        Plan,
        stages=(
            Stage("division", MNIST_DIVIDING, with_division, divisions, price("division")),
            Stage(
                "temperature", MNIST_TEMPERATURES, with_temperature,
                students(by_class, by_subclass, within), price("distilled"), after=("division",),
            ),
        ),
    ),
    **hinton.PLANS,
    "polyps": polyps,
}  # fmt: skip


def named(name: str) -> Task:
    """A task of the course, or one of Hinton's networks."""
    return hinton.TASKS.get(name) or task(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", nargs="+", choices=PLANS, default=list(PLANS))
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    options = parser.parse_args()
    os.environ[pretrained.VARIABLE] = "random"  # polyps are for narrow networks
    for name in options.task:
        seeds = options.seeds or (SEEDS if name in EMBEDDED else MNIST_SEEDS)
        select(PLANS[name](named(name)), seeds, FILE, RULE, options.workers)


if __name__ == "__main__":
    main()
