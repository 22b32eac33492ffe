"""Subclass losses against their equations, against numbers by hand, and at their edges."""

import math

import pytest
import torch
import torch.nn.functional as F

from kdnb.losses import (
    class_logits,
    distillation_loss,
    soft_target_loss,
    subclass_agreement_loss,
    subclass_auxiliary_loss,
    subclass_distillation_loss,
    within_class_loss,
)

CLASSES, SUBCLASSES = 2, 3


def draw(rows, columns=CLASSES * SUBCLASSES, seed=0, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(rows, columns, generator=generator, dtype=torch.float64)


LABELS = torch.tensor([0, 1, 1, 0, 1, 0, 0])


# Class logits


def test_class_probabilities_are_summed_subclass_probabilities():
    z = draw(7)
    summed = torch.stack([F.softmax(z, 1)[:, :3].sum(1), F.softmax(z, 1)[:, 3:].sum(1)], 1)
    torch.testing.assert_close(F.softmax(class_logits(z, 2), 1), summed, atol=1e-12, rtol=0)


def test_class_logits_by_hand():
    """Columns 0 and 1 are class 0: ln(1 + 2) and ln(3 + 5)."""
    z = torch.tensor([[1.0, 2.0, 3.0, 5.0]], dtype=torch.float64).log()
    expected = torch.tensor([[3.0, 8.0]], dtype=torch.float64).log()
    torch.testing.assert_close(class_logits(z, 2), expected, atol=1e-12, rtol=0)


def test_one_subclass_leaves_the_logits_as_they_are():
    z = draw(7).float()
    assert torch.equal(class_logits(z, 6), z)


def test_class_logits_survive_extreme_logits():
    z = draw(7, scale=1e4).float()
    assert class_logits(z, 2).isfinite().all()


@pytest.mark.parametrize(
    ("shape", "classes", "says"),
    [
        ((4, 7), 2, r"multiple of 2 classes, got \(4, 7\)"),
        ((4, 0), 2, r"multiple of 2 classes, got \(4, 0\)"),
        ((6,), 2, r"must be \(N, classes·subclasses\)"),
        ((4, 6), 0, "num_classes must be at least 1, got 0"),
    ],
)
def test_widths_that_do_not_fit(shape, classes, says):
    with pytest.raises(ValueError, match=says):
        class_logits(torch.zeros(shape), classes)
    with pytest.raises(ValueError, match=says):
        subclass_auxiliary_loss(torch.zeros(shape), classes)


# Müller's auxiliary loss


def auxiliary_in_plain_python(rows, temperature):
    """Equations 6 and 7, one number at a time."""
    unit = []
    for row in rows.tolist():
        mean = sum(row) / len(row)
        length = math.sqrt(sum((z - mean) ** 2 for z in row))
        unit.append([(z - mean) / length for z in row])
    total = 0.0
    for a in unit:
        total += math.log(
            sum(math.exp(sum(x * y for x, y in zip(a, b, strict=True)) / temperature) for b in unit)
        )
    return total / len(unit) - 1 / temperature - math.log(len(unit))


@pytest.mark.parametrize("temperature", [0.1, 1.0, 5.0])
def test_auxiliary_equals_the_equations(temperature):
    z = draw(9)
    expected = auxiliary_in_plain_python(z, temperature)
    # The authors' 1e-9 on the variance is worth about as much here.
    ours = subclass_auxiliary_loss(z, 2, temperature).item()
    assert ours == pytest.approx(expected, abs=1e-7)


def test_auxiliary_by_hand():
    """Two opposite rows at T = 1: ln(e + 1/e) − 1 − ln 2 = −0.566219…"""
    z = torch.tensor([[1.0, -1.0], [-2.0, 2.0]], dtype=torch.float64)
    expected = math.log(math.e + 1 / math.e) - 1 - math.log(2)
    assert expected == pytest.approx(-0.5662192, abs=1e-7)
    assert subclass_auxiliary_loss(z, 2).item() == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 5.0])
