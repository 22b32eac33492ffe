"""The small networks for handwritten digits, and the output layer that all networks share."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


class TeacherCNN(nn.Module):
    """The convolutional teacher for 28×28 digits; 1,011,466 parameters for ten outputs.

    3×3 convolution to 32 channels, 2×2 max-pooling with stride 1, 3×3 convolution to 64 channels,
    2×2 max-pooling with stride 2, dropout, 128 units, dropout, output. A first pooling with
    ``pool_stride`` 2 leaves a quarter of the work to the later layers.
    """

    def __init__(
        self,
        num_classes: int = 10,
        subclasses: int = 1,
        channels: tuple[int, int] = (32, 64),
        pool_stride: int = 1,
        dropout: float = 0.5,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels[0], kernel_size=3)
        self.pool1 = nn.MaxPool2d(2, stride=pool_stride)
        self.conv2 = nn.Conv2d(*channels, kernel_size=3)
        side = ((28 - 2 - 2) // pool_stride + 1 - 2) // 2
        self.dense = nn.Linear(side * side * channels[1], 128)
        self.dropout = nn.Dropout(dropout)
        self.output = output_layer(128, num_classes, subclasses)

    def forward(self, images: Tensor) -> Tensor:
        # The largest of some ReLUs is the ReLU of the largest: pooling first saves work.
        x = F.relu(self.pool1(self.conv1(images)))
        x = F.relu(F.max_pool2d(self.conv2(x), 2, stride=2))
        # Convolutions run channels_last; flattening in that order copies nothing.
        x = self.dropout(x.permute(0, 2, 3, 1).flatten(1))
        return self.output(self.dropout(F.relu(self.dense(x))))


class StudentMLP(nn.Module):
    """A student without convolutions: flatten, dense ReLU layers of ``hidden`` widths, output.

    With the default 784-784 and ten outputs it has 1,238,730 parameters.
    """

    def __init__(
        self, num_classes: int = 10, subclasses: int = 1, hidden: tuple[int, ...] = (784, 784)
    ):
        super().__init__()
        widths = (28 * 28, *hidden)
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))
        self.output = output_layer(widths[-1], num_classes, subclasses)

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1)
        for layer in self.layers:
            x = F.relu(layer(x))
        return self.output(x)


def output_layer(width: int, num_classes: int, subclasses: int) -> nn.Linear:
    """``width`` inputs to one logit for each subclass of each class."""
    for name, count in (("num_classes", num_classes), ("subclasses", subclasses)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    return nn.Linear(width, num_classes * subclasses)
