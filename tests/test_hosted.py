"""The notebooks where kdnb or JupyterLab's extras are missing: Colab, Kaggle, VS Code."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from kdnb.course.report.editions import edition
from kdnb.course.report.execution import find_notebooks

NOTEBOOKS = find_notebooks()
# Runs a cell in this process's Python without kdnb, as a hosted kernel would have it.
ALONE = """
import sys
from importlib import util
found = util.find_spec
util.find_spec = lambda name, *rest: None if name == "kdnb" else found(name, *rest)
exec(sys.stdin.read())
"""
COLAB = """
import sys, types
colab, output = types.ModuleType("google.colab"), types.ModuleType("google.colab.output")
colab.output = output
output.enable_custom_widget_manager = lambda: print("enabled")
sys.modules |= {"google.colab": colab, "google.colab.output": output}
import kdnb.course.interactive
"""


def first_code_cell(notebook):
    return next(cell for cell in notebook.cells if cell.cell_type == "code")


def run(code, folder, stdin=""):
    return subprocess.run(
        [sys.executable, "-c", code], input=stdin, capture_output=True, text=True, cwd=folder
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_the_first_cell_is_the_same_everywhere(path):
    cell = first_code_cell(nbformat.read(path, as_version=4))
    assert cell.metadata.tags == ["setup"]
    assert cell.source == first_code_cell(nbformat.read(NOTEBOOKS[0], as_version=4)).source


@pytest.mark.parametrize("hosted", [True, False], ids=["hosted", "checkout"])
def test_where_kdnb_is_missing_the_first_cell_names_the_line_that_installs_it(hosted, tmp_path):
    folder = tmp_path if hosted else Path(NOTEBOOKS[0]).parent
    ended = run(ALONE, folder, first_code_cell(edition(NOTEBOOKS[0], "student")).source)
    line = "%pip install ./kdnb-*.whl" if hosted else "%pip install --editable .."
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: kdnb is not installed.") and line in last


def test_a_lecturers_edition_installs_from_the_lecturers_copy(tmp_path):
    address = "git+https://example.org/course/kdnb"
    cell = first_code_cell(edition(NOTEBOOKS[0], "student", source=address))
    assert f"%pip install {address}" in run(ALONE, tmp_path, cell.source).stderr


def test_where_kdnb_is_installed_the_first_cell_is_silent(tmp_path):
    ended = run(first_code_cell(edition(NOTEBOOKS[0], "student")).source, tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_a_report_needs_no_such_cell():
    assert "setup" not in [cell.id for cell in edition(NOTEBOOKS[0], "report").cells]


def test_in_colab_widgets_are_switched_on(tmp_path):
    ended = run(COLAB, tmp_path)
    assert ended.stdout == "enabled\n", ended.stderr
