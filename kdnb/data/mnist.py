"""`mnist`: LeCun, Cortes & Burges' digits in torchvision's layout, verified before use."""

import hashlib
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import torch
from torch import Tensor

from kdnb.data.dataset import DataError, Dataset, Split, stratified_indices
from kdnb.files import data_root

VAL = 5_000
SPLIT_SEED = 0

# name: (bytes, SHA-256) of the four uncompressed IDX files
FILES = {
    "train-images-idx3-ubyte": (
        47_040_016,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels-idx1-ubyte": (
        60_008,
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "t10k-images-idx3-ubyte": (
        7_840_016,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "t10k-labels-idx1-ubyte": (
        10_008,
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}


def load(root: str | Path | None = None) -> Dataset:
    """MNIST from ``root/MNIST/raw``, downloaded by torchvision if it is not there.

    55,000 training and 5,000 validation images, both from MNIST's own training set, and its
    10,000 test images, as (N, 1, 28, 28) uint8.

    Raises `DataError` if a file is missing and cannot be downloaded, is truncated or is corrupt.
    """
    root = data_root(root)
    raw = root / "MNIST" / "raw"
    missing = missing_files(raw)
    if missing:
        # torchvision fetches all four: what it would overwrite must be the same.
        for name in FILES.keys() - missing:
            _read(raw, name)
        _download(root, missing)
    train = Split(_images(raw, "train-images-idx3-ubyte"), _labels(raw, "train-labels-idx1-ubyte"))
    test = Split(_images(raw, "t10k-images-idx3-ubyte"), _labels(raw, "t10k-labels-idx1-ubyte"))
    rest, val = stratified_indices(train.labels, (len(train) - VAL, VAL), SPLIT_SEED)
    return Dataset(
        name="mnist",
        about="MNIST, 70,000 handwritten digits of 28×28 pixels "
        "(LeCun, Cortes & Burges; CC BY-SA 3.0)",
        class_names=tuple("0123456789"),
        train=train.take(rest),
        val=train.take(val),
        test=test,
    )


def missing_files(raw: Path) -> list[str]:
    """Names of the IDX files that are not in the folder ``raw``."""
    return [name for name in FILES if not (raw / name).is_file()]


def _download(root: Path, missing: list[str]) -> None:
    from kdnb.torchvision_remedy import import_torchvision

    datasets = import_torchvision().datasets
    try:
        with redirect_stdout(StringIO()):  # its log of mirrors that failed
            datasets.MNIST(root, download=True)
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"MNIST is not complete in {root / 'MNIST' / 'raw'} (missing: {', '.join(missing)}) "
            f"and could not be downloaded ({reason}): copy the four IDX files there, or set "
            f"KDNB_DATA to a folder that holds MNIST/raw"
        ) from error


def _read(raw: Path, name: str) -> Tensor:
    """The bytes of one IDX file, once its length and SHA-256 are right."""
    size, sha256 = FILES[name]
    content = (raw / name).read_bytes()
    remedy = f"delete {raw / name} and run again to download it, or copy it anew"
    if len(content) != size:
        state = "truncated" if len(content) < size else "too long"
        raise DataError(f"{name} is {state}: {len(content)} of {size} bytes; {remedy}")
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(
            f"{name} is corrupt: its SHA-256 starts with {found[:12]} instead of {sha256[:12]}; "
            f"{remedy}"
        )
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def _images(raw: Path, name: str) -> Tensor:
    # IDX: four big-endian 32-bit words (magic, count, rows, columns), then the pixels.
    return _read(raw, name)[16:].view(-1, 1, 28, 28)


def _labels(raw: Path, name: str) -> Tensor:
    return _read(raw, name)[8:].long()
