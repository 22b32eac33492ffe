"""What a dataset is: three splits of uint8 images with labels, and where files are kept."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

PROJECT = Path(__file__).resolve().parents[2]
MARK = ".kdnb"  # in folders that the program made


class DataError(ValueError):
    """The data cannot be used; the message names the value and the remedy."""


def data_root(root: str | Path | None = None) -> Path:
    """The folder for dataset files: ``root``, else ``$KDNB_DATA``, else the project's ``data/``."""
    return folder_of(root or os.environ.get("KDNB_DATA") or PROJECT / "data")


def store_root(root: str | Path | None = None) -> Path:
    """Where what the program makes is kept: ``root``, else ``$KDNB_RUNS``, else ``data/runs``."""
    return folder_of(root or os.environ.get("KDNB_RUNS") or PROJECT / "data" / "runs")


def start_folder() -> Path:
    """Where the command was started: ``$KDNB_START``, else the working directory.

    A notebook's kernel works in the notebook's folder, so the two are not the same there.
    """
    return folder_of(os.environ.get("KDNB_START") or ".")


def folder_of(path: str | Path) -> Path:
    """The whole path of a folder; ``~`` is the reader's own, which no shell has put in its place.

    Raises `DataError` for the ``~`` of a user whom this machine does not know.
    """
    try:
        return Path(path).expanduser().resolve()
    except RuntimeError as error:
        raise DataError(
            f"this machine knows no home folder for {str(path)!r}: write the path out"
        ) from error


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which becomes ``folder`` at the end of the block, or not at all.

    A folder that was made so before is replaced; nothing else is. Raises `DataError` if something
    else stands there, and if the block or the renaming raises `OSError`.
    """
    part = None
    try:
        _require_replaceable(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        _mark(part, part.name, [])
        new, old = part / "new", part / "old"
        new.mkdir()
        yield new
        _mark(new, folder.name, sorted(p.relative_to(new).as_posix() for p in new.rglob("*")))
        _require_replaceable(folder)
        # A folder with content is never overwritten by a rename: set the old one aside first.
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        raise DataError(
            f"cannot write {folder.name} to {folder.parent} ({error}): "
            f"set KDNB_RUNS to a folder that you can write"
        ) from error
    finally:
        if part:
            shutil.rmtree(part, ignore_errors=True)


def is_whole_folder(folder: Path) -> bool:
    """Whether `whole_folder` made it, under this name, and nobody put anything else into it."""
    made = _made_in(folder)
    if made is None or folder.is_symlink():
        return False
    found = list(folder.rglob("*"))
    return {path.relative_to(folder).as_posix() for path in found} <= {*made, MARK} and not any(
        path.is_symlink() for path in found
    )


def is_part_of_folder(folder: Path) -> bool:
    """Whether `whole_folder` was filling it when its process was killed, or fills it now."""
    return folder.name.startswith(".") and not folder.is_symlink() and _made_in(folder) == []


def _mark(folder: Path, name: str, made: list[str]) -> None:
    """kdnb's mark: the name that the folder gets, and what was written into it."""
    text = json.dumps({"made by kdnb as": name, "files": made}) + "\n"
    (folder / MARK).write_text(text, encoding="utf-8")


def _made_in(folder: Path) -> list[str] | None:
    """What the mark says was written into a folder; None without a mark of that name."""
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
        return mark["files"] if mark["made by kdnb as"] == folder.name else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _require_replaceable(folder: Path) -> None:
    if os.path.lexists(folder) and not is_whole_folder(folder):
        raise DataError(
            f"{folder} is in the way, and not all of it was made by kdnb: move it, or set "
            f"KDNB_RUNS to another folder"
        )


@dataclass(frozen=True)
class Split:
    """``images`` (N, C, H, W) uint8 and their ``labels`` (N,) int64, in a fixed order.

    ``subclasses`` (N,) int64 are the true subclasses where they are known. They serve to judge the
    subclasses that a teacher invents, and are shown only to a teacher whose objective says so.

    ``whole`` and ``rows`` (N,) say of which split this is a part, and which: what is known of the
    whole need not be computed again.
    """

    images: Tensor
    labels: Tensor
    subclasses: Tensor | None = None
    whole: "Split | None" = field(default=None, repr=False)
    rows: Tensor | None = field(default=None, repr=False)

    def __post_init__(self):
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise DataError(
                f"images must be uint8 of shape (N, C, H, W), got {self.images.dtype} "
                f"of shape {tuple(self.images.shape)}"
            )
        if len(self.images) != len(self.labels):
            raise DataError(f"{len(self.images)} images but {len(self.labels)} labels")
        if self.subclasses is not None and self.subclasses.shape != self.labels.shape:
            raise DataError(f"{len(self.labels)} labels but {len(self.subclasses)} subclasses")
        if len(self.images) == 0:
            raise DataError("an empty split: give at least one image")

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of shape, pixels and labels, in hexadecimal: of what a model can learn from."""
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        digest.update(self.images.contiguous().numpy())
        digest.update(self.labels.contiguous().numpy())
        return digest.hexdigest()

    def take(self, index: Tensor) -> "Split":
        """The images at ``index`` (M,) int64, in that order."""
        subclasses = None if self.subclasses is None else self.subclasses[index]
        return Split(self.images[index], self.labels[index], subclasses, self, index)


@dataclass(frozen=True)
class Dataset:
    """A named dataset; ``about`` says in one sentence what it is and where it comes from.

    ``subclass_names`` names the true subclasses where the splits know them. ``stamp`` goes under
    every figure and table of a report: for data that must not be taken for something else.
    """

    name: str
    about: str
    class_names: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    subclass_names: tuple[str, ...] = ()
    stamp: str = ""

    def __post_init__(self):
        for part in ("train", "val", "test"):
            labels = getattr(self, part).labels
            if labels.min() < 0 or labels.max() >= len(self.class_names):
                raise DataError(
                    f"labels of {self.name} {part} must lie in 0..{len(self.class_names) - 1}, "
                    f"got {labels.min().item()}..{labels.max().item()}"
                )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the three splits and the class names, in hexadecimal."""
        parts = (self.train.fingerprint, self.val.fingerprint, self.test.fingerprint)
        return hashlib.sha256(repr((parts, self.class_names)).encode()).hexdigest()


def stratified_indices(labels: Tensor, sizes: tuple[int, ...], seed: int) -> list[Tensor]:
    """Disjoint sets of (size,) indices into ``labels`` (N,), each with the labels' class shares.

    The same seed draws the same sets, and a smaller first size draws a subset of a larger one.
    """
    if min(sizes) < 1 or sum(sizes) > len(labels):
        raise DataError(f"cannot draw sets of {sizes} from {len(labels)} images")
    generator = torch.Generator().manual_seed(seed)
    # Each image gets its rank within its class as a share in (0, 1); ordered by that share, every
    # stretch of the list holds the classes in their proportions.
    share = torch.empty(len(labels), dtype=torch.float64)
    for c in labels.unique():
        members = (labels == c).nonzero().squeeze(1)
        members = members[torch.randperm(len(members), generator=generator)]
        jitter = torch.rand(len(members), generator=generator, dtype=torch.float64)
        share[members] = (torch.arange(len(members), dtype=torch.float64) + jitter) / len(members)
    order = share.argsort(stable=True)
    return [
        part[torch.randperm(len(part), generator=generator)]
        for part in order[: sum(sizes)].split(list(sizes))
    ]
