"""Methods over seeds: fair, stored, loaded, interrupted."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from compared import comparison

from kdnb.evaluation.metrics import accuracy
from kdnb.evaluation.statistics import joint_interval
from kdnb.experiment import experiment as experiment_module
from kdnb.experiment import logit_cache as answers
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import ALONE, Method, conventional, subclass, within_classes
from kdnb.experiment.requests import RunRequest
from kdnb.experiment.results import Run
from kdnb.models import StudentMLP
from kdnb.store.store import digest, weights_digest
from kdnb.tasks.config import DistillationConfig, Sizes, SubclassConfig
from kdnb.training.config import TrainConfig
from kdnb.training.objectives import (
    AuxiliaryLoss,
    Distillation,
    MutualInformation,
    Objective,
    TeacherObjective,
    WithinClasses,
)

CPU = torch.device("cpu")
KD = conventional(4.0, 0.9)


def interrupt_once(update):
    """Ctrl-C in the middle of training; the word that it was stopped comes through."""
    if not update.history.interrupted:
        raise KeyboardInterrupt


@pytest.fixture
def lab(tiny_task, store):
    return Experiment(tiny_task, store=store, device=CPU)


def test_a_second_time_everything_comes_from_the_store(lab, tiny_task, store, monkeypatch):
    first = lab.compare([ALONE, KD], [0, 1])
    assert not any(run.loaded for runs in first.runs.values() for run in runs)
    assert len(store.names("run-")) == 2 * 2 + 2  # and two teachers

    def forbidden(*args, **kwargs):
        raise AssertionError("trained or predicted again")

    monkeypatch.setattr(experiment_module, "fit", forbidden)
    monkeypatch.setattr(answers, "predict", forbidden)
    again = Experiment(tiny_task, store=store, device=CPU).compare([ALONE, KD], [0, 1])
    assert torch.equal(first.accuracies, again.accuracies)
    assert all(run.loaded for runs in again.runs.values() for run in runs)
    assert again.runs[KD.label][0].history == first.runs[KD.label][0].history


def test_the_same_work_in_another_store_gives_the_same_weights(lab, tiny_task, tmp_path):
    from kdnb.store.store import Store

    other = Experiment(tiny_task, store=Store(tmp_path / "other"), device=CPU)
    assert lab.student(KD, 0).weights == other.student(KD, 0).weights
    assert lab.student(KD, 0).weights != lab.student(KD, 1).weights


def test_methods_of_one_seed_start_alike(lab, monkeypatch):
    starts = []
    original = experiment_module.fit

    def spy(model, *args, **kwargs):
        starts.append(
            (isinstance(kwargs["objective"], TeacherObjective), args[3], weights_digest(model))
        )
        return original(model, *args, **kwargs)

    lab.teacher(0), lab.teacher(1)
    monkeypatch.setattr(experiment_module, "fit", spy)
    lab.compare([ALONE, KD], [0, 1])
    assert [(taught, seed) for taught, seed, _ in starts] == [
        (False, 0), (True, 0), (False, 1), (True, 1),
    ]  # fmt: skip
    assert starts[0][2] == starts[1][2] and starts[2][2] == starts[3][2]
    assert starts[0][2] != starts[2][2]


@pytest.mark.parametrize(
    "other",
    [conventional(8.0, 0.9), conventional(4.0, 0.5), ALONE],
)
def test_another_method_is_another_run(lab, other):
    lab.student(KD, 0)
    assert not lab.student(other, 0).loaded


def test_another_label_is_the_same_run(lab):
    lab.student(KD, 0)
    assert lab.student(conventional(4, 0.9, "called otherwise"), 0).loaded


def test_another_recipe_or_data_is_another_run(lab, tiny_task, store):
    lab.student(ALONE, 0)
    config = replace(tiny_task.student_config, learning_rate=2e-2)
    for changed in (
        replace(tiny_task, student_config=config),
        replace(tiny_task, sizes=Sizes(student_images=50)),
    ):
        run = Experiment(changed, store=store, device=CPU).student(ALONE, 0)
        assert not run.loaded
    # All the images, asked for by number, are the images as they are.
    everything = replace(tiny_task, sizes=Sizes(student_images=96))
    assert Experiment(everything, store=store, device=CPU).student(ALONE, 0).loaded
    # The teacher does not depend on what its students see.
    lab.teacher(0)
    assert Experiment(changed, store=store, device=CPU).teacher(0).loaded


def test_students_with_a_teacher_may_have_a_config_of_their_own(tiny_task, store):
    own = replace(tiny_task.student_config, epochs=5, translate=0)
    task = replace(tiny_task, distillation=DistillationConfig(4.0, 0.9, own))
    lab = Experiment(task, store=store, device=CPU)
    assert [len(lab.student(method, 0).history.epochs) for method in (ALONE, KD)] == [3, 5]
    lab.train_ahead([RunRequest(seed, method) for seed in (1, 2) for method in (ALONE, KD)])
    for seed, method in product((1, 2), (ALONE, KD)):
        run = lab.student(method, seed)
        record = store.get(lab.key(RunRequest(seed, method))).record
        assert run.loaded and record["trained_at_once"] == 2, "those of one config"
        assert len(run.history.epochs) == (3 if method is ALONE else 5)
    small = lab.with_student(lambda **given: StudentMLP(hidden=(4,), **given), epochs=2)
    assert small.task.student_config == replace(tiny_task.student_config, epochs=2)
    assert small.task.distilled_config == replace(own, epochs=2)
    assert lab.task.distilled_config == own and tiny_task.distilled_config.epochs == 3


def test_logits_are_kept_under_weights_images_and_view(lab, store):
    teacher, other = lab.teacher(0), lab.teacher(1)
    test = lab.dataset.test
    one, two = lab.logits(teacher, test), lab.logits(other, test)
    assert not torch.allclose(one, two)
    views = lab.logits(teacher, test, TrainConfig(1, 1, 1.0, translate=1))
    assert views.shape == (9, 40, 4) and torch.equal(views[0], one[0])
    with torch.inference_mode():
        shifted = torch.zeros_like(test.images)
        shifted[:, :, 1:] = test.images[:, :, :-1]  # one pixel down
        live = teacher.model(shifted.float() / 255)
    from kdnb.data.augmentation import translations

    torch.testing.assert_close(views[translations(1).index((1, 0))], live, atol=1e-5, rtol=0)
    entries = [store.get(name).record for name in store.names("logits-")]
    expected = {digest([run.network, run.weights]) for run in (teacher, other)}
    assert {e["weights"] for e in entries} == expected and teacher.network == other.network


def test_a_changed_teacher_is_asked_again(lab):
    """The same seed after other training: its old answers must not be used."""
    teacher = lab.teacher(0)
    old = lab.logits(teacher, lab.transfer)
    with torch.no_grad():
        next(teacher.model.parameters()).add_(0.5)
    changed = Run("teacher", 0, teacher.model, teacher.history, {}, False)
    assert not torch.allclose(lab.logits(changed, lab.transfer), old)


def test_a_comparison_is_paired_by_seed(lab):
    result = lab.compare([ALONE, KD], [3, 5, 8])
    assert result.accuracies.shape == (2, 3) and result.images == 40
    test = lab.dataset.test
    for label in result.labels:
        for run, seen in zip(result.runs[label], result.accuracy(label), strict=True):
            assert accuracy(lab.test_logits(run), test.labels) == pytest.approx(seen.item())
    difference = result.accuracy(KD.label) - result.accuracy(ALONE.label)
    gain = result.gain(KD.label, over=ALONE.label)
    assert gain.mean == pytest.approx(difference.mean().item()) and gain.n == 3
    assert gain.images == 40 and result.correct.shape == (2, 3, 40)
    assert gain == joint_interval(result.correct[1].double() - result.correct[0].double())


def test_pairing_removes_what_the_seeds_share():
    """Both methods vary by seed, the difference does not: what is left is due to the images."""
    result = comparison({"a": [0.5, 0.6, 0.8], "b": [0.6, 0.7, 0.9]}, 1000)
    gain = result.gain("b", over="a")
    assert gain.mean == pytest.approx(0.1)
    assert gain.high - gain.low < 0.1 < 0.5 < result.mean("a").high - result.mean("a").low


def test_choices_look_at_validation_only(lab, monkeypatch):
    looked_at = []
    original = lab.logits
    monkeypatch.setattr(
        lab, "logits", lambda run, split: looked_at.append(split) or original(run, split)
    )
    lab.compare([ALONE], [0, 1], split="val")
    assert looked_at and all(split is lab.dataset.val for split in looked_at)


def test_ctrl_c_keeps_what_is_finished(lab, store):
    def stop(update):
        if update.label == KD.label and update.seed == 1 and len(update.history.epochs) == 2:
            interrupt_once(update)

    lab.watch = stop
    result = lab.compare([ALONE, KD], [0, 1, 2])
    assert result.interrupted and result.seeds == (0,)
    assert result.accuracies.shape == (2, 1)
    with pytest.raises(ValueError, match="at least 2 seeds, got 1"):
        result.gain(KD.label, ALONE.label)
    lab.watch = None
    again = lab.compare([ALONE, KD], [0, 1, 2])
    assert not again.interrupted and again.seeds == (0, 1, 2)
    loaded = {label: [run.loaded for run in runs] for label, runs in again.runs.items()}
    assert loaded == {ALONE.label: [True, True, False], KD.label: [True, False, False]}


def test_ctrl_c_before_anything_is_finished(lab):
    lab.watch = interrupt_once
    result = lab.compare([ALONE], [0])
    assert result.interrupted and result.seeds == () and result.accuracies.shape == (1, 0)
    assert not lab.store.names("run-"), "half a run is not a finished run"


def test_an_interrupted_teacher_teaches_nobody(lab):
    lab.watch = interrupt_once
    assert lab.teacher(0).history.interrupted
    with pytest.raises(KeyboardInterrupt):
        lab.student(KD, 0)
    assert lab.compare([KD], [0]).interrupted
    lab.watch = None
    assert not lab.teacher(0).history.interrupted


def test_an_unwritable_store_stops_before_training(tiny_task, tmp_path, monkeypatch):
    from kdnb.store.store import Store, StoreError

    (tmp_path / "file").write_text("")
    lab = Experiment(tiny_task, store=Store(tmp_path / "file/runs"), device=CPU)
    monkeypatch.setattr(experiment_module, "fit", lambda *a, **k: pytest.fail("trained"))
    with pytest.raises(StoreError, match="set KDNB_RUNS"):
        lab.student(ALONE, 0)


def test_work_is_not_lost_when_the_disk_fills_up(lab, monkeypatch):
    from kdnb.store.store import StoreError

    def full(*args):
        raise StoreError("disk full: set KDNB_RUNS to a writable folder")

    monkeypatch.setattr(lab.store, "put", full)
    with pytest.warns(UserWarning, match="trained, but not stored: disk full"):
        run = lab.student(ALONE, 0)
    assert len(run.history.epochs) == 3


def test_retraining_gives_the_same_teacher_again(lab):
    first = lab.teacher(0)
    again = lab.teacher(0, retrain=True)
    assert not again.loaded and again.weights == first.weights


def test_bad_requests(lab):
    with pytest.raises(ValueError, match="distinct labels"):
        lab.compare([KD, KD], [0])
    with pytest.raises(ValueError, match="each only once"):
        lab.compare([KD], [0, 0])
    with pytest.raises(ValueError, match="at least one seed"):
        lab.compare([KD], [])
    with pytest.raises(ValueError, match="temperature must be positive"):
        conventional(0)
    with pytest.raises(ValueError, match=r"student_images must lie in 1\.\.96 for tiny, got 97"):
        Experiment(replace(lab.task, sizes=Sizes(student_images=97)), store=lab.store)
    with pytest.raises(ValueError, match="learning_rate must be positive, got 0"):
        TrainConfig(1, 1, 0)


DIVIDED = SubclassConfig(
    "x", AuxiliaryLoss(subclasses=2), TrainConfig(epochs=2, batch_size=16, learning_rate=1e-2)
)
SUBCLASS_KD = subclass(4.0, 0.9, DIVIDED)


def test_heads_fit_what_is_matched(lab):
    teacher = lab.teacher(0, DIVIDED)
    assert lab.logits(teacher, lab.dataset.val).shape == (1, 40, 8)
    outputs = {
        method.label: lab.logits(lab.student(method, 0), lab.dataset.val).shape[2]
        for method in (
            ALONE,
            conventional(4.0, 0.9, "same teacher, classes only", DIVIDED),
            SUBCLASS_KD,
            within_classes(4.0, DIVIDED),
        )
    }
    assert list(outputs.values()) == [4, 4, 8, 8]
    assert lab.test_logits(lab.student(SUBCLASS_KD, 0)).shape == (40, 4)


def test_each_division_has_a_teacher_of_its_own(lab):
    plain, divided = lab.teacher(0), lab.teacher(0, DIVIDED)
    assert lab.teacher(0) is plain and lab.teacher(0, DIVIDED) is divided
    for other in (
        SubclassConfig("x", Objective(subclasses=2), DIVIDED.train_config),
        SubclassConfig("x", AuxiliaryLoss(subclasses=2, weight=0.5), DIVIDED.train_config),
        SubclassConfig("x", AuxiliaryLoss(subclasses=2, temperature=0.5), DIVIDED.train_config),
        SubclassConfig("x", AuxiliaryLoss(subclasses=3), DIVIDED.train_config),
        SubclassConfig("x", MutualInformation(subclasses=2), DIVIDED.train_config),
        SubclassConfig("x", AuxiliaryLoss(subclasses=2), replace(DIVIDED.train_config, affine=0.1)),
    ):
        assert not lab.teacher(0, other).loaded, other
    assert len({run.weights for run in lab._teachers.values()}) == 8


def test_students_learn_from_the_teacher_of_their_method(lab, monkeypatch):
    """Its subclass logits, their class logits, or nothing but the division within classes."""
    teacher = lab.logits(lab.teacher(0, DIVIDED), lab.transfer, TrainConfig(1, 1, 1.0, translate=1))
    given = []
    original = experiment_module.fit

    def spy(*args, **kwargs):
        given.append(kwargs["objective"])
        return original(*args, **kwargs)

    monkeypatch.setattr(experiment_module, "fit", spy)
    for method in (
        SUBCLASS_KD,
        conventional(4.0, subclass_config=DIVIDED),
        within_classes(4.0, DIVIDED),
    ):
        lab.student(method, 0)
    by_subclass, by_class, within = given
    assert torch.equal(by_subclass.teacher_logits, teacher) and by_subclass.subclasses == 2
    summed = torch.logsumexp(teacher.unflatten(2, (4, 2)), 3)
    torch.testing.assert_close(by_class.teacher_logits, summed)
    assert by_class.subclasses == 1 and by_class.soft_weight == 0.9
    assert torch.equal(within.teacher_logits, teacher) and isinstance(within, WithinClasses)


def test_subclass_runs_are_stored_and_compared(lab, tiny_task, store):
    methods = [ALONE, KD, SUBCLASS_KD]
    first = lab.compare(methods, [0, 1])
    again = Experiment(tiny_task, store=store, device=CPU).compare(methods, [0, 1])
    assert torch.equal(first.accuracies, again.accuracies)
    assert all(run.loaded for runs in again.runs.values() for run in runs)
    test = lab.dataset.test
    expected = [
        accuracy(lab.logits(run, test)[0].unflatten(1, (4, 2)).logsumexp(2), test.labels)
        for run in first.runs[SUBCLASS_KD.label]
    ]
    assert first.accuracy(SUBCLASS_KD.label).tolist() == expected


def test_a_teacher_without_subclasses_has_none_to_match():
    with pytest.raises(ValueError, match=r"cannot match 3 subclasses of each class.* has 1"):
        Method("x", Distillation(temperature=4.0, soft_weight=0.5, subclasses=3))
