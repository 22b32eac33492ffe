"""JupyterLab in a browser, for tests and for `bench/slider.py`."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, expect

ROOT = Path(__file__).parents[1]
CHROMIUM_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
# Milliseconds after which something will not come any more, however busy the machine is.
PATIENCE = 600_000
expect.set_options(timeout=PATIENCE)
KERNEL_IDLE = (
    "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
)
# Notes on the component around a control the milliseconds from a key to the changed picture on the
# screen, and the words that go with it. The picture is shown one frame after it has changed.
WATCH_MOVES = """control => {
  const place = control.closest(".component"), says = place.querySelector("[role=status]");
  let pressed = 0, words = says.textContent;
  place.moves = [];
  place.watcher?.disconnect();
  place.addEventListener("keydown", (event) => { pressed = event.timeStamp; }, true);
  place.watcher = new MutationObserver(() => {
    if (says.textContent === words) return;
    const now = words = says.textContent;
    const shown = () => place.moves.push([performance.now() - pressed, now]);
    requestAnimationFrame(() => requestAnimationFrame(shown));
  });
  place.watcher.observe(place, { childList: true, subtree: true, characterData: true });
}"""
MOVES = """(control, [number, patience]) => new Promise((done, fail) => {
  const { moves } = control.closest(".component");
  const look = () => (moves.length < number ? requestAnimationFrame(look) : done(moves));
  setTimeout(() => fail(new Error(`${moves.length} of ${number} keys were answered`)), patience);
  look();
})"""


@contextmanager
def opened_in_lab(
    browser: Browser, folder: Path, notebook: str | Path, runs: Path
) -> Iterator[Page]:
    """A copy of a notebook (of the course, or a path) open in JupyterLab, all its cells running."""
    copy = Path(shutil.copy(ROOT / "notebooks" / notebook, folder))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "jupyterlab", f"--port={port}", "--ip=127.0.0.1", "--no-browser",
        "--allow-root", "--ServerApp.token=", "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={folder}", "--expose-app-in-browser",
    ]  # fmt: skip
    with (folder / "lab.log").open("w") as log:
        environment = {**os.environ, "KDNB_RUNS": str(runs)}
        lab = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            _wait_for(f"http://127.0.0.1:{port}/api/status", lab)
            page = browser.new_page(viewport={"width": 1280, "height": 1000})
            page.goto(f"http://127.0.0.1:{port}/lab/tree/{copy.name}?reset")
            page.set_default_timeout(PATIENCE)
            page.wait_for_selector(".jp-Notebook .jp-Cell")
            # Before its kernel is there, JupyterLab answers "run" with a dialog.
            page.wait_for_function(KERNEL_IDLE)
            command_of(page, "notebook:run-all-cells")
            yield page
            page.close()
        finally:
            lab.terminate()
            lab.wait()


def command_of(page: Page, name: str) -> None:
    """Start one of JupyterLab's commands."""
    # In braces: the promise of running cells is fulfilled only when the last has run.
    page.evaluate("name => { window.jupyterapp.commands.execute(name) }", name)


def moved(control: Locator, keys: list[str]) -> list[tuple[float, str]]:
    """Press keys on a component's control, each once the last has been answered.

    For each the milliseconds to the new picture, and its words.
    """
    control.focus()
    control.evaluate(WATCH_MOVES)
    for number, key in enumerate(keys, start=1):
        control.press(key)
        moves = control.evaluate(MOVES, [number, PATIENCE])
    return moves


def named(component: Locator, name: str) -> Locator:
    """A slider or a choice, by the name that a screen reader says."""
    slider, choice = (
        component.get_by_role(role, name=name, exact=True) for role in ("slider", "combobox")
    )
    return slider.or_(choice)


def _wait_for(url: str, process: subprocess.Popen) -> None:
    while process.poll() is None:
        try:
            with urllib.request.urlopen(url):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError("JupyterLab stopped")
