"""Nothing that only POSIX has is needed, under a path with a space and an umlaut."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kdnb
from kdnb.doctor import OPTIONAL

TESTS = Path(__file__).parent
pytestmark = pytest.mark.slow


@pytest.fixture
def desktop(tmp_path):
    """What a step of tests/desktop.py found, in a fresh process with a copy of kdnb."""
    folder = tmp_path / "My Files für Ümit"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(kdnb.__file__).parent, folder / "kdnb", ignore=ignored)
    (folder / "sitecustomize.py").write_text("import desktop\n\ndesktop.hide()\n", encoding="utf-8")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), str(TESTS)]),
        "PYTHONWARNDEFAULTENCODING": "1",
        "KDNB_RUNS": str(folder / "runs"),
        "KDNB_DATA": str(folder / "data"),
        "OMP_NUM_THREADS": "1",
    }

    def found(step):
        command = [sys.executable, str(TESTS / "desktop.py"), step]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return folder, json.loads(done.stdout.splitlines()[-1])

    return found


def test_every_module_can_be_imported(desktop):
    folder, seen = desktop("import")
    assert Path(seen["file"]).parent == folder / "kdnb"
    modules = len(list((folder / "kdnb").rglob("*.py"))) - 1  # but for kdnb itself
    assert len(seen["modules"]) == modules
    assert seen["refused"] == {
        "import fcntl": "ModuleNotFoundError",
        "from pwd import getpwuid": "ModuleNotFoundError",
        "from os import fork": "ImportError",
        "import os; os.getuid": "AttributeError",
        "import os.path, signal; signal.SIGKILL": "AttributeError",
        "open('sitecustomize.py')": "EncodingWarning",
    }


def test_training_is_stored_stopped_resumed_and_read_back(desktop):
    _, seen = desktop("train")
    assert seen["interrupted"] and seen["continued"] == 1 and seen["loaded"] and seen["same"]
    assert [name.split("-")[0] for name in seen["entries"]] == ["run"]
    assert {finding.split(":")[0] for finding in seen["missing"]} <= set(OPTIONAL)


def test_two_workers_of_this_machine_share_a_sweep(desktop):
    _, seen = desktop("sweep")
    assert seen == {"accuracies": [3, 2], "runs": 8}  # two teachers, too
