"""A whole grid on a GPU: 8 weights × 7 temperatures × 3 seeds of 784-784-784-10 on MNIST.

    python tests/bench/grid.py [--write]

168 students, 12 epochs each, all at once where the memory suffices, with random logits in place of
a teacher's. Products are rounded to TF32, as a GPU's convolutions are by default. Without CUDA it
says so and ends: on two cores this takes hours.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import torch
from bench_record import peak_memory_mb, write
from rivals import FEW, STUDENTS, tutorial
from torch import Tensor

from kdnb.data import Dataset, load
from kdnb.environment import device_name, seeded
from kdnb.models import StudentMLP
from kdnb.training.config import TrainConfig
from kdnb.training.objectives import Distillation
from kdnb.training.vectorized import at_once, fit_vectorized

WEIGHTS = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
TEMPERATURES = (1.0, 2.0, 4.0, 6.0, 8.0, 12.0, 20.0)
SEEDS = (0, 1, 2)
GRID = list(product(SEEDS, WEIGHTS, TEMPERATURES))
RECIPE = TrainConfig(epochs=12, batch_size=256, learning_rate=3e-3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep the result")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device here: the grid was not run")
        return
    device, mnist = torch.device("cuda"), load("mnist")
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    with seeded(0):
        logits = [torch.randn(1, len(mnist.train), 10) for _ in SEEDS]
    size = min(at_once(StudentMLP(), device), len(GRID))
    trained(mnist, logits, replace(RECIPE, epochs=1), size)  # warm up
    seconds = trained(mnist, logits, RECIPE, size)
    images = len(GRID) * RECIPE.epochs * len(mnist.train)
    hidden = STUDENTS["784-784-784-10"]
    theirs = statistics.median(FEW / tutorial(hidden, FEW) for _ in range(3))
    found = {
        "students": len(GRID),
        "at_once": size,
        "seconds": seconds,
        "tutorial_images_per_second": theirs,
        "times_as_fast": images / seconds / theirs,
        "peak_memory_mb": peak_memory_mb(device),
    }
    print(device_name(device), found)
    if options.write:
        write("grid", found, device)


def trained(mnist: Dataset, logits: Sequence[Tensor], config: TrainConfig, size: int) -> float:
    """Seconds of the whole grid, ``size`` students at a time."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    for first in range(0, len(GRID), size):
        part = GRID[first : first + size]
        objectives = [
            Distillation(teacher_logits=logits[seed], temperature=t, soft_weight=w)
            for seed, w, t in part
        ]
        models, seeds = [StudentMLP() for _ in part], [seed for seed, _, _ in part]
        fit_vectorized(
            models, mnist.train, mnist.val, config, seeds, objectives,
            device=torch.device("cuda"),
        )  # fmt: skip
    torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
