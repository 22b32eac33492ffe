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

from safetensors.torch import load, save
from torch import Tensor

FORMAT = 3  # the first two were folders
BEGINNING = re.compile(
    rb'.{8}\{"__metadata__":\{"kdnb":"run store, format ([1-9]\d{0,3})","key":"([\w.-]+)"'
    rb'(?:,"sha256":"([0-9a-f]{64})")?',
    re.DOTALL,
)
NO_DIGEST = b"0" * 64
LARGEST_HEADER = 100_000_000  # bytes: safetensors reads no larger one
# Entries were folders once: two files, and a third with kdnb's mark and their digests.
OLD_FILES = ("record.json", "tensors.safetensors", "SHA256SUMS")
OLD_SUMS = re.compile(
    rb"# kdnb run store, format \d+\n"
    rb"[0-9a-f]{64}  record\.json\n[0-9a-f]{64}  tensors\.safetensors\n"
)


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
    """An entry in two pieces: the header, and the bytes of the tensors."""
    content = memoryview(save(_apart(tensors)))
    end = 8 + int.from_bytes(content[:8], "little")
    metadata = {
        "kdnb": f"run store, format {FORMAT}",
        "key": key,
        "sha256": NO_DIGEST.decode(),
        "record": json.dumps(record, separators=(",", ":"), allow_nan=False),
    }
    header = {"__metadata__": metadata} | json.loads(bytes(content[8:end]))
    line = json.dumps(header, separators=(",", ":"))
    line += " " * (-len(line) % 8)  # tensors are read where they stand: aligned
    if len(line) > LARGEST_HEADER:
        raise ValueError(f"the record of {key} is too long to be stored: {len(line):,} bytes")
    head = len(line).to_bytes(8, "little") + line.encode()
    found = hashlib.sha256(head)
    found.update(content[end:])
    return [head.replace(NO_DIGEST, found.hexdigest().encode(), 1), content[end:]]


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


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors on the CPU of which no two share memory."""
    apart, seen = {}, set()
    for name, tensor in tensors.items():
        one = tensor.detach().cpu().contiguous()
        place = one.untyped_storage().data_ptr()
        apart[name] = one.clone() if place in seen else one
        seen.add(place)
    return apart
