"""Notebook 02: write the distillation loss, and see why it carries a T²."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdnb.course.exercises.attempt import Attempt
from kdnb.course.exercises.exercise import (
    Case,
    Exercise,
    Misconception,
    gradient_leaks,
    gradient_missing,
    numbers,
)
from kdnb.course.exercises.verdict import Paragraph
from kdnb.losses import distillation_loss

NOTEBOOK = "02_conventional_distillation"
THE_LOSS = Paragraph(NOTEBOOK, "The loss")
WHY_T2 = Paragraph(NOTEBOOK, "Why T squared")


def _logits(images: int, classes: int, seed: int, dtype: torch.dtype = torch.float32) -> tuple:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = 2 * torch.randn(2, images, classes, generator=generator, dtype=dtype)
    return student, torch.randint(classes, (images,), generator=generator), teacher


def _case(
    images: int,
    classes: int,
    temperature: float,
    soft_weight: float,
    seed: int,
    dtype: torch.dtype = torch.float32,
) -> Case:
    about = f"{images} images of {classes} classes at T = {temperature:g}, weight {soft_weight:g},"
    return Case(about, (*_logits(images, classes, seed, dtype), temperature, soft_weight))


CASES = (
    _case(5, 4, 4.0, 0.7, seed=1),
    _case(3, 7, 2.0, 0.3, seed=2),
    _case(4, 3, 8.0, 0.9, seed=3, dtype=torch.float64),
)


def _mixed(
    student: Tensor,
    labels: Tensor,
    teacher: Tensor,
    temperature: float,
    soft_weight: float,
    *,
    soft_factor: float | None = None,
    hard_factor: float = 1.0,
    hard_logits: Tensor | None = None,
    log_student: Tensor | None = None,
    log_teacher: Tensor | None = None,
) -> Tensor:
    """The loss with one part replaced by what is given."""
    if log_student is None:
        log_student = F.log_softmax(student / temperature, dim=1)
    if log_teacher is None:
        log_teacher = F.log_softmax(teacher / temperature, dim=1)
    soft = (log_teacher.exp() * (log_teacher - log_student)).sum(1).mean()
    soft = soft * (temperature**2 if soft_factor is None else soft_factor)
    hard = F.cross_entropy(student if hard_logits is None else hard_logits, labels)
    return soft_weight * soft + (1 - soft_weight) * hard_factor * hard


def _undone_at_large_gaps(attempt: Attempt) -> str | None:
    """Where a softened probability underflows to 0, its logarithm is minus infinity."""
    student, teacher = torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([[900.0, 0.0, -900.0]])
    labels = torch.tensor([0])
    value = numbers(attempt(student, labels, teacher, 4.0, 0.5)).item()
    wanted = distillation_loss(student, labels, teacher, 4.0, 0.5).total.item()
    if abs(value - wanted) < 1e-3:
        return None
    return f"With teacher's logits 900, 0 and -900 at T = 4 it gives {value:.4g}, not {wanted:.4g}."


kd_loss = Exercise(
    key="kd_loss",
    title="Write the distillation loss",
    difficulty=2,
    minutes=15,
    where=THE_LOSS,
    stub='''\
def my_kd_loss(student_logits, labels, teacher_logits, temperature, soft_weight):
    """One number to minimise: (N, C) logits of student and teacher, (N,) labels."""
    ...  # your code''',
    solved='''\
def my_kd_loss(student_logits, labels, teacher_logits, temperature, soft_weight):
    """One number to minimise: (N, C) logits of student and teacher, (N,) labels."""
    log_student = F.log_softmax(student_logits / temperature, dim=1)
    log_teacher = F.log_softmax(teacher_logits.detach() / temperature, dim=1)
    soft = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    hard = F.cross_entropy(student_logits, labels)
    return soft_weight * temperature**2 * soft + (1 - soft_weight) * hard''',
    hints=(
        "Two terms. The soft one compares two softened distributions, the hard one is the "
        "cross-entropy with the labels at T = 1.",
        "`F.kl_div(log_student, log_teacher, log_target=True)` takes the student first and both "
        "as logarithms; its default reduction is not the one you want.",
        "What would an optimiser that holds the teacher's weights too do with your loss? "
        "`teacher_logits.detach()`.",
    ),
    right=lambda z, y, v, t, w: distillation_loss(z, y, v, t, w).total,
    cases=CASES,
    misconceptions=(
        Misconception(
            "T² forgotten",
            "Your soft term lacks the factor T²: the teacher's pull fades as T grows, and a sweep "
            "over T becomes a sweep over the weight.",
            lambda z, y, v, t, w: _mixed(z, y, v, t, w, soft_factor=1),
            read=WHY_T2,
        ),
        Misconception(
            "T instead of T²",
            "Your factor is T. The gradient holds two factors 1/T, one of them hidden in the "
            "difference of the softmaxes.",
            lambda z, y, v, t, w: _mixed(z, y, v, t, w, soft_factor=t),
            read=WHY_T2,
        ),
        Misconception(
            "T² on the hard term too",
            "The labels' term is taken at T = 1 and needs no factor: multiplied as well, the "
            "balance that the weight stands for is lost again.",
            lambda z, y, v, t, w: _mixed(z, y, v, t, w, hard_factor=t**2),
            read=WHY_T2,
        ),
        Misconception(
            "mean instead of batchmean",
            "Your soft term is divided by the number of classes too: `kl_div`'s default averages "
            'over all entries. Sum over the classes, average over the images: `"batchmean"`.',
            lambda z, y, v, t, w: _mixed(z, y, v, t, w, soft_factor=t**2 / z.shape[1]),
        ),
        Misconception(
            "sum instead of mean",
            "Your soft term is summed over the images while the labels' is averaged: the batch "
            "size would set their balance.",
            lambda z, y, v, t, w: _mixed(z, y, v, t, w, soft_factor=t**2 * len(z)),
        ),
        Misconception(
            "softmax twice in the soft term",
            "Your softened probabilities went through a softmax again, which takes them for "
            "logits between 0 and 1: hardly anything of the teacher is left.",
            (
                lambda z, y, v, t, w: _mixed(
                    z,
                    y,
                    v,
                    t,
                    w,
                    log_student=F.log_softmax(F.softmax(z / t, dim=1), dim=1),
                    log_teacher=F.log_softmax(F.softmax(v / t, dim=1), dim=1),
                ),
                lambda z, y, v, t, w: _mixed(
                    z, y, v, t, w, log_student=F.log_softmax(F.softmax(z / t, dim=1), dim=1)
                ),
            ),
        ),
        Misconception(
            "softmax twice in the hard term",
            "`F.cross_entropy` wants logits and takes the softmax itself; it got probabilities.",
            lambda z, y, v, t, w: _mixed(z, y, v, t, w, hard_logits=F.softmax(z, dim=1)),
        ),
        Misconception(
            "probabilities where logarithms belong",
            "`F.kl_div` wants the student as *log*-probabilities; it got probabilities, and its "
            "result is no divergence: it is not 0 where both agree.",
            lambda z, y, v, t, w: _mixed(z, y, v, t, w, log_student=F.softmax(z / t, dim=1)),
        ),
        Misconception(
            "KL reversed",
            "That is KL(student ‖ teacher), which lets a student ignore classes that its teacher "
            "holds possible. The teacher's probabilities must do the weighting.",
            lambda z, y, v, t, w: _mixed(v, y, z, t, w, hard_logits=z),
        ),
        Misconception(
            "cross-entropy instead of the divergence",
            "Your soft term is a cross-entropy: the same gradient, but more by the teacher's "
            "entropy, so it is not 0 where both agree.",
            lambda z, y, v, t, w: (
                w * t**2 * F.cross_entropy(z / t, F.softmax(v / t, dim=1))
                + (1 - w) * F.cross_entropy(z, y)
            ),
        ),
        Misconception(
            "temperature on the student's side only",
            "The teacher's logits are not divided by T, so the student is to give, softened, what "
            "the teacher gives unsoftened.",
            lambda z, y, v, t, w: _mixed(z, y, v, t, w, log_teacher=F.log_softmax(v, dim=1)),
        ),
        Misconception(
            "temperature on the teacher's side only",
            "The student's logits are not divided by T in the soft term, so the student is to "
            "become as undecided as the teacher is at T.",
            lambda z, y, v, t, w: _mixed(z, y, v, t, w, log_student=F.log_softmax(z, dim=1)),
        ),
        Misconception(
            "soft_weight on the wrong term",
            "Your weight multiplies the labels' term. Here 0 is labels only and 1 teacher only; "
            "elsewhere alpha may be either.",
            lambda z, y, v, t, w: _mixed(z, y, v, t, 1 - w),
        ),
        Misconception(
            "hard term softened too",
            "The cross-entropy with the labels is taken at T = 1: the student is used at T = 1.",
            lambda z, y, v, t, w: _mixed(z, y, v, t, w, hard_logits=z / t),
        ),
        Misconception(
            "hard loss on the teacher's logits",
            "Your cross-entropy compares the *teacher* with the labels: no gradient of it reaches "
            "the student, who never hears a label.",
            lambda z, y, v, t, w: _mixed(z, y, v, t, w, hard_logits=v),
        ),
        Misconception(
            "no weights",
            "Both terms are added as they are; `soft_weight` and 1 − `soft_weight` mix them.",
            lambda z, y, v, t, w: 2 * _mixed(z, y, v, t, 0.5),
        ),
        Misconception(
            "normalised over the batch",
            "Your softmax runs along `dim=0`, so the images compete for a class. The classes must "
            "compete for an image: `dim=1`.",
            lambda z, y, v, t, w: _mixed(
                z,
                y,
                v,
                t,
                w,
                log_student=F.log_softmax(z / t, dim=0),
                log_teacher=F.log_softmax(v / t, dim=0),
            ),
        ),
        Misconception(
            "0 · log 0",
            "Far apart, a softened probability is 0 in float32 and its logarithm minus infinity. "
            "Stay with `log_softmax` for both and `log_target=True`.",
            shown_by=_undone_at_large_gaps,
        ),
        Misconception(
            "no gradient for the student",
            "A number without its graph trains nobody: no `.item()`, `.detach()` or NumPy on the "
            "student's side.",
            shown_by=gradient_missing(CASES[0], 0, "the student's logits"),
        ),
        Misconception(
            "teacher's gradient not stopped",
            "An optimiser that knows the teacher's weights would move the teacher towards the "
            "student; and its graph costs memory. `teacher_logits.detach()` stops it.",
            shown_by=gradient_leaks(CASES[0], 2, "the teacher's logits"),
        ),
    ),
    praise="The value is right, the student learns from it, and the teacher is left alone.",
)


def _pull(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    p, q = F.softmax(student / temperature, dim=1), F.softmax(teacher / temperature, dim=1)
    return (p - q) / (temperature * len(student))


def _pulled(images: int, classes: int, temperature: float, seed: int, dtype: torch.dtype) -> Case:
    student, _, teacher = _logits(images, classes, seed, dtype)
    about = f"{images} images of {classes} classes at T = {temperature:g}"
    return Case(about, (student, teacher, temperature))


why_t2 = Exercise(
    key="why_t2",
    title="Why T²: the gradient without it",
    difficulty=3,
    minutes=15,
    where=WHY_T2,
    stub='''\
def my_why_t2(student_logits, teacher_logits, temperature):
    """The (N, C) gradient of the mean divergence, without T², by the student's logits."""
    ...  # your code, a formula without autograd''',
    solved='''\
def my_why_t2(student_logits, teacher_logits, temperature):
    """The (N, C) gradient of the mean divergence, without T², by the student's logits."""
    student = F.softmax(student_logits / temperature, dim=1)
    teacher = F.softmax(teacher_logits / temperature, dim=1)
    # One 1/T is the inner derivative of z / T; another hides in the difference, which fades too.
    return (student - teacher) / (temperature * len(student_logits))''',
    hints=(
        "The derivative of −Σ p log softmax(u) by u is softmax(u) − p. Here u = z / T.",
        "Two divisions are left: one by the inner derivative, one by the mean over the images.",
    ),
    right=_pull,
    cases=(
        _pulled(4, 3, 4.0, 4, torch.float32),
        _pulled(2, 5, 16.0, 5, torch.float32),
        _pulled(3, 4, 0.5, 6, torch.float64),
    ),
    misconceptions=(
        Misconception(
            "inner derivative forgotten",
            "The logits are divided by T *inside* the softmax, so the chain rule brings a factor "
            "1/T: this is the one that stands there for all to see.",
            lambda z, v, t: t * _pull(z, v, t),
        ),
        Misconception(
            "T² is in it already",
            "The factor is what the exercise wants to explain: leave it out, and see how the "
            "gradient fades without it.",
            lambda z, v, t: t**2 * _pull(z, v, t),
        ),
        Misconception(
            "mean over the images forgotten",
            "This is the gradient of the *sum* over the images: divide by their number.",
            lambda z, v, t: len(z) * _pull(z, v, t),
        ),
        Misconception(
            "mean over the classes too",
            "You divided by all entries. The divergence is summed over the classes and averaged "
            "over the images only.",
            lambda z, v, t: _pull(z, v, t) / z.shape[1],
        ),
        Misconception(
            "the wrong sign",
            "Teacher minus student is the *step* that lowers the loss. The gradient points "
            "uphill: student minus teacher.",
            lambda z, v, t: -_pull(z, v, t),
        ),
        Misconception(
            "not softened",
            "Your probabilities are those at T = 1: divide the logits by T inside both softmaxes.",
            lambda z, v, t: _pull(z, v, 1.0) / t,
        ),
        Misconception(
            "the limit of large T for every T",
            "The difference of centred logits by T² and the number of classes is what the "
            "gradient *comes close to* as T grows. At small T the softmaxes are far from linear.",
            lambda z, v, t: (
                ((z - z.mean(1, keepdim=True)) - (v - v.mean(1, keepdim=True))) / (t**2 * z.numel())
            ),
        ),
        Misconception(
            "teacher's labels instead of its probabilities",
            "The teacher's answer has been made a label: what is pulled at is the whole softened "
            "distribution.",
            lambda z, v, t: (
                (F.softmax(z / t, dim=1) - F.one_hot(v.argmax(1), v.shape[1])) / (t * len(z))
            ),
        ),
    ),
    praise="One 1/T by the chain rule, one more because both softmaxes become flat: so T² keeps "
    "the pull.",
)
