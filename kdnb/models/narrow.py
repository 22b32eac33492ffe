"""Narrow networks of the study's two families, small enough to train completely on a CPU."""

from itertools import pairwise

from torch import nn

from kdnb.models.small import output_layer
from kdnb.models.staged import StagedNetwork, stages
from kdnb.torchvision_remedy import import_torchvision

ORIGIN = "random weights, and all of its layers are trained"
LAST = 1280  # channels of MobileNetV2's last convolution at width 1
# Expansion, channels, blocks, stride. Sandler et al. 2018, Table 2, with one block of each width
# and the stride of 2 in the first block, since a depthwise convolution of 32×32 takes long on CPUs.
BLOCKS = ((1, 16, 1, 2), (6, 24, 1, 2), (6, 32, 1, 1), (6, 64, 1, 2), (6, 96, 1, 1), (6, 160, 1, 2))


def narrow_resnet_teacher(
    num_classes: int = 2, subclasses: int = 1, channels: tuple[int, ...] = (16, 32, 64, 128)
) -> StagedNetwork:
    """A ResNet (He et al. 2016) with one basic block of each width; 307,794 parameters.

    Its stem has a 3×3 convolution, for images of 64 pixels. Stages: normalise, stem, block1 …
    block4, pool, output.
    """
    block = import_torchvision().models.resnet.BasicBlock

    def conv(before: int, after: int, size: int, stride: int) -> nn.Sequential:
        layer = nn.Conv2d(before, after, size, stride, padding=size // 2, bias=False)
        return nn.Sequential(layer, nn.BatchNorm2d(after))

    stem = nn.Sequential(conv(3, channels[0], 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    blocks = [block(channels[0], channels[0])]
    for before, after in pairwise(channels):
        blocks.append(block(before, after, 2, conv(before, after, 1, 2)))
    output = output_layer(channels[-1], num_classes, subclasses)
    return StagedNetwork(stages(stem, blocks, nn.AdaptiveAvgPool2d(1), output), ORIGIN)


def narrow_mobilenet_v2_student(
    num_classes: int = 2, subclasses: int = 1, width: float = 0.35
) -> StagedNetwork:
    """MobileNetV2 (Sandler et al. 2018) with one block of each width; 65,522 parameters.

    ``width`` multiplies the channels of all layers, the last convolution's too. Stages: normalise,
    stem, block1 … block7, pool, output.
    """
    models = import_torchvision().models
    net = models.mobilenetv2.MobileNetV2(width_mult=width, inverted_residual_setting=BLOCKS)
    stem, *blocks, last = net.features
    channels = round(width * LAST)
    last = type(last)(last[0].in_channels, channels, 1, activation_layer=nn.ReLU6)
    output = output_layer(channels, num_classes, subclasses)
    return StagedNetwork(stages(stem, [*blocks, last], nn.AdaptiveAvgPool2d(1), output), ORIGIN)
