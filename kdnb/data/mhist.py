"""`mhist`: histopathology images as their authors ship them, decoded once and memory-mapped.

MHIST (Wei et al. 2021, arXiv 2101.12355): ``annotations.csv`` beside ``images/`` or ``images.zip``.
Seven pathologists said of each image whether it shows a sessile serrated adenoma (SSA) or a
hyperplastic polyp (HP); the label is the majority's.

Nothing is written beside the reader's files: what is decoded goes under `store_root`.
"""

import csv
import hashlib
import io
import json
import os
import re
import stat
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image

from kdnb.data.dataset import DataError, Dataset, Split, stratified_indices
from kdnb.files import data_root, store_root, whole_folder

CLASS_NAMES = ("HP", "SSA")
ANNOTATORS, MAJORITY = 7, 4
NAME, LABEL, VOTES, PARTITION = COLUMNS = (
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
BATCH = 64  # images that are in memory at once while decoding

# What Pillow and zipfile raise for damaged files, beside OSError.
DAMAGED = (
    ValueError,
    SyntaxError,
    EOFError,
    RuntimeError,
    zlib.error,
    zipfile.BadZipFile,
    Image.DecompressionBombError,
)


class _UnusableError(ValueError):
    """What is wrong with the files; `load_layout` adds the remedy."""


@dataclass(frozen=True)
class Annotation:
    """One row: an image's file name, its label (0 HP, 1 SSA), its votes for SSA, its partition."""

    image: str
    label: int
    votes: int
    partition: str


@dataclass(frozen=True)
class Images:
    """The PNG files in ``where``: by name, ``states`` that change when a file does, and bytes."""

    where: Path
    states: dict[str, tuple[int, int]]
    read: Callable[[str], bytes]


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
        "pathologists (Wei et al. 2021; for research, never passed on)",
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
    """A dataset in MHIST's layout in ``folder``, with images of ``size`` × ``size`` pixels.

    The first call decodes the images into one file, which every call maps into memory: a later one
    opens no image, and only compares the file's digests. ``published`` are the numbers of images by
    partition and label that there must be. The order of the rows in ``annotations.csv`` does not
    matter.

    Raises `DataError` if the files cannot be used, which ends in ``remedy``.
    """
    try:
        rows = _annotations(folder / "annotations.csv")
        _check_counts(rows, published or {})
        parts = _parts(rows)
        with _images(folder) as images:
            _check_names(rows, images)
            decoded = store_root() / f"decoded-{_key(parts, images, size)}"
            try:
                splits = _opened(decoded, parts, size)
            except Exception as error:  # Not there, or damaged in whatever way: made again.
                if decoded.is_dir():
                    warnings.warn(
                        f"{decoded} is damaged or of an older version ({error}): the images are "
                        f"decoded again",
                        stacklevel=2,
                    )
                check_sums(folder)
                with whole_folder(decoded) as part:
                    _decode(images, parts, size, part, folder)
                splits = _opened(decoded, parts, size)
    except (_UnusableError, OSError) as error:
        raise DataError(f"{name} in {folder} cannot be used ({error}): {remedy}") from error
    votes = range(ANNOTATORS + 1)
    return Dataset(
        name,
        about,
        CLASS_NAMES,
        **splits,
        subclass_names=tuple(f"{v} of {votes[-1]}" for v in votes),
    )


def decoded_name(folder: Path, size: int) -> str:
    """The folder, under `store_root`, of what `load_layout` decodes; raises what it raises."""
    try:
        with _images(folder) as images:
            parts = _parts(_annotations(folder / "annotations.csv"))
            return f"decoded-{_key(parts, images, size)}"
    except (_UnusableError, OSError, KeyError) as error:
        raise DataError(f"the images in {folder} cannot be used: {error}") from error


def check_decoded(folder: Path) -> None:
    """Compare decoded images with their digests; raises ValueError or OSError, naming the file.

    Where the annotations are not there any more, or are others, nothing can be compared.
    """
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    if not isinstance(record, dict) or not {"source", "size", "fingerprints"} <= set(record):
        raise ValueError("record.json does not say what was decoded: an older version wrote it")
    source = Path(record["source"])
    try:
        if decoded_name(source, record["size"]) != folder.name:
            return
        parts = _parts(_annotations(source / "annotations.csv"))
    except DataError:
        return
    _opened(folder, parts, record["size"])


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
    image, count = Counter(row.image for row in rows).most_common(1)[0] if rows else ("", 0)
    if count > 1:
        raise _UnusableError(f"{path.name} names {image} {count} times")
    return sorted(rows, key=lambda row: row.image)


def _annotation(row: dict[str | None, str | None], where: str) -> Annotation:
    if None in row or None in row.values():  # how csv.DictReader says too many and too few
        raise _UnusableError(f"{where} has more or fewer fields than the header")
    image, label, votes, partition = (row[column] for column in COLUMNS)
    if image in ("", ".", "..") or re.search(r"[/\\:\0]", image):
        raise _UnusableError(f"{where}: the image must be a file name, got {image!r}")
    if label not in CLASS_NAMES:
        raise _UnusableError(f"{where}: the label must be HP or SSA, got {label!r}")
    if partition not in ("train", "test"):
        raise _UnusableError(f"{where}: the partition must be train or test, got {partition!r}")
    if votes not in map(str, range(ANNOTATORS + 1)):
        raise _UnusableError(f"{where}: votes must lie in 0..{ANNOTATORS}, got {votes!r}")
    if (int(votes) >= MAJORITY) != (label == "SSA"):
        raise _UnusableError(
            f"{where}: {votes} of {ANNOTATORS} votes for SSA contradict the label {label}"
        )
    return Annotation(image, CLASS_NAMES.index(label), int(votes), partition)


def _check_counts(rows: list[Annotation], published: dict[tuple[str, str], int]) -> None:
    found = Counter((row.partition, CLASS_NAMES[row.label]) for row in rows)
    for (partition, label), need in published.items():
        if found[partition, label] != need:
            raise _UnusableError(
                f"annotations.csv has {found[partition, label]:,} {partition} images of {label} "
                f"where {need:,} were published"
            )


def _parts(rows: list[Annotation]) -> dict[str, list[Annotation]]:
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


@contextmanager
def _images(folder: Path) -> Iterator[Images]:
    """What ``images/`` holds, or else ``images.zip``, which need not be unpacked."""
    unpacked, archive = folder / "images", folder / "images.zip"
    if unpacked.is_dir():
        yield _unpacked_images(unpacked)
    elif archive.is_file():
        try:
            content = zipfile.ZipFile(archive)
        except zipfile.BadZipFile as error:
            raise _UnusableError(f"images.zip is damaged: {error}") from error
        with content:
            yield _zipped_images(archive, content)
    else:
        raise _UnusableError("there is neither images/ nor images.zip")


def _unpacked_images(folder: Path) -> Images:
    states = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_image(PurePosixPath(entry.name)) and entry.is_file():
                state = entry.stat()
                states[entry.name] = state.st_size, state.st_mtime_ns
    return Images(folder, states, lambda name: (folder / name).read_bytes())


def _zipped_images(archive: Path, content: zipfile.ZipFile) -> Images:
    """Images by file name, whatever folder of the archive they are in."""
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in content.infolist():
        path = PurePosixPath(entry.filename)
        # Nothing is unpacked, so nothing could leave a folder; but no honest archive tries.
        strange = path.is_absolute() or ".." in path.parts or re.search(r"[\\:]", entry.filename)
        if strange or stat.S_ISLNK(entry.external_attr >> 16):
            raise _UnusableError(f"images.zip holds a path or link outside it: {entry.filename!r}")
        if entry.is_dir() or path.parts[0] == "__MACOSX" or not _is_image(path):
            continue
        if path.name in entries:
            raise _UnusableError(f"images.zip holds {path.name} more than once")
        entries[path.name] = entry
    states = {name: (entry.file_size, entry.CRC) for name, entry in entries.items()}
    return Images(archive, states, lambda name: content.read(entries[name]))


def _is_image(path: PurePosixPath) -> bool:
    # Names that begin with a dot are the operating system's notes.
    return path.suffix.lower() == ".png" and not path.name.startswith(".")


def _check_names(rows: list[Annotation], images: Images) -> None:
    named, there = {row.image for row in rows}, set(images.states)
    if missing := sorted(named - there):
        raise _UnusableError(
            f"{images.where.name} lacks {len(missing):,} images that annotations.csv names, "
            f"the first is {missing[0]}"
        )
    if extra := sorted(there - named):
        raise _UnusableError(
            f"{images.where.name} holds {len(extra):,} images that annotations.csv does not name, "
            f"the first is {extra[0]}"
        )


def check_sums(folder: Path) -> None:
    """Compare what ``MD5SUMs.txt`` names and is there; without that file nothing is compared.

    Raises ValueError for the first file that differs.
    """
    sums = folder / "MD5SUMs.txt"
    if not sums.is_file():
        return
    lines = sums.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line:
            continue
        # "<MD5>  <file>", or "MD5 (<file>) = <MD5>"
        forward = re.fullmatch(r"([0-9a-fA-F]{32})\s+\*?(.+)", line)
        backward = re.fullmatch(r"MD5 \((.+)\) = ([0-9a-fA-F]{32})", line)
        if not (forward or backward):
            raise _UnusableError(
                f"MD5SUMs.txt line {number} is not an MD5 and a file; without MD5SUMs.txt nothing "
                f"is compared"
            )
        expected, name = forward.groups() if forward else backward.groups()[::-1]
        if not (folder / name).is_file():  # such as images.zip, once it is unpacked
            continue
        with (folder / name).open("rb") as content:
            got = hashlib.file_digest(content, "md5").hexdigest()
        if got != expected.lower():
            raise _UnusableError(f"{name} has MD5 {got} where MD5SUMs.txt says {expected}")


# Decoding


def _key(parts: dict[str, list[Annotation]], images: Images, size: int) -> str:
    """Changes when an annotation, the order, an image file or the size does; opens no image."""
    rows = {
        part: [(row.image, row.label, row.votes, *images.states[row.image]) for row in rows]
        for part, rows in parts.items()
    }
    return hashlib.sha256(json.dumps([size, rows]).encode()).hexdigest()[:20]


def _decode(
    images: Images, parts: dict[str, list[Annotation]], size: int, folder: Path, source: Path
) -> None:
    """Write ``pixels.npy``, (N, 3, size, size) uint8 part after part, and ``record.json``."""
    rows = [row for part in parts.values() for row in part]
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(rows), 3, size, size)}
    with (folder / "pixels.npy").open("wb") as file, ThreadPoolExecutor() as pool:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            for pixels in pool.map(lambda row: _pixels(images, row.image, size), batch):
                file.write(pixels)
    splits = _splits(folder, parts, size)
    fingerprints = {part: split.fingerprint for part, split in splits.items()}
    record = {"source": str(source), "size": size, "fingerprints": fingerprints}
    text = json.dumps(record, indent=1) + "\n"
    (folder / "record.json").write_text(text, encoding="utf-8")


