"""Images decoded once: stored under `store_root`, verified, and then mapped into memory.

A folder holds ``pixels.npy``, (N, C, H, W) uint8, one split after the other, and ``record.json``
with the labels and the fingerprint of each split, and a note.
"""

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from kdnb.data.dataset import DataError, Split
from kdnb.files import whole_folder

# Of each split by name the labels, and where they are known the subclasses.
Labels = dict[str, list[list[int]]]


def digest_of(value: object) -> str:
    """SHA-256 of anything that JSON can hold, in hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def decoded_once(
    folder: Path, labels: Labels, decode: Callable[[], tuple[np.ndarray, str]]
) -> tuple[dict[str, Split], str]:
    """The splits and the note in ``folder``; where it is missing or damaged, made by ``decode``.

    ``decode`` gives the (N, C, H, W) uint8 images and the note. The name of the folder must change
    with the labels and with every file that is decoded.
    """
    try:
        return read(folder)
    except DataError as error:
        if folder.is_dir():
            warnings.warn(
                f"{folder} is damaged ({error}): the images are decoded again", stacklevel=3
            )
    with whole_folder(folder) as new:
        pixels, note = decode()
        fingerprints = {name: split.fingerprint for name, split in _splits(pixels, labels).items()}
        record = {"labels": labels, "fingerprints": fingerprints, "note": note}
        np.save(new / "pixels.npy", pixels)
        text = json.dumps({"sha256": digest_of(record), **record})
        (new / "record.json").write_text(text, encoding="utf-8")
    return read(folder)


def read(folder: Path) -> tuple[dict[str, Split], str]:
    """The splits and the note in ``folder``; raises `DataError` if they have changed.

    Each fingerprint is computed for the comparison and cached.
    """
    try:
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        if not isinstance(record, dict) or record.pop("sha256", None) != digest_of(record):
            raise DataError("record.json does not match its SHA-256")
        # Copy on write: changing the images does not change the file.
        pixels = np.lib.format.open_memmap(folder / "pixels.npy", mode="c")
        splits = _splits(pixels, record["labels"])
    except Exception as error:  # numpy and torch raise nearly anything on damaged files
        raise DataError(str(error) or type(error).__name__) from error
    for name, split in splits.items():
        if split.fingerprint != record["fingerprints"][name]:
            raise DataError(f"the {name} images in pixels.npy do not match their SHA-256")
    return splits, record["note"]


def _splits(pixels: np.ndarray, labels: Labels) -> dict[str, Split]:
    stretches = torch.from_numpy(pixels).split([len(first) for first, *_ in labels.values()])
    return {
        name: Split(images, *map(torch.tensor, numbers))
        for (name, numbers), images in zip(labels.items(), stretches, strict=True)
    }
