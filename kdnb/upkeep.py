"""The run store looked after: what it holds, whether all of it is whole, and what may go."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kdnb.data import DataError, mhist, own
from kdnb.jobs import group_key
from kdnb.source import code_fingerprint
from kdnb.store import (
    RECORD,
    DamagedEntryError,
    Entry,
    OtherFormatError,
    Store,
)

# Kinds whose entries only the code that made them will load. Of others nothing is removed.
OF_THE_ENGINE = ("run", "part", "logits", "features", "maps", "body")
IMAGES = ("decoded", "pixels", "polyps")  # folders of the datasets, which are no entries
LEFT_OVER = re.compile(rf"\.({'|'.join((*OF_THE_ENGINE, *IMAGES))})-.*-[a-z0-9_]{{8}}")
LEFT_FOR = 6 * 3600  # seconds after which no living process can still be writing


@dataclass(frozen=True)
class Item:
    """A folder of the store: its size in bytes, its age in seconds, what it is about."""

    name: str
    kind: str
    bytes: int
    age: float
    about: str


def items(store: Store) -> list[Item]:
    """Everything in the store, newest last; nothing is compared with its digests."""
    found = []
    for folder in _folders(store):
        state = folder.stat()
        kind = folder.name.split("-")[0].removeprefix(".")
        age, size = max(0.0, time.time() - state.st_mtime), sum(_sizes(folder))
        found.append(Item(folder.name, kind, size, age, _about(folder)))
    return sorted(found, key=lambda item: -item.age)


def problems(store: Store) -> Iterator[tuple[str, str]]:
    """Read everything: the name of each damaged entry, and what is wrong with it."""
    for name in store.names():
        if name.split("-")[0] in IMAGES:
            continue
        try:
            store.read(name)
        except (DamagedEntryError, OtherFormatError) as error:
            yield name, str(error)
    for folder in _folders(store):
        problem = _problem_of_images(folder)
        if problem:
            yield folder.name, problem


def superfluous(store: Store) -> Iterator[tuple[str, str]]:
    """The names of what the present code will not load, and why."""
    for folder in _folders(store):
        kind = folder.name.split("-")[0]
        if folder.name.startswith("."):
            newest = max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
            if LEFT_OVER.fullmatch(folder.name) and time.time() - newest > LEFT_FOR:
                yield folder.name, "left by a process that was killed while it wrote"
        elif kind == "pixels":
            if why := _problem_of_images(folder):
                yield folder.name, f"damaged: {why}"
        elif kind == "decoded":
            why = _problem_of_images(folder) or _outdated(folder)
            if why:
                yield folder.name, why
        elif kind in OF_THE_ENGINE:
            why = _why(store, folder.name, kind)
            if why:
                yield folder.name, why


def prune(store: Store, name: str) -> None:
    """Remove one of `superfluous`."""
    if name.startswith("."):
        # What a killed writer had set aside is an entry: this brings it back.
        for old in (store.root / name).glob("old"):
            store.has(old.parent.name[1:].rsplit("-", 1)[0])
        shutil.rmtree(store.root / name, ignore_errors=True)
    else:
        store.remove(name)


def _why(store: Store, key: str, kind: str) -> str:
    """Why the present code will not load an entry; empty if it may."""
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
        if folder.name.startswith("decoded-"):
            mhist.check_decoded(folder)
        elif folder.name.startswith("polyps-"):
            mhist.check_sums(folder)
        elif folder.name.startswith("pixels-"):
            own.check_kept(folder)
    except (ValueError, OSError, EOFError, KeyError, TypeError) as error:
        return str(error)
    return ""


def _outdated(folder: Path) -> str:
    """Why decoded images will not be read again; empty where their files cannot be looked at."""
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    try:
        name = mhist.decoded_name(Path(record["source"]), record["size"])
    except DataError:
        return ""
    return "" if name == folder.name else "the images it was made from have changed"


def _folders(store: Store) -> list[Path]:
    return [path for path in store.root.iterdir() if path.is_dir()] if store.root.is_dir() else []


def _sizes(folder: Path) -> Iterator[int]:
    return (path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _about(folder: Path) -> str:
    """Label, task and seed, where the record tells them."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        told = [record.get("label"), record.get("task")]
        seed = record.get("seed", record.get("settings", {}).get("seed"))
    except (OSError, ValueError, AttributeError):
        return ""
    told.append(None if seed is None else f"seed {seed}")
    return ", ".join(filter(None, told))
