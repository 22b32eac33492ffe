"""Notebook 02: write the distillation loss, and derive its factor T²."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from kdnb.course.exercises.exercise import (
    Case,
    Function,
    Header,
    differs_on,
    gradient_leaks,
    gradient_missing,
)
from kdnb.course.exercises.verdict import Paragraph
from kdnb.losses import distillation_loss

NOTEBOOK = "02_conventional_distillation"
THE_LOSS = Paragraph(NOTEBOOK, "The loss")
WHY_T2 = Paragraph(NOTEBOOK, "Why T squared")


def _logits(images: int, classes: int, seed: int, dtype: torch.dtype) -> tuple:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = 2 * torch.randn(2, images, classes, generator=generator, dtype=dtype)
    return student, torch.randint(classes, (images,), generator=generator), teacher


def _case(
    images: int, classes: int, t: float, soft_weight: float, seed: int, dtype: torch.dtype
) -> Case:
    about = f"{images} images of {classes} classes at T = {t:g}, weight {soft_weight:g},"
    return Case(about, (*_logits(images, classes, seed, dtype), t, soft_weight))


CASES = (
    _case(5, 4, 4.0, 0.7, 1, torch.float32),
    _case(3, 7, 2.0, 0.3, 2, torch.float32),
    _case(4, 3, 8.0, 0.9, 3, torch.float64),
)
# Where a softened probability underflows to 0, its logarithm is minus infinity.
FAR_APART = Case(
    "a teacher's logits 900, 0 and -900 at T = 4",
    (
        torch.tensor([[1.0, 0.0, 2.0]]),
        torch.tensor([0]),
        torch.tensor([[900.0, 0, -900]]),
        4.0,
        0.5,
    ),
)


def _kl(log_student: Tensor, log_teacher: Tensor) -> Tensor:
    return (log_teacher.exp() * (log_teacher - log_student)).sum(1).mean()


def _jensen_shannon(log_student: Tensor, log_teacher: Tensor) -> Tensor:
    log_middle = torch.logaddexp(log_student, log_teacher) - math.log(2)
    return (_kl(log_middle, log_student) + _kl(log_middle, log_teacher)) / 2


def _with(
    *,
    log_student: Callable = lambda z, t: F.log_softmax(z / t, dim=1),
    log_teacher: Callable = lambda v, t: F.log_softmax(v / t, dim=1),
    soft_factor: Callable = lambda z, t: t**2,
    hard_factor: Callable = lambda t: 1,
    hard_logits: Callable = lambda z, v, t: z,
    divergence: Callable = _kl,
) -> Callable:
    """The loss with a part replaced; z and v are the logits of student and teacher, t is T."""

    def loss(z: Tensor, labels: Tensor, v: Tensor, t: float, soft_weight: float) -> Tensor:
        log_s, log_t = log_student(z, t), log_teacher(v, t)
        soft = soft_factor(z, t) * divergence(log_s, log_t)
        hard = hard_factor(t) * F.cross_entropy(hard_logits(z, v, t), labels)
        return soft_weight * soft + (1 - soft_weight) * hard

    return loss


def _multiplied(z: Tensor, t: float) -> Tensor:
    return F.log_softmax(z * t, dim=1)


def _squares(scaled: Callable) -> Callable:
    """The loss with squared differences of the logits, scaled, in the place of the soft term."""
    return lambda z, y, v, t, w: (
        w * scaled((z - v).square(), t).mean() + (1 - w) * F.cross_entropy(z, y)
    )


def _softmax_twice(z: Tensor, t: float) -> Tensor:
    return F.log_softmax(F.softmax(z / t, dim=1), dim=1)


def _over_batch(z: Tensor, t: float) -> Tensor:
    return F.log_softmax(z / t, dim=0)


def _total(*batch: object) -> Tensor:
    return distillation_loss(*batch).total


def my_kd_loss(student_logits, labels, teacher_logits, temperature, soft_weight):
    """One number to minimise: (N, C) logits of student and teacher, (N,) labels."""
    log_student = F.log_softmax(student_logits / temperature, dim=1)
    log_teacher = F.log_softmax(teacher_logits.detach() / temperature, dim=1)
    soft = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    hard = F.cross_entropy(student_logits, labels)
    return soft_weight * temperature**2 * soft + (1 - soft_weight) * hard


kd_loss = Function(
    header=Header("Write the distillation loss", difficulty=2, minutes=15, where=THE_LOSS),
    solved_by=my_kd_loss,
    hints=(
        "Two terms. The soft one compares two softened distributions, the hard one is at T = 1.",
        "`F.kl_div(log_student, log_teacher, log_target=True)` takes the student first, and both "
        "as log-probabilities. Its default reduction is wrong here.",
        "Can your loss change the teacher's weights? `teacher_logits.detach()` prevents it.",
    ),
    right=_total,
    cases=CASES,
    mistakes={
        "T² forgotten": _with(soft_factor=lambda z, t: 1),
        "T instead of T²": _with(soft_factor=lambda z, t: t),
        "T² on the hard term too": _with(hard_factor=lambda t: t**2),
        "mean instead of batchmean": _with(soft_factor=lambda z, t: t**2 / z.shape[1]),
        "sum instead of mean": _with(soft_factor=lambda z, t: t**2 * len(z)),
        "softmax twice in the soft term": (
            _with(log_student=_softmax_twice, log_teacher=_softmax_twice),
            _with(log_student=_softmax_twice),
        ),
        "softmax twice in the hard term": _with(hard_logits=lambda z, v, t: F.softmax(z, dim=1)),
        "probabilities where logarithms belong": _with(log_student=lambda z, t: (z / t).softmax(1)),
        "KL reversed": lambda z, y, v, t, w: _with(hard_logits=lambda v, z, t: z)(v, y, z, t, w),
        "Jensen-Shannon instead of KL": (
            _with(divergence=_jensen_shannon),
            _with(divergence=_jensen_shannon, soft_factor=lambda z, t: 1),
            _with(divergence=_jensen_shannon, soft_factor=lambda z, t: 2 * t**2),
        ),
        "mean squared error of logits": (
            _squares(lambda squares, t: squares),
            _squares(lambda squares, t: squares / 2),
            _squares(lambda squares, t: squares / t**2),
            _squares(lambda squares, t: squares * t**2),
            _squares(lambda squares, t: squares.sum(1)),
        ),
        "logits multiplied by T": (
            _with(log_student=_multiplied, log_teacher=_multiplied),
            _with(log_student=_multiplied, log_teacher=_multiplied, soft_factor=lambda z, t: 1),
        ),
        "cross-entropy instead of the divergence": lambda z, y, v, t, w: (
            w * t**2 * F.cross_entropy(z / t, F.softmax(v / t, dim=1))
            + (1 - w) * F.cross_entropy(z, y)
        ),
        "temperature on the student's side only": _with(log_teacher=lambda v, t: v.log_softmax(1)),
        "temperature on the teacher's side only": _with(log_student=lambda z, t: z.log_softmax(1)),
        "soft_weight on the wrong term": lambda z, y, v, t, w: _total(z, y, v, t, 1 - w),
        "hard term softened too": _with(hard_logits=lambda z, v, t: z / t),
        "hard loss on the teacher's logits": _with(hard_logits=lambda z, v, t: v),
        "no weights": lambda z, y, v, t, w: 2 * _total(z, y, v, t, 0.5),
        "normalised over the batch": _with(log_student=_over_batch, log_teacher=_over_batch),
        "0 · log 0": differs_on(FAR_APART, _total),
        "no gradient for the student": gradient_missing(CASES[0], 0, "the student's logits"),
        "teacher's gradient not stopped": gradient_leaks(CASES[0], 2, "the teacher's logits"),
    },
    says={
        "T² forgotten": "Your soft term lacks the factor T². Its gradient fades as T grows, so a "
        "sweep over T also sweeps the weight: multiply by T².",
        "T instead of T²": "At large T the gradient has two factors 1/T, one implicit: use T².",
        "T² on the hard term too": "The hard term is computed at T = 1 and needs no factor. With "
        "T² on both terms the weight loses its meaning: multiply only the soft term.",
        "mean instead of batchmean": "The default of `kl_div` also averages over the classes. Sum "
        'over the classes and average over the images: `"batchmean"`.',
        "sum instead of mean": "Your soft term is a sum over the images: take the mean.",
        "softmax twice in the soft term": "Your softened probabilities go through a second "
        "softmax, which treats them as logits between 0 and 1 and nearly levels them: apply one.",
        "softmax twice in the hard term": "`F.cross_entropy` expects logits, not probabilities.",
        "probabilities where logarithms belong": "`F.kl_div` needs the *log*-probabilities of the "
        "student. With probabilities the result is not 0 where both agree: use `log_softmax`.",
        "KL reversed": "You computed KL(student ‖ teacher), so a student can ignore classes that "
        "its teacher considers possible. Weight by the teacher's probabilities.",
        "Jensen-Shannon instead of KL": "Your soft term compares both distributions with their "
        "mean. The loss of the equation is KL(teacher ‖ student).",
        "mean squared error of logits": "Your soft term compares logits. Compare the softened "
        "distributions with KL: the two agree only in the limit of a large T.",
        "logits multiplied by T": "Multiplying the logits sharpens both distributions. Divide "
        "the logits by T.",
        "cross-entropy instead of the divergence": "Your soft term is a cross-entropy. Its "
        "gradient is right, but its value is larger by the teacher's entropy: subtract this "
        "entropy.",
        "temperature on the student's side only": "The teacher's logits are not divided by T, so "
        "the softened student has to match the unsoftened teacher. Divide both.",
        "temperature on the teacher's side only": "The student's logits are not divided by T in "
        "the soft term, so the student becomes as uncertain as the softened teacher. Divide both.",
        "soft_weight on the wrong term": "Your weight multiplies the hard term. Here 0 means "
        "labels only and 1 teacher only. Other code may define alpha the other way.",
        "hard term softened too": "The hard term is computed at T = 1: don't divide by T there.",
        "hard loss on the teacher's logits": "Your cross-entropy compares the *teacher* with the "
        "labels, so it has no gradient for the student: use the student's logits.",
        "no weights": "You added both terms unweighted: use `soft_weight` and 1 − `soft_weight`.",
        "normalised over the batch": "Your softmax runs over the images (`dim=0`). Normalise over "
        "the classes of each image: `dim=1`.",
        "0 · log 0": "For logits that are far apart, a softened probability is 0 in float32 and "
        "its logarithm is minus infinity. Use `log_softmax` for both, and `log_target=True`.",
        "no gradient for the student": "Avoid `.item()`, `.detach()` and NumPy before the loss.",
        "teacher's gradient not stopped": "An optimiser with the teacher's weights would move the "
        "teacher towards the student: `teacher_logits.detach()` prevents this.",
    },
    read={"T² forgotten": WHY_T2, "T instead of T²": WHY_T2, "T² on the hard term too": WHY_T2},
    praise="The value is right, the student gets a gradient, and the teacher gets none.",
)


def _at(t: float, images: int, classes: int, seed: int, dtype: torch.dtype) -> Case:
    student, _, teacher = _logits(images, classes, seed, dtype)
    return Case(f"{images} images of {classes} classes at T = {t:g}", (student, teacher, t))


def my_why_t2(student_logits, teacher_logits, temperature):
    """The (N, C) gradient of the mean divergence, without T², by the student's logits."""
    student = F.softmax(student_logits / temperature, dim=1)
    teacher = F.softmax(teacher_logits / temperature, dim=1)
    # One 1/T is the inner derivative of z / T. For large T the difference shrinks as 1/T too.
    return (student - teacher) / (temperature * len(student_logits))


