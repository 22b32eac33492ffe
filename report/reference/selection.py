"""Chooses every recipe of the course on validation images, and keeps every trial in selection.json.

    .venv/bin/python report/reference/selection.py [--task mnist-small] [--workers 2]

It cannot read a test split (`stages.ValidationOnly`). Stopped or killed, it goes on with the trials
that the file lacks. The picks are written into `kdnb/tasks/` by hand, and a test compares them.

The rule, written before there was any result, is `RULE`.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from stages import Numbers, Plan, Settings, Stage, grid, select, train_config
from torch import Tensor

from kdnb import losses
from kdnb.data.augmentation import TranslatedImages, random_affine
from kdnb.environment import seeded
from kdnb.evaluation.cost import cost
from kdnb.evaluation.metrics import accuracy, live_subclasses, match_subclasses
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import ALONE, Method, conventional, subclass
from kdnb.experiment.requests import RunRequest
from kdnb.models import StudentMLP, TeacherCNN
from kdnb.tasks import task
from kdnb.tasks.config import DistillationConfig, Task, two_views
from kdnb.training.predict import evaluating

RULE = (
    "Of the trials of a stage, the one with the highest mean score over the seeds 0, 1 and 2 on "
    "the validation images is the best. Among those whose mean is at most one standard error of "
    "the best one's mean below it (over seeds), the cheapest is picked: the price is training "
    "images x epochs x views per image x multiply-adds of the network. Of equal prices the first "
    "in the grid is picked. Trials whose price is above the stage's bound are not run. A stage's "
    "score is the validation accuracy, for a teacher that divides the share of digits recovered. "
    "Each stage starts from the picks of the stages before."
)
SEEDS = (0, 1, 2)
FILE = Path(__file__).with_suffix(".json")

# The grids. What has one value is given, and stands here because trials are known by it.

STUDENT = {"hidden": [(128, 128)], "student_images": [500], "batch_size": [64], "translate": [2]}

TEACHERS = grid(
    channels=[(16, 32)], epochs=[8, 12], batch_size=[32], learning_rate=[2e-3, 3e-3],
    translate=[1, 2],
)  # fmt: skip
SVMS = grid(C=[1.0, 3.0, 10.0, 30.0], gamma=["scale", 0.01, 0.03])
NEIGHBOURS = grid(n_neighbors=[1, 3, 5, 7], weights=["uniform", "distance"])
STUDENTS = [
    settings | regularised
    for settings in grid(**STUDENT, epochs=[200, 400], learning_rate=[1e-3, 3e-3])
    for regularised in (
        {"weight_decay": 0.0, "label_smoothing": 0.0},
        {"weight_decay": 0.0, "label_smoothing": 0.1},
        {"weight_decay": 0.03, "label_smoothing": 0.0},
    )
]
DISTILLED = grid(
    temperature=[4.0, 8.0, 20.0], soft_weight=[0.9, 1.0], learning_rate=[1e-3, 3e-3],
    weight_decay=[0.0], label_smoothing=[0.0],
)  # fmt: skip

DIVIDING = grid(
    channels=[(8, 16), (16, 32)], epochs=[6, 10], batch_size=[32], learning_rate=[3e-3],
    translate=[2], affine=[0.2], weight=[0.3, 1.0], evenness=[1.0, 1.5],
)  # fmt: skip
DIVIDING_AT_MOST = 1e11  # price: a teacher of the page may take about 15 s of one core
UNDIVIDED = grid(
    epochs=[6, 10], batch_size=[32], learning_rate=[2e-3, 3e-3], translate=[2], affine=[0.0, 0.2]
)


# What a trial's settings make of a task


def with_teacher(of: Task, settings: Settings) -> Task:
    """Another teacher, where the settings say so, and how it is trained."""
    channels = settings.get("channels")
    teacher = partial(TeacherCNN, channels=tuple(channels)) if channels else of.teacher
    return replace(of, teacher=teacher, teacher_config=train_config(settings))


def with_student(of: Task, settings: Settings) -> Task:
    """The student, its images, and how it is trained without a teacher."""
    return replace(
        of,
        student=partial(StudentMLP, hidden=tuple(settings["hidden"])),
        student_config=train_config(settings),
        sizes=replace(of.sizes, student_images=settings["student_images"]),
    )


def with_distillation(of: Task, settings: Settings) -> Task:
    """The defaults of distillation; what they do not say is as without a teacher."""
    config = train_config(settings, of.student_config)
    numbers = settings["temperature"], settings["soft_weight"]
    return replace(of, distillation=DistillationConfig(*numbers, config))


def with_division(of: Task, settings: Settings) -> Task:
    """A teacher whose two views agree; those that it is compared with meet no affine views."""
    config = train_config(settings)
    teacher = partial(TeacherCNN, channels=tuple(settings["channels"]))
    configs = two_views(
        5, config, others=replace(config, affine=0.0),
        weight=settings["weight"], evenness=settings["evenness"],
    )  # fmt: skip
    return replace(of, teacher=teacher, subclass_configs=configs)


# What is measured, for each seed, on validation images


def teachers(lab: Experiment, seeds: Sequence[int], settings: Settings) -> list[Numbers]:
    """The accuracy of the teacher."""
    val, found = lab.dataset.val, []
    for seed in seeds:
        run = lab.teacher(seed)
        right = accuracy(lab.class_logits(run, val), val.labels)
        found.append({"seed": seed, "score": right, "seconds": run.history.seconds})
    return found


def divisions(lab: Experiment, seeds: Sequence[int], settings: Settings) -> list[Numbers]:
    """The share of digits recovered by the teacher that divides, and what a reader would go by.

    Without true digits that would be the agreement of two views.
    """
    val, found = lab.dataset.val, []
    for seed in seeds:
        run = lab.teacher(seed, lab.task.subclass_config)
        logits = lab.logits(run, val)[0]
        matching = match_subclasses(logits, val.subclasses, len(lab.dataset.subclass_names))
        found.append(
            {
                "seed": seed,
                "score": matching.recovered,
                "agreement": _agreement(lab, run.model),
                "live": live_subclasses(logits),
                "accuracy": accuracy(lab.class_logits(run, val), val.labels),
                "seconds": run.history.seconds,
            }
        )
    return found


def _agreement(lab: Experiment, model: torch.nn.Module) -> float:
    """Mutual information (nats) of two random views' subclasses, the same views in each trial."""
    images, labels = TranslatedImages(lab.dataset.val.images, translate=2), lab.dataset.val.labels
    index = torch.arange(len(labels))

    def answers() -> Tensor:
        view = torch.randint(len(images.names), index.shape)
        shown = random_affine(images.batch(index, view), 0.2).to(lab.device)
        return torch.cat([model(part) for part in shown.split(100)]).cpu()

    with seeded(0), evaluating(model):
        views = answers(), answers()
        return -losses.subclass_agreement_loss(*views, labels, lab.num_classes).item()


