"""The stages in which the recipe of the generated polyps is chosen, with narrow networks."""

from dataclasses import replace
from functools import partial

from measures import by_subclass, distilled, price, students, teachers
from stages import Plan, Settings, Stage, grid

from kdnb.experiment.methods import ALONE
from kdnb.models import narrow_resnet_teacher
from kdnb.tasks.config import DistillationConfig, Task
from kdnb.tasks.mhist import subclass_configs
from kdnb.training.config import TrainConfig

TEACHERS = grid(channels=[(16, 32, 64, 128)], epochs=[4, 6], learning_rate=[5e-3], batch_size=[32])
REGULARISED = (
    {"weight_decay": 0.0, "label_smoothing": 0.0},
    {"weight_decay": 0.0, "label_smoothing": 0.1},
    {"weight_decay": 0.1, "label_smoothing": 0.0},
)
# The number of images was chosen, too: of 400, 300, 200, 150 and 100, on validation images, one at
# which a student alone learns and a teacher is still ahead.
STUDENTS = [
    settings | regularised
    for settings in grid(
        student_images=[150], epochs=[32], learning_rate=[5e-3, 1e-2], batch_size=[16]
    )
    for regularised in REGULARISED
]
# As many trials as without a teacher. The first is that of notebook 02.
DISTILLED = [
    *grid(temperature=[4.0, 2.0], soft_weight=[0.9], learning_rate=[5e-3, 1e-2]),
    *grid(temperature=[4.0, 2.0], soft_weight=[0.9], learning_rate=[1e-2], weight_decay=[0.1]),
]
DIVIDING = grid(weight=[0.3, 1.0], evenness=[1.5])


def with_teacher(of: Task, settings: Settings) -> Task:
    """Another teacher, and how it is trained; teachers with subclasses are trained alike."""
    config = dict(settings)
    teacher = partial(narrow_resnet_teacher, channels=tuple(config.pop("channels")))
    config = TrainConfig(**config, dihedral=True)
    of = replace(of, teacher=teacher, teacher_config=config)
    return with_division(of, {})


def with_student(of: Task, settings: Settings) -> Task:
    """How many images a student sees, and how it is trained without a teacher."""
    config = dict(settings)
    sizes = replace(of.sizes, student_images=config.pop("student_images"))
    return replace(of, sizes=sizes, student_config=TrainConfig(**config, dihedral=True))


def with_distillation(of: Task, settings: Settings) -> Task:
    """The defaults of distillation; without a word of them there is no decay and no smoothing."""
    config = {"weight_decay": 0.0, "label_smoothing": 0.0} | settings
    numbers = config.pop("temperature"), config.pop("soft_weight")
    config = replace(of.student_config, **config)
    return replace(of, distillation=DistillationConfig(*numbers, config))


def with_division(of: Task, settings: Settings) -> Task:
    """The agreement of two views, by which a teacher divides its classes."""
    configs = subclass_configs(of.teacher_config, **settings)
    return replace(of, subclass_configs=replace(configs, others=configs.others[1:]))


def plan(of: Task) -> Plan:
    """Teacher, student alone, distilled student; then the division that teaches a student best."""
    stages = (
        Stage("teacher", TEACHERS, with_teacher, teachers, price("teacher")),
        Stage("alone", STUDENTS, with_student, students(lambda of: ALONE), price("alone")),
        Stage(
            "distilled", DISTILLED, with_distillation, students(distilled), price("distilled"),
            after=("teacher", "alone"),
        ),
        Stage(
            "division", DIVIDING, with_division, students(by_subclass),
            after=("teacher", "alone", "distilled"),
        ),
    )  # fmt: skip
    return Plan(of, stages, as_many=("alone", "distilled"))
