"""Progress of a sweep where no notebook shows it: one line on a terminal, plain lines elsewhere."""

import sys
import time
from collections import Counter
from collections.abc import Iterator

from kdnb.course import text as words
from kdnb.experiment.results import Comparison, SweepProgress, Update

LINE_SECONDS = 5.0  # between two lines that stay


class SweepLine:
    """Watches an `kdnb.experiment.Experiment` that is swept.

    On a terminal one line is written over again and again; elsewhere there is one every few
    seconds, and the last.
    """

    def __init__(self):
        self._live = sys.stdout.isatty()
        self._said, self._text = time.monotonic(), ""

    def __call__(self, update: Update) -> None:
        epochs = len(update.history.epochs)
        where = f"run {update.number} of {update.total}, " if update.total > 1 else ""
        name = f"{where}{update.label}, seed {update.seed}"
        if update.history.interrupted:
            self._say(f"{name}: stopped after {epochs} epochs; run again to continue", last=True)
        elif not update.loaded:
            self._say(f"{name}: epoch {epochs} of {update.epochs}", last=update.run_finished)

    def sweep(self, progress: SweepProgress) -> None:
        """Show the progress of a sweep on several workers."""
        self._say(sweep_words(progress), last=progress.finished)

    def _say(self, text: str, last: bool) -> None:
        now = time.monotonic()
        if text == self._text or not (self._live or last or now - self._said >= LINE_SECONDS):
            return
        start, end = ("\r\x1b[K", "\n" if last else "") if self._live else ("", "\n")
        print(f"{start}{text}", end=end, flush=True)
        self._said, self._text = now, text


def sweep_lines(result: Comparison, over: str) -> Iterator[str]:
    """A sweep's results: accuracies, and gains ``over`` one method.

    One seed has no interval, so that no difference is shown.
    """
    seeds, width = len(result.seeds), max(map(len, result.labels))
    if not seeds:
        yield "stopped before one seed was done: run the sweep again to continue"
        return
    on = f"{words.SPLITS[result.split]} accuracy on {result.images:,} images"
    yield f"{on}, {seeds} seed{'s' * (seeds != 1)}"
    for label in result.labels:
        if seeds < 2:
            yield f"{label:{width}}  {words.percent(result.accuracy(label).item())}"
            continue
        mean = result.mean(label)
        line = f"{label:{width}}  {words.percent(mean.mean)} ({words.percent_range(mean)})"
        yield line if label == over else f"{line}  {words.points(result.gain(label, over))}"
    runs = [run for of in result.runs.values() for run in of]
    elsewhere = [where for run in runs if (where := words.trained_elsewhere(run.provenance))]
    for where, count in Counter(elsewhere).items():
        yield f"{count} of {len(runs)} students: {where}"
    if seeds < 2:
        yield "one seed has no interval: give --seed a second number to compare methods"


def sweep_words(progress: SweepProgress) -> str:
    """The number of runs done, and of workers."""
    says = f"{int(progress.done)} of {progress.total} runs done"
    if progress.finished:
        return says
    return f"{says}, {progress.workers} worker{'s' * (progress.workers != 1)}"


def time_left(seconds: float) -> str:
    """An estimated time in words."""
    return f"about {seconds:.0f} s" if seconds < 90 else f"about {seconds / 60:.0f} min"
