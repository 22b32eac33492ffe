"""Running notebooks headless: what fails is said, and what ran is kept."""

import json
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from kdnb.course.report import execution
from kdnb.course.report.execution import NotebookError, execute, require_complete

pytestmark = pytest.mark.slow


@pytest.fixture
def notebook(tmp_path):
    def make(*sources):
        path = tmp_path / "10_small.ipynb"
        first = new_code_cell("value = 1  # a number", metadata={"tags": ["parameters"]})
        cells = [new_markdown_cell("# Small?"), first, *map(new_code_cell, sources)]
        metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        metadata["language_info"] = {"name": "python"}
        nbformat.write(new_notebook(cells=cells, metadata=metadata), path)
        return path

    return make


def test_parameters_arrive_and_cells_are_told(notebook, tmp_path):
    told = []
    source = "import os; print(value, os.environ['KDNB_HEADLESS'], os.getcwd())"
    executed = execute(notebook(source), tmp_path / "out.ipynb", {"value": 7}, on_cell=told.append)
    (output,) = executed.cells[-1].outputs
    assert output.text == f"7 1 {tmp_path}\n"
    assert [cell.number for cell in told] == [1, 2, 3, 4] and told[-1].total == 4


def test_relative_data_folders_mean_the_callers(notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDNB_DATA", "some/data")
    source = "import os; print(os.environ['KDNB_DATA'])"
    executed = execute(notebook(source), tmp_path / "out.ipynb", {})
    assert executed.cells[-1].outputs[0].text == f"{tmp_path}/some/data\n"
    assert execution.os.environ["KDNB_DATA"] == "some/data"


def test_a_failing_cell(notebook, tmp_path):
    path = notebook("print('before')", "1 / 0", "print('after')")
    with pytest.raises(
        NotebookError, match=r"10_small.ipynb stopped: ZeroDivisionError: .*cells that ran are in"
    ):
        execute(path, tmp_path / "out.ipynb", {})
    kept = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert any("before" in str(cell.get("outputs")) for cell in kept.cells)


def test_a_dead_kernel(notebook, tmp_path):
    path = notebook("print('before')", "import os; os._exit(1)", "print('after')")
    with pytest.raises(NotebookError, match="its kernel died"):
        execute(path, tmp_path / "out.ipynb", {})
    assert "before" in (tmp_path / "out.ipynb").read_text()


@pytest.fixture
def stillborn(monkeypatch):
    """Makes the next kernels die at their start; returns the numbers of the ports that they had."""
    ports, manager = [], execution.OwnInterpreter

    def die(times):
        def command(self, *args, **kwargs):
            ports.append(self.shell_port)
            if len(ports) <= times:
                return [sys.executable, "-c", "raise SystemExit(1)"]
            return whole(self, *args, **kwargs)

        whole = manager.format_kernel_cmd
        monkeypatch.setattr(manager, "format_kernel_cmd", command)
        return ports

    return die


def test_a_kernel_that_dies_at_its_start_is_started_again(notebook, tmp_path, stillborn):
    """Its ports were free when they were chosen, and another program had them when it came."""
    ports, told = stillborn(2), []
    executed = execute(notebook("print(value)"), tmp_path / "out.ipynb", {}, on_cell=told.append)
    assert executed.cells[-1].outputs[0].text == "1\n"
    assert [cell.number for cell in told] == [1, 2, 3]
    assert len(ports) == len(set(ports)) == 3  # others each time


def test_kernels_that_always_die_at_their_start(notebook, tmp_path, stillborn):
    ports = stillborn(100)
    with pytest.raises(NotebookError, match=r"10_small.ipynb stopped: its kernel died 3 times at"):
        execute(notebook("print(value)"), tmp_path / "out.ipynb", {})
    assert len(ports) == 3


def test_a_cell_that_takes_too_long(notebook, tmp_path):
    path = notebook("import time; time.sleep(600)")
    with pytest.raises(NotebookError, match="a cell took longer than 1 s"):
        execute(path, tmp_path / "out.ipynb", {}, cell_timeout=1)
    assert "sleep" in (tmp_path / "out.ipynb").read_text()


@pytest.mark.parametrize("variable", ["JUPYTER_PATH", "JUPYTER_DATA_DIR", "IPYTHONDIR"])
def test_the_running_interpreter_is_used(notebook, tmp_path, monkeypatch, variable):
    """Whatever else is called python3: here a program that only fails."""
    kernel = tmp_path / "mine" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    about = {"argv": ["/bin/false", "{connection_file}"], "display_name": "?", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(about))
    monkeypatch.setenv(variable, str(tmp_path / "mine"))
    executed = execute(notebook("import sys; print(sys.executable)"), tmp_path / "out.ipynb", {})
    assert executed.cells[-1].outputs[0].text == f"{sys.executable}\n"


SETTINGS = """
import matplotlib, os
print(matplotlib.rcParams["text.usetex"], matplotlib.rcParams["font.size"])
print(matplotlib.get_backend(), "broken" in globals(), "started" in os.environ)
"""


def test_a_readers_settings_stay_out_of_a_report(notebook, tmp_path, monkeypatch):
    home = tmp_path / "home"
    startup = home / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("broken = True\nraise SystemExit\n")
    (home / "startup.py").write_text("import os; os.environ['started'] = '1'")
    (home / "matplotlibrc").write_text("text.usetex: True\nfont.size: 42\nbackend: tkagg\n")
    (home / "jupyter_config.py").write_text("raise ValueError\n")
    for name, value in {
        "IPYTHONDIR": home / "ipython", "PYTHONSTARTUP": home / "startup.py",
        "MATPLOTLIBRC": home / "matplotlibrc", "MPLBACKEND": "nonsense",
        "JUPYTER_CONFIG_DIR": home,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, str(value))
    executed = execute(notebook(SETTINGS), tmp_path / "out.ipynb", {})
    said = executed.cells[-1].outputs[0].text.splitlines()
    assert said[0] == "False 10.0"
    assert "inline" in said[1] and said[1].endswith("False False")
    assert execution.os.environ["MPLBACKEND"] == "nonsense"


def test_papermills_word_is_not_enough(notebook, tmp_path):
    """A cell stamped as completed that never ran, and one that shows an error."""
    executed = execute(notebook("1 + 1", "2 + 2"), tmp_path / "out.ipynb", {})
    require_complete(executed, tmp_path / "10_small.ipynb", tmp_path / "out.ipynb")
    assert executed.cells[-1].metadata.papermill.status == "completed"
    executed.cells[-1].execution_count = None
    with pytest.raises(NotebookError, match="did not run"):
        require_complete(executed, tmp_path / "10_small.ipynb", tmp_path / "out.ipynb")
    executed.cells[-1].execution_count = 4
    executed.cells[-1].outputs = [
        nbformat.v4.new_output("error", ename="E", evalue="v", traceback=[])
    ]
    with pytest.raises(NotebookError, match="shows an error"):
        require_complete(executed, tmp_path / "10_small.ipynb", tmp_path / "out.ipynb")
