"""A training that is stopped and continued gives, bit for bit, what it gives in one go."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from kdnb.environment import seeded
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import ALONE, conventional, subclass, within_classes
from kdnb.store.store import weights_digest
from kdnb.training import checkpoint as checkpoint_module
from kdnb.training.checkpoint import Checkpoint
from kdnb.training.config import TrainConfig
from kdnb.training.history import History
from kdnb.training.loop import fit
from kdnb.training.objectives import (
    AuxiliaryLoss,
    Distillation,
    MutualInformation,
    Objective,
    WithinClasses,
)

CPU = torch.device("cpu")
RECIPE = TrainConfig(
    epochs=4, batch_size=16, learning_rate=1e-2, translate=1
)  # of 6 steps an epoch
ANSWERS = torch.randn(9, 96, 8, generator=torch.Generator().manual_seed(0))
OBJECTIVES = {
    "labels": Objective(),
    "distillation": Distillation(temperature=4.0, soft_weight=0.9, teacher_logits=ANSWERS[..., :4]),
    "subclass distillation": Distillation(
        subclasses=2, temperature=4.0, soft_weight=0.9, teacher_logits=ANSWERS
    ),
    "within classes": WithinClasses(subclasses=2, temperature=4.0, teacher_logits=ANSWERS),
    "auxiliary loss": AuxiliaryLoss(subclasses=2),
    "two views": MutualInformation(subclasses=2),
}


@pytest.fixture(autouse=True)
def every_epoch(monkeypatch):
    """However short epochs are here, each one's checkpoint is taken."""
    monkeypatch.setattr(checkpoint_module, "SHARE", float("inf"))


class Teacher(nn.Module):
    """Batch norm, dropout, and a convolution whose layout in memory depends on who made it."""

    def __init__(self, num_classes=4, subclasses=1):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 5, stride=4),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(6 * 4 * 4, num_classes * subclasses),
        )

    def forward(self, images):
        return self.layers(images)


class StopAfter:
    """Stops training after so many steps, as the button does; ``at_end`` when an epoch is over."""

    def __init__(self, steps, at_end=False):
        self.left, self.at_end = steps, at_end

    def step(self, images):
        self.left -= 1
        if self.left == 0 and not self.at_end:
            raise KeyboardInterrupt

    def epoch(self, history):
        if self.left == 0 and self.at_end:
            raise KeyboardInterrupt


def trained(tiny, objective, config=RECIPE, make=Teacher, stop=None, resume=None, keep=None):
    with seeded(5):
        model = make(subclasses=objective.subclasses)
    history = fit(
        model, tiny.train, tiny.val, config, 3, objective=objective, device=CPU, resume=resume,
        on_stop=keep, on_step=stop and stop.step, on_epoch=stop and stop.epoch,
    )  # fmt: skip
    return model, history


def without_seconds(history):
    epochs = [replace(epoch, seconds=0.0) for epoch in history.epochs]
    return replace(history, epochs=epochs)


def through_the_store(checkpoint, store):
    entry = checkpoint.entry()
    assert store.keep("part-x", entry.tensors, entry.record)
    return Checkpoint.from_entry(store.get("part-x"))


@pytest.mark.slow
@pytest.mark.parametrize("name", OBJECTIVES)
def test_stopped_anywhere_and_continued_is_as_never_stopped(tiny, store, name):
    """After each epoch, in the middle of each, and at an epoch's last step."""
    objective = OBJECTIVES[name]
    config = RECIPE if "teacher_logits" in vars(objective) else replace(RECIPE, affine=0.1)
    model, history = trained(tiny, objective, config)
    stops = [StopAfter(6 * n, at_end=True) for n in (1, 2, 3, 4)]
    stops += [StopAfter(steps) for steps in (8, 12, 15, 23)]
    for stop in stops:
        kept = []
        _, half = trained(tiny, objective, config, stop=stop, keep=kept.append)
        assert half.interrupted and len(kept) == 1
        assert len(half.epochs) == len(kept[0].history.epochs) < 4 or stop.at_end
        resume = through_the_store(kept[0], store)
        again, whole = trained(tiny, objective, config, resume=resume)
        assert weights_digest(again) == weights_digest(model)
        assert without_seconds(whole) == without_seconds(history)
        assert whole.epochs[: len(half.epochs)] == half.epochs, "with the seconds they took"


