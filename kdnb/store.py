"""Finished work, addressed by a hash of everything that determines it.

An entry is a folder ``<root>/<key>/`` with ``record.json``, ``tensors.safetensors`` and their
digests in ``SHA256SUMS``, which ``sha256sum -c`` reads too. It is written beside its place and
renamed into it, so a reader never sees half an entry; the digests are compared on every reading.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kdnb.data.dataset import store_root

KEY_LENGTH = 20  # hexadecimal digits: 80 bits
FORMAT = 2  # of an entry; the first had no digests
RECORD, TENSORS, SUMS = "record.json", "tensors.safetensors", "SHA256SUMS"
HEADER = "# kdnb run store, format "


class StoreError(OSError):
    """The store cannot be written; the message names the folder and the remedy."""


class DamagedEntryError(ValueError):
    """An entry is not as it was written; the message names the file."""


class OtherFormatError(ValueError):
    """An entry was written by another version of kdnb, ``older`` or newer than this one."""

    def __init__(self, version: int):
        super().__init__(f"it has format {version}, and this version of kdnb reads {FORMAT}")
        self.older = version < FORMAT


@dataclass(frozen=True)
class Entry:
    """What was stored: ``tensors`` by name, and a ``record`` that JSON can hold."""

    tensors: dict[str, Tensor]
    record: dict


def digest(value: object) -> str:
    """SHA-256, shortened, of anything JSON can hold; key order does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def weights_digest(model: nn.Module) -> str:
    """`tensors_digest` of a model's parameters and buffers."""
    return tensors_digest(model.state_dict())


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256, shortened, of tensors by name: names, shapes, types and bytes."""
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        flat = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        total.update(flat.numpy())
    return total.hexdigest()[:KEY_LENGTH]


class Store:
    """Entries under one folder; made on the first write.

    Several processes may use it at once. Whoever moves an entry holds a lock on the folder, of
    which a killed process lets go by itself; reading takes no lock.
    """

    def __init__(self, root: str | Path | None = None):
        self.root = store_root(root)

    def get(self, key: str) -> Entry | None:
        """The entry under ``key``, or None; of one that is damaged or of another format it warns.

        Of older formats it warns once, however many entries there are.
        """
        try:
            return self.read(key)
        except OtherFormatError as error:
            if error.older:
                _warn_of_older(self.root)
                return None
            problem = f"cannot be used ({error})"
        except DamagedEntryError as error:
            problem = f"is damaged ({error})"
        warnings.warn(
            f"the stored entry {self.root / key} {problem} and will be made again", stacklevel=2
        )
        return None

    def read(self, key: str) -> Entry | None:
        """The entry under ``key``, or None; raises `DamagedEntryError` or `OtherFormatError`."""
        while (folder := self._find(key)) is not None:
            entry, problem = None, None
            with _pinned(folder) as still_there:
                try:
                    entry = _read(folder)
                except (DamagedEntryError, OtherFormatError) as error:
                    problem = error
                except (OSError, ValueError, RuntimeError, SafetensorError) as error:
                    problem = DamagedEntryError(str(error))
                if not still_there():
                    continue  # replaced or removed: what was read may be of two entries
            if problem is not None:
                raise problem
            return entry
        return None

    def has(self, key: str) -> bool:
        """Whether there is an entry of the present format, whole or damaged, under ``key``."""
        folder = self._find(key)
        try:
            return folder is not None and _version(_bytes(folder / SUMS)) == FORMAT
        except (OSError, DamagedEntryError):
            return False

    def names(self, start: str = "") -> list[str]:
        """The keys of all entries, whatever their state, that begin with ``start``, in order."""
        folders = (path for path in self.root.glob(f"{start}[!.]*") if path.is_dir())
        return sorted(p.name for p in folders if any((p / n).exists() for n in (RECORD, SUMS)))

    def put(self, key: str, tensors: Mapping[str, Tensor], record: dict) -> None:
        """Store an entry, whole or not at all; an entry that is already there is replaced.

        Raises `StoreError` if the folder cannot be written.
        """
        self.require_writable()
        try:
            part = Path(tempfile.mkdtemp(prefix=f".{key}-", dir=self.root))
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            new = part / "new"
            new.mkdir()
            contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
            save_file(contiguous, new / TENSORS)
            text = json.dumps(record, indent=1, allow_nan=False) + "\n"
            (new / RECORD).write_text(text, encoding="utf-8")
            (new / SUMS).write_text(_sums(new), encoding="utf-8")
            self._move_into_place(new, self.root / key)
        except (OSError, SafetensorError, DamagedEntryError) as error:
            raise self._unwritable(error) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def keep(self, key: str, tensors: Mapping[str, Tensor], record: dict) -> bool:
        """`put`, but where that fails it only warns: the work in memory still counts.

        Returns whether it was kept.
        """
        try:
            self.put(key, {name: t.detach().cpu() for name, t in tensors.items()}, record)
        except StoreError as error:
            warnings.warn(f"trained, but not kept: {error}", stacklevel=2)
            return False
        return True

    def remove(self, key: str) -> None:
        """Take an entry away, whole; where there is none, nothing happens."""
        if self._find(key) is None:
            return
        part = Path(tempfile.mkdtemp(prefix=f".{key}-", dir=self.root))
        with self._lock(), suppress(FileNotFoundError):  # another process was faster
            (self.root / key).rename(part / "gone")
        shutil.rmtree(part, ignore_errors=True)

    def require_writable(self) -> None:
        """Raise `StoreError` if nothing can be written here, before work is done for nothing."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                return
        except OSError as error:
            raise self._unwritable(error) from error

    def _find(self, key: str) -> Path | None:
        """The folder of an entry, brought back if its writer was killed between two renames."""
        folder = self.root / key
        if folder.is_dir():
            return folder
        if not self.root.is_dir():
            return None
        # With the lock nobody is between the two: what stands aside now was left there.
        with self._lock():
            for old in self.root.glob(f".{key}-*/old"):
                with suppress(OSError):
                    old.rename(folder)
            return folder if folder.is_dir() else None

    def _move_into_place(self, new: Path, folder: Path) -> None:
        old = new.with_name("old")
        with self._lock():
            try:
                # A folder with content is never overwritten by a rename: first set it aside.
                if folder.exists():
                    folder.rename(old)
                new.rename(folder)
            except BaseException:
                if old.exists() and not folder.exists():
                    old.rename(folder)
                raise
            if old.exists():
                old.rename(new.with_name("replaced"))  # no longer to be brought back

    @contextmanager
    def _lock(self) -> Iterator[None]:
        root = os.open(self.root, os.O_RDONLY)
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(root, fcntl.LOCK_EX)
            yield
        finally:
            os.close(root)

    def _unwritable(self, error: Exception) -> StoreError:
        return StoreError(
            f"cannot write finished runs to {self.root} ({error}): "
            f"set KDNB_RUNS to a folder that you can write"
        )


