"""What an entry of the run store looks like: one safetensors file that says whose it is.

Its metadata come first, so that its first bytes tell what a file is, whatever becomes of the rest:
kdnb's mark with the format, the key, and the SHA-256 of the whole file with zeros in its own place.
The record is the metadata's last part.
"""

import hashlib
import io
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors.torch import load
from torch import Tensor

FORMAT = 3  # the first two were folders
BEGINNING = re.compile(
    rb'.{8}\{"__metadata__":\{"kdnb":"run store, format ([1-9]\d{0,3})","key":"([\w.-]+)"'
    rb'(?:,"sha256":"([0-9a-f]{64})")?',
    re.DOTALL,
)
NO_DIGEST = b"0" * 64
LARGEST_HEADER = 100_000_000  # bytes: safetensors reads no larger one
# As safetensors calls them.
TYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16", torch.uint8: "U8",
    torch.complex64: "C64", torch.bool: "BOOL",
}  # fmt: skip
# Entries were folders once: two files, and a third with kdnb's mark and their digests.
OLD_FILES = ("record.json", "tensors.safetensors", "SHA256SUMS")
OLD_SUMS = re.compile(
    rb"# kdnb run store, format \d+\n"
    rb"[0-9a-f]{64}  record\.json\n[0-9a-f]{64}  tensors\.safetensors\n"
)


class StoreError(OSError):
    """An entry cannot be stored; the message says why and what to do."""


class DamagedEntryError(ValueError):
    """An entry is not as it was written; the message says what is wrong."""


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


def encoded(key: str, tensors: Mapping[str, Tensor], record: dict) -> list[bytes | memoryview]:
    """An entry in pieces: the header, and the bytes of each tensor. Raises `StoreError`.

    Written here, since safetensors would write under a temporary name that nobody could tell from
    a stranger's, or copy every tensor twice.
    """
    flat = {name: _bytes_of(name, tensor) for name, tensor in tensors.items()}
    metadata = {
        "kdnb": f"run store, format {FORMAT}",
        "key": key,
        "sha256": NO_DIGEST.decode(),
        "record": json.dumps(record, separators=(",", ":"), allow_nan=False),
    }
    header, end = {"__metadata__": metadata}, 0
    # The widest type first: so each tensor lies where its type may be read.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    for name in names:
        start, end = end, end + len(flat[name])
        about = {"dtype": TYPES[tensors[name].dtype], "shape": list(tensors[name].shape)}
        header[name] = about | {"data_offsets": [start, end]}
    line = json.dumps(header, separators=(",", ":"))
    line += " " * (-len(line) % 8)
    if len(line) > LARGEST_HEADER:
        raise StoreError(f"the record of {key} has {len(line):,} bytes, too many to be stored")
    head = len(line).to_bytes(8, "little") + line.encode()
    found = hashlib.sha256(head)
    for name in names:
        found.update(flat[name])
    head = head.replace(NO_DIGEST, found.hexdigest().encode(), 1)
    return [head, *(flat[name] for name in names)]


def _bytes_of(name: str, tensor: Tensor) -> memoryview:
    if tensor.dtype not in TYPES or tensor.layout != torch.strided:
        kind = tensor.dtype if tensor.layout == torch.strided else tensor.layout
        raise StoreError(f"{name} is of {kind}, which the run store cannot hold: convert it")
    one = tensor.detach().cpu().contiguous()
    # Of a single number the stride may be anything, and a view as bytes wants 1.
    return memoryview(one.as_strided((one.numel(),), (1,)).view(torch.uint8).numpy())


def decoded(content: bytes, key: str) -> Entry:
    """What `encoded` made; raises `DamagedEntryError` or `OtherFormatError`.

    SHA-256 reads 1.7 GB a second where the processor helps (CRC-32: 3.8), far faster than what is
    stored here can be computed, and leaves no chance that damage goes unseen.
    """
    start = BEGINNING.match(content)
    if start is None:
        raise DamagedEntryError("it does not begin as an entry does")
    if int(start[1]) != FORMAT:
        raise OtherFormatError(int(start[1]))
    first, last = start.span(3)
    found = hashlib.sha256(content[:first] + NO_DIGEST)
    found.update(memoryview(content)[last:])
    if found.hexdigest().encode() != start[3]:
        raise DamagedEntryError("it does not match its SHA-256")
    if start[2].decode() != key:
        raise DamagedEntryError(f"it is the entry {start[2].decode()}")
    return Entry(load(content), record_in(io.BytesIO(content)))


def record_in(file: BinaryIO) -> dict:
    """The record in an entry's header; it is not compared with the digest."""
    length = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(min(length, LARGEST_HEADER)))
    return json.loads(header["__metadata__"]["record"])


def beginning(path: Path) -> tuple[int, str] | None:
    """Format and key of the entry that a file begins as; None if kdnb did not write it."""
    try:
        with path.open("rb") as file:
            match = BEGINNING.match(file.read(1000))
    except OSError:
        return None
    return match and (int(match[1]), match[2].decode())


def is_older(folder: Path) -> bool:
    """Whether it is an entry as kdnb once wrote them, with its mark, and nothing else in it."""
    try:
        if folder.is_symlink() or not OLD_SUMS.fullmatch((folder / OLD_FILES[-1]).read_bytes()):
            return False
        return all(
            p.is_file(follow_symlinks=False) and p.name in OLD_FILES for p in os.scandir(folder)
        )
    except OSError:
        return False
