"""`mhist`: histopathology images as their authors ship them.

MHIST (Wei et al. 2021, arXiv 2101.12355): ``annotations.csv`` beside ``images/`` or ``images.zip``.
Seven pathologists said of each image whether it shows a sessile serrated adenoma (SSA) or a
hyperplastic polyp (HP); the label is the majority's. Nothing is written beside the reader's files.
"""

import csv
import hashlib
import io
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from kdnb.data.dataset import DataError, Dataset, stratified_indices
from kdnb.data.decoded import decoded_once, digest_of
from kdnb.files import data_root, store_root

CLASS_NAMES = ("HP", "SSA")
ANNOTATORS, MAJORITY = 7, 4
COLUMNS = (
    "Image Name",
    "Majority Vote Label",
    "Number of Annotators who Selected SSA (Out of 7)",
    "Partition",
)
# (partition, label): images, as published
PUBLISHED = {
    ("train", "HP"): 1545,
    ("train", "SSA"): 630,
    ("test", "HP"): 617,
    ("test", "SSA"): 360,
}
SIZE = 224
VAL_SHARE = 0.15  # of the training images; the test images stay the authors' own
SPLIT_SEED = 0
MD5 = re.compile(r"([0-9a-fA-F]{32})\s+\*?(.+)|MD5 \((.+)\) = ([0-9a-fA-F]{32})")


class _UnusableError(ValueError):
    """What is wrong with the files; `load_layout` adds the remedy."""


class Annotation(NamedTuple):
    """One row: an image's file name, its label (0 HP, 1 SSA), its votes for SSA, its partition."""

    image: str
    label: int
    votes: int
    partition: str


# Of a PNG file two numbers that change when it does, and what reads its bytes.
ImageFile = tuple[tuple[int, int], Callable[[], bytes]]


def load(root: str | Path | None = None) -> Dataset:
    """MHIST from ``root/mhist``: 1,849 training, 326 validation and 977 test images.

    Validation images are taken from the authors' training images. Images are (N, 3, 224, 224)
    uint8, ``subclasses`` the votes for SSA, 0 to 7, of which 4 and more are the label SSA.

    Raises `DataError` if anything is missing, damaged or not as published.
    """
    folder = data_root(root) / "mhist"
    if not (folder / "annotations.csv").is_file():
        raise DataError(
            f"MHIST is not in {folder}: its authors give it to whoever signs their agreement; "
            f"data/README.md says how, then put annotations.csv and images.zip there"
        )
    return load_layout(
        folder,
        name="mhist",
        about="MHIST, 3,152 images of colorectal polyps of 224×224 pixels with the votes of seven "
        "pathologists (for research, never passed on)",
        size=SIZE,
        published=PUBLISHED,
    )


def load_layout(
    folder: Path,
    name: str,
    about: str,
    size: int,
    published: dict[tuple[str, str], int] | None = None,
    remedy: str = "copy the authors' files there anew",
) -> Dataset:
    """A dataset in MHIST's layout, of ``size`` × ``size`` pixels, in any order of its rows.

    ``published`` are the numbers of images by partition and label that there must be. Raises
    `DataError`, which ends in ``remedy``, if the files cannot be used.
    """
    try:
        rows = _annotations(folder / "annotations.csv")
        found = Counter((row.partition, CLASS_NAMES[row.label]) for row in rows)
        for (partition, label), need in (published or {}).items():
            if found[partition, label] != need:
                raise _UnusableError(
                    f"annotations.csv has {found[partition, label]:,} {partition} images of "
                    f"{label} where {need:,} were published"
                )
        parts, files = split_rows(rows), _image_files(folder)
        _check_names({row.image for row in rows}, set(files))

        def decode() -> tuple[np.ndarray, str]:
            check_sums(folder)
            ordered = [row.image for part in parts.values() for row in part]
            pixels = np.empty((len(ordered), 3, size, size), dtype=np.uint8)
            for place, image in zip(pixels, ordered, strict=True):
                place[:] = _pixels(image, files[image][1], size)
            return pixels, ""

        # Changes when an annotation, the order, an image file or the size does.
        address = {s: [(*row, files[row.image][0]) for row in part] for s, part in parts.items()}
        kept = store_root() / f"decoded-{digest_of([size, address])[:20]}"
        labels = {
            s: [[r.label for r in part], [r.votes for r in part]] for s, part in parts.items()
        }
        splits, _ = decoded_once(kept, labels, decode)
    except (_UnusableError, OSError) as error:
        raise DataError(f"{name} in {folder} cannot be used ({error}): {remedy}") from error
    votes = tuple(f"{v} of {ANNOTATORS}" for v in range(ANNOTATORS + 1))
    return Dataset(name, about, CLASS_NAMES, **splits, subclass_names=votes)


# Annotations


