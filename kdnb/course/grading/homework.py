"""A chapter's exercises as a notebook for nbgrader: answers, visible and hidden tests, points."""

import symtable
from collections.abc import Iterable
from pathlib import Path

import nbformat
import torch
from nbformat import NotebookNode
from torch import Tensor, nn

from kdnb.course.exercises import BY_KEY, Exercise
from kdnb.course.exercises.exercise import Function, Question, numbers
from kdnb.course.report.editions import ANSWER, CHECK, PREFIXES, TEXT, edition, part_of_exercise

SOLUTION, HIDDEN = (
    (f"### BEGIN {what}", f"### END {what}") for what in ("SOLUTION", "HIDDEN TESTS")
)
STUB = "..."  # what nbgrader puts in the place of a solution
INTRODUCTION = """\
# Homework: {title}

Write each answer into its cell. Run the notebook from top to bottom and submit this file under \
its name.

- The cell below an answer holds visible tests. More tests run when your notebook is graded.
- Use Python, NumPy, SciPy and PyTorch. A function that calls one of kdnb's fails the hidden tests.
- Names of answers, and cells that you cannot edit, stay as they are.
- What an exercise calls "above" stands in the section of the course that is named below it."""
GIVEN = '''\
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def expect(found, wanted):
    """Raise AssertionError unless an answer has the shape and the numbers that are wanted."""
    is_tensor = isinstance(found, torch.Tensor)
    found = found.detach().double().numpy() if is_tensor else np.array(found, dtype=float)
    wanted = np.array(wanted, dtype=float)
    shapes = f"The shape is {found.shape} where {wanted.shape} is wanted."
    assert found.shape == wanted.shape, shapes
    assert np.allclose(found, wanted, rtol=1e-4, atol=1e-6), f"{found} where {wanted} is wanted."'''
# Arguments of the visible test where the first case is not a few numbers.
VISIBLE = {
    "frozen_logits": "nn.Flatten(), [(torch.tensor([2, 0]), torch.tensor([[[5., 6.]], [[1., 2.]]]))"
    ", (torch.tensor([1]), torch.tensor([[[3., 4.]]]))]",
    "map_similarity": "torch.tensor([[[0., 1.], [3., 2.]]]), torch.tensor([[[1., 0.], [2., 5.]]])",
    "deletion_area": "torch.mean, torch.tensor([[4., 2.], [1., 3.]]), "
    "torch.tensor([[0.9, -0.2], [0.1, 0.5]]), 2",
}
# A Question that wants several numbers.
SEVERAL = {"which_currency": 2, "allowed_claims": 4}


def homework(notebook: Path) -> NotebookNode | None:
    """The source notebook of a chapter's assignment; None of a chapter without exercises.

    It holds solutions and hidden tests between nbgrader's marks.
    """
    node = edition(notebook, "instructor")
    parts = {cell.id: cell for cell in node.cells if part_of_exercise(cell)}
    asked = [e for e in BY_KEY.values() if PREFIXES[ANSWER] + e.key in parts]
    if not asked:
        return None
    title = node.cells[0].source.splitlines()[0].lstrip("# ")
    cells = [_cell("introduction", INTRODUCTION.format(title=title)), _cell("given", GIVEN)]
    cells += [_cell(cell.id, cell.source) for cell in _facts(node.cells, asked)]
    for exercise in asked:
        text, check = (parts[PREFIXES[tag] + exercise.key].source for tag in (TEXT, CHECK))
        tests = _tests(exercise, check)
        cells.append(_cell(PREFIXES[TEXT] + exercise.key, _text(exercise, text, tests)))
        cells.append(_cell(PREFIXES[ANSWER] + exercise.key, _answer(exercise), solution=True))
        cells += [_cell(name, source, points=points) for name, source, points in tests]
    node.cells = cells
    return node


def setting(cells: Iterable[NotebookNode], wanted: set[str]) -> list[NotebookNode]:
    """Code cells, in order, that set the wanted names, and what they use in turn."""
    kept: list[NotebookNode] = []
    for cell in reversed([c for c in cells if c.cell_type == "code"]):
        set_here, used = names_in(cell.source)
        if set_here & wanted:
            kept.insert(0, cell)
            wanted = (wanted - set_here) | used
    return kept


def names_in(source: str) -> tuple[set[str], set[str]]:
    """(set by a cell, used by it), of the names that cells share."""
    top = symtable.symtable(source, "cell", "exec")
    set_here = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported()}
    used, tables = set(), [top]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        shared = (s for s in table.get_symbols() if table is top or s.is_global())
        used |= {s.get_name() for s in shared if s.is_referenced()}
    return set_here, used


