"""Training on Dask: in processes of this machine, or on the reader's cluster.

A work unit is one teacher, or students that are trained as one batched model. Workers that share
the caller's run store train there; others receive their inputs and send back their results.
"""

import copyreg
import logging
import math
import multiprocessing
import os
import signal
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import dask
import torch
from distributed import Client, Future, KilledWorker, LocalCluster, Worker, get_worker, wait
from distributed.comm import get_address_host_port
from distributed.protocol import pickle
from distributed.security import Security

from kdnb.environment import best_device
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.requests import RunRequest
from kdnb.experiment.results import SweepProgress, Update
from kdnb.files import data_root
from kdnb.store.store import Entry, Store
from kdnb.training.loop import TrainingDivergedError
from kdnb.training.vectorized import at_once

ANSWER_SECONDS = 10  # for a scheduler to answer
WORKERS_SECONDS = 60  # for a cluster to have workers
STOP_SECONDS = 20  # for workers to put away what they are at
SMALLEST_GROUP = 4  # fewer students gain little from being split among more workers
ONE_UNIT = threading.Lock()  # a process has one stream of random numbers, whatever its threads
STOPPED: set[str] = set()  # the sweeps that a worker trains no longer

WorkUnit = tuple[RunRequest, ...]

# An exception with two arguments would not arrive.
copyreg.pickle(TrainingDivergedError, lambda e: (TrainingDivergedError, (str(e), e.history)))


class ClusterError(OSError):
    """The cluster cannot do the work; the message names a remedy."""


@contextmanager
def local_cluster(experiment: Experiment, workers: int) -> Iterator[LocalCluster]:
    """Processes that share the run store, this machine's cores and, in turn, its GPUs."""
    gpus = ",".join(map(str, range(torch.cuda.device_count())))
    environment = {
        "KDNB_RUNS": experiment.store.root,
        "KDNB_DATA": data_root(),
        "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", gpus),
    }
    settings = {
        "distributed.scheduler.allowed-failures": 2,
        "distributed.deploy.lost-worker-timeout": "1 hour",  # one that dies is started again
        # By default memory is given back to the system for each batch.
        "distributed.nanny.pre-spawn-environ": {},
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=0,
            threads_per_worker=max(1, torch.get_num_threads() // workers),
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
            env=environment,
            preload=[__name__],
            silence_logs=logging.CRITICAL,
        ) as cluster,
    ):
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which processes inherit
        processes, end = len(multiprocessing.active_children()) + workers, time.monotonic() + 10
        cluster.scale(workers)
        while len(multiprocessing.active_children()) < processes and time.monotonic() < end:
            time.sleep(0.01)
        signal.signal(signal.SIGINT, before)
        cluster.wait_for_workers(workers)
        yield cluster


@contextmanager
def connected(address: str | LocalCluster) -> Iterator[Client]:
    """A client of the scheduler at ``address``; raises `ClusterError` where none answers."""
    try:
        if isinstance(address, str):  # else Dask's client could not be closed again
            host, port = get_address_host_port(address)
            if not host or not 0 < port < 2**16:
                raise ValueError("it names no host, or no port from 1 to 65535")
            secured = Security().get_connection_args("client").get("ssl_context")
            if address.startswith("tls:") and not secured:
                raise ValueError("Dask's configuration names no certificates")
        client = Client(address, timeout=ANSWER_SECONDS)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"no Dask scheduler answers at {address!r}: {error}; start one with `dask scheduler` "
            "and give its address, such as tcp://localhost:8786"
        ) from error
    with client:
        yield client


def work_units(
    experiment: Experiment, requests: Sequence[RunRequest], workers: int, device: torch.device
) -> list[WorkUnit]:
    """The units for runs, and their teachers, that the run store lacks, cut for the workers."""
    experiment = experiment.with_store(experiment.store)  # without its watcher
    teachers = [one for one in _teachers(requests) if experiment.pending(one)]
    students = [r for r in requests if r.teacher in teachers or experiment.pending(r)]
    share = max(SMALLEST_GROUP, math.ceil(len(students) / workers))
    student = experiment.task.student(num_classes=experiment.num_classes)
    size = min(share, at_once(student, device))
    groups = [tuple(students[i : i + size]) for i in range(0, len(students), size)]
    return [(one,) for one in teachers] + groups


def _teachers(requests: Sequence[RunRequest]) -> list[RunRequest]:
    return list(dict.fromkeys(one.teacher for one in requests if one.teacher))


