"""Nothing mixes devices, and nothing asks for float64 where there is none."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import TinyTeacher, random_split, tiny_student
from pretended import DeviceMismatchError, Recording, pretended
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from kdnb.data.augmentation import CachedFeatures, DihedralImages, TranslatedImages
from kdnb.environment import best_device, seeded
from kdnb.evaluation import metrics
from kdnb.evaluation.cost import cost, timing
from kdnb.evaluation.metrics import class_metrics
from kdnb.evaluation.saliency import Saliency, deletion_and_insertion, methods_for, saliency_maps
from kdnb.evaluation.similarity import SIMILARITIES
from kdnb.evaluation.statistics import Bootstrap
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import ALONE, conventional
from kdnb.experiment.requests import RunRequest
from kdnb.experiment.saliency_study import SaliencyStudy
from kdnb.models import StagedNetwork, StudentMLP
from kdnb.store.store import weights_digest
from kdnb.tasks.config import SaliencySettings
from kdnb.training import checkpoint as checkpoint_module
from kdnb.training.checkpoint import Checkpoint
from kdnb.training.config import TrainConfig
from kdnb.training.loop import fit, predict
from kdnb.training.objectives import (
    LABELS,
    AuxiliaryLoss,
    Distillation,
    KnownSubclasses,
    MutualInformation,
    Objective,
    WithinClasses,
)
from kdnb.training.recorded import EAGER
from kdnb.training.vectorized import MEMORY, at_once, fit_vectorized

CPU = torch.device("cpu")
TRAIN, VAL = random_split(96, 0), random_split(40, 1)
KNOWN = replace(TRAIN, labels=TRAIN.labels // 2, subclasses=TRAIN.labels)
HALVES = replace(VAL, labels=VAL.labels // 2)
WEIGHTS = (0.5, 2.0)
PLAIN = TrainConfig(epochs=2, batch_size=16, learning_rate=1e-2)
SHIFTED = replace(PLAIN, translate=1)
ANSWERS = torch.randn(9, 96, 4, generator=torch.Generator().manual_seed(0))
HEARD = {"temperature": 4.0, "teacher_logits": ANSWERS}
RUNS = {
    "labels": (LABELS, PLAIN),
    "labels, shifted": (LABELS, SHIFTED),
    "labels, turned": (LABELS, replace(PLAIN, dihedral=True)),
    "labels, random_affine": (LABELS, replace(SHIFTED, affine=0.1)),
    "labels, mixed precision": (LABELS, replace(PLAIN, mixed_precision=True)),
    "labels, weighted": (Objective(subclasses=2, class_weights=WEIGHTS), PLAIN),
    "auxiliary loss": (AuxiliaryLoss(subclasses=2), SHIFTED),
    "two views, turned": (MutualInformation(subclasses=2), replace(PLAIN, dihedral=True)),
    "two views, random_affine": (MutualInformation(subclasses=2), replace(SHIFTED, affine=0.1)),
    "true subclasses": (KnownSubclasses(subclasses=2, class_weights=WEIGHTS), SHIFTED),
    "distillation": (Distillation(soft_weight=0.9, **HEARD), SHIFTED),
    "distillation, weighted": (
        Distillation(soft_weight=0.9, class_weights=(1.0, 2.0, 0.5, 1.0), **HEARD), SHIFTED
    ),
    "subclass distillation": (Distillation(soft_weight=0.5, subclasses=2, **HEARD), SHIFTED),
    "subclass distillation, weighted": (
        Distillation(soft_weight=0.5, subclasses=2, class_weights=WEIGHTS, **HEARD), SHIFTED
    ),
    "within classes": (WithinClasses(subclasses=2, **HEARD), SHIFTED),
}  # fmt: skip


@pytest.fixture(params=["cuda", "mps"])
def device(request):
    with pretended(request.param) as device:
        yield device


@pytest.fixture(autouse=True)
def every_epoch(monkeypatch):
    """However short epochs are here, each one's checkpoint is taken."""
    monkeypatch.setattr(checkpoint_module, "SHARE", float("inf"))


