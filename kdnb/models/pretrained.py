"""ImageNet weights of torchvision's networks: found and verified, or said to be missing.

Looked for in this order: what ``KDNB_WEIGHTS`` names (a folder, or files separated as in ``PATH``),
torchvision's own cache, a download. ``KDNB_WEIGHTS=random`` asks for none.
"""

import hashlib
import os
import pickle
import re
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from kdnb.torchvision_remedy import import_torchvision

VARIABLE = "KDNB_WEIGHTS"
# The first weights that torchvision published, not the second: those were trained for accuracy on
# ImageNet with smoothed labels, which makes frozen features transfer worse (Kornblith et al. 2021,
# arXiv 2010.16402).
VERSION = "IMAGENET1K_V1"
NETWORKS = {"resnet50": "ResNet50_Weights", "mobilenet_v2": "MobileNet_V2_Weights"}
DOWNLOAD_TIMEOUT = 10  # seconds without an answer


class WeightsError(ValueError):
    """A weights file cannot be used; the message names the file and the remedy."""


class MissingWeightsWarning(UserWarning):
    """No ImageNet weights: the network starts from random ones."""


class Pretrained(NamedTuple):
    """A state dict, or None where none can be had, and in words where it comes from."""

    state: dict[str, Tensor] | None
    origin: str


def imagenet(network: str) -> Pretrained:
    """ImageNet weights of ``resnet50`` or ``mobilenet_v2``.

    Where none can be had, it warns with `MissingWeightsWarning` and says so in ``origin``. Raises
    `WeightsError` if a file is damaged, is not where ``KDNB_WEIGHTS`` says, or belongs to another
    network.
    """
    return _imagenet(network, os.environ.get(VARIABLE, ""))


def local_file(network: str) -> Path | None:
    """Its weights file on this machine: what ``KDNB_WEIGHTS`` names, else torchvision's cache.

    Raises `WeightsError` if ``KDNB_WEIGHTS`` names something that is not there.
    """
    setting = os.environ.get(VARIABLE, "")
    if setting == "random":
        return None
    name = _torchvisions(network).url.rsplit("/", 1)[-1]
    named = _named(network, name, setting) if setting else None
    cached = _cache_folder() / name
    return named or (cached if cached.is_file() else None)


@cache
def _imagenet(network: str, setting: str) -> Pretrained:
    if setting == "random":
        return Pretrained(None, f"random weights, as {VARIABLE} asks")
    file = local_file(network)
    if file is None:
        url = _torchvisions(network).url
        file = _cache_folder() / url.rsplit("/", 1)[-1]
        try:
            _download(url, file)
        except (OSError, RuntimeError) as error:
            message = (
                f"no ImageNet weights for {network}: {file.name} is not in {file.parent} and "
                f"cannot be downloaded ({error}). It starts from RANDOM weights; for real transfer "
                f"learning copy {file.name} there or into a folder that {VARIABLE} names"
            )
            warnings.warn(message, MissingWeightsWarning, stacklevel=3)
            return Pretrained(None, f"random weights, because {file.name} could not be had")
    return Pretrained(_read(file, network), f"ImageNet weights, {file.name}")


def _torchvisions(network: str) -> Enum:
    return getattr(import_torchvision().models, NETWORKS[network])[VERSION]


def _cache_folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _named(network: str, name: str, setting: str) -> Path | None:
    """The file that the setting gives for this network; None if it only speaks of others."""
    places = [Path(place) for place in setting.split(os.pathsep)]
    for place in places:
        if not place.exists():
            raise WeightsError(f"{VARIABLE} names {place}, which does not exist: correct it")
    for place in places:
        if place.is_file() and place.name.startswith(network):
            return place
        if place.is_dir():
            found = sorted(place.glob(f"{network}*.pth"))
            if found:
                return place / name if place / name in found else found[0]
    known = tuple(NETWORKS)
    if not any(place.is_file() and place.name.startswith(known) for place in places):
        raise WeightsError(
            f"{VARIABLE} ({setting}) holds no weights for {network}: put {name} there"
        )
    return None


def _download(url: str, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with _impatient():
        # Written beside its place, verified by the hash in its name, then moved.
        torch.hub.download_url_to_file(url, str(file), _hash_in(file), progress=False)


@contextmanager
def _impatient() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _hash_in(file: Path) -> str | None:
    """torchvision puts the first eight digits of the SHA-256 into the name."""
    match = re.search(r"-([0-9a-f]{8})\.pth$", file.name)
    return match and match.group(1)


def _read(file: Path, network: str) -> dict[str, Tensor]:
    expected = _hash_in(file)
    if expected:
        with file.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        if not found.startswith(expected):
            raise WeightsError(
                f"{file} is damaged: its SHA-256 starts with {found[:8]} instead of {expected}; "
                f"delete it, and it is downloaded again"
            )
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{file} is not a weights file ({reason}): copy it anew") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"{file} holds no state dict: put torchvision's own file there")
    with torch.device("meta"):
        needed = getattr(import_torchvision().models, network)(weights=None).state_dict()
    have = {key: tuple(value.shape) for key, value in state.items()}
    need = {key: tuple(value.shape) for key, value in needed.items()}
    odd = [key for key in need | have if need.get(key) != have.get(key)]
    if odd:
        raise WeightsError(
            f"{file} does not hold the weights of {network} ({len(odd)} entries differ, the first "
            f"is {odd[0]}): put torchvision's own file there"
        )
    return state
