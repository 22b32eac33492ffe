"""Notebook 01: ask a teacher without changing it, and read how sure it may be."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdnb.course.exercises.attempt import Attempt
from kdnb.course.exercises.exercise import Case, Exercise, Misconception, Question
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


def _batches() -> tuple:
    images = torch.randn(10, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    return tuple((torch.tensor(rows), images[list(rows)]) for rows in SHUFFLED)


class _Fresh(Case):
    """A case whose teacher is made anew for every call: what one does to it no other meets."""

    def __init__(self, state: str):
        about = f"one of ten images in three shuffled batches, with a teacher {state},"
        object.__setattr__(self, "about", about)  # a Case is frozen
        object.__setattr__(self, "state", state)

    @property
    def arguments(self) -> tuple:
        """The teacher and the batches."""
        return _teacher(self.state), _batches()


def _in_order(rows: Tensor, batches: tuple) -> Tensor:
    return rows[torch.cat([index for index, _ in batches]).argsort()]


def _answers(teacher: nn.Module, batches: tuple) -> Tensor:
    """Logits in the order of the images, from a teacher that is left as it was."""
    with evaluating(teacher):
        rows = torch.cat([teacher(images) for _, images in batches])
    return _in_order(rows, batches)


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


def _saved(attempt: Attempt) -> tuple[object, int]:
    """What it returns, and how many tensors its forward passes kept for a backward pass."""
    kept = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = attempt.with_these(_teacher(TRAINING), _batches())
    return result, len(kept)


def _records(attempt: Attempt) -> str | None:
    result, kept = _saved(attempt)
    if not isinstance(result, Tensor) or not result.requires_grad:
        return None
    return f"The answers are right, but hang on a graph with {kept} tensors kept for gradients."


def _records_and_forgets(attempt: Attempt) -> str | None:
    _, kept = _saved(attempt)
    if not kept:
        return None
    return f"The answers are right, but on the way {kept} tensors were kept for gradients."


def _left(attempt: Attempt, state: str) -> tuple[list[str], list[str]]:
    """Of a teacher in this state: layers that were training and no longer are; the other way."""
    teacher = _teacher(state)
    before = {module: module.training for module in teacher.modules()}
    attempt.with_these(teacher, _batches())
    lost = [type(m).__name__ for m, mode in before.items() if mode and not m.training]
    won = [type(m).__name__ for m, mode in before.items() if not mode and m.training]
    return lost, won


def _not_undone(attempt: Attempt) -> str | None:
    lost, _ = _left(attempt, TRAINING)
    return "A teacher in train mode comes back in eval mode." if lost else None


def _always_training(attempt: Attempt) -> str | None:
    _, won = _left(attempt, ANSWERING)
    return "A teacher in eval mode comes back in train mode." if won else None


def _one_mode_for_all(attempt: Attempt) -> str | None:
    lost, won = _left(attempt, MIXED)
    if not lost and not won:
        return None
    return (
        "Of a teacher in train mode, but its batch-norm in eval mode, that layer comes back in "
        "train mode."
    )


def _trainable(attempt: Attempt) -> str | None:
    teacher = _teacher(TRAINING)
    before = [p.requires_grad for p in teacher.parameters()]
    attempt.with_these(teacher, _batches())
    after = [p.requires_grad for p in teacher.parameters()]
    if after == before:
        return None
    return (
        f"{sum(before)} of the teacher's {len(before)} parameters were trainable, and after your "
        f"function {sum(after)} are."
    )


frozen_answers = Exercise(
    key="frozen_answers",
    title="Ask a teacher without changing it",
    difficulty=2,
    minutes=15,
    where=ONCE,
    stub='''\
def my_frozen_answers(teacher, batches):
    """Batches of (indices, images), shuffled, in; (N, outputs) logits out, row i of image i."""
    ...  # your code''',
    solved='''\
def my_frozen_answers(teacher, batches):
    """Batches of (indices, images), shuffled, in; (N, outputs) logits out, row i of image i."""
    modes = [(module, module.training) for module in teacher.modules()]
    teacher.eval()  # dropout off, batch-norm by its running statistics, which stand still
    with torch.no_grad():  # nothing is kept for a backward pass
        logits = torch.cat([teacher(images) for _, images in batches])
    for module, mode in modes:  # layer by layer: some may have been in eval mode
        module.training = mode
    indices = torch.cat([rows for rows, _ in batches])
    return logits[indices.argsort()]''',
    hints=(
        "Two switches, and neither does the work of the other: `teacher.eval()` changes what the "
        "layers compute, `torch.no_grad()` what is recorded.",
        "Every module has a `training` of its own. Note them all before, and set them all after.",
        "`torch.cat` keeps the order of the batches. Which row belongs to image 0?",
    ),
    right=_answers,
    cases=tuple(map(_Fresh, (TRAINING, ANSWERING, MIXED))),
    misconceptions=(
        Misconception(
            "left in train mode",
            "Without `eval()` dropout is on and batch-norm uses the batch at hand, and moves its "
            "statistics with every batch. `no_grad` does not stop either.",
            (_with_still(), _with_still(ordered=False)),
        ),
        Misconception(
            "dropout still on",
            "Units are dropped as in training: ask twice, and there are two answers. Dropout, too, "
            "must be in eval mode.",
            _with_still(nn.BatchNorm2d),
        ),
        Misconception(
            "batch-norm statistics drift",
            "Batch-norm normalises by the batch at hand, and moves its running statistics towards "
            "it: this is no longer the same teacher. Put the whole teacher into eval mode.",
            _with_still(nn.Dropout),
        ),
        Misconception(
            "in the order of the loader",
            "Row 0 is the answer to the first image that the *loader* gave. A student that looks "
            "up image 0 learns from another one's answer: put each row at its index.",
            _shuffled,
        ),
        Misconception(
            "the order applied instead of undone",
            "`logits[indices]` shuffles a second time. To undo it, write to the indices, "
            "`out[indices] = logits`, or read at `indices.argsort()`.",
            lambda v, b: _shuffled(v, b)[torch.cat([index for index, _ in b])],
        ),
        Misconception(
            "probabilities instead of logits",
            "These are probabilities at T = 1. Logits serve every temperature.",
            lambda v, b: F.softmax(_answers(v, b), dim=1),
        ),
        Misconception(
            "gradients switched off for good",
            "`set_grad_enabled(False)` holds for all that follows, so the student would learn "
            "nothing. `with torch.no_grad():` ends by itself.",
            shown_by=_off_for_good,
        ),
        Misconception(
            "gradients recorded",
            "Eval mode does not stop that. It takes memory, and a loss on these answers would "
            "train the teacher: use `torch.no_grad()`.",
            shown_by=_records,
        ),
        Misconception(
            "detached too late",
            "`detach` cuts the graph off when the forward pass has already filled the memory. "
            "Inside `torch.no_grad()` there is none.",
            shown_by=_records_and_forgets,
        ),
        Misconception(
            "eval never undone",
            "If its training goes on, it does so without dropout and with batch-norm standing "
            "still, and nothing says so.",
            shown_by=_not_undone,
        ),
        Misconception(
            "back to train mode, whatever it was",
            "Whoever uses it next has dropout on. Note the mode before, and give that back.",
            shown_by=_always_training,
        ),
        Misconception(
            "one mode for all layers",
            "`train()` sets every layer. Networks are often fine-tuned with their batch-norm "
            "still: note and give back the mode of each.",
            shown_by=_one_mode_for_all,
        ),
        Misconception(
            "trainable is not what it was",
            "Its first layer was frozen, and the others were to go on learning. `no_grad` asks no "
            "parameter to change.",
            shown_by=_trainable,
        ),
    ),
    praise="Dropout off, statistics still, nothing recorded, each answer at its image, and the "
    "teacher as it was.",
)


def _gaps(logits: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Confidence less accuracy of each bin in points, and the bin's share of the images."""
    found = calibration(logits, labels, temperature)
    return 100 * (found.confidence - found.accuracy), found.share


