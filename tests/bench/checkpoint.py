"""What checkpoints cost: ``python tests/bench/checkpoint.py [FOLDER]``.

Students of the course's sizes are trained through the run store with checkpoints and without, in
turns in one process: with epochs of fifty images, and of as many as MNIST has. Random images.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from kdnb.data import Split
from kdnb.environment import seeded
from kdnb.models import StudentMLP
from kdnb.store import store
from kdnb.training import checkpoint
from kdnb.training.checkpoint import Checkpoint, CheckpointThrottle
from kdnb.training.config import TrainConfig
from kdnb.training.loop import fit

CPU = torch.device("cpu")
ROUNDS = 3
NEVER, USUAL = 1e-12, checkpoint.SHARE
# hidden units, training and validation images, batch size, epochs
RUNS = (
    ((16, 16), 50, 297, 10, 1000),
    ((128, 128), 50, 297, 10, 1000),
    ((784, 784), 50, 297, 10, 200),
    ((784, 784), 55_000, 5_000, 256, 2),
)


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if sys.argv[1:] else None) as folder:
        runs = store.Store(Path(folder))
        print(f"{torch.get_num_threads()} threads, at least {checkpoint.SECONDS_APART:g} s apart")
        for run in RUNS:
            seconds(runs, *RUNS[0][:-1], 20)  # warm up
            ratios, stored = [], 0
            for turn in range(ROUNDS):
                taken = {}
                for share in (NEVER, USUAL) if turn % 2 else (USUAL, NEVER):
                    checkpoint.SHARE = share
                    taken[share], times = seconds(runs, *run)
                    stored += times
                checkpoint.SHARE = USUAL
                ratios.append(100 * (taken[USUAL] / taken[NEVER] - 1))
            hidden, images, *_, epochs = run
            print(
                f"{'-'.join(map(str, hidden))}, {epochs} epochs of {images:,} images, "
                f"{taken[USUAL]:.1f} s: {statistics.median(ratios):+.1f} % "
                f"({min(ratios):+.1f} to {max(ratios):+.1f}), stored {stored / ROUNDS:.1f} times",
                flush=True,
            )


def seconds(
    runs: store.Store, hidden: tuple[int, ...], images: int, val: int, batch: int, epochs: int
) -> tuple[float, int]:
    """How many seconds of its own the process needs, and how many checkpoints were stored."""
    stored = []

    def keep(state: Checkpoint) -> bool:
        entry = state.entry()
        stored.append(runs.keep("part-bench", entry.tensors, entry.record))
        return stored[-1]

    with seeded(0):
        splits = [
            Split(
                torch.randint(0, 256, (size, 1, 28, 28), dtype=torch.uint8),
                torch.randint(0, 10, (size,)),
            )
            for size in (images, val)
        ]
        model = StudentMLP(hidden=hidden)
    config = TrainConfig(epochs=epochs, batch_size=batch, learning_rate=1e-3)
    start = time.process_time()  # not the wall's: other programs may use the machine
    fit(model, *splits, config, 0, on_checkpoint=CheckpointThrottle(keep), device=CPU)
    return time.process_time() - start, len(stored)


if __name__ == "__main__":
    main()
