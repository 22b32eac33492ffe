"""The training loop and the teacher's cached answers."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from conftest import TinyTeacher, tiny_student
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kdnb import losses
from kdnb.data.augmentation import TranslatedImages
from kdnb.environment import seeded
from kdnb.models import TeacherCNN
from kdnb.store.store import weights_digest
from kdnb.training import loop as training
from kdnb.training.config import TrainConfig
from kdnb.training.history import is_validated
from kdnb.training.loop import TrainingDivergedError, fit, one_cycle
from kdnb.training.objectives import (
    LABELS,
    Distillation,
    MutualInformation,
    Objective,
    WithinClasses,
)
from kdnb.training.predict import evaluating, predict

CPU = torch.device("cpu")
RECIPE = TrainConfig(epochs=3, batch_size=16, learning_rate=1e-2, translate=1)


def soft_targets(teacher, images, shift):
    shifted = TranslatedImages(images, shift)
    views = [predict(teacher, shifted, view=v, device=CPU) for v in range(len(shifted.names))]
    return torch.stack(views)


def distil(targets, temperature=4.0, soft_weight=0.9):
    return Distillation(teacher_logits=targets, temperature=temperature, soft_weight=soft_weight)


def train(tiny, model_type=tiny_student, config=RECIPE, seed=0, **options):
    with seeded(seed):
        model = model_type()
    return model, fit(model, tiny.train, tiny.val, config, seed, device=CPU, **options)


@pytest.fixture
def teacher(tiny):
    """A teacher whose batch norm has seen data, left in train mode as a careless reader would."""
    model, _ = train(tiny, TinyTeacher)
    return model.train()


class Recorder(nn.Module):
    """A student that keeps every batch of images it is trained on."""

    def __init__(self):
        super().__init__()
        self.inner = tiny_student()
        self.seen = []

    def forward(self, images):
        if self.training:
            self.seen.append(images.clone())
        return self.inner(images)


def recorded_batches(tiny, objective, monkeypatch):
    """Distil a recorder; returns its batches of images and the soft targets it was given."""
    given = []
    original = losses.soft_target_loss

    def spy(student_logits, teacher_logits, temperature, soft_targets):
        given.append(soft_targets.clone())
        return original(student_logits, teacher_logits, temperature, soft_targets)

    monkeypatch.setattr(losses, "soft_target_loss", spy)
    model, _ = train(tiny, Recorder, objective=objective)
    return model.seen, given


def largest_misfit(teacher, images, given):
    """Over all batches: cached answers against a live forward pass of the images they came with."""
    with evaluating(teacher):
        return max(
            (F.softmax(teacher(batch) / 4.0, dim=1) - targets).abs().max().item()
            for batch, targets in zip(images, given, strict=True)
        )


def test_cached_logits_are_those_of_the_images_in_the_batch(tiny, teacher, monkeypatch):
    targets = soft_targets(teacher, tiny.train.images, RECIPE.translate)
    assert targets.shape == (9, 96, 4)
    images, given = recorded_batches(tiny, distil(targets), monkeypatch)
    assert len(images) == 3 * 6
    assert largest_misfit(teacher, images, given) < 1e-5


def test_one_misplaced_row_would_be_noticed(tiny, teacher, monkeypatch):
    targets = soft_targets(teacher, tiny.train.images, RECIPE.translate)
    targets[:, [10, 11]] = targets[:, [11, 10]]  # two neighbours in every view
    images, given = recorded_batches(tiny, distil(targets), monkeypatch)
    assert largest_misfit(teacher, images, given) > 1e-2


def test_one_misplaced_view_would_be_noticed(tiny, teacher, monkeypatch):
    targets = soft_targets(teacher, tiny.train.images, RECIPE.translate)
    targets[[1, 2]] = targets[[2, 1]]
    images, given = recorded_batches(tiny, distil(targets), monkeypatch)
    assert largest_misfit(teacher, images, given) > 1e-2


def test_the_real_teachers_logits_agree_with_live_ones(tiny):
    """The same for the course's convolutional teacher, whose batches differ in size and layout."""
    with seeded(0):
        model = TeacherCNN()
    cached = predict(model, TranslatedImages(tiny.train.images), device=CPU)
    index = torch.randperm(96)[:37]
    with evaluating(model):
        live = model(tiny.train.images[index].float() / 255)
    torch.testing.assert_close(cached[index], live, atol=1e-5, rtol=0)


