"""Progress of training: one display that updates in a live notebook, plain lines elsewhere."""

import html
import os
import sys
import time
from threading import Event

import ipywidgets
from IPython import get_ipython
from IPython.display import DisplayHandle

from kdnb.course.figures.curves import training_curves
from kdnb.course.interactive import live_figures
from kdnb.course.interactive.widgets import Live
from kdnb.course.report.protocol import HEADLESS, live_kernel
from kdnb.course.report.sweeping import SweepLine, sweep_words, time_left
from kdnb.course.text import trained_elsewhere
from kdnb.experiment.results import SweepProgress, Update

REDRAW_SECONDS = 1.0


class Progress:
    """Watches an `kdnb.experiment.Experiment`.

    Live: loss curves, speed, time left and a stop button in one place, replaced by a picture at the
    end. Headless: one line per epoch, or per run where there are many. A new cell starts afresh.
    """

    def __init__(self):
        self._begin()

    def _begin(self) -> None:
        self._cell, self._start = _cell(), time.monotonic()
        self._line = SweepLine()
        self._handle: DisplayHandle | None = None
        self._panel: Panel | None = None
        self._update: Update | None = None
        self._drawn = self._said = 0.0
        self._trained = 0.0  # runs trained here, with fractions
        self._images = self._epoch_images = 0  # shown in this epoch, and in a whole epoch
        self._window = (self._start, 0)  # time of the last speed measurement, and images since

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
            if line := _line(update):
                print(line, file=sys.stderr)  # a log; what cells print is shown
            return
        done = len(update.history.epochs)
        if update.history.interrupted:
            self._rest(_stopped(update))
        elif update.run_finished and update.number == update.total:
            how = _from_the_store(update) if update.loaded else _continued(update)
            self._rest(", ".join(filter(None, ["finished", how])))
        elif live_kernel():
            self._move()
        elif done and time.monotonic() - self._drawn >= REDRAW_SECONDS:
            self._rest(f"epoch {done} of {update.epochs}")

    def sweep(self, progress: SweepProgress) -> None:
        """Called by a sweep on several workers; raises KeyboardInterrupt once Stop was pressed."""
        if _cell() != self._cell:
            self._begin()
        if not live_kernel():
            self._line.sweep(progress)
            return
        if self._panel is None:
            self._open_panel()
        if self._panel.stop.is_set():
            raise KeyboardInterrupt
        self._panel.status.value = html.escape(sweep_words(progress))
        if progress.finished:
            self._close_panel()

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

    def _rest(self, says: str) -> None:
        """Replace the display by a picture, the only output that a notebook keeps."""
        update = self._update
        title = f"{_name(update)}: {says}"
        self._show(training_curves({update.label: update.history}, update.epochs, title))
        self._drawn = time.monotonic()
        self._close_panel()

    def _move(self) -> None:
        """Update the live display: at most one drawing a second, and one status line."""
        update = self._update
        if self._panel is None:
            if update.run_finished:
                return  # loaded from the run store: no training to show
            self._open_panel()
        if time.monotonic() - self._drawn >= REDRAW_SECONDS:
            curves = live_figures.training(update.label, update.history, update.epochs)
            self._panel.picture.value = curves.svg
            self._drawn = time.monotonic()
        if time.monotonic() - self._said >= REDRAW_SECONDS or not update.history.epochs:
            self._say(time.monotonic())

    def _say(self, now: float) -> None:
        """Show the current run and epoch, the speed and the time left."""
        update, (since, images) = self._update, self._window
        says = [f"{_name(update)}: epoch {len(update.history.epochs) + 1} of {update.epochs}"]
        says.append(_continued(update))
        if images and now > since:
            says.append(f"{images / (now - since):,.0f} images/s")
        if left := self._time_left(now):
            says.append(f"{left} left")
        self._panel.status.value = html.escape(", ".join(filter(None, says)))
        self._said, self._window = now, (now, 0)

    def _time_left(self, now: float) -> str:
        """An estimate from the runs trained here; empty before the first epoch has ended."""
        update, part, here = self._update, 0.0, 0.0
        if not update.run_finished:
            within = min(self._images / self._epoch_images, 1) if self._epoch_images else 0.0
            epochs = len(update.history.epochs) + within
            part, here = (epochs - update.continued) / update.epochs, 1 - epochs / update.epochs
        done = self._trained + part
        if done <= 0:
            return ""
        return time_left((now - self._start) / done * (update.total - update.number + here))

    def _show(self, shown: object) -> None:
        if self._handle is None:
            self._handle = DisplayHandle()
            self._handle.display(shown)
        else:
            self._handle.update(shown)

    def _open_panel(self) -> None:
        self._panel, self._drawn = Panel(), 0.0
        self._show(self._panel)

    def _close_panel(self) -> None:
        if self._panel is not None:
            self._panel.close()
            self._panel = None


