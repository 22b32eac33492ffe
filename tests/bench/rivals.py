"""What an epoch of distillation takes, written in five ways, against the arithmetic alone.

    python tests/bench/rivals.py          # 15 min on two cores, most of them the tutorial's
    python tests/bench/rivals.py --write  # the same, kept in report/reference/bench.json

On MNIST with the course's convolutional teacher, all in one process, in turns. What is compared are
images per second of training steps; end to end also counts loading, the teacher's answers and, for
kdnb, validation and the copies of each epoch's state.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from bench_record import peak_memory_mb, write
from torch import Tensor, nn

from kdnb.data import Split, load
from kdnb.data.augmentation import TranslatedImages
from kdnb.environment import best_device, device_name, onednn_products, seeded
from kdnb.files import data_root
from kdnb.models import StudentMLP, TeacherCNN
from kdnb.torchvision_remedy import import_torchvision
from kdnb.training.config import TrainConfig
from kdnb.training.loop import fit, predict
from kdnb.training.objectives import LABELS, Distillation, Objective

BATCH, TEMPERATURE, SOFT_WEIGHT, EPOCHS = 128, 4.0, 0.9, 10
STUDENTS = {"784-64-64-10": (64, 64), "784-784-784-10": (784, 784)}
ROUNDS = 15
FEW, MANY = 4_096, 20_480  # images that the slow and the fast rivals see in a round
DEVICE = best_device()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep the results in report/reference")
    parser.add_argument("--memory", choices=[*RIVALS, "nothing"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        return print(peak_memory(options.memory))
    print(f"{device_name(DEVICE)}, batch {BATCH}")
    results = {
        "rounds": ROUNDS,
        "epochs": epochs_compared(),
        "shares": [
            share("784-784-784-10, distilled", 256, lambda: StudentMLP(), True),
            share("TeacherCNN, labels", 64, TeacherCNN, False),
        ],
        "end_to_end": end_to_end(),
        "peak_memory_mb": memories(),
    }
    if options.write:
        write("rivals", results, DEVICE)


# The rivals: each gives the seconds that `images` images take, after the first step.


def tutorial(hidden: tuple[int, ...], images: int, epochs: int = 1) -> float:
    """As PyTorch's official tutorial on distillation has it: the teacher runs for every batch."""
    vision = import_torchvision()
    convert = vision.transforms.Compose(
        [vision.transforms.ToTensor(), vision.transforms.Normalize((0.1307,), (0.3081,))]
    )
    mnist = vision.datasets.MNIST(data_root(), train=True, transform=convert)
    return looped(torch.utils.data.Subset(mnist, range(images)), hidden, epochs)


def tensor_dataset(hidden: tuple[int, ...], images: int) -> float:
    """The same over tensors that have been converted beforehand."""
    split = load("mnist").train.take(torch.arange(images))
    floats = (split.images / 255 - 0.1307) / 0.3081
    return looped(torch.utils.data.TensorDataset(floats, split.labels), hidden, 1)


def looped(dataset: torch.utils.data.Dataset, hidden: tuple[int, ...], epochs: int) -> float:
    """The tutorial's loop over a DataLoader."""
    loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, shuffle=True)
    teacher, student, optimizer = networks(hidden)

    def step(images: Tensor, labels: Tensor) -> None:
        images, labels = images.to(DEVICE), labels.to(DEVICE)
        optimizer.zero_grad()
        with torch.no_grad():
            answers = teacher(images)
        logits = student(images)
        soft_targets = F.softmax(answers / TEMPERATURE, dim=-1)
        log_student = F.log_softmax(logits / TEMPERATURE, dim=-1)
        divergence = torch.sum(soft_targets * (soft_targets.log() - log_student)) / len(logits)
        soft = TEMPERATURE**2 * divergence
        loss = SOFT_WEIGHT * soft + (1 - SOFT_WEIGHT) * F.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        loss.item()  # the running loss that it prints

    return timed_steps(step, (batch for _ in range(epochs) for batch in loader))