@cache
def _warn_of_older(root: Path) -> None:
    warnings.warn(
        f"{root} holds results of an older version of kdnb, which are not used: what is needed is "
        f"made again, and `python -m kdnb store prune` removes them",
        stacklevel=3,
    )


def _read(folder: Path) -> Entry:
    """An entry as it was written, or an error that names the file."""
    if not (folder / SUMS).exists():
        raise OtherFormatError(1)
    written = _bytes(folder / SUMS)
    version = _version(written)
    if version != FORMAT:
        raise OtherFormatError(version)
    found = _sums(folder)
    if len(written) != len(found):
        raise DamagedEntryError(f"{SUMS} has {len(written)} instead of {len(found)} bytes")
    for ours, theirs in zip(found.encode().splitlines(), written.split(b"\n"), strict=False):
        if ours != theirs:
            raise DamagedEntryError(f"{ours.split()[-1].decode()} does not match its SHA-256")
    if written != found.encode():
        raise DamagedEntryError(f"{SUMS} is not as it was written")
    record = json.loads(_bytes(folder / RECORD))
    return Entry(load_file(folder / TENSORS), record)


def _sums(folder: Path) -> str:
    """What ``SHA256SUMS`` must say of the files in ``folder``.

    SHA-256 reads 1.7 GB a second where the processor helps (CRC-32: 3.8), far faster than what is
    stored here can be computed, and leaves no chance that damage goes unseen.
    """
    lines = [f"{HEADER}{FORMAT}"]
    for name in (RECORD, TENSORS):
        try:
            with (folder / name).open("rb") as content:
                lines.append(f"{hashlib.file_digest(content, 'sha256').hexdigest()}  {name}")
        except OSError as error:
            raise DamagedEntryError(f"{name} cannot be read: {error.strerror}") from error
    return "\n".join(lines) + "\n"


def _version(sums: bytes) -> int:
    match = re.match(HEADER.encode() + rb"([1-9]\d{0,3})\n", sums)
    if match is None:
        raise DamagedEntryError(f"{SUMS} is not as it was written")
    return int(match[1])


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DamagedEntryError(f"{path.name} cannot be read: {error.strerror}") from error


@contextmanager
def _pinned(folder: Path) -> Iterator[Callable[[], bool]]:
    """Gives a function that tells whether ``folder`` is still the one it was at first."""
    try:
        # While it is open, no other folder gets its number.
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        gone = isinstance(error, FileNotFoundError)
        yield lambda: not gone
        return
    try:
        yield lambda: _same(handle, folder)
    finally:
        os.close(handle)


def _same(handle: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), folder.stat())
    except FileNotFoundError:
        return False
