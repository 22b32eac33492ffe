"""Each published bug does what is said of it, and its repair is kdnb's own code."""

import inspect
import math
import re
from dataclasses import replace

import nbformat
import pytest
import torch
import torch.nn.functional as F
from conftest import TinyTeacher
from torch import nn

from kdnb.course import bugs
from kdnb.course.bugs import published, running
from kdnb.course.bugs.bug import compiled, outcome_of
from kdnb.course.interactive.guesses import Guesses
from kdnb.course.report.execution import find_notebooks
from kdnb.course.report.pipeline import make_report
from kdnb.evaluation.statistics import Interval
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import conventional
from kdnb.losses import distillation_loss

T, W, CLASSES = 4.0, 0.5, 10
LOSSES = [bug for bug in bugs.ALL if bug.place == bugs.Place.LOSS]
SETTING = bugs.Setting((0, 1), T, W)


def batch(rows=6):
    student, teacher = 3 * torch.randn(2, rows, CLASSES, generator=torch.Generator().manual_seed(0))
    return student.double().requires_grad_(), torch.arange(rows) % CLASSES, teacher.double()


def both(bug):
    return compiled(bug.source), compiled(bug.repaired)


@pytest.mark.parametrize("bug", bugs.ALL, ids=lambda bug: bug.name)
def test_what_is_shown_is_what_runs(bug):
    assert bug.source in bug.snippet.data + "\n" and bug.source.startswith("def ")
    assert inspect.getsource(compiled(bug.source)) == bug.source
    assert 5 <= len(bug.source.splitlines()) <= 12
    assert max(map(len, bug.source.splitlines())) <= 90
    for line in bug.diff.splitlines():
        assert not line.startswith(("-", "+")) or line[1:] in bug.repair.data


def test_there_are_eight_and_each_has_a_repair():
    sources = {bug.source for bug in bugs.ALL}
    assert len(sources) == 8 and sources.isdisjoint(bug.repaired for bug in bugs.ALL)


# What each computes


@pytest.mark.parametrize("bug", LOSSES, ids=lambda bug: bug.name)
def test_a_repaired_loss_is_kdnbs(bug):
    student, labels, teacher = batch()
    ours = distillation_loss(student, labels, teacher, T, W).total
    wrong, right = (version(student, labels, teacher, T, W) for version in both(bug))
    assert right.item() == pytest.approx(ours.item(), abs=1e-6)
    assert abs(wrong.item() - ours.item()) > 1e-3


def test_the_elementwise_mean_is_a_tenth():
    student, labels, teacher = batch()
    wrong, right = (
        version(student, labels, teacher, T, 1.0) for version in both(published.ELEMENTWISE_MEAN)
    )
    assert (right / wrong).item() == pytest.approx(CLASSES)


def test_softmax_twice_keeps_only_the_hard_term_from_zero():
    """A student that is certain and right: softmax of a one-hot is e / (e + C − 1)."""
    _, labels, teacher = batch()
    certain = 1000 * F.one_hot(labels, CLASSES).double()
    wrong, right = (
        version(certain, labels, teacher, T, 0.0) for version in both(published.SOFTMAX_TWICE)
    )
    assert right.item() == pytest.approx(0)
    assert wrong.item() == pytest.approx(least := math.log(1 + (CLASSES - 1) / math.e))
    assert f"which is {least:.2f} for ten classes" in published.SOFTMAX_TWICE.why
    soft = compiled(published.SOFTMAX_TWICE.source)(teacher, labels, teacher, T, 1.0)
    assert soft.item() == pytest.approx(0)


def test_the_teachers_hard_loss_has_no_gradient():
    student, labels, teacher = batch()
    wrong, right = (
        version(student, labels, teacher, T, 0.0) for version in both(published.TEACHERS_HARD_LOSS)
    )
    assert torch.autograd.grad(wrong, student)[0].abs().max() == 0
    assert torch.autograd.grad(right, student)[0].abs().max() > 0.01


def test_one_log_is_below_zero_where_a_divergence_is_zero():
    """For equal logits it is T² (Σ p log p − Σ p²) instead of 0."""
    _, labels, teacher = batch()
    wrong, right = (
        version(teacher, labels, teacher, T, 1.0) for version in both(published.ONE_LOG)
    )
    p = F.softmax(teacher / T, dim=1)
    expected = T**2 * ((p * p.log()).sum(1) - p.square().sum(1)).mean()
    assert right.item() == pytest.approx(0, abs=1e-9)
    assert wrong.item() == pytest.approx(expected.item()) and wrong < 0


def test_the_first_labels_are_those_of_other_images():
    student, _, teacher = batch()
    labels, index = torch.arange(9), torch.tensor([8, 2, 5, 7, 1, 0])
    answers = torch.zeros(9, CLASSES).double()
    answers[index] = teacher
    wrong, right = (
        version(student, index, labels, answers, T, W) for version in both(published.FIRST_LABELS)
    )
    for value, heard in ((wrong, labels[:6]), (right, labels[index])):
        ours = distillation_loss(student, heard, teacher, T, W).total
        assert value.item() == pytest.approx(ours.item(), abs=1e-6)


