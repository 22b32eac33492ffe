"""MHIST, histopathology of colorectal polyps, and generated polyps in its layout."""

from dataclasses import replace
from functools import partial

from kdnb.data import Dataset, polyps
from kdnb.models import (
    mobilenet_v2_student,
    narrow_mobilenet_v2_student,
    narrow_resnet_teacher,
    pretrained,
    resnet50_teacher,
)
from kdnb.tasks.config import (
    TWO_CLASSES,
    DistillationConfig,
    SaliencySettings,
    Sizes,
    SubclassConfig,
    SubclassConfigs,
    Task,
    TaskText,
    two_views,
)
from kdnb.training.config import TrainConfig
from kdnb.training.objectives import KnownSubclasses

# The study's two steps: the head on frozen features, then the last block(s) at a tenth of the rate.
# Frozen stages run once per image and view. Before ResNet-50's last block an image of 224 px is
# 400 kB, so there the teacher sees one view in training: eight would be 6 GB.
HEAD = TrainConfig(
    epochs=40, batch_size=64, learning_rate=2e-3, dihedral=True, first_trainable="output"
)
LAST = TrainConfig(epochs=3, batch_size=32, learning_rate=2e-4, mixed_precision=True)


def in_two_stages(block: str, head: TrainConfig = HEAD, last: TrainConfig = LAST) -> TrainConfig:
    """The head, then everything from ``block`` on."""
    return replace(head, next_stage=replace(last, first_trainable=block))


def subclass_configs(config: TrainConfig, **agreement: float) -> SubclassConfigs:
    """Four subclasses in each class; ``agreement`` is for `two_views`."""
    known = SubclassConfig("annotators' votes", KnownSubclasses(subclasses=4), config)
    return replace(two_views(4, config, others=config, **agreement), known=known)


MOBILE_NETS = tuple(
    (f"width {width:g}", partial(mobilenet_v2_student, calibrate_on=polyps.sample, width=width))
    for width in (1.0, 0.75, 0.5, 0.35)
)

MHIST = Task(
    name="mhist",
    dataset="mhist",
    teacher=partial(resnet50_teacher, calibrate_on=polyps.sample),
    student=partial(mobilenet_v2_student, calibrate_on=polyps.sample),
    teacher_config=in_two_stages("block16"),
    student_config=in_two_stages("block17"),
    subclass_configs=subclass_configs(in_two_stages("block16")),
    distillation=DistillationConfig(temperature=8.0, soft_weight=0.5),
    sizes=Sizes(student_image_counts=(200, 600, 1_849), students=MOBILE_NETS),
    # The background is glass without tissue.
    saliency=SaliencySettings(images=32, methods=("gradient", "Grad-CAM"), background=1.0),
    balanced=True,
    text=TaskText(
        title="MHIST, histopathology of colorectal polyps",
        teacher="a ResNet-50 with 23.5 million parameters, of which at first only the last layer "
        "is trained",
        subclass_configs="All ways have the same config, but two views that agree meet each image "
        "twice an epoch. The true subclasses are the numbers of annotators who voted for SSA: 0 to "
        "3 make the class HP, 4 to 7 the class SSA.",
        choices="Both networks were made for ImageNet. First all but the last layer stays as it "
        "is: what it makes of each image, in its eight flips and quarter turns, is computed once, "
        "and heads are trained on that. Then the last blocks are trained on at a tenth of the "
        "rate. Every class counts the same in the loss of the labels.",
        caveats="The images come from one hospital, and a label is the majority of seven opinions.",
        published="[Wei et al. 2021](https://arxiv.org/abs/2101.12355) describe the images. The "
        "study behind this course grew from Project A of ECE1512 (University of Toronto). Weighted "
        "F1 of its single runs: teacher .8276, student with conventional KD .7285, student alone "
        ".7163; with subclasses .8427 and .7206. Its report is not public. At 977 images one "
        "standard error of an accuracy is 1.4 points.",
        published_scores=(
            ("teacher", 0.8276),
            ("student without teacher", 0.7163),
            ("student + conventional KD", 0.7285),
            ("teacher with subclasses", 0.8427),
            ("student + subclass KD", 0.7206),
        ),
        notebooks=TWO_CLASSES,
    ),
)

POLYPS_224 = replace(
    MHIST,
    name="polyps-224",
    dataset="polyps-224",
    text=replace(
        MHIST.text,
        title="generated polyps in the size of MHIST",
        caveats="The pictures are generated: nothing here says anything about medicine, and a gain "
        "or its absence need not carry over to tissue.",
        published="",
        published_scores=(),
    ),
)

# With the study's networks: fewer epochs, and of each picture one view, for they are many.
QUICK = {"head": replace(HEAD, epochs=30, dihedral=False), "last": replace(LAST, epochs=2)}
PRETRAINED_POLYPS = replace(
    POLYPS_224,
    name="polyps",
    dataset="polyps",
    teacher_config=in_two_stages("block16", **QUICK),
    student_config=in_two_stages("block17", **QUICK),
    subclass_configs=subclass_configs(in_two_stages("block16", **QUICK)),
    sizes=Sizes(150, (75, 150), MOBILE_NETS[::2]),
    saliency=replace(MHIST.saliency, images=16, steps=4),
    text=replace(
        POLYPS_224.text,
        title="generated polyps",
        choices=MHIST.text.choices.replace(", in its eight flips and quarter turns,", ""),
    ),
)


class Polyps(Task):
    """The generated polyps with narrow networks, which are trained whole."""

    def resolved(self, dataset: Dataset) -> Task:
        """Itself, or `PRETRAINED_POLYPS` where there are ImageNet weights for both networks."""
        return PRETRAINED_POLYPS if pretrained.available() else self


# Chosen on validation images: report/reference/polyps_plan.py and selection.json.
TEACHER = TrainConfig(epochs=4, batch_size=32, learning_rate=5e-3, dihedral=True)
DISTILLED = TrainConfig(epochs=32, batch_size=16, learning_rate=1e-2, dihedral=True)
DIVIDED = subclass_configs(TEACHER, weight=0.3)
POLYPS = Polyps(
    **vars(PRETRAINED_POLYPS)
    | {
        "teacher": partial(narrow_resnet_teacher, channels=(16, 32, 64, 128)),
        "student": narrow_mobilenet_v2_student,
        "teacher_config": TEACHER,
        "student_config": replace(DISTILLED, weight_decay=0.1),
        # To be made in time: the teacher without an auxiliary loss is left out.
        "subclass_configs": replace(DIVIDED, others=DIVIDED.others[1:]),
        "distillation": DistillationConfig(4.0, 0.9, DISTILLED),
        "sizes": replace(
            PRETRAINED_POLYPS.sizes,
            students=tuple(
                (f"width {width:g}", partial(narrow_mobilenet_v2_student, width=width))
                for width in (0.35, 0.2)
            ),
        ),
        "text": replace(
            PRETRAINED_POLYPS.text,
            teacher="a ResNet with one block of each width and 308 thousand parameters",
            choices="Without ImageNet weights, ResNet-50 and MobileNetV2 have nothing to transfer "
            "and are too large to learn from these pictures. Two narrow networks of the same "
            "families take their places, and all of their layers are trained. The teacher sees "
            "all pictures, a student 150 of them, each in its eight flips and quarter turns. Every "
            "class counts the same in the loss of the labels.",
        ),
    }
)