class OfChance(nn.Module):
    """Draws by numpy and by Python in each step of training."""

    def __init__(self, num_classes=4, subclasses=1):
        super().__init__()
        self.output = nn.Linear(28 * 28, num_classes * subclasses)

    def forward(self, images):
        if self.training:
            noise = np.random.randn(*images.shape).astype(np.float32)
            images = images + random.gauss(0.0, 0.1) * torch.from_numpy(noise)
        return self.output(images.flatten(1))


@pytest.mark.parametrize("stop", [StopAfter(6, at_end=True), StopAfter(9), StopAfter(23)])
def test_chance_of_numpy_and_python_goes_on_too(tiny, store, stop):
    labels, kept = OBJECTIVES["labels"], []
    model, _ = trained(tiny, labels, make=OfChance)
    trained(tiny, labels, make=OfChance, stop=stop, keep=kept.append)
    again, _ = trained(tiny, labels, make=OfChance, resume=through_the_store(kept[0], store))
    assert weights_digest(again) == weights_digest(model)


def test_what_it_continues_from_is_not_used_up(tiny):
    """Continued and stopped again before an epoch is over: the checkpoint is still that of then."""
    model, _ = trained(tiny, OBJECTIVES["labels"])
    kept = []
    trained(tiny, OBJECTIVES["labels"], stop=StopAfter(8), keep=kept.append)
    for steps in (4, 5):
        trained(
            tiny, OBJECTIVES["labels"], stop=StopAfter(steps), resume=kept[-1], keep=kept.append
        )
    again, _ = trained(tiny, OBJECTIVES["labels"], resume=kept[-1])
    assert len(kept) == 3 and weights_digest(again) == weights_digest(model)


@pytest.mark.parametrize("taken", [1, 2])
def test_a_stopped_model_holds_the_weights_of_its_last_whole_epoch(tiny, monkeypatch, taken):
    """Also where the last checkpoint is older: 15 steps are two epochs and a half."""
    due, kept, after = iter([True, taken == 2]), [], []
    monkeypatch.setattr(checkpoint_module.TimeBudget, "due", lambda self: next(due))
    model = Teacher()
    history = fit(
        model, tiny.train, tiny.val, RECIPE, 3, device=CPU, on_stop=kept.append,
        on_step=StopAfter(15).step, on_epoch=lambda history: after.append(weights_digest(model)),
    )  # fmt: skip
    assert history.interrupted and len(history.epochs) == 2
    assert len(kept[0].history.epochs) == taken and len(after) == 3
    assert weights_digest(model) == after[2]


def test_before_the_first_epoch_ends_there_is_nothing_to_keep(tiny):
    kept = []
    _, history = trained(tiny, OBJECTIVES["labels"], stop=StopAfter(3), keep=kept.append)
    assert history == History(interrupted=True) and kept == []


# Through an experiment


class Stopping:
    """A watcher that stops the run with this label after so many steps of it; else it notes."""

    def __init__(self, label="", steps=0):
        self.label, self.left, self.now, self.told = label, steps, "", []

    def __call__(self, update):
        self.now = update.label
        self.told.append(update)

    def step(self, images):
        if self.now == self.label:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt


def lab_of(task, store, watch=None):
    return Experiment(task, store=store, watch=watch, device=CPU)


