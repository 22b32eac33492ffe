"""A module of the reader's own: found by name or path, and imported without harm to the rest."""

import importlib
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from kdnb.data.dataset import start_folder
from kdnb.environment import settings_kept

# What Python says of a file in another encoding than it names: UTF-8, where it names none.
UNREADABLE = ("codec can't decode", "null bytes", "encoding")


def imported(place: str) -> ModuleType:
    """The module called ``place``, or that in the file ``place``, such as folder/my_module.py.

    Files, and modules first, are looked for where the command was started. The module sees none of
    the command's arguments, and what it sets for the whole process is put back. Raises ValueError
    in one sentence if there is no such module, it has the name of another, or it cannot be
    imported.
    """
    folder, name = _found(place)
    _check_name(folder, name)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    arguments = sys.argv
    sys.argv = arguments[:1]
    try:
        with settings_kept(f"the module {name}"):
            return importlib.import_module(name)
    except SystemExit as error:
        raise ValueError(
            f"the module {name} ends the program when it is imported (exit {error.code}): put what "
            'reads arguments or runs something under `if __name__ == "__main__":`'
        ) from error
    except Exception as error:  # whatever a module of the reader's may raise
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            raise ValueError(
                f"there is no module {name} in {folder}: start the command in the folder "
                f"that holds {name}.py"
            ) from error
        remedy = ""
        if isinstance(error, SyntaxError) and any(said in str(error) for said in UNREADABLE):
            file = error.filename or f"{name}.py"
            remedy = f": save {file} as UTF-8, or name its encoding in the first line, # coding: …"
        kind = type(error).__name__
        said = reason(error).removeprefix(kind).strip()
        raise ValueError(
            f"the module {name} cannot be imported: {kind}{said and f': {said}'}{remedy}"
        ) from error
    finally:
        sys.argv = arguments


def reason(error: Exception) -> str:
    """The first line of what an error says, with its type where it says one word or nothing."""
    line = next(iter(str(error).strip().splitlines()), "")
    return line if " " in line else f"{type(error).__name__} {line}".strip()


def _found(place: str) -> tuple[Path, str]:
    """In which folder a module is looked for first, and its name there."""
    if place.endswith(".py") or "/" in place:
        file = (start_folder() / Path(place).expanduser()).resolve()
        folder, name = file.parent, file.name.removesuffix(".py")
        if not _own_file(folder, name):
            raise ValueError(f"there is no file {folder / name}.py: name one that is there")
        if "." in name:
            raise ValueError(f"Python cannot import {file}: give it a name without dots")
        return folder, name
    if not all(place.split(".")):
        raise ValueError(f"a task of your own is called my_module:my_task, got {place!r} as module")
    return start_folder(), place


def _own_file(folder: Path, name: str) -> Path | None:
    files = (folder / name / "__init__.py", folder / f"{name}.py")  # as Python prefers them
    return next((file for file in files if file.is_file()), None)


def _check_name(folder: Path, name: str) -> None:
    """Raise ValueError if another module has the same name: one would be taken for the other."""
    top = name.partition(".")[0]
    own = _own_file(folder, top)
    if own is None:
        return
    other = None
    if top in sys.stdlib_module_names:
        other = "a module of Python's own"
    elif top in sys.modules:
        other = getattr(sys.modules[top], "__file__", None)
    else:
        elsewhere = [entry for entry in sys.path if entry and Path(entry).resolve() != folder]
        spec = PathFinder.find_spec(top, elsewhere)
        other = spec and spec.has_location and spec.origin
    if other and (top in sys.stdlib_module_names or Path(other).resolve() != own.resolve()):
        raise ValueError(f"{own} has the name of another module ({other}): rename it")