def test_identical_rows_give_the_maximum_which_is_zero(temperature):
    same = draw(1).repeat(8, 1)
    assert subclass_auxiliary_loss(same, 2, temperature).item() == pytest.approx(0, abs=1e-7)
    for seed in range(20):
        z = draw(8, seed=seed)
        assert subclass_auxiliary_loss(z, 2, temperature).item() < 0


def test_auxiliary_normalises_each_example_by_itself():
    z = draw(8)
    scale = torch.linspace(0.1, 50, 8, dtype=torch.float64)[:, None]
    shift = torch.linspace(-40, 7, 8, dtype=torch.float64)[:, None]
    before = subclass_auxiliary_loss(z, 2)
    torch.testing.assert_close(
        subclass_auxiliary_loss(scale * z + shift, 2), before, atol=1e-7, rtol=0
    )
    # Another scale of each column is another answer: nothing is normalised over the batch.
    columns = torch.tensor([5.0, 1, 1, 1, 1, 1], dtype=torch.float64)
    assert abs(subclass_auxiliary_loss(columns * z, 2) - before) > 1e-3


def test_auxiliary_gradient():
    z = draw(5).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: subclass_auxiliary_loss(v, 2), (z,))
    (gradient,) = torch.autograd.grad(subclass_auxiliary_loss(z, 2), z)
    assert (gradient.abs().sum(1) > 1e-3).all()


@pytest.mark.parametrize(
    "z",
    [draw(1), torch.full((6, 6), 2.5), draw(6, scale=1e4), 1e4 * torch.eye(6)],
    ids=["a batch of one", "constant", "±1e4", "one-hot"],
)
def test_auxiliary_stays_finite(z):
    z = z.float().requires_grad_()
    loss = subclass_auxiliary_loss(z, 2)
    (gradient,) = torch.autograd.grad(loss, z)
    assert loss.isfinite() and gradient.isfinite().all()
    assert loss.item() < 1e-6, "never positive, but for rounding"


def test_auxiliary_falls_when_rows_move_apart():
    """The gradient step that it asks for makes the answers differ more."""
    z = draw(1).repeat(6, 1) + 0.1 * draw(6, seed=1)
    start = subclass_auxiliary_loss(z, 2)
    for _ in range(50):
        z = z.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(subclass_auxiliary_loss(z, 2), z)
        z = z - 5 * gradient
    assert subclass_auxiliary_loss(z, 2) < 3 * start < 0


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan, math.inf])
def test_auxiliary_temperature(temperature):
    with pytest.raises(ValueError, match="temperature must be positive and finite"):
        subclass_auxiliary_loss(draw(4), 2, temperature)


# MutualInformation of two views


def sharp(subclasses_of_rows, labels, size=SUBCLASSES):
    """Logits that name one subclass of the row's class beyond doubt."""
    z = torch.zeros(len(labels), CLASSES * size, dtype=torch.float64)
    z[torch.arange(len(labels)), labels * size + subclasses_of_rows] = 200.0
    return z


def test_agreement_is_minus_the_mutual_information_in_nats():
    """All subclasses evenly and always the same: −ln 3. One subclass for all: 0."""
    labels = torch.tensor([0] * 6 + [1] * 6)
    perfect = sharp(torch.arange(12) % 3, labels)
    assert subclass_agreement_loss(perfect, perfect, labels, 2).item() == pytest.approx(
        -math.log(3), abs=1e-12
    )
    collapsed = sharp(torch.zeros(12, dtype=torch.long), labels)
    assert subclass_agreement_loss(collapsed, collapsed, labels, 2).item() == pytest.approx(
        0, abs=1e-12
    )
    # (1 − 2λ) ln 3
    assert subclass_agreement_loss(perfect, perfect, labels, 2, 1.5).item() == pytest.approx(
        -2 * math.log(3), abs=1e-12
    )


