"""Progress of training: one display that is redrawn in a live notebook, plain lines elsewhere."""

import os
import time

from IPython.display import DisplayHandle

from kdnb.course.plots import training_curves
from kdnb.course.protocol import HEADLESS
from kdnb.runs import Update

REDRAW_SECONDS = 1.0


class Progress:
    """Watches an `kdnb.experiment.Experiment`.

    Live: loss curves, best accuracy so far and time left, in one place, ending as one picture.
    Headless: one line per epoch, or per run where there are many. Make a new one in each cell.
    """

    def __init__(self):
        self._handle: DisplayHandle | None = None
        self._drawn = 0.0
        self._start = time.monotonic()
        self._trained = 0  # runs finished here
        self._loaded = 0

    def __call__(self, update: Update) -> None:
        if update.run_finished:
            if update.loaded:
                self._loaded += 1
            else:
                self._trained += 1
        news = len(update.history.epochs) > update.continued
        if not (news or update.loaded or update.history.interrupted):
            return  # training is about to begin
        if os.environ.get(HEADLESS):
            self._print(update)
        else:
            self._draw(update)

    def _print(self, update: Update) -> None:
        if update.history.interrupted:
            print(f"{update.label}, seed {update.seed}: {self._stopped(update)}")
        elif update.total > 1:
            if update.run_finished:
                print(f"run {update.number}/{update.total} {self._summary(update)}")
        elif update.loaded:
            print(self._summary(update))
        else:
            epoch = update.history.epochs[-1]
            print(
                f"{update.label}, seed {update.seed}: epoch {len(update.history.epochs)}/"
                f"{update.epochs}, training loss {epoch.train_loss:.4f}, validation accuracy "
                f"{100 * epoch.val_accuracy:.2f} %, {epoch.seconds:.1f} s"
            )

    def _summary(self, update: Update) -> str:
        history = update.history
        best = history.epochs[history.best]
        source = "from the run store" if update.loaded else f"{history.seconds:.1f} s"
        return (
            f"{update.label}, seed {update.seed}: validation accuracy "
            f"{100 * best.val_accuracy:.2f} % at epoch {history.best + 1}, {source}"
        )

    def _draw(self, update: Update) -> None:
        last = update.run_finished and update.number == update.total
        now = time.monotonic()
        stopped = update.history.interrupted
        if now - self._drawn < REDRAW_SECONDS and not last and not stopped:
            return
        self._drawn = now
        where = f"run {update.number} of {update.total}, " if update.total > 1 else ""
        title = f"{where}{update.label}, seed {update.seed}: "
        if stopped:
            title += self._stopped(update)
        elif last:
            title += "finished"
            if update.loaded:
                title += ", from the run store"
        else:
            epoch = len(update.history.epochs)
            title += f"epoch {epoch} of {update.epochs}, {self._time_left(update, now)} left"
        picture = training_curves({update.label: update.history}, update.epochs, title)
        if self._handle is None:
            self._handle = DisplayHandle()
            self._handle.display(picture)
        else:
            self._handle.update(picture)

    def _stopped(self, update: Update) -> str:
        return f"stopped after {len(update.history.epochs)} epochs, the best weights are kept"

    def _time_left(self, update: Update, now: float) -> str:
        """Runs that were loaded took no time, so only the trained ones tell the pace."""
        part = 0.0 if update.run_finished else len(update.history.epochs) / update.epochs
        done = self._trained + part
        left = update.total - self._trained - self._loaded - part
        seconds = (now - self._start) / max(done, 1e-9) * max(left, 0)
        return f"about {seconds:.0f} s" if seconds < 90 else f"about {seconds / 60:.0f} min"
