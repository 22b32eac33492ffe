"""What a reader's folder holds: splits, classes, and which files are their images.

Nothing is left out or taken for something else in silence: a layout with two meanings is refused,
and files that are not read are counted by reason.
"""

import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
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
NO_IMAGE = "not an image"


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
    """Which split a folder is called like.

    >>> [split_of(name) for name in ("Training_Set", "dev", "trains")]
    ['train', 'val', None]
    """
    name = name.casefold().strip()
    return SPLITS.get(name) or SPLITS.get(ADDED.sub("", name))


def said(left_out: Iterable[tuple[str, int]]) -> str:
    """How many files were left out for which reason."""
    return ", ".join(f"{count:,} {reason}" for reason, count in left_out)


def layout(folder: Path) -> Layout:
    """What ``folder`` holds; raises `DataError` in one sentence if that has no one meaning."""
    left_out: Counter[str] = Counter()
    try:
        found = {
            part: (classes, _images(place, classes, folder, left_out))
            for part, place, classes in _splits(folder, left_out)
        }
    except OSError as error:
        raise DataError(
            f"{plain(folder.name)} cannot be read ({plain(error)}): make it readable"
        ) from error
    classes = tuple(found["train"][0])
    for part, (others, _) in found.items():
        if differing := sorted(set(classes) ^ set(others)):
            raise DataError(
                f"the class {plain(differing[0])} of {plain(folder.name)} is not both in train and "
                f"in {part}: each split needs all classes"
            )
    parts = tuple((part, files) for part, (_, files) in found.items())
    got = Layout(classes, parts, tuple(sorted(left_out.items())))
    _warn(folder, got)
    return got


def check_classes(names: Sequence[str], where: str) -> None:
    """Raise `DataError` unless there are at least two classes."""
    if len(names) < 2:
        raise DataError(
            f"{where} must hold at least two classes, got {listed(names) or 'none'}: "
            "there must be something to tell apart"
        )


def _splits(folder: Path, left_out: Counter[str]) -> Iterator[tuple[str, Path, dict[str, Path]]]:
    """Each split, its folder, and the folders of its classes by name."""
    inside = _folders(folder, left_out)
    name = plain(folder.name)
    splits = {one: split for one in inside if (split := split_of(one))}
    if not splits:
        yield "train", folder, _classes(folder, inside, folder)
        return
    if others := [one for one in inside if one not in splits]:
        raise DataError(
            f"{name} holds {listed(splits)}, called like a split, beside {listed(others)}: take "
            f"away or rename {listed(others)} if that is no split, and {listed(splits)} if that "
            "is a class"
        )
    places = {split: [one for one in inside if splits[one] == split] for split in PARTS}
    for split, same in places.items():
        if len(same) > 1:
            raise DataError(
                f"{name} holds {listed(same)}, which all mean {split}: put their images together"
            )
    for needed in ("train", "test"):
        if not places[needed]:
            raise DataError(
                f"{name} has {' and '.join(map(plain, inside))} but no {needed}: add it, or put "
                f"the class folders straight into {name}; a class of that name must be renamed"
            )
    for split in PARTS:
        for one in places[split]:
            place = inside[one]
            yield split, place, _classes(place, _folders(place, left_out), folder)


def _classes(place: Path, inside: dict[str, Path], root: Path) -> dict[str, Path]:
    where = plain(place.relative_to(root.parent))
    if like := [name for name in inside if split_of(name)]:
        raise DataError(
            f"{where} holds {listed(like)}, which is called like a split: rename it if it is a "
            "class, or put its class folders one level higher"
        )
    check_classes(list(inside), where)
    return inside


def _folders(place: Path, left_out: Counter[str]) -> dict[str, Path]:
    """The folders in ``place`` that are not hidden, by composed (NFC) name and sorted by it."""
    found: dict[str, Path] = {}
    for path in sorted(place.iterdir()):
        if hidden(path.name):
            left_out[HIDDEN] += 1
        elif not path.is_dir():
            left_out[BESIDE] += 1
        elif path.is_symlink() and place.resolve().is_relative_to(path.resolve()):
            left_out[AGAIN] += 1
        else:
            name = unicodedata.normalize("NFC", path.name)
            if name in found:
                raise DataError(
                    f"{plain(place.name)} holds two folders called {plain(name)}, written with "
                    f"different bytes ({found[name].name!a} and {path.name!a}): put their images "
                    "together"
                )
            found[name] = path
    return dict(sorted(found.items()))