def made(model_type, seed=5):
    with seeded(seed):
        return model_type()


def trained(name, device, model_type=TinyTeacher, **options):
    objective, config = RUNS[name]
    train, val = (TRAIN, VAL) if objective.subclasses == 1 else (KNOWN, HALVES)
    model = made(model_type)
    history = fit(model, train, val, config, 3, objective=objective, device=device, **options)
    return model, history


def without_seconds(history):
    return [replace(epoch, seconds=0.0) for epoch in history.epochs]


def assert_equal_weights(ours, theirs):
    """To the bit: what is pretended to be elsewhere is computed by the same code on the CPU."""
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name].cpu(), tensor.cpu()), name


MIXED = {
    "sum": lambda here, there: there + here,
    "product of matrices": lambda here, there: there @ here,
    "rows chosen": lambda here, there: there.index_select(0, here[0].long()),
    "one after another": lambda here, there: torch.cat([here, there]),
    "where": lambda here, there: torch.where(here > 0, there, there),
    "cross-entropy": lambda here, there: F.cross_entropy(there, here[0].long()),
    "a number without dimensions": lambda here, there: there * here.sum(),
    "a number of the device": lambda here, there: here * there.sum(),
    "moved": lambda here, there: here.to(there.device) + there,
    "both there": lambda here, there: there.softmax(1) @ there,
}


@pytest.mark.parametrize("name", MIXED)
def test_the_pretended_device_refuses_what_torchs_fake_tensors_refuse(name):
    def refused(there, error):
        try:
            MIXED[name](torch.ones(3, 3), torch.ones(3, 3, device=there))
        except error:
            return True
        return False

    with FakeTensorMode():
        # Where they mix it raises a subclass of RuntimeError; the CPU's build of torch has no more.
        expected = refused(torch.device("cuda", 0), RuntimeError)
    for kind in ("cuda", "mps"):
        with pretended(kind) as device:
            assert refused(device, DeviceMismatchError) == expected


def test_the_pretended_mps_has_no_float64():
    with pretended("mps") as device:
        numbers = torch.ones(3, device=device)
        for make in (
            lambda: numbers.double(),
            lambda: torch.ones(3).double().to(device),
            lambda: torch.zeros(3, dtype=torch.float64, device=device),
            lambda: numbers * torch.ones((), dtype=torch.float64, device=device),
        ):
            with pytest.raises(TypeError, match="float64"):
                make()
        assert numbers.cpu().double().dtype == torch.float64


def test_by_fake_tensors_a_batch_is_where_its_images_are():
    with FakeTensorMode():
        images = torch.zeros(40, 1, 28, 28, dtype=torch.uint8, device=torch.device("cuda", 0))
        index = torch.arange(32)
        for at in (index, index.to(images.device)):
            batch = TranslatedImages(images).batch(at, torch.zeros_like(index))
            assert batch.device == images.device and batch.shape == (32, 1, 28, 28)


def views_of_all_kinds():
    features = [torch.arange(40.0)[:, None] + view for view in range(8)]
    stored = CachedFeatures(features, DihedralImages.names)
    large = CachedFeatures(features, DihedralImages.names)
    large._stacked = None  # as for files of gigabytes, which stay where they are
    yield from (
        TranslatedImages(VAL.images),
        TranslatedImages(VAL.images, 2),
        DihedralImages(VAL.images),
    )
    yield from (stored, large)


