"""The layout of a reader's folder: splits, classes, and their image files.

Nothing is omitted or reinterpreted silently: a layout with two meanings is refused, and files that
are not read are counted by reason.
"""

import os
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from kdnb.data.custom.names import listed, plain
from kdnb.data.custom.pixels import is_picture
from kdnb.data.custom.splits import MUCH, PARTS
from kdnb.data.dataset import DataError

SPLITS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "development"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
# As in "training_set" or "Test images".
ADDED = re.compile(r"[ _.-]*(data|dataset|images?|imgs?|samples?|sets?|split)$")
# Notes of operating systems, file servers and Python, beside names that begin with "." or "@".
NOTES = {
    "#recycle", "$recycle.bin", "__macosx", "__pycache__", "desktop.ini", "ehthumbs.db",
    "lost+found", "system volume information", "thumbs.db",
}  # fmt: skip
HIDDEN, BESIDE, AGAIN = "hidden", "beside the class folders", "read under another name"


class File(NamedTuple):
    """An image: its path from the folder, its class, its bytes and when it was changed (ns)."""

    name: str
    label: int
    size: int
    changed: int


class Layout(NamedTuple):
    """``parts``: the images by split, or under "train" alone; ``left_out``: reasons and counts."""

    classes: tuple[str, ...]
    parts: tuple[tuple[str, tuple[File, ...]], ...]
    left_out: tuple[tuple[str, int], ...]


def split_of(name: str) -> str | None:
    """The split that a folder's name means.

    >>> [split_of(name) for name in ("Training_Set", "dev", "trains")]
    ['train', 'val', None]
    """
    name = name.casefold().strip()
    return SPLITS.get(name) or SPLITS.get(ADDED.sub("", name))


def reasons(left_out: Iterable[tuple[str, int]]) -> str:
    """The number of files left out, by reason."""
    return ", ".join(f"{count:,} {reason}" for reason, count in left_out)


def layout(folder: Path) -> Layout:
    """The layout of ``folder``; raises `DataError` in one sentence if it is ambiguous."""
    left_out: Counter[str] = Counter()
    try:
        splits = _splits(folder, left_out)
        parts = tuple((s, _images(classes, folder, left_out)) for s, classes in splits.items())
    except OSError as error:
        raise DataError(f"{plain(folder.name)} cannot be read ({plain(error)})") from error
    classes = tuple(splits["train"])
    for split, others in splits.items():
        if differing := sorted(set(classes) ^ set(others)):
            raise DataError(
                f"the class {plain(differing[0])} of {plain(folder.name)} is not both in train and "
                f"in {split}: each split needs all classes"
            )
    got = Layout(classes, parts, tuple(sorted(left_out.items())))
    _warn(folder, got)
    return got


def check_classes(names: Collection[str], where: str) -> None:
    """Raise `DataError` unless there are at least two classes."""
    if len(names) < 2:
        raise DataError(f"{where} must hold at least two classes, got {listed(names) or 'none'}")


def _splits(folder: Path, left_out: Counter[str]) -> dict[str, dict[str, Path]]:
    """The folders of the classes by name, for each split."""
    inside, name = _folders(folder, left_out), plain(folder.name)
    splits = {one: split for one in inside if (split := split_of(one))}
    if not splits:
        check_classes(inside, name)
        return {"train": inside}
    if others := [one for one in inside if one not in splits]:
        raise DataError(
            f"{name} holds {listed(splits)}, named like a split, beside {listed(others)}: "
            f"remove or rename {listed(others)} if that is no split, and {listed(splits)} if that "
            "is a class"
        )
    found = {}
    for split in PARTS:
        same = [one for one in splits if splits[one] == split]
        if len(same) > 1:
            raise DataError(f"{name} holds {listed(same)}, which all mean {split}: merge them")
        if not same and split != "val":
            raise DataError(
                f"{name} has {' and '.join(map(plain, inside))} but no {split}: add {split}, or "
                f"rename folders that are classes, and put all class folders directly into {name}"
            )
        for one in same:
            found[split], where = _folders(inside[one], left_out), f"{name}/{plain(one)}"
            if like := [each for each in found[split] if split_of(each)]:
                raise DataError(
                    f"{where} holds {listed(like)}, which is named like a split: rename it if it "
                    "is a class, or put its class folders one level higher"
                )
            check_classes(found[split], where)
    return found


