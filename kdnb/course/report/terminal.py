"""Progress of a headless run on the terminal: which notebook, which cell, how much time is left."""

import sys
import threading
import time
from collections.abc import Mapping, Sequence

from tqdm import tqdm

from kdnb.course.report.execution import CellDone

TICK_SECONDS = 1.0
UNKNOWN_CELL = 0.5  # seconds expected of a cell that has never been timed


class ReportProgress:
    """One bar per notebook, and the time left for all of them; use as a context manager.

    For notebooks in other processes, a line that starts with ``label`` follows each. ``cells``
    lists (notebook, ids of its cells) in the order in which they will run; ``expected`` gives the
    seconds of "notebook/cell" in an earlier run, scaled by the speed of this machine once it is
    known.
    """

    def __init__(
        self,
        cells: Sequence[tuple[str, Sequence[str]]],
        expected: Mapping[str, float],
        label: str = "",
    ):
        self.seconds: dict[str, float] = {}  # what each finished "notebook/cell" took
        self._names = [notebook for notebook, _ in cells]
        self._order = [f"{notebook}/{cell}" for notebook, ids in cells for cell in ids]
        self._expected, self._label = expected, label
        self._start = self._cell_start = time.monotonic()
        self._bar: tqdm | None = None
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def start_notebook(self, notebook: str) -> None:
        """Close the last notebook's bar and open this one's."""
        with self._lock:
            self._close()
            self._bar = tqdm(
                total=sum(name.startswith(f"{notebook}/") for name in self._order),
                desc=self._numbered(notebook),
                bar_format="{desc} |{bar:16}|{postfix}",
                mininterval=0,
            )
            self._show()

    def cell_done(self, cell: CellDone) -> None:
        """A cell has run."""
        with self._lock:
            now = time.monotonic()
            self.seconds[f"{cell.notebook}/{cell.cell_id}"] = round(now - self._cell_start, 2)
            self._cell_start = now
            if self._bar is not None:
                # papermill adds a cell with the parameters; a bar past its total is empty.
                self._bar.total = cell.total
                self._bar.update(cell.number - self._bar.n)
                self._show()

    def notebook_done(self, notebook: str, seconds: Mapping[str, float]) -> None:
        """A notebook has run in another process; ``seconds`` by "notebook/cell"."""
        with self._lock:
            self.seconds |= seconds
            done = f"{self._label} {self._numbered(notebook)} done, {self._times()}"
            print(done, file=sys.stderr, flush=True)

    def time_left(self) -> float:
        """The estimated seconds until the last notebook is done."""
        done = sum(map(self._weight, self.seconds))
        pace = sum(self.seconds.values()) / done if done else 1.0
        ahead = [pace * self._weight(name) for name in self._order if name not in self.seconds]
        here = time.monotonic() - self._cell_start
        return max(ahead[0] - here, 0) + sum(ahead[1:]) if ahead else 0

    def __enter__(self) -> "ReportProgress":
        self._ticker.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._ticker.join()
        self._close()

    def _weight(self, name: str) -> float:
        return self._expected.get(name, UNKNOWN_CELL)

    def _tick(self) -> None:
        while not self._stopped.wait(TICK_SECONDS):
            with self._lock:
                # A log file wants no line every second.
                if self._bar is not None and self._bar.fp.isatty():
                    self._show()

    def _show(self) -> None:
        cell = f"cell {min(self._bar.n + 1, self._bar.total)}/{self._bar.total}"
        self._bar.set_postfix_str(f"{cell}, {self._times()}")

    def _times(self) -> str:
        gone = tqdm.format_interval(time.monotonic() - self._start)
        return f"{gone} gone, about {tqdm.format_interval(self.time_left())} left"

    def _numbered(self, notebook: str) -> str:
        return f"[{self._names.index(notebook) + 1}/{len(self._names)}] {notebook}"

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
