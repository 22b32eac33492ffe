"""The losses of the course: pure functions of logits and labels, in natural units (nats).

Each is written here once: notebooks show it, `kdnb.training.fit` trains one model by it, and
`torch.vmap` maps it over many. All need at least one image, one class and one subclass.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

NO_LABEL = torch.iinfo(torch.int64).min  # cross_entropy ignores -100 by default


class DistillationLoss(NamedTuple):
    """The loss to minimise and its two parts, each a scalar tensor."""

    total: Tensor
    soft: Tensor
    hard: Tensor


def soft_target_loss(
    student_logits: Tensor,
    teacher_logits: Tensor | None,
    temperature: float | Tensor,
    soft_targets: Tensor | None = None,
) -> Tensor:
    """T² · KL(teacher ‖ student) of the softened probabilities, mean over the batch.

        T² · (1/N) Σ_n Σ_c p_t (log p_t − log p_s),   p = softmax(z / T)

    Both logits are (N, C); the result is a scalar. Its gradient with respect to the student's
    logits is T · (p_s − p_t) / N: the factor T² keeps its size when T grows (Hinton, Vinyals &
    Dean 2015, §2). No gradient reaches the teacher. ``soft_targets`` (N, C) are p_t where they
    were computed ahead by `soften`; then the teacher's logits are not needed.

    Raises ValueError if the temperature is not positive and finite or the shapes differ.

    >>> student, teacher = torch.zeros(1, 2), torch.tensor([[2 * math.log(3.0), 0.0]])
    >>> soft_target_loss(student, teacher, temperature=2.0)  # p_t is 3/4 : 1/4
    tensor(0.5232)
    """
    check_temperature(temperature)
    if soft_targets is None:
        soft_targets = soften(teacher_logits, temperature)
    _check_same_shape(student_logits, soft_targets)
    log_student = F.log_softmax(student_logits / temperature, dim=1)
    # As F.kl_div(log_student, soft_targets, reduction="batchmean"), which torch.vmap cannot map.
    # xlogy is p log p, and 0 where p is 0.
    divergence = torch.xlogy(soft_targets, soft_targets) - soft_targets * log_student
    return divergence.sum() * (temperature**2 / len(divergence))


def soften(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """softmax(logits / T) over the last dimension, without a gradient: a teacher's soft targets.

    >>> soften(torch.tensor([[2 * math.log(3.0), 0.0]]), temperature=2.0)
    tensor([[0.7500, 0.2500]])
    """
    return F.softmax(logits.detach() / temperature, dim=-1)


def label_loss(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of (N, C) logits with the labels (N,) int64 in [0, C), at T = 1.

    ``class_weights`` (C,) weigh the images by their label, divided by the sum of their weights.
    ``label_smoothing`` in [0, 1) is the share of each label spread evenly over all classes.

    Raises ValueError for labels out of range (on a GPU torch itself asserts) or of another number.

    >>> label_loss(torch.zeros(2, 4), torch.tensor([3, 0]))  # log 4
    tensor(1.3863)
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise ValueError(
            f"labels must have one entry per row of logits, at least one, got labels of shape "
            f"{tuple(labels.shape)} for logits of shape {tuple(logits.shape)}"
        )
    try:
        return F.cross_entropy(
            logits,
            labels,
            class_weights,
            ignore_index=NO_LABEL,
            label_smoothing=label_smoothing,
        )
    except IndexError as error:
        raise _labels_out_of_range(labels, logits.shape[1]) from error


def distillation_loss(
    student_logits: Tensor,
    labels: Tensor,
    teacher_logits: Tensor | None,
    temperature: float | Tensor,
    soft_weight: float | Tensor,
    class_weights: Tensor | None = None,
    soft_targets: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> DistillationLoss:
    """soft_weight · soft_target_loss + (1 − soft_weight) · label_loss.

    Logits are (N, C), labels (N,) int64 in [0, C). ``soft_weight`` 0 is labels only, 1 is teacher
    only. Only the soft part knows the temperature (Hinton, Vinyals & Dean 2015, §2), and only the
    hard part the ``class_weights`` (C,), as the teacher was trained with them, and
    ``label_smoothing``. ``soft_targets`` are as for `soft_target_loss`.

    Raises ValueError for a temperature that is not positive and finite, a weight outside [0, 1],
    shapes that differ or labels out of range.
    """
    check_soft_weight(soft_weight)
    soft = soft_target_loss(student_logits, teacher_logits, temperature, soft_targets)
    hard = label_loss(student_logits, labels, class_weights, label_smoothing)
    # lerp returns exactly `hard` at 0 and exactly `soft` at 1.
    return DistillationLoss(torch.lerp(hard, soft, soft_weight), soft, hard)


def class_logits(subclass_logits: Tensor, num_classes: int) -> Tensor:
    """Class logits (N, C) from subclass logits (N, C·s): the logsumexp over each class's columns.

    Columns c·s … c·s+s-1 belong to class c. The softmax of the result is the sum of each class's
    subclass probabilities (Müller, Kornblith & Hinton 2020, eq. 1-2).

    Raises ValueError if the width is not a multiple of ``num_classes``.
    """
    by_class = _by_class(subclass_logits, num_classes)
    # Of one subclass the logsumexp is that subclass.
    return subclass_logits if by_class.shape[2] == 1 else by_class.logsumexp(2)


def subclass_auxiliary_loss(
    subclass_logits: Tensor, num_classes: int, temperature: float = 1.0
) -> Tensor:
    """Müller's auxiliary loss, which keeps subclasses alive by spreading a batch's logits.

        (1/n) Σ_i log Σ_j exp(v̂_iᵀ v̂_j / T) − 1/T − log n

    v̂_i are the (C·s,) logits of image i with their own mean taken off, scaled to length 1: each
    image is normalised by itself, never over the batch. 0, the maximum, where all rows point the
    same way; a scalar in nats (Müller, Kornblith & Hinton 2020, eq. 6-7).

    Raises ValueError for a temperature that is not positive and finite or a width that is not a
    multiple of ``num_classes``.
    """
    check_temperature(temperature)
    _by_class(subclass_logits, num_classes)
    variance, mean = torch.var_mean(subclass_logits, dim=1, correction=0, keepdim=True)
    # The small number is that of the authors' code: a row of equal logits becomes 0 and not NaN.
    v = (subclass_logits - mean) / (variance + 1e-9).sqrt() / subclass_logits.shape[1] ** 0.5
    similarity = v @ v.T / temperature
    return similarity.logsumexp(1).mean() - 1 / temperature - math.log(len(v))


def subclass_agreement_loss(
    subclass_logits: Tensor,
    other_view_logits: Tensor,
    labels: Tensor,
    num_classes: int,
    evenness: float = 1.0,
) -> Tensor:
    """The loss (IIC) for the same subclass in two views of an image and an even use of subclasses.

    Minus the mutual information of the subclass k of one view and the subclass k' of the other,
    inside the class that the label names; the classes weigh as many images as they have.

        Σ_kk' P_kk' (λ log P_k + λ log P_k' − log P_kk'),   P_kk' = mean of p_k p'_k'

    p and p' (N, s) are the softmax over the subclasses of the image's class, λ is ``evenness``:
    above 1, an unused subclass costs more than the information that it could carry. The smallest
    value, (1 − 2λ) log s, means: all subclasses equally often, and always the same for both
    views. A scalar in nats (Ji, Henriques & Vedaldi 2019, arXiv 1807.06653, here once per
    class).

    Raises ValueError if the shapes differ or do not fit labels and ``num_classes``.
    """
    _check_same_shape(subclass_logits, other_view_logits, "both views'")
    by_class = [_by_class(view, num_classes) for view in (subclass_logits, other_view_logits)]
    if not labels.is_cuda and not ((labels >= 0) & (labels < num_classes)).all():
        raise _labels_out_of_range(labels, num_classes)
    rows = torch.arange(len(labels), device=labels.device)
    p, q = (F.softmax(view[rows, labels], dim=1) for view in by_class)
    member = F.one_hot(labels, num_classes).to(p.dtype)
    joint = torch.einsum("nc,nk,nj->ckj", member, p, q)
    # The order of the two views is arbitrary, so both orders count. A class without an image in
    # this batch has no joint distribution and weight 0.
    joint = (joint + joint.mT) / 2 / member.sum(0).clamp(min=1)[:, None, None]
    tiny = torch.finfo(joint.dtype).tiny
    log_joint, log_share = joint.clamp(min=tiny).log(), joint.sum(2).clamp(min=tiny).log()
    independent = log_share[:, :, None] + log_share[:, None, :]
    per_class = (joint * (evenness * independent - log_joint)).sum((1, 2))
    return (member.mean(0) * per_class).sum()


def subclass_distillation_loss(
    student_subclass_logits: Tensor,
    labels: Tensor,
    teacher_subclass_logits: Tensor | None,
    num_classes: int,
    temperature: float | Tensor,
    soft_weight: float | Tensor,
    class_weights: Tensor | None = None,
    soft_targets: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> DistillationLoss:
    """`distillation_loss` with the teacher's subclasses as soft targets.

    Both logits are (N, C·s), labels (N,) int64 in [0, C). The soft part compares all subclass
    probabilities, the hard part only the classes'. With one subclass per class this is
    `distillation_loss` (Müller, Kornblith & Hinton 2020, eq. 3-4; they write the soft part as a
    cross-entropy, which differs by the teacher's entropy and has the same gradient).

    Raises ValueError for a temperature or weight out of range, labels out of range, a width that
    is not a multiple of ``num_classes``, or a student and a teacher of different widths.
    """
    check_soft_weight(soft_weight)
    targets = teacher_subclass_logits if soft_targets is None else soft_targets
    _check_subclasses(student_subclass_logits, targets, num_classes)
    soft = soft_target_loss(
        student_subclass_logits, teacher_subclass_logits, temperature, soft_targets
    )
    by_class = class_logits(student_subclass_logits, num_classes)
    hard = label_loss(by_class, labels, class_weights, label_smoothing)
    return DistillationLoss(torch.lerp(hard, soft, soft_weight), soft, hard)


def within_class_loss(
    student_subclass_logits: Tensor,
    teacher_subclass_logits: Tensor,
    num_classes: int,
    temperature: float,
) -> Tensor:
    """Only the relative probabilities of the subclasses inside each class, never the classes'.

    `soft_target_loss` between the softmaxes over the s columns of each class, summed over the C
    classes: adding a constant to all logits of one class changes nothing. Logits are (N, C·s), the
    result is a scalar (after an experiment of Müller, Kornblith & Hinton 2020).

    Raises ValueError for a temperature out of range, a width that is not a multiple of
    ``num_classes``, or a student and a teacher of different widths.
    """
    _check_subclasses(student_subclass_logits, teacher_subclass_logits, num_classes)
    student, teacher = (
        _by_class(logits, num_classes).flatten(0, 1)
        for logits in (student_subclass_logits, teacher_subclass_logits)
    )
    return num_classes * soft_target_loss(student, teacher, temperature)


def check_temperature(temperature: float | Tensor) -> None:
    """Raise ValueError unless the temperature is a positive, finite number.

    A tensor, one temperature for each of many students, is not checked.
    """
    if not isinstance(temperature, Tensor) and not (
        _is_number(temperature) and 0 < temperature < math.inf
    ):
        raise ValueError(f"temperature must be positive and finite, got {temperature!r}")


def check_soft_weight(soft_weight: float | Tensor) -> None:
    """Raise ValueError unless the weight is a number in [0, 1]; a tensor is not checked."""
    if not isinstance(soft_weight, Tensor) and not (
        _is_number(soft_weight) and 0 <= soft_weight <= 1
    ):
        raise ValueError(
            f"soft_weight must lie between 0 (labels only) and 1 (teacher only), "
            f"got {soft_weight!r}"
        )


def _labels_out_of_range(labels: Tensor, classes: int) -> ValueError:
    lowest, highest = labels.min().item(), labels.max().item()
    return ValueError(
        f"labels must lie in 0..{classes - 1} for {classes} logits, got {lowest}..{highest}"
    )


def _by_class(subclass_logits: Tensor, num_classes: int) -> Tensor:
    """A view (N, C, s) of subclass logits (N, C·s)."""
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}")
    width = subclass_logits.shape[-1]
    if subclass_logits.ndim != 2 or not subclass_logits.numel() or width % num_classes:
        raise ValueError(
            f"subclass logits must be (N, classes·subclasses) with a width that is a multiple of "
            f"{num_classes} classes, got {tuple(subclass_logits.shape)}"
        )
    return subclass_logits.unflatten(1, (num_classes, -1))


def _check_subclasses(student: Tensor, teacher: Tensor, num_classes: int) -> None:
    have, need = (_by_class(logits, num_classes).shape[2] for logits in (student, teacher))
    if have != need:
        raise ValueError(
            f"student and teacher must have the same number of subclasses in each of the "
            f"{num_classes} classes, got {have} and {need}"
        )


def _check_same_shape(first: Tensor, second: Tensor, whose: str = "student and teacher") -> None:
    if first.ndim != 2 or first.shape != second.shape or not first.numel():
        raise ValueError(
            f"{whose} logits must share one shape (N, outputs), neither of them 0, got "
            f"{tuple(first.shape)} and {tuple(second.shape)}"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
