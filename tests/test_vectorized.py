"""Students trained together do what each would do alone."""

import random
from dataclasses import replace

import apart
import numpy as np
import pytest
import torch
from conftest import TinyTeacher, random_split
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations

from kdnb.environment import seeded
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import ALONE, conventional
from kdnb.experiment.requests import RunRequest
from kdnb.models import StudentMLP
from kdnb.store.store import Store, weights_digest
from kdnb.training.config import TrainConfig
from kdnb.training.loop import TrainingDivergedError, fit
from kdnb.training.objectives import LABELS, Distillation, KnownSubclasses, MutualInformation
from kdnb.training.stacked import NotVectorizableError, StackedModel, same_as_alone, stackable
from kdnb.training.vectorized import StackedObjective, fit_vectorized

CPU = torch.device("cpu")
TRAIN, VAL = random_split(150, 0), random_split(60, 1)
STEPS_20 = TrainConfig(
    epochs=4, batch_size=32, learning_rate=3e-3, translate=1
)  # 5 steps in each epoch
GENERATOR = torch.Generator().manual_seed(5)
ANSWERS = [4 * torch.randn(9, 150, 4, generator=GENERATOR) for _ in range(2)]


def student(seed, outputs=4):
    with seeded(seed):
        return StudentMLP(num_classes=outputs, hidden=(32, 16))


def distillation(teacher, temperature, soft_weight, subclasses=1):
    return Distillation(
        teacher_logits=ANSWERS[teacher], temperature=temperature, soft_weight=soft_weight,
        subclasses=subclasses,
    )  # fmt: skip


GRID = [  # seed, objective: two seeds with three students each
    (0, LABELS), (1, distillation(1, 2.0, 0.9)), (0, distillation(0, 4.0, 0.5)),
    (1, LABELS), (1, distillation(1, 8.0, 1.0)), (0, distillation(0, 1.0, 0.3)),
]  # fmt: skip
UNEVEN = [*GRID, (2, distillation(0, 16.0, 0.7))]
SUBCLASSES = [(s, distillation(s, t, 0.6, subclasses=2)) for s in (0, 1) for t in (1.0, 3.0)]


