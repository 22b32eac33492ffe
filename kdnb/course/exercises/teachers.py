"""Notebook 01: ask a teacher without changing it, and read how sure it may be."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdnb.course.exercises.attempt import Attempt
from kdnb.course.exercises.exercise import Case, Function, Header, Probe, Question
from kdnb.course.exercises.verdict import Paragraph
from kdnb.environment import seeded
from kdnb.evaluation.metrics import calibration
from kdnb.training.predict import evaluating

NOTEBOOK = "01_train_the_teacher"
ONCE = Paragraph(NOTEBOOK, "The teacher's answers, computed once")
CALIBRATION = Paragraph(NOTEBOOK, "Touch it: is its confidence worth its word?")

# How a loader shuffled ten images into three batches.
SHUFFLED = ((7, 2, 9, 0), (4, 8, 1, 5), (6, 3))
TRAINING, ANSWERING, MIXED = "in train mode", "in eval mode", "whose batch-norm alone is in eval"


class _EveryOther(nn.Dropout):
    """Dropout that drops the same units each time, so that what it does can be recognised."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p:
            return x
        return 2 * x * (torch.arange(x.shape[1]) % 2)


def _teacher(state: str) -> nn.Sequential:
    """A small teacher whose batch-norm has seen other images; its first layer is not trainable."""
    with seeded(1):
        teacher = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(),
            nn.Flatten(), _EveryOther(0.5), nn.Linear(16, 3),
        )  # fmt: skip
    teacher[0].requires_grad_(False)
    teacher[1].running_mean += torch.tensor([0.3, -0.2, 0.1, -0.4])
    teacher[1].running_var *= 0.5
    teacher.train(state != ANSWERING)
    if state == MIXED:
        teacher[1].eval()
    return teacher


IMAGES = torch.randn(10, 1, 4, 4, generator=torch.Generator().manual_seed(2))
BATCHES = tuple((torch.tensor(rows), IMAGES[list(rows)]) for rows in SHUFFLED)


def _case(state: str) -> Case:
    about = f"one of ten images in three shuffled batches, with a teacher {state},"
    return Case(about, (_teacher(state), BATCHES))


def _in_order(rows: Tensor, batches: tuple) -> Tensor:
    return rows[torch.cat([index for index, _ in batches]).argsort()]


def _shuffled(teacher: nn.Module, batches: tuple) -> Tensor:
    with evaluating(teacher):
        return torch.cat([teacher(images) for _, images in batches])


def _with_still(*kinds: type[nn.Module], ordered: bool = True) -> Callable:
    """A reference that puts only these kinds of layers into eval mode."""

    def answers(teacher: nn.Module, batches: tuple) -> Tensor:
        for module in teacher.modules():
            if isinstance(module, kinds):
                module.eval()
        with torch.no_grad():
            rows = torch.cat([teacher(images) for _, images in batches])
        return _in_order(rows, batches) if ordered else rows

    return answers


def _off_for_good(attempt: Attempt) -> str | None:
    """The cases have called the function already; what comes after wants its gradients back."""
    if torch.is_grad_enabled():
        return None
    torch.set_grad_enabled(True)
    return "The answers are right, but after your function no tensor records gradients any more."


def _kept(attempt: Attempt) -> tuple[object, int]:
    """What it returns, and how many tensors its forward passes kept for a backward pass."""
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda nothing: nothing):
        result = attempt.with_these(_teacher(TRAINING), BATCHES)
    return result, len(kept)


def _records(attempt: Attempt) -> str | None:
    result, kept = _kept(attempt)
    if not getattr(result, "requires_grad", False):
        return None
    return f"The answers are right, but hang on a graph with {kept} tensors kept for gradients."


def _records_and_forgets(attempt: Attempt) -> str | None:
    _, kept = _kept(attempt)
    return f"The answers are right, but {kept} tensors were kept for gradients." if kept else None


def _modes(teacher: nn.Module) -> list[bool]:
    return [module.training for module in teacher.modules()]


def _trainable(teacher: nn.Module) -> list[bool]:
    return [parameter.requires_grad for parameter in teacher.parameters()]


def _changes(what: Callable[[nn.Module], list[bool]], state: str) -> Probe:
    """Whether a teacher in this state comes back in another."""

    def seen(attempt: Attempt) -> str | None:
        teacher = _teacher(state)
        before = what(teacher)
        attempt.with_these(teacher, BATCHES)
        return f"A teacher {state} comes back changed." if what(teacher) != before else None

    return Probe(seen)


def my_frozen_logits(teacher, batches):
    """Batches of (indices, images), shuffled, in; (N, outputs) logits out, row i of image i."""
    modes = [(module, module.training) for module in teacher.modules()]
    teacher.eval()  # dropout off, batch-norm by its running statistics, which stand still
    with torch.no_grad():  # nothing is kept for a backward pass
        logits = torch.cat([teacher(images) for _, images in batches])
    for module, mode in modes:  # layer by layer: some may have been in eval mode
        module.training = mode
    indices = torch.cat([rows for rows, _ in batches])
    return logits[indices.argsort()]


