"""The reader's own code: found by name or path, and run without side effects on the process."""

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

# Python's messages for a file in another encoding than its header names (default UTF-8).
UNREADABLE = ("codec can't decode", "null bytes", "encoding")
# Settings of the whole process that code may change: how each is read and set.
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
    the command's arguments, and its changes to the whole process are undone. Raises ValueError if
    there is no such module, it has the name of another, or it cannot be imported.
    """
    folder, name = _located(place)
    _check_name(folder, name.partition(".")[0])
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    arguments, sys.argv = sys.argv, sys.argv[:1]
    try:
        with settings_kept(f"the module {name}"):
            return importlib.import_module(name)
    except SystemExit as error:
        code = "" if error.code is None else f" with {error.code!r}"
        raise ValueError(
            f"the module {name} ends the program{code} when it is imported: put code that reads "
            'arguments or runs something under `if __name__ == "__main__":`'
        ) from error
    except Exception as error:  # a reader's module may raise anything
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            says = f"there is no module {name} in {folder}: start the command in the folder with it"
        else:
            line = f"{type(error).__name__}: {error}".splitlines()[0].removesuffix(": ")
            says = f"the module {name} cannot be imported: {line}"
        if isinstance(error, SyntaxError) and any(said in str(error) for said in UNREADABLE):
            file = error.filename or f"{name}.py"
            says += f": save {file} as UTF-8, or name its encoding in the first line, # coding: …"
        raise ValueError(says) from error
    finally:
        sys.argv = arguments


@contextmanager
def settings_kept(who: str) -> Iterator[None]:
    """Restore settings of the whole process that the block changes, and warn about ``who``."""
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
            f"{who} sets {' and '.join(changed)} for the whole process, which kdnb has "
            "undone: set it only where needed",
            stacklevel=3,
        )


def reason(error: Exception) -> str:
    """The first line of an error's message, with its type if the message has at most one word.

    >>> reason(KeyError("epochs"))
    "KeyError 'epochs'"
    """
    line = str(error).strip().partition("\n")[0]
    return line if " " in line else f"{type(error).__name__} {line}".strip()


def _located(place: str) -> tuple[Path, str]:
    """The folder in which a module is looked for first, and its name there."""
    if Path(place).name == place and not place.endswith(".py"):
        if not all(place.split(".")):
            raise ValueError(f"your task is called my_module:my_task, got {place!r} as module")
        return start_folder(), place
    file = (start_folder() / Path(place).expanduser()).resolve()
    folder, name = file.parent, file.name.removesuffix(".py")
    if not _own_file(folder, name):
        raise ValueError(f"there is no file {folder / name}.py: name one that is there")
    if "." in name:
        raise ValueError(f"Python cannot import {file}: give it a name without dots")
    return folder, name


def _own_file(folder: Path, name: str) -> Path | None:
    files = (folder / name / "__init__.py", folder / f"{name}.py")  # as Python prefers them
    return next((file for file in files if file.is_file()), None)


def _check_name(folder: Path, name: str) -> None:
    """Raise ValueError if another module has the same name and would be imported instead."""
    own = _own_file(folder, name)
    if own is None:
        return
    other = getattr(sys.modules.get(name), "__file__", None)
    if name in sys.stdlib_module_names:
        other = "a module of Python's own"
    elif other is None:
        elsewhere = [entry for entry in sys.path if entry and Path(entry).resolve() != folder]
        spec = PathFinder.find_spec(name, elsewhere)
        other = spec.origin if spec and spec.has_location else None
    if other and Path(other).resolve() != own.resolve():
        raise ValueError(f"{own} has the name of another module ({other}): rename it")
