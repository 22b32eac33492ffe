"""Networks in stages, of which the first may stay frozen: ResNet-50 and MobileNetV2."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from kdnb.models.backbones import Normalise, backbone
from kdnb.models.small import output_layer


class StagedNetwork(nn.Module):
    """A network as a sequence of named stages: (B, 3, H, W) floats in [0, 1] to logits.

    ``origin`` names the source of its weights.
    """

    not_described = ("origin",)  # `kdnb.store.description`: an attribute that decides nothing

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
    calibrate_on: Callable[[], Tensor] | None = None,
) -> StagedNetwork:
    """ResNet-50 (He et al. 2016) with a new output; 23,512,130 parameters for two outputs.

    Stages: normalise, stem, block1 … block16, pool, output. ``weights`` None is a random backbone,
    the same for every seed, and so is "imagenet" where its weights cannot be had. ``calibrate_on``
    gives the (B, 3, H, W) floats in [0, 1] for a random backbone's batch-norm statistics; without
    it, smooth noise.
    """
    net, origin = backbone("resnet50", weights, calibrate_on)
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
    blocks = [*net.layer1, *net.layer2, *net.layer3, *net.layer4]
    output = output_layer(net.fc.in_features, num_classes, subclasses)
    return StagedNetwork(stages(stem, blocks, net.avgpool, output), origin)


def mobilenet_v2_student(
    num_classes: int = 2,
    subclasses: int = 1,
    weights: str | None = "imagenet",
    calibrate_on: Callable[[], Tensor] | None = None,
    width: float = 1.0,
) -> StagedNetwork:
    """MobileNetV2 (Sandler et al. 2018) with a new output; 2,226,434 parameters for two outputs.

    Stages: normalise, stem, block1 … block18, pool, output. ``width`` multiplies the channels of
    all layers (§4); torchvision has ImageNet weights for 1 alone, other widths start from random
    ones. The rest is as for `resnet50_teacher`.
    """
    settings = {} if width == 1 else {"width_mult": width}
    net, origin = backbone(
        "mobilenet_v2", weights if width == 1 else None, calibrate_on, **settings
    )
    stem, *blocks = net.features
    output = output_layer(net.last_channel, num_classes, subclasses)
    return StagedNetwork(stages(stem, blocks, nn.AdaptiveAvgPool2d(1), output), origin)


def stages(
    stem: nn.Module, blocks: Sequence[nn.Module], pool: nn.Module, output: nn.Module
) -> dict[str, nn.Module]:
    """The stages normalise, stem, block1 …, pool, output, by name."""
    numbered = {f"block{i}": block for i, block in enumerate(blocks, 1)}
    pooled = nn.Sequential(pool, nn.Flatten())
    return {"normalise": Normalise(), "stem": stem, **numbered, "pool": pooled, "output": output}
