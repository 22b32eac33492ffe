"""The run store under fire: kills, damage, two writers, full disks, entries of other formats."""

import errno
import json
import os
import random
import subprocess
import sys
import warnings
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import kdnb
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import ALONE
from kdnb.store import store as store_module
from kdnb.store.store import DamagedEntryError, Store, StoreError
from kdnb.training import checkpoint as checkpoint_module
from kdnb.training.checkpoint import CheckpointThrottle, TimeBudget

CPU = torch.device("cpu")
TESTS = Path(__file__).parent
TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2])}


def faults(what, folder):
    """What tests/faults.py saw, in a process of its own."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(kdnb.__file__).parents[1]),
    }
    command = [sys.executable, str(TESTS / "faults.py"), what, str(folder), "0"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def lab_in(folder, task, watch=None):
    return Experiment(task, store=Store(folder), watch=watch, device=CPU)


@pytest.mark.slow
def test_killed_at_random_moments_and_run_again_everything_is_the_same_to_the_bit(tmp_path, capsys):
    seen = faults("kill", tmp_path)
    with capsys.disabled():
        print(
            f"\nkilled {seen['kills']}, {seen['resumed']} resumed, {seen['seconds']:.0f} s", end=""
        )
    assert seen["wrong"] == [] and seen["entries"] >= 10
    assert sum(seen["kills"].values()) >= 20
    assert seen["kills"]["training"] + seen["kills"]["storing"] >= 10
    assert seen["resumed"] >= 5


@pytest.mark.slow
def test_two_writers_a_remover_and_a_reader(tmp_path):
    seen = faults("write", tmp_path)
    for name, counts in seen.items():
        assert counts["statuses"] == [0, 0], name
        assert counts["mixed"] == 0 and counts["numbers"] >= 50, "a record with another's tensors"
        assert counts["left"] == 0
    assert seen["replaced"]["gone"] == 0, "there is always one while it is replaced"


@pytest.mark.slow
def test_on_a_full_disk_training_counts_and_one_sentence_tells(tmp_path):
    for seen in faults("fill", tmp_path).values():
        assert seen["same"] and seen["left"] == []
        (told,) = seen["told"]
        assert told.startswith("trained, but not stored: cannot write finished runs to")
        assert "File too large" in told and "set KDNB_RUNS" in told
        assert (
            seen["record"].startswith("StoreError: cannot write") and "too large" in seen["record"]
        )


# Damage


def damages(content, chance):
    """Truncations, and single flipped bits: of each byte of the header's start, and anywhere."""
    for length in {0, 1, 8, 100, len(content) // 2, len(content) - 1}:
        yield content[:length]
    places = [*range(180), *(chance.randrange(len(content)) for _ in range(120))]
    for place in places:
        bit = chance.randrange(8)
        yield content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


@pytest.mark.parametrize("kind", ["run", "part", "logits"])
def test_no_truncation_and_no_flipped_bit_goes_unnoticed(filled, kind):
    (key,) = filled.names(f"{kind}-")
    path, chance = filled.path(key), random.Random(kind)
    content = path.read_bytes()
    for damaged in damages(content, chance):
        path.write_bytes(damaged)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            assert filled.get(key) is None
        with pytest.raises(DamagedEntryError):
            filled.read(key)
        assert str(path) in str(told[0].message)
    path.write_bytes(content)
    assert filled.get(key) is not None


def flip(path, place=-3):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_what_was_damaged_is_made_again_the_same(filled, tiny_task):
    def state():
        names = [name for name in filled.names() if not name.startswith("part")]
        return {name: filled.read(name).tensors for name in names}

    before = state()
    for key in filled.names():
        flip(filled.path(key))
    lab = lab_in(filled.root, tiny_task)
    with pytest.warns(UserWarning, match="cannot be used .it does not match its SHA-256"):
        lab.test_logits(lab.teacher(0))
        lab.student(ALONE, 0)
    after = state()
    for key, tensors in before.items():
        assert all(torch.equal(after[key][name], tensor) for name, tensor in tensors.items())
    assert filled.names("part-") == []


# Other formats


def in_format(path, version):
    path.write_bytes(path.read_bytes().replace(b"format 3", b"format %d" % version, 1))


def test_an_entry_of_another_format_is_refused_by_name(store):
    store.put("run-1", TENSORS, {})
    in_format(store.path("run-1"), 31)
    says = "it is of a run store, format 31, and this kdnb has a run store, format 3"
    with pytest.warns(UserWarning, match=f"run-1.* cannot be used .{says}"):
        assert store.get("run-1") is None
    assert not store.has("run-1")


# Places where nothing can be written


def denied(*arguments, **options):
    raise PermissionError(errno.EACCES, "Permission denied")


def test_from_a_read_only_store_all_is_loaded_and_nothing_is_trained(
    tmp_path, tiny_task, monkeypatch
):
    """Whoever runs this, root too: what creates, moves or removes fails as it does there."""
    first = lab_in(tmp_path, tiny_task)
    expected = first.test_logits(first.student(ALONE, 0))
    for name in ("mkdir", "rename", "write_text", "unlink"):
        monkeypatch.setattr(Path, name, denied)
    monkeypatch.setattr(store_module.tempfile, "TemporaryFile", denied)
    monkeypatch.setattr(store_module, "write_whole", denied)
    lab = lab_in(tmp_path, tiny_task)
    run = lab.student(ALONE, 0)
    assert run.loaded and torch.equal(lab.test_logits(run), expected)
    with pytest.raises(StoreError, match=r"Permission denied.*set KDNB_RUNS"):
        lab.student(ALONE, 1)


# How often a checkpoint is kept


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_budget_keeps_its_share():
    clock = Clock()
    budget, spent = TimeBudget(clock=clock), 0.0
    for _ in range(100_000):
        clock.now += 0.01  # an epoch
        if budget.due():
            with budget.spending():
                clock.now += 0.003
                spent += 0.003
    assert 0.9 * checkpoint_module.SHARE < spent / clock.now < 1.1 * checkpoint_module.SHARE
    assert checkpoint_module.SHARE <= 0.01


class Sized:
    bytes = 400e6


def test_checkpoints_are_kept_seldom_and_not_asked_for_where_that_fails():
    clock, kept = Clock(), []

    def keep(checkpoint):
        kept.append(clock.now)
        clock.now += 4.0
        return clock.now < 10_000

    seldom = CheckpointThrottle(keep, clock)
    while clock.now < 20_000:
        clock.now += 3.0
        seldom(Sized)
    guess = Sized.bytes / checkpoint_module.BYTES_PER_SECOND / checkpoint_module.SHARE
    assert guess <= kept[0] <= guess + 3
    pauses = [later - earlier - 4.0 for earlier, later in pairwise(kept)]
    assert all(800 <= pause <= 803 for pause in pauses)
    assert kept[-2] < 10_000 <= kept[-1] + 4.0 and kept[-1] < 11_000


def test_what_is_small_is_kept_every_few_seconds():
    clock, kept = Clock(), []
    seldom = CheckpointThrottle(lambda checkpoint: kept.append(clock.now) or True, clock)
    Sized.bytes = 1_000
    while clock.now < 60:
        clock.now += 0.5
        seldom(Sized)
    assert kept == [5.0 * n for n in range(1, 13)]


def test_a_training_that_is_killed_between_two_epochs_has_left_a_checkpoint(
    tmp_path, tiny_task, monkeypatch
):
    monkeypatch.setattr(checkpoint_module, "SHARE", float("inf"))
    monkeypatch.setattr(checkpoint_module, "SECONDS_APART", 0.0)

    def killed(update):
        if len(update.history.epochs) == 2:
            raise SystemExit

    lab = lab_in(tmp_path, tiny_task, killed)
    with pytest.raises(SystemExit):
        lab.student(ALONE, 0)
    told = []
    lab_in(tmp_path, tiny_task, told.append).student(ALONE, 0)
    assert {update.continued for update in told} == {2}
