"""`mnist`: LeCun, Cortes & Burges' digits in torchvision's layout, verified before use."""

import hashlib
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from kdnb.data.dataset import DataError, Dataset, Split, stratified_indices
from kdnb.files import data_root
from kdnb.torchvision_remedy import import_torchvision

VAL = 5_000
SPLIT_SEED = 0

# The four uncompressed IDX files: bytes, and the first 160 bits of the SHA-256
FILES = {
    "train-images-idx3-ubyte": (47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec9"),
    "train-labels-idx1-ubyte": (60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0"),
    "t10k-images-idx3-ubyte": (7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f82"),
    "t10k-labels-idx1-ubyte": (10_008, "ff7bcfd416de33731a308c3f266cc351222c3489"),
}


def load(root: str | Path | None = None) -> Dataset:
    """MNIST from ``root/MNIST/raw``, downloaded by torchvision if it is not there.

    55,000 training and 5,000 validation images, both from MNIST's own training set, and its
    10,000 test images, as (N, 1, 28, 28) uint8.

    Raises `DataError` if a file is missing and cannot be downloaded, is truncated or is corrupt.
    """
    train, test = published_splits(root)
    rest, val = stratified_indices(train.labels, (len(train) - VAL, VAL), SPLIT_SEED)
    return Dataset(
        "mnist",
        "MNIST, 70,000 handwritten digits of 28×28 pixels (LeCun, Cortes & Burges; CC BY-SA 3.0)",
        tuple("0123456789"),
        train.take(rest),
        train.take(val),
        test,
    )


def published_splits(root: str | Path | None = None) -> tuple[Split, Split]:
    """The 60,000 training and 10,000 test images in the order of their files; raises as `load`."""
    root = data_root(root)
    raw = root / "MNIST" / "raw"
    if missing := missing_files(raw):
        # torchvision fetches all four: what it would overwrite must be the same.
        for name in FILES.keys() - missing:
            _verify(raw / name)
        _download(root, missing)
    for name in FILES:
        _verify(raw / name)
    reader = import_torchvision().datasets.mnist
    train, test = (
        Split(
            reader.read_image_file(raw / f"{part}-images-idx3-ubyte").unsqueeze(1),
            reader.read_label_file(raw / f"{part}-labels-idx1-ubyte"),
        )
        for part in ("train", "t10k")
    )
    return train, test


def missing_files(raw: Path) -> list[str]:
    """Names of the IDX files that are not in the folder ``raw``."""
    return [name for name in FILES if not (raw / name).is_file()]


def _download(root: Path, missing: list[str]) -> None:
    try:
        with redirect_stdout(StringIO()):  # its log of mirrors that failed
            import_torchvision().datasets.MNIST(root, download=True)
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"MNIST is not complete in {root / 'MNIST' / 'raw'} (missing: {', '.join(missing)}) "
            f"and could not be downloaded ({reason}): copy the four IDX files there, or set "
            f"KDNB_DATA to a folder that holds MNIST/raw"
        ) from error


def _verify(file: Path) -> None:
    """Raise `DataError` unless the file has the published length and SHA-256."""
    size, sha256 = FILES[file.name]
    content = file.read_bytes()
    if len(content) != size:
        state = "truncated" if len(content) < size else "too long"
        problem = f"{state}: {len(content)} of {size} bytes"
    elif not (found := hashlib.sha256(content).hexdigest()).startswith(sha256):
        problem = f"corrupt: its SHA-256 starts with {found[:12]} instead of {sha256[:12]}"
    else:
        return
    raise DataError(
        f"{file.name} is {problem}; delete {file} and run again to download it, or copy it again"
    )
