"""The reader's own data: a folder of images with a folder for each class, or a pair of tensors.

Both are sources: called, they give a `Dataset`. Nothing is read before that, so a module that
describes a task can be imported where the images are not.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from numbers import Integral
from pathlib import Path

import torch
from torch import Tensor

from kdnb.data.custom.layout import Layout, check_classes, layout, reasons
from kdnb.data.custom.names import plain, shown
from kdnb.data.custom.pixels import VERSION, decode_images
from kdnb.data.custom.splits import disjoint_splits
from kdnb.data.dataset import DataError, Dataset, Split
from kdnb.data.decoded import decoded_once, digest_of
from kdnb.files import start_folder, store_root

SMALLEST = 11  # pixels: the window of SSIM, by which notebook 04 compares maps
DARKEST = 16  # of 255: if no pixel is brighter, the values are not meant to reach from 0 to 255
SHARES = (0.15, 0.15)  # of each class's images that become validation and test images


# Name, about, class names, and the splits that are there, "train" at least.
Given = tuple[str, str, tuple[str, ...], dict[str, Split]]


class Source(ABC):
    """A source that returns a `Dataset` when called; missing splits are drawn."""

    shares: tuple[float, float]
    seed: int

    @abstractmethod
    def given(self) -> Given:
        """The data as read from a folder or passed in, after checks."""

    def __call__(self) -> Dataset:
        """The dataset; raises `DataError` in one sentence if it cannot be made."""
        try:
            val, test = map(float, self.shares)
        except (TypeError, ValueError):
            val = test = 0.0
        if not (val > 0 and test > 0 and val + test < 1):
            raise DataError(
                "shares must be two numbers above 0 that leave some images to train on, got "
                f"{self.shares!r}"
            )
        if not isinstance(self.seed, Integral) or not -(2**63) <= self.seed < 2**63:
            raise DataError(f"seed must be a whole number of at most 64 bits, got {self.seed!r}")
        name, about, classes, given = self.given()
        try:
            brightest = max(int(split.images.max()) for split in given.values())
            if brightest <= DARKEST:
                raise DataError(
                    f"the brightest pixel of all images is {brightest} of 255, and all would look "
                    "black: scale the values to 0..255"
                )
            splits, notes = disjoint_splits(given, classes, (val, test), int(self.seed))
        except DataError as error:
            raise DataError(f"{name} cannot be used: {error}") from error
        return Dataset(name, "; ".join([about, *notes]), classes, **splits)


@dataclass(frozen=True)
class ImageFolder(Source):
    """Images in torchvision's layout, ``folder/class/image.png``, as ``size`` × ``size`` pixels.

    The shorter side is resized to ``size`` and the middle is cut out, in colour or, as ``grey``,
    with one channel; `kdnb.data.custom.pixels` says how values are scaled. A ``folder`` that is not
    absolute is looked for where the command was started.

    Where the folder holds ``train/`` and ``test/``, each with the class folders, these are the
    splits, with ``val/`` if it exists; names such as ``Training`` or ``dev`` are understood too.
    Missing splits are drawn with ``seed``, the ``shares`` of each class for validation and
    testing. No pixels are in two splits. The dataset's ``about`` counts the files left out.
    """

    folder: str | Path
    size: int
    grey: bool = False
    shares: tuple[float, float] = SHARES
    seed: int = 0

    def given(self) -> Given:
        if not isinstance(self.size, Integral) or self.size < SMALLEST:
            raise DataError(
                f"size must be at least {SMALLEST} whole pixels for saliency maps to be compared, "
                f"got {self.size!r}"
            )
        folder = start_folder() / Path(self.folder).expanduser()
        if not folder.is_dir():
            raise DataError(
                f"there is no folder {plain(folder)}: name one that holds a folder per class"
            )
        return _read(folder, int(self.size), bool(self.grey), layout(folder))


@lru_cache(maxsize=2)
def _read(folder: Path, size: int, grey: bool, found: Layout) -> Given:
    """The result of `ImageFolder.given` for the files ``found``."""
    names = [file.name for _, files in found.parts for file in files]
    address = [VERSION, str(folder), size, grey, found.parts]
    kept = store_root() / f"pixels-{digest_of(address)[:20]}"
    labels = {part: [[file.label for file in files]] for part, files in found.parts}
    splits, scaled = decoded_once(kept, labels, lambda: decode_images(folder, names, size, grey))
    name = plain(folder.name)
    about = (
        f"{len(names):,} images in {len(found.classes)} classes from the folder {name}, resized "
        f"and cut to {size}×{size} pixels{' in grey' if grey else ''}"
    )
    about += f"; {scaled}" if scaled else ""
    about += f"; left out: {reasons(found.left_out)}" if found.left_out else ""
    return name, about, shown(found.classes), splits


@dataclass(frozen=True, eq=False)
class ImageTensors(Source):
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

    def given(self) -> Given:
        images, labels, names = self.images, self.labels, self.class_names
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
        if isinstance(names, str):
            raise DataError(f"class_names must be a list of names, got the text {names!r}")
        # long: of unsigned labels torch knows no largest.
        train = Split(images.cpu(), labels.cpu().long())
        low, high = train.labels.min().item(), train.labels.max().item()
        count = len(names) or len(train.labels.unique())
        if low < 0 or high >= count:
            raise DataError(
                f"labels must lie in 0..{count - 1} for {count} classes, got {low}..{high}: number "
                "the classes from 0 without gaps, or give class_names"
            )
        classes = shown(names if len(names) else range(count))
        check_classes(classes, "the labels")
        about = f"{len(images):,} images of {images.shape[2]}×{images.shape[3]} pixels"
        return "tensors", f"{about} in {count} classes, given as tensors", classes, {"train": train}