def _facts(cells: list[NotebookNode], asked: list[Exercise]) -> list[NotebookNode]:
    """The cells that compute what Questions are about."""
    questions = {e.key for e in asked if isinstance(e, Question)}
    theirs = {PREFIXES[tag] + key for tag in (ANSWER, CHECK) for key in questions}
    _, used = names_in("\n".join(cell.source for cell in cells if cell.id in theirs))
    others = [cell for cell in cells if not part_of_exercise(cell)]
    return setting(others, used - names_in(GIVEN)[0])


def _cell(
    name: str, source: str, *, solution: bool = False, points: int | None = None
) -> NotebookNode:
    """A cell that students cannot edit, except a solution; one with points is a test."""
    about = {"schema_version": 3, "grade_id": name, "task": False, "solution": solution}
    about |= {"locked": not solution, "grade": points is not None}
    about |= {} if points is None else {"points": points}
    text = name == "introduction" or name.startswith(PREFIXES[TEXT])
    new = nbformat.v4.new_markdown_cell if text else nbformat.v4.new_code_cell
    return new(source, id=name, metadata={"nbgrader": about})


def _text(exercise: Exercise, text: str, tests: list[tuple[str, str, int]]) -> str:
    where = exercise.header.where
    points = " + ".join(str(points) for *_, points in tests)
    below = f"*{points} points.* Read first: {where.heading}, notebook {where.notebook[:2]}."
    if isinstance(exercise, Question):
        below += (
            " Compute the answer in code: your notebook runs on another machine when it is graded."
        )
    return f"{text}\n\n{below}"


def _answer(exercise: Exercise) -> str:
    """The cell of the answer, with the solution between nbgrader's marks."""
    begin, end = SOLUTION
    if isinstance(exercise, Question):
        return "\n".join([exercise.stub, begin, exercise.solved, end])
    *head, last = exercise.stub.splitlines()
    solved = exercise.solved.splitlines()[len(head) :]
    note = last.replace("...  ", "")
    return "\n".join([*head, note, f"    {begin}", *solved, f"    {end}"])


def _tests(exercise: Exercise, check: str) -> list[tuple[str, str, int]]:
    """(name, source, points) of each cell of tests below an answer."""
    key, difficulty = exercise.key, exercise.header.difficulty
    begin, end = HIDDEN
    facts = check.splitlines()[-1].removeprefix(f"exercises.{key}.check(")
    # What an answer's cell gives beside the answer counts as it was given.
    given = exercise.stub.rpartition(f"my_{key} = None")[0]
    required = f'from kdnb.course.grading import require\n\n{given}require("{key}", {facts}'
    hidden = f"# Hidden tests stand here when your notebook is graded.\n{begin}\n{required}\n{end}"
    if isinstance(exercise, Question):
        shape = (SEVERAL[key],) if key in SEVERAL else ()
        visible = f"assert my_{key} is not None and np.shape(my_{key}) == {shape}"
        return [(PREFIXES[CHECK] + key, f"{visible}\n{hidden}", 3 * difficulty)]
    return [
        (f"visible-{key}", f"# Visible test\n{visible_test(exercise)}", difficulty),
        (PREFIXES[CHECK] + key, hidden, 2 * difficulty),
    ]


def visible_test(exercise: Function) -> str:
    """A line that compares an answer with numbers, on one case."""
    given = VISIBLE.get(exercise.key) or ", ".join(map(_written, exercise.cases[0].arguments))
    wanted = exercise.right(*eval(f"({given},)", {"torch": torch, "nn": nn}))
    return f"expect(my_{exercise.key}({given}), {_rounded(numbers(wanted).tolist(), '.6g')})"


def _written(value: object) -> str:
    """An argument as source, its numbers rounded."""
    if isinstance(value, nn.Module):
        return f"nn.{value}"
    if not isinstance(value, Tensor):
        return repr(value)
    if value.dim() > 1 and not value.any():
        return f"torch.zeros{tuple(value.shape)}"
    dtype = f", dtype={value.dtype}" if value.dtype == torch.float64 else ""
    return f"torch.tensor({_rounded(value.tolist(), '.3g')}{dtype})"


def _rounded(value: object, digits: str) -> object:
    if isinstance(value, list):
        return [_rounded(each, digits) for each in value]
    return float(format(value, digits)) if isinstance(value, float) else value
