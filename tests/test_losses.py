"""The losses against the formulas, against numbers worked out by hand, and at their edges."""

import math

import pytest
import torch
import torch.nn.functional as F

from kdnb.losses import distillation_loss, soft_target_loss

T = 4.0


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    student = 3 * torch.randn(7, 5, generator=generator, dtype=torch.float64)
    teacher = 3 * torch.randn(7, 5, generator=generator, dtype=torch.float64)
    return student, torch.randint(5, (7,), generator=generator), teacher


def reference(student, teacher, temperature):
    """T² · (1/N) Σ_n Σ_c p_t (log p_t − log p_s), term by term in plain Python."""
    total = 0.0
    for zs, zt in zip(student.tolist(), teacher.tolist(), strict=True):
        ps = [math.exp(z / temperature) for z in zs]
        pt = [math.exp(z / temperature) for z in zt]
        ps, pt = [p / sum(ps) for p in ps], [p / sum(pt) for p in pt]
        total += sum(t * (math.log(t) - math.log(s)) for s, t in zip(ps, pt, strict=True))
    return temperature**2 * total / len(student)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0, 64.0])
def test_equals_the_formula(batch, temperature):
    student, _, teacher = batch
    ours = soft_target_loss(student, teacher, temperature).item()
    assert ours == pytest.approx(reference(student, teacher, temperature), abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 64.0])
def test_equals_torchs_kl_div(batch, temperature):
    """Which torch.vmap cannot map in this version of torch: so the sum is written out."""
    student, _, teacher = batch
    log_student = F.log_softmax(student / temperature, 1)
    divergence = F.kl_div(log_student, F.softmax(teacher / temperature, 1), reduction="batchmean")
    ours = soft_target_loss(student, teacher, temperature)
    torch.testing.assert_close(ours, temperature**2 * divergence, atol=1e-14, rtol=1e-12)
    with pytest.warns(UserWarning, match="batching rule for aten::kl_div"):
        torch.vmap(lambda one: F.kl_div(one, one.exp(), reduction="sum"))(log_student)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_gradient_equals_the_formula(batch, temperature):
    """T · (p_s − p_t) / N (facts: Hinton 2015, §2, times T²)."""
    student, _, teacher = batch
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(soft_target_loss(student, teacher, temperature), student)
    p_s, p_t = F.softmax(student / temperature, 1), F.softmax(teacher / temperature, 1)
    expected = temperature * (p_s - p_t) / len(student)
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=0)


def test_gradient_by_finite_differences(batch):
    student, labels, teacher = batch
    student.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: distillation_loss(z, labels, teacher, T, 0.7).total, (student,)
    )


def test_numbers_worked_out_by_hand():
    """Teacher 3/4 : 1/4 at T = 2, student even: 2² · (¾ ln 1.5 + ¼ ln 0.5) = 0.523247…

    A softmax at T = 2 gives 3/4 : 1/4 for logits that differ by 2 ln 3.
    """
    teacher = torch.tensor([[2 * math.log(3.0), 0.0]], dtype=torch.float64)
    student = torch.zeros(1, 2, dtype=torch.float64)
    soft = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert soft == pytest.approx(0.5232481, abs=1e-7)
    assert soft_target_loss(student, teacher, 2.0).item() == pytest.approx(soft, abs=1e-12)
    # Two equal rows have the mean of one: divided by the batch, not by batch times classes.
    twice = soft_target_loss(student.repeat(2, 1), teacher.repeat(2, 1), 2.0)
    assert twice.item() == pytest.approx(0.5232481, abs=1e-7)
    # With the label: hard part ln 2 = 0.6931472, mixed 0.9 : 0.1.
    loss = distillation_loss(student, torch.tensor([0]), teacher, 2.0, 0.9)
    assert loss.hard.item() == pytest.approx(0.6931472, abs=1e-7)
    assert loss.total.item() == pytest.approx(0.9 * 0.5232481 + 0.1 * 0.6931472, abs=1e-7)


def test_equal_logits_cost_nothing(batch):
    student, _, _ = batch
    assert soft_target_loss(student, student, T).item() == pytest.approx(0, abs=1e-15)


def test_adding_a_constant_changes_nothing(batch):
    student, labels, teacher = batch
    plain = distillation_loss(student, labels, teacher, T, 0.5)
    moved = distillation_loss(student + 5, labels, teacher - 700, T, 0.5)
    for a, b in zip(plain, moved, strict=True):
        assert a.item() == pytest.approx(b.item(), abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1.0, 4.0, 64.0])
def test_finite_for_huge_gaps(dtype, temperature):
    student = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]], dtype=dtype, requires_grad=True)
    teacher = torch.tensor([[-1e4, 1e4, 0.0], [-1e4, 1e4, 0.0]], dtype=dtype)
    loss = distillation_loss(student, torch.tensor([1, 1]), teacher, temperature, 0.5)
    loss.total.backward()
    assert all(part.isfinite() for part in loss)
    assert student.grad.isfinite().all()
    # Row 1 costs T² · 2e4/T, row 2 nothing: mean T · 1e4.
    assert loss.soft.item() == pytest.approx(1e4 * temperature, rel=1e-5)


def test_weight_zero_is_exactly_cross_entropy(batch):
    student, labels, teacher = batch
    assert distillation_loss(student, labels, teacher, T, 0).total == F.cross_entropy(
        student, labels
    )


def test_weight_one_is_exactly_the_soft_term(batch):
    student, labels, teacher = batch
    loss = distillation_loss(student, labels, teacher, T, 1)
    assert loss.total == soft_target_loss(student, teacher, T)


def test_no_jump_near_weight_zero(batch):
    """A published library drops T² at weight 0: its loss jumps 16-fold between 0 and 1e-9."""
    student, labels, teacher = batch
    at_zero = distillation_loss(student, labels, teacher, T, 0.0)
    nearby = distillation_loss(student, labels, teacher, T, 1e-9)
    step = 1e-9 * (at_zero.soft - at_zero.hard).item()
    assert (nearby.total - at_zero.total).item() == pytest.approx(step, abs=1e-14)


def test_the_teacher_gets_no_gradient(batch):
    student, labels, teacher = batch
    student.requires_grad_(), teacher.requires_grad_()
    distillation_loss(student, labels, teacher, T, 0.5).total.backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize("temperature", [0, 0.0, -1, math.nan, math.inf, "4", None, True])
def test_bad_temperature(batch, temperature):
    student, _, teacher = batch
    with pytest.raises(ValueError, match="temperature must be positive and finite, got"):
        soft_target_loss(student, teacher, temperature)


@pytest.mark.parametrize("weight", [-0.01, 1.01, math.nan, "0.5"])
def test_bad_weight(batch, weight):
    with pytest.raises(ValueError, match=r"soft_weight must lie between 0 .* got"):
        distillation_loss(*batch, T, weight)


def test_bad_shapes(batch):
    student, labels, teacher = batch
    with pytest.raises(ValueError, match=r"got \(7, 5\) and \(7, 4\)"):
        soft_target_loss(student, teacher[:, :4], T)
    with pytest.raises(ValueError, match=r"got \(7, 5\) and \(1, 5\)"):  # no silent broadcasting
        soft_target_loss(student, teacher[:1], T)
    with pytest.raises(ValueError, match=r"labels of shape \(6,\)"):
        distillation_loss(student, labels[:6], teacher, T, 0.5)


@pytest.mark.parametrize("label", [-1, 5])
def test_labels_out_of_range(batch, label):
    student, labels, teacher = batch
    labels[3] = label
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.4 for 5 logits, got .*"):
        distillation_loss(student, labels, teacher, T, 0.5)
