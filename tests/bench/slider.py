"""How fast the live notebooks answer: ``python tests/bench/slider.py``.

First in JupyterLab, in Chromium: milliseconds from a key on a control to the new picture on the
screen, over twenty moves. Then what the display of a training under way costs, on the digits
teacher.
"""

import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from playwright.sync_api import Browser, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))
from lab import CHROMIUM_FLAGS, moved, named, opened_in_lab

from kdnb.course.interactive import progress
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.results import Update
from kdnb.store.store import Store
from kdnb.tasks import task

EXPLORERS = [  # notebook, title of the frame, name of the control
    ("00_what_is_distillation.ipynb", "Softened probabilities by temperature", "temperature"),
    ("01_train_the_teacher.ipynb", "Calibration by temperature", "temperature"),
    (
        "02_conventional_distillation.ipynb",
        "The loss by T and soft_weight",
        "soft_weight",
    ),
    ("03_subclass_distillation.ipynb", "Subclasses by loss, number and weight", "weight"),
    ("04_saliency.ipynb", "Saliency maps", "image"),
    ("05_cost.ipynb", "The best student within a budget", "budget"),
]
TWENTY = ["ArrowRight", "ArrowLeft"] * 10


def main() -> None:
    chosen = sys.argv[1:] or [notebook[:2] for notebook, *_ in EXPLORERS]
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {torch.get_num_threads()} threads"
    )
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        for notebook, title, name in EXPLORERS:
            if notebook[:2] in chosen:
                moves_of(browser, notebook, title, name)
    share_of_drawing()


def moves_of(browser: Browser, notebook: str, title: str, name: str) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        opened_in_lab(browser, Path(folder), notebook, Store().root) as page,
    ):
        frame = page.locator(f"iframe[title='{title}']")
        frame.wait_for(timeout=600_000)
        page.wait_for_function(  # nothing else may run while it is measured
            "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status"
            " === 'idle' && !document.body.innerText.includes('[*]')",
            timeout=600_000,
        )
        frame.scroll_into_view_if_needed()
        control = named(frame.content_frame.locator(".component"), name)
        control.press("Home")
        times = sorted(ms for ms, _ in moved(control, TWENTY))
    print(
        f"{notebook[:2]}, {name}: key to picture median {statistics.median(times):.0f} ms, "
        f"from {times[0]:.0f} to {times[-1]:.0f} over {len(times)} moves"
    )


class Timed(progress.Progress):
    """What the display of a training costs: while it moves, and for its last picture."""

    def __init__(self):
        super().__init__()
        self.moving = self.resting = 0.0

    def __call__(self, update: Update) -> None:
        start = time.perf_counter()
        super().__call__(update)
        seconds = time.perf_counter() - start
        if update.run_finished:
            self.resting += seconds
        else:
            self.moving += seconds

    def step(self, images: int) -> None:
        start = time.perf_counter()
        super().step(images)
        self.moving += time.perf_counter() - start


def share_of_drawing() -> None:
    """The live face without a browser: what is measured is what training waits for."""
    progress.live_kernel = lambda: True
    with tempfile.TemporaryDirectory() as folder:
        watch = Timed()
        lab = Experiment(task("mnist-small"), store=Store(folder), watch=watch)
        start = time.perf_counter()
        lab.teacher(0)
        seconds = time.perf_counter() - start
    print(
        f"digits teacher: {watch.moving:.2f} s of {seconds:.1f} s drawn while it trained "
        f"({100 * watch.moving / seconds:.1f} %), and {watch.resting:.2f} s for the picture at the "
        "end"
    )


if __name__ == "__main__":
    main()
