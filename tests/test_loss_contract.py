"""One contract for all losses and objectives, which are found and not listed."""

import inspect
from dataclasses import MISSING, fields, replace
from functools import partial

import pytest
import torch

from kdnb import losses
from kdnb.experiment import ALONE, Experiment, conventional, subclass, within_classes
from kdnb.experiment.requests import RunRequest
from kdnb.models import StudentMLP
from kdnb.store import Store, description
from kdnb.tasks import SubclassConfig
from kdnb.training.config import TrainConfig
from kdnb.training.objectives import (
    AuxiliaryLoss,
    MutualInformation,
    Objective,
)

IMAGES, CLASSES, SUBCLASSES = 6, 3, 2
FUNCTIONS = {
    name: function
    for name, function in vars(losses).items()
    if inspect.isfunction(function)
    and function.__module__ == losses.__name__
    and not name.startswith(("_", "check_"))
}
LOSSES = {name: function for name, function in FUNCTIONS.items() if name.endswith("_loss")}


def logits_of(name):
    return name.endswith("logits")


def arguments(function, images=IMAGES, classes=CLASSES, subclasses=SUBCLASSES, dtype=torch.float64):
    """What a loss takes, by the names that all of them use."""
    generator = torch.Generator().manual_seed(0)
    names = inspect.signature(function).parameters
    width = classes * (subclasses if "num_classes" in names else 1)
    known = {
        "labels": torch.arange(images) % classes,
        "num_classes": classes,
        "temperature": 4.0,
        "soft_weight": 0.7,
        "evenness": 1.5,
        "class_weights": torch.arange(1, classes + 1, dtype=dtype),
        "soft_targets": None,
        "label_smoothing": 0.1,
    }
    given = {}
    for name in names:
        drawn = 3 * torch.randn(images, width, generator=generator, dtype=dtype)
        given[name] = drawn if logits_of(name) else known[name]
    return given


def parts(loss):
    return loss if isinstance(loss, tuple) else (loss,)


@pytest.fixture(params=LOSSES.values(), ids=LOSSES)
def loss(request):
    return request.param


def test_they_are_found():
    assert {"soft_target_loss", "label_loss", "distillation_loss"} < set(LOSSES)
    assert all(function.__doc__ for function in FUNCTIONS.values())


def test_each_is_a_scalar_and_finite_at_any_gap(loss):
    for gap in (0.0, 1.0, 1e4):
        given = arguments(loss, dtype=torch.float32)
        extreme = {
            name: (gap * value.sign()).requires_grad_() if logits_of(name) else value
            for name, value in given.items()
        }
        found = loss(**extreme)
        assert all(part.shape == () and part.isfinite() for part in parts(found))
        parts(found)[0].backward()
        assert all(v.grad.isfinite().all() for n, v in extreme.items() if logits_of(n) and
                   not n.startswith("teacher"))  # fmt: skip


def test_the_gradient_is_that_of_finite_differences_and_none_reaches_the_teacher(loss):
    given = arguments(loss)
    for name in filter(logits_of, given):
        given[name].requires_grad_()
    learns = [name for name in given if logits_of(name) and not name.startswith("teacher")]

    def total(*values):
        return parts(loss(**{**given, **dict(zip(learns, values, strict=True))}))[0]

    assert torch.autograd.gradcheck(total, tuple(given[name] for name in learns))
    total(*(given[name] for name in learns)).backward()
    for name in filter(logits_of, given):
        assert (given[name].grad is None) == name.startswith("teacher"), name