class Panel(Live):
    """The live display of a training: a status line, curves, and a stop button.

    JupyterLab delivers the click on another thread while the cell runs; training checks ``stop``
    after each step. On a kernel without such threads there is no button, only Jupyter's own stop.
    """

    def __init__(self):
        self.stop = Event()
        self.status, self.picture = ipywidgets.HTML(), ipywidgets.HTML()
        self.button = ipywidgets.Button(
            description="Stop and keep the weights",
            layout={"width": "auto", "align_self": "flex-start"},
        )
        self.button.on_click(self._pressed)
        # ipykernel 7.4 sends a click to the thread that the button last used: this cell's, which is
        # busy. Without this record it goes to JupyterLab's choice, a thread of its own.
        vars(self.button.comm).pop("_reply_subshell_id", None)
        kernel = getattr(get_ipython(), "kernel", None)
        buttons = [self.button] if getattr(kernel, "_supports_kernel_subshells", False) else []
        box = ipywidgets.VBox([self.status, *buttons, self.picture])
        saved = "Training was running when this notebook was saved: run this cell to continue."
        super().__init__(box, saved)

    def _pressed(self, button: ipywidgets.Button) -> None:
        self.stop.set()
        button.disabled = True

    def close(self) -> None:
        """Remove the widgets, here and in the browser."""
        for widget in (self.status, self.picture, self.button, self.box):
            widget.close()


def _line(update: Update) -> str:
    """A headless run's line for an update; empty if there is nothing new."""
    history, run = update.history, f"{update.label}, seed {update.seed}"
    done = len(history.epochs)
    if history.interrupted:
        return f"{run}: {_stopped(update)}"
    if update.loaded or (update.total > 1 and update.run_finished):
        number = f"run {update.number}/{update.total} " if update.total > 1 else ""
        return (
            f"{number}{run}: validation accuracy {100 * history.val_accuracy:.2f} % after epoch "
            f"{done}, {_from_the_store(update) or f'{history.seconds:.1f} s'}"
        )
    if update.total > 1:
        return ""
    if done > update.continued and done in history.validated:
        epoch = history.epochs[-1]
        return (
            f"{run}: epoch {done}/{update.epochs}, training loss {epoch.train_loss:.4f}, "
            f"validation accuracy {100 * epoch.val_accuracy:.2f} %, {epoch.seconds:.1f} s"
        )
    return f"{run}: {_continued(update)}" if done == update.continued > 0 else ""


def _name(update: Update) -> str:
    where = f"run {update.number} of {update.total}, " if update.total > 1 else ""
    return f"{where}{update.label}, seed {update.seed}"


def _stopped(update: Update) -> str:
    epochs = len(update.history.epochs)
    return f"stopped after {epochs} epochs, weights stored; run again to continue"


def _continued(update: Update) -> str:
    return f"continued at epoch {update.continued + 1}" if update.continued else ""


def _from_the_store(update: Update) -> str:
    if not update.loaded:
        return ""
    elsewhere = trained_elsewhere(update.origin) if update.origin else ""
    return ", ".join(filter(None, ["from the run store", elsewhere]))


def _cell() -> int | None:
    """The number of the running cell; None outside IPython."""
    return getattr(get_ipython(), "execution_count", None)
