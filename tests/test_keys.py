"""Nothing that decides a run may change without its key: the engine, the networks, the machine."""

import pickle
import random
import shutil
import subprocess
import sys
import threading
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import tiny_dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from kdnb import fingerprint as source
from kdnb import losses
from kdnb.environment import seeded
from kdnb.experiment import methods
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import ALONE, conventional
from kdnb.experiment.requests import RunRequest
from kdnb.models import StudentMLP
from kdnb.store.description import UndescribedError, description
from kdnb.store.store import Store
from kdnb.training.objectives import AuxiliaryLoss

CPU = torch.device("cpu")
PACKAGE = Path(source.__file__).parent
ENGINE = sorted(n for n in source.IMPORTED if not n.startswith(source.BESIDE_THE_ENGINE))
KD = conventional(4.0, 0.9)


# The engine


@pytest.fixture
def copied(tmp_path):
    """A copy of the package, in which a test may change what it likes."""
    folder = tmp_path / "copy" / "kdnb"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def fingerprint_of(folder, monkeypatch):
    monkeypatch.setattr(source, "PACKAGE", folder)
    monkeypatch.setattr(source, "IMPORTED", source._digests())
    return source.code_fingerprint.__wrapped__()


def test_every_module_of_the_engine_counts(copied, monkeypatch):
    named = {"losses.py", "environment.py", "data/augmentation.py", "tasks/mnist.py"}
    named |= {"training/loop.py", "training/vectorized.py", "training/objectives.py"}
    assert named | {f"experiment/{n}.py" for n in ("experiment", "logit_cache")} <= set(ENGINE)
    before = fingerprint_of(copied, monkeypatch)
    for name in ENGINE:
        text = (copied / name).read_text()
        (copied / name).write_text(text + "\nCHANGED = True\n")
        assert fingerprint_of(copied, monkeypatch) != before, name
        (copied / name).write_text(text)
    assert fingerprint_of(copied, monkeypatch) == before


def test_the_course_and_the_ends_of_lines_do_not_count(copied, monkeypatch):
    before = fingerprint_of(copied, monkeypatch)
    (copied / "course" / "figures" / "plots.py").write_text("")
    text = (copied / "losses.py").read_bytes()
    (copied / "losses.py").write_bytes(text.replace(b"\n", b"\r\n"))  # as git does on Windows
    assert fingerprint_of(copied, monkeypatch) == before