METHODS = [ALONE, conventional(4.0, 0.9), "subclass", "within"]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: getattr(m, "label", m))
def test_asked_again_a_run_goes_on_and_its_checkpoint_goes(tiny_task, store, tmp_path, method):
    if isinstance(method, str):
        make = {"subclass": subclass, "within": within_classes}[method]
        numbers = (4.0, 0.9) if method == "subclass" else (4.0,)
        method = make(*numbers, tiny_task.subclass_config)
    whole = lab_of(tiny_task, type(store)(tmp_path / "other")).student(method, 0)
    half = lab_of(tiny_task, store, Stopping(method.label, 15)).student(method, 0)
    assert half.history.interrupted and len(half.history.epochs) == 2
    assert len(store.names("part-")) == 1
    watch = Stopping()
    again = lab_of(tiny_task, store, watch).student(method, 0)
    assert again.weights == whole.weights and not again.loaded
    assert without_seconds(again.history) == without_seconds(whole.history)
    told = [update for update in watch.told if update.label == method.label]
    assert {update.continued for update in told} == {2}
    assert [len(update.history.epochs) for update in told] == [2, 3]
    assert not store.names("part-")
    assert lab_of(tiny_task, store).student(method, 0).loaded


def test_stopped_retraining_goes_on_too(tiny_task, store):
    first = lab_of(tiny_task, store).teacher(0)
    stopped = lab_of(tiny_task, store, Stopping("teacher", 8)).teacher(0, retrain=True)
    assert stopped.history.interrupted
    watch = Stopping()
    again = lab_of(tiny_task, store, watch).teacher(0, retrain=True)
    assert watch.told[0].continued == 1 and again.weights == first.weights
    assert not store.names("part-")


def test_a_stopped_comparison_goes_on_in_the_middle_of_a_run(tiny_task, store, tmp_path):
    methods = [ALONE, conventional(4.0, 0.9)]
    whole = lab_of(tiny_task, type(store)(tmp_path / "other")).compare(methods, [0, 1])
    half = lab_of(tiny_task, store, Stopping(ALONE.label, 18 + 10)).compare(methods, [0, 1])
    assert half.interrupted and half.seeds == (0,)
    watch = Stopping()
    again = lab_of(tiny_task, store, watch).compare(methods, [0, 1])
    assert torch.equal(again.accuracies, whole.accuracies)
    # of its three epochs one had been whole; the last run had not begun
    continued = [u.continued for u in watch.told if u.seed == 1 and u.label == ALONE.label]
    assert set(continued) == {1}


def test_a_run_of_another_recipe_does_not_continue_this_one(tiny_task, store):
    lab_of(tiny_task, store, Stopping(ALONE.label, 8)).student(ALONE, 0)
    other = replace(tiny_task, student_config=replace(tiny_task.student_config, epochs=4))
    watch = Stopping()
    lab_of(other, store, watch).student(ALONE, 0)
    assert {update.continued for update in watch.told} == {0}


@pytest.mark.parametrize("length", [20, 400, -20])
def test_from_a_damaged_checkpoint_training_begins_anew(tiny_task, store, tmp_path, length):
    whole = lab_of(tiny_task, type(store)(tmp_path / "other")).student(ALONE, 0)
    lab_of(tiny_task, store, Stopping(ALONE.label, 15)).student(ALONE, 0)
    (part,) = store.names("part-")
    store.path(part).write_bytes(store.path(part).read_bytes()[:length])
    with pytest.warns(UserWarning, match="part-.* cannot be used"):
        again = lab_of(tiny_task, store).student(ALONE, 0)
    assert again.weights == whole.weights and not store.names("part-")


def test_stopping_still_works_where_nothing_can_be_kept(tiny_task, store, monkeypatch):
    from kdnb.store.store import StoreError

    def full(*args):
        raise StoreError("disk full")

    monkeypatch.setattr(store, "put", full)
    with pytest.warns(UserWarning, match="trained, but not stored: disk full"):
        run = lab_of(tiny_task, store, Stopping(ALONE.label, 8)).student(ALONE, 0)
    assert run.history.interrupted and len(run.history.epochs) == 1