def test_the_teacher_is_left_bit_for_bit(tiny, teacher):
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    targets = soft_targets(teacher, tiny.train.images, RECIPE.translate)
    train(tiny, objective=distil(targets))
    after = teacher.state_dict()
    assert before.keys() == after.keys() and any("running_mean" in name for name in before)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert teacher.training, "its mode is given back too"


def test_predict_runs_in_eval_mode_without_gradients(tiny, teacher):
    first, second = (
        predict(teacher, TranslatedImages(tiny.val.images), device=CPU) for _ in range(2)
    )
    assert torch.equal(first, second), "dropout would differ"
    assert not first.requires_grad
    usable = (nn.Parameter(torch.ones(4)) * first).sum()
    usable.backward()  # an inference tensor could not take part in this


@pytest.mark.parametrize("model_type", [tiny_student, TinyTeacher])
def test_a_run_repeats_bit_for_bit(tiny, model_type):
    (a, history_a), (b, history_b) = (train(tiny, model_type) for _ in range(2))
    assert weights_digest(a) == weights_digest(b)
    losses_a = [(e.train_loss, e.val_loss) for e in history_a.epochs]
    assert losses_a == [(e.train_loss, e.val_loss) for e in history_b.epochs]
    other, _ = train(tiny, model_type, seed=1)
    assert weights_digest(a) != weights_digest(other)


def test_training_leaves_the_readers_random_numbers_alone(tiny):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train(tiny, TinyTeacher)
    assert torch.equal(torch.rand(3), expected)


def test_both_methods_see_the_same_batches(tiny, teacher, monkeypatch):
    targets = soft_targets(teacher, tiny.train.images, RECIPE.translate)
    distilled, _ = recorded_batches(tiny, distil(targets), monkeypatch)
    alone, _ = train(tiny, Recorder)
    assert all(torch.equal(a, b) for a, b in zip(alone.seen, distilled, strict=True))
    assert not torch.equal(alone.seen[0], alone.seen[6]), "each epoch has an order of its own"


def test_each_seed_has_an_order_of_its_own(tiny):
    with seeded(0):
        models = Recorder(), Recorder()
    for seed, model in enumerate(models):
        fit(model, tiny.train, tiny.val, RECIPE, seed, device=CPU)
    assert not torch.equal(models[0].seen[0], models[1].seen[0])


def test_weight_zero_trains_exactly_like_no_teacher(tiny, teacher):
    targets = soft_targets(teacher, tiny.train.images, RECIPE.translate)
    with_teacher, _ = train(tiny, objective=distil(targets, 4.0, 0.0))
    alone, _ = train(tiny)
    for a, b in zip(with_teacher.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_the_learning_rate_rises_for_a_fifth_of_the_steps_however_few_they_are():
    def rates(steps):
        optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], 0.5)
        schedule = one_cycle(
            optimizer, TrainConfig(epochs=steps, batch_size=8, learning_rate=0.5), 1
        )
        found = []
        for _ in range(steps):
            found += schedule.get_last_lr()
            optimizer.step()
            schedule.step()
        return found

    assert max(range(60), key=rates(60).__getitem__) == 60 / 5 - 1
    assert max(rates(60)) == 0.5
    for steps in range(1, 13):
        assert all(0 < rate <= 0.5 for rate in rates(steps)), steps


