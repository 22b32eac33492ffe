"""Seconds for the saliency maps of 500 MNIST-sized images by four models, on this machine's device.

The time does not depend on the weights. Three rounds, the median and the range.
"""

import statistics
import time

import torch

from kdnb.environment import best_device, device_name, seeded
from kdnb.evaluation.saliency import INTEGRATION_STEPS, Saliency, saliency_maps
from kdnb.models import StudentMLP, TeacherCNN

IMAGES, ROUNDS = 500, 3


def main() -> None:
    with seeded(0):
        images = torch.randint(0, 256, (IMAGES, 1, 28, 28), dtype=torch.uint8)
        targets = torch.randint(0, 10, (IMAGES,))
        models = [TeacherCNN(), StudentMLP(), StudentMLP(), StudentMLP(subclasses=5)]
    device = best_device()
    print(f"{device_name(device)}, {IMAGES} images, {len(models)} models")
    for method in (Saliency.GRADIENT, Saliency.SMOOTHGRAD, Saliency.INTEGRATED):
        seconds = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            for model in models:
                saliency_maps(model, images, targets, 10, method, device=device)
            seconds.append(time.perf_counter() - start)
        steps = f", {INTEGRATION_STEPS} steps" if method == Saliency.INTEGRATED else ""
        print(
            f"{method}{steps}: {statistics.median(seconds):.2f} s "
            f"({min(seconds):.2f} to {max(seconds):.2f})"
        )


if __name__ == "__main__":
    main()
