"""A whole grid on a GPU: 8 weights × 7 temperatures × 3 seeds of 784-784-784-10 on MNIST.

    python tests/bench/grid.py [--write]

168 students, 12 epochs each, as many at once as fit (`kdnb.training.vectorized.at_once`), with
random logits in place of a teacher's. Without CUDA it says so and ends: on two cores this takes
hours.
"""

import argparse
import time
from itertools import product

import torch
from bench_record import write

from kdnb.data import load
from kdnb.environment import device_name, seeded
from kdnb.models import StudentMLP
from kdnb.training.config import TrainConfig
from kdnb.training.objectives import Distillation
from kdnb.training.vectorized import at_once, fit_vectorized

WEIGHTS = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
TEMPERATURES = (1.0, 2.0, 4.0, 6.0, 8.0, 12.0, 20.0)
SEEDS = (0, 1, 2)
RECIPE = TrainConfig(epochs=12, batch_size=256, learning_rate=3e-3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep the result")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device here: the grid was not run")
        return
    device = torch.device("cuda")
    mnist = load("mnist")
    with seeded(0):
        logits = [torch.randn(1, len(mnist.train), 10) for _ in SEEDS]
    grid = list(product(SEEDS, WEIGHTS, TEMPERATURES))
    size = at_once(StudentMLP(), device)
    torch.cuda.synchronize()
    start = time.perf_counter()
    for first in range(0, len(grid), size):
        part = grid[first : first + size]
        objectives = [
            Distillation(teacher_logits=logits[seed], temperature=t, soft_weight=w)
            for seed, w, t in part
        ]
        seeds = [seed for seed, _, _ in part]
        models = [StudentMLP() for _ in part]
        fit_vectorized(models, mnist.train, mnist.val, RECIPE, seeds, objectives, device=device)
    torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    print(f"{device_name(device)}: {len(grid)} students, {size} at once, {seconds:.1f} s")
    if options.write:
        write("grid", {"students": len(grid), "at_once": size, "seconds": seconds}, device)


if __name__ == "__main__":
    main()
