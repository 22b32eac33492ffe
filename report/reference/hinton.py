"""The networks of Hinton et al. 2015 on MNIST: two hidden layers of 800 units, and their teachers.

`PAPER` is the experiment of the paper's section 3. In `COPIES` the same student sees more images.
What neither the paper nor the course gives is chosen by `selection`. `NARROW` is the paper's
student of 30 units, whose best temperature is asked for: nothing of it was chosen.
"""

from dataclasses import replace
from functools import cache, partial

import torch
import torch.nn.functional as F
from measures import distilled, price, students, teachers
from stages import Plan, Settings, Stage, grid
from torch import Tensor

from kdnb.data import Dataset, Split, load
from kdnb.data.augmentation import random_affine
from kdnb.environment import seeded
from kdnb.experiment.methods import ALONE
from kdnb.models import StudentMLP
from kdnb.tasks import task
from kdnb.tasks.config import DistillationConfig, Task
from kdnb.training.config import TrainConfig

STUDENT = partial(StudentMLP, hidden=(800, 800))
TEMPERATURES = (1.0, 2.5, 4.0, 8.0, 20.0)  # of the narrow student


class DropoutMLP(StudentMLP):
    """An MLP with the usual dropout: a fifth of the pixels, half of the hidden units."""

    def forward(self, images: Tensor) -> Tensor:
        """(N, outputs) logits of (N, 1, 28, 28) images."""
        x = F.dropout(images.flatten(1), 0.2, self.training)
        for layer in self.layers:
            x = F.dropout(F.relu(layer(x)), 0.5, self.training)
        return self.output(x)


@cache
def warped_mnist() -> Dataset:
    """MNIST with seven more copies of each training image: rotated, sheared and stretched.

    A teacher's logits for views that differ in each epoch could not be looked up.
    """
    mnist = load("mnist")
    images, labels = mnist.train.images, mnist.train.labels
    with seeded(0):
        chunks = [
            (255 * random_affine(part / 255, 0.15)).round().to(torch.uint8).contiguous()
            for _ in range(7)
            for part in images.split(5_000)
        ]
    return replace(mnist, train=Split(torch.cat([images, *chunks]), labels.repeat(8)))


# The paper names the teacher's dropout, its jitter of two pixels and T = 20, and that neither
# student is regularised nor sees jittered images. Its teacher has weight constraints, too.
PAPER = replace(
    task("mnist"),
    name="mnist-hinton",
    teacher=partial(DropoutMLP, hidden=(1200, 1200)),
    student=STUDENT,
    teacher_config=TrainConfig(100, 256, 1e-3, translate=2),
    student_config=TrainConfig(30, 256, 1e-3),
    distillation=DistillationConfig(20.0, 0.9, TrainConfig(100, 256, 1e-3)),
)
COPIES = replace(
    task("mnist"),
    name="mnist-800",
    dataset=warped_mnist,
    student=STUDENT,
    student_config=TrainConfig(8, 256, 1e-3, translate=1),
    distillation=DistillationConfig(4.0, 0.9, TrainConfig(8, 256, 1e-3, translate=1)),
)
NARROW = replace(
    PAPER,
    name="mnist-30",
    student=partial(StudentMLP, hidden=(30, 30)),
    teacher_config=TrainConfig(20, 256, 1e-3, translate=2),
    distillation=DistillationConfig(20.0, 0.9, TrainConfig(50, 256, 2e-3)),
)
TASKS = {of.name: of for of in (PAPER, COPIES, NARROW)}


def trained(of: Task, settings: Settings) -> Task:
    """How the teacher is trained."""
    return replace(of, teacher_config=replace(of.teacher_config, **settings))


def with_dropout(of: Task, settings: Settings) -> Task:
    """The course's teacher with another dropout, and how it is trained."""
    config = dict(settings)
    teacher = partial(of.teacher, dropout=config.pop("dropout"))
    return replace(of, teacher=teacher, teacher_config=TrainConfig(**config))


def alone(of: Task, settings: Settings) -> Task:
    """How the student is trained without a teacher."""
    return replace(of, student_config=replace(of.student_config, **settings))


def taught(of: Task, settings: Settings) -> Task:
    """How the student is trained with its teacher."""
    config = dict(settings)
    numbers = {name: config.pop(name) for name in ("temperature", "soft_weight")}
    config = replace(of.distilled_config, **config)
    return replace(of, distillation=DistillationConfig(**numbers, train_config=config))


RATES = [1e-3, 2e-3]
PAPER_PLAN = (
    Stage(
        "teacher",
        grid(epochs=[100], learning_rate=[1e-3])
        + grid(epochs=[300], batch_size=[1024], learning_rate=[2e-3]),
        trained, teachers, price("teacher"),
    ),
    Stage(
        "alone", grid(epochs=[40, 100], learning_rate=RATES), alone,
        students(lambda of: ALONE), price("alone"),
    ),
    Stage(
        "distilled",
        grid(temperature=[20.0], soft_weight=[0.9], epochs=[100, 200], learning_rate=[2e-3, 4e-3]),
        taught, students(distilled), price("distilled"), after=("teacher", "alone"),
    ),
)  # fmt: skip
# The teacher's copies are warped once more in each epoch. Three epochs are 24 of MNIST itself.
COPIES_PLAN = (
    Stage(
        "teacher",
        grid(
            dropout=[0.0, 0.5], epochs=[3], batch_size=[64], learning_rate=[2e-3], translate=[1],
            affine=[0.15],
        ),
        with_dropout, teachers, price("teacher"),
    ),
    Stage(
        "alone", grid(epochs=[8], learning_rate=RATES, label_smoothing=[0.0, 0.1]), alone,
        students(lambda of: ALONE), price("alone"),
    ),
    Stage(
        "distilled",
        grid(temperature=[4.0, 8.0], soft_weight=[0.9], epochs=[8], learning_rate=RATES),
        taught, students(distilled), price("distilled"), after=("teacher", "alone"),
    ),
)  # fmt: skip
PLANS = {
    "mnist-hinton": partial(Plan, stages=PAPER_PLAN, as_many=("alone", "distilled")),
    "mnist-800": partial(Plan, stages=COPIES_PLAN, as_many=("alone", "distilled")),
}
