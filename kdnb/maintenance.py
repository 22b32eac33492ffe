"""Maintenance of the run store: list, verify and prune its files.

Only files with kdnb's mark are listed or removed: a store may be a folder with other files. A link
is never followed, and a file with kdnb's name but without its mark is at most reported as damaged.
"""

import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from stat import S_ISREG

from kdnb.data import decoded, mhist
from kdnb.files import is_ours, patiently
from kdnb.fingerprint import code_fingerprint
from kdnb.store.store import FORMAT, SUFFIX, Entry, Store, metadata

# What kdnb writes into the store begins with its kind: entries, and folders of images with what
# follows the kind in their names and what raises an error if they are damaged.
ENTRIES = ("run", "part", "logits", "features", "maps", "baseline", "backbone")
FOLDERS = {
    "decoded": (r"[0-9a-f]{20}", decoded.read),
    "pixels": (r"[0-9a-f]{20}", decoded.read),
    "polyps": (r"\d+-\d+-\d+px-seed\d+-drawing\d+", mhist.check_sums),
}
ENTRY = re.compile(rf"({'|'.join(ENTRIES)})-[\w-]+{re.escape(SUFFIX)}")
FOLDER = re.compile("|".join(f"({kind})-{rest}" for kind, (rest, _) in FOLDERS.items()))
LEFT_OVER = re.compile(r"\.(.+)-[a-z0-9_]{8}(\.part)?")
DAMAGED = (ValueError, OSError, EOFError, KeyError, TypeError)  # what reading raises
LEFT_FOR = 6 * 3600  # seconds after which no living process can still be writing


@dataclass(frozen=True)
class Item:
    """A file or folder in the store: its size in bytes, its age in seconds, and its contents.

    ``marked``: the content has kdnb's mark; an item without one may be another's and stays.
    ``unfinished``: a process was writing the item, or still is.
    """

    path: Path
    kind: str
    bytes: int
    age: float
    about: str
    marked: bool
    unfinished: bool


def items(store: Store) -> list[Item]:
    """All of kdnb's items in the store, newest last, without comparing digests."""
    found = []
    for path in sorted(store.root.iterdir()) if store.root.is_dir() else []:
        with suppress(FileNotFoundError):  # another process moved or removed it
            found.append(_item(path))
    return sorted(filter(None, found), key=lambda item: -item.age)


def _item(path: Path) -> Item | None:
    left = LEFT_OVER.fullmatch(path.name)
    name, about = left[1] if left else path.name, {}
    is_entry = bool(ENTRY.fullmatch(name)) and path.is_file() and not path.is_symlink()
    if is_entry:
        with suppress(OSError), path.open("rb") as file:
            about = metadata(file)
        marked = about.get("key") == name.removesuffix(SUFFIX)
        marked = marked and int(about["kdnb"].split()[-1]) <= FORMAT
    elif FOLDER.fullmatch(name):
        marked = is_ours(path)
    else:
        return None
    if not marked and (left or not is_entry):
        return None
    states = [each.lstat() for each in (path, *path.rglob("*"))]
    size = sum(state.st_size for state in states if S_ISREG(state.st_mode))
    age = max(0.0, time.time() - max(state.st_mtime for state in states))
    return Item(path, name.partition("-")[0], size, age, _about(about), marked, bool(left))


def _about(header: dict[str, str]) -> str:
    """Label, task and seed, as far as the record has them."""
    try:
        record = json.loads(header["record"])
        seed = record.get("seed", record.get("settings", {}).get("seed"))
        told = (record.get("label"), record.get("task"), None if seed is None else f"seed {seed}")
        return ", ".join(filter(None, told))
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""


def problems(store: Store) -> Iterator[tuple[Item, str]]:
    """Read everything and yield each damaged item with the problem."""
    for item in items(store):
        try:
            if not item.unfinished:
                _read(store, item)
        except DAMAGED as error:
            yield item, str(error)


def superfluous(store: Store) -> Iterator[tuple[Item, str]]:
    """The items that the present code will not load, with the reason."""
    for item in items(store):
        if item.marked and (why := _why(store, item)):
            yield item, why


def prune(item: Item) -> None:
    """Remove one of `superfluous`, if it is still kdnb's alone."""
    now = _item(item.path) if item.path.exists() else None
    if now is None or not now.marked:
        return
    if item.path.is_dir():
        shutil.rmtree(item.path, ignore_errors=True)
    else:
        patiently(partial(item.path.unlink, missing_ok=True))


def _read(store: Store, item: Item) -> Entry | None:
    """An entry, or None of a folder; raises one of `DAMAGED`."""
    if item.kind in FOLDERS:
        FOLDERS[item.kind][1](item.path)
        return None
    return store.read(item.path.name.removesuffix(SUFFIX))


def _why(store: Store, item: Item) -> str:
    """The reason why the present code will not load an item; empty if it may."""
    if item.unfinished:
        killed = item.age > LEFT_FOR
        return "left by a process that was killed while writing" if killed else ""
    try:
        entry = _read(store, item)
    except DAMAGED as error:
        return f"damaged: {error}"
    if entry is None:
        return ""
    record = entry.record
    code = record.get("code") or record.get("engine") or record["settings"]["engine"]
    if code != code_fingerprint():
        return "made by another version of the code"
    runs = record.get("members") or [record.get("run")]
    finished = item.kind == "part" and all(map(store.has, runs))
    return "the checkpoint of a run that is finished" if finished else ""
