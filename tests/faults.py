"""Processes that are killed, or write beside one another; run by tests/test_store_faults.py.

``python tests/faults.py kill|write|fill FOLDER SEED`` prints what happened as JSON. Children are
forks of one process that has imported torch, so that dozens of them take seconds.
"""

import json
import mmap
import os
import random
import resource
import signal
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import torch
from conftest import make_tiny_task

from kdnb import maintenance
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import ALONE, conventional
from kdnb.experiment.sweep import sweep
from kdnb.store.store import Store
from kdnb.training import checkpoint

CPU = torch.device("cpu")
# What a test of kills must have seen. How fast the machine is decides only how soon: a store more,
# until it has; of so many something would have to be wrong.
KILLS, RESUMES, STORES = 22, 5, 100
DIFFERENT = 50  # entries under one key that its reader must have seen
STARTING, TRAINING, STORING, BETWEEN = range(4)
RESUMED = 4  # the byte after the phase counts the trainings that went on from a checkpoint


class Told:
    """Notes in shared memory where a training stands, so that who kills it knows."""

    def __init__(self, memory):
        self.memory = memory

    def __call__(self, update):
        if update.continued and len(update.history.epochs) == update.continued:
            self.memory[RESUMED] = 1
        self.memory[0] = BETWEEN

    def step(self, images):
        self.memory[0] = TRAINING


class WatchedStore(Store):
    def __init__(self, root, memory):
        super().__init__(root)
        self.memory = memory

    def put(self, *entry):
        before, self.memory[0] = self.memory[0], STORING
        super().put(*entry)
        self.memory[0] = before


def train(folder, memory):
    """Teachers, two students one after another, and some more together."""
    checkpoint.SHARE, checkpoint.SECONDS_APART = float("inf"), 0.0  # every epoch is kept
    task = make_tiny_task()
    task = replace(
        task,
        teacher_config=replace(task.teacher_config, epochs=4),
        student_config=replace(task.student_config, epochs=5),
    )
    lab = Experiment(task, store=WatchedStore(folder, memory), watch=Told(memory), device=CPU)
    lab.compare([ALONE, conventional(4.0, 0.9)], [0])
    sweep(lab, [2.0], [0.5], [0, 1])


def forked(work, *arguments):
    child = os.fork()
    if child == 0:
        try:
            work(*arguments)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return child