def useful_workers(experiment: Experiment, requests: Sequence[RunRequest], most: int) -> int:
    """The number of workers that would have a unit to train at the same time, at least 1."""
    units = work_units(experiment, requests, most, experiment.device)
    teachers = sum(unit[0].method is None for unit in units)
    return max(1, min(most, max(teachers, len(units) - teachers)))


def train(
    client: Client,
    experiment: Experiment,
    requests: Sequence[RunRequest],
    report: Callable[[SweepProgress], None] = lambda progress: None,
) -> None:
    """Train the runs that the store lacks on the workers of a cluster, until the store has them.

    A unit whose worker dies is trained by another. ``report`` is called about twice a second and
    may stop the sweep with KeyboardInterrupt: then workers stop after the current step and store
    their checkpoints. Raises `ClusterError` if the cluster cannot be used, and the first error of a
    unit when all others are done.
    """
    experiment.store.require_writable()
    sweep = _Sweep(client, experiment, requests)
    sweep.mark.touch()
    client.subscribe_topic(sweep.mark.name, lambda event: sweep.shares.update([event[1]]))
    try:
        sweep.cut()
        while sweep.submit():
            sweep.collect(0.5)
            report(sweep.progress())
    except BaseException:
        sweep.stop()
        raise
    finally:
        client.unsubscribe_topic(sweep.mark.name)
        sweep.mark.unlink(missing_ok=True)
    if sweep.error:
        raise sweep.error
    report(replace(sweep.progress(), finished=True))


class _Sweep:
    """Units of one sweep: ``blocked`` ones wait for teachers or workers, others are in progress."""

    def __init__(self, client: Client, experiment: Experiment, requests: Sequence[RunRequest]):
        self.client, self.store = client, experiment.store
        self.experiment = experiment.with_store(self.store)  # without its watcher
        self.mark = self.store.root / f".sweep-{uuid.uuid4().hex}"
        self.requests, self.task = requests, pickle.dumps(experiment.task)
        self.futures: dict[Future, WorkUnit] = {}
        self.shares: dict[str, float] = {}  # of what is under way, by its future's key
        self.error: Exception | None = None

    def cut(self) -> None:
        """Make units for the present workers."""
        try:
            self.client.wait_for_workers(1, WORKERS_SECONDS)
        except TimeoutError as error:
            where = self.client.scheduler.address
            raise ClusterError(f"{error} s: start some with `dask worker {where}`") from error
        found = self.client.run(_examine, self.mark.name, on_error="ignore").values()
        self.shared = all(shared for _, shared in found)
        device = next((device for device, _ in found), self.experiment.device)
        self.blocked = work_units(self.experiment, self.requests, len(found) or 1, device)
        self.untrained = {unit[0] for unit in self.blocked if unit[0].method is None}
        self.total = len(_teachers(self.requests)) + len(self.requests)
        self.done = self.total - sum(map(len, self.blocked))

    def submit(self) -> bool:
        """Submit a unit, whose teachers are stored, to each free worker; whether any was."""
        ready = [u for u in self.blocked if self.untrained.isdisjoint(r.teacher for r in u)]
        free = max(1, len(self.client.nthreads())) - len(self.futures)
        for unit in ready[: max(0, free)]:
            self.blocked.remove(unit)
            label = unit[0].method.label if unit[0].method else "teacher"
            name = f"{label}, seed {unit[0].seed}, {len(unit)} in all, {uuid.uuid4().hex[:8]}"
            keys = [self.experiment.key(request) for request in unit]
            given = {} if self.shared else self._given(unit, keys)
            work = self.mark.name, self.task, unit, keys, given
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Sending large graph")  # given teachers
                self.futures[self.client.submit(_train_unit, *work, key=name)] = unit
        return bool(self.futures)

    def _given(self, unit: WorkUnit, keys: Sequence[str]) -> dict[str, Entry]:
        """The teachers of these units, and their checkpoints."""
        names = [f"part-{key}" for key in keys]
        names += [key for one in _teachers(unit) for key in self.experiment.run(one).keys]
        found = {name: self.store.get(name) for name in names}
        return {name: entry for name, entry in found.items() if entry}

    def collect(self, seconds: float, until: str = "FIRST_COMPLETED") -> None:
        """Wait for units, and store the results of workers that do not share the run store."""
        with suppress(TimeoutError, CancelledError):
            wait(list(self.futures), seconds, until)
        for future in [future for future in self.futures if future.done()]:
            unit = self.futures.pop(future)
            try:
                entries, error = future.result()
            except Exception as problem:
                entries, error = {}, _explained(future.key, problem)
            for key, entry in entries.items():
                self.store.put(key, entry.tensors, entry.record)
                if key.startswith("run-"):
                    self.store.remove(f"part-{key}")
            if error is None:
                self.done += len(unit)
                self.untrained -= set(unit)
            self.error = self.error or error

    def progress(self) -> SweepProgress:
        """The number of runs done, with fractions for those in progress."""
        shares = [len(unit) * self.shares.get(f.key, 0) for f, unit in self.futures.items()]
        return SweepProgress(self.done + sum(shares), self.total, len(self.client.nthreads()))

    def stop(self) -> None:
        """Make workers stop with a checkpoint, and store the checkpoints."""
        if self.futures and self.client.status == "running":
            self.client.run(_stop, self.mark.name, on_error="ignore")
            self.collect(STOP_SECONDS, "ALL_COMPLETED")
            self.client.cancel(list(self.futures))