@pytest.mark.parametrize("grid", [GRID, UNEVEN, SUBCLASSES, GRID[:1]])
def test_after_twenty_steps_weights_are_those_of_training_alone(grid):
    seeds, objectives = zip(*grid, strict=True)
    size = objectives[0].subclasses
    train, val = (replace(split, labels=split.labels // size) for split in (TRAIN, VAL))
    together = [student(seed) for seed in seeds]
    told = []
    histories = fit_vectorized(
        together, train, val, STEPS_20, seeds, objectives,
        on_epoch=lambda now: told.append([len(h.epochs) for h in now]), device=CPU,
    )  # fmt: skip
    assert told == [[e] * len(grid) for e in range(1, 5)]
    for model, (seed, objective), history in zip(together, grid, histories, strict=True):
        alone = student(seed)
        expected = fit(alone, train, val, STEPS_20, seed, objective=objective, device=CPU)
        assert not model.training
        for name, weights in alone.state_dict().items():
            torch.testing.assert_close(model.state_dict()[name], weights, atol=1e-4, rtol=0)
        for ours, theirs in zip(history.epochs, expected.epochs, strict=True):
            assert ours.train_loss == pytest.approx(theirs.train_loss, abs=1e-4)
            assert ours.soft_loss == pytest.approx(theirs.soft_loss, abs=1e-3)
            assert ours.hard_loss == pytest.approx(theirs.hard_loss, abs=1e-4)
            assert ours.val_loss == pytest.approx(theirs.val_loss, abs=1e-4)
            assert ours.val_accuracy == theirs.val_accuracy


def require_as_alone(config, grid):
    seeds, objectives = zip(*grid, strict=True)
    together = [student(seed) for seed in seeds]
    fit_vectorized(together, TRAIN, VAL, config, seeds, objectives, device=CPU)
    for model, (seed, objective) in zip(together, grid, strict=True):
        alone = student(seed)
        fit(alone, TRAIN, VAL, config, seed, objective=objective, device=CPU)
        for name, expected in alone.state_dict().items():
            torch.testing.assert_close(model.state_dict()[name], expected, atol=1e-4, rtol=0)


def test_class_weights_count_as_they_do_alone():
    weights = (0.5, 2.0, 1.0, 1.5)
    require_as_alone(STEPS_20, [(s, replace(o, class_weights=weights)) for s, o in GRID])


def test_smoothed_labels_and_decayed_weights_are_those_of_training_alone():
    require_as_alone(replace(STEPS_20, label_smoothing=0.2, weight_decay=0.5), GRID)


def test_validation_follows_the_epochs_that_it_follows_alone():
    config = replace(STEPS_20, epochs=81, batch_size=150)
    seeds, objectives = zip(*GRID[:2], strict=True)
    models, alone = [student(seed) for seed in seeds], student(seeds[0])
    histories = fit_vectorized(models, TRAIN, VAL, config, seeds, objectives, device=CPU)
    expected = fit(alone, TRAIN, VAL, config, seeds[0], objective=objectives[0], device=CPU)
    assert len(expected.validated) == 10 and 81 in expected.validated
    assert all(list(history.validated) == list(expected.validated) for history in histories)


def test_in_double_precision_twenty_steps_differ_by_less_than_1e_10():
    seeds, objectives = zip(*GRID, strict=True)
    order = sorted(range(len(GRID)), key=lambda i: seeds[i])
    models = [student(seeds[i]).double() for i in order]
    stacked = StackedModel([student(seeds[i]).double() for i in order], 2, CPU)
    mapped = StackedObjective([objectives[i] for i in order], CPU, torch.float64)
    together = torch.optim.Adam(stacked.parameters.values(), 1e-2)
    alone = [torch.optim.Adam(model.parameters(), 1e-2) for model in models]
    for _ in range(20):
        index = torch.randint(150, (2, 32), generator=GENERATOR)
        view = torch.randint(9, (2, 32), generator=GENERATOR)
        batches = torch.rand(2, 32, 1, 28, 28, generator=GENERATOR, dtype=torch.float64)
        together.zero_grad()
        mapped.loss(stacked(batches), TRAIN.labels[index], view, index)[0].sum().backward()
        together.step()
        for place, (model, optimizer) in enumerate(zip(models, alone, strict=True)):
            group, objective = place // 3, objectives[order[place]]
            logits = model(batches[group])
            optimizer.zero_grad()
            hard = nn.functional.cross_entropy(logits, TRAIN.labels[index[group]])
            if isinstance(objective, Distillation):
                t = objective.temperature
                answers = objective.teacher_logits[view[group], index[group]].double()
                p = (answers / t).softmax(1)
                soft = t**2 * (p * (p.log() - (logits / t).log_softmax(1))).sum(1).mean()
                hard = (1 - objective.soft_weight) * hard + objective.soft_weight * soft
            hard.backward()
            optimizer.step()
    for place, model in enumerate(models):
        for name, weights in model.state_dict().items():
            own = stacked.parameters[name][place].detach()
            torch.testing.assert_close(own, weights, atol=1e-10, rtol=0)


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(784, 4), nn.BatchNorm1d(4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": [TinyTeacher(), TinyTeacher()]}, "dropout, batch-norm, buffers, frozen"),
        ({"models": [Normed(), Normed()]}, "dropout, batch-norm, buffers, frozen"),
        ({"models": [student(0), student(0, 8)]}, "have one architecture"),
        ({"objectives": [LABELS, MutualInformation(subclasses=2)]}, "MutualInformation is trained"),
        ({"objectives": [LABELS, KnownSubclasses(subclasses=2)]}, "KnownSubclasses is trained"),
        ({"objectives": [LABELS, replace(LABELS, subclasses=2)]}, "one number of subclasses"),
        ({"seeds": [0]}, "got 2 models, 1 seeds and 2 objectives"),
        ({"config": replace(STEPS_20, affine=0.1)}, "train alone"),
        ({"config": replace(STEPS_20, mixed_precision=True)}, "ask for mixed precision: train"),
        ({"objectives": [LABELS, distillation(0, 2, 1)], "config": replace(STEPS_20, translate=0)},
         "teacher_logits must cover 1 views of 150 images"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_at_once_is_refused(change, message):
    given = {"models": [student(0), student(1)], "config": STEPS_20, "seeds": [0, 1],
             "objectives": [LABELS, LABELS], **change}  # fmt: skip
    with pytest.raises(ValueError, match=message):
        fit_vectorized(
            given["models"], TRAIN, VAL, given["config"], given["seeds"], given["objectives"]
        )


def test_a_loss_that_is_no_number_is_named():
    broken = torch.full((9, 150, 4), float("inf"))
    objectives = [LABELS, replace(distillation(0, 2.0, 0.5), teacher_logits=broken)]
    with pytest.raises(TrainingDivergedError, match="seed 7 is no longer finite in epoch 1"):
        fit_vectorized(
            [student(3), student(7)], TRAIN, VAL, STEPS_20, [3, 7], objectives, device=CPU
        )


# Only what is equivalent is trained together


def lab(network, task, folder):
    return Experiment(replace(task, student=network), store=Store(folder), device=CPU)


METHODS = [ALONE, conventional(4.0, 0.9)]
WANTED = [RunRequest(seed, method) for seed in (0, 1) for method in METHODS]


def swept(network, task, folder):
    """The students of a sweep, and how many were trained together with each."""
    sweep = lab(network, task, folder)
    sweep.train_ahead(WANTED)
    records = [sweep.store.get(key).record for key in sweep.store.names("run-")]
    counts = [r["trained_at_once"] for r in records if r["label"] != "teacher"]
    return [sweep.student(w.method, w.seed) for w in WANTED], counts


def trained_alone(network, task, folder):
    one = lab(network, task, folder)
    return [one.student(w.method, w.seed) for w in WANTED]


@pytest.mark.parametrize("network", apart.TOGETHER)
def test_what_is_equivalent_is_trained_at_once(network, tiny_task, tmp_path):
    students, counts = swept(network, tiny_task, tmp_path / "sweep")
    assert counts == [4] * 4
    alone = trained_alone(network, tiny_task, tmp_path / "alone")
    for ours, theirs in zip(students, alone, strict=True):
        for name, weights in theirs.model.state_dict().items():
            torch.testing.assert_close(ours.model.state_dict()[name], weights, atol=1e-4, rtol=0)


@pytest.mark.parametrize("network", (*apart.NAMED, *apart.UNNAMED))
def test_what_is_not_is_trained_alone_with_the_same_result(network, tiny_task, tmp_path):
    students, counts = swept(network, tiny_task, tmp_path / "sweep")
    # Students of one seed have one constant: these two of each seed are alike.
    assert counts == ([2] * 4 if network is apart.OwnConstant else [])
    alone = trained_alone(network, tiny_task, tmp_path / "alone")
    for ours, theirs in zip(students, alone, strict=True):
        for name, weights in theirs.model.state_dict().items():
            within = 1e-4 if counts else 0
            torch.testing.assert_close(ours.model.state_dict()[name], weights, atol=within, rtol=0)


@pytest.mark.parametrize("network", (apart.Tied, *apart.SPREAD))
def test_nothing_is_stored_of_what_was_not_trained_at_once(network, tiny_task, tmp_path):
    sweep = lab(network, tiny_task, tmp_path)
    sweep.train_ahead(WANTED)
    stored = [sweep.store.get(key).record["label"] for key in sweep.store.names("run-")]
    assert stored == ["teacher"] * 2 and not sweep.store.names("part-")


def shared_memory():
    model = apart.Plain()
    model.middle.weight.data = model.last.weight.data.new_zeros(8, 8)
    model.again = nn.Linear(8, 8)
    model.again.weight = nn.Parameter(model.middle.weight.data)
    return model


def untrained_buffer():
    model = apart.Plain()
    model.register_buffer("shift", torch.zeros(8), persistent=False)
    return model


def half_frozen():
    model = apart.Plain()
    model.last.bias.requires_grad = False
    return model


@pytest.mark.parametrize("make", [shared_memory, untrained_buffer, half_frozen, apart.Tied])
def test_some_that_do_not_suit_show_it_without_being_called(make):
    assert stackable(apart.Plain()) and not stackable(make())
    with pytest.raises(
        NotVectorizableError, match="buffers, frozen or shared weights are trained alone"
    ):
        fit_vectorized([make(), make()], TRAIN, VAL, STEPS_20, [0, 1], [LABELS, LABELS], device=CPU)


LAYERS = {
    "dense": (lambda: nn.Linear(8, 8), True),
    "no bias": (lambda: nn.Linear(8, 8, bias=False), True),
    "ReLU": (nn.ReLU, True),
    "GELU": (nn.GELU, True),
    "softplus": (nn.Softplus, True),
    "layer norm": (lambda: nn.LayerNorm(8), True),
    "group norm": (lambda: nn.GroupNorm(2, 8), True),
    "bilinear": (lambda: nn.PReLU(), True),
    "random ReLU": (nn.RReLU, False),
    "dropout": (lambda: nn.AlphaDropout(0.1), False),
    "batch norm": (lambda: nn.BatchNorm1d(8), False),
    "batch statistics": (lambda: nn.BatchNorm1d(8, track_running_stats=False), False),
    "spectral norm": (lambda: parametrizations.spectral_norm(nn.Linear(8, 8)), False),
    "frozen": (lambda: nn.Linear(8, 8).requires_grad_(False), False),
    "recurrent": (lambda: nn.Sequential(nn.Unflatten(1, (2, 4)), Last(nn.GRU(4, 8))), False),
}


class Last(nn.Module):
    def __init__(self, recurrent):
        super().__init__()
        self.recurrent = recurrent

    def forward(self, x):
        return self.recurrent(x.transpose(0, 1))[0][-1]


@given(names=st.lists(st.sampled_from(list(LAYERS)), min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_one_layer_that_does_not_suit_is_enough(names):
    with seeded(0):
        layers = [LAYERS[name][0]() for name in names]
        model = nn.Sequential(nn.Flatten(), nn.Linear(784, 8), *layers, nn.Linear(8, 4))
    images = TRAIN.images[:8] / 255
    assert (stackable(model) and same_as_alone([model], images, CPU)) == all(
        LAYERS[name][1] for name in names
    )


def remembered(model):
    numbers = int | float | None
    return [{n: v for n, v in vars(m).items() if isinstance(v, numbers)} for m in model.modules()]


@pytest.mark.parametrize("network", [*apart.TOGETHER, *apart.NAMED, *apart.UNNAMED])
def test_what_is_tried_stays_as_it_is_and_so_does_chance(network):
    with seeded(0):
        model = network()
    before = weights_digest(model), remembered(model)
    streams = [torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()]
    result = same_as_alone([model], TRAIN.images[:8] / 255, CPU)
    # Of the two that are told otherwise, a hook shows at once, and a constant in other seeds.
    others = (apart.ChangedGradient, apart.OwnConstant)
    assert result == (network in (*apart.TOGETHER, *others))
    assert (weights_digest(model), remembered(model)) == before
    assert streams == [
        torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()
    ]  # fmt: skip
    assert model.training and all(p.grad is None for p in model.parameters())
