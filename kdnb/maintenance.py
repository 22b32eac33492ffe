"""The run store looked after: what it holds, whether all of it is whole, and what may go.

Only what carries kdnb's mark is listed or removed: a store may be a folder with files of others.
A link is never followed, and a file of kdnb's name without its mark is at most called damaged.
"""

import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kdnb.data import decoded, mhist
from kdnb.data.dataset import is_part_of_folder, is_whole_folder
from kdnb.experiment.requests import group_key
from kdnb.files import patiently
from kdnb.fingerprint import code_fingerprint
from kdnb.store.entries import (
    DamagedEntryError,
    Entry,
    OtherFormatError,
    beginning,
    is_older,
    record_in,
)
from kdnb.store.store import SUFFIX, Store

# Kinds whose entries only the code that made them will load. Of others nothing is removed.
OF_THE_ENGINE = ("run", "part", "logits", "features", "maps", "backbone")
# Folders of the datasets, which are no entries, with what follows the kind in their names.
IMAGES = {
    "decoded": r"[0-9a-f]{20}",
    "pixels": r"[0-9a-f]{20}",
    "polyps": r"\d+-\d+-\d+px-seed\d+-drawing\d+",
}
KINDS = "|".join(OF_THE_ENGINE)
# What kdnb writes into the store, by name: what it may be of, and what shows that it is kdnb's.
ENTRY = re.compile(rf"({KINDS})-[\w-]+{re.escape(SUFFIX)}")
OLD_ENTRY = re.compile(rf"({KINDS})-[\w-]+")
FOLDER = re.compile("|".join(f"({kind})-{rest}" for kind, rest in IMAGES.items()))
LEFT_OVER = re.compile(r"\.(.+)-[a-z0-9_]{8}(\.part)?")
LEFT_FOR = 6 * 3600  # seconds after which no living process can still be writing


@dataclass(frozen=True)
class Item:
    """What kdnb wrote into the store: its size in bytes, its age in seconds, what it is about."""

    name: str
    kind: str
    bytes: int
    age: float
    about: str


def items(store: Store) -> list[Item]:
    """All that kdnb wrote into the store, newest last; nothing is compared with its digests."""
    found = []
    for path in _written(store):
        kind = path.name.split("-")[0].removeprefix(".")
        age = max(0.0, time.time() - path.stat().st_mtime)
        size = sum(each.stat().st_size for each in _files(path))
        found.append(Item(path.name, kind, size, age, _about(path)))
    return sorted(found, key=lambda item: -item.age)


def problems(store: Store) -> Iterator[tuple[str, str]]:
    """Read everything: the name of each damaged entry, and what is wrong with it."""
    for path in _written(store):
        if ENTRY.fullmatch(path.name):
            try:
                store.read(path.name.removesuffix(SUFFIX))
            except (DamagedEntryError, OtherFormatError) as error:
                yield path.name, str(error)
        elif problem := _problem_of_images(path):
            yield path.name, problem


def superfluous(store: Store) -> Iterator[tuple[str, str]]:
    """The names of what the present code will not load, and why."""
    for path in _written(store):
        if why := _why(store, path):
            yield path.name, why


def prune(store: Store, name: str) -> None:
    """Remove one of `superfluous`."""
    path = store.root / name
    if not _is_marked(path):  # another process was faster
        return
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        patiently(partial(path.unlink, missing_ok=True))


def _written(store: Store) -> list[Path]:
    """What bears kdnb's mark, and files of its names that begin otherwise: those are damaged."""
    paths = sorted(store.root.iterdir()) if store.root.is_dir() else []
    return [path for path in paths if _is_marked(path) or _is_named(path)]


def _is_named(path: Path) -> bool:
    return bool(ENTRY.fullmatch(path.name)) and path.is_file() and not path.is_symlink()


def _is_marked(path: Path) -> bool:
    """Whether kdnb wrote it, as both its name and its content say; a link never is."""
    left = LEFT_OVER.fullmatch(path.name)
    name = left[1] if left else path.name
    if path.is_symlink():
        return False
    if ENTRY.fullmatch(name):
        begins = beginning(path)
        return begins is not None and begins[1] == name.removesuffix(SUFFIX)
    if FOLDER.fullmatch(name):
        return is_part_of_folder(path) if left else is_whole_folder(path)
    return bool(OLD_ENTRY.fullmatch(name)) and is_older(path)


def _why(store: Store, path: Path) -> str:
    """Why the present code will not load it, and `prune` may remove it; empty if not."""
    if not _is_marked(path):
        return ""
    if LEFT_OVER.fullmatch(path.name):
        newest = max(each.stat().st_mtime for each in (path, *_files(path)))
        killed = time.time() - newest > LEFT_FOR
        return "left by a process that was killed while it wrote" if killed else ""
    if path.name.startswith(("decoded-", "pixels-")):
        problem = _problem_of_images(path)
        return f"damaged: {problem}" if problem else ""
    if ENTRY.fullmatch(path.name):
        return _why_entry(store, path.name.removesuffix(SUFFIX))
    return "of an older format" if is_older(path) else ""


def _why_entry(store: Store, key: str) -> str:
    kind = key.split("-")[0]
    try:
        entry = store.read(key)
    except DamagedEntryError as error:
        return f"damaged: {error}"
    except OtherFormatError as error:
        return "of an older format" if error.older else ""
    if entry is None:  # another process was faster
        return ""
    record = entry.record
    code = record["settings"]["engine"] if kind == "run" else record.get(_CODE_IN.get(kind, "code"))
    members = record.get("members", [])
    if code != code_fingerprint() or (members and key != group_key(members)):
        return "made by another version of the code"
    if kind == "part" and _finished(store, entry):
        return "the checkpoint of a run that is finished"
    return ""


_CODE_IN = {"part": "engine"}


def _finished(store: Store, part: Entry) -> bool:
    return all(store.has(key) for key in part.record.get("members") or [part.record["run"]])


def _problem_of_images(folder: Path) -> str:
    try:
        if folder.name.startswith("polyps-"):
            mhist.check_sums(folder)
        elif folder.name.startswith(("decoded-", "pixels-")):
            decoded.read(folder)
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def _files(path: Path) -> list[Path]:
    return [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]


def _about(path: Path) -> str:
    """Label, task and seed, where the record tells them."""
    try:
        with path.open("rb") as file:
            record = record_in(file)
        told = [record.get("label"), record.get("task")]
        seed = record.get("seed", record.get("settings", {}).get("seed"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""
    told.append(None if seed is None else f"seed {seed}")
    return ", ".join(filter(None, told))
