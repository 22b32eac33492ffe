"""One source per notebook, three faces: with stubs, with solutions, and without exercises."""

from collections.abc import Callable, Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from kdnb.course.exercises import BY_KEY
from kdnb.course.exercises.exercise import Exercise
from kdnb.course.report.written import Written
from kdnb.files import PROJECT

EDITIONS = ("student", "instructor", "report")
FOLDER = PROJECT / "editions"
# Tags of an exercise's three cells, and what their ids start with before the exercise's key.
TEXT, ANSWER, CHECK = "exercise", "exercise-answer", "exercise-check"
PREFIXES = {TEXT: "exercise-", ANSWER: "answer-", CHECK: "check-"}


def edition(notebook: Path, name: str) -> NotebookNode:
    """A notebook in the edition "student", "instructor" or "report", without outputs.

    Raises ValueError for another name, and if an answer's cell belongs to no exercise.
    """
    if name not in EDITIONS:
        raise ValueError(f"unknown edition {name!r}: choose one of {', '.join(EDITIONS)}")
    node = nbformat.read(notebook, as_version=4)
    if name == "report":
        node.cells = _without_exercises(node.cells)
    else:
        source = {"student": lambda e: e.stub, "instructor": lambda e: e.solved}[name]
        _fill(node, notebook, source)
    for cell in node.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return node


def write_edition(
    name: str, notebooks: Sequence[Path], folder: Path, force: bool = False
) -> list[Path]:
    """Write an edition of the notebooks into a folder, which is made; returns the files.

    Raises `WouldBeLostError`, and writes nothing, if a file there is not as kdnb wrote it, except
    with ``force``, and if the folder is that of the notebooks.
    """
    made = {path.name: nbformat.writes(edition(path, name)) + "\n" for path in notebooks}
    contents = {file: text.encode() for file, text in made.items()}
    written = Written(folder)
    written.require_folder()
    written.require_unchanged(contents, sources=notebooks, contents=contents, force=force)
    written.write(contents)
    return [folder / file for file in contents]


def part_of_exercise(cell: NotebookNode) -> str | None:
    """The tag that makes a cell a part of an exercise; None of other cells."""
    return next((tag for tag in cell.metadata.get("tags", []) if tag in PREFIXES), None)


def _fill(node: NotebookNode, notebook: Path, source: Callable[[Exercise], str]) -> None:
    for cell in node.cells:
        if part_of_exercise(cell) == ANSWER:
            exercise = BY_KEY.get(cell.id.removeprefix(PREFIXES[ANSWER]))
            if exercise is None:
                raise ValueError(
                    f"{notebook.name}: the cell {cell.id} is tagged {ANSWER}, but there is no "
                    f"such exercise in kdnb.course.exercises"
                )
            cell.source = source(exercise)


def _without_exercises(cells: list[NotebookNode]) -> list[NotebookNode]:
    """What is left, less a cell that is nothing but the heading above what was taken out."""
    left: list[NotebookNode] = []
    for cell, before in zip(cells, [None, *cells[:-1]], strict=True):
        if part_of_exercise(cell):
            if left and left[-1] is before and _only_a_heading(before):
                left.pop()
        else:
            left.append(cell)
    return left


def _only_a_heading(cell: NotebookNode) -> bool:
    lines = cell.source.strip().splitlines()
    return cell.cell_type == "markdown" and len(lines) == 1 and lines[0].startswith("#")