frozen_logits = Function(
    header=Header("Ask a teacher without changing it", difficulty=2, minutes=15, where=ONCE),
    solved_by=my_frozen_logits,
    hints=(
        "Two switches, and neither does the work of the other: `teacher.eval()` changes what the "
        "layers compute, `torch.no_grad()` what is recorded.",
        "Every module has a `training` of its own. Note them all before, and set them all after.",
        "`torch.cat` keeps the order of the batches. Which row belongs to image 0?",
    ),
    right=my_frozen_logits,
    cases=tuple(map(_case, (TRAINING, ANSWERING, MIXED))),
    mistakes={
        "left in train mode": (_with_still(), _with_still(ordered=False)),
        "dropout still on": _with_still(nn.BatchNorm2d),
        "batch-norm statistics drift": _with_still(nn.Dropout),
        "in the order of the loader": _shuffled,
        "the order applied instead of undone": lambda v, b: _shuffled(v, b)[
            torch.cat([index for index, _ in b])
        ],
        "probabilities instead of logits": lambda v, b: F.softmax(my_frozen_logits(v, b), dim=1),
        "gradients switched off for good": Probe(_off_for_good),
        "gradients recorded": Probe(_records),
        "detached too late": Probe(_records_and_forgets),
        "eval never undone": _changes(_modes, TRAINING),
        "back to train mode, whatever it was": _changes(_modes, ANSWERING),
        "one mode for all layers": _changes(_modes, MIXED),
        "trainable is not what it was": _changes(_trainable, TRAINING),
    },
    says={
        "left in train mode": "Without `eval()` dropout is on and batch-norm uses the batch at "
        "hand, and moves its statistics with every batch. `no_grad` does not stop either.",
        "dropout still on": "Units are dropped as in training: dropout, too, must be in eval mode.",
        "batch-norm statistics drift": "Batch-norm normalises by the batch at hand, and moves its "
        "running statistics towards it. Put the whole teacher into eval mode.",
        "in the order of the loader": "Row 0 belongs to the first image that the *loader* gave, "
        "so images get one another's logits: put each row at its index.",
        "the order applied instead of undone": "`logits[indices]` shuffles a second time. To undo "
        "it, write to the indices, `out[indices] = logits`, or read at `indices.argsort()`.",
        "probabilities instead of logits": "These are probabilities at T = 1: return logits.",
        "gradients switched off for good": "`set_grad_enabled(False)` holds for all that follows, "
        "so the student would learn nothing. `with torch.no_grad():` ends by itself.",
        "gradients recorded": "Eval mode does not stop that. It takes memory, and a loss on these "
        "answers would train the teacher: use `torch.no_grad()`.",
        "detached too late": "`detach` cuts the graph off when the forward pass has already "
        "filled the memory. Inside `torch.no_grad()` there is none.",
        "eval never undone": "If its training goes on, it does so in eval mode: without dropout "
        "and with batch-norm standing still.",
        "back to train mode, whatever it was": "Note its mode before, and give that back.",
        "one mode for all layers": "`train()` sets every layer. Networks are often fine-tuned "
        "with their batch-norm still: note and give back the mode of each.",
        "trainable is not what it was": "`no_grad` asks no parameter to change: leave them.",
    },
    praise="Dropout off, statistics still, nothing recorded, each answer at its image, and the "
    "teacher as it was.",
)


def _gaps(logits: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Confidence less accuracy of each bin in points, and the bin's share of the images."""
    found = calibration(logits, labels, temperature)
    return 100 * (found.confidence - found.accuracy), found.share


def _mean_gap(
    logits: Tensor, labels: Tensor, temperature: float, of: Callable = torch.positive
) -> float:
    gaps, share = _gaps(logits, labels, temperature)
    return (of(gaps) * share).sum().item()


def _worst_gap(logits: Tensor, labels: Tensor, temperature: float) -> float:
    gaps, _ = _gaps(logits, labels, temperature)
    return gaps[gaps.abs().argmax()].item()


confidence_gap = Question(
    header=Header("Too bold or too modest?", difficulty=1, minutes=8, where=CALIBRATION),
    about="the validation images at the temperature of distillation",
    stub="my_confidence_gap = None  # points: above 0 too bold, below 0 too modest",
    solved="""\
bins = calibration(val_logits, val.labels, lab.task.temperature)
gaps = bins.confidence - bins.accuracy  # above 0: surer than it is right
my_confidence_gap = 100 * (bins.share * gaps).sum().item()""",
    hints=(
        "Move the explorer above to that T. On which side of the diagonal do the points lie, and "
        "which of them stand for many images?",
        "`calibration(val_logits, val.labels, T)` has `confidence`, `accuracy`, `share` by bin.",
    ),
    right=_mean_gap,
    tolerance=0.02,
    mistakes={
        "the wrong sign": lambda z, y, t: -_mean_gap(z, y, t),
        "distance without direction": lambda z, y, t: _mean_gap(z, y, t, torch.abs),
        "at T = 1": lambda z, y, t: _mean_gap(z, y, 1.0),
        "the worst bin": _worst_gap,
        "every bin the same weight": lambda z, y, t: _gaps(z, y, t)[0].mean().item(),
        "the confidence alone": lambda z, y, t: 100 * F.softmax(z / t, dim=1).amax(1).mean().item(),
        "the accuracy alone": lambda z, y, t: 100 * (z.argmax(1) == y).double().mean().item(),
        "a share instead of points": lambda z, y, t: _mean_gap(z, y, t) / 100,
    },
    says={
        "the wrong sign": "That is accuracy less confidence, or the distance alone. A teacher "
        "*more* often right than sure is too modest: below 0.",
        "distance without direction": "That is the expected calibration error: it adds up "
        "distances, and bold and modest bins cannot make up for one another. Keep each bin's sign.",
        "at T = 1": "That is the teacher at T = 1: divide the logits by T.",
        "the worst bin": "That bin may hold few images: weigh each bin with its share.",
        "every bin the same weight": "Bins differ in size: weigh each with its share.",
        "the confidence alone": "Compare it with how often the teacher is right.",
        "the accuracy alone": "Compare it with how sure the teacher is.",
        "a share instead of points": "A point is a hundredth: multiply by 100.",
    },
    praise="Softened answers are not meant as probabilities of being right: they say which "
    "classes are near.",
)
