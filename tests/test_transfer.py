"""Networks of which only the last stages are trained, on pictures in MHIST's layout."""

from collections import OrderedDict
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdnb import data
from kdnb.course import text as words
from kdnb.data import Split, polyps
from kdnb.data.augmentation import CachedFeatures, DihedralImages, TranslatedImages
from kdnb.environment import seeded
from kdnb.experiment import experiment
from kdnb.experiment import logit_cache as answers
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import ALONE, conventional, subclass
from kdnb.models import StagedNetwork, mobilenet_v2_student, resnet50_teacher
from kdnb.models.backbones import Normalise
from kdnb.store.store import weights_digest
from kdnb.tasks.config import DistillationConfig, SubclassConfig, SubclassConfigs, Task, TaskText
from kdnb.training import checkpoint
from kdnb.training.config import TrainConfig
from kdnb.training.loop import fit, mixed_precision, predict, views_of
from kdnb.training.objectives import Batch, Distillation, KnownSubclasses, Objective

CPU = torch.device("cpu")
HEAD = TrainConfig(2, 16, 1e-2, dihedral=True, first_trainable="output")
BOTH = replace(HEAD, next_stage=TrainConfig(2, 16, 1e-3, first_trainable="block2"))


def tiny_network(num_classes=2, subclasses=1):
    """A body with batch-norm in every stage, the same for all seeds, and a head of its own."""
    with seeded(0):
        body = OrderedDict(
            normalise=Normalise(),
            block1=nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU()),
            block2=nn.Sequential(nn.Conv2d(6, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU()),
            pool=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        )
    return StagedNetwork({**body, "output": nn.Linear(8, num_classes * subclasses)}, "nowhere")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """60 training (9 of them validation) and 30 test pictures, as PNG files and a CSV on disk."""
    patch = pytest.MonkeyPatch()
    patch.setenv("KDNB_RUNS", str(tmp_path_factory.mktemp("drawn")))
    yield polyps.load(train=60, test=30, size=32)
    patch.undo()


def task_of(pictures, **changes):
    """The task with the tiny network on both sides."""
    about = {
        "name": "tiny-polyps", "text": TaskText("Tiny polyps"), "dataset": lambda: pictures,
        "teacher": tiny_network, "student": tiny_network,
        "teacher_config": BOTH, "student_config": BOTH,
        "subclass_configs": SubclassConfigs(
            SubclassConfig("none", Objective(subclasses=4), HEAD),
            known=SubclassConfig("votes", KnownSubclasses(subclasses=4), HEAD),
        ),
        "distillation": DistillationConfig(4.0, 0.5), "balanced": True,
    }  # fmt: skip
    return Task(**(about | changes))


@pytest.fixture
def lab(pictures, store):
    return Experiment(task_of(pictures), store=store, device=CPU)


def state_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def moved(before, model):
    """Names of the stages of which any parameter or buffer is not bit for bit what it was."""
    after = model.state_dict()
    names = {n for n in before if not torch.equal(before[n], after[n])}
    return {name.split(".")[1] for name in names}, names


# What moves


def test_only_the_named_stages_move(lab):
    with seeded(0):
        before = state_of(tiny_network())
    head_only = Experiment(task_of(lab.dataset, student_config=HEAD), store=lab.store, device=CPU)
    assert moved(before, head_only.student(ALONE, 0).model)[0] == {"output"}
    run = lab.student(ALONE, 0)
    stages, names = moved(before, run.model)
    assert stages == {"block2", "output"} and run.trained_from == "block2"
    # few images make poor statistics: those of the trained block stay as well
    assert not any("running" in name or "num_batches" in name for name in names)
    assert {"stages.block2.0.weight", "stages.block2.1.weight"} <= names


