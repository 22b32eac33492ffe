"""A part of a sweep as a worker trains it: some models, and what came of them.

A worker has data and a run store of its own. If that is the folder of the machine that asks, what
it trains is there at once; if not, it is sent back.
"""

import copyreg
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from distributed import get_worker
from distributed.protocol import pickle
from torch import Tensor

from kdnb.data import DataError
from kdnb.environment import best_device
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.requests import RunRequest
from kdnb.experiment.results import Update
from kdnb.fingerprint import code_fingerprint
from kdnb.store.store import Entry, Store
from kdnb.training.loop import TrainingDivergedError

TELL_SECONDS = 0.5
# A process has one stream of random numbers and one device: it trains one part at a time.
ALONE = threading.Lock()
STOPPED: set[str] = set()  # the sweeps that were stopped

# An exception with two arguments would not arrive.
copyreg.pickle(TrainingDivergedError, lambda e: (TrainingDivergedError, (str(e), e.history)))


@dataclass(frozen=True)
class WorkUnit:
    """Models to be trained by one worker: teachers, or students of teachers that are there.

    ``task`` is a pickled `kdnb.tasks.Task`, ``keys`` are those of the first config of each, as the
    machine that asks computes them, and ``given`` is what a worker without its store needs from it.
    ``sweep`` is a name that only this sweep has.
    """

    sweep: str
    task: bytes
    wanted: tuple[RunRequest, ...]
    keys: tuple[str, ...]
    given: dict[str, Entry] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        first = self.wanted[0]
        name = f"{first.method.label if first.method else 'teacher'}, seed {first.seed}"
        more = len(self.wanted) - 1
        return f"{name}, and {more} trained with it" if more else name


@dataclass(frozen=True)
class WorkResult:
    """What came of a part: the keys of the runs that were ``trained`` now, seconds, an error.

    ``entries`` are for a store that is not the worker's own; half-trained runs are among them.
    """

    worker: str
    trained: tuple[str, ...]
    seconds: float
    entries: dict[str, Entry] = field(default_factory=dict, repr=False)
    error: Exception | None = None
    stopped: bool = False


@dataclass(frozen=True)
class WorkerInfo:
    """A worker's code, device and store, as far as others must know."""

    engine: str
    device: str
    shares: bool


def examine(sweep: str) -> WorkerInfo:
    """What the worker is that runs this. It shares a store where it sees the ``sweep``'s mark."""
    return WorkerInfo(code_fingerprint(), best_device().type, (Store().root / sweep).exists())


def stop(sweep: str) -> None:
    """Have this worker stop the sweep's parts after the step under way."""
    STOPPED.add(sweep)


def train(part: WorkUnit) -> WorkResult:
    """Train a part on the worker that runs this; errors are returned, not raised."""
    worker = get_worker()
    with ALONE:
        start = time.monotonic()
        torch.set_num_threads(worker.state.nthreads)
        store, error, stopped = Noting(), None, False
        for key, entry in part.given.items():
            if not store.has(key):
                store.put(key, entry.tensors, entry.record)
        store.noted.clear()
        watch = Watch(part.sweep)
        try:
            lab = _lab(part.task).with_store(store, watch)
            _check(lab, part, worker.address)
            error = _train(lab, part.wanted, watch)
        except KeyboardInterrupt:
            stopped = True
        except Exception as problem:  # whatever it is, the one who asked shall hear it
            error = problem
        entries = {}
        if not (store.root / part.sweep).exists():
            found = {key: store.get(key) for key in store.noted - part.given.keys()}
            entries = {key: entry for key, entry in found.items() if entry}
        seconds = time.monotonic() - start
        trained = tuple(sorted(key for key in store.trained if store.has(key)))
        return WorkResult(worker.address, trained, seconds, entries, error, stopped)


def _train(lab: Experiment, wanted: Sequence[RunRequest], watch: "Watch") -> Exception | None:
    """Train them all; returns what the first that diverges raised."""
    error = None
    watch.models = len(wanted)
    if wanted[0].method is not None and len(wanted) > 1:
        lab.train_ahead(wanted)
    for number, one in enumerate(wanted):
        watch.done, watch.models = number, 1
        try:
            if lab.run(one).history.interrupted:
                raise KeyboardInterrupt
        except TrainingDivergedError as problem:
            error = error or problem
    return error


def _check(lab: Experiment, part: WorkUnit, address: str) -> None:
    for wanted, key in zip(part.wanted, part.keys, strict=True):
        if lab.key(wanted) != key:
            raise DataError(
                f"the worker at {address} would train another run than was asked for: give it the "
                f"same {lab.dataset.name} images, initial weights and version of torch"
            )


@lru_cache(maxsize=1)
def _lab(task: bytes) -> Experiment:
    """The experiment on a task; the next part of a sweep finds its data in memory."""
    try:
        return Experiment(pickle.loads(task))
    except (ImportError, AttributeError) as error:
        raise DataError(
            f"the worker at {get_worker().address} cannot import the task ({error}): put its "
            "module where the worker finds it, for example on PYTHONPATH"
        ) from error


class Noting(Store):
    """A store that notes which runs it was asked for, and which were ``trained``."""

    def __init__(self):
        super().__init__()
        self.noted: set[str] = set()
        self.trained: set[str] = set()

    def get(self, key: str) -> Entry | None:
        """`Store.get`."""
        self._note(key)
        return super().get(key)

    def put(self, key: str, tensors: Mapping[str, Tensor], record: dict) -> None:
        """`Store.put`."""
        super().put(key, tensors, record)
        self._note(key)
        if key.startswith("run-"):
            self.trained.add(key)

    def _note(self, key: str) -> None:
        if key.startswith(("run-", "part-")):
            self.noted.add(key)


class Watch:
    """Tells the sweep how much of its part a worker has done, and stops it where that is wanted."""

    def __init__(self, sweep: str):
        self._sweep, self._worker = sweep, get_worker()
        self._task = self._worker.get_current_task()
        self._told = 0.0
        self.done, self.models = 0, 1  # finished, and under way now

    def __call__(self, update: Update) -> None:
        now = time.monotonic()
        if update.loaded or now - self._told < TELL_SECONDS:
            return
        self._told = now
        done = self.done + self.models * len(update.history.epochs) / update.epochs
        self._worker.log_event(self._sweep, {"part": self._task, "done": done})

    def step(self, images: int) -> None:
        """Raises KeyboardInterrupt if the sweep was stopped, or who asked for it is gone."""
        task = self._worker.state.tasks.get(self._task)
        if self._sweep in STOPPED or task is None or task.state == "cancelled":
            raise KeyboardInterrupt