def test_agreement_by_hand():
    """One class of two subclasses; the views of four images agree on 0, 0 and 1, and once differ.

    Both orders counted, the pairs are 00: 4/8, 01: 1/8, 10: 1/8, 11: 2/8.
    """
    labels = torch.zeros(4, dtype=torch.long)
    one = sharp(torch.tensor([0, 0, 1, 1]), labels, size=2)[:, :2]
    other = sharp(torch.tensor([0, 0, 1, 0]), labels, size=2)[:, :2]
    joint = [[1 / 2, 1 / 8], [1 / 8, 1 / 4]]
    shares = [5 / 8, 3 / 8]
    information = sum(
        joint[i][j] * math.log(joint[i][j] / shares[i] / shares[j])
        for i in range(2)
        for j in range(2)
    )
    loss = subclass_agreement_loss(one, other, labels, 1)
    assert loss.item() == pytest.approx(-information, abs=1e-12)


def test_agreement_looks_only_inside_the_class_of_the_label():
    z, other = draw(7), draw(7, seed=1)
    before = subclass_agreement_loss(z, other, LABELS, 2)
    changed = z.clone()
    foreign = F.one_hot(1 - LABELS, 2).repeat_interleave(3, 1).bool()
    changed[foreign] += 5 * torch.rand(int(foreign.sum()), dtype=torch.float64)
    torch.testing.assert_close(subclass_agreement_loss(changed, other, LABELS, 2), before)
    torch.testing.assert_close(subclass_agreement_loss(other, z, LABELS, 2), before)


def test_agreement_weighs_classes_by_their_images():
    """A batch with 5 images of class 0 and 1 of class 1; one image alone carries nothing."""
    labels = torch.tensor([0, 0, 0, 0, 0, 1])
    z, other = draw(6), draw(6, seed=1)
    first = subclass_agreement_loss(z[:5], other[:5], labels[:5], 2)
    assert subclass_agreement_loss(z[5:], other[5:], labels[5:], 2).abs() < 0.5
    whole = subclass_agreement_loss(z, other, labels, 2)
    second = subclass_agreement_loss(z[5:], other[5:], labels[5:], 2)
    torch.testing.assert_close(whole, 5 / 6 * first + 1 / 6 * second)


def test_agreement_gradient_and_edges():
    z, other = draw(7).requires_grad_(), draw(7, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda a, b: subclass_agreement_loss(a, b, LABELS, 2, 1.5), (z, other)
    )
    for scale in (0.0, 1e4):
        extreme = (scale * draw(7)).float().requires_grad_()
        loss = subclass_agreement_loss(extreme, extreme, LABELS, 2)
        (gradient,) = torch.autograd.grad(loss, extreme)
        assert loss.isfinite() and gradient.isfinite().all()
    with pytest.raises(ValueError, match="both views' logits must share one shape"):
        subclass_agreement_loss(draw(7), draw(6), LABELS, 2)
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.1 for 2 logits, got 0\.\.2"):
        subclass_agreement_loss(draw(7), draw(7), LABELS.clamp(max=0) + 2 * LABELS, 2)


# Distillation of subclasses


def test_one_subclass_per_class_is_conventional_distillation():
    student, teacher = draw(7, 5), draw(7, 5, seed=1)
    labels = torch.arange(7) % 5
    for weight in (0.0, 0.3, 1.0):
        ours = subclass_distillation_loss(student, labels, teacher, 5, 4.0, weight)
        assert ours == distillation_loss(student, labels, teacher, 4.0, weight)