def test_a_trained_network_is_left_in_eval_mode_as_a_whole(lab):
    """Else the frozen batch-norm would drift as soon as anybody asks the network something."""
    run = lab.student(ALONE, 0)
    assert not any(module.training for module in run.model.modules())
    before = weights_digest(run.model)
    run.model(lab.dataset.val.images.float() / 255)
    assert weights_digest(run.model) == before


def test_the_second_step_starts_where_the_first_ended(lab, store):
    """Both histories stand in the run, and a run with the head alone shares the first step."""
    run = lab.student(ALONE, 0)
    assert len(run.history.epochs) == BOTH.total_epochs == 4
    runs = len(store.names("run-"))
    head_only = Experiment(task_of(lab.dataset, student_config=HEAD), store=store, device=CPU)
    first = head_only.student(ALONE, 0)
    assert first.loaded and len(store.names("run-")) == runs
    assert run.history.epochs[:2] == first.history.epochs
    again = Experiment(lab.task, store=store, device=CPU).student(ALONE, 0)
    assert again.loaded and again.weights == run.weights and again.history == run.history


def test_everything_can_be_trained_in_a_second_step(lab, store):
    everything = replace(HEAD, next_stage=TrainConfig(1, 16, 1e-3))
    whole = Experiment(task_of(lab.dataset, student_config=everything), store=store, device=CPU)
    run = whole.student(ALONE, 0)
    with seeded(0):
        stages, _ = moved(state_of(tiny_network()), run.model)
    assert {"block1", "block2", "output"} <= stages and run.trained_from == ""


def test_ctrl_c_in_the_second_step_keeps_the_first(lab, store):
    def stop(update):
        if len(update.history.epochs) == 3 and not update.history.interrupted:
            raise KeyboardInterrupt

    lab.watch = stop
    run = lab.student(ALONE, 0)
    assert run.history.interrupted and len(run.history.epochs) == 3
    assert len(store.names("run-")) == 1  # the head
    lab.watch = None
    assert lab.student(ALONE, 0).weights == lab.student(ALONE, 0).weights


@pytest.mark.parametrize(("steps", "whole"), [(6, 1), (10, 2), (14, 3)])
def test_continued_in_either_step_it_ends_as_if_never_stopped(
    pictures, store, tmp_path, monkeypatch, steps, whole
):
    """Each epoch has four steps here; features, frozen stages and statistics come back as well."""

    monkeypatch.setattr(checkpoint, "SHARE", float("inf"))  # however short epochs are here

    class Stops:
        left = steps

        def __call__(self, update):
            self.update = update

        def step(self, images):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    half = Experiment(task_of(pictures), store=store, watch=Stops(), device=CPU).student(ALONE, 0)
    assert half.history.interrupted and len(half.history.epochs) == whole
    watch = Stops()
    watch.left = 0
    again = Experiment(task_of(pictures), store=store, watch=watch, device=CPU).student(ALONE, 0)
    other = type(store)(tmp_path / "other")
    never = Experiment(task_of(pictures), store=other, device=CPU).student(ALONE, 0)
    assert watch.update.continued == whole
    assert again.weights == never.weights
    assert [e.train_loss for e in again.history.epochs] == [
        e.train_loss for e in never.history.epochs
    ]
    assert not store.names("part-")


def test_watchers_see_one_run_of_all_epochs(lab):
    seen = []
    lab.watch = seen.append
    lab.student(ALONE, 0)
    assert [len(u.history.epochs) for u in seen] == [0, 1, 2, 2, 3, 4]  # before each step too
    assert [u.run_finished for u in seen] == [False] * 5 + [True]
    assert {u.epochs for u in seen} == {4}


# Features