def _visible(folder: Path, left_out: Counter[str]) -> Iterator[Path]:
    """The contents of a folder, in order, without files that programs leave."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "@")) or path.name.casefold() in NOTES:
            left_out[HIDDEN] += 1
        else:
            yield path


def _folders(place: Path, left_out: Counter[str]) -> dict[str, Path]:
    """The folders in ``place`` by composed (NFC) name and sorted by it."""
    found: dict[str, Path] = {}
    for path in _visible(place, left_out):
        name = unicodedata.normalize("NFC", path.name)
        if not path.is_dir():
            left_out[BESIDE] += 1
        elif place.resolve().is_relative_to(path.resolve()):  # a link to a folder above
            left_out[AGAIN] += 1
        elif name in found:
            raise DataError(
                f"{plain(place.name)} holds two folders called {plain(name)}, written with "
                f"different bytes ({found[name].name!a} and {path.name!a}): merge them"
            )
        else:
            found[name] = path
    return dict(sorted(found.items()))


def _images(classes: dict[str, Path], root: Path, left_out: Counter[str]) -> tuple[File, ...]:
    """The images of the ``classes``, class by class."""
    images: list[File] = []
    for label, (name, folder) in enumerate(classes.items()):
        others: Counter[str] = Counter()
        found = _files(folder, root, others)
        if not found:
            raise DataError(
                f"the class {plain(name)} in {plain(folder.parent.relative_to(root.parent))} has "
                f"no image ({reasons(others.items()) or 'nothing at all'}): put some there (.jpg, "
                ".png or another type that Pillow reads) or remove the folder"
            )
        for path in sorted(found, key=lambda path: (str(path.parent), path.name)):
            state, where = found[path], path.relative_to(root).as_posix()
            images.append(File(where, label, state.st_size, state.st_mtime_ns))
        left_out += others
    return tuple(images)


def _files(folder: Path, root: Path, left_out: Counter[str]) -> dict[Path, os.stat_result]:
    """The images under ``folder``, each once."""
    found = {}
    # Neither a link to a folder above nor one to a folder seen before leads anywhere new.
    seen: set[object] = {folder.resolve(), *folder.resolve().parents, root.resolve()}
    todo = [folder]
    while todo:
        for path in _visible(todo.pop(), left_out):
            is_folder = path.is_dir()
            if is_folder and split_of(path.name):
                raise DataError(
                    f"the class {plain(folder.name)} holds {plain(path.relative_to(root))}, called "
                    "like a split: put the classes into the splits, such as "
                    f"{plain(path.name)}/{plain(folder.name)}, or rename it"
                )
            if not is_folder and not (path.is_file() and is_picture(path)):
                left_out[f"not an image ({plain(path.suffix.lower()) or 'no suffix'})"] += 1
                continue
            state = path.stat()
            # A file with several names (hard links) is one file, too.
            linked = not is_folder and state.st_nlink > 1
            target = (state.st_dev, state.st_ino) if linked else path.resolve()
            if target in seen:
                left_out[AGAIN] += 1
            elif is_folder:
                todo.append(path)
            else:
                found[path] = state
            seen.add(target)
    return found


def _warn(folder: Path, got: Layout) -> None:
    files = [file for _, part in got.parts for file in part]
    name, classes = plain(folder.name), listed(got.classes)
    inner: list[set[str]] = [set() for _ in got.classes]  # folders right inside of each class
    for file in files:
        _, *between, _ = file.name.split("/")
        inner[file.label].add(between[0] if between else "")
    alike = all(one == inner[0] for one in inner) and len(inner[0]) > 1 and "" not in inner[0]
    if alike and len(got.parts) == 1:
        warnings.warn(
            f"each of {classes} in {name} holds the folders {listed(sorted(inner[0]))}, read as "
            f"one class: if {classes} are splits, call them train, val and test",
            stacklevel=4,
        )
    unread = sum(count for reason, count in got.left_out if reason != HIDDEN)
    if unread > MUCH * len(files):
        warnings.warn(
            f"{name}: {len(files):,} images, and left out {reasons(got.left_out)}", stacklevel=4
        )
