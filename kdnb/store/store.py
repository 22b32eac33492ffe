"""Finished work, each piece one safetensors file, addressed by a hash of all that determines it.

The metadata of ``<root>/<key>.kdnb.safetensors`` hold kdnb's mark with the format, the key, the
record, and the SHA-256 of the whole file with zeros in its own place, which is compared on every
reading. A file is written under a temporary name and renamed: a reader sees a complete entry or
none, and two writers of one key write the same content, so that no lock is needed.
"""

import hashlib
import io
import json
import re
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from kdnb.files import patiently, store_root, write_whole

KEY_LENGTH = 20  # hexadecimal digits: 80 bits
SUFFIX = ".kdnb.safetensors"
FORMAT = 3  # the first two were folders
MARK = f"run store, format {FORMAT}"
FIELDS = ("key", "sha256", "record")  # beside the mark
ANY_MARK = re.compile(r"run store, format \d+")
LARGEST_HEADER = 100_000_000  # bytes: safetensors reads no larger one
NO_DIGEST = "0" * 64
# In a header no other place looks so: within a string each quote has a backslash before it.
DIGEST = re.compile(rb'(?<="sha256":")[0-9a-f]{64}(?=")')


class StoreError(OSError):
    """An entry cannot be stored; the message says why and what to do."""


class DamagedEntryError(ValueError):
    """An entry has changed since it was written; the message names the problem."""


@dataclass(frozen=True)
class Entry:
    """A stored entry: ``tensors`` by name, and a ``record`` that JSON can hold."""

    tensors: dict[str, Tensor]
    record: dict


def digest(value: object) -> str:
    """SHA-256, shortened, of anything JSON can hold; key order does not matter.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def weights_digest(model: nn.Module) -> str:
    """`tensors_digest` of a model's parameters and buffers."""
    return tensors_digest(model.state_dict())


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256, shortened, of tensors by name: names, shapes, types and bytes."""
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        total.update(_copy(tensor).flatten().view(torch.uint8).numpy())
    return total.hexdigest()[:KEY_LENGTH]


def _copy(tensor: Tensor) -> Tensor:
    """The tensor as a contiguous copy, even if it is a view or tied to another."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


class Store:
    """Entries under one folder, made on the first write; several processes may use it at once."""

    def __init__(self, root: str | Path | None = None):
        self.root = store_root(root)

    def path(self, key: str) -> Path:
        """The file of the entry under ``key``."""
        return self.root / f"{key}{SUFFIX}"

    def get(self, key: str) -> Entry | None:
        """The entry under ``key``, or None; warns about a damaged one."""
        try:
            return self.read(key)
        except DamagedEntryError as error:
            path = self.path(key)
            warnings.warn(f"{path} cannot be used ({error}) and will be made again", stacklevel=2)
            return None

    def read(self, key: str) -> Entry | None:
        """The entry under ``key``, or None; raises `DamagedEntryError`."""
        try:
            # Not mapped into memory: on Windows a mapped file cannot be replaced.
            content = self.path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise DamagedEntryError(f"it cannot be read: {error.strerror}") from error
        about, place = metadata(io.BytesIO(content)), DIGEST.search(content)
        if not about or not place:
            raise DamagedEntryError("it does not begin as an entry does")
        if about["kdnb"] != MARK:
            raise DamagedEntryError(f"it is of a {about['kdnb']}, and this kdnb has a {MARK}")
        found = hashlib.sha256(content[: place.start()] + NO_DIGEST.encode())
        found.update(memoryview(content)[place.end() :])
        if found.hexdigest() != about["sha256"]:
            raise DamagedEntryError("it does not match its SHA-256")
        if about["key"] != key:
            raise DamagedEntryError(f"it is the entry {about['key']}")
        return Entry(load(content), json.loads(about["record"]))

    def has(self, key: str) -> bool:
        """Whether there is an entry of the present format, whole or damaged, under ``key``."""
        with suppress(OSError), self.path(key).open("rb") as file:
            about = metadata(file)
            return (about.get("kdnb"), about.get("key")) == (MARK, key)
        return False

    def names(self, start: str = "") -> list[str]:
        """The keys of all entries, whatever their state, that begin with ``start``, in order."""
        found = self.root.glob(f"{start}*{SUFFIX}")
        return sorted(path.name.removesuffix(SUFFIX) for path in found)

    def put(self, key: str, tensors: Mapping[str, Tensor], record: dict) -> None:
        """Store an entry, completely or not at all; an existing entry is replaced.

        Tensors that share memory, such as tied weights, are stored separately. Raises
        `StoreError` if the folder cannot be written or safetensors lacks the type of a tensor.
        """
        self.require_writable()
        about = {
            "kdnb": MARK,
            "key": key,
            "sha256": NO_DIGEST,
            "record": json.dumps(record, separators=(",", ":"), allow_nan=False),
        }
        try:
            content = save({name: _storable(name, t) for name, t in tensors.items()}, about)
        except SafetensorError as error:
            raise StoreError(f"{key} cannot be stored: {error}") from error
        place, whole = DIGEST.search(content), memoryview(content)
        sha256 = hashlib.sha256(content).hexdigest().encode()
        try:
            write_whole(self.path(key), [whole[: place.start()], sha256, whole[place.end() :]])
        except OSError as error:
            raise self._unwritable(error) from error

    def keep(self, key: str, tensors: Mapping[str, Tensor], record: dict) -> bool:
        """`put`, but a failure only warns: the work in memory is still valid.

        Returns whether the entry was stored.
        """
        try:
            self.put(key, tensors, record)
        except StoreError as error:
            warnings.warn(f"trained, but not stored: {error}", stacklevel=2)
            return False
        return True

    def remove(self, key: str) -> None:
        """Remove an entry, if it exists."""
        try:
            patiently(partial(self.path(key).unlink, missing_ok=True))
        except OSError as error:
            raise self._unwritable(error) from error

    def require_writable(self) -> None:
        """Raise `StoreError` if nothing can be written here, before any work is wasted."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                return
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: Exception) -> StoreError:
        return StoreError(
            f"cannot write finished runs to {self.root} ({error}): "
            f"set KDNB_RUNS to a writable folder"
        )


def metadata(file: BinaryIO) -> dict[str, str]:
    """The header of an entry, not compared with its SHA-256; empty for other files."""
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        length = int.from_bytes(file.read(8), "little")
        found = json.loads(file.read(min(length, LARGEST_HEADER)))["__metadata__"]
        if ANY_MARK.fullmatch(found["kdnb"]) and found.keys() == {"kdnb", *FIELDS}:
            return found
    return {}


def _storable(name: str, tensor: Tensor) -> Tensor:
    try:
        copy = _copy(tensor)
        save({name: copy.flatten()[:0]})  # nothing of it, but of its type
        return copy
    except (KeyError, ValueError, RuntimeError) as error:
        raise StoreError(
            f"{name} is {tensor.layout} of {tensor.dtype}: convert it, the run store cannot hold it"
        ) from error
