"""The playground: a page trains the two students of an experiment again, in JavaScript."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from kdnb.course.figures.curves import training_curves
from kdnb.course.interactive.pad import eight_bits
from kdnb.course.interactive.widgets import Live, deflated, explorer, temperatures
from kdnb.data import Split
from kdnb.data.dataset import stratified_indices
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.results import Comparison, Run
from kdnb.models import StudentMLP
from kdnb.tasks.config import SUBSET_SEED, Task
from kdnb.training.config import TrainConfig

MOST = 500  # training images in the page
COUNTS = (100, 250, MOST)
WIDTHS = (16, 32, 64, 128)
VALIDATED = 1_000  # validation images in the page
VALIDATIONS = 20  # for each student, twice as many as the engine's, which are among them


def what_is_missing(lab: Experiment) -> str:
    """The reason why a task has no playground, as sentences; empty if it has one."""
    shape, task = tuple(lab.dataset.train.images.shape[1:]), lab.task
    plain = not task.balanced and all(
        not (config.affine or config.dihedral or config.first_trainable or config.next_stage)
        for config in (task.student_config, task.distilled_config)
    )
    student = shape == (1, 28, 28) and (hidden_width(task) or "64-64" in dict(task.sizes.students))
    if plain and student:
        return ""
    return (
        "**No training in the page here**: the page trains students of dense layers on grey "
        f"images of 28×28 pixels. Images of the task {task.text.title} have "
        f"{'×'.join(map(str, shape))} (channels, height, width), and its students are other "
        "networks or have another training config."
    )


def hidden_width(task: Task) -> int | None:
    """The width of both hidden layers of the task's student; None for other networks."""
    student = task.student(num_classes=2)
    widths = {layer.out_features for layer in getattr(student, "layers", ())}
    is_mlp = isinstance(student, StudentMLP) and len(student.layers) == 2
    return widths.pop() if is_mlp and len(widths) == 1 else None


def in_page(lab: Experiment) -> Experiment:
    """The experiment whose students a page can train: ``lab``, or the same with small students.

    A page trains at most `MOST` images and the widths `WIDTHS`. In a larger task the students
    have two layers of 64 units, `MOST` of the transfer images and at least 100 epochs.
    """
    if len(lab.transfer) <= MOST and hidden_width(lab.task) in WIDTHS:
        return lab
    task = lab.task
    epochs = max(100, task.student_config.epochs)
    small = task.with_student(dict(task.sizes.students)["64-64"], epochs=epochs)
    if len(lab.transfer) > MOST:
        small = replace(small, sizes=replace(task.sizes, student_images=MOST))
    return Experiment(small, store=lab.store, watch=lab.watch, device=lab.device)


def scale_sentence(lab: Experiment, small: Experiment) -> str:
    """What a page trains for the task of ``lab``, with the experiment that `in_page` gave."""
    width, images, alone = hidden_width(small.task), len(small.transfer), small.task.student_config
    text = (
        f"In the page, students have two layers of {width} units, at most {images:,} training "
        f"images and by default {alone.epochs} epochs"
    )
    if small is lab:
        return f"{text}: the setting of this notebook."
    return f"{text}. This notebook's own students are larger or see more images."


def playground(
    lab: Experiment, compared: Comparison, temperature: float, soft_weight: float
) -> Live:
    """Settings, and two students that the page trains with them: by labels, and distilled.

    ``compared`` has the students of ``lab`` without and with a teacher at this temperature and
    weight, on the validation split. The page has their seeds, the first at the start, and each
    seed's teacher: its logits for every view, rounded to eight bits. Without scripts, a picture
    shows the learning curves of the first seed's students.
    """
    seed, task = compared.seeds[0], lab.task
    runs = {label: compared.runs[label][0] for label in compared.labels}
    alone, distilled = compared.labels
    epochs, images = task.student_config.epochs, len(lab.transfer)
    gain = compared.gain(distilled, alone) if len(compared.seeds) > 1 else None
    val = lab.dataset.val.take(torch.arange(min(VALIDATED, len(lab.dataset.val))))
    component = {
        "classes": lab.num_classes,
        "train": _split(lab.transfer),
        "val": _split(val),
        "images": len(val),
        "teachers": [_teacher(lab, compared, seed) for seed in compared.seeds],
        **temperatures(temperature),
        "soft_weight": soft_weight,
        "recipes": [_recipe(task.student_config), _recipe(task.distilled_config)],
        "validations": VALIDATIONS,
        "counts": [{"count": count, "places": places(lab, count)} for count in counts(images)],
        "epochs": sorted({max(1, epochs // 8), max(1, epochs // 4), max(1, epochs // 2), epochs,
                          2 * epochs}),
        "hidden": sorted({*WIDTHS, hidden_width(task)}),
        "start": {"images": images, "epochs": epochs, "hidden": hidden_width(task), "seed": seed},
        "gain": gain and {end: 100 * getattr(gain, end) for end in ("mean", "low", "high")},
    }  # fmt: skip
    histories = {label: run.history for label, run in runs.items()}
    picture = training_curves(histories, epochs, f"the students of this run, seed {seed}")
    return explorer("playground", component, picture, "Distil in the page")


def counts(images: int) -> list[int]:
    """The numbers of training images to choose from, out of so many."""
    return [*(count for count in COUNTS if count < images), images]


def places(lab: Experiment, count: int) -> list[int]:
    """The places among the transfer images of those that a student of ``count`` images sees."""
    images, labels = len(lab.transfer), lab.dataset.train.labels
    if count == images:
        return list(range(images))
    (few,) = stratified_indices(labels, (count,), SUBSET_SEED)
    every = torch.arange(len(labels))
    if images < len(labels):
        (every,) = stratified_indices(labels, (images,), SUBSET_SEED)
    place = {index: i for i, index in enumerate(every.tolist())}
    return [place[index] for index in few.tolist()]


def _teacher(lab: Experiment, compared: Comparison, seed: int) -> dict:
    """A teacher's rounded logits, and the curves of the run's two students of this seed."""
    logits = lab.logits(lab.teacher(seed), lab.transfer, lab.task.distilled_config)
    whole, scales = eight_bits(logits.view(1, -1))
    place = compared.seeds.index(seed)
    students = [_curve(compared.runs[label][place]) for label in compared.labels]
    packed = {"scale": scales.item(), "logits": deflated(whole)}
    return {"seed": seed, **packed, "students": students}


def _split(split: Split) -> dict[str, str]:
    return {"pixels": deflated(split.images), "labels": deflated(split.labels.to(torch.uint8))}


def _recipe(config: TrainConfig) -> dict[str, float]:
    return {
        "batch": config.batch_size,
        "rate": config.learning_rate,
        "smoothing": config.label_smoothing,
        "decay": config.weight_decay,
        "translate": config.translate,
    }


def _curve(run: Run) -> Sequence[dict[str, float]]:
    """A run's training loss by epoch, and its validation accuracy where there is one."""
    return [
        {"epoch": number, "loss": round(epoch.train_loss, 4)}
        | ({} if epoch.val_accuracy is None else {"accuracy": epoch.val_accuracy})
        for number, epoch in enumerate(run.history.epochs, 1)
    ]
