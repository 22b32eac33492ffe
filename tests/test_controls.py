"""Controls that decide between explanations of a gain: each takes away one part of distillation."""

import pickle
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from kdnb.evaluation.metrics import entropy_bits
from kdnb.experiment import ALONE, Experiment, conventional, subclass
from kdnb.experiment.methods import controls, permuted, smoothed, without_t2
from kdnb.experiment.requests import RunRequest
from kdnb.losses import distillation_loss, soft_target_loss
from kdnb.store.store import Store
from kdnb.training.objectives import Batch

KD = conventional(temperature=4.0, soft_weight=0.9)
BY_LABEL = {method.label: method for method in controls(KD, num_classes=4)}


@pytest.fixture
def logits():
    """(3 views, 400 images, 4 classes) of a teacher that is mostly right, and the labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 4
    logits = torch.randn(3, 400, 4, generator=generator) + 3 * F.one_hot(labels, 4)
    return logits, labels


def test_permuted_keeps_confidence_and_entropy_and_loses_the_wrong_classes(logits):
    teacher, labels = logits
    changed = permuted(teacher, labels)
    label = F.one_hot(labels, 4).bool().expand_as(teacher)
    assert torch.equal(changed[label], teacher[label])
    assert torch.equal(changed.sort(2).values, teacher.sort(2).values)
    before, after = (entropy_bits(F.softmax(each / 4, 2)) for each in (teacher, changed))
    torch.testing.assert_close(before, after)
    # Each wrong class comes from each of the three alike: of 400 images, a third stay in place.
    stayed = (changed == teacher)[~label].double().mean()
    assert stayed == pytest.approx(1 / 3, abs=0.05)
    # One order an image, whatever the view, and the same when it is asked for again.
    assert torch.equal(permuted(teacher[1:2], labels), changed[1:2])
    assert not torch.equal(changed, teacher)


def test_argmax_is_cross_entropy_with_the_teachers_answer(logits):
    teacher, labels = logits
    student = torch.randn(400, 4, generator=torch.Generator().manual_seed(1)).double()
    method = BY_LABEL["teacher's argmax as hard label"]
    table = method.matched(teacher, labels, 4).double()
    loss = method.objective.loss(student, Batch(labels, teacher_logits=table[0]))
    answers = teacher[0].argmax(1)
    assert not torch.equal(answers, labels)
    expected = 0.9 * F.cross_entropy(student, answers) + 0.1 * F.cross_entropy(student, labels)
    torch.testing.assert_close(loss.total, expected)


def test_smoothed_has_the_teachers_mean_confidence_for_every_image(logits):
    teacher, labels = logits
    targets = F.softmax(smoothed(teacher, labels, temperature=4.0).double() / 4, 2)
    confidence = F.softmax(teacher.double() / 4, 2)[:, torch.arange(400), labels].mean()
    label = F.one_hot(labels, 4).bool().expand_as(targets)
    torch.testing.assert_close(targets[label], confidence.expand(1200), rtol=1e-5, atol=0)
    wrong = ((1 - confidence) / 3).expand(3600)
    torch.testing.assert_close(targets[~label], wrong, rtol=1e-5, atol=0)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_without_t2_is_another_weight(logits, temperature):
    """The gradients of both are the same but for one factor, which Adam ignores."""
    teacher, labels = logits[0][0].double(), logits[1]
    student = torch.randn(400, 4, generator=torch.Generator().manual_seed(1)).double()
    student.requires_grad_()
    soft = soft_target_loss(student, teacher, temperature) / temperature**2
    bare = 0.9 * soft + 0.1 * F.cross_entropy(student, labels)
    weight = without_t2(temperature, 0.9)
    same = distillation_loss(student, labels, teacher, temperature, weight).total
    one, other = (torch.autograd.grad(loss, student)[0] for loss in (bare, same))
    torch.testing.assert_close(one, other * (0.9 / temperature**2 + 0.1))
    assert (weight == pytest.approx(0.9)) == (temperature == 1)


def test_controls_keep_all_but_what_they_take_away():
    assert [m.soft_targets and True for m in BY_LABEL.values()] == [True, True, True, None]
    assert len({*BY_LABEL, KD.label, ALONE.label}) == 6
    for method in BY_LABEL.values():
        assert method.objective.subclasses == 1
        assert pickle.loads(pickle.dumps(method)).label == method.label
    # One wrong class cannot be permuted; alone in the loss, the soft term may have any factor.
    assert len(controls(KD, num_classes=2)) == 3
    assert len(controls(conventional(4.0, 1.0), num_classes=4)) == 3


def test_what_is_matched_changes_the_run_and_its_key(tiny_task, store):
    lab = Experiment(tiny_task, store=store)
    other = replace(KD, soft_targets=permuted, label="other")
    assert lab.key(RunRequest(0, replace(KD, label="renamed"))) == lab.key(RunRequest(0, KD))
    methods = [KD, *BY_LABEL.values()]
    assert len({lab.key(RunRequest(0, method)) for method in methods}) == len(methods)
    by_temperature = {lab.key(RunRequest(0, controls(KD, 4)[2])) for _ in range(2)}
    assert len(by_temperature) == 1
    plain, changed = (lab.student(method, 0) for method in (KD, other))
    assert plain.weights != changed.weights
    matched = lab.logits(lab.teacher(0), lab.transfer, lab.task.student_config)
    expected = permuted(matched, lab.transfer.labels)
    assert torch.equal(other.matched(matched, lab.transfer.labels, 4), expected)


def test_a_readers_own_function_counts_by_what_it_does(tiny_task, store):
    def times(factor):
        return replace(KD, soft_targets=lambda logits, labels: factor * logits)

    lab = Experiment(tiny_task, store=store)
    keys = [lab.key(RunRequest(0, times(factor))) for factor in (2, 3, 2)]
    assert keys[0] == keys[2] != keys[1]


def test_of_subclasses_the_change_is_that_of_their_logits(tiny_task, store):
    divided = tiny_task.subclass_config
    shapes = []

    def seen(logits, labels):
        shapes.append(tuple(logits.shape))
        return logits

    lab = Experiment(tiny_task, store=store)
    lab.student(replace(subclass(4.0, 0.9, divided), soft_targets=seen), 0)
    lab.student(replace(conventional(4.0, 0.9, subclass_config=divided), soft_targets=seen), 0)
    assert shapes == [(9, 96, 8), (9, 96, 4)]


def test_trained_together_each_matches_its_own(tiny_task, store, tmp_path):
    """One batched model of all controls gives what each gives alone."""
    methods = [ALONE, KD, *BY_LABEL.values()]
    requests = [RunRequest(seed, method) for seed in (0, 1) for method in methods]
    together = Experiment(tiny_task, store=store)
    alone = Experiment(tiny_task, store=Store(tmp_path / "alone"))
    together.train_ahead(requests)
    for request in requests:
        entry = store.get(together.key(request))
        assert entry.record["trained_at_once"] == len(requests)
        expected = alone.run(request).model.state_dict()
        for name, tensor in entry.tensors.items():
            torch.testing.assert_close(tensor, expected[name].cpu(), rtol=1e-3, atol=1e-4)
