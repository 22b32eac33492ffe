"""The part of MNIST that is embedded in the package: ten classes, and two of five digits each."""

from dataclasses import replace
from functools import partial

from kdnb.models import StudentMLP, TeacherCNN
from kdnb.tasks.config import (
    TWO_CLASSES,
    DistillationConfig,
    SaliencySettings,
    Sizes,
    SubclassConfigs,
    Task,
    TaskText,
    auxiliary_loss,
    two_views,
)
from kdnb.training.config import TrainConfig

MLPS = tuple(
    (f"{width}-{width}", partial(StudentMLP, hidden=(width, width)))
    for width in (784, 256, 128, 64, 32, 16)
)
CNN = (
    "a small convolutional network: two convolutions, two poolings, two dense layers, at most "
    "about a million parameters"
)
OWN_RECIPE = (
    "The teacher with two views has a config of its own: its views are rotated, sheared and "
    "stretched, and each batch shows every image twice. The rows therefore compare ways of "
    "training, not the losses alone."
)
CHOSEN_IN_VIEW = (
    "The recipe of the dividing teacher was chosen by the share of true digits that it recovers on "
    "validation images. Without known subclasses one would choose by the loss itself."
)

# Every recipe was chosen on validation images: report/reference/selection.py and selection.json.
# The first pooling has stride 2, so that a teacher is trained in seconds.
SMALL_CNN = partial(TeacherCNN, channels=(16, 32), pool_stride=2)
TEACHER = TrainConfig(12, 64, 5e-3, translate=1, affine=0.15)
DISTILLED = TrainConfig(200, 128, 1e-2, translate=2)
MNIST_SMALL = Task(
    name="mnist-small",
    dataset="mnist-small",
    teacher=partial(SMALL_CNN, dropout=0.1),
    student=partial(StudentMLP, hidden=(64, 64)),
    teacher_config=TEACHER,
    student_config=replace(DISTILLED, learning_rate=6e-3, label_smoothing=0.2),
    distillation=DistillationConfig(temperature=8.0, soft_weight=0.9, train_config=DISTILLED),
    # Müller's loss is quicker to train than two views that agree.
    subclass_configs=SubclassConfigs(auxiliary_loss(5, replace(TEACHER, epochs=6))),
    sizes=Sizes(500, (100, 250, 500), (*MLPS[2:4], MLPS[5])),
    saliency=SaliencySettings(images=40),
    text=TaskText(
        title="MNIST, 5,000 training images (embedded)",
        teacher=CNN,
        choices="The teacher is trained on all 5,000 images, a student on 500 of them: soft "
        "targets carry more information per image than labels, so distillation helps most where "
        "images are few. [Hinton et al. 2015](https://arxiv.org/abs/1503.02531), §6, "
        "use 3 % of their speech data. Every student sees its images in the same 25 views, shifted "
        "by up to two pixels, with a teacher or without one. Notebook 02 varies the number of "
        "images.",
        two_class_task="mnist-small-2x5",
    ),
)

DIVIDING = TrainConfig(8, 64, 4e-3, translate=1)
MNIST_SMALL_2X5 = replace(
    MNIST_SMALL,
    name="mnist-small-2x5",
    dataset="mnist-small-2x5",
    teacher=partial(SMALL_CNN, dropout=0.0),
    teacher_config=TrainConfig(6, 64, 5e-3, translate=1),
    student_config=replace(DISTILLED, weight_decay=0.03),
    distillation=DistillationConfig(temperature=8.0, soft_weight=1.0, train_config=DISTILLED),
    subclass_configs=two_views(5, replace(DIVIDING, affine=0.2), others=DIVIDING),
    text=TaskText(
        title="MNIST, 5,000 training images (embedded), as two classes",
        teacher=CNN,
        subclass_configs=OWN_RECIPE,
        caveats=CHOSEN_IN_VIEW,
        choices="The digits 0 to 4 are one class, 5 to 9 the other, as in "
        "[Müller et al. 2020](https://arxiv.org/abs/2002.03936). The true digit of "
        "every image is known but never shown to a model. Teachers see 5,000 images, students 500 "
        "of them in 25 views.",
        notebooks=TWO_CLASSES,
    ),
)
