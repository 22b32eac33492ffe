"""Knowledge distillation for visual classification: the engine behind the course notebooks.

>>> from kdnb import ALONE, Experiment, conventional, task
"""

from importlib import import_module
from runpy import run_module

from kdnb import fingerprint  # first: it reads the files of all other modules  # noqa: F401

__version__ = "0.1.0"

# Imported when they are asked for: `python -m kdnb` sets the process up before torch is loaded.
_PUBLIC = {
    "Experiment": "experiment",
    "ALONE": "experiment",
    "conventional": "experiment",
    "subclass": "experiment",
    "task": "tasks",
}
__all__ = [*_PUBLIC, "__version__"]


def command() -> None:
    """The console script ``kdnb``: the same as ``python -m kdnb``."""
    run_module("kdnb", run_name="__main__", alter_sys=True)


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"kdnb.{_PUBLIC[name]}"), name)
