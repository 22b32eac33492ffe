"""A module of the reader's own: imported by name or path without harm, or refused in a sentence."""

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdnb import tasks
from kdnb.__main__ import main
from kdnb.tasks.modules import imported, settings_kept

NETWORK = """
import torch
from torch import nn
from kdnb.data import ImageTensors
from kdnb.tasks.custom import custom_task
from kdnb.training.config import TrainConfig

def net(num_classes):
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(48, num_classes))

def data():
    images = torch.arange(42 * 768).remainder(251).to(torch.uint8).view(42, 3, 16, 16)
    return ImageTensors(images, torch.arange(3).repeat(14))()

quick = TrainConfig(epochs=1, batch_size=16, learning_rate=1e-2)
t = custom_task("mine", data, net, net, teacher_config=quick, student_config=quick)
"""
numbers = itertools.count()  # no two modules of these tests have one name


@pytest.fixture
def start(tmp_path, monkeypatch) -> Path:
    """The folder in which the command is started."""
    monkeypatch.setenv("KDNB_START", str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def write(folder: Path, content: str | bytes = "x = 1", name: str = "") -> str:
    """A new module in ``folder``; returns its name."""
    name = name or f"its_module_{next(numbers)}"
    folder.mkdir(parents=True, exist_ok=True)
    content = content if isinstance(content, bytes) else content.encode()
    (folder / f"{name}.py").write_bytes(content)
    return name


def refusal(place: str) -> str:
    with pytest.raises(ValueError, match=r"\w") as raised:
        tasks.task(place)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# Where it is found


@pytest.mark.parametrize(
    ("folder", "place"),
    [
        (".", "{name}"),
        (".", "{name}.py"),
        (".", "./{name}.py"),
        (".", "./{name}"),
        ("folder", "folder/{name}.py"),
        ("a/b-c/d", "a/b-c/d/{name}.py"),
        ("a:b", "a:b/{name}.py"),
        ("my nets", "./my nets/{name}.py"),
        ("folder", "{start}/folder/{name}.py"),
        ("folder", "folder/../folder/{name}.py"),
    ],
)
def test_a_module_is_found_by_name_and_by_path(start, folder, place):
    name = write(start / folder, NETWORK)
    task = tasks.task(place.format(name=name, start=start) + ":t")
    assert task.name == "mine" and task.teacher.make.__module__ == name


def test_a_path_from_home_and_a_package(start, monkeypatch):
    monkeypatch.setenv("HOME", str(start / "home"))
    name = write(start / "home" / "nets", "x = 2")
    assert imported(f"~/nets/{name}.py").x == 2
    package = f"its_package_{next(numbers)}"
    write(start / package, "x = 3", "__init__")
    write(start / package, "from . import x\ny = x + 1", "inside")
    assert imported(f"./{package}").x == 3
    assert imported(f"{package}.inside").y == 4


def test_two_names_of_one_module_are_one_module(start):
    name = write(start, NETWORK)
    places = [name, f"{name}.py", f"./{name}.py", f"{start}/{name}.py"]
    assert len({id(imported(place)) for place in places}) == 1


def test_one_name_in_two_folders_is_refused_and_not_mixed_up(start):
    name = write(start / "one", "x = 1")
    write(start / "other", "x = 2", name)
    assert imported(f"one/{name}.py").x == 1
    assert re.search(f"other/{name}.py has the name of .*one/{name}.py", refusal(f"other/{name}:t"))


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("./none.py:t", r"there is no file .*none.py: name one"),
        ("none/x.py:t", r"there is no file .*none/x.py: name one"),
        ("/none/x:t", r"there is no file /none/x.py: name one"),
        (":t", "is called my_module:my_task, got '' as module"),
        ("..mod:t", "is called my_module:my_task, got '..mod' as module"),
        ("a..b:t", "is called my_module:my_task, got 'a..b' as module"),
        ("./dotted.name.py:t", "cannot import .*dotted.name.py: give it a name without dots"),
        ("no_such_module_1:t", "there is no module no_such_module_1 in"),
        ("no_such_package_1.net:t", "No module named 'no_such_package_1'"),
        ("no_such_module_1.py", "unknown task 'no_such_module_1.py'"),
    ],
)
def test_what_is_not_there_is_said(start, place, says):
    write(start, name="dotted.name")
    assert re.search(says, refusal(place))


def test_a_module_without_the_name_of_a_task_is_asked_for_it(start):
    name = write(start)
    assert f"name it: {name}:my_task" in refusal(f"{name}:")


@pytest.mark.parametrize(
    "name", ["random", "statistics", "types", "colorsys", "torch", "yaml", "papermill", "kdnb"]
)
@pytest.mark.parametrize("place", ["{}:t", "nets/{}.py:t"])
def test_a_module_with_the_name_of_another_is_refused(start, name, place):
    write(start / ("nets" if "/" in place else "."), "raise RuntimeError", name)
    said = refusal(place.format(name))
    assert re.search(rf"/{name}\.py has the name of another module \(.*\): rename it$", said)


