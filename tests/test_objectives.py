"""Objectives put the right losses together, and say what they need."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from kdnb import losses
from kdnb.training.objectives import (
    LABELS,
    AuxiliaryLoss,
    Batch,
    Distillation,
    KnownSubclasses,
    MutualInformation,
    Objective,
    WithinClasses,
)

CPU = torch.device("cpu")


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(*shape, generator=generator, dtype=torch.float64)


def rows(count=6):
    return Batch(torch.arange(count) % 2)


def test_labels_are_the_cross_entropy_of_the_classes():
    z = draw(6, 4)
    expected = F.cross_entropy(losses.class_logits(z, 2), rows().labels)
    loss = Objective(subclasses=2).loss(z, rows())
    assert loss.total == loss.hard == expected
    assert loss.soft is None and loss.auxiliary is None
    assert LABELS.loss(z, rows()).total == F.cross_entropy(z, rows().labels)


def test_the_label_loss_of_every_objective_is_smoothed():
    z, labels = draw(6, 4), torch.arange(6) % 2
    batch = Batch(labels, subclasses=2 * labels + 1, teacher_logits=draw(6, 4, seed=1))
    by_class = F.cross_entropy(losses.class_logits(z, 2), labels, label_smoothing=0.2)
    by_subclass = F.cross_entropy(z, batch.subclasses, label_smoothing=0.2)
    for kind, expected in (
        (Objective, by_class),
        (AuxiliaryLoss, by_class),
        (MutualInformation, by_class),
        (partial(Distillation, temperature=4.0, soft_weight=0.7), by_class),
        (KnownSubclasses, by_subclass),
    ):
        assert kind(subclasses=2, label_smoothing=0.2).loss(z, batch).hard == expected


def test_spread_adds_muellers_loss():
    z = draw(6, 4)
    loss = AuxiliaryLoss(subclasses=2, weight=0.3, temperature=0.5).loss(z, rows())
    assert loss.auxiliary == losses.subclass_auxiliary_loss(z, 2, 0.5)
    torch.testing.assert_close(loss.total, loss.hard + 0.3 * loss.auxiliary)


def test_agreement_compares_the_first_block_of_rows_with_the_second():
    z = draw(6, 4)
    labels = torch.tensor([0, 1, 0]).repeat(2)
    objective = MutualInformation(subclasses=2, weight=0.3, evenness=1.5)
    assert objective.views_per_image == 2
    loss = objective.loss(z, Batch(labels))
    assert loss.auxiliary == losses.subclass_agreement_loss(z[:3], z[3:], labels[:3], 2, 1.5)
    assert loss.hard == F.cross_entropy(losses.class_logits(z, 2), labels), "both views count"
    torch.testing.assert_close(loss.total, loss.hard + 0.3 * loss.auxiliary)


@pytest.mark.parametrize("subclasses", [1, 2])
def test_distillation_looks_up_image_and_view(subclasses):
    answers = draw(3, 6, 4)  # 3 views of 6 images
    labels, index, view = torch.tensor([[1, 0], [5, 2], [2, 0]])
    z = draw(2, 4, seed=1)
    objective = Distillation(
        subclasses=subclasses, teacher_logits=answers, temperature=4.0, soft_weight=0.7
    ).on(CPU)
    loss = objective.loss(z, objective.batch(labels, index, view))
    teacher = torch.stack([answers[2, 5], answers[0, 2]])
    expected = losses.subclass_distillation_loss(z, labels, teacher, 4 // subclasses, 4.0, 0.7)
    assert (loss.total, loss.soft, loss.hard) == expected


@pytest.mark.parametrize("subclasses", [1, 2])
def test_soft_targets_computed_ahead_give_the_same_loss_and_gradient(subclasses):
    answers = draw(3, 6, 4)
    answers[2, 5, 0] = 2000.0  # all other probabilities underflow to 0
    labels, index, view = torch.tensor([[1, 0, 1], [5, 2, 0], [2, 0, 1]])
    here = Distillation(
        teacher_logits=answers, temperature=4.0, soft_weight=0.3, subclasses=subclasses
    )
    ahead = here.on(CPU)
    z = [draw(3, 4, seed=1).requires_grad_() for _ in range(2)]
    for objective, logits in zip((here, ahead), z, strict=True):
        objective.loss(logits, objective.batch(labels, index, view)).total.backward()
    assert here.batch(labels, index, view).soft_targets is None
    assert ahead.batch(labels, index, view).teacher_logits is None
    torch.testing.assert_close(z[0].grad, z[1].grad, atol=1e-12, rtol=1e-12)


def test_within_classes_never_hears_a_label():
    answers, z = draw(1, 6, 4), draw(6, 4, seed=1)
    objective = WithinClasses(subclasses=2, teacher_logits=answers, temperature=4.0)
    batch = objective.batch(torch.arange(6) % 2, torch.arange(6), torch.zeros(6, dtype=torch.int64))
    loss = objective.loss(z, batch)
    swapped = batch._replace(labels=1 - batch.labels)
    assert loss.total == objective.loss(z, swapped).total == loss.soft
    assert loss.hard is None
    assert loss.total == losses.within_class_loss(z, answers[0], 2, 4.0)


@pytest.mark.parametrize("count", [0, -1])
def test_fewer_than_one_subclass(count):
    for objective in (Objective, AuxiliaryLoss, MutualInformation):
        with pytest.raises(ValueError, match=f"subclasses must be at least 1, got {count}"):
            objective(subclasses=count)


def test_a_width_that_is_no_multiple_of_the_subclasses():
    with pytest.raises(ValueError, match="7 logits cannot be classes of 2 subclasses each"):
        AuxiliaryLoss(subclasses=2).loss(draw(6, 7), rows())