def _pixels(images: Images, name: str, size: int) -> bytes:
    """One image as red, green and blue planes."""
    try:
        with Image.open(io.BytesIO(images.read(name)), formats=["PNG"]) as image:
            width, height = image.size
            # Asked before its pixels are decoded: a huge image costs nothing.
            planes = image.convert("RGB") if width == height == size else None
    except (OSError, *DAMAGED) as error:
        raise _UnusableError(f"{name} cannot be read: {error}") from error
    if planes is None:
        raise _UnusableError(f"{name} has {width}×{height} pixels instead of {size}×{size}")
    return np.asarray(planes).transpose(2, 0, 1).tobytes()


def _opened(folder: Path, parts: dict[str, list[Annotation]], size: int) -> dict[str, Split]:
    """The splits as `_decode` wrote them; raises whatever may be wrong with its files."""
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    if record["size"] != size or not record["source"]:
        raise ValueError("record.json does not say what was decoded")
    splits = _splits(folder, parts, size)
    for part, split in splits.items():
        if split.fingerprint != record["fingerprints"][part]:
            raise ValueError(f"the {part} images in pixels.npy do not match their SHA-256")
    return splits


def _splits(folder: Path, parts: dict[str, list[Annotation]], size: int) -> dict[str, Split]:
    """Each split is a stretch of ``pixels.npy``, which is mapped and not copied."""
    # Copy on write: whoever changes the tensor does not change the file.
    pixels = np.lib.format.open_memmap(folder / "pixels.npy", mode="c")
    need = (sum(map(len, parts.values())), 3, size, size)
    if pixels.shape != need:
        raise ValueError(f"pixels.npy has the shape {pixels.shape} instead of {need}")
    stretches = torch.from_numpy(pixels).split([len(rows) for rows in parts.values()])
    return {
        part: Split(
            images,
            torch.tensor([row.label for row in rows]),
            torch.tensor([row.votes for row in rows]),
        )
        for (part, rows), images in zip(parts.items(), stretches, strict=True)
    }
