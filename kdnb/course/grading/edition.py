"""Writing the graded edition: a course folder of nbgrader with its students' folder."""

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import nbformat

from kdnb.course.grading.homework import STUB, homework
from kdnb.course.grading.package import student_package
from kdnb.course.report.written import Written

TOOL = "nbgrader>=0.9.6,<0.10"
CELL_SECONDS = 120  # the longest cell trains a teacher of mnist-small: 10 s on two cores
CONFIG = f"""\
c = get_config()
c.CourseDirectory.course_id = "kdnb"
c.CourseDirectory.release_directory = "student"
c.ClearSolutions.code_stub = {{"python": "{STUB}"}}
c.Execute.timeout = {CELL_SECONDS}  # seconds for a cell
c.OverwriteCells.add_missing_cells = True  # tests that a student deleted
"""
README = """\
# Graded homework

Hand out the folder `student`. Keep everything else: the source notebooks hold the solutions.

Collect each file as `submitted/STUDENT/ASSIGNMENT/ASSIGNMENT.ipynb`. Activate the environment \
that has kdnb and nbgrader. Then, in this folder:

    nbgrader autograde ASSIGNMENT
    nbgrader generate_feedback ASSIGNMENT
    nbgrader export

The feedback names each misconception (`feedback/STUDENT/ASSIGNMENT/*.html`). `grades.csv` holds \
the marks.

| assignment | points |
| --- | --- |
{points}

Autograding runs students' code on your machine with your rights: use an account or a container \
without anything of value.
"""
FOR_STUDENTS = """\
# Homework

    python -m venv .venv
    .venv/bin/pip install ./{wheel}
    .venv/bin/jupyter lab

On Windows the second and third line begin with `.venv\\Scripts\\`. Open the notebook of an \
assignment, answer, run everything, and submit the file under its name.
"""


def write_graded(notebooks: Sequence[Path], folder: Path, force: bool = False) -> list[Path]:
    """Write the graded edition into a folder and let nbgrader make what students get.

    Returns the folder for students, and that of the sources. Raises ValueError without nbgrader
    and where it fails, `WouldBeLostError` as `write_edition`.
    """
    if find_spec("nbgrader") is None:
        says = f"the graded edition needs nbgrader: {sys.executable} -m pip install '{TOOL}'"
        raise ValueError(says)
    sources = {path.stem: made for path in notebooks if (made := homework(path))}
    wheel, data = student_package()
    rows = (f"| {name} | {_points(made)} |" for name, made in sources.items())
    texts = {
        "nbgrader_config.py": CONFIG,
        "README.md": README.format(points="\n".join(rows)),
        "student/README.md": FOR_STUDENTS.format(wheel=wheel),
    } | {f"source/{n}/{n}.ipynb": nbformat.writes(made) + "\n" for n, made in sources.items()}
    contents = {name: text.encode() for name, text in texts.items()} | {f"student/{wheel}": data}
    released = [f"student/{name}/{name}.ipynb" for name in sources]
    written = Written(folder)
    written.require_folder()
    written.require_unchanged(
        [*contents, *released], sources=notebooks, contents=contents, force=force
    )
    for name in contents:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    written.write(contents)
    with ExitStack() as noting:
        for name in released:
            noting.enter_context(written.noting(name))
        _generate(folder)
    return [folder / "student", folder / "source"]


def _generate(folder: Path) -> None:
    # nbgrader starts the command alembic, which was installed beside it.
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [sys.executable, "-m", "nbgrader", "generate_assignment", "*", "--force"]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"PATH": beside},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode:
        raise ValueError(f"nbgrader could not make the students' notebooks: {done.stdout}")


def _points(made: nbformat.NotebookNode) -> int:
    return sum(cell.metadata.nbgrader.get("points", 0) for cell in made.cells)
