"""Progress of training: one display that is redrawn in a live notebook, plain lines elsewhere."""

import html
import os
import time
from threading import Event

import ipywidgets
from IPython import get_ipython
from IPython.display import DisplayHandle

from kdnb.course.figures.plots import image_tag, training_curves, training_words
from kdnb.course.interactive import moving
from kdnb.course.interactive.widgets import Live
from kdnb.course.report.protocol import HEADLESS, live_kernel
from kdnb.course.report.sweeping import SweepLine, sweep_words, time_left
from kdnb.course.text import trained_elsewhere
from kdnb.experiment.results import SweepProgress, Update

REDRAW_SECONDS = 1.0


class Progress:
    """Watches an `kdnb.experiment.Experiment`.

    Live: loss curves, pace, time left and a button that stops, in one place, ending as one picture.
    Headless: one line per epoch, or per run where there are many. In a new cell it begins anew.
    """

    def __init__(self):
        self._begin()

    def _begin(self) -> None:
        self._cell = _cell()
        self._handle: DisplayHandle | None = None
        self._panel: Panel | None = None
        self._drawn = self._said = 0.0
        self._start = time.monotonic()
        self._line = SweepLine()
        self._trained = 0.0  # runs trained here, in whole runs
        self._update: Update | None = None
        self._images = self._epoch_images = 0  # shown in this epoch, and in a whole one
        self._window = (self._start, 0)  # when the pace was last taken, and images since
        self.moving_seconds = self.resting_seconds = 0.0  # what the display has cost

    def __call__(self, update: Update) -> None:
        if _cell() != self._cell:
            self._begin()
        self._update = update
        if update.history.epochs and self._images:
            self._epoch_images = self._images
        self._images = 0
        if update.run_finished and not update.loaded:
            self._trained += 1 - update.continued / update.epochs
        if os.environ.get(HEADLESS):
            self._print(update)
        else:
            self._draw(update)

    def sweep(self, standing: SweepProgress) -> None:
        """Called by a sweep on several workers; raises KeyboardInterrupt once Stop was pressed."""
        if _cell() != self._cell:
            self._begin()
        if not live_kernel():
            self._line.sweep(standing)
            return
        if self._panel is None:
            self._panel = Panel()
            self._show(self._panel)
        if self._panel.stop.is_set():
            raise KeyboardInterrupt
        self._panel.status.value = html.escape(sweep_words(standing))
        if standing.finished:
            self._panel.close()
            self._panel = None

    def step(self, images: int) -> None:
        """Called after each training step; raises KeyboardInterrupt once Stop was pressed."""
        self._images += images
        since, count = self._window
        self._window = (since, count + images)
        if self._panel is None:
            return
        if self._panel.stop.is_set():
            raise KeyboardInterrupt
        if (now := time.monotonic()) - self._said >= REDRAW_SECONDS:
            self._say(now)

    def _print(self, update: Update) -> None:
        if update.history.interrupted:
            print(f"{update.label}, seed {update.seed}: {self._stopped(update)}")
        elif update.total > 1:
            if update.run_finished:
                print(f"run {update.number}/{update.total} {self._summary(update)}")
        elif update.loaded:
            print(self._summary(update))
        elif len(update.history.epochs) > update.continued:
            epoch = update.history.epochs[-1]
            print(
                f"{update.label}, seed {update.seed}: epoch {len(update.history.epochs)}/"
                f"{update.epochs}, training loss {epoch.train_loss:.4f}, validation accuracy "
                f"{100 * epoch.val_accuracy:.2f} %, {epoch.seconds:.1f} s"
            )
        elif update.continued:
            print(f"{update.label}, seed {update.seed}: {self._continued(update)}")

    def _summary(self, update: Update) -> str:
        history = update.history
        best = history.epochs[history.best]
        source = _from_the_store(update) if update.loaded else f"{history.seconds:.1f} s"
        return (
            f"{update.label}, seed {update.seed}: validation accuracy "
            f"{100 * best.val_accuracy:.2f} % at epoch {history.best + 1}, {source}"
        )

    def _draw(self, update: Update) -> None:
        last = update.run_finished and update.number == update.total
        stopped = update.history.interrupted
        if stopped or last:
            self._rest(update, self._stopped(update) if stopped else self._finished(update))
        elif live_kernel():
            self._move(update)
        elif update.history.epochs and time.monotonic() - self._drawn >= REDRAW_SECONDS:
            self._rest(update, f"epoch {len(update.history.epochs)} of {update.epochs}")

    def _rest(self, update: Update, says: str) -> None:
        """A picture takes the place of whatever was shown; it is all that a notebook keeps."""
        now = time.monotonic()
        title = f"{self._name(update)}: {says}"
        self._show(training_curves({update.label: update.history}, update.epochs, title))
        self._drawn = now
        if self._panel is not None:
            self._panel.close()
            self._panel = None
        self.resting_seconds += time.monotonic() - now

    def _move(self, update: Update) -> None:
        """The live face: at most one drawing a second, and one status line."""
        now = time.monotonic()
        if self._panel is None:
            if update.run_finished:
                return  # it came from the run store: nothing is under way
            self._panel = Panel()
            self._drawn = 0.0
            self._show(self._panel)
        if now - self._drawn >= REDRAW_SECONDS:
            words = training_words({update.label: update.history}, update.epochs)
            drawing = moving.training(update.label, update.history, update.epochs, words)
            self._panel.picture.value = image_tag(drawing)
            self._drawn = now
        self.moving_seconds += time.monotonic() - now
        if now - self._said >= REDRAW_SECONDS or not update.history.epochs:
            self._say(time.monotonic())

    def _say(self, now: float) -> None:
        """What is under way, how fast, and for how long still."""
        update, (since, images) = self._update, self._window
        says = [f"{self._name(update)}: epoch {len(update.history.epochs) + 1} of {update.epochs}"]
        if update.continued:
            says.append(self._continued(update))
        if images and now > since:
            says.append(f"{images / (now - since):,.0f} images/s")
        if left := self._time_left(update, now):
            says.append(f"{left} left")
        self._panel.status.value = html.escape(", ".join(says))
        self._said, self._window = now, (now, 0)
        self.moving_seconds += time.monotonic() - now

    def _show(self, shown: object) -> None:
        if self._handle is None:
            self._handle = DisplayHandle()
            self._handle.display(shown)
        else:
            self._handle.update(shown)

    def _name(self, update: Update) -> str:
        where = f"run {update.number} of {update.total}, " if update.total > 1 else ""
        return f"{where}{update.label}, seed {update.seed}"

    def _finished(self, update: Update) -> str:
        if update.loaded:
            return f"finished, {_from_the_store(update)}"
        return f"finished, {self._continued(update)}" if update.continued else "finished"

    def _continued(self, update: Update) -> str:
        return f"continued at epoch {update.continued + 1}"

    def _stopped(self, update: Update) -> str:
        return (
            f"stopped after {len(update.history.epochs)} epochs, the best weights are kept; "
            "run again to go on"
        )

    def _time_left(self, update: Update, now: float) -> str:
        """By the pace of what was trained here; nothing before the first epoch is over."""
        within = min(self._images / self._epoch_images, 1) if self._epoch_images else 0.0
        epochs = len(update.history.epochs) + within
        part = 0.0 if update.run_finished else (epochs - update.continued) / update.epochs
        done = self._trained + part
        if done <= 0:
            return ""
        here = 0.0 if update.run_finished else 1 - epochs / update.epochs
        seconds = (now - self._start) / done * (update.total - update.number + here)
        return time_left(seconds)


