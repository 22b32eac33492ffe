"""The reader's own data: a folder of images with a folder for each class, or a pair of tensors.

Both are sources: called, they give a `Dataset`. Nothing is read before that, so a module that
describes a task can be imported where the images are not.
"""

import hashlib
import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from kdnb.data.dataset import DataError, Dataset, Split, start_folder, store_root, whole_folder

SMALLEST = 11  # pixels: the window of SSIM, by which notebook 04 compares maps
SHARES = (0.15, 0.15)  # of each class's images that become validation and test images
PARTS = ("train", "val", "test")
# Markdown and TeX would read these in a class's name.
MARKUP = re.compile(r"[$|*`\\\x00-\x1f]")
# What Pillow raises for damaged files, beside OSError.
DAMAGED = (ValueError, SyntaxError, EOFError, Image.DecompressionBombError)


@dataclass(frozen=True)
class ImageFolder:
    """Images in torchvision's layout, ``folder/class/image.png``, as ``size`` × ``size`` pixels.

    The shorter side is resized to ``size`` and the middle is cut out. Images are read in colour; as
    ``grey`` they have one channel, drawn as ink on paper. A ``folder`` that is not absolute is
    looked for where the command was started.

    Where the folder holds ``train/`` and ``test/``, each with the class folders, these are the
    splits, with ``val/`` if it is there. Otherwise what is missing is drawn with ``seed``, the
    ``shares`` of each class for validation and testing.

    The pixels are kept under `store_root`: a second call opens no image until a file changes.
    """

    folder: str | Path
    size: int
    grey: bool = False
    shares: tuple[float, float] = SHARES
    seed: int = 0

    def __call__(self) -> Dataset:
        """The dataset; raises `DataError` in one sentence if it cannot be made."""
        if not isinstance(self.size, int) or self.size < SMALLEST:
            raise DataError(
                f"size must be at least {SMALLEST} whole pixels for saliency maps to be compared, "
                f"got {self.size!r}"
            )
        _check_shares(self.shares)
        folder = start_folder() / self.folder
        if not folder.is_dir():
            raise DataError(f"there is no folder {folder}: name one that holds a folder per class")
        found = _parts(folder)
        states = tuple(
            (part, classes, tuple((name, c, *_state(folder / name)) for name, c in samples))
            for part, (classes, samples) in found.items()
        )
        return _read(folder, self.size, self.grey, self.shares, self.seed, states)