def tidy(hidden: tuple[int, ...], images: int) -> float:
    """Images in memory and channels_last, but the teacher still runs for every batch."""
    teacher, student, optimizer = networks(hidden)
    teacher.to(memory_format=torch.channels_last)
    split = load("mnist").train
    pixels, labels = split.images.to(DEVICE), split.labels.to(DEVICE)

    def step(index: Tensor) -> None:
        batch = pixels[index].to(torch.float32, memory_format=torch.channels_last).div_(255)
        with torch.no_grad():
            answers = teacher(batch)
        logits = student(batch)
        log_student = F.log_softmax(logits / TEMPERATURE, dim=1)
        log_teacher = F.log_softmax(answers / TEMPERATURE, dim=1)
        divergence = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
        hard = F.cross_entropy(logits, labels[index])
        loss = torch.lerp(hard, TEMPERATURE**2 * divergence, SOFT_WEIGHT)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    order = torch.randperm(images, device=DEVICE)
    return timed_steps(step, ((index,) for index in order.split(BATCH)))


def kdnb(hidden: tuple[int, ...], images: int) -> float:
    """`kdnb.training.fit` with the teacher's answers looked up."""
    return fitted(lambda: StudentMLP(hidden=hidden), images, True)


def kdnb_without_teacher(hidden: tuple[int, ...], images: int) -> float:
    """`kdnb.training.fit` on the labels."""
    return fitted(lambda: StudentMLP(hidden=hidden), images, False)


RIVALS: dict[str, tuple[Callable[..., float], int]] = {
    "tutorial": (tutorial, FEW),
    "tutorial over a TensorDataset": (tensor_dataset, FEW),
    "in memory, live teacher": (tidy, FEW),
    "kdnb": (kdnb, MANY),
    "kdnb without a teacher": (kdnb_without_teacher, MANY),
}


def networks(hidden: tuple[int, ...]) -> tuple[nn.Module, nn.Module, torch.optim.Optimizer]:
    with seeded(0):
        teacher, student = TeacherCNN().to(DEVICE).eval(), StudentMLP(hidden=hidden).to(DEVICE)
    return teacher, student, torch.optim.Adam(student.parameters(), lr=1e-3)


def timed_steps(step: Callable[..., None], batches: object) -> float:
    """Seconds of all steps after the first, which warms up, scaled up to all of them."""
    times = []
    for batch in batches:
        step(*batch)
        times.append(now())
    return (times[-1] - times[0]) * len(times) / (len(times) - 1)


def fitted(make: Callable[[], nn.Module], images: int, distils: bool, batch: int = BATCH) -> float:
    """The same of `fit`, between its calls of ``on_step``."""
    train, val, answers = material()
    train = train.take(torch.arange(images))
    objective: Objective = LABELS
    if distils:
        objective = Distillation(
            teacher_logits=answers[:, :images], temperature=TEMPERATURE, soft_weight=SOFT_WEIGHT
        )
    times = []
    config = TrainConfig(epochs=1, batch_size=batch, learning_rate=1e-3)
    with seeded(0):
        model = make()
    fit(
        model, train, val, config, 0, objective=objective, device=DEVICE,
        on_step=lambda shown: times.append(now()),
    )  # fmt: skip
    return (times[-1] - times[0]) * len(times) / (len(times) - 1)


def material() -> tuple[Split, Split, Tensor]:
    """Training and validation images in memory, and answers that some teacher might have given."""
    if not hasattr(material, "kept"):
        mnist = load("mnist")
        with seeded(0):
            answers = torch.randn(1, len(mnist.train), 10)
        material.kept = mnist.train, mnist.val.take(torch.arange(500)), answers
    return material.kept


def now() -> float:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


# What is reported.


def epochs_compared() -> list[dict]:
    """The students in turns too: a shared machine is fast and slow for minutes on end."""
    for hidden in STUDENTS.values():
        for rival, _ in RIVALS.values():
            rival(hidden, 1_024)  # warm up
    paces = {student: {rival: [] for rival in RIVALS} for student in STUDENTS}
    for _ in range(ROUNDS):
        for student, hidden in STUDENTS.items():
            for rival, (run, images) in RIVALS.items():
                paces[student][rival].append(images / run(hidden, images))
    return [compared(student, pace) for student, pace in paces.items()]


def compared(student: str, paces: dict[str, list[float]]) -> dict:
    ours = paces["kdnb"]
    gains = {rival: spread(ratios(ours, pace)) for rival, pace in paces.items() if pace is not ours}
    print(f"\n{student}: images/s, and how many times as fast kdnb is")
    for rival, pace in paces.items():
        print(f"  {rival:30}{statistics.median(pace):12,.0f}   {shown(gains.get(rival))}")
    return {
        "student": student,
        "images_per_second": {rival: spread(pace) for rival, pace in paces.items()},
        "kdnb_times_as_fast_as": gains,
    }