def test_a_shuffled_cache_holds_the_same_rows_in_another_order():
    images = torch.arange(40.0)[:, None]
    wrong, right = (version(lambda x: x, images) for version in both(published.SHUFFLED_CACHE))
    assert torch.equal(right, images)
    assert not torch.equal(wrong, images) and torch.equal(wrong.sort(0).values, images)


def test_a_teacher_in_training_mode_answers_anew_and_drifts():
    images = torch.rand(8, 1, 28, 28)
    for version, steady in zip(both(published.TEACHER_IN_TRAIN_MODE), (False, True), strict=True):
        teacher = TinyTeacher().eval()
        before = teacher.layers[1].running_mean.clone()
        distiller = nn.ModuleDict({"student": TinyTeacher(), "teacher": teacher})
        one, other = version(distiller, images), version(distiller, images)
        assert torch.equal(one, other) == steady
        assert torch.equal(teacher.layers[1].running_mean, before) == steady
        assert distiller.student.training and not one.requires_grad
    with torch.no_grad():
        assert torch.equal(one, teacher.eval()(images))


def test_one_student_learns_at_all_temperatures():
    for version, count in zip(both(published.ONE_STUDENT_FOR_ALL), (1, 3), strict=True):
        made = []
        found = version(
            lambda made=made: made.append(0) or len(made), lambda s, t: (s, t), (4, 2, 1)
        )
        assert len(made) == count and {t: at for t, (_, at) in found.items()} == {4: 4, 2: 2, 1: 1}


# Running them


@pytest.fixture
def lab(tiny_task, store):
    config = replace(tiny_task.student_config, translate=0)
    return Experiment(
        replace(tiny_task, student_config=config), store=store, device=torch.device("cpu")
    )


@pytest.mark.parametrize(
    "bug", [b for b in bugs.ALL if b.place != bugs.Place.SWEEP], ids=lambda bug: bug.name
)
def test_a_repaired_training_is_the_engines(lab, bug):
    """Same initial student, same batches, same teacher; only rounding may differ."""
    tried = bugs.run(lab, bug, SETTING)
    for seed, right, wrong in zip(SETTING.seeds, tried.repaired, tried.broken, strict=True):
        engine = lab.student(conventional(T, W), seed).history
        losses = [epoch.train_loss for epoch in engine.epochs]
        assert right.curves[running.TRAINING_LOSS] == pytest.approx(losses, rel=1e-4)
        assert right.curves[running.TO_TEACHER] == pytest.approx(
            [epoch.soft_loss for epoch in engine.epochs], rel=1e-4
        )
        assert wrong.curves[running.TRAINING_LOSS] != pytest.approx(losses, rel=1e-3)
    assert lab.teacher(0).model.training is False


def test_a_sweep_with_one_student_has_all_steps_behind_it(lab):
    tried = bugs.run(lab, published.ONE_STUDENT_FOR_ALL, SETTING)
    steps = 3 * 6  # epochs times batches of 16 of 96 images
    for wrong, right in zip(tried.broken, tried.repaired, strict=True):
        assert right.curves[running.STEPS] == [steps] * 3
        assert wrong.curves[running.STEPS] == [steps, 2 * steps, 3 * steps]
        assert wrong.curves[running.VALIDATION][0] == right.curves[running.VALIDATION][0]
    assert tried.split == "val" and tried.images == 40


def test_what_is_stored_is_not_trained_again(lab, monkeypatch):
    bug = bugs.ALL[0]
    first = bugs.run(lab, bug, SETTING)
    monkeypatch.setattr(running, "fit", lambda *args, **kwargs: pytest.fail("trained again"))
    assert bugs.run(lab, bug, SETTING) == first
    other = replace(bug, diff=bug.diff + "     # another\n")
    with pytest.raises(pytest.fail.Exception):
        bugs.run(lab, other, SETTING)


def test_a_task_of_another_kind_is_refused(tiny_task, store):
    staged = replace(tiny_task.student_config, first_trainable="output")
    task = replace(tiny_task, student_config=staged)
    with pytest.raises(ValueError, match="tiny trains only the last stages"):
        bugs.run(Experiment(task, store=store), bugs.ALL[0], SETTING)


# What is said


@pytest.mark.parametrize(
    ("low", "mean", "high", "outcome"),
    [
        (-0.02, -0.01, 0.001, bugs.Outcome.SAME),
        (-0.03, -0.02, -0.01, bugs.Outcome.LESS),
        (0.01, 0.02, 0.03, bugs.Outcome.BETTER),
        (-0.5, -0.41, -0.3, bugs.Outcome.BREAKS),  # of 0.9 − 0.1
        (-0.5, -0.39, -0.3, bugs.Outcome.LESS),
    ],
)
def test_the_outcome_follows_from_the_numbers(low, mean, high, outcome):
    assert outcome_of(Interval(mean, low, high, 3), repaired=0.9, chance=0.1) == outcome


