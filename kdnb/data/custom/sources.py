"""The reader's own data: a folder of images with a folder for each class, or a pair of tensors.

Both are sources: called, they give a `Dataset`. Nothing is read before that, so a module that
describes a task can be imported where the images are not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from numbers import Integral
from pathlib import Path

import torch
from torch import Tensor

from kdnb.data.custom.layout import Layout, check_classes, layout, said
from kdnb.data.custom.names import plain, shown
from kdnb.data.custom.pixels import VERSION, decode_images
from kdnb.data.custom.splits import disjoint_splits
from kdnb.data.dataset import DataError, Dataset, Split, start_folder, store_root
from kdnb.data.decoded import decoded_once, digest_of

SMALLEST = 11  # pixels: the window of SSIM, by which notebook 04 compares maps
DARKEST = 16  # of 255: if no pixel is brighter, the values are not meant to reach from 0 to 255
SHARES = (0.15, 0.15)  # of each class's images that become validation and test images


@dataclass(frozen=True)
class ImageFolder:
    """Images in torchvision's layout, ``folder/class/image.png``, as ``size`` × ``size`` pixels.

    The shorter side is resized to ``size`` and the middle is cut out, in colour or, as ``grey``,
    with one channel; `kdnb.data.custom.pixels` says how values are scaled. A ``folder`` that is not
    absolute is looked for where the command was started.

    Where the folder holds ``train/`` and ``test/``, each with the class folders, these are the
    splits, with ``val/`` if it is there; ``Training``, ``dev`` and the like are understood.
    Otherwise what is missing is drawn with ``seed``, the ``shares`` of each class for validation
    and testing. No pixels stand in two splits. The dataset's ``about`` counts what was left out.
    """

    folder: str | Path
    size: int
    grey: bool = False
    shares: tuple[float, float] = SHARES
    seed: int = 0

    def __call__(self) -> Dataset:
        """The dataset; raises `DataError` in one sentence if it cannot be made."""
        if not isinstance(self.size, Integral) or self.size < SMALLEST:
            raise DataError(
                f"size must be at least {SMALLEST} whole pixels for saliency maps to be compared, "
                f"got {self.size!r}"
            )
        shares, seed = _checked(self.shares, self.seed)
        folder = start_folder() / Path(self.folder).expanduser()
        if not folder.is_dir():
            raise DataError(
                f"there is no folder {plain(folder)}: name one that holds a folder per class"
            )
        return _read(folder, int(self.size), bool(self.grey), shares, seed, layout(folder))


@dataclass(frozen=True, eq=False)
class ImageTensors:
    """``images`` (N, 1 or 3, H, W) uint8 with their ``labels`` (N,) of any integer type.

    Splits are drawn with ``seed``, the ``shares`` of each class for validation and testing; images
    with the same pixels go to the same split. Without ``class_names`` the classes are called by
    their numbers, 0, 1 and so on.
    """

    images: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    class_names: Sequence[str] = ()
    shares: tuple[float, float] = SHARES
    seed: int = 0

    def __call__(self) -> Dataset:
        """The dataset; raises `DataError` in one sentence if it cannot be made."""
        images, labels = self.images, self.labels
        for name, value in (("images", images), ("labels", labels)):
            if not isinstance(value, Tensor):
                raise DataError(f"{name} must be a tensor, got a {type(value).__name__}")
        colours = images.ndim == 4 and images.shape[1] in (1, 3)
        if images.dtype != torch.uint8 or not colours or min(images.shape[2:]) < SMALLEST:
            raise DataError(
                f"images must be uint8 of shape (N, 1 or 3, H, W), at least {SMALLEST} pixels high "
                "and wide for saliency maps to be compared, with values from 0 to 255, got "
                f"{images.dtype} of shape {tuple(images.shape)}"
            )
        fractions = labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool
        if labels.shape != images.shape[:1] or fractions:
            raise DataError(
                f"labels must be {len(images)} whole numbers, one for each image, got "
                f"{labels.dtype} of shape {tuple(labels.shape)}"
            )
        shares, seed = _checked(self.shares, self.seed)
        # long: of unsigned labels torch knows no largest.
        train = Split(images.cpu(), labels.cpu().long())
        names = _names(self.class_names, train.labels)
        about = f"{len(images):,} images of {images.shape[2]}×{images.shape[3]} pixels"
        about += f" in {len(names)} classes, given as tensors"
        return _dataset("tensors", about, names, {"train": train}, shares, seed)


def _names(given: Sequence[str], labels: Tensor) -> tuple[str, ...]:
    """Class names for ``labels`` (N,) int64: nothing is made before the labels are known to fit."""
    if isinstance(given, str):
        raise DataError(f"class_names must be a list of names, got the text {given!r}")
    low, high = labels.min().item(), labels.max().item()
    count = len(given) or len(labels.unique())
    if low < 0 or high >= count:
        raise DataError(
            f"labels must lie in 0..{count - 1} for {count} classes, got {low}..{high}: number the "
            "classes from 0 without gaps, or give class_names"
        )
    names = shown(given if len(given) else range(count))
    check_classes(names, "the labels")
    return names


def _checked(shares: tuple[float, float], seed: int) -> tuple[tuple[float, float], int]:
    try:
        val, test = map(float, shares)
    except (TypeError, ValueError):
        val = test = 0.0
    if not (val > 0 and test > 0 and val + test < 1):
        raise DataError(
            f"shares must be two numbers above 0 that leave some images to train on, got {shares!r}"
        )
    if not isinstance(seed, Integral) or not -(2**63) <= seed < 2**63:
        raise DataError(f"seed must be a whole number of at most 64 bits, got {seed!r}")
    return (val, test), int(seed)


@lru_cache(maxsize=2)
def _read(
    folder: Path, size: int, grey: bool, shares: tuple[float, float], seed: int, found: Layout
) -> Dataset:
    """The dataset of the files that were ``found``."""
    names = [file.name for _, files in found.parts for file in files]

    address = [VERSION, str(folder), size, grey, found.parts]
    labels = {part: [[file.label for file in files]] for part, files in found.parts}
    kept = store_root() / f"pixels-{digest_of(address)[:20]}"
    splits, scaled = decoded_once(kept, labels, lambda: decode_images(folder, names, size, grey))
    name = plain(folder.name)
    about = (
        f"{len(names):,} images in {len(found.classes)} classes from the folder {name}, resized "
        f"and cut to {size}×{size} pixels{' in grey' if grey else ''}"
    )
    about += f"; {scaled}" if scaled else ""
    about += f"; left out: {said(found.left_out)}" if found.left_out else ""
    try:
        return _dataset(name, about, shown(found.classes), splits, shares, seed)
    except DataError as error:
        raise DataError(f"{name} cannot be used: {error}") from error


def _dataset(
    name: str,
    about: str,
    classes: tuple[str, ...],
    given: dict[str, Split],
    shares: tuple[float, float],
    seed: int,
) -> Dataset:
    """The dataset with whatever split is missing drawn from the training images."""
    brightest = max(int(split.images.max()) for split in given.values())
    if brightest <= DARKEST:
        raise DataError(
            f"the brightest pixel of all images is {brightest} of 255, and all would look black: "
            "scale the values to 0..255"
        )
    splits, notes = disjoint_splits(given, classes, shares, seed)
    return Dataset(name, "; ".join([about, *notes]), classes, **splits)
