"""What a distilled epoch costs beside a plain one: ``python tests/bench/distilled_epoch.py``.

Both are epochs of the MNIST student (784-784, batch 256) in one process, taken in turns, on random
images in memory. The time to compute the teacher's logits once is measured apart.
"""

import statistics
import time

import torch

from kdnb.data import Split
from kdnb.data.views import ShiftedImages
from kdnb.environment import seeded
from kdnb.models import StudentMLP, TeacherCNN
from kdnb.objectives import LABELS, Distillation, Objective
from kdnb.tasks import Recipe
from kdnb.training import fit, predict

IMAGES, VAL, ROUNDS = 20_000, 500, 7


def main() -> None:
    with seeded(0):
        pixels = torch.randint(0, 256, (IMAGES + VAL, 1, 28, 28), dtype=torch.uint8)
        labels = torch.randint(0, 10, (IMAGES + VAL,))
        teacher, student = TeacherCNN(), StudentMLP()
    train, val = Split(pixels[:IMAGES], labels[:IMAGES]), Split(pixels[IMAGES:], labels[IMAGES:])
    start = time.perf_counter()
    logits = predict(teacher, ShiftedImages(train.images))
    once = time.perf_counter() - start
    distillation = Distillation(teacher_logits=logits[None], temperature=4.0, soft_weight=0.9)
    recipe = Recipe(epochs=1, batch_size=256, learning_rate=1e-3)

    def seconds(objective: Objective) -> float:
        return fit(student, train, val, recipe, seed=0, objective=objective).seconds

    seconds(LABELS), seconds(distillation)  # warm up
    pairs = [(seconds(distillation), seconds(LABELS)) for _ in range(ROUNDS)]
    ratios = sorted(distilled / plain for distilled, plain in pairs)
    plain = statistics.median(p for _, p in pairs)
    print(f"threads {torch.get_num_threads()}, plain epoch {IMAGES / plain:,.0f} images/s")
    print(
        f"distilled / plain: median {statistics.median(ratios):.3f}, "
        f"from {ratios[0]:.3f} to {ratios[-1]:.3f} over {ROUNDS} rounds"
    )
    print(f"teacher's logits, once: {once:.1f} s for {IMAGES:,} images ({once / plain:.1f} epochs)")


if __name__ == "__main__":
    main()
