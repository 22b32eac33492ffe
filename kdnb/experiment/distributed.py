"""Sweeps on Dask: on this machine, sized to its cores and GPUs, or on the reader's cluster."""

import itertools
import logging
import os
import signal
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from types import ModuleType

import torch
from distributed import Client, Future, KilledWorker, Nanny, Scheduler, SpecCluster, wait
from distributed.comm import CommClosedError, get_address_host_port
from distributed.protocol import pickle
from distributed.security import Security

from kdnb.evaluation.flops import Arithmetic, unfused
from kdnb.experiment import worker as parts
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.requests import MissingRun, RunRequest
from kdnb.experiment.results import SweepProgress
from kdnb.experiment.worker import WorkerInfo, WorkResult, WorkUnit
from kdnb.files import data_root
from kdnb.fingerprint import code_fingerprint
from kdnb.training.vectorized import at_once

ANSWER_SECONDS = 10  # for a scheduler to answer
WORKERS_SECONDS = 60  # for a cluster to have workers, at the start and when all are gone
STOP_SECONDS = 20  # for workers to put away what they are at
LOOK_SECONDS = 0.5
TRIES = 3  # a part that has ended so many workers is not tried again
# On two cores workers gain a tenth, after ten seconds to start (tests/bench/scale_out.py): they are
# started for more work than this, at so many FLOPs a second, which a laptop reaches.
WORTH_SECONDS, PACE = 100, 5e10
# Fewer students than this gain little from being split among more workers.
LEAST_TOGETHER = 4


class ClusterError(OSError):
    """The cluster cannot do what is asked; the message says what to do."""


def workers_here(experiment: Experiment) -> int:
    """How many processes train best on this machine: one for each GPU, or one for each core.

    Networks whose first stages are frozen share what those make of the images, which fills the
    memory: there one process is best, and so where there is one GPU only.
    """
    if experiment.device.type != "cpu":
        return max(1, torch.cuda.device_count())
    task = experiment.task
    staged = task.teacher_config.first_trainable or task.student_config.first_trainable
    return 1 if staged else torch.get_num_threads()


@contextmanager
def local_cluster(experiment: Experiment, workers: int) -> Iterator[SpecCluster]:
    """So many processes of this machine, each with its share of cores and, in turn, a GPU.

    They work in the experiment's run store. Gone when the block ends, however it ends.
    """
    share = max(1, torch.get_num_threads() // workers)
    gpus = torch.cuda.device_count() if experiment.device.type == "cuda" else 0
    shown = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus)))).split(",")
    specification = {}
    for i in range(workers):
        environment = {"KDNB_RUNS": experiment.store.root, "KDNB_DATA": data_root()}
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = shown[i % gpus]
        options = {
            "nthreads": share,
            "memory_limit": 0,
            "env": environment,
            "host": "127.0.0.1",
            "dashboard": False,
            "silence_logs": logging.CRITICAL,
        }
        specification[i] = {"cls": Nanny, "options": options}
    scheduler = {
        "cls": Scheduler,
        "options": {
            "host": "127.0.0.1",
            "dashboard_address": "127.0.0.1:8787",
            "allowed_failures": TRIES - 1,
        },
    }
    with _starting(share):
        cluster = SpecCluster(specification, scheduler, name="kdnb", silence_logs=logging.CRITICAL)
    with cluster:
        yield cluster


@contextmanager
def connected(address: str | SpecCluster) -> Iterator[Client]:
    """A client of the scheduler at ``address``; raises `ClusterError` where none answers."""
    if isinstance(address, str):
        _check_address(address)
    try:
        client = Client(address, timeout=ANSWER_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"no Dask scheduler answers at {address}: start one with `dask scheduler`, "
            "or leave --scheduler out to use this machine"
        ) from error
    with client, client.as_current():
        yield client


def _check_address(address: str) -> None:
    """Dask's client cannot be closed again where an address is none, and says so at the end."""
    try:
        host, port = get_address_host_port(address)
        problem = (
            "" if host and 0 < port < 2**16 else "it names no host, or no port from 1 to 65535"
        )
        secured = Security().get_connection_args("client").get("ssl_context")
        if address.startswith("tls:") and not secured:
            problem = "Dask's configuration names no certificates"
    except ValueError as error:
        problem = str(error)
    if problem:
        raise ClusterError(
            f"a scheduler's address must be like tcp://localhost:8786, got {address!r}: {problem}"
        )