def _images(
    place: Path, classes: dict[str, Path], root: Path, left_out: Counter[str]
) -> tuple[File, ...]:
    """The images of the ``classes``, class by class."""
    images = []
    for label, (name, folder) in enumerate(classes.items()):
        others: Counter[str] = Counter()
        found = [File(path, label, *state) for path, state in _files(folder, root, others)]
        if not found:
            but = f", and {said(others.items())}" if others else ""
            raise DataError(
                f"the class {plain(name)} in {plain(place.relative_to(root.parent))} has no image"
                f"{but}: put some there (.jpg, .png or another type that Pillow reads) or take the "
                "folder away"
            )
        images += found
        left_out += others
    return tuple(images)


def _files(
    folder: Path, root: Path, left_out: Counter[str]
) -> Iterator[tuple[str, tuple[int, int]]]:
    """Paths from ``root`` of the images under ``folder``, in order, with their state, each once."""
    found = []
    real = folder.resolve()
    # Neither a link to a folder above nor one to a folder seen before leads anywhere new.
    seen: set[object] = {real, *real.parents, root.resolve()}
    todo = [(folder, real)]
    while todo:
        here, real = todo.pop()
        for path in sorted(here.iterdir(), key=lambda path: path.name):
            if hidden(path.name):
                left_out[HIDDEN] += 1
                continue
            linked = path.is_symlink()
            target = path.resolve() if linked else real / path.name
            if path.is_dir():
                if split_of(path.name):
                    raise DataError(
                        f"the class {plain(folder.name)} holds {plain(path.relative_to(root))}, "
                        f"called like a split: put the classes into the splits, such as "
                        f"{plain(path.name)}/{plain(folder.name)}, or rename it"
                    )
                if target in seen:
                    left_out[AGAIN] += 1
                else:
                    seen.add(target)
                    todo.append((path, target))
            elif not path.is_file() or not is_picture(path):
                left_out[f"{NO_IMAGE} ({plain(path.suffix.lower()) or 'no suffix'})"] += 1
            else:
                state = path.stat()
                # A file with several names (hard links) is one file, too.
                same = (state.st_dev, state.st_ino) if state.st_nlink > 1 else target
                if same in seen:
                    left_out[AGAIN] += 1
                else:
                    seen.add(same)
                    found.append((str(here), path.name, path, state))
    for _, _, path, state in sorted(found, key=lambda one: one[:2]):
        yield path.relative_to(root).as_posix(), (state.st_size, state.st_mtime_ns)


def hidden(name: str) -> bool:
    """Whether a file or folder is a note of some program, and no reader's."""
    return name.startswith((".", "@")) or name.casefold() in NOTES


def _warn(folder: Path, got: Layout) -> None:
    files = [file for _, part in got.parts for file in part]
    inner: list[set[str]] = [set() for _ in got.classes]
    if len(got.parts) == 1:
        for file in files:
            _, *between, _ = file.name.split("/")
            inner[file.label].add(between[0] if between else "")
        if len(inner[0]) > 1 and "" not in inner[0] and all(one == inner[0] for one in inner):
            warnings.warn(
                f"each of {listed(got.classes)} in {plain(folder.name)} holds the folders "
                f"{listed(sorted(inner[0]))}, and these are read as one class: if "
                f"{listed(got.classes)} are splits, call them train, val and test",
                stacklevel=4,
            )
    unread = sum(count for reason, count in got.left_out if reason != HIDDEN)
    if unread > MUCH * len(files):
        warnings.warn(
            f"{plain(folder.name)}: {len(files):,} images, and left out {said(got.left_out)}",
            stacklevel=4,
        )