def test_subclass_distillation_by_hand():
    """Teacher ¾ ¼ 0 0 … at T = 1 against an even student of 2 × 2, label 0.

    Soft: ¾ ln 3 + ¼ ln 1 = 0.823959…; hard: the student's class probability is ½, so ln 2.
    """
    teacher = torch.tensor([[math.log(3.0), 0.0, -800.0, -800.0]], dtype=torch.float64)
    student = torch.zeros(1, 4, dtype=torch.float64)
    loss = subclass_distillation_loss(student, torch.tensor([0]), teacher, 2, 1.0, 0.75)
    assert loss.soft.item() == pytest.approx(0.75 * math.log(3.0), abs=1e-12)
    assert loss.soft.item() == pytest.approx(0.8239592, abs=1e-7)
    assert loss.hard.item() == pytest.approx(math.log(2), abs=1e-12)
    assert loss.total.item() == pytest.approx(0.75 * 0.8239592 + 0.25 * 0.6931472, abs=1e-7)


def test_the_soft_gradient_is_that_of_the_papers_cross_entropy():
    """Equation 3 has −T² Σ P log P̃; the divergence differs by the teacher's entropy only."""
    student, teacher = draw(7).requires_grad_(), draw(7, seed=1)
    paper = -16 * (F.softmax(teacher / 4, 1) * F.log_softmax(student / 4, 1)).sum(1).mean()
    loss = subclass_distillation_loss(student, LABELS, teacher, 2, 4.0, 1.0)
    torch.testing.assert_close(
        torch.autograd.grad(loss.soft, student), torch.autograd.grad(paper, student)
    )


def test_permuting_subclasses_inside_a_class_changes_nothing_for_the_classes():
    student, teacher = draw(7), draw(7, seed=1)
    order = torch.tensor([2, 0, 1, 3, 5, 4])
    torch.testing.assert_close(class_logits(student[:, order], 2), class_logits(student, 2))
    before = subclass_distillation_loss(student, LABELS, teacher, 2, 4.0, 0.5)
    both = subclass_distillation_loss(student[:, order], LABELS, teacher[:, order], 2, 4.0, 0.5)
    torch.testing.assert_close(tuple(both), tuple(before))
    one = subclass_distillation_loss(student[:, order], LABELS, teacher, 2, 4.0, 0.5)
    torch.testing.assert_close(one.hard, before.hard)
    assert abs(one.soft - before.soft) > 1e-3
    # Across classes it does matter.
    across = torch.tensor([3, 1, 2, 0, 4, 5])
    assert (class_logits(student[:, across], 2) - class_logits(student, 2)).abs().max() > 0.1


def test_within_classes_is_blind_to_the_classes():
    student, teacher = draw(7), draw(7, seed=1)
    before = within_class_loss(student, teacher, 2, 4.0)
    by_hand = soft_target_loss(student[:, :3], teacher[:, :3], 4.0) + soft_target_loss(
        student[:, 3:], teacher[:, 3:], 4.0
    )
    torch.testing.assert_close(before, by_hand)
    towards_class_one = torch.tensor([0.0, 0, 0, 7, 7, 7], dtype=torch.float64)
    torch.testing.assert_close(
        within_class_loss(student + towards_class_one, teacher, 2, 4.0), before
    )
    torch.testing.assert_close(
        within_class_loss(student, teacher + towards_class_one, 2, 4.0), before
    )
    assert within_class_loss(teacher + towards_class_one, teacher, 2, 4.0) < 1e-12


@pytest.mark.parametrize("loss", ["distillation", "within"])
def test_students_and_teachers_with_other_numbers_of_subclasses(loss):
    says = "same number of subclasses in each of the 2 classes, got 3 and 5"
    with pytest.raises(ValueError, match=says):
        if loss == "within":
            within_class_loss(draw(7), draw(7, 10), 2, 4.0)
        else:
            subclass_distillation_loss(draw(7), LABELS, draw(7, 10), 2, 4.0, 0.5)


def test_no_gradient_reaches_the_teacher():
    teacher = draw(7, seed=1).requires_grad_()
    student = draw(7).requires_grad_()
    subclass_distillation_loss(student, LABELS, teacher, 2, 4.0, 0.5).total.backward()
    within_class_loss(student, teacher, 2, 4.0).backward()
    assert teacher.grad is None and student.grad is not None