def missing(experiment: Experiment, wanted: Sequence[RunRequest]) -> list[RunRequest]:
    """What of these, and of the teachers that they need, the run store lacks."""
    experiment = experiment.with_store(experiment.store)  # its watcher hears of no look-up
    teachers = list(dict.fromkeys(one.taught_by for one in wanted if one.taught_by))
    lacking = {one for one in teachers if experiment.pending(one)}
    students = [one for one in wanted if one.taught_by in lacking or experiment.pending(one)]
    return [one for one in teachers if one in lacking] + students


def parts_of(experiment: Experiment, wanted: Sequence[RunRequest]) -> int:
    """Into how many parts what is missing can be cut: more workers would have nothing to do."""
    lacking = missing(experiment, wanted)
    teachers = sum(one.method is None for one in lacking)
    student = experiment.task.student(num_classes=experiment.num_classes)
    together = LEAST_TOGETHER if at_once(student, experiment.device) > 1 else 1
    return max(teachers, -(-(len(lacking) - teachers) // together))


def workers_for(experiment: Experiment, wanted: Sequence[RunRequest]) -> int:
    """How many processes of this machine to start for a sweep; 1: train in this one."""
    most = workers_here(experiment)
    if most == 1 or _seconds_of(experiment, missing(experiment, wanted)) < WORTH_SECONDS:
        return 1
    return min(most, parts_of(experiment, wanted))


def _seconds_of(experiment: Experiment, lacking: Sequence[RunRequest]) -> float:
    """How long this machine will train them, roughly."""
    task, image = experiment.task, experiment.dataset.train.images[:1].float() / 255
    teachers = sum(one.method is None for one in lacking)
    flops = 0.0
    for runs, make, config, images in (
        (teachers, task.teacher, task.teacher_config, experiment.dataset.train),
        (len(lacking) - teachers, task.student, task.student_config, experiment.transfer),
    ):
        model = make(num_classes=experiment.num_classes).eval()
        with torch.inference_mode(), unfused(), Arithmetic(model) as counted:
            model(image)
        # Backward takes twice as many as forward.
        flops += runs * config.total_epochs * len(images) * 3 * 2 * counted.macs
    return flops / PACE


def train(
    client: Client,
    experiment: Experiment,
    wanted: Sequence[RunRequest],
    tell: Callable[[SweepProgress], None] | None = None,
) -> list[WorkResult]:
    """Train what the run store lacks on the workers of a cluster, until the store holds it.

    Teachers come first, each a part of its own; students follow in groups that are trained
    together. A part whose worker dies is run again on another. ``tell`` is called about twice a
    second and may stop the sweep with KeyboardInterrupt: then workers stop after the step under
    way and what is half done is kept.

    Raises `ClusterError` if the cluster cannot be used, and at the end, when all else is done, the
    first error of a part.
    """
    sweep = _Sweep(client, experiment, wanted, tell)
    mark = experiment.store.root / sweep.name
    experiment.store.require_writable()
    mark.touch()
    client.subscribe_topic(sweep.name, sweep.heard)
    try:
        sweep.go()
    except KeyboardInterrupt:
        sweep.stop()
        raise
    finally:
        client.unsubscribe_topic(sweep.name)
        client.cancel(list(sweep.under_way))
        mark.unlink(missing_ok=True)
    return sweep.made


@dataclass
class _Flight:
    """A part on its way: for whom, since when, how much of it is done."""

    part: WorkUnit
    address: str
    start: float
    done: float = 0.0


class _Sweep:
    """One sweep on a cluster: what is to be done, what is under way, what came of it."""

    def __init__(
        self,
        client: Client,
        experiment: Experiment,
        wanted: Sequence[RunRequest],
        tell: Callable[[SweepProgress], None] | None,
    ):
        self.name = f".sweep-{uuid.uuid4().hex}"
        self.client, self.tell = client, tell or (lambda standing: None)
        self.lab = experiment.with_store(experiment.store)  # its watcher hears of no look-up
        self.under_way: dict[Future, _Flight] = {}
        self.made: list[WorkResult] = []
        self._task = pickle.dumps(experiment.task)
        self._outfits: dict[str, WorkerInfo] = {}
        self._error: Exception | None = None
        self._alone_since = time.monotonic()  # without workers
        teachers = list(dict.fromkeys(one.taught_by for one in wanted if one.taught_by))
        self._total = len(teachers) + len(wanted)
        lacking = missing(experiment, wanted)
        self._done = self._total - len(lacking)
        self._teachers = [one for one in lacking if one.method is None]
        self._blocked: dict[RunRequest, list[RunRequest]] = {one: [] for one in self._teachers}
        self._ready: dict[object, list[MissingRun]] = {}  # by what can be trained together
        self._released = []
        for one in lacking:
            if one.method is not None:
                self._blocked.get(one.taught_by, self._released).append(one)
        # By kind, for the time left: seconds of work and the runs that it gave.
        self._seconds, self._runs = {True: 0.0, False: 0.0}, {True: 0.0, False: 0.0}

    def go(self) -> None:
        """Until all is done, or nothing more can be."""
        while True:
            free = self._free_workers()
            if free:
                self._release(self._outfits[free[0]].device)
            for address in free:
                if (pending := self._next()) is None:
                    break
                self._send(pending, address)
            idle = not (self._teachers or self._released or self._ready)
            if not self.under_way and idle:
                break
            self._collect(LOOK_SECONDS)
            self.tell(self._standing())
        if self._error is not None:
            raise self._error
        self.tell(self._standing(finished=True))

    def stop(self) -> None:
        """Have workers put away what they are at, and keep it."""
        if not self.under_way:
            return
        self.client.run(parts.stop, self.name, on_error="ignore")
        end = time.monotonic() + STOP_SECONDS
        while self.under_way and time.monotonic() < end:
            self._collect(LOOK_SECONDS)

    def heard(self, event: tuple) -> None:
        """A worker tells how far it is."""
        _, message = event
        for future, flight in list(self.under_way.items()):
            if future.key == message["part"]:
                flight.done = message["done"]

    def _free_workers(self) -> list[str]:
        """Those that do nothing; new ones are examined first."""
        processing = self.client.processing()
        new = [address for address in processing if address not in self._outfits]
        if new:
            found = self.client.run(parts.examine, self.name, workers=new, on_error="return")
            for address, outfit in found.items():
                if not isinstance(outfit, ConnectionError | CommClosedError):  # else it has died
                    self._outfits[address] = _fit(address, outfit)
        now = time.monotonic()
        if processing:
            self._alone_since = now
        elif now - self._alone_since > WORKERS_SECONDS:
            raise ClusterError(
                f"the scheduler at {self.client.scheduler.address} has had no workers for "
                f"{WORKERS_SECONDS} s: start some with `dask worker "
                f"{self.client.scheduler.address}`"
            )
        placed = {key for keys in processing.values() for key in keys}
        sent = {f.address for future, f in self.under_way.items() if future.key not in placed}
        known = [address for address in processing if address in self._outfits]
        return [address for address in known if not processing[address] and address not in sent]

    def _release(self, device: str) -> None:
        """Students whose teacher has come are ready, sorted by what they can be trained with."""
        for one in self._released:
            pending = self.lab.pending(one, torch.device(device))
            if pending is None:
                self._done += 1
            else:
                kind = pending.alike or pending.key
                self._ready.setdefault(kind, []).append(pending)
        self._released = []

    def _next(self) -> list[MissingRun] | None:
        """Teachers first, for others wait for them; then as many students as there is gain in."""
        while self._teachers:
            if pending := self.lab.pending(self._teachers.pop(0)):
                return [pending]
        if not self._ready:
            return None
        kind, waiting = next(iter(self._ready.items()))
        share = -(-len(waiting) // len(self._outfits))
        size = min(max(LEAST_TOGETHER, share), waiting[0].at_once)
        chosen, rest = waiting[:size], waiting[size:]
        if rest:
            self._ready[kind] = rest
        else:
            del self._ready[kind]
        return chosen

    def _send(self, chosen: list[MissingRun], address: str) -> None:
        wanted = tuple(one.request for one in chosen)
        keys = tuple(one.key for one in chosen)
        shared = all(outfit.shares for outfit in self._outfits.values())
        given = {} if shared else self._given(chosen)
        part = WorkUnit(self.name, self._task, wanted, keys, given)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")  # a teacher for another store
            # Not bound to the address: a worker that dies would leave the part bound to it, and the
            # scheduler waiting for it, where no other worker lives at that moment.
            future = self.client.submit(parts.train, part, key=f"{part} {uuid.uuid4().hex[:8]}")
        self.under_way[future] = _Flight(part, address, time.monotonic())

    def _given(self, chosen: Sequence[MissingRun]) -> dict:
        """The teachers of these, and what was half trained."""
        keys = [f"part-{one.key}" for one in chosen]
        for teacher in {one.request.taught_by for one in chosen} - {None}:
            keys += self.lab.run(teacher).keys
        found = {key: self.lab.store.get(key) for key in keys}
        return {key: entry for key, entry in found.items() if entry}

    def _collect(self, seconds: float) -> None:
        """Wait for parts and take what is done."""
        if not self.under_way:
            time.sleep(seconds)
            return
        with suppress(TimeoutError):
            wait(list(self.under_way), timeout=seconds, return_when="FIRST_COMPLETED")
        for future in [f for f in self.under_way if f.done()]:
            flight = self.under_way[future]
            if future.status == "finished":
                self._take(flight, future.result())
            elif future.status == "error":
                self._error = self._error or _described(flight.part, future.exception())
            else:
                raise ClusterError(
                    f"the scheduler at {self.client.scheduler.address} is gone: what is finished "
                    "is kept, so start it and run the sweep again"
                )
            del self.under_way[future]

    def _take(self, flight: _Flight, made: WorkResult) -> None:
        for key, entry in made.entries.items():
            self.lab.store.put(key, entry.tensors, entry.record)
            if key.startswith("run-"):
                self.lab.store.remove(f"part-{key}")
        self.made.append(made)
        self._error = self._error or made.error
        if made.stopped or made.error:
            return
        teacher = flight.part.wanted[0].method is None
        self._done += len(flight.part.wanted)
        self._seconds[teacher] += made.seconds
        self._runs[teacher] += len(flight.part.wanted)
        if teacher:
            self._released += self._blocked.pop(flight.part.wanted[0], [])

    def _standing(self, finished: bool = False) -> SweepProgress:
        flights = list(self.under_way.values())
        done = self._done + sum(flight.done for flight in flights)
        workers = len(self.client.nthreads())
        return SweepProgress(done, self._total, workers, self._seconds_left(workers), finished)

    def _seconds_left(self, workers: int) -> float | None:
        """By the pace of teachers and of students so far; None as long as one is not known."""
        seconds, runs, now = dict(self._seconds), dict(self._runs), time.monotonic()
        left = {True: len(self._teachers), False: len(self._released)}
        left[False] += sum(map(len, itertools.chain(self._blocked.values(), self._ready.values())))
        for flight in self.under_way.values():
            teacher = flight.part.wanted[0].method is None
            left[teacher] += len(flight.part.wanted) - flight.done
            if flight.done:
                seconds[teacher] += now - flight.start
                runs[teacher] += flight.done
        if any(left[kind] and not runs[kind] for kind in left) or not workers:
            return None
        return sum(seconds[k] / runs[k] * left[k] for k in left if left[k]) / workers


def _fit(address: str, outfit: WorkerInfo | Exception) -> WorkerInfo:
    """The outfit of a worker that can be used; raises `ClusterError` for others."""
    if isinstance(outfit, ImportError):
        raise ClusterError(
            f"the worker at {address} has no kdnb of this version ({outfit}): install it there"
        ) from outfit
    if isinstance(outfit, Exception):
        raise ClusterError(f"the worker at {address} cannot be used: {outfit}") from outfit
    if outfit.engine != code_fingerprint():
        raise ClusterError(
            f"the worker at {address} has another version of kdnb's engine ({outfit.engine}, here "
            f"{code_fingerprint()}): install the same on both and start the worker again"
        )
    return outfit


def _described(part: WorkUnit, error: BaseException) -> Exception:
    if isinstance(error, KilledWorker):
        return ClusterError(
            f"{part} ended each of {error.allowed_failures + 1} workers that tried it, often for "
            "lack of memory: use fewer workers; what else was asked for is trained and kept"
        )
    return ClusterError(f"{part} failed on its worker: {error}")


@contextmanager
def _starting(threads: int) -> Iterator[None]:
    """Processes started here have their share of threads, and Ctrl-C does not reach them.

    They do not read the program that starts them again either: a script may call a sweep anywhere.
    """
    # As in kdnb.course.report.execution: freed memory is not given back for each batch.
    environment = {
        "OMP_NUM_THREADS": str(threads),
        "MALLOC_MMAP_THRESHOLD_": str(2**30),
        "MALLOC_TRIM_THRESHOLD_": str(2**30),
    }
    before = {name: os.environ.get(name) for name in environment}
    main = sys.modules["__main__"]
    os.environ.update(environment)
    sys.modules["__main__"] = ModuleType("__main__")
    resource_tracker.ensure_running()  # where it started first, it would let signals through again
    mask = getattr(signal, "pthread_sigmask", lambda *_: None)  # Windows has none
    blocked = mask(getattr(signal, "SIG_BLOCK", None), {signal.SIGINT})  # threads inherit it
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Port .* is already in use")
            yield
    finally:
        sys.modules["__main__"] = main
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
        mask(getattr(signal, "SIG_SETMASK", None), blocked)