@pytest.mark.slow
@pytest.mark.parametrize("make", [tiny_network, mobilenet_v2_student, resnet50_teacher])
def test_cached_features_are_live_ones(make, pictures, store):
    """To 1e-5 of the largest, in every view, whether by one cut or by two."""
    if make is not tiny_network:
        make = partial(make, weights=None)
    network = make().eval()
    frozen, head = network.split("output")
    kept = answers.LogitCache(store, CPU)
    part = pictures.val
    turned = DihedralImages(part.images)
    index = torch.arange(len(part))
    turning = TrainConfig(1, 1, 1.0, dihedral=True)
    at_once = kept.features(frozen, part, turning)
    in_two = answers.LogitCache(store.__class__(store.root / "two"), CPU)
    in_two = in_two.features(frozen, part, turning, first=3)
    for view in range(8):
        images = turned.batch(index, torch.full_like(index, view))
        with torch.inference_mode():
            live, logits = frozen(images), network(images)
        scale = live.abs().max()
        for features in (at_once, in_two):
            rows = features.batch(index, torch.full_like(index, view))
            assert (rows - live).abs().max() <= 1e-5 * scale
        with torch.inference_mode():
            assert (head(rows) - logits).abs().max() <= 1e-5 * logits.abs().max().clamp(min=1)


@pytest.mark.slow
def test_frozen_stages_run_once_per_image_and_view(lab, store, monkeypatch):
    """Six temperatures, two seeds, all heads: the network before them is never run again."""
    heads = Experiment(
        task_of(lab.dataset, student_config=HEAD, teacher_config=HEAD), store=store, device=CPU
    )
    heads.compare([ALONE, conventional(1.0, 0.5)], [0, 1])
    inputs = []
    original = answers.predict

    def spy(model, views, **how):
        inputs.append(views)
        return original(model, views, **how)

    monkeypatch.setattr(answers, "predict", spy)
    result = heads.compare([conventional(float(t), 0.5, f"T={t}") for t in range(2, 8)], [0, 1])
    assert result.accuracies.shape == (6, 2)
    assert inputs and all(isinstance(views, CachedFeatures) for views in inputs)
    inputs.clear()
    fresh = Experiment(heads.task, store=store, device=CPU)
    fresh.compare([conventional(9.0, 0.5)], [0, 1])
    assert all(isinstance(views, CachedFeatures) for views in inputs)


def test_features_belong_to_weights_images_and_view(pictures, store):
    kept = answers.LogitCache(store, CPU)
    one, other = tiny_network(), tiny_network()
    with torch.no_grad():
        other.stages.block1[0].weight.add_(0.1)
    first = kept.features(one.split("output")[0], pictures.val)
    second = kept.features(other.split("output")[0], pictures.val)
    assert not torch.allclose(first.features[0], second.features[0])
    swapped = Split(pictures.val.images.flip(0), pictures.val.labels.flip(0))
    third = kept.features(one.split("output")[0], swapped)
    torch.testing.assert_close(third.features[0], first.features[0].flip(0))
    with torch.no_grad():
        one.stages.block1[0].weight.add_(0.1)  # the same module, whose bytes were read before
    fourth = kept.features(one.split("output")[0], pictures.val)
    assert torch.equal(fourth.features[0], second.features[0])