@pytest.mark.parametrize("kind", range(5))
def test_a_batch_is_where_its_inputs_are_wherever_the_index_is(device, kind):
    views = list(views_of_all_kinds())[kind]
    index, view = torch.tensor([3, 0, 39, 3]), torch.arange(4) % len(views.names)
    expected = views.batch(index, view)
    moved = views.to(device)
    if kind == 4:
        moved._stacked = None
    for where in (CPU, device):
        for inputs in (views, moved):
            batch = inputs.batch(index.to(where), view.to(where))
            assert batch.device == inputs.batch(index, view).device
            assert torch.equal(batch.cpu(), expected)
    assert moved.batch(index, view).device == device


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_training_there_is_training_here(name, device):
    model, history = trained(name, device)
    assert {p.device for p in model.parameters()} == {device}
    expected, on_cpu = trained(name, CPU)
    assert_equal_weights(model, expected)
    assert [e.train_loss for e in history.epochs] == [e.train_loss for e in on_cpu.epochs]


@pytest.fixture
def replays(monkeypatch):
    """One entry for each step that is replayed."""
    found, replay = [], Recording.replay

    def noted(recording):
        found.append(recording)
        replay(recording)

    monkeypatch.setattr(Recording, "replay", noted)
    return found


# Each of their steps reads numbers of the device: which views there are, whether classes are right.
WAITING = {"labels, turned", "two views, turned", "true subclasses"}


@pytest.mark.parametrize("name", RUNS)
def test_a_step_on_cuda_is_recorded_unless_it_waits_for_numbers(name, replays):
    with pretended("cuda") as device:
        trained(name, device)
    steps = 2 * 96 // 16
    assert len(replays) == (0 if name in WAITING else steps - EAGER)


class Counting(TinyTeacher):
    """Something that a recording would not do again."""

    calls = 0

    def forward(self, images):
        self.calls += 1
        return super().forward(images)


class Drawing(TinyTeacher):
    def forward(self, images):
        return super().forward(images) * float(np.random.rand())


@pytest.mark.parametrize("model_type", [Counting, Drawing])
def test_a_network_that_does_more_than_compute_is_not_recorded(model_type, replays):
    with pretended("cuda") as device:
        trained("labels", device, model_type)
    assert not replays


@pytest.mark.parametrize("batch_size", [20, 30])
def test_a_smaller_last_batch_is_neither_recorded_nor_replayed(replays, batch_size):
    config = replace(SHIFTED, batch_size=batch_size)

    def weights(device):
        model = made(tiny_student)
        fit(model, TRAIN, VAL, config, 3, device=device)
        together = [made(tiny_student, seed) for seed in (0, 1)]
        fit_vectorized(together, TRAIN, VAL, config, (0, 1), (LABELS, LABELS), device=device)
        return [model, *together]

    with pretended("cuda") as device:
        for ours, theirs in zip(weights(device), weights(CPU), strict=True):
            assert_equal_weights(ours, theirs)
    # Of five batches the last has 16 images, of four the last, and the fourth step, has 6.
    assert len(replays) == 2 * (5 if batch_size == 20 else 3)


def test_as_many_are_trained_at_once_as_the_memory_holds(device):
    each = 1_238_730 * 4 * 8  # parameters, of four bytes, eight times
    memory = 2**34 // 4 if device.type == "cuda" else MEMORY  # of 16 GiB that are free
    assert at_once(StudentMLP(), device) == memory // each


def test_without_a_device_the_one_there_is_trains(device):
    assert best_device().type == device.type
    model = made(tiny_student)
    fit(model, TRAIN, VAL, PLAIN, 0)
    assert next(model.parameters()).device == device


class Staged(StagedNetwork):
    def __init__(self, num_classes=4):
        super().__init__(
            {
                "stem": nn.Sequential(nn.Conv2d(1, 4, 5, stride=4), nn.BatchNorm2d(4), nn.ReLU()),
                "block": nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU()),
                "pool": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
                "output": nn.Linear(6, num_classes),
            },
            "made for tests",
        )


