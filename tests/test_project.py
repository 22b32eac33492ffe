"""The files of the project agree with one another."""

import ast
import json
import re
import tomllib
import warnings
from importlib.metadata import version
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]


def test_every_pin_is_exact_and_installed():
    for pin in map(Requirement, PINS):
        assert [s.operator for s in pin.specifier] == ["=="], str(pin)
        assert pin.specifier.contains(version(pin.name)), f"{pin}: found {version(pin.name)}"


def test_conda_users_get_the_same_pins():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    assert pip.pop() == "--editable ."
    assert pip == PINS
    (python,) = [d for d in environment["dependencies"] if str(d).startswith("python=")]
    assert Requirement(f"x{PROJECT['requires-python']}").specifier.contains(python[7:] + ".0")


def test_the_engine_imports_only_what_stands_left_of_it():
    """Data flows one way; the course imports the engine and never the other way."""
    order = ["environment", "torchvision_remedy", "data", "models", "losses", "objectives"]
    order += ["tasks", "training", "store", "metrics", "experiment"]
    for position, name in enumerate(order):
        path = ROOT / "kdnb" / name
        files = path.glob("*.py") if path.is_dir() else [path.with_suffix(".py")]
        allowed = {*order[: position + 1], "__init__"}
        for file in files:
            for node in ast.walk(ast.parse(file.read_text())):
                modules = []
                if isinstance(node, ast.ImportFrom) and node.module == "kdnb":
                    modules = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kdnb."):
                    modules = [node.module.split(".")[1]]
                assert set(modules) <= allowed, f"{file.name} imports {modules}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_clean(path):
    notebook = nbformat.read(path, as_version=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nbformat.validate(json.loads(path.read_text()))
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None, cell.id
    assert set(notebook.metadata) == {"kernelspec", "language_info"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_have_the_courses_anatomy(path):
    cells = nbformat.read(path, as_version=4).cells
    title = cells[0].source.splitlines()
    assert title[0].startswith("# ") and title[0].endswith("?"), "the title is a question"
    assert re.search(r"Measured on two CPU cores.*\d+ s", cells[0].source)
    (parameters,) = [c for c in cells if "parameters" in c.metadata.get("tags", [])]
    for line in parameters.source.splitlines():
        assert "#" in line, f"a parameter without a comment: {line}"
    headings = [
        line[3:]
        for c in cells
        if c.cell_type == "markdown"
        for line in c.source.splitlines()
        if line.startswith("## ")
    ]
    places = [headings.index(h) for h in ("Predict", "Exercises", "What this does not show")]
    assert places == sorted(places) and "Touch it" in " ".join(headings)
    assert "provenance_card" in cells[-1].source
    for cell in cells:
        if cell.cell_type == "markdown":
            assert len(cell.source.split()) <= 200, f"{cell.id} is too long to read aloud"


def test_notebook_parameters_agree_with_the_tasks():
    """The defaults that a notebook shows are those that the tasks were made for."""
    from kdnb.tasks import TASKS

    cells = nbformat.read(ROOT / "notebooks/02_conventional_distillation.ipynb", 4).cells
    (source,) = [c.source for c in cells if "parameters" in c.metadata.get("tags", [])]
    values = {}
    exec(source, values)
    for task in TASKS.values():
        assert values["temperature"] == task.temperature
        assert values["soft_weight"] == task.soft_weight
    assert len(values["seeds"]) >= 3
    assert values["temperature"] in values["temperatures"]
    assert values["soft_weight"] in values["soft_weights"]


# Numbers in prose


REFERENCES = sorted((ROOT / "report" / "reference").glob("*.json"))


def notebook_seconds(reference, notebook):
    seconds = reference["cell_seconds"]
    return sum(s for name, s in seconds.items() if name.startswith(f"{notebook}/"))


def in_words(seconds):
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


@pytest.mark.parametrize("path", REFERENCES, ids=lambda p: p.stem)
def test_the_readmes_numbers_are_those_of_the_reference_runs(path):
    reference = json.loads(path.read_text())
    readme = (ROOT / "README.md").read_text()
    (result,) = reference["results"]
    for label, accuracies in result["accuracy"].items():
        (row,) = [line for line in readme.splitlines() if line.startswith(f"| {label} |")]
        assert f"{100 * sum(accuracies) / len(accuracies):.2f} %" in row, (label, row)
    gain = result["gain"]["student + conventional KD"]
    assert (
        f"{100 * gain['mean']:+.2f} ({100 * gain['low']:+.2f} to {100 * gain['high']:+.2f})"
        in readme
    )
    for notebook in NOTEBOOKS:
        (row,) = [line for line in readme.splitlines() if f"(notebooks/{notebook.name})" in line]
        assert f"| {in_words(notebook_seconds(reference, notebook.stem))} |" in row
        title = nbformat.read(notebook, 4).cells[0].source
        name = {"digits": "digits", "mnist": "MNIST"}[path.stem]
        assert f"{name} {in_words(notebook_seconds(reference, notebook.stem))}" in title
    assert in_words(reference["wall_seconds"]) in readme


def test_the_published_bounds_are_met_on_mnist():
    """Teacher at least 99.3 %, distilled student at least 98.9 %, and a gain that is real."""
    (result,) = json.loads((ROOT / "report/reference/mnist.json").read_text())["results"]
    mean = {label: sum(a) / len(a) for label, a in result["accuracy"].items()}
    assert result["images"] == 10_000 and len(result["seeds"]) >= 3
    assert mean["teacher"] >= 0.993
    assert mean["student + conventional KD"] >= 0.989
    assert result["gain"]["student + conventional KD"]["low"] > 0