def ended(child, seconds):
    """The exit status, or None if it still runs after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        time.sleep(0.001)
    return None


def enough(kills, resumed):
    at_work = kills[TRAINING] + kills[STORING]
    return sum(kills) >= KILLS and at_work >= KILLS / 2 and resumed >= RESUMES


def content(folder):
    """Everything that a store holds, without the time that it took or was made at."""
    store, found = Store(folder), {}
    for name in store.names():
        entry = store.read(name)
        entry.record.pop("provenance", None)
        for epoch in entry.record.get("history", {}).get("epochs", []):
            epoch.pop("seconds")
        tensors = {n: (str(t.dtype), t.tolist()) for n, t in sorted(entry.tensors.items())}
        found[name] = json.dumps([entry.record, tensors], sort_keys=True)
    return found


def kill(folder, seed):
    """Train in children that are killed at random moments; again until one comes to the end."""
    chance, memory = random.Random(seed), mmap.mmap(-1, 8)
    train(folder / "warm", memory)  # what torch imports at its first steps takes a second
    start = time.monotonic()
    assert os.waitpid(forked(train, folder / "whole", memory), 0)[1] == 0
    whole, expected = time.monotonic() - start, content(folder / "whole")
    kills, resumed, stores, left, wrong = [0, 0, 0, 0], 0, 0, 0, []
    while not enough(kills, resumed) and stores < STORES:
        root, status, tries = folder / f"killed-{stores}", None, 0
        while status is None:
            memory[:] = bytes(8)
            child = forked(train, root, memory)
            tries += 1
            # Ever later: with luck alone it might never come to its end.
            longest = whole * (0.2 + 0.04 * tries)
            status = ended(child, chance.uniform(longest / 10, longest))
            if status is None:
                os.kill(child, signal.SIGKILL)
                # it may have ended just now
                status = 0 if os.waitpid(child, 0)[1] == 0 else None
                if status is None:
                    kills[memory[0]] += 1
            resumed += memory[RESUMED]
        stores += 1
        # Killed between storing a run and removing its checkpoint: that one is left, for `prune`.
        store = Store(root)
        for item, why in list(maintenance.superfluous(store)):
            if why == "the checkpoint of a run that is finished":
                maintenance.prune(item)
                left += 1
        found = content(root)
        if status != 0 or found != expected:
            names = set(found) ^ set(expected)
            names |= {n for n in set(found) & set(expected) if found[n] != expected[n]}
            wrong.append([status, sorted(names)])
    names = ("starting", "training", "storing", "between")
    return {
        "kills": dict(zip(names, kills, strict=True)),
        "resumed": resumed,
        "stores": stores,
        "checkpoints left": left,
        "entries": len(expected),
        "wrong": wrong,
        "seconds": time.monotonic() - start,
    }


def writing(root, number, memory):
    store = Store(root)
    while not memory[0]:
        number += 2
        store.put("run-1", {"a": torch.full((500,), number)}, {"n": number})


def removing(root):
    store = Store(root)
    while True:
        store.remove("run-1")
        time.sleep(0.0005)


def write(folder, seed):
    """Two processes write one key, without and with a third that removes it; this one reads."""
    warnings.simplefilter("error")  # such as that of a damaged entry
    seen = {}
    for name in ("replaced", "removed"):
        store, memory = Store(folder / name), mmap.mmap(-1, 1)
        store.put("run-1", {"a": torch.zeros(500)}, {"n": 0})
        children = [forked(writing, store.root, k, memory) for k in (1, 2)]
        remover = forked(removing, store.root) if name == "removed" else None
        numbers, gone, mixed = set(), 0, 0
        try:
            while len(numbers) < DIFFERENT or (remover and gone < DIFFERENT):
                entry = store.get("run-1")
                if entry is None:
                    gone += 1
                else:
                    numbers.add(entry.record["n"])
                    mixed += not bool((entry.tensors["a"] == entry.record["n"]).all())
        finally:
            memory[0] = 1
            if remover:
                os.kill(remover, signal.SIGKILL)
        statuses = [os.waitpid(child, 0)[1] for child in children]
        if remover:
            os.waitpid(remover, 0)
        left = [path.name for path in store.root.iterdir() if path.name.startswith(".")]
        seen[name] = {"numbers": len(numbers), "gone": gone, "mixed": mixed, "left": len(left)}
        seen[name]["statuses"] = statuses
    return seen


def fill(folder, seed):
    """Files may not grow over a limit, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    task, seen = make_tiny_task(), {}
    whole = Experiment(task, store=Store(folder / "whole"), device=CPU).student(ALONE, 0).weights
    for name, limit in (("some of it", 2_000), ("nothing at all", 0)):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                lab = Experiment(task, store=Store(folder / name), device=CPU)
                same = lab.student(ALONE, 0).weights == whole
            try:
                lab.store.put("run-1", {"a": torch.zeros(2)}, {"text": "x" * 5_000})
                error = ""
            except OSError as caught:
                error = f"{type(caught).__name__}: {caught}"
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        left = [path.name for path in lab.store.root.iterdir()]
        seen[name] = {"same": same, "told": [str(w.message) for w in told], "record": error}
        seen[name]["left"] = left
    return seen


if __name__ == "__main__":
    torch.set_num_threads(1)
    what = {"kill": kill, "write": write, "fill": fill}[sys.argv[1]]
    print(json.dumps(what(Path(sys.argv[2]), int(sys.argv[3]))))
