"""One source per notebook, three faces: with stubs, with solutions, and without exercises."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from kdnb.course.exercises import BY_KEY
from kdnb.course.report.written import Written
from kdnb.files import PROJECT

EDITIONS = ("student", "instructor", "report")
FOLDER = PROJECT / "editions"
# Tags of an exercise's three cells, and what their ids start with before the exercise's key.
TEXT, ANSWER, CHECK = "exercise", "exercise-answer", "exercise-check"
PREFIXES = {TEXT: "exercise-", ANSWER: "answer-", CHECK: "check-"}
# The tag of the cell that names the line which installs kdnb, and what that line installs.
SETUP, WHEEL = "setup", "./kdnb-*.whl"


def edition(notebook: Path, name: str, source: str = WHEEL) -> NotebookNode:
    """A notebook in the edition "student", "instructor" or "report", without outputs.

    ``source`` is what its first cell installs where kdnb is missing, as pip understands it.
    Raises ValueError for another name, and if an answer's cell belongs to no exercise.
    """
    if name not in EDITIONS:
        raise ValueError(f"unknown edition {name!r}: choose one of {', '.join(EDITIONS)}")
    node = nbformat.read(notebook, as_version=4)
    if name == "report":
        # A report runs where kdnb is.
        node.cells = [c for c in _without_exercises(node.cells) if SETUP not in _tags(c)]
    for cell in node.cells:
        if part_of_exercise(cell) == ANSWER:
            exercise = BY_KEY.get(cell.id.removeprefix(PREFIXES[ANSWER]))
            if exercise is None:
                raise ValueError(
                    f"{notebook.name}: the cell {cell.id} is tagged {ANSWER}, but there is no "
                    "such exercise in kdnb.course.exercises"
                )
            cell.source = exercise.stub if name == "student" else exercise.solved
        if SETUP in _tags(cell):
            cell.source = cell.source.replace(WHEEL, source)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return node


def write_edition(
    name: str, notebooks: Sequence[Path], folder: Path, force: bool = False, source: str = WHEEL
) -> list[Path]:
    """Write an edition of the notebooks into a folder, which is made; returns the files.

    Raises `WouldBeLostError`, and writes nothing, if a file there is not as kdnb wrote it, except
    with ``force``, and if the folder is that of the notebooks.
    """
    made = {path.name: nbformat.writes(edition(path, name, source)) + "\n" for path in notebooks}
    contents = {file: text.encode() for file, text in made.items()}
    written = Written(folder)
    written.require_folder()
    written.require_unchanged(contents, sources=notebooks, contents=contents, force=force)
    written.write(contents)
    return [folder / file for file in contents]


def part_of_exercise(cell: NotebookNode) -> str | None:
    """The tag that makes a cell a part of an exercise; None of other cells."""
    return next((tag for tag in _tags(cell) if tag in PREFIXES), None)


def _tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def _without_exercises(cells: list[NotebookNode]) -> list[NotebookNode]:
    """What is left, less a cell that is nothing but the heading above what was taken out."""
    left: list[NotebookNode] = []
    for before, cell in pairwise([None, *cells]):
        if not part_of_exercise(cell):
            left.append(cell)
        elif left and left[-1] is before and _only_a_heading(before):
            left.pop()
    return left


def _only_a_heading(cell: NotebookNode) -> bool:
    lines = cell.source.strip().splitlines()
    return cell.cell_type == "markdown" and len(lines) == 1 and lines[0].startswith("#")
