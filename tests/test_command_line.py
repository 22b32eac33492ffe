"""Bad requests get one sentence and a status; the doctor tells what is there."""

import os
import subprocess
import sys
from types import ModuleType

import pytest

from kdnb import __main__ as command_line
from kdnb import doctor
from kdnb.course.report.execution import NotebookError, find_notebooks
from kdnb.course.report.parameters import parse_parameters
from kdnb.data.dataset import DataError
from kdnb.files import data_root, start_folder, store_root


def run(*arguments):
    return command_line.main(list(arguments))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["--task", "cifar"],
            "unknown task 'cifar': choose one of mnist-small, mnist-small-2x5, mnist, mnist-2x5",
        ),
        (["--set", "temprature=4"], "unknown parameter 'temprature': the notebooks have"),
        (["--set", "temperature"], "--set takes name=value, got 'temperature'"),
        (["--set", "temperature=hot"], "temperature must be like 4.0, got 'hot'"),
        (["--set", "seeds=3"], "seeds must be like [0, 1, 2], got '3'"),
        (
            ["--task", "polyps", "--only", "00"],
            "notebook 00 does not fit the task polyps: choose from 01, 02, 03, 04, 05, 06",
        ),
        (["--only", "77"], "no notebook '77': there are 00, 01, 02"),
    ],
)
def test_bad_requests(arguments, says, capsys, tmp_path):
    assert run("report", "--output", str(tmp_path), *arguments) == 1
    error = capsys.readouterr().err
    assert says in error and len(error.strip().splitlines()) == 1
    assert not list(tmp_path.glob("*.html"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--cell-timeout", "0"], "a cell needs at least 1 second, got --cell-timeout 0"),
        (["--cell-timeout", "-5"], "got --cell-timeout -5"),
        (
            ["--task", "mnist-small", "mnist-small"],
            "the task mnist-small is named twice: name each task once",
        ),
        (["--task", "a.py:b", "mnist", "a:b"], "the task a.py:b is named twice"),
        (["--set", "label=11"], "there is no class '11': choose one of 0, 1, 2"),
        (["--set", "seconds=0"], "seconds must be a positive number such as 0.3, got 0.0"),
        (["--output", "~nobody-here/report"], "no home folder for '~nobody-here/report'"),
    ],
)
def test_more_bad_requests(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "kdnb.course.report.pipeline.execute", lambda *_, **__: pytest.fail("it ran")
    )
    assert run("report", "--output", str(tmp_path), *arguments) == 1
    error = capsys.readouterr().err
    assert says in error and len(error.strip().splitlines()) == 1