def students(*methods: Callable[[Task], Method]) -> Callable[..., list[Numbers]]:
    """The mean accuracy of the students that ``methods`` train, and each one's own."""

    def measured(lab: Experiment, seeds: Sequence[int], settings: Settings) -> list[Numbers]:
        wanted = [method(lab.task) for method in methods]
        lab.train_ahead([RunRequest(seed, method) for seed in seeds for method in wanted])
        result, found = lab.compare(wanted, seeds, split="val"), []
        for place, seed in enumerate(seeds):
            each = {label: result.accuracy(label)[place].item() for label in result.labels}
            seconds = sum(runs[place].history.seconds for runs in result.runs.values())
            score = sum(each.values()) / len(each)
            found.append({"seed": seed, "score": score, **each, "seconds": seconds})
        return found

    return measured


def distilled(of: Task) -> Method:
    """Conventional distillation by the task's defaults."""
    return conventional(of.temperature, of.soft_weight)


def by_class(of: Task) -> Method:
    """The classes of the teacher that divides them."""
    label = "student + KD, classes of the same teacher"
    return conventional(of.temperature, of.soft_weight, label, of.subclass_config)


def by_subclass(of: Task) -> Method:
    """The same teacher's subclasses."""
    return subclass(of.temperature, of.soft_weight, of.subclass_config)


def classifier(kind: str) -> Callable[..., list[Numbers]]:
    """The accuracy of a class of scikit-learn's, on the images that students see."""

    def measured(lab: Experiment, seeds: Sequence[int], settings: Settings) -> list[Numbers]:
        train, val = lab.transfer, lab.dataset.val
        model = classifiers()[kind](**settings)
        pixels = [(split.images / 255).flatten(1).numpy() for split in (train, val)]
        model.fit(pixels[0], train.labels.numpy())
        return [{"score": model.score(pixels[1], val.labels.numpy())}]

    return measured


def classifiers() -> dict[str, type]:
    """The plain baselines that have settings."""
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    return {"SVM": SVC, "neighbours": KNeighborsClassifier}


def unchanged(of: Task, settings: Settings) -> Task:
    """A task has no settings of baselines: `kdnb.experiment.baselines` has them."""
    return of


# Prices


def price(role: str) -> Callable[[Experiment], float]:
    """Training images x epochs x views per image x multiply-adds of the teacher or student."""

    def counted(lab: Experiment) -> float:
        of, train, views = lab.task, lab.dataset.train, 1
        network, config = of.teacher, of.teacher_config
        if role == "division":
            config, views = of.subclass_config.train_config, 2
        if role in ("alone", "distilled"):
            network, config, train = of.student, of.student_config, lab.transfer
        if role == "distilled":
            config = of.distillation.train_config or config
        macs = cost(network(num_classes=lab.num_classes), train.images[:1] / 255).macs
        return len(train) * config.total_epochs * views * macs

    return counted


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
            replace(TEACHER, trials=UNDIVIDED, after=("division",)),
            ALONE_STAGE,
            # Students of classes and of subclasses have one recipe: the score is their mean.
            Stage(
                "distilled", DISTILLED, with_distillation, students(by_class, by_subclass),
                price("distilled"), after=("division", "alone"),
            ),
        ),
        as_many=("alone", "distilled"),
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", nargs="+", choices=PLANS, default=list(PLANS))
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    options = parser.parse_args()
    for name in options.task:
        select(PLANS[name](task(name)), options.seeds, FILE, RULE, options.workers)


if __name__ == "__main__":
    main()
