"""The losses of the course: pure functions of logits and labels, in natural units (nats)."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class DistillationLoss(NamedTuple):
    """The loss to minimise and its two parts, each a scalar tensor."""

    total: Tensor
    soft: Tensor
    hard: Tensor


def soft_target_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T² · KL(teacher ‖ student) of the softened probabilities, mean over the batch.

        T² · (1/N) Σ_n Σ_c p_t (log p_t − log p_s),   p = softmax(z / T)

    Both logits are (N, C); the result is a scalar. Its gradient with respect to the student's
    logits is T · (p_s − p_t) / N: the factor T² keeps its size when T grows (Hinton, Vinyals &
    Dean 2015, §2). No gradient reaches the teacher.

    Raises ValueError if the temperature is not positive and finite or the shapes differ.
    """
    check_temperature(temperature)
    _check_logits(student_logits, teacher_logits)
    log_student = F.log_softmax(student_logits / temperature, dim=1)
    log_teacher = F.log_softmax(teacher_logits.detach() / temperature, dim=1)
    # log_target: p·log p would be NaN where p underflows to 0.
    # batchmean: the element-wise mean would divide by the number of classes too.
    divergence = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    return temperature**2 * divergence


def distillation_loss(
    student_logits: Tensor,
    labels: Tensor,
    teacher_logits: Tensor,
    temperature: float,
    soft_weight: float,
) -> DistillationLoss:
    """soft_weight · soft_target_loss + (1 − soft_weight) · cross-entropy with the labels.

    Logits are (N, C), labels (N,) int64 in [0, C). ``soft_weight`` 0 is labels only, 1 is teacher
    only. The cross-entropy is taken at T = 1 (Hinton, Vinyals & Dean 2015, §2).

    Raises ValueError for a temperature that is not positive and finite, a weight outside [0, 1],
    shapes that differ or labels out of range.
    """
    check_soft_weight(soft_weight)
    check_labels(labels, student_logits)
    soft = soft_target_loss(student_logits, teacher_logits, temperature)
    hard = F.cross_entropy(student_logits, labels)
    # lerp returns exactly `hard` at 0 and exactly `soft` at 1.
    return DistillationLoss(torch.lerp(hard, soft, soft_weight), soft, hard)


def check_temperature(temperature: float) -> None:
    """Raise ValueError unless the temperature is a positive, finite number."""
    if not _is_number(temperature) or not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be positive and finite, got {temperature!r}")


def check_soft_weight(soft_weight: float) -> None:
    """Raise ValueError unless the weight is a number in [0, 1]."""
    if not _is_number(soft_weight) or not 0 <= soft_weight <= 1:
        raise ValueError(
            f"soft_weight must lie between 0 (labels only) and 1 (teacher only), "
            f"got {soft_weight!r}"
        )


def check_labels(labels: Tensor, logits: Tensor) -> None:
    """Raise ValueError unless there is one label in [0, C) for each row of ``logits`` (N, C)."""
    if labels.shape != logits.shape[:1]:
        raise ValueError(
            f"labels must have one entry per row of logits, got labels of shape "
            f"{tuple(labels.shape)} for logits of shape {tuple(logits.shape)}"
        )
    lowest, highest = torch.aminmax(labels)
    if lowest < 0 or highest >= logits.shape[1]:
        raise ValueError(
            f"labels must lie in 0..{logits.shape[1] - 1} for {logits.shape[1]} logits, "
            f"got {lowest.item()}..{highest.item()}"
        )


def _check_logits(student_logits: Tensor, teacher_logits: Tensor) -> None:
    if student_logits.ndim != 2 or student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student and teacher logits must share one shape (N, C), got "
            f"{tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