def test_every_image_once_an_epoch():
    generator = torch.Generator().manual_seed(0)
    batches = list(training.epoch_batches([4, 4, 2], 9, generator))
    assert [len(index) for index, _ in batches] == [4, 4, 2]
    assert sorted(torch.cat([index for index, _ in batches]).tolist()) == list(range(10))
    assert all(0 <= v < 9 for _, view in batches for v in view.tolist())


@given(images=st.integers(1, 300), batch_size=st.integers(1, 70), least=st.integers(1, 3))
@settings(max_examples=200, deadline=None)
def test_a_last_batch_that_is_too_small_joins_the_one_before(images, batch_size, least):
    sizes = training.batch_sizes(images, batch_size, least)
    assert sum(sizes) == images and set(sizes[:-1]) <= {batch_size}
    assert min(images, least, batch_size) <= sizes[-1] < batch_size + least
    as_before = [len(rows) for rows in torch.arange(images).split(batch_size)]
    assert training.batch_sizes(images, batch_size) == as_before
    assert sizes == as_before or as_before[-1] < least


def perceptron(norm, outputs=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 8), norm, nn.ReLU(), nn.Linear(8, outputs))


class Inside(nn.Module):
    """Batch-norm that no layer shows."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(784, 4)

    def forward(self, images):
        return F.batch_norm(self.inner(images.flatten(1)), None, None, training=True)


class Squeezing(nn.Module):
    """Takes a single image for no batch at all."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(784, 4)

    def forward(self, images):
        return self.inner(images.flatten(2).squeeze())


