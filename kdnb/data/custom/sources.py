"""The reader's own data: a folder of images with a folder for each class, or a pair of tensors.

Both are sources: called, they give a `Dataset`. Nothing is read before that, so a module that
describes a task can be imported where the images are not.
"""

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from numbers import Integral
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdnb.data.custom.layout import Layout, check_classes, layout, said
from kdnb.data.custom.names import plain, shown
from kdnb.data.custom.pixels import VERSION, decoded
from kdnb.data.custom.splits import PARTS, Part, settled
from kdnb.data.dataset import DataError, Dataset, Split
from kdnb.files import start_folder, store_root, whole_folder

SMALLEST = 11  # pixels: the window of SSIM, by which notebook 04 compares maps
DARKEST = 16  # of 255: if no pixel is brighter, the values are not meant to reach from 0 to 255
SHARES = (0.15, 0.15)  # of each class's images that become validation and test images


@dataclass(frozen=True)
class ImageFolder:
    """Images in torchvision's layout, ``folder/class/image.png``, as ``size`` × ``size`` pixels.

    The shorter side is resized to ``size`` and the middle is cut out. Images are read in colour; as
    ``grey`` they have one channel, drawn as ink on paper. `kdnb.data.custom.pixels` says how their
    values
    are scaled. A ``folder`` that is not absolute is looked for where the command was started.

    Where the folder holds ``train/`` and ``test/``, each with the class folders, these are the
    splits, with ``val/`` if it is there; ``Training``, ``dev`` and the like are understood.
    Otherwise what is missing is drawn with ``seed``, the ``shares`` of each class for validation
    and testing. No pixels stand in two splits. The dataset's ``about`` counts what was left out.

    The pixels are kept under `store_root`: a second call decodes no image until a file changes.
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
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
            raise DataError(
                "images must be uint8 of shape (N, 1 or 3, H, W) with values from 0 to 255, got "
                f"{images.dtype} of shape {tuple(images.shape)}"
            )
        if min(images.shape[2:]) < SMALLEST:
            raise DataError(
                f"images must be at least {SMALLEST} pixels high and wide for saliency maps to be "
                f"compared, got {images.shape[2]}×{images.shape[3]}: enlarge them"
            )
        fractions = labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool
        if labels.ndim != 1 or fractions or len(labels) != len(images):
            raise DataError(
                f"labels must be {len(images)} whole numbers, one for each image, got "
                f"{labels.dtype} of shape {tuple(labels.shape)}"
            )
        if len(labels) == 0:
            raise DataError("there are no images: give at least three of each class")
        shares, seed = _checked(self.shares, self.seed)
        labels = labels.cpu().long()  # of unsigned ones torch knows no largest
        names = _names(self.class_names, labels)
        height, width = images.shape[2:]
        return _dataset(
            "tensors",
            f"{len(images):,} images of {height}×{width} pixels in {len(names)} classes, given as "
            "tensors",
            names,
            {"train": Part(images.cpu(), labels)},
            shares,
            seed,
        )


def _names(given: Sequence[str], labels: Tensor) -> tuple[str, ...]:
    """Class names for ``labels`` (N,) int64: nothing is made before the labels are known to fit."""
    if isinstance(given, str):
        raise DataError(f"class_names must be a list of names, got the text {given!r}")
    low, high = labels.min().item(), labels.max().item()
    if not len(given):
        held = labels.unique().tolist()
        if low < 0 or high != len(held) - 1:
            raise DataError(
                f"labels must number the classes from 0 without gaps, got {low}..{high} for "
                f"{len(held)} classes: number them so, or give class_names"
            )
        given = range(high + 1)
    if low < 0 or high >= len(given):
        raise DataError(
            f"labels must lie in 0..{len(given) - 1} for {len(given)} classes, got {low}..{high}"
        )
    names = shown(given)
    check_classes(names, "the labels")
    return names


def _checked(shares: tuple[float, float], seed: int) -> tuple[tuple[float, float], int]:
    try:
        val, test = map(float, shares)
    except (TypeError, ValueError):
        val = test = 0.0
    if isinstance(shares, str) or not (val > 0 and test > 0 and val + test < 1):
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
    address = json.dumps([VERSION, str(folder), size, grey, found.parts]).encode()
    kept = store_root() / f"pixels-{hashlib.sha256(address).hexdigest()[:20]}"
    if (known := _kept(kept)) is None:
        fresh, scaled = decoded(folder, names, size, grey)
        with whole_folder(kept) as part:
            np.save(part / "pixels.npy", fresh)
            record = json.dumps({"sha256": _digest(fresh, scaled), "scaled": scaled})
            (part / "record.json").write_text(record, encoding="utf-8")
        known = torch.from_numpy(fresh), scaled
    pixels, scaled = known
    pieces = pixels.split([len(files) for _, files in found.parts])
    parts = {
        part: Part(images, torch.tensor([file.label for file in files]))
        for (part, files), images in zip(found.parts, pieces, strict=True)
    }
    about = (
        f"{len(names):,} images in {len(found.classes)} classes from the folder "
        f"{plain(folder.name)}, resized and cut to {size}×{size} pixels{' in grey' if grey else ''}"
    )
    if scaled:
        about += f"; {scaled}"
    if found.left_out:
        about += f"; left out: {said(found.left_out)}"
    try:
        return _dataset(plain(folder.name), about, shown(found.classes), parts, shares, seed)
    except DataError as error:
        raise DataError(f"{plain(folder.name)} cannot be used: {error}") from error


def check_kept(folder: Path) -> np.ndarray:
    """Pixels that were decoded before, mapped into memory; raises ValueError or OSError if damaged.

    Raises FileNotFoundError where there are none.
    """
    return _checked_kept(folder)[0]


def _checked_kept(folder: Path) -> tuple[np.ndarray, str]:
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    pixels = np.load(folder / "pixels.npy", mmap_mode="c")  # copy on write: the file stays
    scaled = record.get("scaled", "")
    if _digest(pixels, scaled) != record["sha256"]:
        raise ValueError("pixels.npy does not match its SHA-256")
    return pixels, scaled


def _digest(pixels: np.ndarray, scaled: str) -> str:
    digest = hashlib.sha256(pixels)
    digest.update(scaled.encode())
    return digest.hexdigest()


def _kept(folder: Path) -> tuple[Tensor, str] | None:
    if not folder.is_dir():
        return None
    try:
        pixels, scaled = _checked_kept(folder)
        return torch.from_numpy(pixels), scaled
    except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError) as error:
        warnings.warn(f"{folder} is damaged ({error}): decoded again", stacklevel=2)
        return None


def _dataset(
    name: str,
    about: str,
    classes: tuple[str, ...],
    given: dict[str, Part],
    shares: tuple[float, float],
    seed: int,
) -> Dataset:
    """The dataset with whatever split is missing drawn from the training images."""
    brightest = max(int(part.images.max()) for part in given.values())
    if brightest <= DARKEST:
        raise DataError(
            f"the brightest pixel of all images is {brightest} of 255, and all would look black: "
            "scale the values to 0..255"
        )
    parts, notes = settled(given, classes, shares, seed)
    splits = {part: Split(*parts[part]) for part in PARTS}
    return Dataset(name, "; ".join([about, *notes]), classes, **splits)
