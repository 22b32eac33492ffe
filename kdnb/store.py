"""Finished work, addressed by a hash of everything that determines it.

An entry is a folder ``<root>/<key>/`` with ``record.json`` and ``tensors.safetensors``. It is
written beside its place and renamed into it, so a reader never sees half an entry.
"""

import ast
import hashlib
import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kdnb.data.dataset import store_root

KEY_LENGTH = 20  # hexadecimal digits: 80 bits


class StoreError(OSError):
    """The store cannot be written; the message names the folder and the remedy."""


@dataclass(frozen=True)
class Entry:
    """What was stored: ``tensors`` by name, and a ``record`` that JSON can hold."""

    tensors: dict[str, Tensor]
    record: dict


def digest(value: object) -> str:
    """SHA-256, shortened, of anything JSON can hold; key order does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


@cache
def code_fingerprint(modules: tuple[str, ...]) -> str:
    """Digest of the code of some of kdnb's modules; comments and layout do not count."""
    total = hashlib.sha256()
    for name in modules:
        source = (Path(__file__).parent / name).read_text(encoding="utf-8")
        total.update(ast.dump(ast.parse(source)).encode())
    return total.hexdigest()[:12]


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
    """Entries under one folder; made on the first write."""

    def __init__(self, root: str | Path | None = None):
        self.root = store_root(root)

    def get(self, key: str) -> Entry | None:
        """The entry under ``key``, or None. A damaged entry is set aside with a warning."""
        folder = self.root / key
        if not folder.is_dir():
            return None
        try:
            record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
            return Entry(load_file(folder / "tensors.safetensors"), record)
        except (OSError, ValueError, SafetensorError) as error:
            warnings.warn(
                f"the stored entry {folder} is damaged ({error}) and will be made again",
                stacklevel=2,
            )
            return None

    def has(self, key: str) -> bool:
        """Whether there is an entry, whole or damaged, under ``key``."""
        return (self.root / key).is_dir()

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
            contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
            save_file(contiguous, part / "tensors.safetensors")
            text = json.dumps(record, indent=1, allow_nan=False) + "\n"
            (part / "record.json").write_text(text, encoding="utf-8")
            part.chmod(0o755)  # mkdtemp makes a folder that only its owner can read
            self._move_into_place(part, self.root / key)
        except (OSError, SafetensorError) as error:
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
        if not (self.root / key).is_dir():
            return
        old = Path(tempfile.mkdtemp(prefix=f".{key}-old-", dir=self.root))
        with suppress(FileNotFoundError):  # another process was faster
            (self.root / key).rename(old / "entry")
        shutil.rmtree(old, ignore_errors=True)

    def require_writable(self) -> None:
        """Raise `StoreError` if nothing can be written here, before work is done for nothing."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                return
        except OSError as error:
            raise self._unwritable(error) from error

    def _move_into_place(self, part: Path, folder: Path) -> None:
        try:
            part.rename(folder)
        except OSError:
            # A folder with content is never overwritten by a rename: set the old one aside first.
            if not folder.is_dir():
                raise
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=self.root))
            folder.rename(old / "entry")
            part.rename(folder)
            shutil.rmtree(old, ignore_errors=True)

    def _unwritable(self, error: Exception) -> StoreError:
        return StoreError(
            f"cannot write finished runs to {self.root} ({error}): "
            f"set KDNB_RUNS to a folder that you can write"
        )
