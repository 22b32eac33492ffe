"""The folders of kdnb, and how files and folders are written completely or not at all."""

import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
# A wheel holds the notebooks and the kept results inside the package; a checkout has them beside
# it. What is made goes to the checkout, or to the folder where an installed kdnb was started.
INSTALLED = (PACKAGE / "notebooks").is_dir()
CONTENT = PACKAGE if INSTALLED else PACKAGE.parent
PROJECT = Path(os.environ.get("KDNB_START") or ".") if INSTALLED else CONTENT
MARK = ".kdnb"  # in folders that the program made


class DataError(ValueError):
    """The data cannot be used; the message names the value and the remedy."""


def data_root(root: str | Path | None = None) -> Path:
    """The folder for dataset files: ``root``, else ``$KDNB_DATA``, else the project's ``data/``."""
    return folder_of(root or os.environ.get("KDNB_DATA") or PROJECT / "data")


def store_root(root: str | Path | None = None) -> Path:
    """The folder of the run store: ``root``, else ``$KDNB_RUNS``, else ``data/runs``."""
    return folder_of(root or os.environ.get("KDNB_RUNS") or PROJECT / "data" / "runs")


def start_folder() -> Path:
    """The folder in which the command was started: ``$KDNB_START``, else the working directory.

    A notebook's kernel works in the notebook's folder, so the two differ there.
    """
    return folder_of(os.environ.get("KDNB_START") or ".")


def folder_of(path: str | Path) -> Path:
    """The full path of a folder, with ``~`` replaced by the reader's home folder.

    Raises `DataError` for the ``~`` of a user whom this machine does not know.
    """
    try:
        return Path(path).expanduser().resolve()
    except RuntimeError as error:
        says = f"this machine knows no home folder for {str(path)!r}: write the path out"
        raise DataError(says) from error


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which becomes ``folder`` at the end of the block, or not at all.

    Only a folder made in this way is replaced. Raises `DataError` if anything else has its name,
    and if the block or the renaming raises `OSError`.
    """
    part = None
    try:
        _require_replaceable(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        _mark(part, part.name, [])
        new, old = part / "new", part / "old"
        new.mkdir()
        yield new
        _mark(new, folder.name, sorted(p.relative_to(new).as_posix() for p in new.rglob("*")))
        _require_replaceable(folder)
        # A folder with content is never overwritten by a rename: set the old one aside first.
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        raise DataError(
            f"cannot write {folder.name} to {folder.parent} ({error}): set KDNB_RUNS to a writable "
            f"folder"
        ) from error
    finally:
        if part:
            shutil.rmtree(part, ignore_errors=True)


def is_ours(folder: Path) -> bool:
    """Whether `whole_folder` made the folder under this name and nothing else was put into it.

    True also for its temporary folder, left by a killed process or still being filled.
    """
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
        name, made = mark["made by kdnb as"], {*mark["files"], MARK}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if folder.is_symlink() or name != folder.name:
        return False
    if name.startswith(".") and made == {MARK}:
        return True
    found = list(folder.rglob("*"))
    names = {path.relative_to(folder).as_posix() for path in found}
    return names <= made and not any(path.is_symlink() for path in found)


def _mark(folder: Path, name: str, made: list[str]) -> None:
    """kdnb's mark: the name of the finished folder, and the list of its files."""
    text = json.dumps({"made by kdnb as": name, "files": made}) + "\n"
    (folder / MARK).write_text(text, encoding="utf-8")


def _require_replaceable(folder: Path) -> None:
    if os.path.lexists(folder) and not is_ours(folder):
        raise DataError(
            f"{folder} is in the way, and not all of it was made by kdnb: move it, or set "
            f"KDNB_RUNS to another folder"
        )


def write_whole(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Write a file under a temporary name and rename it, so that no reader sees half a file.

    An existing file is replaced; for a link, the link and not its target. Raises OSError.
    """
    part = path.with_name(f".{path.name}-{secrets.token_hex(4)}.part")
    try:
        with part.open("wb") as file:
            file.writelines(pieces)
        patiently(partial(os.replace, part, path))
    finally:
        with suppress(OSError):  # what stays is hidden, and has a name of its own
            part.unlink(missing_ok=True)


def patiently(move: Callable[[], object]) -> None:
    """Retry for a second: Windows cannot move or remove a file that another process has open."""
    for pause in (0.01, 0.1, 1.0):
        try:
            move()
            return
        except PermissionError:
            time.sleep(pause)
    move()
