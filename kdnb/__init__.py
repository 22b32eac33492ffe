"""Knowledge distillation for visual classification: the engine behind the course notebooks."""

from kdnb import source  # first: it reads the files of all other modules  # noqa: F401

__version__ = "0.1.0"
