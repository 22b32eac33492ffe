"""Bad requests get one sentence and a status; the doctor tells what is there."""

import os
import subprocess
import sys

import pytest

from kdnb import __main__ as command_line
from kdnb import doctor
from kdnb.course.execution import NotebookError, find_notebooks, parse_parameters


def run(*arguments):
    return command_line.main(list(arguments))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["--task", "cifar"],
            "unknown task 'cifar': choose one of digits, digits-2x5, mnist, mnist-2x5",
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
    assert "its authors give it to whoever signs their agreement" in capsys.readouterr().err


def test_unwritable_store_is_said_before_any_notebook_runs(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KDNB_RUNS", str(tmp_path / "file" / "runs"))
    assert run("report", "--output", str(tmp_path)) == 1
    assert "set KDNB_RUNS to a folder that you can write" in capsys.readouterr().err


def test_ctrl_c_is_not_a_traceback(tmp_path, monkeypatch, capsys):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("kdnb.course.pipeline.execute", stop)
    assert run("report", "--output", str(tmp_path)) == 130
    assert "finished runs are kept" in capsys.readouterr().err


def test_a_parameter_goes_to_the_notebooks_that_know_it():
    notebooks = find_notebooks()
    chosen = parse_parameters(notebooks, ["task=mnist", "seeds=[4, 5]", "temperature=8"])
    by_number = {path.name[:2]: parameters for path, parameters in chosen.items()}
    assert by_number["00"] == {"task": "mnist", "temperature": 8.0}
    assert by_number["01"] == {"task": "mnist", "seeds": [4, 5]}
    assert by_number["02"] == {"task": "mnist", "seeds": [4, 5], "temperature": 8.0}
    assert isinstance(by_number["02"]["temperature"], float)


def test_no_notebooks(tmp_path):
    with pytest.raises(NotebookError, match="no notebooks in"):
        find_notebooks(folder=tmp_path)


def test_the_doctor_knows_what_is_missing(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("KDNB_DATA", str(tmp_path))
    found = {finding.name: finding for finding in doctor.examine()}
    assert found["torch"].ok and found["digits"].ok and found["run store"].ok
    assert not found["mnist"].ok and "set KDNB_DATA" in found["mnist"].remedy
    assert all(finding.ok for finding in found.values() if finding.name not in doctor.OPTIONAL)
    assert run("doctor") == 0
    assert "MISSING mnist" in capsys.readouterr().out


def test_the_doctor_sees_another_version(monkeypatch):
    monkeypatch.setattr(doctor, "version", lambda name: "0.1" if name == "torch" else "2.13.0")
    found = {finding.name: finding for finding in doctor._packages()}
    assert not found["torch"].ok and "torch==2.13.0" in found["torch"].remedy


def test_the_doctor_sees_a_corrupt_mnist(monkeypatch, tmp_path):
    from kdnb.data.mnist import FILES

    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in FILES:
        (raw / name).write_bytes(b"short")
    monkeypatch.setenv("KDNB_DATA", str(tmp_path))
    finding = doctor._mnist()
    assert not finding.ok and "truncated: 5 of" in finding.found


def test_help_works_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "kdnb", "report", "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "--task" in done.stdout and "--set NAME=VALUE" in done.stdout
