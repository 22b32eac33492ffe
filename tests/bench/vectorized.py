"""What vectorized training gains: ``python tests/bench/vectorized.py``.

Thirty students (5 temperatures × 2 weights × 3 seeds) for an epoch, at once and one after another
with the same engine, in turns in one process, on random images in memory.
"""

import statistics
import time
from itertools import product

import torch

from kdnb.data import Split
from kdnb.environment import seeded
from kdnb.models import StudentMLP
from kdnb.training.config import TrainConfig
from kdnb.training.loop import fit
from kdnb.training.objectives import Distillation
from kdnb.training.vectorized import fit_vectorized

IMAGES, VAL, ROUNDS = 4_000, 500, 5
GRID = list(product((0, 1, 2), (1.0, 2.0, 4.0, 8.0, 16.0), (0.5, 0.9)))
SIZES = ((16, 16), (64, 64), (128, 128), (256, 256), (784, 784))


def main() -> None:
    with seeded(0):
        pixels = torch.randint(0, 256, (IMAGES + VAL, 1, 28, 28), dtype=torch.uint8)
        labels = torch.randint(0, 10, (IMAGES + VAL,))
        logits = [torch.randn(1, IMAGES, 10) for _ in range(3)]
    train, val = Split(pixels[:IMAGES], labels[:IMAGES]), Split(pixels[IMAGES:], labels[IMAGES:])
    config = TrainConfig(epochs=1, batch_size=128, learning_rate=1e-3)
    seeds = [seed for seed, _, _ in GRID]
    objectives = [
        Distillation(teacher_logits=logits[seed], temperature=t, soft_weight=w)
        for seed, t, w in GRID
    ]

    def seconds(hidden: tuple[int, ...], vectorized: bool) -> float:
        models = [StudentMLP(hidden=hidden) for _ in GRID]
        start = time.perf_counter()
        if vectorized:
            fit_vectorized(models, train, val, config, seeds, objectives)
        else:
            for model, seed, objective in zip(models, seeds, objectives, strict=True):
                fit(model, train, val, config, seed, objective=objective)
        return time.perf_counter() - start

    print(f"{torch.get_num_threads()} threads, {len(GRID)} students, batch 128")
    for hidden in SIZES:
        seconds(hidden, True), seconds(hidden, False)  # warm up
        pairs = [(seconds(hidden, False), seconds(hidden, True)) for _ in range(ROUNDS)]
        gains = sorted(alone / vectorized for alone, vectorized in pairs)
        pace = len(GRID) * IMAGES / statistics.median(vectorized for _, vectorized in pairs)
        parameters = sum(p.numel() for p in StudentMLP(hidden=hidden).parameters())
        print(
            f"{'-'.join(map(str, hidden))} ({parameters:,} parameters): "
            f"{statistics.median(gains):.2f} times as fast ({gains[0]:.2f} to {gains[-1]:.2f}), "
            f"{pace:,.0f} images/s vectorized"
        )


if __name__ == "__main__":
    main()
