"""Cost against size: 1 to 64 vectorized students, 1,000 to 60,000 images.

    python tests/bench/scaling.py          # a few minutes
    python tests/bench/scaling.py --write  # the same, kept in report/reference, with a chart

Each point is a process of its own, so that its peak memory is its own. Students are 784-64-64-10,
distilled for one epoch; images are random ones in memory. With more images the teacher's logits,
which are computed once, are counted too.
"""

import argparse
import json
import subprocess
import sys
import time

import torch
from bench_record import KEPT, peak_memory_mb, write
from matplotlib.figure import Figure

from kdnb.course.figures import PALETTE
from kdnb.data import Split
from kdnb.data.augmentation import TranslatedImages
from kdnb.environment import best_device, seeded
from kdnb.models import StudentMLP, TeacherCNN
from kdnb.training.config import TrainConfig
from kdnb.training.loop import predict
from kdnb.training.objectives import Distillation
from kdnb.training.vectorized import fit_vectorized

STUDENTS = (1, 2, 4, 8, 16, 32, 64)
IMAGES = (1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000)
FIXED_STUDENTS, FIXED_IMAGES = 1, 8_000
DEVICE = best_device()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep results and chart")
    parser.add_argument("--point", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        return print(json.dumps(point(*options.point)))
    results = {
        "students": [measured(n, FIXED_IMAGES) for n in STUDENTS],
        "images": [measured(FIXED_STUDENTS, n) for n in IMAGES],
    }
    if options.write:
        write("scaling", results, DEVICE)
        chart(results).savefig(KEPT.with_name("scaling.png"), dpi=144)


def measured(students: int, images: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--point", str(students), str(images)]
    found = json.loads(subprocess.check_output(command, text=True))
    print(
        f"{students:3} students, {images:6,} images: epoch {found['epoch_seconds']:6.2f} s, "
        f"teacher's logits {found['teacher_seconds']:6.2f} s, {found['memory_mb']:5.0f} MB "
        f"more than at the start",
        flush=True,
    )
    return found


def point(students: int, images: int) -> dict[str, float]:
    """Seconds and memory (MB beyond that of the imported packages) of one size."""
    with seeded(0):
        warm_up = Split(torch.zeros(256, 1, 28, 28, dtype=torch.uint8), torch.arange(256) % 10)
        teacher = TeacherCNN()
        predict(teacher, TranslatedImages(warm_up.images), device=DEVICE)
        epoch(warm_up, torch.randn(1, 256, 10), 1)
        before = peak_memory_mb(DEVICE)
        labels = torch.randint(0, 10, (images,))
        train = Split(torch.randint(0, 256, (images, 1, 28, 28), dtype=torch.uint8), labels)
    start = time.perf_counter()
    teacher_logits = predict(teacher, TranslatedImages(train.images), device=DEVICE)[None]
    once = time.perf_counter() - start
    seconds = min(epoch(train, teacher_logits, students) for _ in range(3))
    return {
        "students": students, "images": images, "epoch_seconds": seconds,
        "teacher_seconds": once, "memory_mb": peak_memory_mb(DEVICE) - before,
    }  # fmt: skip


def epoch(train: Split, teacher_logits: torch.Tensor, students: int) -> float:
    config = TrainConfig(epochs=1, batch_size=128, learning_rate=1e-3)
    objective = Distillation(teacher_logits=teacher_logits, temperature=4.0, soft_weight=0.9)
    models = [StudentMLP(hidden=(64, 64)) for _ in range(students)]
    start = time.perf_counter()
    fit_vectorized(
        models, train, train.take(torch.arange(256)), config, range(students),
        [objective] * students, device=DEVICE,
    )  # fmt: skip
    return time.perf_counter() - start


def chart(results: dict) -> Figure:
    """Seconds and memory over both sizes, on logarithmic scales, each with a line of proportion."""
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    about = {
        "students": f"students, vectorized, {FIXED_IMAGES:,} images each",
        "images": f"images, {FIXED_STUDENTS} student and the teacher's logits",
    }
    for row, (size, words) in zip(figure.subplots(2, 2), about.items(), strict=True):
        points = results[size]
        sizes = [p[size] for p in points]
        seconds = [p["epoch_seconds"] for p in points]
        if size == "images":
            seconds = [p["epoch_seconds"] + p["teacher_seconds"] for p in points]
        memory = [p["memory_mb"] for p in points]
        for axes, values, unit in zip(row, (seconds, memory), ("seconds", "MB"), strict=True):
            axes.loglog(sizes, values, "o-", color=PALETTE[0], label="measured")
            proportional = [values[-1] * n / sizes[-1] for n in sizes]
            axes.loglog(sizes, proportional, "--", color="0.6", label="in proportion to the last")
            axes.set(xlabel=words, ylabel=unit, xticks=sizes)
            axes.set_xticklabels([f"{n:,}" for n in sizes], rotation=30)
            axes.minorticks_off()
            axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
