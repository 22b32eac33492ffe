"""Controls that decide between explanations of a gain: each takes away one part of distillation."""

import pickle
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
import torch
import torch.nn.functional as F

from kdnb.evaluation.metrics import entropy_bits
from kdnb.evaluation.statistics import adjusted, holm
from kdnb.experiment import ALONE, Experiment, conventional, subclass
from kdnb.experiment.methods import controls, permuted, smoothed, without_t2
from kdnb.experiment.requests import RunRequest
from kdnb.experiment.results import Comparison
from kdnb.losses import distillation_loss, soft_target_loss
from kdnb.store.store import Store
from kdnb.training.objectives import Batch

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "02_conventional_distillation.ipynb"
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


# The sentences of notebook 02


@pytest.fixture(scope="module")
def cells():
    """What the cells of the chapter define, on a task without controls."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    defined = {"taken": [], "adjusted": adjusted}
    for cell in notebook.cells:
        if cell.id in ("why-table", "why-says"):
            exec(cell.source, defined)
    return defined


def compared(**shares):
    """A comparison in which each method gets so many of 4,000 images right, the first ones."""
    labels = {"alone": ALONE.label, "kd": KD.label}
    rows = [
        torch.stack([torch.arange(4_000) < 4_000 * share + seed for seed in range(3)])
        for share in shares.values()
    ]
    names = tuple(labels.get(key, key.replace("_", " ")) for key in shares)
    return Comparison(names, (0, 1, 2), "test", torch.stack(rows), {})


def said(cells, comparison):
    found = cells["explained"](comparison, KD.label, ALONE.label)
    is_gain = comparison.gains(ALONE.label)[KD.label].sign > 0
    return cells["conclusions"](found, KD.label, ALONE.label, is_gain)


def test_sentences_say_what_the_rows_allow(cells):
    worse, rest, like, better = said(
        cells, compared(alone=0.9, kd=0.95, permuted=0.9, argmax=0.92, smoothed=0.95, images_only=1)
    )
    assert worse == (
        "**permuted**: worse than full KD, so the confidence in each image is not the whole "
        "explanation. Without the similarity of classes, no clear gain is left."
    )
    assert "the relabelling of views is not the whole explanation" in rest
    assert rest.endswith("a part of the gain remains.")
    assert like == (
        "**smoothed**: a gain, and not distinguishable from full KD: regularisation by soft labels "
        "may be enough. This does not show that the gain needs the differences between images."
    )
    assert better.endswith("so the gain does not need the images that only the teacher saw.")


def test_what_is_undecided_is_said_once(cells):
    comparison = compared(alone=0.9, kd=0.91, permuted=0.905, argmax=0.905)
    wide = comparison.correct[2:] ^ (torch.arange(4_000) % 50 < torch.arange(3)[:, None])
    comparison = replace(comparison, correct=torch.cat([comparison.correct[:2], wide]))
    (sentence,) = said(cells, comparison)
    assert sentence.startswith("**permuted; argmax**: not distinguishable from full KD")
    assert sentence.endswith("undecided.")


def test_without_a_gain_nothing_is_explained(cells):
    (sentence,) = said(cells, compared(alone=0.9, kd=0.9, permuted=0.8))
    assert sentence.endswith("there is nothing to explain.")


def test_every_control_is_explained(cells):
    labels = {method.label: 0.9 for method in controls(KD, 10)}
    source = NOTEBOOK.read_text(encoding="utf-8")
    assert "KD, teacher of the student's images only" in source
    sentences = said(cells, compared(alone=0.9, kd=0.95, **labels))
    assert len(sentences) == len(labels) == 4


def test_holm_counts_every_claim_of_a_column(cells):
    comparison = compared(alone=0.9, kd=0.95, permuted=0.92, argmax=0.93, smoothed=0.94)
    found = cells["explained"](comparison, KD.label, ALONE.label)
    for over in (ALONE.label, KD.label):
        column = {label: gain for (label, to), gain in found.items() if to == over}
        assert list(column) == ["permuted", "argmax", "smoothed"]
        expected = holm([comparison.gain(label, over).p for label in column])
        assert [gain.p_holm for gain in column.values()] == expected
