"""Fast tests first, small data for all of them, and nothing of the reader's own is touched."""

import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # workers must not fight; torch reads it when imported

import pytest
import torch
from lab import CHROMIUM_FLAGS, opened_in_lab
from playwright.sync_api import sync_playwright
from torch import nn

from kdnb.course.exercises import attempt
from kdnb.course.figures import Picture
from kdnb.data import Dataset, Split
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import ALONE
from kdnb.store.store import Store
from kdnb.tasks.config import SubclassConfig, SubclassConfigs, Task, TaskText
from kdnb.training import checkpoint
from kdnb.training.config import TrainConfig
from kdnb.training.objectives import MutualInformation

collect_ignore = ["bench"]


# Files with tests of the report, which takes longest to make, or with fixtures from it.
OF_THE_REPORT = {
    path.name for path in Path(__file__).parent.glob("test_*.py")
    if re.search(r"def \w+\([^)]*\breports\b", path.read_text(encoding="utf-8"))
}  # fmt: skip


def pytest_collection_modifyitems(items):
    """Fast tests first; with several workers one of them begins with the report."""
    alone = "PYTEST_XDIST_WORKER" not in os.environ
    items.sort(key=lambda item: (alone or item.path.name not in OF_THE_REPORT, is_slow(item)))


def is_slow(item) -> bool:
    return item.get_closest_marker("slow") is not None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """One worker runs all tests of a file, and one all files of the report, which it makes once."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.split("::")[0]
            return "report" if Path(file).name in OF_THE_REPORT else file

    return ByFile(config, log)


@pytest.fixture(autouse=True)
def own_runs(tmp_path, monkeypatch):
    """Every test has a run store of its own, and none downloads weights."""
    monkeypatch.setenv("KDNB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("KDNB_WEIGHTS", "random")


@pytest.fixture
def drawn(monkeypatch):
    """The figures that become pictures from now on."""
    kept, real = [], Picture.__init__

    def keep(picture, figure, alt):
        kept.append(figure)
        real(picture, figure, alt)

    monkeypatch.setattr(Picture, "__init__", keep)
    return kept


@pytest.fixture(scope="session")
def chromium():
    """Path of a Chromium; CI must have one, a reader's machine may do without these tests."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if not found:  # what `playwright install chromium` fetched, on any system
        with sync_playwright() as playwright:
            found = playwright.chromium.executable_path
    if not Path(found).is_file():
        wanted = "run `playwright install chromium` (Debian: apt install chromium)"
        if os.environ.get("CI"):
            pytest.fail(f"CI needs Chromium: {wanted}")
        # No Python package, so `make` cannot install it. Only a reader's machine comes here, where
        # all else is tested; CI has failed above.
        pytest.skip(f"browser tests need Chromium: {wanted}")
    return found


@pytest.fixture(scope="session")
def browser(chromium):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def jupyterlab(browser, tmp_path):
    """``with jupyterlab(notebook, runs=store) as page``: open in JupyterLab, all cells running."""
    return partial(opened_in_lab, browser, tmp_path)


@pytest.fixture(scope="session")
def reports(tmp_path_factory):
    """What `make report` makes, from an empty run store; returns (folder, run store)."""
    folder, runs = tmp_path_factory.mktemp("report"), tmp_path_factory.mktemp("runs")
    command = [sys.executable, "-m", "kdnb", "report", "--task", "mnist-small", "polyps"]
    command += ["--output", str(folder)]
    # From another folder, and without data or a network: these two tasks need none.
    environment = {
        **os.environ,
        "KDNB_RUNS": str(runs),
        "KDNB_DATA": str(folder / "none"),
        "KDNB_WEIGHTS": "random",
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for task in ("mnist-small", "polyps"):
        assert f"{folder / task}.html" in done.stdout
        assert f"{task} [1/" in done.stderr
    return folder, runs


def random_split(images: int, seed: int, classes: int = 4, size: int = 28) -> Split:
    """Images whose class can be learnt: one quarter is brighter, by class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (images,), generator=generator)
    pixels = torch.randint(0, 120, (images, 1, size, size), generator=generator)
    half = size // 2
    for image, label in zip(pixels, labels.tolist(), strict=True):
        y, x = divmod(label % 4, 2)
        image[:, y * half : (y + 1) * half, x * half : (x + 1) * half] += 60
    return Split(pixels.to(torch.uint8), labels)


@pytest.fixture(scope="session")
def tiny() -> Dataset:
    """A dataset of 4 classes: 96 training, 40 validation, 40 test images."""
    return tiny_dataset()


def tiny_dataset(val_seed: int = 1) -> Dataset:
    splits = (random_split(96, 0), random_split(40, val_seed), random_split(40, 2))
    return Dataset("tiny", "made for tests", ("a", "b", "c", "d"), *splits)


class TinyTeacher(nn.Module):
    """All that a teacher's state may hang on: convolution, batch norm (buffers) and dropout."""

    def __init__(self, num_classes=4, subclasses=1):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 5, stride=4),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(4 * 6 * 6, num_classes * subclasses),
        )

    def forward(self, images):
        return self.layers(images)


def tiny_student(num_classes: int = 4, subclasses: int = 1) -> nn.Module:
    outputs = num_classes * subclasses
    return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 8), nn.ReLU(), nn.Linear(8, outputs))


@pytest.fixture
def tiny_task() -> Task:
    return make_tiny_task()


def make_tiny_task() -> Task:
    return Task(
        name="tiny",
        dataset=tiny_dataset,
        teacher=TinyTeacher,
        student=tiny_student,
        teacher_config=TrainConfig(epochs=2, batch_size=16, learning_rate=1e-2),
        student_config=TrainConfig(epochs=3, batch_size=16, learning_rate=1e-2, translate=1),
        subclass_configs=SubclassConfigs(
            SubclassConfig(
                "agree",
                MutualInformation(subclasses=2),
                TrainConfig(epochs=2, batch_size=16, learning_rate=1e-2, affine=0.1),
            )
        ),
        text=TaskText(title="Tiny"),
    )


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "runs")


class StopAt:
    """Stops the training of a student on its own after so many steps."""

    def __init__(self, steps):
        self.left = steps

    def __call__(self, update):
        self.on = update.label == ALONE.label

    def step(self, images):
        self.left -= self.on
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.fixture
def filled(tmp_path, tiny_task, monkeypatch):
    """A store with a finished run, a checkpoint and answers."""
    monkeypatch.setattr(checkpoint, "SHARE", float("inf"))
    store, stop = Store(tmp_path / "filled"), StopAt(10)
    lab = Experiment(tiny_task, store=store, watch=stop, device=torch.device("cpu"))
    teacher = lab.teacher(0)
    lab.test_logits(teacher)
    assert lab.student(ALONE, 0).history.interrupted
    kinds = {name.split("-")[0] for name in store.names()}
    assert kinds == {"run", "part", "logits"}
    return store


@pytest.fixture
def patient(monkeypatch):
    """On a busy machine no answer to an exercise is too slow."""
    monkeypatch.setattr(attempt, "TOO_LONG", 600)
    monkeypatch.setattr(attempt, "FIRST_CALL", 600)
