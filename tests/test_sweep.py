"""Sweeps: many students at once, stored as if each had been trained alone."""

import pytest
import torch

from kdnb import __main__ as command_line
from kdnb.experiment import experiment as experiment_module
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.sweep import sweep
from kdnb.store.store import Store
from kdnb.training import checkpoint as checkpoint_module

CPU = torch.device("cpu")
GRID = ([1.0, 4.0], [0.5, 0.9], [0, 1])


def lab_in(folder, task, watch=None):
    return Experiment(task, store=Store(folder), device=CPU, watch=watch)


@pytest.fixture
def alone(tmp_path, tiny_task, monkeypatch):
    """What the sweep gives where nothing is trained together, and the keys of its runs."""
    with monkeypatch.context() as patch:
        patch.setattr(experiment_module, "at_once", lambda model, device: 1)
        lab = lab_in(tmp_path / "alone", tiny_task)
        return sweep(lab, *GRID), keys(lab)


def keys(lab):
    return set(lab.store.names("run-"))


def same(result, expected):
    assert result.labels == expected.labels and result.seeds == expected.seeds
    torch.testing.assert_close(result.accuracies, expected.accuracies, atol=0.03, rtol=0)
    for label, runs in expected.runs.items():
        for run, other in zip(runs, result.runs[label], strict=True):
            assert len(run.history.epochs) == len(other.history.epochs) == 3
            for name, weights in run.model.state_dict().items():
                torch.testing.assert_close(
                    other.model.state_dict()[name], weights, atol=1e-3, rtol=0
                )


def test_a_sweep_gives_what_training_alone_gives_under_the_same_keys(alone, tmp_path, tiny_task):
    lab = lab_in(tmp_path / "sweep", tiny_task)
    result = sweep(lab, *GRID)
    expected, names = alone
    same(result, expected)
    assert keys(lab) == names and len(names) == 2 + 2 * 5  # teachers; alone and four ways
    assert result.split == "val" and len(result.labels) == 5
    records = [lab.store.get(name).record for name in names]
    assert sorted(r["trained_at_once"] for r in records) == [1] * 2 + [10] * 10
    assert all(run.loaded for runs in result.runs.values() for run in runs)


def test_only_what_is_missing_is_trained(tmp_path, tiny_task, monkeypatch):
    lab = lab_in(tmp_path, tiny_task)
    sweep(lab, [1.0], [0.5], [0, 1])
    trained = []
    real = experiment_module.fit_vectorized

    def counting(models, *rest, **options):
        trained.append(len(models))
        return real(models, *rest, **options)

    monkeypatch.setattr(experiment_module, "fit_vectorized", counting)
    sweep(lab, *GRID)
    assert trained == [2 * 3]  # of two seeds the three ways that were not there
    sweep(lab, *GRID)
    assert trained == [6]


class Impatient:
    """Stops ten students that are trained together in the middle of their second epoch."""

    images = 0

    def __call__(self, update):
        self.together = "students together" in update.label

    def step(self, images):
        self.images += images * (images > 100)
        if self.images > 1.5 * 960:
            raise KeyboardInterrupt


def weights(result):
    return {label: [run.weights for run in runs] for label, runs in result.runs.items()}


@pytest.mark.slow
@pytest.mark.parametrize("checkpoints", [True, False])
def test_a_stopped_sweep_goes_on_to_the_same_bits(tmp_path, tiny_task, monkeypatch, checkpoints):
    """All that were under way go on together, from a checkpoint or, without one, from the start."""
    monkeypatch.setattr(checkpoint_module, "SHARE", float("inf") if checkpoints else 1e-9)
    whole = sweep(lab_in(tmp_path / "whole", tiny_task), *GRID)
    lab = lab_in(tmp_path / "stopped", tiny_task, Impatient())
    with pytest.raises(KeyboardInterrupt):
        sweep(lab, *GRID)
    assert lab.watch.together and len(keys(lab)) == 2
    (half,) = lab.store.names("part-")
    assert ("history" in lab.store.get(half).record) == checkpoints
    told = []
    lab.watch = told.append
    result = sweep(lab, *GRID)
    assert weights(result) == weights(whole)
    together = [u for u in told if "students together" in u.label]
    epochs = [len(u.history.epochs) for u in together]
    assert epochs == ([2, 3] if checkpoints else [1, 2, 3])
    assert {u.continued for u in together} == {int(checkpoints)}
    assert not lab.store.names("part-")


@pytest.mark.slow
def test_students_stay_in_their_group_though_some_of_them_are_stored(
    tmp_path, tiny_task, monkeypatch
):
    """Killed while a finished group is stored, a sweep does not train the rest in another group."""
    whole = sweep(lab_in(tmp_path / "whole", tiny_task), *GRID)
    lab = lab_in(tmp_path / "killed", tiny_task)
    real, stored = lab.store.keep, []

    def killed(key, *rest):
        if key.startswith("run-") and rest[1]["trained_at_once"] > 1:
            stored.append(key)
            if len(stored) == 4:
                raise SystemExit
        return real(key, *rest)

    monkeypatch.setattr(lab.store, "keep", killed)
    with pytest.raises(SystemExit):
        sweep(lab, *GRID)
    assert len(keys(lab)) == 2 + 3
    monkeypatch.undo()
    result = sweep(lab_in(tmp_path / "killed", tiny_task), *GRID)
    assert weights(result) == weights(whole)
    assert not lab.store.names("part-")


def test_a_group_that_is_no_longer_wanted_whole_is_trained_anew(tmp_path, tiny_task):
    lab = lab_in(tmp_path, tiny_task, Impatient())
    with pytest.raises(KeyboardInterrupt):
        sweep(lab, *GRID)
    lab.watch = None
    result = sweep(lab, [1.0], [0.5], [0])
    assert all(run.loaded for runs in result.runs.values() for run in runs)


def test_one_that_diverges_leaves_the_others_to_be_trained_alone(tmp_path, tiny_task, monkeypatch):
    def diverging(*_, **__):
        raise experiment_module.TrainingDivergedError("no longer finite", None)

    monkeypatch.setattr(experiment_module, "fit_vectorized", diverging)
    result = sweep(lab_in(tmp_path, tiny_task), [1.0], [0.5], [0, 1])
    assert len(result.seeds) == 2 and result.accuracies.shape == (2, 2)


def test_the_command_prints_every_cell(tmp_path, tiny_task, monkeypatch, capsys):
    monkeypatch.setattr(command_line, "task", lambda name: tiny_task)
    arguments = ["sweep", "--temperature", "1", "4", "--soft-weight", "0.9", "--seed", "0", "1"]
    assert command_line.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "validation accuracy on 40 images, 2 seeds" in printed
    for row in ("student without teacher", "T = 1, soft_weight = 0.9", "T = 4, soft_weight = 0.9"):
        assert any(line.startswith(row) and "%" in line for line in printed.splitlines())
    assert "6 students," in printed
    assert command_line.main([*arguments[:-1], "0"]) == 1
    assert "each only once" in capsys.readouterr().err