@pytest.mark.parametrize("where", ["file", "file/within", "/proc/nowhere"])
def test_a_folder_that_cannot_be_written_is_said_before_anything_runs(where, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run("report", "--only", "00", "--output", str(tmp_path / where)) == 1
    error = capsys.readouterr().err
    assert "give --output a writable folder" in error and "gone, about" not in error


@pytest.mark.parametrize("name", ["KDNB_RUNS", "KDNB_DATA", "KDNB_START"])
def test_a_tilde_is_the_readers_home(name, tmp_path, monkeypatch):
    folders = {"KDNB_RUNS": store_root, "KDNB_DATA": data_root, "KDNB_START": start_folder}
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(name, "~/kd")
    assert folders[name]() == tmp_path / "kd"
    monkeypatch.setenv(name, "a~b/~c")  # only the first letter says so
    assert folders[name]().name == "~c"
    monkeypatch.setenv(name, "~nobody-here/kd")
    with pytest.raises(DataError, match="no home folder for '~nobody-here/kd': write the path out"):
        folders[name]()


def small_task(monkeypatch, tmp_path, task):
    """Named mine:small on the command line."""
    module = ModuleType("mine")
    module.small = task
    monkeypatch.setitem(sys.modules, "mine", module)
    monkeypatch.setenv("KDNB_START", str(tmp_path))


@pytest.mark.parametrize("seeds", [["0"], ["4294967295"], ["0", "1"]])
def test_a_sweep_prints_what_it_found(seeds, monkeypatch, tmp_path, tiny_task, capsys):
    small_task(monkeypatch, tmp_path, tiny_task)
    grid = ["--temperature", "4", "2", "--soft-weight", "0.5"]
    assert run("sweep", "--task", "mine:small", *grid, "--seed", *seeds) == 0
    said = capsys.readouterr().out.splitlines()
    table = said[said.index("") + 1 :]
    plural = "s" * (len(seeds) > 1)
    assert table[0] == f"validation accuracy on 40 images, {len(seeds)} seed{plural}"
    rows = table[1:4]
    assert [row.split("  ")[0] for row in rows] == [
        "student without teacher", "T = 4, soft_weight = 0.5", "T = 2, soft_weight = 0.5",
    ]  # fmt: skip
    # A mean and two ends; of a gain the level of its interval.
    assert [row.count(" %") for row in rows] == ([3, 4, 4] if plural else [1, 1, 1])
    assert (
        "one seed has no interval: give --seed a second number to compare methods" in table
    ) != bool(plural)
    assert table[-1].startswith(f"{3 * len(seeds)} students, ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["4", "4"], "give at least one temperature and each only once, got [4.0, 4.0]"),
        (["4", "nan"], "temperature must be positive and finite, got nan"),
        (["4", "--seed", "0", "-3"], "a seed must be a whole number from 0 to 4294967295, got -3"),
        (["4", "--seed", "3", "3"], "give at least one seed and each only once, got [3, 3]"),
        (["4", "--workers", "0"], "at least 1 and without a scheduler's address, got 0"),
        (
            ["4", "--scheduler", "localhost"],
            "no Dask scheduler answers at 'localhost': missing port",
        ),
    ],
)
def test_a_sweep_trains_nothing_before_its_numbers_fit(
    arguments, says, monkeypatch, tmp_path, tiny_task, capsys
):
    small_task(monkeypatch, tmp_path, tiny_task)
    start = ["sweep", "--task", "mine:small", "--seed", "0", "1", "--soft-weight", "0.5"]
    assert run(*start, "--temperature", *arguments) == 1
    said = capsys.readouterr()
    assert says in said.err and len(said.err.strip().splitlines()) == 1 and not said.out
    assert not list(tmp_path.glob("runs/run-*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
        {"COLUMNS": "10", "TERM": "dumb", "NO_COLOR": "1"},
        {"MPLBACKEND": "nonsense"},
        {"MPLBACKEND": "module://nowhere.at_all"},
    ],
)
def test_any_terminal_shows_the_sentence(environment, tmp_path):
    command = [sys.executable, "-m", "kdnb", "report", "--only", "ü×"]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
        encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("kdnb: no notebook '") and len(done.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("threads", [None, "3"])
def test_what_one_of_several_tasks_raises_is_said(threads, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KDNB_DATA", str(tmp_path / "none"))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if threads:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    tasks = ("--task", "cifar", "mhist")
    assert run("report", *tasks, "--output", str(tmp_path)) == 1
    assert "unknown task 'cifar'" in capsys.readouterr().err
    assert os.environ.get("OMP_NUM_THREADS") == threads


def test_missing_mnist_is_said_before_any_notebook_runs(tmp_path, monkeypatch, capsys):
    from kdnb.torchvision_remedy import import_torchvision

    loader = import_torchvision().datasets.MNIST
    monkeypatch.setattr(loader, "mirrors", ["http://127.0.0.1:9/"])  # nobody listens there
    monkeypatch.setenv("KDNB_DATA", str(tmp_path / "none"))
    assert run("report", "--task", "mnist", "--output", str(tmp_path)) == 1
    assert "could not be downloaded" in capsys.readouterr().err


def test_missing_mhist_is_said_before_any_notebook_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KDNB_DATA", str(tmp_path / "none"))
    assert run("report", "--task", "mhist", "--output", str(tmp_path)) == 1
    assert "its authors give it to those who sign their agreement" in capsys.readouterr().err


def test_unwritable_store_is_said_before_any_notebook_runs(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KDNB_RUNS", str(tmp_path / "file" / "runs"))
    assert run("report", "--output", str(tmp_path)) == 1
    assert "set KDNB_RUNS to a writable folder" in capsys.readouterr().err


def test_ctrl_c_is_not_a_traceback(tmp_path, monkeypatch, capsys):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("kdnb.course.report.pipeline.execute", stop)
    assert run("report", "--output", str(tmp_path)) == 130
    assert "finished runs are stored" in capsys.readouterr().err


def test_a_parameter_goes_to_the_notebooks_that_know_it():
    notebooks = find_notebooks()
    chosen = parse_parameters(notebooks, ["seeds=[4, 5]", "temperature=8"])
    by_number = {path.name[:2]: parameters for path, parameters in chosen.items()}
    assert by_number["00"] == {"temperature": 8.0}
    assert by_number["01"] == {"seeds": [4, 5]}
    assert by_number["02"] == {"seeds": [4, 5], "temperature": 8.0}
    assert isinstance(by_number["02"]["temperature"], float)


def test_no_notebooks(tmp_path):
    with pytest.raises(NotebookError, match="no notebooks in"):
        find_notebooks(folder=tmp_path)


def test_the_doctor_knows_what_is_missing(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("KDNB_DATA", str(tmp_path))
    found = {finding.name: finding for finding in doctor.examine()}
    assert found["torch"].ok and found["mnist-small"].ok and found["run store"].ok
    assert not found["mnist"].ok and "set KDNB_DATA" in found["mnist"].remedy
    assert all(finding.ok for finding in found.values() if finding.name not in doctor.OPTIONAL)
    assert run("doctor") == 0
    assert "MISSING mnist" in capsys.readouterr().out


def test_the_doctor_sees_another_version(monkeypatch):
    monkeypatch.setattr(doctor, "version", lambda name: "0.1" if name == "torch" else "2.13.0")
    found = {finding.name: finding for finding in doctor.examine()}
    assert not found["torch"].ok and "torch>=2.9" in found["torch"].remedy


def test_the_doctor_sees_a_corrupt_mnist(monkeypatch, tmp_path):
    from kdnb.data.mnist import FILES

    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in FILES:
        (raw / name).write_bytes(b"short")
    monkeypatch.setenv("KDNB_DATA", str(tmp_path))
    finding = doctor.examine("mnist")[0]
    assert not finding.ok and "truncated: 5 of" in finding.found


@pytest.mark.slow
def test_help_works_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "kdnb", "report", "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "--task" in done.stdout and "--set NAME=VALUE" in done.stdout
