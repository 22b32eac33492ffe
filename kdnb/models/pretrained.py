"""ImageNet weights of torchvision's networks: found and verified, or reported as missing.

They are looked for in this order: ``KDNB_WEIGHTS`` (a folder, or files separated as in ``PATH``),
torchvision's own cache, a download. ``KDNB_WEIGHTS=random`` asks for random weights.
"""

import hashlib
import os
import pickle
import re
import socket
import warnings
from contextlib import redirect_stderr, redirect_stdout
from enum import Enum
from functools import cache
from io import StringIO
from pathlib import Path
from textwrap import shorten

import torch
from torch import Tensor, nn

from kdnb.torchvision_remedy import import_torchvision

VARIABLE = "KDNB_WEIGHTS"
# The first weights that torchvision published, not the second: those were trained for accuracy on
# ImageNet with smoothed labels, which makes frozen features transfer worse (Kornblith et al. 2021,
# arXiv 2010.16402).
VERSION = "IMAGENET1K_V1"
NETWORKS = ("resnet50", "mobilenet_v2")
DOWNLOAD_TIMEOUT = 10  # seconds without an answer


class WeightsError(ValueError):
    """A weights file cannot be used; the message names the file and the remedy."""


class MissingWeightsWarning(UserWarning):
    """No ImageNet weights: the network starts from random ones."""


def imagenet(network: str) -> tuple[nn.Module | None, str]:
    """``resnet50`` or ``mobilenet_v2`` with ImageNet weights, and the weights' origin in words.

    None where no weights are available, with a `MissingWeightsWarning`. Raises `WeightsError` if a
    file is damaged, is not where ``KDNB_WEIGHTS`` points, or belongs to another network.
    """
    return _imagenet(network, os.environ.get(VARIABLE, ""))


def available() -> bool:
    """Whether the ImageNet weights of both networks of the study are available."""
    return all(imagenet(network)[0] is not None for network in NETWORKS)


def without_values(network: str, **settings: float) -> nn.Module:
    """torchvision's network with uninitialised tensors, so that nothing is initialised twice."""
    with torch.device("meta"):
        return import_torchvision().models.get_model(network, weights=None, **settings)


def local_file(network: str) -> Path | None:
    """Its weights file on this machine: from ``KDNB_WEIGHTS``, else from torchvision's cache.

    Raises `WeightsError` if ``KDNB_WEIGHTS`` names a missing file, or no weights at all.
    """
    setting = os.environ.get(VARIABLE, "")
    if setting == "random":
        return None
    own_name = Path(_weights(network).url).name
    files: list[Path] = []
    for place in map(Path, filter(None, setting.split(os.pathsep))):
        if not place.exists():
            raise WeightsError(f"{VARIABLE} names {place}, which does not exist: correct it")
        files += sorted(place.glob("*.pth")) if place.is_dir() else [place]
    if setting and not any(file.name.startswith(NETWORKS) for file in files):
        raise WeightsError(
            f"{VARIABLE} ({setting}) holds no weights for {network}: put {own_name} there"
        )
    named = [file for file in files if file.name.startswith(network)]
    named.sort(key=lambda file: file.name != own_name)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / own_name
    return next((file for file in (*named, cached) if file.is_file()), None)


@cache
def _imagenet(network: str, setting: str) -> tuple[nn.Module | None, str]:
    if setting == "random":
        return None, f"random weights, as {VARIABLE} asks"
    file, name = local_file(network), Path(_weights(network).url).name
    try:
        state = _read(file) if file else _downloaded(_weights(network))
    except (OSError, RuntimeError) as error:
        warnings.warn(
            f"no ImageNet weights for {network}: {name} is not on this machine and cannot be "
            f"downloaded ({error}). It starts from RANDOM weights; for real transfer learning copy "
            f"{name} into a folder that {VARIABLE} names",
            MissingWeightsWarning,
            stacklevel=3,
        )
        return None, f"random weights, because {name} is not available"
    net = without_values(network)
    try:
        net.load_state_dict(state, assign=True)
    except (RuntimeError, TypeError) as error:
        raise WeightsError(
            f"{file or name} does not hold the weights of {network} ({shorten(str(error), 250)}): "
            "put torchvision's own file there"
        ) from error
    return net, f"ImageNet weights, {file.name if file else name}"


def _weights(network: str) -> Enum:
    return import_torchvision().models.get_model_weights(network)[VERSION]


def _downloaded(weights: Enum) -> dict[str, Tensor]:
    """The file that torchvision downloads to its cache and checks with the hash in its name."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        # A line with the path of the cache, on stdout or stderr by the version of torch.
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            return weights.get_state_dict(check_hash=True, progress=False, weights_only=True)
    finally:
        socket.setdefaulttimeout(before)


def _read(file: Path) -> dict[str, Tensor]:
    hashed = re.search(r"-([0-9a-f]{8})\.pth$", file.name)  # how its SHA-256 starts
    try:
        with file.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()[:8]
        if hashed and found != hashed[1]:
            raise WeightsError(
                f"{file} is damaged: its SHA-256 starts with {found} instead of {hashed[1]}; "
                "delete it, and it is downloaded again"
            )
        return torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = shorten(str(error) or type(error).__name__, 100)
        raise WeightsError(f"{file} is not a weights file ({reason}): copy it again") from error