def test_a_constant_added_to_an_images_logits_changes_nothing(loss):
    given = arguments(loss)
    rows = torch.linspace(-50, 70, IMAGES, dtype=torch.float64)[:, None]
    moved = {name: v + rows if logits_of(name) else v for name, v in given.items()}
    for one, other in zip(parts(loss(**given)), parts(loss(**moved)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=0)


def test_a_student_that_equals_its_teacher_costs_nothing_beside_labels(loss):
    given = arguments(loss)
    teacher = [name for name in given if name.startswith("teacher")]
    if not teacher:
        assert parts(loss(**given))[0] != 0
        return
    given[teacher[0].replace("teacher", "student")] = given[teacher[0]]
    found = loss(**given)
    soft = found.soft if isinstance(found, losses.DistillationLoss) else found
    assert soft.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("small", [(1, 2, 2), (2, 1, 2), (2, 2, 1), (1, 1, 1)])
def test_one_image_one_class_and_one_subclass_are_enough(loss, small):
    assert all(part.isfinite() for part in parts(loss(**arguments(loss, *small))))


def test_no_image_is_refused(loss):
    with pytest.raises(ValueError, match=r"got .*\(0,"):
        loss(**arguments(loss, images=0))


def test_mapped_over_many_it_is_what_it_is_alone(loss):
    """Each of four students has logits, a temperature and a weight of its own."""
    given = arguments(loss)
    numbers = {"temperature": [1.0, 2.0, 4.0, 20.0], "soft_weight": [0.0, 0.3, 0.9, 1.0]}
    own = {
        name: torch.stack([value + i * torch.randn(value.shape, dtype=value.dtype)
                           for i in range(4)])
        if logits_of(name)
        else torch.tensor(numbers[name], dtype=torch.float64)
        for name, value in given.items()
        if logits_of(name) or name in numbers
    }  # fmt: skip
    shared = {name: value for name, value in given.items() if name not in own}
    mapped = torch.vmap(lambda mine: parts(loss(**mine, **shared)))(own)
    for i in range(4):
        mine = {n: v[i].item() if v[i].dim() == 0 else v[i] for n, v in own.items()}
        for one, other in zip(parts(loss(**mine, **shared)), mapped, strict=True):
            torch.testing.assert_close(other[i], one, atol=1e-12, rtol=1e-12)


# Objectives


def found(kind=Objective):
    return [kind, *(each for one in kind.__subclasses__() for each in found(one))]


# Bugs of the course are objectives too, made in tests of theirs.
CONCRETE = [kind for kind in found() if "loss" in vars(kind) and "course" not in kind.__module__]


@pytest.fixture(params=CONCRETE, ids=lambda kind: kind.__name__)
def objective(request):
    kind, known = request.param, {"temperature": 4.0, "soft_weight": 0.7}
    needed = [f.name for f in fields(kind) if f.default is f.default_factory is MISSING]
    table = torch.randn(2, IMAGES, CLASSES * SUBCLASSES, generator=torch.Generator().manual_seed(1))
    given = {"subclasses": SUBCLASSES, "class_weights": (1.0, 2.0, 3.0)}
    if "teacher_logits" in {f.name for f in fields(kind)}:
        given["teacher_logits"] = table
    made = kind(**given, **{name: known[name] for name in needed})
    return made.on(torch.device("cpu"))


def shown(objective):
    """Logits and the batch of all images, in as many views as the objective compares."""
    index = torch.arange(IMAGES).repeat(objective.views_per_image)
    labels = index % CLASSES
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(len(index), CLASSES * SUBCLASSES, generator=generator).requires_grad_()
    batch = objective.batch(labels, index, torch.ones_like(index))
    return logits, batch._replace(subclasses=labels * SUBCLASSES)


def test_an_objective_minimises_what_a_loss_says(objective):
    logits, batch = shown(objective)
    terms = objective.loss(logits, batch)
    assert all(term.shape == () and term.isfinite() for term in terms if term is not None)
    before = terms.total.item()
    (gradient,) = torch.autograd.grad(terms.total, logits)
    after = objective.loss(logits - 0.01 * gradient, batch).total.item()
    assert after < before and gradient.isfinite().all()


def test_an_objective_refuses_a_width_that_does_not_fit(objective):
    logits, batch = shown(objective)
    with pytest.raises(ValueError, match="5 logits cannot be classes of 2 subclasses each"):
        objective.loss(logits[:, :5], batch)


# What is taught is what trains


QUICK = TrainConfig(epochs=1, batch_size=32, learning_rate=1e-3)
PLAIN, MUELLER, VIEWS = (
    SubclassConfig(type(objective).__name__, objective, QUICK)
    for objective in (
        Objective(subclasses=2),
        AuxiliaryLoss(subclasses=2),
        MutualInformation(subclasses=2),
    )
)
# Every way to train: what is asked for, and the losses that it minimises.
HARD, SOFT = {"class_logits", "label_loss"}, {"soften", "soft_target_loss"}
STUDENTS = {
    "labels": (ALONE, HARD),
    "conventional": (conventional(temperature=4.0), HARD | SOFT | {"distillation_loss"}),
    "subclass": (subclass(4.0, 0.9, PLAIN), HARD | SOFT | {"subclass_distillation_loss"}),
}
ALONE_ONLY = {
    "within classes": (within_classes(4.0, PLAIN), HARD | SOFT | {"within_class_loss"}),
    "auxiliary": (MUELLER, HARD | {"subclass_auxiliary_loss"}),
    "two views": (VIEWS, HARD | {"subclass_agreement_loss"}),
}


class TaughtLossError(Exception):
    """Raised in the place of a loss."""


def minimised(asked, vectorised, lab):
    """Train what is asked for; whether it came to its end."""
    try:
        if vectorised:
            lab.train_ahead([RunRequest(seed, asked) for seed in (0, 1)])
        elif isinstance(asked, SubclassConfig):
            lab.teacher(0, asked)
        else:
            lab.student(asked, 0)
    except TaughtLossError:
        return False
    return True


@pytest.mark.parametrize("vectorised", [False, True], ids=["single", "vectorised"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_where_a_loss_raises_all_training_by_it_fails_and_no_other(
    name, vectorised, tiny_task, tmp_path, monkeypatch
):
    task = replace(tiny_task, student=partial(StudentMLP, hidden=(8,)))

    def raises(*args, **kwargs):
        raise TaughtLossError

    # Else a run by replaced code would have no key, and nothing without a key is trained at once.
    monkeypatch.setattr(description, "replaced", lambda: "")
    monkeypatch.setattr(losses, name, raises)
    for path, (asked, used) in (STUDENTS if vectorised else STUDENTS | ALONE_ONLY).items():
        lab = Experiment(task, store=Store(tmp_path / path), device=torch.device("cpu"))
        with monkeypatch.context() as before:  # the teacher is there already
            before.setattr(losses, name, FUNCTIONS[name])
            for seed in (0, 1) if vectorised else (0,):
                if getattr(asked, "temperature", None):
                    lab.teacher(seed, asked.subclass_config)
        assert minimised(asked, vectorised, lab) == (name not in used), path