def _explained(unit: str, error: Exception) -> Exception:
    """The error of a unit; raised at once if all other units would fail too."""
    if isinstance(error, KilledWorker):
        return ClusterError(
            f"{unit} ended each of {error.allowed_failures + 1} workers that tried it, often for "
            "lack of memory: use fewer workers; all other runs are trained and stored"
        )
    if isinstance(error, ImportError):
        raise ClusterError(
            f"a worker cannot import what it needs ({error}): install this version of kdnb there, "
            "and put the task's module where the worker finds it, for example on PYTHONPATH"
        ) from error
    if isinstance(error, CancelledError):
        raise ClusterError(
            "Dask's scheduler is gone: finished runs are stored, so start it and sweep again"
        ) from error
    if isinstance(error, ClusterError):
        raise error
    return error


# What follows runs on workers.


def dask_setup(worker: Worker) -> None:
    """Dask calls this in each process of `local_cluster`: only the caller reacts to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gpus = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
    os.environ["CUDA_VISIBLE_DEVICES"] = gpus[worker.name % len(gpus)]


def _examine(sweep: str) -> tuple[torch.device, bool]:
    """This worker's device, and whether it shares the caller's run store."""
    return best_device(), (Store().root / sweep).exists()


def _stop(sweep: str) -> None:
    STOPPED.add(sweep)


def _train_unit(
    sweep: str, task: bytes, unit: WorkUnit, keys: Sequence[str], given: dict[str, Entry]
) -> tuple[dict[str, Entry], TrainingDivergedError | None]:
    """Train a unit on a worker: entries for the caller's store, by key, and a model's error."""
    with ONE_UNIT:
        torch.set_num_threads(get_worker().state.nthreads)
        store = Store()
        shared = (store.root / sweep).exists()
        if not shared:
            store = Store(Path(get_worker().local_directory) / sweep)
            for key, entry in given.items():
                store.put(key, entry.tensors, entry.record)
        before, diverged = set(store.names("run-")) - set(keys), None
        experiment = _experiment(task).with_store(store, _Watch(sweep))
        if [experiment.key(request) for request in unit] != keys:
            raise ClusterError(
                f"the worker at {get_worker().address} would train another run than requested: "
                f"give it the same version of kdnb and torch, {experiment.dataset.name} images and "
                "initial weights, and start it again"
            )
        with suppress(KeyboardInterrupt):
            if len(unit) > 1:
                experiment.train_ahead(unit)
            for request in unit:
                try:
                    if experiment.run(request).history.interrupted:
                        break
                except TrainingDivergedError as error:
                    diverged = diverged or error
        made = set() if shared else {*store.names("run-"), *store.names("part-")} - before
        return {key: store.get(key) for key in made}, diverged


@lru_cache(maxsize=1)
def _experiment(task: bytes) -> Experiment:
    """A cached experiment, so that the next unit of a sweep finds its data in memory."""
    return Experiment(pickle.loads(task))


class _Watch:
    """Reports the progress of a unit, and ends the unit when the sweep is stopped."""

    def __init__(self, sweep: str):
        self.sweep, self.unit, self.share = sweep, get_worker().get_current_task(), 0.0

    def __call__(self, update: Update) -> None:
        if not update.loaded:
            self.share = max(self.share, len(update.history.epochs) / update.epochs)
            get_worker().log_event(self.sweep, [self.unit, self.share])

    def step(self, images: int) -> None:
        """Raises KeyboardInterrupt if the sweep was stopped."""
        if self.sweep in STOPPED:
            raise KeyboardInterrupt