@dataclass(frozen=True, eq=False)
class ImageTensors:
    """``images`` (N, 1 or 3, H, W) uint8 with their ``labels`` (N,) int64, as a source of data.

    Splits are drawn with ``seed``, the ``shares`` of each class for validation and testing.
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
        whole_numbers = not (labels.is_floating_point() or labels.dtype == torch.bool)
        if labels.ndim != 1 or not whole_numbers or len(labels) != len(images):
            raise DataError(
                f"labels must be {len(images)} whole numbers, one for each image, got "
                f"{labels.dtype} of shape {tuple(labels.shape)}"
            )
        if len(labels) == 0:
            raise DataError("there are no images: give at least three of each class")
        _check_shares(self.shares)
        names = tuple(self.class_names) or tuple(map(str, range(int(labels.max()) + 1)))
        if labels.min() < 0 or labels.max() >= len(names):
            raise DataError(
                f"labels must lie in 0..{len(names) - 1} for {len(names)} classes, "
                f"got {labels.min().item()}..{labels.max().item()}"
            )
        _check_classes(names, "the labels")
        height, width = images.shape[2:]
        return _dataset(
            "tensors",
            f"{len(images):,} images of {height}×{width} pixels in {len(names)} classes, given as "
            "tensors",
            names,
            {"train": (images.cpu(), labels.cpu().long())},
            self.shares,
            self.seed,
        )


def drawn(labels: Tensor, shares: tuple[float, float], seed: int) -> list[Tensor]:
    """Indices for training, validation and testing, with at least one of each class in each.

    ``labels`` (N,) int64; ``shares`` of each class go to validation and testing, where a share of 0
    leaves a set empty. Raises `DataError` for a class with too few images.
    """
    generator = torch.Generator().manual_seed(seed)
    parts: list[list[Tensor]] = [[], [], []]
    for c in labels.unique():
        members = (labels == c).nonzero().squeeze(1)
        members = members[torch.randperm(len(members), generator=generator)]
        val, test = (max(1, round(share * len(members))) if share else 0 for share in shares)
        train = len(members) - val - test
        if train < 1:
            need = 1 + sum(share > 0 for share in shares)
            raise DataError(
                f"class {c.item()} has {len(members)} of the {need} images that it needs, one in "
                "each split"
            )
        for part, piece in zip(parts, members.split([train, val, test]), strict=True):
            part.append(piece)
    sets = [torch.cat(part) for part in parts]
    return [part[torch.randperm(len(part), generator=generator)] for part in sets]


def _check_shares(shares: tuple[float, float]) -> None:
    if len(shares) != 2 or min(shares) <= 0 or sum(shares) >= 1:
        raise DataError(
            f"shares must be two numbers above 0 that leave some images to train on, got {shares!r}"
        )


def _check_classes(names: Sequence[str], where: str) -> None:
    if len(names) < 2:
        raise DataError(
            f"{where} must hold at least two classes, got {', '.join(names) or 'none'}: "
            "there must be something to tell apart"
        )


# Folders


def _parts(folder: Path) -> dict[str, tuple[tuple[str, ...], list[tuple[str, int]]]]:
    """By split, or under "train" alone: the classes, and (file under ``folder``, class) pairs."""
    inside = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not {"train", "test"} & set(inside) or set(inside) - set(PARTS):
        return {"train": _samples(folder, folder)}
    for needed in ("train", "test"):
        if needed not in inside:
            raise DataError(
                f"{folder.name} has {' and '.join(inside)} but no {needed}: add it, or put the "
                f"class folders straight into {folder.name}"
            )
    found = {part: _samples(folder / part, folder) for part in PARTS if part in inside}
    classes = found["train"][0]
    for part, (others, _) in found.items():
        if differing := sorted(set(classes) ^ set(others)):
            raise DataError(
                f"the class {differing[0]} of {folder.name} is not both in train and in {part}: "
                "each split needs all classes"
            )
    return found


def _samples(folder: Path, root: Path) -> tuple[tuple[str, ...], list[tuple[str, int]]]:
    """The classes that are folders in ``folder``, and their images by path from ``root``."""
    from kdnb.torchvision_remedy import import_torchvision  # slow, and only folders need it

    library = import_torchvision().datasets.folder
    # Names that begin with a dot are notes of the operating system and of Jupyter.
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    _check_classes(classes, str(folder.relative_to(root.parent)))
    pairs = library.make_dataset(
        folder,
        {name: c for c, name in enumerate(classes)},
        extensions=library.IMG_EXTENSIONS,
        allow_empty=True,
    )
    samples = [
        (Path(path).relative_to(root).as_posix(), c)
        for path, c in pairs
        if not Path(path).name.startswith(".")
    ]
    if empty := sorted(set(range(len(classes))) - {c for _, c in samples}):
        raise DataError(
            f"the class {classes[empty[0]]} in {folder.relative_to(root.parent)} has no image: "
            f"put some there ({', '.join(library.IMG_EXTENSIONS)}) or take the folder away"
        )
    return tuple(classes), samples


def _state(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


@lru_cache(maxsize=2)
def _read(
    folder: Path, size: int, grey: bool, shares: tuple[float, float], seed: int, states: tuple
) -> Dataset:
    """The dataset of the files in ``states``, by split: classes, and name, class, size and time."""
    names = [sample[0] for _, _, samples in states for sample in samples]
    classes = states[0][1]
    address = json.dumps([str(folder), size, grey, states]).encode()
    kept = store_root() / f"pixels-{hashlib.sha256(address).hexdigest()[:20]}"
    shape = (len(names), 1 if grey else 3, size, size)
    pixels = _kept(kept)
    if pixels is None:
        fresh = np.empty(shape, dtype=np.uint8)
        for row, name in enumerate(names):
            fresh[row] = _pixels(folder, name, size, grey)
        with whole_folder(kept) as part:
            np.save(part / "pixels.npy", fresh)
            record = json.dumps({"sha256": hashlib.sha256(fresh).hexdigest()})
            (part / "record.json").write_text(record, encoding="utf-8")
        pixels = torch.from_numpy(fresh)
    parts = {}
    for (part, _, samples), images in zip(
        states, pixels.split([len(samples) for _, _, samples in states]), strict=True
    ):
        parts[part] = images, torch.tensor([sample[1] for sample in samples])
    try:
        return _dataset(
            folder.name,
            f"{len(names):,} images in {len(classes)} classes from the folder {_plain(folder.name)}"
            f", resized and cut to {size}×{size} pixels{' in grey' if grey else ''}",
            classes,
            parts,
            shares,
            seed,
        )
    except DataError as error:
        raise DataError(f"{folder.name} cannot be used: {error}") from error


def check_kept(folder: Path) -> np.ndarray:
    """Pixels that were decoded before, mapped into memory; raises ValueError or OSError if damaged.

    Raises FileNotFoundError where there are none.
    """
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    pixels = np.load(folder / "pixels.npy", mmap_mode="c")  # copy on write: the file stays
    if hashlib.sha256(pixels).hexdigest() != record["sha256"]:
        raise ValueError("pixels.npy does not match its SHA-256")
    return pixels


def _kept(folder: Path) -> Tensor | None:
    if not folder.is_dir():
        return None
    try:
        return torch.from_numpy(check_kept(folder))
    except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
        warnings.warn(f"{folder} is damaged ({error}): decoded again", stacklevel=2)
        return None


def _pixels(folder: Path, name: str, size: int, grey: bool) -> np.ndarray:
    """One image as (1 or 3, size, size) uint8, upright, its middle cut out."""
    from kdnb.torchvision_remedy import import_torchvision

    edit = import_torchvision().transforms.functional
    try:
        with Image.open(folder / name) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255
                image = Image.fromarray((np.asarray(image) // 256).astype(np.uint8))
            image = image.convert("L" if grey else "RGB")
    except (OSError, *DAMAGED) as error:
        raise DataError(
            f"the image {name} in {folder.name} cannot be read ({error}): delete it or replace it"
        ) from error
    pixels = np.asarray(edit.center_crop(edit.resize(image, size), size))
    return pixels.reshape(size, size, -1).transpose(2, 0, 1)


# Both


def _dataset(
    name: str,
    about: str,
    classes: Sequence[str],
    parts: dict[str, tuple[Tensor, Tensor]],
    shares: tuple[float, float],
    seed: int,
) -> Dataset:
    """The dataset with whatever split is missing drawn from the training images."""
    images, labels = parts["train"]
    sizes = torch.bincount(labels, minlength=len(classes)).tolist()
    missing = [part for part in PARTS[1:] if part not in parts]
    need = 1 + len(missing)
    for c, count in zip(classes, sizes, strict=True):
        if count < need:
            raise DataError(
                f"the class {c} has {count} image(s), and needs {need} so that "
                f"{', '.join(['train', *missing])} each get one"
            )
    if missing:
        used = tuple(
            s if part in missing else 0.0 for part, s in zip(PARTS[1:], shares, strict=True)
        )
        index = dict(zip(PARTS, drawn(labels, used, seed), strict=True))
        parts = {**parts, **{part: (images[i], labels[i]) for part, i in index.items() if len(i)}}
        about += f"; {' and '.join(missing)} drawn with seed {seed}, each class by its share"
    return Dataset(
        name,
        about,
        _shown(classes),
        **{part: Split(*parts[part]) for part in PARTS},
    )


def _plain(name: str) -> str:
    return MARKUP.sub("·", name)


def _shown(names: Sequence[str]) -> tuple[str, ...]:
    """Class names without characters that Markdown or TeX would read; a · stands for each."""
    plain = [_plain(str(name)) for name in names]
    for i, name in enumerate(plain):
        if name in plain[:i]:
            raise DataError(
                f"the classes {names[plain.index(name)]} and {names[i]} are both shown as {name}: "
                "rename one"
            )
    return tuple(plain)