def test_answers_for_a_view_are_the_whole_networks_for_that_view(lab):
    run, split = lab.teacher(0), lab.dataset.val
    answers = lab.logits(run, split, lab.task.teacher_config)
    turned, index = DihedralImages(split.images), torch.arange(len(split))
    for view in range(8):
        with torch.inference_mode():
            live = run.model(turned.batch(index, torch.full_like(index, view)))
        torch.testing.assert_close(answers[view], live, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(answers[0], answers[1], atol=1e-3)


def test_a_part_of_a_split_takes_its_answers_from_the_whole(lab, monkeypatch):
    rows = torch.tensor([7, 2, 5])
    part = lab.dataset.train.take(rows)
    teacher, config = lab.teacher(0), lab.task.teacher_config
    frozen, _ = teacher.model.split("output")
    alike = Split(part.images.clone(), part.labels)  # of which nothing is known
    expected = lab.logits(teacher, alike, config), lab.logit_cache.features(frozen, alike, config)
    lab.logits(teacher, lab.dataset.train, config)
    lab.logit_cache.features(frozen, lab.dataset.train, config)

    def refuse(*_, **__):
        raise AssertionError("a network was run again")

    monkeypatch.setattr(answers, "predict", refuse)
    torch.testing.assert_close(lab.logits(teacher, part, config), expected[0])
    found = lab.logit_cache.features(frozen, part, config)
    assert found.names == expected[1].names
    for view, known in zip(found.features, expected[1].features, strict=True):
        torch.testing.assert_close(view, known)


def test_features_are_paired_with_their_own_labels(pictures):
    """Features that are the label: a head learns it, whatever the order and view of a batch."""
    n, labels = len(pictures.train), pictures.train.labels

    def features_of(part, views):
        by_label = F.one_hot(part.labels, 2).float()
        padded = torch.cat([by_label, torch.zeros(len(part), 6)], 1)
        return CachedFeatures([padded * (1 + v) for v in range(views)], tuple("abcdefgh"[:views]))

    network = tiny_network()
    seen = (features_of(pictures.train, 8), features_of(pictures.val, 1))
    config = TrainConfig(30, 16, 3e-2, dihedral=True, first_trainable="output")
    history = fit(network, pictures.train, pictures.val, config, 0, features=seen, device=CPU)
    assert history.val_accuracy == 1.0 and len(labels) == n


def test_features_and_a_recipe_without_frozen_stages_exclude_each_other(pictures):
    features = CachedFeatures([torch.zeros(51, 8)], ("as it is",))
    whole = TrainConfig(1, 16, 1e-3)
    with pytest.raises(ValueError, match="features are needed to train the last stages only"):
        fit(tiny_network(), pictures.train, pictures.val, whole, 0, features=(features, features))
    with pytest.raises(ValueError, match="features are needed to train the last stages only"):
        fit(tiny_network(), pictures.train, pictures.val, HEAD, 0)
    with pytest.raises(ValueError, match="no stage 'blok2': choose one of normalise, block1"):
        tiny_network().split("blok2")


# Views


def test_turned_images_are_the_eight_of_a_square():
    image = torch.arange(27, dtype=torch.uint8).view(1, 3, 3, 3)
    turned = DihedralImages(image)
    rows = torch.zeros(8, dtype=torch.int64)
    got = (turned.batch(rows, torch.arange(8)) * 255).round().to(torch.uint8)
    for quarters in range(4):
        expected = image[0].rot90(quarters, (1, 2))
        assert torch.equal(got[quarters], expected)
        assert torch.equal(got[4 + quarters], expected.flip(2))
    assert len({tuple(view.flatten().tolist()) for view in got}) == len(set(turned.names)) == 8
    assert torch.equal(got[0], image[0]) and turned.names[0] == TranslatedImages(image).names[0]
    with pytest.raises(ValueError, match="only square images can be turned"):
        DihedralImages(torch.zeros(1, 3, 2, 3, dtype=torch.uint8))


def test_the_recipe_chooses_the_views(pictures):
    assert isinstance(views_of(pictures.val, HEAD), DihedralImages)
    assert len(views_of(pictures.val, TrainConfig(1, 1, 1.0, translate=1)).names) == 9
    with pytest.raises(ValueError, match="translated or dihedral, not both"):
        TrainConfig(1, 1, 1.0, translate=1, dihedral=True)


@pytest.mark.parametrize("small", [0, 2**20])
def test_stored_features_pick_row_and_view(small, monkeypatch):
    monkeypatch.setattr("kdnb.data.augmentation.SMALL", small)
    views = [torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[10.0], [20.0], [30.0]])]
    stored = CachedFeatures(views, ("a", "b"))
    rows = stored.batch(torch.tensor([2, 0, 2, 1]), torch.tensor([0, 1, 1, 0]))
    assert rows.flatten().tolist() == [3.0, 10.0, 30.0, 2.0]


