"""How fast the playground trains: ``python tests/bench/playground.py``.

In Chromium, at the default setting of mnist-small: seconds for both students of one seed and of
every seed, the longest time between two frames of the screen, the time of a fixed loop as a measure
of the machine, and the gains; with workers and without.
"""

import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))
from lab import CHROMIUM_FLAGS
from test_components import page_of

from kdnb.course.interactive.playground import playground
from kdnb.course.report.protocol import HEADLESS
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import ALONE, conventional
from kdnb.tasks import task

SEEDS, ROUNDS = [0, 1, 2], 3
# Milliseconds of five million square roots, the best of ten; from now on, gaps between frames.
LOOP = """() => {
  const times = Array.from({ length: 10 }, () => {
    const start = performance.now();
    for (let i = 0, sum = 0; i < 5e6; i++) sum += Math.sqrt(i);
    return performance.now() - start;
  });
  let last = performance.now();
  window.longest = 0;
  const frame = (now) => {
    window.longest = Math.max(window.longest, now - last);
    last = now;
    requestAnimationFrame(frame);
  };
  // The first frame may have been due before the loop above.
  requestAnimationFrame(() => requestAnimationFrame((now) => {
    last = now;
    requestAnimationFrame(frame);
  }));
  return Math.min(...times);
}"""


def main() -> None:
    os.environ[HEADLESS] = "1"
    lab = Experiment(task("mnist-small"))
    temperature, soft_weight = lab.task.temperature, lab.task.soft_weight
    methods = [ALONE, conventional(temperature, soft_weight)]
    live = playground(lab, lab.compare(methods, SEEDS, split="val"), temperature, soft_weight)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "playground.html"
        file.write_text(page_of(live), encoding="utf-8")
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        for without in ("", "delete window.Worker;"):
            for _ in range(ROUNDS):
                print(trained(browser, file, without), flush=True)


def trained(browser: Browser, file: Path, without: str) -> str:
    context = browser.new_context()
    context.add_init_script(without)
    page = context.new_page()
    page.goto(file.as_uri())
    status, note = page.locator("[role=status]"), page.locator(".component .controls .note")
    loop = page.evaluate(LOOP)
    page.get_by_role("button", name="Train", exact=True).click()
    expect(note).to_have_text(re.compile("^finished"), timeout=600_000)
    one = note.inner_text()
    start = time.perf_counter()
    page.get_by_role("button", name="Train every seed").click()
    expect(status).to_contain_text("The mean lies", timeout=600_000)
    every = time.perf_counter() - start
    longest = page.evaluate("window.longest")
    result = re.search("Gains.*", status.inner_text())[0]
    context.close()
    return (
        f"{one}; every seed {every:.1f} s; longest frame {longest:.0f} ms; loop {loop:.1f} ms; "
        f"{result}"
    )


if __name__ == "__main__":
    main()
