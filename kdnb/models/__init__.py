"""The course's networks. Each maps (B, C, H, W) floats in [0, 1] to (B, classes·subclasses).

Subclass logits are laid out class by class: columns c·s … c·s+s-1 belong to class c.
"""

from kdnb.models.narrow import narrow_mobilenet_v2_student, narrow_resnet_teacher
from kdnb.models.small import StudentMLP, TeacherCNN
from kdnb.models.staged import StagedNetwork, mobilenet_v2_student, resnet50_teacher

__all__ = [
    "StagedNetwork",
    "StudentMLP",
    "TeacherCNN",
    "mobilenet_v2_student",
    "narrow_mobilenet_v2_student",
    "narrow_resnet_teacher",
    "resnet50_teacher",
]
