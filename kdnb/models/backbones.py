"""Bodies of torchvision's networks: with ImageNet's weights, or random ones made with care."""

from collections.abc import Callable
from copy import deepcopy
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdnb.environment import one_thread, seeded
from kdnb.fingerprint import code_fingerprint
from kdnb.models.pretrained import Pretrained, imagenet
from kdnb.store.store import Store, digest, tensors_digest
from kdnb.torchvision_remedy import import_torchvision

# Of random bodies, one for all, as pretrained weights are. Of eight it gave the features from which
# the label can be read best, on pictures that no dataset holds (`polyps.load(seed=77)`).
BODY_SEED = 3
RESIDUAL = 0.3  # strength of their residual branches


class Normalise(nn.Module):
    """(B, 3, H, W) floats in [0, 1] as networks trained on ImageNet expect them."""

    def __init__(self):
        super().__init__()
        for name, values in (("mean", (0.485, 0.456, 0.406)), ("std", (0.229, 0.224, 0.225))):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


def body(
    network: str,
    weights: str | None,
    calibrate_on: Callable[[], Tensor] | None = None,
    **settings: float,
) -> tuple[nn.Module, str]:
    """A network of torchvision's, a new copy each time, and where its weights come from.

    ``weights`` is "imagenet", for which `pretrained.imagenet` looks, or None for random ones;
    ``calibrate_on`` gives the (B, 3, H, W) floats in [0, 1] from which a random body takes its
    batch-norm statistics (smooth noise without it), ``settings`` are torchvision's own.
    """
    if weights not in ("imagenet", None):
        raise ValueError(f"weights must be 'imagenet' or None, got {weights!r}")
    found = imagenet(network) if weights else Pretrained(None, "random weights")
    if found.state is None:
        made = _random_body(network, calibrate_on or _smooth_noise, tuple(settings.items()))
        return deepcopy(made), found.origin
    # On "meta" nothing is initialised; assigning a copy of each tensor then fills it.
    with torch.device("meta"):
        net = getattr(import_torchvision().models, network)(weights=None)
    net.load_state_dict({name: t.clone() for name, t in found.state.items()}, assign=True)
    return net, found.origin


@cache
def _random_body(
    network: str, calibrate_on: Callable[[], Tensor], settings: tuple[tuple[str, float], ...] = ()
) -> nn.Module:
    """A random body that keeps something of what an image shows, though nothing has trained it.

    Orthogonal kernels (Saxe et al. 2014), depthwise ones as the identity with noise, weak residual
    branches, and batch-norm with the statistics of the images that ``calibrate_on`` gives. It is
    made
    by one thread: the same body, and so the same stored features, however many will use it. It is
    kept in the run store, since finding orthogonal kernels takes seconds.
    """
    with torch.device("meta"):  # where nothing is initialised twice
        net = getattr(import_torchvision().models, network)(weights=None, **dict(settings))
    with one_thread(), seeded(BODY_SEED):
        images = Normalise()(calibrate_on())
    address = {
        "code": code_fingerprint(),
        "network": network,
        "settings": dict(settings),
        "settled on": tensors_digest({"images": images}),
    }
    key, store = f"body-{digest(address)}", Store()
    entry = store.get(key)
    if entry is not None:
        net.load_state_dict(entry.tensors, assign=True)
        return net
    net.to_empty(device="cpu")
    with one_thread(), seeded(BODY_SEED):
        _initialise(net)
        _settle(net, images)
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


def _settle(net: nn.Module, images: Tensor) -> None:
    """Give batch-norm the statistics of these images."""
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


def _smooth_noise() -> Tensor:
    """(64, 3, 64, 64) pictures with as much at coarse scales as at fine ones."""
    noise = sum(
        F.interpolate(torch.rand(64, 3, size, size), (64, 64), mode="bilinear")
        for size in (2, 4, 8, 16, 32)
    )
    return noise / noise.amax()
