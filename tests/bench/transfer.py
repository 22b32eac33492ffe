"""Images per second of frozen features and of fine-tuning, at 224 pixels on this machine's device.

Mixed precision is for CUDA; elsewhere it changes nothing and is left out. Interleaved rounds, the
median and the range.
"""

import statistics
import time
from dataclasses import replace

import torch

from kdnb.data import Split
from kdnb.data.augmentation import CachedFeatures, TranslatedImages
from kdnb.environment import best_device, device_name, seeded
from kdnb.models import mobilenet_v2_student, resnet50_teacher
from kdnb.training.config import TrainConfig
from kdnb.training.loop import fit, predict

ROUNDS = 3
LAST_BLOCK = {"ResNet-50": "block16", "MobileNetV2": "block17"}


def main() -> None:
    device = best_device()
    count = 4096 if device.type == "cuda" else 64
    with seeded(0):
        pixels = torch.randint(0, 256, (count, 3, 224, 224), dtype=torch.uint8)
        labels = torch.randint(0, 2, (count,))
    split = Split(pixels, labels)
    val = split.take(torch.arange(8))
    images, few = TranslatedImages(pixels), TranslatedImages(val.images)
    rates: dict[str, list[float]] = {}

    def measure(what: str, work) -> object:
        start = time.perf_counter()
        result = work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        rates.setdefault(what, []).append(count / (time.perf_counter() - start))
        return result

    for _ in range(1 + ROUNDS):
        for name, make in (("ResNet-50", resnet50_teacher), ("MobileNetV2", mobilenet_v2_student)):
            network = make(weights=None)
            frozen, _ = network.split(LAST_BLOCK[name])
            seen = measure(
                f"{name}, frozen stages", lambda f=frozen: predict(f, images, device=device)
            )
            features = (
                CachedFeatures([seen], images.names),
                CachedFeatures([predict(frozen, few, device=device)], few.names),
            )
            last = TrainConfig(1, 32, 1e-4, first_trainable=LAST_BLOCK[name])
            whole = TrainConfig(1, 32, 1e-4)
            for mixed in (False, True) if device.type == "cuda" else (False,):
                precision = "mixed precision" if mixed else "float32"
                for what, config, given in (
                    ("last block", last, features),
                    ("all of it", whole, None),
                ):
                    config = replace(config, mixed_precision=mixed)
                    measure(
                        f"{name}, fine-tuning {what}, {precision}",
                        lambda r=config, g=given, n=network: fit(
                            n, split, val, r, 0, features=g, device=device
                        ),
                    )
    print(f"{device_name(device)}, {count} images of 224 px, {ROUNDS} rounds after one to warm up")
    for what, values in rates.items():
        each = values[1:]
        print(
            f"{what}: {statistics.median(each):,.0f} images/s "
            f"({min(each):,.0f} to {max(each):,.0f})"
        )


if __name__ == "__main__":
    main()