def small_maps(size):
    return nn.Sequential(
        nn.Conv2d(1, 4, size, stride=size), nn.BatchNorm2d(4), nn.Flatten(),
        nn.Linear(4 * (28 // size) ** 2, 4),
    )  # fmt: skip


NEED_TWO = {
    "batch-norm": lambda: perceptron(nn.BatchNorm1d(8)),
    "without statistics": lambda: perceptron(nn.BatchNorm1d(8, track_running_stats=False)),
    "group-norm": lambda: perceptron(nn.GroupNorm(8, 8)),
    "of one pixel": lambda: small_maps(28),
    "inside": Inside,
    "squeezing": Squeezing,
}
NEED_ONE = {
    "plain": tiny_student,
    "layer-norm": lambda: perceptron(nn.LayerNorm(8)),
    "of many pixels": lambda: small_maps(7),
    "dropout": TinyTeacher,
}


@pytest.mark.parametrize(("images", "batch_size"), [(33, 16), (17, 16), (9, 4), (5, 2)])
@pytest.mark.parametrize("name", [*NEED_TWO, *NEED_ONE])
def test_a_last_batch_of_one_image(tiny, monkeypatch, name, images, batch_size):
    """Where a network needs two it has two; elsewhere the batches are what they always were."""
    schedules, seen = [], []
    original = training.one_cycle

    def spy(*given):
        schedules.append(original(*given))
        return schedules[0]

    monkeypatch.setattr(training, "one_cycle", spy)
    some = tiny.train.take(torch.arange(images))
    config = TrainConfig(epochs=2, batch_size=batch_size, learning_rate=1e-2)
    make = {**NEED_TWO, **NEED_ONE}[name]
    with seeded(0):
        model = make()
    history = fit(model, some, tiny.val, config, 0, device=CPU, on_step=seen.append)
    full = images // batch_size
    alone = [batch_size] * full + [1]
    joined = [batch_size] * (full - 1) + [batch_size + 1]
    assert seen == 2 * (joined if name in NEED_TWO else alone)
    assert len(history.epochs) == 2
    assert schedules[0].last_epoch == schedules[0].total_steps == len(seen)


def test_in_two_views_one_image_is_a_batch_of_two(tiny):
    seen = []
    some = tiny.train.take(torch.arange(17))
    config = TrainConfig(epochs=1, batch_size=8, learning_rate=1e-2, translate=1)
    model = perceptron(nn.BatchNorm1d(8), outputs=8)
    fit(model, some, tiny.val, config, 0, objective=MutualInformation(subclasses=2), device=CPU,
        on_step=seen.append)  # fmt: skip
    assert seen == [16, 16, 2]


def test_trying_a_batch_of_one_moves_neither_statistics_nor_chance(tiny):
    model = perceptron(nn.Sequential(nn.BatchNorm1d(8), nn.Dropout(0.5)))
    before, chance = weights_digest(model), torch.get_rng_state()
    inputs = TranslatedImages(tiny.train.images)
    assert not training.takes_one(model, inputs, RECIPE, Objective())
    assert training.takes_one(model, inputs, replace(RECIPE, first_trainable="0"), Objective()), (
        "kept"
    )
    assert weights_digest(model) == before and torch.equal(torch.get_rng_state(), chance)


def test_two_views_of_each_image_in_two_blocks():
    generator = torch.Generator().manual_seed(0)
    batches = list(training.epoch_batches([4, 4, 2], 9, generator, views_per_image=2))
    assert [len(index) for index, _ in batches] == [8, 8, 4]
    for index, view in batches:
        first, second = index.chunk(2)
        assert torch.equal(first, second) and len(view) == len(index)
    assert sorted(torch.cat([i[: len(i) // 2] for i, _ in batches]).tolist()) == list(range(10))
    one, other = zip(*(view.chunk(2) for _, view in batches), strict=True)
    assert not torch.equal(torch.cat(one), torch.cat(other))


def test_the_agreement_loss_gets_two_views_of_the_same_images(tiny, monkeypatch):
    """The first half of a batch's rows shows the images that its second half shows."""
    given = []

    class Watcher(Recorder):
        def __init__(self):
            super().__init__()
            self.inner = tiny_student(subclasses=2)

    original = losses.subclass_agreement_loss

    def spy(one, other, labels, *rest):
        given.append((len(one), labels.clone()))
        return original(one, other, labels, *rest)

    monkeypatch.setattr(losses, "subclass_agreement_loss", spy)
    model, history = train(tiny, Watcher, objective=MutualInformation(subclasses=2))
    images, (count, labels) = model.seen[0], given[0]
    assert len(images) == 2 * count == 32
    middles = tiny.train.images[:, :, 1:-1, 1:-1].float() / 255
    for one, other, label in zip(*images.chunk(2), labels, strict=True):
        # Moved by at most one pixel each: some window of either is the middle of one image.
        shown = [
            i
            for i, middle in enumerate(middles)
            if all(any(torch.allclose(w, middle) for w in windows(v)) for v in (one, other))
        ]
        assert len(shown) == 1 and tiny.train.labels[shown[0]] == label
    assert all(e.auxiliary_loss is not None and e.soft_loss is None for e in history.epochs)


def windows(image):
    """All 26×26 windows of a 28×28 image."""
    return image.unfold(1, 26, 1).unfold(2, 26, 1).flatten(1, 2).transpose(0, 1)


def test_the_last_epoch_is_kept_whatever_validation_says(tiny, monkeypatch):
    answers = torch.randn(9, 96, 8, generator=torch.Generator().manual_seed(0))
    blind = WithinClasses(subclasses=2, teacher_logits=answers, temperature=4.0)
    for objective in (blind, Objective(subclasses=2)):
        falling, after = iter([0.9, 0.8, 0.7]), []
        monkeypatch.setattr(training, "_validate", lambda *rest, f=falling: (1.0, next(f)))
        model = tiny_student(subclasses=2)
        history = fit(
            model, tiny.train, tiny.val, RECIPE, 0, device=CPU, objective=objective,
            on_epoch=lambda history, m=model, a=after: a.append(weights_digest(m)),
        )  # fmt: skip
        assert weights_digest(model) == after[3] != after[1] and history.val_accuracy == 0.7
        assert (history.epochs[0].hard_loss is None) == (objective is blind)


@pytest.mark.parametrize("epochs", [1, 2, 9, 10, 11, 19, 20, 25, 200])
def test_ten_epochs_spread_evenly_are_validated(epochs):
    numbers = [n for n in range(1, epochs + 1) if is_validated(n, epochs)]
    gaps = {after - before for before, after in pairwise([0, *numbers])}
    assert len(numbers) == min(10, epochs) and numbers[-1] == epochs
    assert max(gaps) - min(gaps) <= 1


def test_between_them_no_validation_image_is_seen(tiny, monkeypatch):
    """And the weights are those of a training that is validated after every epoch."""
    config, asked = TrainConfig(epochs=90, batch_size=48, learning_rate=1e-2), []
    monkeypatch.setattr(training, "_validate", lambda *rest: asked.append(1) or (0.5, 0.25))
    model, history = train(tiny, config=config)
    expected = {n for n in range(1, 91) if is_validated(n, 90)}
    assert len(asked) == 10 and history.validated.keys() == expected
    assert {e.val_loss for e in history.epochs} == {None, 0.5} and history.val_accuracy == 0.25
    monkeypatch.setattr(training, "is_validated", lambda *epoch: True)
    always, _ = train(tiny, config=config)
    assert len(asked) == 10 + 90 and weights_digest(always) == weights_digest(model)


def test_without_weight_decay_it_is_adam(tiny, monkeypatch):
    ours, _ = train(tiny)
    adam = lambda parameters, config: torch.optim.Adam(parameters, config.learning_rate, fused=True)  # noqa: E731
    monkeypatch.setattr(training, "adamw", adam)
    assert weights_digest(train(tiny)[0]) == weights_digest(ours)


def test_weight_decay_is_decoupled_from_the_gradient(tiny):
    """Without a gradient the learning rate times the decay is what a weight loses (AdamW)."""
    weight = torch.ones(3, requires_grad=True)
    weight.grad = torch.zeros(3)
    training.adamw([weight], replace(RECIPE, weight_decay=0.5)).step()
    torch.testing.assert_close(weight.detach(), torch.full((3,), 1 - 1e-2 * 0.5))
    decayed, _ = train(tiny, config=replace(RECIPE, weight_decay=5.0))
    assert decayed[1].weight.norm() < 0.9 * train(tiny)[0][1].weight.norm()


def test_the_config_smooths_labels(tiny):
    smoothed, _ = train(tiny, config=replace(RECIPE, label_smoothing=0.5))
    model, _ = train(tiny)
    assert weights_digest(smoothed) != weights_digest(model)
    objective = replace(LABELS, label_smoothing=0.5)
    again, _ = train(tiny, objective=objective)
    assert weights_digest(again) == weights_digest(model), "it is the config that says it"


def test_settings_that_make_no_sense():
    with pytest.raises(ValueError, match=r"label_smoothing must lie in \[0, 1\), got 1"):
        replace(RECIPE, label_smoothing=1)
    with pytest.raises(ValueError, match=r"weight_decay must be 0 or more, got -0\.1"):
        replace(RECIPE, weight_decay=-0.1)


def test_validation_reads_classes_and_not_subclasses(tiny):
    model, history = train(
        tiny, lambda: tiny_student(subclasses=2), objective=Objective(subclasses=2)
    )
    logits = losses.class_logits(predict(model, TranslatedImages(tiny.val.images), device=CPU), 4)
    assert history.val_accuracy == pytest.approx(
        (logits.argmax(1) == tiny.val.labels).double().mean().item()
    )


def test_learning_happens_and_is_validated_at_the_end(tiny):
    model, history = train(tiny, config=TrainConfig(epochs=12, batch_size=16, learning_rate=5e-3))
    assert history.epochs[-1].train_loss < 0.5 * history.epochs[0].train_loss
    logits = predict(model, TranslatedImages(tiny.val.images), device=CPU)
    assert (logits.argmax(1) == tiny.val.labels).double().mean() == pytest.approx(
        history.val_accuracy
    )
    assert not model.training


def test_soft_targets_of_other_images_or_views_are_refused(tiny):
    wrong = distil(torch.zeros(1, 96, 4))
    with pytest.raises(ValueError, match="cover 9 views of 96 images, got 1 views of 96"):
        train(tiny, objective=wrong)
    wrong = distil(torch.zeros(9, 95, 4))
    with pytest.raises(ValueError, match="cover 9 views of 96 images, got 9 views of 95"):
        train(tiny, objective=wrong)


def test_warped_images_and_cached_targets_exclude_each_other(tiny):
    config = replace(RECIPE, affine=0.2)
    with pytest.raises(ValueError, match="a config with affine cannot be used"):
        train(tiny, config=config, objective=distil(torch.zeros(9, 96, 4)))
    changed, _ = train(tiny, config=config)
    plain, _ = train(tiny)
    assert weights_digest(changed) != weights_digest(plain)


def test_bad_distillation_is_refused_at_once():
    with pytest.raises(ValueError, match="temperature must be positive"):
        distil(torch.zeros(1, 1, 2), math.nan, 0.5)
    with pytest.raises(ValueError, match="soft_weight must lie between"):
        distil(torch.zeros(1, 1, 2), 4.0, 2)


def test_labels_beyond_the_outputs_are_refused(tiny):
    def too_few_outputs():
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 3))

    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.2 for 3 logits, got 0\.\.3"):
        train(tiny, too_few_outputs)


class FailsLater(nn.Module):
    """Gives NaN from the second epoch's third step on."""

    def __init__(self):
        super().__init__()
        self.inner = tiny_student()
        self.steps = 0

    def forward(self, images):
        self.steps += self.training
        return self.inner(images) * (math.nan if self.steps > 6 + 2 and self.training else 1)


def test_a_nan_names_epoch_and_step_and_keeps_the_last_good_weights(tiny):
    one_epoch = {}

    def keep(history):
        one_epoch.update({n: t.clone() for n, t in model.state_dict().items()})

    model = FailsLater()
    with pytest.raises(TrainingDivergedError, match="epoch 2, step 3; the weights of epoch 1") as e:
        fit(model, tiny.train, tiny.val, RECIPE, 0, device=CPU, on_epoch=keep)
    assert len(e.value.history.epochs) == 1
    assert all(torch.equal(t, one_epoch[n]) for n, t in model.state_dict().items())
    assert predict(model, TranslatedImages(tiny.val.images), device=CPU).isfinite().all()


def test_a_weight_that_is_no_number_is_noticed_without_validation(tiny):
    steps = []

    def spoil(images):
        steps.append(images)
        if len(steps) == 12:
            model[1].bias.data[0] = math.nan

    model = tiny_student()
    with pytest.raises(TrainingDivergedError, match="epoch 2, step 6; the weights of epoch 1"):
        fit(model, tiny.train, tiny.val, RECIPE, 0, device=CPU, on_step=spoil)
    assert all(weights.isfinite().all() for weights in model.parameters())


def test_a_learning_rate_far_too_high(tiny):
    config = TrainConfig(epochs=3, batch_size=16, learning_rate=1e30)
    with pytest.raises(TrainingDivergedError, match=r"try a learning rate below 1e\+30"):
        train(tiny, config=config)


def test_ctrl_c_keeps_the_history_and_the_weights(tiny):
    def stop(history):
        if len(history.epochs) == 2:
            raise KeyboardInterrupt

    model, history = train(tiny, config=TrainConfig(9, 16, 1e-2), on_epoch=stop)
    assert history.interrupted and len(history.epochs) == 2
    answers = predict(model, TranslatedImages(tiny.val.images), device=CPU).argmax(1)
    accuracy = (answers == tiny.val.labels).double()
    assert accuracy.mean() == pytest.approx(history.val_accuracy)


def test_ctrl_c_before_the_first_epoch_ends(tiny):
    class Stops(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = tiny_student()

        def forward(self, images):
            raise KeyboardInterrupt

    _, history = train(tiny, Stops)
    assert history.interrupted and history.epochs == [] and history.val_accuracy is None
