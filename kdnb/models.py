"""The course's networks. Each maps (B, C, H, W) floats in [0, 1] to (B, classes·subclasses).

Subclass logits are laid out class by class: columns c·s … c·s+s-1 belong to class c.
"""

from collections import OrderedDict
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdnb.environment import one_thread, seeded
from kdnb.pretrained import Pretrained, imagenet
from kdnb.torchvision_remedy import import_torchvision

# Of random bodies, one for all, as pretrained weights are. Of eight it gave the features from which
# the label can be read best, on pictures that no dataset holds (`polyps.load(seed=77)`).
BODY_SEED = 3
RESIDUAL = 0.3  # strength of their residual branches


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


class Normalise(nn.Module):
    """(B, 3, H, W) floats in [0, 1] as networks trained on ImageNet expect them."""

    def __init__(self):
        super().__init__()
        for name, values in (("mean", (0.485, 0.456, 0.406)), ("std", (0.229, 0.224, 0.225))):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


class StagedNetwork(nn.Module):
    """A network as a line of named stages, of which the first ones may stay as they are.

    ``origin`` says where its weights come from. Maps (B, 3, H, W) floats in [0, 1] to logits.
    """

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
    net, origin = _body("resnet50", weights, settle_on)
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
    if width == 1:
        net, origin = _body("mobilenet_v2", weights, settle_on)
    else:
        settings = (("width_mult", width),)
        net = deepcopy(_random_body("mobilenet_v2", settle_on or _smooth_noise, settings))
        origin = "random weights"
    stem, *blocks = net.features
    stages = {
        "normalise": Normalise(),
        "stem": stem,
        **{f"block{i}": block for i, block in enumerate(blocks, 1)},
        "pool": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        "output": _head(net.last_channel, num_classes, subclasses),
    }
    return StagedNetwork(stages, origin)


def _body(
    network: str, weights: str | None, settle_on: Callable[[], Tensor] | None
) -> tuple[nn.Module, str]:
    """A network of torchvision's, a new copy each time, and where its weights come from."""
    if weights not in ("imagenet", None):
        raise ValueError(f"weights must be 'imagenet' or None, got {weights!r}")
    found = imagenet(network) if weights else Pretrained(None, "random weights")
    if found.state is None:
        return deepcopy(_random_body(network, settle_on or _smooth_noise)), found.origin
    # On "meta" nothing is initialised; assigning a copy of each tensor then fills it.
    with torch.device("meta"):
        net = getattr(import_torchvision().models, network)(weights=None)
    net.load_state_dict({name: t.clone() for name, t in found.state.items()}, assign=True)
    return net, found.origin


@cache
def _random_body(
    network: str, settle_on: Callable[[], Tensor], settings: tuple[tuple[str, float], ...] = ()
) -> nn.Module:
    """A random body that keeps something of what an image shows, though nothing has trained it.

    Orthogonal kernels (Saxe et al. 2014), depthwise ones as the identity with noise, weak residual
    branches, and batch-norm with the statistics of the images that ``settle_on`` gives. It is made
    by one thread: the same body, and so the same stored features, however many will use it.
    """
    with torch.device("meta"):  # where nothing is initialised twice
        net = getattr(import_torchvision().models, network)(weights=None, **dict(settings))
    net.to_empty(device="cpu")
    with one_thread(), seeded(BODY_SEED):
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d | nn.Linear):
                module.reset_parameters()
        for module in net.modules():
            kind = type(module).__name__
            if isinstance(module, nn.Conv2d) and module.groups > 1:
                nn.init.normal_(module.weight, std=1 / 3)  # nine entries: as much noise as signal
                module.weight.data[:, :, 1, 1] += 1
            elif isinstance(module, nn.Conv2d):
                nn.init.orthogonal_(module.weight)
            elif kind == "Bottleneck":
                nn.init.constant_(module.bn3.weight, RESIDUAL)
            elif kind == "InvertedResidual" and module.use_res_connect:
                nn.init.constant_(module.conv[-1].weight, RESIDUAL)
        images = Normalise()(settle_on())
        norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
        usual = norms[0].momentum
        for norm in norms:
            norm.momentum = None  # the mean over all batches
            norm.reset_running_stats()
        net.train()
        with torch.no_grad():
            for batch in images.split(64):
                net(batch)
    for norm in norms:
        norm.momentum = usual
        norm.num_batches_tracked.zero_()
    return net


def _smooth_noise() -> Tensor:
    """(64, 3, 64, 64) pictures with as much at coarse scales as at fine ones."""
    noise = sum(
        F.interpolate(torch.rand(64, 3, size, size), (64, 64), mode="bilinear")
        for size in (2, 4, 8, 16, 32)
    )
    return noise / noise.amax()


def _head(width: int, num_classes: int, subclasses: int) -> nn.Linear:
    for name, count in (("num_classes", num_classes), ("subclasses", subclasses)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    return nn.Linear(width, num_classes * subclasses)
