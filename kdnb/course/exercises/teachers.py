"""Notebook 01: collect a teacher's logits without changing it, and measure its calibration."""

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
ONCE = Paragraph(NOTEBOOK, "Cached logits")
CALIBRATION = Paragraph(NOTEBOOK, "Touch it: is the teacher calibrated?")

# How a loader shuffled ten images into three batches.
SHUFFLED = ((7, 2, 9, 0), (4, 8, 1, 5), (6, 3))
TRAINING, ANSWERING, MIXED = "in train mode", "in eval mode", "whose batch-norm alone is in eval"


class _EveryOther(nn.Dropout):
    """Dropout that always drops the same units, so that its effect can be recognised."""

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
    """The cases have already called the function; later code needs gradients again."""
    if torch.is_grad_enabled():
        return None
    torch.set_grad_enabled(True)
    return "The logits are right, but no tensor records gradients after your function."


def _kept(attempt: Attempt) -> tuple[object, int]:
    """The result, and the number of tensors that forward passes kept for a backward pass."""
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda nothing: nothing):
        result = attempt.with_these(_teacher(TRAINING), BATCHES)
    return result, len(kept)


def _records(attempt: Attempt) -> str | None:
    result, kept = _kept(attempt)
    if not getattr(result, "requires_grad", False):
        return None
    return f"The logits are right, but their graph keeps {kept} tensors for gradients."


def _records_and_forgets(attempt: Attempt) -> str | None:
    _, kept = _kept(attempt)
    return f"The logits are right, but {kept} tensors were kept for gradients." if kept else None


def _modes(teacher: nn.Module) -> list[bool]:
    return [module.training for module in teacher.modules()]


def _trainable(teacher: nn.Module) -> list[bool]:
    return [parameter.requires_grad for parameter in teacher.parameters()]


def _changes(what: Callable[[nn.Module], list[bool]], state: str) -> Probe:
    """Whether the function changes a teacher that is in this state."""

    def seen(attempt: Attempt) -> str | None:
        teacher = _teacher(state)
        before = what(teacher)
        attempt.with_these(teacher, BATCHES)
        return f"Your function changes a teacher {state}." if what(teacher) != before else None

    return Probe(seen)


def my_frozen_logits(teacher, batches):
    """(N, outputs) logits, row i of image i, from shuffled batches of (indices, images)."""
    modes = [(module, module.training) for module in teacher.modules()]
    teacher.eval()  # no dropout; batch-norm uses its running statistics unchanged
    with torch.no_grad():  # nothing is kept for a backward pass
        logits = torch.cat([teacher(images) for _, images in batches])
    for module, mode in modes:  # layer by layer: some may be in eval mode
        module.training = mode
    indices = torch.cat([rows for rows, _ in batches])
    return logits[indices.argsort()]


frozen_logits = Function(
    header=Header("Ask a teacher without changing it", difficulty=2, minutes=15, where=ONCE),
    solved_by=my_frozen_logits,
    hints=(
        "`teacher.eval()` changes how layers compute. `torch.no_grad()` stops recording. Use both.",
        "Every module has its own `training` flag. Save all flags first and restore them last.",
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
        "left in train mode": "Without `eval()`, dropout is active, and batch-norm uses and "
        "updates the statistics of each batch. `no_grad` prevents neither: call `teacher.eval()`.",
        "dropout still on": "Dropout is still active: put the whole teacher into eval mode.",
        "batch-norm statistics drift": "Batch-norm uses the statistics of the batch and updates "
        "its running statistics. Put the whole teacher into eval mode.",
        "in the order of the loader": "Your row 0 belongs to the first image of the *loader*, so "
        "images get the logits of other images. Put each row at the index of its image.",
        "the order applied instead of undone": "`logits[indices]` shuffles a second time. To undo "
        "the shuffle, write `out[indices] = logits`, or read at `indices.argsort()`.",
        "probabilities instead of logits": "These are probabilities at T = 1: return logits.",
        "gradients switched off for good": "`set_grad_enabled(False)` stays in force, so a student "
        "would learn nothing afterwards. Use `with torch.no_grad():`, which ends by itself.",
        "gradients recorded": "Eval mode does not stop recording. The graph takes memory, and a "
        "loss on these logits would train the teacher: use `torch.no_grad()`.",
        "detached too late": "`detach` removes the graph after the forward pass has filled the "
        "memory. Use `torch.no_grad()`, which records no graph.",
        "eval never undone": "The teacher stays in eval mode. If its training continues, dropout "
        "and batch-norm no longer work as in training: restore the modes.",
        "back to train mode, whatever it was": "Save the mode first, and restore the saved mode.",
        "one mode for all layers": "`train()` sets the mode of every layer, but fine-tuning often "
        "keeps batch-norm in eval mode. Save and restore the mode of each layer.",
        "trainable is not what it was": "Your function changes `requires_grad`. `no_grad` works "
        "without that: leave the parameters unchanged.",
    },
    praise="Your function uses eval mode, records no gradient, puts each row at its image and "
    "leaves the teacher unchanged.",
)


def _gaps(logits: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Confidence minus accuracy of each bin in points, and the bin's share of the images."""
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
    header=Header("Overconfident or underconfident?", difficulty=1, minutes=8, where=CALIBRATION),
    about="the validation images at the temperature of distillation",
    stub="my_confidence_gap = None  # points: above 0 overconfident, below 0 underconfident",
    solved="""\
bins = calibration(val_logits, val.labels, lab.task.temperature)
gaps = bins.confidence - bins.accuracy  # above 0: overconfident
my_confidence_gap = 100 * (bins.share * gaps).sum().item()""",
    hints=(
        "Move the explorer above to this T. On which side of the diagonal are the points, and "
        "which points hold many images?",
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
        "the wrong sign": "You gave accuracy minus confidence, or the absolute difference. If the "
        "accuracy is *higher* than the confidence, the answer is below 0: underconfident.",
        "distance without direction": "This is the expected calibration error, which sums absolute "
        "values, so the signs of the bins are lost. Keep the sign of each bin.",
        "at T = 1": "Your answer is for T = 1: divide the logits by T.",
        "the worst bin": "This bin may hold few images: weight all bins by their shares.",
        "every bin the same weight": "Bins differ in size: weight each by its share.",
        "the confidence alone": "You gave the mean confidence: subtract the accuracy.",
        "the accuracy alone": "You gave the accuracy: subtract it from the mean confidence.",
        "a share instead of points": "One percentage point is 0.01: multiply by 100.",
    },
    praise="Soft targets at this T are not calibrated, and need not be: their purpose is to show "
    "which classes are similar.",
)