why_t2 = Function(
    header=Header("Why T²: the gradient without it", difficulty=3, minutes=15, where=WHY_T2),
    solved_by=my_why_t2,
    note=", a formula without autograd",
    hints=(
        "The derivative of −Σ p log softmax(u) by u is softmax(u) − p. Here u = z / T.",
        "Two divisions remain: one from the inner derivative, one from the mean over the images.",
    ),
    right=my_why_t2,
    cases=(
        _at(4.0, 4, 3, 4, torch.float32),
        _at(16.0, 2, 5, 5, torch.float32),
        _at(0.5, 3, 4, 6, torch.float64),
    ),
    mistakes={
        "inner derivative forgotten": lambda z, v, t: t * my_why_t2(z, v, t),
        "T² is in it already": lambda z, v, t: t**2 * my_why_t2(z, v, t),
        "mean over the images forgotten": lambda z, v, t: len(z) * my_why_t2(z, v, t),
        "mean over the classes too": lambda z, v, t: my_why_t2(z, v, t) / z.shape[1],
        "the wrong sign": lambda z, v, t: -my_why_t2(z, v, t),
        "not softened": lambda z, v, t: my_why_t2(z, v, 1.0) / t,
        "the limit of large T for every T": lambda z, v, t: (
            ((z - z.mean(1, keepdim=True)) - (v - v.mean(1, keepdim=True))) / (t**2 * z.numel())
        ),
        "teacher's labels instead of its probabilities": lambda z, v, t: (
            (F.softmax(z / t, dim=1) - F.one_hot(v.argmax(1), v.shape[1])) / (t * len(z))
        ),
    },
    says={
        "inner derivative forgotten": "T stands *inside* the softmax: the chain rule gives 1/T.",
        "T² is in it already": "Leave out T²: the exercise asks for the gradient without it.",
        "mean over the images forgotten": "You gave the gradient of the *sum*: divide by N.",
        "mean over the classes too": "You divided by all entries: divide by the images only.",
        "the wrong sign": "The gradient of the loss is student minus teacher.",
        "not softened": "You used the probabilities at T = 1: divide both logits by T.",
        "the limit of large T for every T": "The gradient *approaches* this difference of centred "
        "logits as T grows. At small T the softmax is far from linear: use the softmax.",
        "teacher's labels instead of its probabilities": "You replaced the teacher by its "
        "predicted class: use its whole softened distribution.",
    },
    praise="One 1/T comes from the chain rule. A second comes from the flat softmaxes, but only "
    "for large T: with the gap of 12, the length times T² is 0.95 at T = 1, 2.49 at T = 4 and 1.23 "
    "at T = 64.",
)
