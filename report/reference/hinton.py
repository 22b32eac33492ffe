"""MNIST as in Hinton, Vinyals & Dean 2015, §3 (https://arxiv.org/abs/1503.02531).

Networks, shifts, dropout and T are the paper's. It does not state epochs, optimiser, the weight of
the soft targets or the bound of its weight constraints: here the first three are the course's, and
the weights are not constrained. Nothing of this was chosen by scores. The paper trains on all
60,000 training images, the course on 55,000.
"""

from dataclasses import replace
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from kdnb.models import StudentMLP
from kdnb.tasks import task
from kdnb.tasks.config import DistillationConfig
from kdnb.training.config import TrainConfig


class DropoutMLP(StudentMLP):
    """784-1200-1200-10; drops a fifth of the inputs and half of the hidden units."""

    def __init__(self, num_classes: int = 10, subclasses: int = 1):
        super().__init__(num_classes, subclasses, hidden=(1200, 1200))

    def forward(self, images: Tensor) -> Tensor:
        x = F.dropout(images.flatten(1), 0.2, self.training)
        for layer in self.layers:
            x = F.dropout(F.relu(layer(x)), 0.5, self.training)
        return self.output(x)


# Its teacher, and its student of 800-800 units, which sees unshifted images.
HINTON = replace(
    task("mnist"),
    name="mnist-hinton",
    teacher=DropoutMLP,
    student=partial(StudentMLP, hidden=(800, 800)),
    teacher_config=TrainConfig(60, 256, 1e-3, translate=2),
    student_config=TrainConfig(30, 256, 1e-3),
    distillation=DistillationConfig(temperature=20.0, soft_weight=0.9),
)
