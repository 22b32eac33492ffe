"""Backbones of torchvision's networks: with ImageNet weights, or carefully made random ones."""

from collections.abc import Callable
from copy import deepcopy
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from kdnb.environment import one_thread, seeded
from kdnb.fingerprint import code_fingerprint
from kdnb.models.pretrained import imagenet, without_values
from kdnb.store.store import Store, digest, tensors_digest

# One random backbone for all seeds, as pretrained weights are. Of eight seeds it gave the features
# from which the label can be read best, on pictures of no dataset (`polyps.load(seed=77)`).
BACKBONE_SEED = 3
RESIDUAL = 0.3  # strength of the residual branches of random backbones


class Normalise(nn.Module):
    """(B, 3, H, W) floats in [0, 1] as networks trained on ImageNet expect them."""

    def __init__(self):
        super().__init__()
        for name, values in (("mean", (0.485, 0.456, 0.406)), ("std", (0.229, 0.224, 0.225))):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


def backbone(
    network: str,
    weights: str | None,
    calibrate_on: Callable[[], Tensor] | None = None,
    **settings: float,
) -> tuple[nn.Module, str]:
    """A new copy of a network of torchvision's, and the origin of its weights.

    ``weights`` is "imagenet", for which `pretrained.imagenet` looks, or None for random ones.
    ``calibrate_on`` is for `random_backbone`, ``settings`` are torchvision's own.
    """
    if weights not in ("imagenet", None):
        raise ValueError(f"weights must be 'imagenet' or None, got {weights!r}")
    net, origin = imagenet(network) if weights else (None, "random weights")
    if net is None:
        net = random_backbone(network, calibrate_on or _smooth_noise, **settings)
    return deepcopy(net), origin


@cache
def random_backbone(
    network: str, calibrate_on: Callable[[], Tensor], **settings: float
) -> nn.Module:
    """An untrained random network whose features keep some of the image's content.

    Orthogonal kernels (Saxe et al. 2014), depthwise ones as the identity with noise, weak residual
    branches, and batch-norm with the statistics of ``calibrate_on()``, (B, 3, H, W) in [0, 1]. Made
    by one thread, so that it is the same on every machine, and kept in the run store: finding
    orthogonal kernels takes seconds.
    """
    net = without_values(network, **settings)
    with one_thread(), seeded(BACKBONE_SEED):
        images = Normalise()(calibrate_on())
    address = {
        "code": code_fingerprint(),
        "network": network,
        "settings": settings,
        "calibrated on": tensors_digest({"images": images}),
    }
    key, store = f"backbone-{digest(address)}", Store()
    entry = store.get(key)
    if entry is not None:
        net.load_state_dict(entry.tensors, assign=True)
        return net
    net.to_empty(device="cpu")
    with one_thread(), seeded(BACKBONE_SEED):
        _initialise(net)
        update_bn(images.split(64), net)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.num_batches_tracked.zero_()
    store.keep(key, net.state_dict(), address)
    return net


def _initialise(net: nn.Module) -> None:
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


def _smooth_noise() -> Tensor:
    """(64, 3, 64, 64) pictures with as much at coarse scales as at fine ones."""
    noise = sum(
        F.interpolate(torch.rand(64, 3, size, size), (64, 64), mode="bilinear")
        for size in (2, 4, 8, 16, 32)
    )
    return noise / noise.amax()