@pytest.mark.slow
def test_the_key_is_that_of_the_code_that_runs(copied, tmp_path):
    """Edited in a living kernel, or before a module is imported, or reloaded."""
    program = """
import importlib, pathlib, sys
from kdnb import fingerprint as source
from kdnb.fingerprint import code_fingerprint, replaced
import kdnb.experiment
folder = pathlib.Path(source.__file__).parent
assert not replaced(), replaced()
before = code_fingerprint()
text = (folder / "losses.py").read_text()
assert "divergence.sum()" in text
(folder / "losses.py").write_text(text.replace("divergence.sum()", "divergence.mean()"))
code_fingerprint.cache_clear()
assert code_fingerprint() == before and not replaced()  # the old code still runs
importlib.reload(sys.modules["kdnb.losses"])
assert "kdnb.losses.soft_target_loss" in replaced(), replaced()
(folder / "losses.py").write_text(text)
importlib.reload(sys.modules["kdnb.losses"])
assert not replaced(), replaced()
(folder / "evaluation/cost.py").write_text((folder / "evaluation/cost.py").read_text() + "# later")
import kdnb.evaluation.cost
assert "kdnb/evaluation/cost.py" in replaced(), replaced()
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(copied.parent), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (methods.Method, "matched"),
        (losses, "soft_target_loss"),
        (losses, "class_logits"),
        (Experiment, "_teacher_logits"),
        (AuxiliaryLoss, "loss"),
    ],
)
def test_with_a_replaced_function_nothing_is_loaded_or_kept(
    tiny_task, store, monkeypatch, owner, name
):
    Experiment(tiny_task, store=store, device=CPU).student(KD, 0)
    entries = store.names()
    original = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args, **kwargs: original(*args, **kwargs))
    with pytest.warns(UserWarning, match=f"neither loaded nor stored.*{name}.*restart the kernel"):
        run = Experiment(tiny_task, store=store, device=CPU).student(KD, 0)
    assert not run.loaded and run.keys == () and store.names() == entries
    monkeypatch.undo()
    assert Experiment(tiny_task, store=store, device=CPU).student(KD, 0).loaded


# Networks


class Net(nn.Module):
    def __init__(self, num_classes=4, act=torch.relu, scale=1.0):
        super().__init__()
        self.act, self.scale = act, scale
        self.first, self.last = nn.Linear(28 * 28, 5), nn.Linear(5, num_classes)

    def forward(self, images):
        return self.scale * self.last(self.act(self.first(images.flatten(1))))


class Named(Net):
    def forward(self, images):
        return self.last(getattr(torch, self.act)(self.first(images.flatten(1))))


FACTOR = 1.0


def helper(x):
    return FACTOR * x


class Helped(Net):
    def forward(self, images):
        return super().forward(helper(images))


def times(factor):
    return lambda x: factor * x


def without_value():
    def act(x):
        return factor * x

    if not act:
        factor = 1.0
    return act


def closed_over(factor):
    class Closed(Net):
        def forward(self, images):
            return super().forward(factor * images)

    return Closed


@cache
def half():
    return 0.5


def frozen(layer):
    net = Net()
    getattr(net, layer).requires_grad_(False)
    return net


def hooked(factor):
    net = Net()
    net.register_forward_hook(lambda module, args, output: factor * output)
    return net


def with_attribute(value):
    net = Net()
    net.extra = value
    return net


def with_constant(values):
    net = Net()
    net.register_buffer("constant", torch.tensor(values), persistent=False)
    return net


def tied(yes):
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].load_state_dict(net[0].state_dict())
    if yes:
        net[1].weight = net[0].weight
    return net


@dataclass(frozen=True)
class Config:
    width: int
    activation: object = torch.sin


# Pairs of networks with equal weights that do not compute or learn the same.
PAIRS = {
    "a named activation": (partial(Named, act="relu"), partial(Named, act="sin")),
    "an activation": (partial(Net, act=torch.relu), partial(Net, act=torch.sin)),
    "a lambda": (partial(Net, act=lambda x: x + 1), partial(Net, act=lambda x: x + 2)),
    "a lambda's variable": (partial(Net, act=times(2.0)), partial(Net, act=times(3.0))),
    "a default": (partial(Net, act=lambda x, k=1: x), partial(Net, act=lambda x, k=2: x)),
    "a partial's argument": tuple(
        partial(Net, act=partial(torch.add, other=k)) for k in (1.0, 2.0)
    ),
    "a number": (Net, partial(Net, scale=2.0)),
    "a closure": (closed_over(1.0), closed_over(2.0)),
    "a closure over a function": (closed_over(torch.sin), closed_over(torch.cos)),
    "a frozen layer": (Net, partial(frozen, "first")),
    "another frozen layer": (partial(frozen, "last"), partial(frozen, "first")),
    "a hook": (partial(hooked, 1.0), partial(hooked, 2.0)),
    "a dictionary": (partial(with_attribute, {"p": 1}), partial(with_attribute, {"p": 2})),
    "its order": (
        partial(with_attribute, {"p": 1, "q": 2}),
        partial(with_attribute, {"q": 2, "p": 1}),
    ),
    "a set": (partial(with_attribute, {"a", "b"}), partial(with_attribute, {"a", "c"})),
    "an array": (
        partial(with_attribute, np.arange(3.0)),
        partial(with_attribute, np.arange(3.0) + 1e-9),
    ),
    "a tensor": (
        partial(with_attribute, torch.zeros(2)),
        partial(with_attribute, torch.zeros(2, 1)),
    ),
    "a dataclass": (partial(with_attribute, Config(1)), partial(with_attribute, Config(2))),
    "a class": (partial(with_attribute, Config), partial(with_attribute, SimpleNamespace)),
    "a type of numbers": (
        partial(with_attribute, torch.float16),
        partial(with_attribute, torch.bfloat16),
    ),
    "a buffer that is not saved": (
        partial(with_constant, [1.0, 2.0]),
        partial(with_constant, [1.0, 3.0]),
    ),
    "tied weights": (partial(tied, True), partial(tied, False)),
    "an option of a layer": (
        partial(nn.Conv2d, 1, 2, 3),
        partial(nn.Conv2d, 1, 2, 3, padding_mode="circular"),
    ),
    "an inner layer": (
        lambda: nn.Sequential(nn.Linear(2, 2), nn.ReLU()),
        lambda: nn.Sequential(nn.Linear(2, 2), nn.GELU()),
    ),
    "two rungs": (partial(StudentMLP, hidden=(8, 8)), partial(StudentMLP, hidden=(8,))),
}


def built(make):
    with seeded(0):
        return description(make())


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
def test_other_networks_have_other_descriptions(pair):
    one, other = pair
    assert built(one) == built(one)
    assert built(one) != built(other)


def test_a_constant_or_a_helper_of_its_module_counts(monkeypatch):
    before = built(Helped)
    monkeypatch.setitem(globals(), "FACTOR", 2.0)
    changed = built(Helped)
    assert changed != before
    monkeypatch.setitem(globals(), "helper", lambda x: FACTOR * x)
    assert built(Helped) not in (before, changed)
    monkeypatch.undo()
    assert built(Helped) == before


def test_another_file_counts_where_the_network_uses_it(tmp_path, monkeypatch):
    package = tmp_path / "their_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)

    def describe(power, unused):
        (package / "parts.py").write_text(
            f"POWER, UNUSED = {power}, {unused}\ndef act(x):\n    return x ** POWER\n"
        )
        (tmp_path / "their_net.py").write_text(
            "# their network\nfrom torch import nn\nimport their_package.parts\n"
            "class TheirNet(nn.Module):\n    def forward(self, x):\n"
            "        return their_package.parts.act(x)\n"
        )
        for name in ("their_net", "their_package.parts", "their_package"):
            sys.modules.pop(name, None)
        shutil.rmtree(package / "__pycache__", ignore_errors=True)
        import their_net

        return description(their_net.TheirNet())

    assert describe(2, 1) == describe(2, 1)
    assert describe(3, 1) != describe(2, 1)
    assert describe(2, 5) == describe(2, 1)


def test_weights_and_mode_do_not_count():
    with seeded(0):
        one = Net()
    with seeded(1):
        other = Net().eval()
    assert description(one) == description(other)


@pytest.mark.parametrize(
    "make", [Net, Helped, closed_over(2.0), partial(with_attribute, Config(1))]
)
def test_copying_and_using_a_network_changes_nothing(make):
    net = make()
    before = description(net)
    copy = deepcopy(net)
    net(torch.zeros(2, 1, 28, 28)).sum().backward()
    pickle.dumps(Config(2))  # which notes something in the class
    assert description(net) == description(copy) == before


@pytest.mark.slow
def test_a_description_is_the_same_in_another_process():
    program = (
        "from kdnb.store.description import description\n"
        "from kdnb.models import TeacherCNN\nimport re\n"
        "print(description(TeacherCNN(), {'b', 'a'}, re.compile('x'), lambda x: x in {'p', 'q'}))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PACKAGE.parent)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plain, plain)
def test_plain_values_are_described_exactly(one, other):
    same = repr(one) == repr(other)  # 1 == True == 1.0, and nan != nan
    assert (description(one) == description(other)) == same


@pytest.mark.parametrize(
    "value",
    [
        nn.LSTM(3, 2),
        nn.GRU(3, 2),
        np.random.default_rng(0),
        torch.Generator(),
        open,
        torch.zeros(2)[::2],
        torch.tensor(1.0),
        without_value(),
    ],
)
def test_what_libraries_compile_or_leave_empty_can_be_described(value):
    assert description(with_attribute(value)) == description(with_attribute(value))


def test_a_generators_place_in_its_stream_counts():
    net = with_attribute(np.random.default_rng(0))
    before = description(net)
    net.extra.random()
    assert description(net) != before


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (threading.Lock(), "Net.extra is a _thread.lock"),
        ((i for i in range(3)), "Net.extra is a generator"),
        (sys.__stdout__, "Net.extra is a _io.TextIOWrapper"),
        (torch.eye(2).to_sparse(), "Net.extra is a tensor without plain values"),
        (torch.empty(2, device="meta"), "Net.extra is a tensor without plain values"),
    ],
)
def test_what_cannot_be_described_is_named(value, named):
    net = with_attribute(value)
    with pytest.raises(UndescribedError, match=named):
        description(net)


# Runs


def student_of(make, tiny_task, store, seed=0):
    lab = Experiment(replace(tiny_task, student=make), store=store, device=CPU)
    return lab.student(ALONE, seed)


def of_module_constant(num_classes=4, subclasses=1):
    return Helped(num_classes * subclasses)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (partial(Named, act="relu"), partial(Named, act="sin")),
        (partial(Net, act=lambda x: 2 * x), partial(Net, act=lambda x: 3 * x)),
        (partial(Net, scale=0.5), partial(Net, scale=0.25)),
    ],
)
def test_another_network_is_another_run_and_the_same_is_loaded(one, other, tiny_task, store):
    def takes_both(make):
        return lambda num_classes, subclasses=1: make(num_classes * subclasses)

    first = student_of(takes_both(one), tiny_task, store)
    assert student_of(takes_both(one), tiny_task, store).loaded
    second = student_of(takes_both(other), tiny_task, store)
    assert not second.loaded and first.weights != second.weights


def test_a_teacher_of_other_code_teaches_others(tiny_task, store, monkeypatch):
    task = replace(tiny_task, teacher=of_module_constant)
    lab = Experiment(task, store=store, device=CPU)
    logits = lab.logits(lab.teacher(0), lab.dataset.val)
    lab.student(KD, 0)
    monkeypatch.setitem(globals(), "FACTOR", -1.0)
    other = Experiment(task, store=store, device=CPU)
    assert not other.teacher(0).loaded and not other.student(KD, 0).loaded
    assert not torch.allclose(logits, other.logits(other.teacher(0), other.dataset.val))


def test_precision_decides(tiny_task, store):
    lab = Experiment(tiny_task, store=store, device=CPU)
    lab.student(ALONE, 0)
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        assert not Experiment(tiny_task, store=store, device=CPU).student(ALONE, 0).loaded
    finally:
        matmul.fp32_precision = before
    assert Experiment(tiny_task, store=store, device=CPU).student(ALONE, 0).loaded


class OfFile(Net):
    """Its constant is in a file, which no key can know."""

    path = ""

    def forward(self, images):
        return super().forward(float(Path(OfFile.path).read_text()) * images)


def test_a_stored_run_that_answers_otherwise_is_trained_again(tiny_task, store, tmp_path):
    OfFile.path = str(tmp_path / "factor.txt")
    Path(OfFile.path).write_text("1.0")

    def make(num_classes, subclasses=1):
        return OfFile(num_classes * subclasses)

    first = student_of(make, tiny_task, store)
    assert student_of(make, tiny_task, store).loaded
    Path(OfFile.path).write_text("-2.5")
    with pytest.warns(UserWarning, match="is not used: its network's logits are off by"):
        second = student_of(make, tiny_task, store)
    assert not second.loaded and second.weights != first.weights
    assert student_of(make, tiny_task, store).loaded  # the new run


class Drawn(Net):
    """Constants drawn while it is built, by each of three libraries; none is saved."""

    def __init__(self, num_classes=4):
        super().__init__(num_classes)
        self.offsets = np.random.randn(28 * 28).astype(np.float32)
        self.factor = random.gauss(1.0, 0.5)
        self.noise = torch.randn(28 * 28)

    def forward(self, images):
        pixels = self.factor * images.flatten(1) + torch.from_numpy(self.offsets) + self.noise
        return super().forward(pixels)


def test_constants_drawn_by_numpy_and_python_follow_the_seed(tiny_task, store):
    def make(num_classes, subclasses=1):
        return Drawn(num_classes * subclasses)

    np.random.seed(1)
    random.seed(1)
    first = student_of(make, tiny_task, store)
    np.random.seed(2)
    random.seed(2)
    state, other_state = np.random.get_state()[1].copy(), random.getstate()
    again = student_of(make, tiny_task, store)
    assert again.loaded and torch.equal(
        torch.from_numpy(again.model.offsets), torch.from_numpy(first.model.offsets)
    )
    assert (np.random.get_state()[1] == state).all() and random.getstate() == other_state
    other = student_of(make, tiny_task, store, seed=1)
    assert not torch.equal(other.model.noise, first.model.noise)


def test_networks_without_a_description_are_trained_and_not_kept(tiny_task, store):
    def make(num_classes, subclasses=1):
        net = Net(num_classes * subclasses)
        net.lock = threading.Lock()
        return net

    task = replace(tiny_task, student=make)
    with pytest.warns(UserWarning, match="neither loaded nor stored.*Net.lock is a _thread.lock"):
        lab = Experiment(task, store=store, device=CPU)
        lab.train_ahead([RunRequest(seed, ALONE) for seed in (0, 1)])
        result = lab.compare([ALONE, KD], [0])
    runs = [run for of in result.runs.values() for run in of]
    assert not any(run.loaded or run.keys for run in runs)
    assert result.accuracies.shape == (2, 1)
    assert len(store.names("run-")) == 1  # the teacher
    with pytest.warns(UserWarning, match="neither loaded nor stored"):
        assert lab.pending(RunRequest(0, KD)) is None
        assert not Experiment(task, store=store, device=CPU).student(ALONE, 0).loaded


def test_where_a_loaded_run_was_trained_is_said(tiny_task, tmp_path):
    from kdnb.course.text import provenance_card, trained_elsewhere

    told = []
    lab = Experiment(tiny_task, store=Store(tmp_path / "x"), device=CPU, watch=told.append)
    run = lab.student(ALONE, 0)
    here = told[-1].origin or run.provenance
    assert trained_elsewhere(here) == ""
    cluster = {**here, "device": "NVIDIA H100", "torch": "2.12.0"}
    assert trained_elsewhere(cluster).startswith("trained on NVIDIA H100, ")
    assert trained_elsewhere(cluster).endswith("with torch 2.12.0")
    theirs = replace(run, provenance=cluster, loaded=True, model=nn.Linear(1, 1))
    card = provenance_card(lab, [run, theirs]).data
    assert "NVIDIA H100 (1 run" in card and "torch 2.12.0" in card and here["torch"] in card


def test_the_data_count(tiny_task, store):
    Experiment(tiny_task, store=store, device=CPU).student(ALONE, 0)
    other = replace(tiny_task, dataset=partial(tiny_dataset, val_seed=7))
    assert not Experiment(other, store=store, device=CPU).student(ALONE, 0).loaded