@pytest.mark.slow
def test_the_sentence_says_when_the_interval_holds_zero(lab):
    tried = bugs.run(lab, bugs.ALL[0], SETTING)

    def with_scores(*scores):
        return replace(
            tried, broken=[replace(t, score=s) for t, s in zip(tried.broken, scores, strict=True)],
            repaired=[replace(t, score=0.9) for t in tried.repaired],
        )  # fmt: skip

    unclear, worse = with_scores(0.88, 0.91), with_scores(0.80, 0.81)
    guess = bugs.ask(bugs.ALL[0], 1, "tiny")
    said = bugs.reveal(unclear, guess).data
    assert said.startswith("**No distinguishable difference**")
    assert "The interval contains 0" in said
    said = bugs.reveal(worse, guess).data
    assert said.startswith("**Less is learnt**: 80.50 % with the bug, 90.00 % without")
    assert "-9.50 points" in said and "contains 0" not in said
    assert "bug 1" not in bugs.picture(worse).alt and "at the end" in bugs.picture(worse).alt
    table = bugs.found([unclear, worse]).data
    assert "| -9.50 (" in table and "1 of 2 bugs make no distinguishable" in table
    assert "-9.5 (" in bugs.overview([unclear, worse]).alt


def test_a_prediction_headless_is_no_guess():
    guess = bugs.ask(bugs.ALL[0], 1, "tiny")
    assert guess.choice == bugs.Outcome.SAME and guess.value == 0
    said = guess.reveal_choice(bugs.Outcome.LESS.value, -2.0, -3.0, -1.0).data
    result = "-2.00 points (95 % interval -3.00 to -1.00)"
    assert said == f"Outcome: *less is learnt*. Result: **{result}**."
    (kept,) = Guesses("tiny").all().values()
    assert kept.guess is None and kept.choice == "" and kept.outcome == "less is learnt"


def test_a_choice_is_compared_with_what_happened(monkeypatch):
    monkeypatch.setattr("kdnb.course.interactive.widgets.live_kernel", lambda: True)
    for choice, verdict in (
        (bugs.Outcome.LESS, "which is right"),
        (bugs.Outcome.SAME, "which is wrong"),
    ):
        guess = bugs.ask(bugs.ALL[0], 1, choice.name)
        guess.box.children[1].value = bugs.Outcome.BETTER.value
        guess.box.children[1].value = choice.value
        said = guess.reveal_choice(bugs.Outcome.LESS.value, -2.0, -3.0, -1.0).data
        assert f"You predicted *{choice.value}*, {verdict}." in said


def test_the_notebook_asks_about_each_bug_before_it_runs():
    (path,) = find_notebooks(["08"])
    cells = {cell.id: cell.source for cell in nbformat.read(path, as_version=4).cells}
    order = list(cells)
    for number in range(1, 9):
        assert f"bugs.ask(bugs.ALL[{number - 1}], {number}, task)" in cells[f"bug-{number}"]
        assert f"bugs.run(lab, bugs.ALL[{number - 1}], setting)" in cells[f"bug-{number}-run"]
        assert order.index(f"bug-{number}-run") == order.index(f"bug-{number}") + 1


def test_no_notebook_gives_an_answer_away():
    texts = [path.read_text(encoding="utf-8").lower() for path in find_notebooks()]
    for bug in bugs.ALL:
        for answer in (bug.name, *re.split(r"(?<=[.:]) ", bug.why)):
            assert not any(answer.lower() in text for text in texts), answer


@pytest.mark.slow
def test_the_notebook_makes_a_page_of_its_own(reports, tmp_path, browser, monkeypatch):
    """With the teachers that a report has left in the run store."""
    monkeypatch.setenv("KDNB_RUNS", str(reports[1]))
    target = make_report("mnist-small", only=["08"], settings=["seeds=[0, 1]"], output=tmp_path)
    page = browser.new_page(viewport={"width": 390, "height": 800})
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(target.as_uri())
    assert page.locator(".guess").count() == 8 and bugs.ALL[0].name not in page.inner_text("main")
    page.evaluate("document.getElementById('show-answers').click()")
    text = page.inner_text("main")
    assert complaints == [] and page.evaluate("document.documentElement.scrollWidth") <= 390
    for bug in bugs.ALL:
        assert bug.name in text and bug.source.splitlines()[0] in text
    assert text.count("Outcome: ") == 8
    alts = page.eval_on_selector_all("img:not([role=img] *)", "images => images.map(i => i.alt)")
    assert len(alts) >= 9 and all(len(alt) > 20 for alt in alts)
    assert page.locator(".highlight .k").count() > 0
    page.close()