@pytest.mark.parametrize("trains", ["block", "output"])
def test_the_last_stages_are_trained_there_on_features_from_there(device, trains):
    config = replace(PLAIN, dihedral=True, first_trainable=trains, mixed_precision=True)

    def run(device):
        model = made(Staged)
        frozen, _ = model.split(trains)
        turned = DihedralImages(TRAIN.images)
        shown = [predict(frozen, turned, view=v, device=device) for v in range(8)]
        val = predict(frozen, TranslatedImages(VAL.images), device=device)
        features = CachedFeatures(shown, turned.names), CachedFeatures([val], ("as it is",))
        fit(model, TRAIN, VAL, config, 0, features=features, device=device)
        return model, shown

    (model, shown), (expected, on_cpu) = run(device), run(CPU)
    assert {view.device for view in shown} == {CPU}
    torch.testing.assert_close(shown, on_cpu)
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name].cpu(), tensor, atol=1e-4, rtol=1e-4)


HOT, COLD = (replace(RUNS["distillation"][0], temperature=t) for t in (8.0, 1.0))
GRID = [(0, LABELS), (1, HOT), (1, COLD), (0, LABELS)]
TOGETHER = {
    "two of each seed": GRID,
    "groups of unequal size": GRID[:3],
    "labels only": [(0, LABELS), (1, LABELS)],
    "weighted subclasses": [
        (seed, Distillation(soft_weight=0.5, subclasses=2, class_weights=WEIGHTS, **HEARD))
        for seed in (0, 1)
    ],
}


def trained_at_once(grid, device, **options):
    seeds, objectives = zip(*grid, strict=True)
    train, val = (TRAIN, VAL) if objectives[0].subclasses == 1 else (KNOWN, HALVES)
    models = [made(tiny_student, seed) for seed in seeds]
    histories = fit_vectorized(
        models, train, val, SHIFTED, seeds, objectives, device=device, **options
    )
    return models, histories


@pytest.mark.slow
@pytest.mark.parametrize("name", TOGETHER)
def test_many_are_trained_at_once_there_as_here(name, device):
    models, histories = trained_at_once(TOGETHER[name], device)
    expected, on_cpu = trained_at_once(TOGETHER[name], CPU)
    for ours, theirs in zip(models, expected, strict=True):
        assert {p.device for p in ours.parameters()} == {device}
        assert_equal_weights(ours, theirs)
    for ours, theirs in zip(histories, on_cpu, strict=True):
        assert [e.train_loss for e in ours.epochs] == [e.train_loss for e in theirs.epochs]
        assert [e.val_accuracy for e in ours.epochs] == [e.val_accuracy for e in theirs.epochs]


def test_answers_come_back_to_the_cpu_and_are_those_of_the_cpu(device):
    model = made(TinyTeacher)
    for inputs in (TranslatedImages(TRAIN.images, 1), TranslatedImages(TRAIN.images, 1).to(device)):
        answers = predict(model, inputs, view=4, device=device)
        assert answers.device == CPU and next(model.parameters()).device == device
        expected = predict(made(TinyTeacher), TranslatedImages(TRAIN.images, 1), view=4, device=CPU)
        torch.testing.assert_close(answers, expected)


@pytest.mark.parametrize("method", Saliency)
def test_maps_and_areas_there_are_those_of_here(device, method):
    images, targets = VAL.images[:6], VAL.labels[:6]
    assert method in methods_for(made(TinyTeacher))
    found, expected = (
        (
            maps := saliency_maps(made(TinyTeacher), images, targets, 4, method, device=at),
            *deletion_and_insertion(made(TinyTeacher), images, maps, 4, device=at),
        )
        for at in (device, CPU)
    )
    assert {part.device for part in found} == {CPU}
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_what_is_measured_of_tensors_there_is_measured_as_here(device):
    maps, others = torch.randn(2, 5, 28, 28, generator=torch.Generator().manual_seed(1))
    for name, alike in SIMILARITIES.items():
        found = alike(maps.to(device), others.to(device))
        torch.testing.assert_close(found.cpu(), alike(maps, others), msg=name)
    labels = torch.arange(40) % 2
    logits = torch.randn(40, 2, generator=torch.Generator().manual_seed(2))
    for metric in class_metrics(["one", "other"]):
        assert metric(logits.to(device), labels) == metric(logits, labels)
        intervals = [Bootstrap(labels.to(a), 20).interval(metric, logits[None].to(b))
                     for a, b in ((CPU, CPU), (device, device), (CPU, device))]  # fmt: skip
        assert intervals[0] == intervals[1] == intervals[2]
    for measure in (
        metrics.accuracy,
        metrics.confusion,
        lambda z, y: metrics.agreement(z, z.flip(1)),
        lambda z, y: metrics.live_subclasses(z),
        lambda z, y: metrics.calibration(z, y).error,
        lambda z, y: metrics.match_subclasses(z, y, 2).recovered,
    ):
        expected = torch.as_tensor(measure(logits, labels))
        for found in (measure(logits.to(device), labels.to(device)),
                      measure(logits.to(device), labels)):  # fmt: skip
            assert torch.equal(torch.as_tensor(found).cpu(), expected)


