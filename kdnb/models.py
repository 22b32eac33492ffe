"""The course's networks. Each maps (B, C, H, W) floats in [0, 1] to (B, classes·subclasses).

Subclass logits are laid out class by class: columns c·s … c·s+s-1 belong to class c.
"""

from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from kdnb.bodies import Normalise, body


class TeacherCNN(nn.Module):
    """The convolutional teacher for 28×28 digits; 1,011,466 parameters for ten outputs.

    3×3 convolution to 32 channels, 2×2 max-pooling with stride 1, 3×3 convolution to 64 channels,
    2×2 max-pooling with stride 2, dropout, 128 units, dropout, output. ``channels`` gives the width
    of the two convolutions.
    """

    def __init__(
        self, num_classes: int = 10, subclasses: int = 1, channels: tuple[int, int] = (32, 64)
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels[0], kernel_size=3)
        self.conv2 = nn.Conv2d(*channels, kernel_size=3)
        self.dense = nn.Linear(11 * 11 * channels[1], 128)
        self.dropout = nn.Dropout(0.5)
        self.output = _head(128, num_classes, subclasses)

    def forward(self, images: Tensor) -> Tensor:
        # The largest of some ReLUs is the ReLU of the largest: pooling first saves work.
        x = F.relu(F.max_pool2d(self.conv1(images), 2, stride=1))
        x = F.relu(F.max_pool2d(self.conv2(x), 2, stride=2))
        # Convolutions run channels_last; flattening in that order copies nothing.
        x = self.dropout(x.permute(0, 2, 3, 1).flatten(1))
        x = self.dropout(F.relu(self.dense(x)))
        return self.output(x)


class StudentMLP(nn.Module):
    """A student without convolutions: flatten, dense ReLU layers, output.

    With the default 784-784 and ten outputs it has 1,238,730 parameters. ``hidden`` gives the
    width of each hidden layer.
    """

    def __init__(
        self, num_classes: int = 10, subclasses: int = 1, hidden: tuple[int, ...] = (784, 784)
    ):
        super().__init__()
        widths = (28 * 28, *hidden)
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))
        self.output = _head(widths[-1], num_classes, subclasses)

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1)
        for layer in self.layers:
            x = F.relu(layer(x))
        return self.output(x)


class StagedNetwork(nn.Module):
    """A network as a line of named stages, of which the first ones may stay as they are.

    ``origin`` says where its weights come from. Maps (B, 3, H, W) floats in [0, 1] to logits.
    """

    only_told = ("origin",)  # `kdnb.identity`: an attribute that decides nothing

    def __init__(self, stages: dict[str, nn.Module], origin: str):
        super().__init__()
        self.stages = nn.Sequential(OrderedDict(stages))
        self.origin = origin

    def forward(self, images: Tensor) -> Tensor:
        return self.stages(images)

    def split(self, first_trained: str) -> tuple[nn.Sequential, nn.Sequential]:
        """The stages before ``first_trained``, and the rest; both share this network's weights.

        Raises ValueError if there is no such stage.
        """
        names = [name for name, _ in self.stages.named_children()]
        if first_trained not in names:
            raise ValueError(f"no stage {first_trained!r}: choose one of {', '.join(names)}")
        at = names.index(first_trained)
        return self.stages[:at], self.stages[at:]


def resnet50_teacher(
    num_classes: int = 2,
    subclasses: int = 1,
    weights: str | None = "imagenet",
    settle_on: Callable[[], Tensor] | None = None,
) -> StagedNetwork:
    """ResNet-50 (He et al. 2016) with a new output; 23,512,130 parameters for two outputs.

    Stages: normalise, stem, block1 … block16, pool, output. ``weights`` None is a random body, the
    same for every seed; where ImageNet weights cannot be had, it is one too. ``settle_on`` gives
    the (B, 3, H, W) floats in [0, 1] from which a random body takes its batch-norm statistics;
    without it, smooth noise.
    """
    net, origin = body("resnet50", weights, settle_on)
    blocks = [*net.layer1, *net.layer2, *net.layer3, *net.layer4]
    stages = {
        "normalise": Normalise(),
        "stem": nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool),
        **{f"block{i}": block for i, block in enumerate(blocks, 1)},
        "pool": nn.Sequential(net.avgpool, nn.Flatten()),
        "output": _head(net.fc.in_features, num_classes, subclasses),
    }
    return StagedNetwork(stages, origin)


def mobilenet_v2_student(
    num_classes: int = 2,
    subclasses: int = 1,
    weights: str | None = "imagenet",
    settle_on: Callable[[], Tensor] | None = None,
    width: float = 1.0,
) -> StagedNetwork:
    """MobileNetV2 (Sandler et al. 2018) with a new output; 2,226,434 parameters for two outputs.

    Stages: normalise, stem, block1 … block18, pool, output. ``width`` multiplies the channels of
    all layers (§4); torchvision has ImageNet weights for 1 alone, other widths start from random
    ones. The rest is as for `resnet50_teacher`.
    """
    settings = {} if width == 1 else {"width_mult": width}
    net, origin = body("mobilenet_v2", weights if width == 1 else None, settle_on, **settings)
    stem, *blocks = net.features
    stages = {
        "normalise": Normalise(),
        "stem": stem,
        **{f"block{i}": block for i, block in enumerate(blocks, 1)},
        "pool": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        "output": _head(net.last_channel, num_classes, subclasses),
    }
    return StagedNetwork(stages, origin)


def _head(width: int, num_classes: int, subclasses: int) -> nn.Linear:
    for name, count in (("num_classes", num_classes), ("subclasses", subclasses)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    return nn.Linear(width, num_classes * subclasses)