def _mean_gap(logits: Tensor, labels: Tensor, temperature: float) -> float:
    gaps, share = _gaps(logits, labels, temperature)
    return (gaps * share).sum().item()


def _worst_gap(logits: Tensor, labels: Tensor, temperature: float) -> float:
    gaps, _ = _gaps(logits, labels, temperature)
    return gaps[gaps.abs().argmax()].item()


def _confidence(logits: Tensor, temperature: float) -> float:
    return 100 * F.softmax(logits.double() / temperature, dim=1).amax(1).mean().item()


confidence_gap = Question(
    key="confidence_gap",
    title="Too bold or too modest?",
    difficulty=1,
    minutes=8,
    where=CALIBRATION,
    stub="my_confidence_gap = None  # points: above 0 too bold, below 0 too modest",
    solved="""\
heard = calibration(val_logits, val.labels, lab.task.temperature)
gap_of_each = heard.confidence - heard.accuracy  # above 0: surer than it is right
my_confidence_gap = 100 * (heard.share * gap_of_each).sum().item()""",
    hints=(
        "Move the explorer above to that T. On which side of the diagonal do the points lie, and "
        "which of them stand for many images?",
        "`calibration(val_logits, val.labels, T)` has `confidence`, `accuracy` and `share` of "
        "each bin.",
    ),
    about="the validation images at the temperature of distillation",
    right=_mean_gap,
    tolerance=0.02,
    misconceptions=(
        Misconception(
            "the wrong sign",
            "That is accuracy less confidence, or the distance alone. A teacher that is right "
            "*more* often than it is sure lies above the diagonal: too modest, so below 0.",
            lambda z, y, t: -_mean_gap(z, y, t),
        ),
        Misconception(
            "distance without direction",
            "That is the expected calibration error: it adds up distances, and bold and modest "
            "bins cannot make up for one another. Keep each bin's sign.",
            lambda z, y, t: (_gaps(z, y, t)[0].abs() * _gaps(z, y, t)[1]).sum().item(),
        ),
        Misconception(
            "at T = 1",
            "That is the teacher as it answers by itself. The student hears it softened: divide "
            "the logits by T.",
            lambda z, y, t: _mean_gap(z, y, 1.0),
        ),
        Misconception(
            "the worst bin",
            "That is the bin farthest from the diagonal, which may hold few images. Weigh each "
            "bin with its share.",
            _worst_gap,
        ),
        Misconception(
            "every bin the same weight",
            "A bin of three images counts here as much as one of three hundred. Weigh each with "
            "its share.",
            lambda z, y, t: _gaps(z, y, t)[0].mean().item(),
        ),
        Misconception(
            "the confidence alone",
            "That is how sure it is. Whether this is too much shows against how often it is right.",
            lambda z, y, t: _confidence(z, t),
        ),
        Misconception(
            "the accuracy alone",
            "That is how often it is right, which no temperature changes. Compare it with how sure "
            "it is.",
            lambda z, y, t: 100 * (z.argmax(1) == y).double().mean().item(),
        ),
        Misconception(
            "a share instead of points",
            "A point is a hundredth: multiply by 100.",
            lambda z, y, t: _mean_gap(z, y, t) / 100,
        ),
    ),
    praise="Softened answers are not meant as probabilities of being right: they say which "
    "classes are near.",
)