# Networks


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "parameters", "features"),
    [(resnet50_teacher, 23_512_130, 2048), (mobilenet_v2_student, 2_226_434, 1280)],
)
def test_parameters_of_the_networks(make, parameters, features):
    """torchvision's counts (25,557,032 and 3,504,872) less 1,000 outputs and plus two."""
    network = make(weights=None)
    assert sum(p.numel() for p in network.parameters()) == parameters
    torchvisions = {2048: 25_557_032, 1280: 3_504_872}[features]
    assert parameters == torchvisions - 1000 * (features + 1) + 2 * (features + 1)
    _, head = make(weights=None, subclasses=4).split("output")
    assert sum(p.numel() for p in head.parameters()) == 8 * (features + 1)
    # its own new head aside, a random body is the same for every seed, and each call's its own
    other = make(weights=None)
    assert weights_digest(network.split("output")[0]) == weights_digest(other.split("output")[0])
    assert not torch.equal(network.stages.output.weight, other.stages.output.weight)
    with torch.no_grad():
        network.stages.stem[0].weight.zero_()
    assert make(weights=None).stages.stem[0].weight.abs().sum() > 0


@pytest.mark.slow
def test_random_bodies_keep_what_images_show():
    """Deep outputs neither vanish nor explode, and a picture with noise on it is known again."""
    images = polyps.sample()[:8]
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    noisy = (images + 0.02 * noise).clamp(0, 1)
    for make in (resnet50_teacher, mobilenet_v2_student):
        network = make(weights=None, calibrate_on=polyps.sample).eval()
        with torch.inference_mode():
            body = network.split("output")[0]
            features, again = body(images), body(noisy)
        assert features.isfinite().all() and 0.01 < features.std() < 100
        assert torch.equal(torch.cdist(again, features).argmin(1), torch.arange(8))
    with pytest.raises(ValueError, match="weights must be 'imagenet' or None, got 'v2'"):
        resnet50_teacher(weights="v2")


# Classes that are not equally frequent, and subclasses that are known


def test_every_class_counts_the_same(pictures, lab, monkeypatch):
    """The weights are scikit-learn's "balanced", and the loss is the weighted mean."""
    from sklearn.utils.class_weight import compute_class_weight

    seen = []

    def spy(*args, objective, **options):
        seen.append(objective)
        return fit(*args, objective=objective, **options)

    monkeypatch.setattr(experiment, "fit", spy)
    lab.student(ALONE, 0)
    labels = pictures.train.labels.numpy()
    expected = compute_class_weight("balanced", classes=np.arange(2), y=labels)
    assert seen[0].class_weights == pytest.approx(expected.tolist())

    logits = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.tensor([0, 0, 0, 1, 1])
    rows = Batch(y)
    each = F.cross_entropy(logits, y, reduction="none")
    w = torch.tensor([0.5, 2.0], dtype=torch.float64)[y]
    weighted = Objective(class_weights=(0.5, 2.0)).loss(logits, rows).total
    torch.testing.assert_close(weighted, (w * each).sum() / w.sum())
    mixed = Distillation(
        temperature=2.0, soft_weight=0.0, class_weights=(0.5, 2.0), teacher_logits=logits[None]
    )
    shown = rows._replace(teacher_logits=logits)
    torch.testing.assert_close(mixed.loss(logits, shown).total, weighted)
    with pytest.raises(ValueError, match="one entry for each of 2 classes, got 3"):
        Objective(class_weights=(1.0, 1.0, 1.0)).loss(logits, rows)


def test_balancing_is_a_choice_of_the_task_and_another_run(pictures, lab, store):
    lab.student(ALONE, 0)
    plain = Experiment(task_of(pictures, balanced=False), store=store, device=CPU)
    assert not plain.student(ALONE, 0).loaded