class Panel(Live):
    """The face of a training under way: a status line, curves, and a button that stops it.

    JupyterLab delivers the click on a thread of its own while the cell runs; the training looks at
    ``stop`` after each step. A kernel that cannot do this shows no button: its own stop remains.
    """

    def __init__(self):
        self.stop = Event()
        self.status, self.picture = ipywidgets.HTML(), ipywidgets.HTML()
        self.button = ipywidgets.Button(
            description="Stop, keep what was learnt",
            layout={"width": "auto", "align_self": "flex-start"},
        )
        self.button.on_click(self._pressed)
        # ipykernel 7.4 sends a click where the button last spoke: to this cell, which is busy. With
        # that forgotten it goes where JupyterLab wants it, to a thread of its own.
        vars(self.button.comm).pop("_reply_subshell_id", None)
        kernel = getattr(get_ipython(), "kernel", None)
        buttons = [self.button] if getattr(kernel, "_supports_kernel_subshells", False) else []
        box = ipywidgets.VBox([self.status, *buttons, self.picture])
        text = "Training was under way when this notebook was saved: run this cell to go on."
        super().__init__(box, ({"text/plain": text, "text/markdown": text}, {}))

    def _pressed(self, button: ipywidgets.Button) -> None:
        self.stop.set()
        button.disabled = True

    def close(self) -> None:
        """Take the widgets away, here and in the browser."""
        for widget in (self.status, self.picture, self.button, self.box):
            widget.close()


def _from_the_store(update: Update) -> str:
    elsewhere = trained_elsewhere(update.origin) if update.origin else ""
    return ", ".join(filter(None, ["from the run store", elsewhere]))


def _cell() -> int | None:
    """The number of the cell that runs; None outside IPython."""
    return getattr(get_ipython(), "execution_count", None)
