"""One process with all threads, or a worker for each core: ``python tests/bench/scale_out.py``.

Sweeps of digits students over two seeds, their teachers included, in turns, each from an empty run
store. The start of the workers is timed by itself.
"""

import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from kdnb.experiment import distributed as cluster
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import ALONE, conventional
from kdnb.experiment.requests import RunRequest
from kdnb.models import StudentMLP
from kdnb.store.store import Store
from kdnb.tasks.mnist_small import MNIST_SMALL
from kdnb.training.config import TrainConfig

ROUNDS = 3
SIZES = ((16, 16), (128, 128), (784, 784))
METHODS = [
    ALONE,
    *(conventional(t, w, f"{t} {w}") for t in (1.0, 2.0, 4.0, 8.0) for w in (0.5, 0.9)),
]
REQUESTS = [RunRequest(seed, method) for seed in (0, 1) for method in METHODS]


def main() -> None:
    cores = torch.get_num_threads()
    root = Path(tempfile.mkdtemp())

    def lab(hidden: tuple[int, ...]) -> Experiment:
        shutil.rmtree(root, ignore_errors=True)
        task = replace(
            MNIST_SMALL,
            teacher_config=TrainConfig(epochs=1, batch_size=64, learning_rate=2e-3),
            student=partial(StudentMLP, hidden=hidden),
            student_config=TrainConfig(epochs=5, batch_size=10, learning_rate=1e-3),
        )
        return Experiment(task, store=Store(root))

    def one_process(hidden: tuple[int, ...]) -> float:
        here, start = lab(hidden), time.perf_counter()
        here.train_ahead(REQUESTS)
        for request in REQUESTS:
            here.run(request)
        return time.perf_counter() - start

    start = time.perf_counter()
    with cluster.local_cluster(lab(SIZES[0]), cores) as local, cluster.connected(local) as client:

        def workers(hidden: tuple[int, ...]) -> float:
            here, start = lab(hidden), time.perf_counter()
            cluster.train(client, here, REQUESTS)
            return time.perf_counter() - start

        workers(SIZES[0])
        print(f"{cores} workers ready after {time.perf_counter() - start:.1f} s", flush=True)
        for hidden in SIZES:
            pairs = [(one_process(hidden), workers(hidden)) for _ in range(ROUNDS)]
            gains = sorted(one / several for one, several in pairs)
            medians = [statistics.median(column) for column in zip(*pairs, strict=True)]
            print(
                f"{'-'.join(map(str, hidden))}: {len(REQUESTS)} students, 2 teachers, one process "
                f"with {cores} threads {medians[0]:.1f} s, {cores} workers {medians[1]:.1f} s: "
                f"{statistics.median(gains):.2f} times as fast ({gains[0]:.2f} to {gains[-1]:.2f})",
                flush=True,
            )
    shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
