"""The parameters that `report --set` may change, checked before any notebook runs."""

import ast
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import papermill

from kdnb.course.report.execution import NotebookError
from kdnb.course.text import listed
from kdnb.evaluation.cost import require_seconds
from kdnb.experiment.methods import check_each, check_seed, check_seeds
from kdnb.losses import check_soft_weight, check_temperature


def parse_parameters(
    notebooks: Sequence[Path], settings: Sequence[str]
) -> dict[Path, dict[str, object]]:
    """Turn "name=value" texts into the parameters of each notebook that knows the name.

    Raises `NotebookError` for a name that no notebook knows or that is set twice, and for a value
    of the wrong type or outside the notebook's range.
    """
    known = {path: papermill.inspect_notebook(path) for path in notebooks}
    chosen: dict[Path, dict[str, object]] = {path: {} for path in notebooks}
    seen = set()
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise NotebookError(f"--set takes name=value, got {setting!r}")
        if name == "task":
            raise NotebookError(f"the task is chosen with --task, got --set {setting}")
        takers = [path for path in notebooks if name in known[path]]
        if not takers:
            names = sorted({n for parameters in known.values() for n in parameters} - {"task"})
            raise NotebookError(f"unknown parameter {name!r}: the notebooks have {names}")
        if name in seen:
            raise NotebookError(f"{name} is set twice, the second time to {text!r}: set it once")
        seen.add(name)
        for path in takers:
            default = ast.literal_eval(known[path][name]["default"])
            value = _typed(name, text, default)
            try:
                if name in CHECKS:
                    CHECKS[name](value)
            except ValueError as error:
                raise NotebookError(f"--set {name}: {error}") from error
            chosen[path][name] = value
    return chosen


def check_label(parameters: Mapping[Path, Mapping[str, object]], names: Sequence[str]) -> None:
    """Raise `NotebookError` if a notebook is to show a class that the task does not have."""
    for chosen in parameters.values():
        if (label := chosen.get("label")) is not None and label not in names:
            raise NotebookError(
                f"--set label: there is no class {label!r}: choose one of {listed(names)}"
            )


def _typed(name: str, text: str, default: object) -> object:
    if isinstance(default, str) or name in TEXTS:
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = text
    if (isinstance(default, float) or name in FLOATS) and type(value) is int:
        value = float(value)
    if default is not None and type(value) is not type(default):
        raise NotebookError(f"{name} must be like {default!r}, got {text!r}")
    return value


def _seeds(seeds: list) -> None:
    check_seeds(seeds)
    if len(seeds) < 2:
        raise ValueError(f"an interval needs at least 2 seeds, got {seeds}: give a second one")


def _count(fewest: int, value: object) -> None:
    if type(value) is not int or value < fewest:
        raise ValueError(f"the value must be a whole number of at least {fewest}, got {value!r}")


TEXTS = ("label",)  # parameters that are text although their default is None
FLOATS = ("temperature", "soft_weight")  # parameters with decimals although their default is None
# A check of each parameter's value, beyond the type of its default.
CHECKS: Mapping[str, Callable[[object], None]] = {
    "seed": check_seed,
    "seeds": _seeds,
    "ten_class_seeds": lambda seeds: seeds and _seeds(seeds),
    "temperature": lambda value: value is None or check_temperature(value),
    "temperatures": partial(check_each, "temperature", check=check_temperature),
    "soft_weight": lambda value: value is None or check_soft_weight(value),
    "soft_weights": partial(check_each, "soft_weight", check=check_soft_weight),
    "images": partial(_count, 2),
    "seconds": require_seconds,
    "classes": lambda numbers: check_each("class number", numbers, partial(_count, 0), "d"),
}
