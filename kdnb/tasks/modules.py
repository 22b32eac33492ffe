"""Code of the reader's own: found by name or path, and run without harm to the rest."""

import importlib
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

import torch

from kdnb.files import start_folder

# What Python says of a file in another encoding than it names: UTF-8, where it names none.
UNREADABLE = ("codec can't decode", "null bytes", "encoding")
# What code may set for the whole process: how it is read and how it is set.
SETTINGS = {
    "torch's default type of numbers": (torch.get_default_dtype, torch.set_default_dtype),
    "whether torch computes gradients": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's default device": (
        torch.get_default_device,
        # Set to the CPU it would slow every call down: None is how it is at the start.
        lambda device: torch.set_default_device(None if device.type == "cpu" else device),
    ),
    "the working directory": (os.getcwd, os.chdir),
}


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
        code = "" if error.code is None else f" with {error.code!r}"
        raise ValueError(
            f"the module {name} ends the program{code} when it is imported: put what reads "
            'arguments or runs something under `if __name__ == "__main__":`'
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


@contextmanager
def settings_kept(who: str) -> Iterator[None]:
    """Put back what the block sets for the whole process, and warn that ``who`` has set it."""
    before = {name: read() for name, (read, _) in SETTINGS.items()}
    changed = []
    try:
        yield
    finally:
        for name, (read, set_to) in SETTINGS.items():
            if (now := read()) != before[name]:
                set_to(before[name])
                changed.append(f"{name} to {now}")
    if changed:
        warnings.warn(
            f"{who} sets {' and '.join(changed)} for the whole process: this was put back, set it "
            "only where it is needed",
            stacklevel=3,
        )


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