@pytest.mark.slow
def test_names_of_other_modules_beside_it_harm_nothing(start):
    """Started there, Python would take its own `random` from that folder."""
    for name in ("random", "yaml", "torch", "numbers"):
        write(start, "raise RuntimeError('taken for another')", name)
    name = write(start, NETWORK)
    command = [sys.executable, "-m", "kdnb", "sweep", "--task", f"./{name}.py:t"]
    command += ["--temperature", "1", "--soft-weight", ".5", "--seed", "0", "1", "--workers", "1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=start, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "4 students" in done.stdout


# What it does when it is imported


def test_a_module_sees_no_arguments_of_the_command(start, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["kdnb", "report", "--task", "x:t"])
    text = "import sys\nfrom argparse import ArgumentParser\np = ArgumentParser()\n"
    text += "p.add_argument('--epochs', type=int, default=3)\nn = p.parse_args().epochs\n"
    assert imported(write(start, f"{text}seen = list(sys.argv)")).seen == ["kdnb"]
    assert sys.argv == ["kdnb", "report", "--task", "x:t"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("import sys\nsys.exit()", "ends the program when it is imported: put code that reads"),
        ("import sys\nsys.exit('no data')", "ends the program with 'no data' when"),
        ("raise SystemExit(0)", "ends the program with 0 when"),
        (
            "import argparse as a\np = a.ArgumentParser()\np.add_argument('data')\np.parse_args()",
            "ends the program with 2 when",
        ),
        ("assert 1 > 2", "cannot be imported: AssertionError$"),
        ("raise RuntimeError('one\\ntwo')", "cannot be imported: RuntimeError: one$"),
        ("{}['epochs']", "cannot be imported: KeyError: 'epochs'$"),
        ("import its_missing_part", "ModuleNotFoundError: No module named 'its_missing_part'$"),
        ("if True\n  pass", r"SyntaxError: .*\.py, line 1\)$"),
    ],
)
def test_a_module_that_fails_is_one_sentence_and_leaves_the_arguments(start, content, says):
    arguments = list(sys.argv)
    assert re.search(says, refusal(f"{write(start, content)}:t"))
    assert sys.argv == arguments


SETTINGS = {
    "torch's default type of numbers to torch.float64": "torch.set_default_dtype(torch.float64)",
    "torch's default type of numbers to torch.bfloat16": "torch.set_default_dtype(torch.bfloat16)",
    "whether torch computes gradients to False": "torch.set_grad_enabled(False)",
    "torch's default device to meta": "torch.set_default_device('meta')",
    "the working directory to /": "import os; os.chdir('/')",
}


@pytest.mark.parametrize("says", SETTINGS)
def test_what_a_module_sets_for_the_whole_process_is_put_back_and_said(start, says):
    before = process()
    name = write(start, f"import torch\n{SETTINGS[says]}\n{NETWORK}")
    with pytest.warns(UserWarning, match=f"the module {name} sets {says} .* has undone") as told:
        task = tasks.task(f"{name}:t")
    assert len(told) == 1 and process() == before
    assert task.teacher(num_classes=3)(torch.rand(2, 3, 16, 16)).requires_grad


def process() -> tuple:
    return (
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.get_default_device(),
        Path.cwd(),
    )


@given(st.lists(st.sampled_from(sorted(SETTINGS)), max_size=4), st.booleans())
@settings(max_examples=20, deadline=None)
def test_any_settings_are_put_back_even_if_the_code_fails(chosen, fails):
    before = process()

    def run():
        with settings_kept("it"):
            for each in chosen:
                exec(SETTINGS[each], {"torch": torch})
            if fails:
                raise RuntimeError

    if fails:
        with pytest.raises(RuntimeError):
            run()
    elif chosen:
        with pytest.warns(UserWarning, match="^it sets"):
            run()
    else:
        run()
    assert process() == before


# How it is written


@given(
    st.sampled_from(["utf-8", "utf-8-sig", "latin-1", "cp1252", "cp437", "koi8-r", "gbk"]),
    st.text("aéßж中", min_size=1),
)
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_module_in_the_encoding_that_it_names_is_read(start, encoding, text):
    text = text.encode(encoding, "ignore").decode(encoding).strip("\ufeff")
    head = "" if encoding.startswith("utf-8") else f"# -*- coding: {encoding} -*-\n"
    assert imported(write(start, f"{head}x = {text!r}".encode(encoding))).x == text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a = 1\nx = 'naïve'".encode("latin-1"), r"line 2\): save .*\.py as UTF-8, or name its"),
        ("x = '中'".encode("gbk"), "as UTF-8, or name its encoding in the first line"),
        ("x = 1".encode("utf-16"), "null bytes: save .*as UTF-8"),
        ("# coding: klingon\nx = 1", "unknown encoding: klingon .*as UTF-8"),
        (b"\xef\xbb\xbf# coding: latin-1\nx = 1", "with BOM .*as UTF-8"),
    ],
)
def test_another_encoding_is_named_with_its_remedy(start, content, says):
    assert re.search(says, refusal(f"{write(start, content)}:t"))


@pytest.mark.parametrize(
    "content",
    [
        f"\ufeff{NETWORK}".encode(),
        f"# coding: latin-1\nname = 'é'\n{NETWORK}".encode("latin-1"),
        f"#!/usr/bin/python\n# vim: set fileencoding=cp1252 :\nname = '€'\n{NETWORK}".encode(
            "cp1252"
        ),
    ],
)
def test_a_task_may_stand_in_a_file_of_any_encoding(start, content):
    assert tasks.task(f"{write(start, content)}:t").name == "mine"


def test_the_command_says_it_in_one_sentence(start, capsys):
    name = write(start, "import sys\nsys.exit(3)")
    assert main(["report", "--task", f"./{name}.py:t", "--output", str(start)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"kdnb: the module {name} ends the program with 3")
    assert said.count("\n") == 1