def test_what_was_trained_there_is_counted_here_and_timed_there(device):
    model, images = made(TinyTeacher), VAL.images[:4] / 255
    expected = cost(model, images)
    assert cost(model.to(device), images) == expected
    assert timing(model, images, device=device, seconds=0.01).device == device.type


# A training that goes on


def stopped(name, device, store, after=8):
    """A checkpoint of the epoch before step ``after``, as the run store gives it back."""
    kept, steps = [], []

    def stop(images):
        steps.append(images)
        if len(steps) == after:
            raise KeyboardInterrupt

    trained(name, device, on_step=stop, on_stop=kept.append)
    return through(store, kept[0])


def through(store, checkpoint):
    entry = checkpoint.entry()
    assert store.keep("part-x", entry.tensors, entry.record)
    return Checkpoint.from_entry(store.get("part-x"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["labels, random_affine", "distillation", "two views, random_affine"]
)
def test_on_one_device_a_run_goes_on_as_if_never_stopped(name, device, store):
    resume = stopped(name, device, store)
    assert device.type in resume.state["chance"]
    again, history = trained(name, device, resume=resume)
    whole, expected = trained(name, device)
    assert_equal_weights(again, whole)
    assert without_seconds(history) == without_seconds(expected)


def on(kind, do):
    """Do it on the CPU or on a pretended device; what comes back is on the CPU."""
    if kind == "cpu":
        return do(CPU)
    with pretended(kind) as device:
        return do(device)


MOVES = [(a, b) for a in ("cpu", "cuda", "mps") for b in ("cpu", "cuda", "mps") if a != b]


@pytest.mark.parametrize(("start", "end"), MOVES)
@pytest.mark.parametrize(
    "name", ["labels, shifted", "labels, random_affine", "subclass distillation"]
)
def test_a_run_that_began_on_one_device_goes_on_on_another(name, start, end, store):
    resume = on(start, lambda device: stopped(name, device, store))
    assert len(resume.history.epochs) == 1

    def go_on(device):
        model, history = trained(name, device, resume=resume)
        return {n: t.cpu() for n, t in model.state_dict().items()}, history

    (weights, history), (again, _) = on(end, go_on), on(end, go_on)
    assert len(history.epochs) == 2 and history.epochs[0] == resume.history.epochs[0]
    assert all(torch.equal(weights[name], again[name]) for name in weights)


@pytest.mark.parametrize(("start", "end"), MOVES)
def test_without_chance_of_its_own_it_ends_with_the_same_weights(start, end, store):
    """The order of the batches and their views is drawn on the CPU, wherever they go."""

    def stop(images, steps=[]):  # noqa: B006
        steps.append(images)
        if len(steps) == 8:
            raise KeyboardInterrupt

    kept = []

    def begin(device):
        trained("distillation", device, tiny_student, on_step=stop, on_stop=kept.append)
        return through(store, kept[0])

    resume = on(start, begin)

    def go_on(device):
        model, _ = trained("distillation", device, tiny_student, resume=resume)
        return {n: t.cpu() for n, t in model.state_dict().items()}

    expected, _ = trained("distillation", CPU, tiny_student)
    found = on(end, go_on)
    assert all(torch.equal(found[n], t) for n, t in expected.state_dict().items())


@pytest.mark.parametrize(("start", "end"), MOVES)
def test_many_that_began_together_go_on_on_another_device(start, end, store):
    kept = []

    def stop(histories):
        if len(histories[0].epochs) == 1:
            raise KeyboardInterrupt

    def begin(device):
        trained_at_once(GRID, device, on_epoch=stop, on_stop=kept.append)
        return through(store, kept[0])

    resume = on(start, begin)

    def go_on(device):
        models, histories = trained_at_once(GRID, device, resume=resume)
        assert {len(h.epochs) for h in histories} == {2}
        return [weights_digest(model) for model in models]

    expected = [weights_digest(model) for model in trained_at_once(GRID, CPU)[0]]
    assert on(end, go_on) == expected


# All of it


def found_by(lab, subclass_config):
    methods = [ALONE, conventional(4.0, 0.9)]
    lab.train_ahead([RunRequest(seed, method) for seed in (0, 1) for method in methods])
    comparison = lab.compare(methods, [0, 1])
    explanations = SaliencyStudy(lab, 6, subclass_config)
    return (
        comparison.accuracies,
        explanations.similarity(methods[:1], [0, 1], Saliency.GRADIENT).values,
        explanations.faithfulness(methods[:1], [0, 1], Saliency.SMOOTHGRAD).values,
    )


def assert_found_alike(lab, task, store, tolerance):
    """What the lab finds on its device is what one on the CPU finds, and what it finds again."""
    task = replace(task, balanced=True, saliency=SaliencySettings(steps=3))
    lab = lab(task, store)
    accuracies, *maps = found_by(lab, task.subclass_config)
    expected, *on_cpu = found_by(
        Experiment(task, store=type(store)(store.root / "cpu"), device=CPU), task.subclass_config
    )
    torch.testing.assert_close(accuracies, expected, atol=tolerance, rtol=0)
    for measured, other in zip(maps, on_cpu, strict=True):
        assert measured.keys() == other.keys()
        assert all(v.device == CPU and v.isfinite().all() for v in measured.values())
    again = Experiment(task, store=store, device=lab.device)
    assert again.student(ALONE, 0).loaded
    assert torch.equal(found_by(again, task.subclass_config)[0], accuracies)


@pytest.mark.slow
def test_an_experiment_there_finds_what_one_here_finds(device, tiny_task, store):
    def lab(task, store):
        return Experiment(task, store=store, device=device)

    # Rounding alone tells them apart: answers are asked for in other batches.
    assert_found_alike(lab, tiny_task, store, tolerance=0.03)


@pytest.mark.skipif(best_device() == CPU, reason="needs a GPU")
def test_on_a_gpu(tiny_task, store):
    """Everything above once, with a device that is there: chance and rounding are its own."""
    device = best_device()
    for name in RUNS:
        model, history = trained(name, device)
        assert {p.device.type for p in model.parameters()} == {device.type}
        assert all(math.isfinite(e.train_loss + e.val_loss) for e in history.epochs)
    for grid in TOGETHER.values():
        models, _ = trained_at_once(grid, device)
        expected, _ = trained_at_once(grid, CPU)
        for ours, theirs in zip(models, expected, strict=True):
            for name, tensor in theirs.state_dict().items():
                found = ours.state_dict()[name].cpu()
                torch.testing.assert_close(found, tensor, atol=1e-2, rtol=0)
    for start, end in ((device, CPU), (CPU, device), (device, device)):
        for name in ("labels, random_affine", "distillation"):
            _, history = trained(name, end, resume=stopped(name, start, store))
            assert len(history.epochs) == 2
    assert_found_alike(lambda task, store: Experiment(task, store=store), tiny_task, store, 0.3)