def test_known_subclasses_by_hand():
    """Cross-entropy over all columns; summed probabilities are those of the classes."""
    logits = torch.tensor([[1.0, 2.0, 0.0, -1.0], [0.0, 0.0, 3.0, 0.0]], dtype=torch.float64)
    votes, labels = torch.tensor([1, 2]), torch.tensor([0, 1])
    rows = Batch(labels, subclasses=votes)
    p = logits.softmax(1)
    loss = KnownSubclasses(subclasses=2).loss(logits, rows)
    torch.testing.assert_close(loss.total, -(p[0, 1].log() + p[1, 2].log()) / 2)
    weighted = KnownSubclasses(subclasses=2, class_weights=(1.0, 3.0)).loss(logits, rows).total
    torch.testing.assert_close(weighted, -(p[0, 1].log() + 3 * p[1, 2].log()) / 4)
    with pytest.raises(ValueError, match="a true subclass lies outside the class of its label"):
        KnownSubclasses(subclasses=2).loss(logits, rows._replace(labels=torch.tensor([1, 1])))
    with pytest.raises(ValueError, match="no known subclasses"):
        KnownSubclasses(subclasses=2).loss(logits, rows._replace(subclasses=None))


def test_a_teacher_of_known_subclasses_learns_them(pictures, store):
    """On training images it gives the votes more probability than one that never saw any."""
    config = replace(HEAD, epochs=20)
    known = SubclassConfig("votes", KnownSubclasses(subclasses=4), config)
    never = SubclassConfig("none", Objective(subclasses=4), config)
    lab = Experiment(task_of(pictures), store=store, device=CPU)
    surprise = {
        way.label: F.cross_entropy(
            lab.logits(lab.teacher(0, way), pictures.train)[0], pictures.train.subclasses
        )
        for way in (known, never)
    }
    assert surprise["votes"] < surprise["none"]
    student = lab.student(subclass(4.0, 0.5, known), 0)
    assert lab.logits(student, pictures.val).shape == (1, 9, 8)


def test_other_votes_are_another_teacher(pictures, store):
    """The fingerprint is of images and labels; votes count where the teacher hears them."""
    votes = pictures.train.subclasses
    shifted = (votes // 4) * 4 + (votes + 1) % 4  # other votes, the same classes
    train = data.Split(pictures.train.images, pictures.train.labels, shifted)
    other = replace(pictures, train=train)
    one, two = (Experiment(task_of(d), store=store, device=CPU) for d in (pictures, other))
    assert one.teacher(0).weights == two.teacher(0).weights
    known = one.task.subclass_configs.known
    assert one.teacher(0, known).weights != two.teacher(0, known).weights


# Elsewhere


def test_mixed_precision_is_for_cuda():
    wanted = TrainConfig(1, 1, 1.0, mixed_precision=True)
    with mixed_precision(CPU, wanted):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_the_card_says_where_weights_come_from(pictures, store):
    network = partial(mobilenet_v2_student, weights=None)
    lab = Experiment(task_of(pictures, student=network), store=store, device=CPU)
    card = words.task_card(lab).data
    assert "**The student starts from random weights.**" in card
    assert "**The teacher starts from nowhere.**" in card


def test_recipes_in_words():
    text = words.recipe_in_words(BOTH)
    assert text == (
        "2 epochs, batch size 16, peak learning rate 0.01, eight rotated and mirrored views, "
        "stages before `output` frozen; then 2 epochs, batch size 16, peak learning rate 0.001, "
        "stages before `block2` frozen"
    )
    regularised = TrainConfig(2, 16, 1e-3, weight_decay=0.05, label_smoothing=0.1)
    assert words.recipe_in_words(regularised).endswith(", weight decay 0.05, label smoothing 0.1")


def test_predictions_leave_the_network_as_it_was(pictures):
    network = tiny_network().train()
    before = weights_digest(network)
    predict(network, DihedralImages(pictures.val.images), view=3, device=CPU)
    assert network.training and weights_digest(network) == before
