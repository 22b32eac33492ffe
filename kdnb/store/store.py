"""Finished work, addressed by a hash of everything that determines it.

An entry is one file, ``<root>/<key>.kdnb.safetensors``. It is written beside its place and moved
there at once, so that a reader sees a whole entry or none, and nobody needs a lock: two writers of
one key write the same. The SHA-256 in it is compared on every reading.
"""

import hashlib
import json
import tempfile
import warnings
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from kdnb.files import patiently, store_root, write_whole
from kdnb.store.entries import (
    FORMAT,
    DamagedEntryError,
    Entry,
    OtherFormatError,
    StoreError,
    beginning,
    decoded,
    encoded,
    is_older,
)

KEY_LENGTH = 20  # hexadecimal digits: 80 bits
SUFFIX = ".kdnb.safetensors"


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
        one = tensor.detach().cpu().contiguous()
        # Of a single number the stride may be anything, and a view as bytes wants 1.
        flat = one.as_strided((one.numel(),), (1,)).view(torch.uint8)
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        total.update(flat.numpy())
    return total.hexdigest()[:KEY_LENGTH]


class Store:
    """Entries under one folder; made on the first write.

    Several processes may use it at once, on any file system: an entry is moved to its place whole,
    and of two writers of one key the later one's stays.
    """

    def __init__(self, root: str | Path | None = None):
        self.root = store_root(root)

    def path(self, key: str) -> Path:
        """The file of the entry under ``key``."""
        return self.root / f"{key}{SUFFIX}"

    def get(self, key: str) -> Entry | None:
        """The entry under ``key``, or None; of one that is damaged or of another format it warns.

        Of older formats it warns once, however many entries there are.
        """
        try:
            entry = self.read(key)
            if entry is None and _holds_older(self.root):
                _warn_of_older(self.root)
            return entry
        except OtherFormatError as error:
            if error.older:
                _warn_of_older(self.root)
                return None
            problem = f"cannot be used ({error})"
        except DamagedEntryError as error:
            problem = f"is damaged ({error})"
        warnings.warn(
            f"the stored entry {self.path(key)} {problem} and will be made again", stacklevel=2
        )
        return None

    def read(self, key: str) -> Entry | None:
        """The entry under ``key``, or None; raises `DamagedEntryError` or `OtherFormatError`."""
        try:
            # Not mapped into memory: on Windows nobody could replace a file that is mapped.
            content = self.path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise DamagedEntryError(f"it cannot be read: {error.strerror}") from error
        return decoded(content, key)

    def has(self, key: str) -> bool:
        """Whether there is an entry of the present format, whole or damaged, under ``key``."""
        return beginning(self.path(key)) == (FORMAT, key)

    def names(self, start: str = "") -> list[str]:
        """The keys of all entries, whatever their state, that begin with ``start``, in order."""
        names = (path.name for path in self.root.iterdir()) if self.root.is_dir() else ()
        return sorted(
            name.removesuffix(SUFFIX)
            for name in names
            if name.startswith(start) and name.endswith(SUFFIX) and not name.startswith(".")
        )

    def put(self, key: str, tensors: Mapping[str, Tensor], record: dict) -> None:
        """Store an entry, whole or not at all; an entry that is already there is replaced.

        Tensors that share memory, as tied weights do, are stored each by itself. Raises
        `StoreError` if the folder cannot be written or a tensor is of an unusual type.
        """
        self.require_writable()
        pieces = encoded(key, tensors, record)
        try:
            write_whole(self.path(key), pieces)
        except OSError as error:
            raise self._unwritable(error) from error

    def keep(self, key: str, tensors: Mapping[str, Tensor], record: dict) -> bool:
        """`put`, but where that fails it only warns: the work in memory still counts.

        Returns whether it was kept.
        """
        try:
            self.put(key, tensors, record)
        except StoreError as error:
            warnings.warn(f"trained, but not kept: {error}", stacklevel=2)
            return False
        return True

    def remove(self, key: str) -> None:
        """Take an entry away; where there is none, nothing happens."""
        try:
            patiently(partial(self.path(key).unlink, missing_ok=True))
        except OSError as error:
            raise self._unwritable(error) from error

    def require_writable(self) -> None:
        """Raise `StoreError` if nothing can be written here, before work is done for nothing."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                return
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: Exception) -> StoreError:
        return StoreError(
            f"cannot write finished runs to {self.root} ({error}): "
            f"set KDNB_RUNS to a folder that you can write"
        )


@cache
def _holds_older(root: Path) -> bool:
    return root.is_dir() and any(is_older(path) for path in root.glob("*-*"))


@cache
def _warn_of_older(root: Path) -> None:
    warnings.warn(
        f"{root} holds results of an older version of kdnb, which are not used: what is needed is "
        f"made again, and `python -m kdnb store prune` removes them",
        stacklevel=3,
    )