def share(name: str, batch: int, make: Callable[[], nn.Module], distils: bool) -> dict:
    """What part of a large matrix product's pace training reaches.

    That pace is what torch gives by default; ``share_of_onednn`` is that of what oneDNN reaches.
    """
    flops = step_flops(make())
    images = MANY if flops < 2e7 else FEW
    fitted(make, 2_048, distils, batch)  # warm up
    shares, of_onednn = [], []
    for _ in range(ROUNDS):
        before, seconds = paces_of_products(), fitted(make, images, distils, batch)
        after = paces_of_products()
        pace = images * flops / seconds
        for found, a, b in zip((shares, of_onednn), before, after, strict=True):
            found.append(pace / ((a + b) / 2))
    print(f"\n{name}, batch {batch}, {flops:,} FLOPs per image: share of the arithmetic limit")
    print(f"  {shown(spread(shares))}, with oneDNN's products {shown(spread(of_onednn))}")
    return {
        "model": name,
        "batch": batch,
        "flops_per_image": flops,
        "share": spread(shares),
        "share_of_onednn": spread(of_onednn),
    }


def step_flops(model: nn.Module) -> int:
    """FLOPs per image of a step's matrix products: forward, and backward to weights and inputs.

    No gradient is needed for the images, so the first layer has two products, all others three.
    """
    products = []

    def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        products.append(2 * module.weight.numel() * output[0].numel() // len(module.weight))

    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.register_forward_hook(count)
    model(torch.zeros(1, 1, 28, 28))
    return 3 * sum(products) - products[0]


def paces_of_products(size: int = 2_048, times: int = 6) -> tuple[float, float]:
    """FLOPs per second of a large matrix product: torch's own way, and by oneDNN."""
    a, b = torch.randn(2, size, size, device=DEVICE)
    paces = []
    for way in (nullcontext, onednn_products):
        with way():
            a @ b
            start = now()
            for _ in range(times):
                a @ b
            paces.append(times * 2 * size**3 / (now() - start))
    return paces[0], paces[1]


def end_to_end() -> dict:
    """Ten epochs of the small student, from the files on disk."""
    hidden, images = STUDENTS["784-64-64-10"], 55_000

    def ours() -> float:
        start = now()
        mnist = load("mnist")
        with seeded(0):
            teacher, student = TeacherCNN(), StudentMLP(hidden=hidden)
        answers = predict(teacher, TranslatedImages(mnist.train.images), device=DEVICE)[None]
        objective = Distillation(
            teacher_logits=answers, temperature=TEMPERATURE, soft_weight=SOFT_WEIGHT
        )
        config = TrainConfig(epochs=EPOCHS, batch_size=BATCH, learning_rate=1e-3)
        fit(student, mnist.train, mnist.val, config, 0, objective=objective, device=DEVICE)
        return now() - start

    first = ours()
    start = now()
    tutorial(hidden, images, EPOCHS)
    theirs = now() - start
    seconds = [first, ours(), ours()]
    gains = [theirs / each for each in seconds]
    print(
        f"\nend to end, {EPOCHS} epochs of {images:,} images: tutorial {theirs:.0f} s, kdnb "
        f"{min(seconds):.1f} to {max(seconds):.1f} s, {shown(spread(gains))} times as fast"
    )
    return {"tutorial_seconds": theirs, "kdnb_seconds": seconds, "times_as_fast": spread(gains)}


def memories() -> dict[str, float]:
    """Peak memory of a process that does one thing (MB)."""
    found = {}
    for rival in ("nothing", *RIVALS):
        command = [sys.executable, __file__, "--memory", rival]
        found[rival] = float(subprocess.check_output(command, text=True).split()[-1])
    print("\npeak memory of a process, MB: " + ", ".join(f"{n} {m:.0f}" for n, m in found.items()))
    return found


def peak_memory(rival: str) -> float:
    if rival != "nothing":
        run, images = RIVALS[rival]
        run(STUDENTS["784-784-784-10"], images)
    return peak_memory_mb(DEVICE)


def ratios(ours: list[float], theirs: list[float]) -> list[float]:
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def shown(gain: dict[str, float] | None) -> str:
    if gain is None:
        return ""
    return f"{gain['median']:.2f} ({gain['lowest']:.2f} to {gain['highest']:.2f})"


if __name__ == "__main__":
    main()