def _annotations(path: Path) -> list[Annotation]:
    """The rows of ``annotations.csv``, ordered by image name."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        if missing := [c for c in COLUMNS if c not in (reader.fieldnames or [])]:
            raise _UnusableError(f"{path.name} lacks the column {missing[0]!r}")
        rows = [_annotation(row, f"{path.name} line {reader.line_num}") for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise _UnusableError(f"{path.name} is not a table of UTF-8 text: {error}") from error
    for image, count in Counter(row.image for row in rows).items():
        if count > 1:
            raise _UnusableError(f"{path.name} names {image} {count} times")
    return sorted(rows)


def _annotation(row: dict[str | None, str | None], where: str) -> Annotation:
    if None in row or None in row.values():  # how csv.DictReader says too many and too few
        raise _UnusableError(f"{where} has more or fewer fields than the header")
    image, label, votes, partition = (row[column] for column in COLUMNS)
    if image in ("", ".", "..") or re.search(r"[/\\:\0]", image):
        raise _UnusableError(f"{where}: the image must be a file name, got {image!r}")
    for value, allowed, says in (
        (label, CLASS_NAMES, "the label must be HP or SSA"),
        (partition, ("train", "test"), "the partition must be train or test"),
        (votes, map(str, range(ANNOTATORS + 1)), f"votes must lie in 0..{ANNOTATORS}"),
    ):
        if value not in allowed:
            raise _UnusableError(f"{where}: {says}, got {value!r}")
    if (int(votes) >= MAJORITY) != (label == "SSA"):
        raise _UnusableError(
            f"{where}: {votes} of {ANNOTATORS} votes for SSA contradict the label {label}"
        )
    return Annotation(image, CLASS_NAMES.index(label), int(votes), partition)


def split_rows(rows: list[Annotation]) -> dict[str, list[Annotation]]:
    """Rows for training, validation and testing; the first two share the authors' training set."""
    train = [row for row in rows if row.partition == "train"]
    test = [row for row in rows if row.partition == "test"]
    if len(train) < 2 or not test:
        raise _UnusableError(
            f"annotations.csv has {len(train)} training and {len(test)} test images, too few"
        )
    val_size = max(1, round(VAL_SHARE * len(train)))
    labels = torch.tensor([row.label for row in train])
    rest, val = stratified_indices(labels, (len(train) - val_size, val_size), SPLIT_SEED)
    return {"train": [train[i] for i in rest], "val": [train[i] for i in val], "test": test}


# Image files


def _image_files(folder: Path) -> dict[str, ImageFile]:
    """What ``images/`` holds, or else any folder of ``images.zip``, by file name."""
    unpacked, archive = folder / "images", folder / "images.zip"
    files: dict[str, ImageFile] = {}
    if unpacked.is_dir():
        for path in filter(_is_image, unpacked.iterdir()):
            state = path.stat()
            files[path.name] = (state.st_size, state.st_mtime_ns), path.read_bytes
        return files
    if not archive.is_file():
        raise _UnusableError("there is neither images/ nor images.zip")
    try:
        content = zipfile.ZipFile(archive)
    except zipfile.BadZipFile as error:
        raise _UnusableError(f"images.zip is damaged: {error}") from error
    for entry in content.infolist():
        path = PurePosixPath(entry.filename)
        # Nothing is unpacked, so nothing could leave a folder; but no honest archive tries.
        strange = path.is_absolute() or ".." in path.parts or re.search(r"[\\:]", entry.filename)
        if strange or stat.S_ISLNK(entry.external_attr >> 16):
            raise _UnusableError(f"images.zip holds a path or link outside it: {entry.filename!r}")
        if entry.is_dir() or path.parts[0] == "__MACOSX" or not _is_image(path):
            continue
        if path.name in files:
            raise _UnusableError(f"images.zip holds {path.name} more than once")
        files[path.name] = (entry.file_size, entry.CRC), partial(content.read, entry)
    return files


def _is_image(path: PurePath) -> bool:
    # Names that begin with a dot are the operating system's notes.
    return path.suffix.lower() == ".png" and not path.name.startswith(".")


def _check_names(named: set[str], found: set[str]) -> None:
    for odd, says in (
        (named - found, "annotations.csv names {:,} images that are not there"),
        (found - named, "annotations.csv does not name {:,} images that are there"),
    ):
        if odd:
            raise _UnusableError(f"{says.format(len(odd))}, the first is {min(odd)}")


def _pixels(name: str, read: Callable[[], bytes], size: int) -> np.ndarray:
    """One image as red, green and blue planes (3, size, size)."""
    try:
        with Image.open(io.BytesIO(read()), formats=["PNG"]) as image:
            width, height = image.size
            # Asked before its pixels are decoded: a huge image costs nothing.
            planes = image.convert("RGB") if width == height == size else None
    except Exception as error:  # Pillow and zipfile raise nearly anything on damaged files
        raise _UnusableError(f"{name} cannot be read: {error}") from error
    if planes is None:
        raise _UnusableError(f"{name} has {width}×{height} pixels instead of {size}×{size}")
    return np.asarray(planes).transpose(2, 0, 1)


def check_sums(folder: Path) -> None:
    """Compare what ``MD5SUMs.txt`` names and is there; without that file nothing is compared.

    Raises ValueError for the first file that differs.
    """
    sums = folder / "MD5SUMs.txt"
    text = sums.read_text(encoding="utf-8", errors="replace") if sums.is_file() else ""
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        if not (match := MD5.fullmatch(line.strip())):
            raise _UnusableError(
                f"MD5SUMs.txt line {number} is not an MD5 and a file: without MD5SUMs.txt nothing "
                f"is compared"
            )
        expected, name = match[1] or match[4], match[2] or match[3]
        if not (folder / name).is_file():  # such as images.zip, once it is unpacked
            continue
        with (folder / name).open("rb") as content:
            got = hashlib.file_digest(content, "md5").hexdigest()
        if got != expected.lower():
            raise _UnusableError(f"{name} has MD5 {got} where MD5SUMs.txt says {expected}")
