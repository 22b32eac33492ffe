"""The run store under fire: kills, damage, two writers, full disks, old entries; and its upkeep."""

import errno
import json
import os
import random
import subprocess
import sys
import time
import warnings
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import kdnb
from kdnb import __main__ as command_line
from kdnb import checkpoint as checkpoint_module
from kdnb import store as store_module
from kdnb import upkeep
from kdnb.checkpoint import Budget, Seldom
from kdnb.experiment import Experiment
from kdnb.methods import ALONE
from kdnb.store import DamagedEntryError, OtherFormatError, Store, StoreError

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


def test_two_writers_a_remover_and_a_reader(tmp_path):
    seen = faults("write", tmp_path)
    for name, counts in seen.items():
        assert counts["statuses"] == [0, 0], name
        assert counts["mixed"] == 0 and counts["there"] > 50, "a record with another's tensors"
    assert seen["replaced"]["gone"] == 0, "there is always one while it is replaced"
    assert seen["replaced"]["left"] == 0


def test_on_a_full_disk_training_counts_and_one_sentence_tells(tmp_path):
    for seen in faults("fill", tmp_path).values():
        assert seen["same"] and seen["left"] == []
        (told,) = seen["told"]
        assert told.startswith("trained, but not kept: cannot write finished runs to")
        assert "File too large" in told and "set KDNB_RUNS" in told
        assert (
            seen["record"].startswith("StoreError: cannot write") and "too large" in seen["record"]
        )


# Damage


class StopAt:
    """Stops the training of a student on its own after so many steps."""

    def __init__(self, steps):
        self.left = steps

    def __call__(self, update):
        self.on = update.label == ALONE.label

    def step(self, images):
        self.left -= self.on
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.fixture
def filled(tmp_path, tiny_task, monkeypatch):
    """A store with a finished run, a checkpoint and answers; and what the run's weights are."""
    monkeypatch.setattr(checkpoint_module, "SHARE", float("inf"))
    lab = lab_in(tmp_path / "filled", tiny_task, StopAt(10))
    teacher = lab.teacher(0)
    lab.test_logits(teacher)
    assert lab.student(ALONE, 0).history.interrupted
    kinds = {name.split("-")[0] for name in lab.store.names()}
    assert kinds == {"run", "part", "logits"}
    return lab.store


def damages(content, chance):
    """Truncations and single flipped bits."""
    for length in {0, 1, len(content) // 2, len(content) - 1}:
        yield content[:length]
    for _ in range(60):
        place, bit = chance.randrange(len(content)), chance.randrange(8)
        yield content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


@pytest.mark.parametrize("file", [store_module.RECORD, store_module.TENSORS, store_module.SUMS])
@pytest.mark.parametrize("kind", ["run", "part", "logits"])
def test_no_truncation_and_no_flipped_bit_goes_unnoticed(filled, kind, file):
    (key,) = filled.names(f"{kind}-")
    path = filled.root / key / file
    content, chance = path.read_bytes(), random.Random(f"{kind} {file}")
    for damaged in damages(content, chance):
        path.write_bytes(damaged)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            assert filled.get(key) is None
        with pytest.raises((DamagedEntryError, OtherFormatError)) as error:
            filled.read(key)
        if error.type is DamagedEntryError:
            assert key in str(told[0].message)
            # Of a digest that differs from its file's nobody can tell which of the two is wrong.
            assert file in str(error.value) or file == store_module.SUMS
    path.write_bytes(content)
    assert filled.get(key) is not None
    path.unlink()
    with pytest.raises((DamagedEntryError, OtherFormatError)):
        filled.read(key)


def test_what_was_damaged_is_made_again_the_same(filled, tiny_task):
    def state():
        names = [name for name in filled.names() if not name.startswith("part")]
        read = {name: filled.read(name).tensors for name in names}  # maps the file
        return {k: {n: t.clone() for n, t in tensors.items()} for k, tensors in read.items()}

    before = state()
    for key in filled.names():
        path = filled.root / key / store_module.TENSORS
        content = bytearray(path.read_bytes())
        content[-3] ^= 1
        path.write_bytes(content)
    lab = lab_in(filled.root, tiny_task)
    with pytest.warns(UserWarning, match="is damaged .tensors.safetensors does not match"):
        lab.test_logits(lab.teacher(0))
        lab.student(ALONE, 0)
    after = state()
    for key, tensors in before.items():
        assert all(torch.equal(after[key][name], tensor) for name, tensor in tensors.items())
    assert filled.names("part-") == []


def test_of_older_entries_one_sentence_tells_however_many_they_are(store):
    for number in range(20):
        store.put(f"run-{number}", TENSORS, {})
        (store.root / f"run-{number}" / store_module.SUMS).unlink()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert all(store.get(f"run-{number}") is None for number in range(20))
        assert not store.has("run-3")
    (one,) = told
    assert "older version of kdnb" in str(one.message) and "store prune" in str(one.message)


def test_a_newer_entry_is_refused_by_name(store):
    store.put("run-1", TENSORS, {})
    sums = store.root / "run-1" / store_module.SUMS
    sums.write_text(sums.read_text().replace("format 2", "format 31"))
    with pytest.warns(UserWarning, match="run-1 cannot be used .it has format 31, and this"):
        assert store.get("run-1") is None


def test_sha256sum_reads_the_digests(store):
    store.put("run-1", TENSORS, {})
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", store_module.SUMS],
        cwd=store.root / "run-1", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.count(": OK") == 2, done.stderr


# Writers that were killed, and places where nothing can be written


def left_by_a_killed_writer(store, key, moved):
    """As if SIGKILL came between two renames, or, if not ``moved``, before them."""
    folder = store.root / f".{key}-abcd_123"
    (folder / "new").mkdir(parents=True)
    if moved:
        (store.root / key).rename(folder / "old")
    return folder


def test_killed_between_two_renames_nothing_is_lost(store):
    store.put("run-1", TENSORS, {"n": 1})
    left_by_a_killed_writer(store, "run-1", moved=True)
    assert not (store.root / "run-1").exists()
    assert store.has("run-1") and store.get("run-1").record == {"n": 1}
    store.remove("run-1")
    assert store.get("run-1") is None, "and removed, it stays away"


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
    for name in ("mkdtemp", "TemporaryFile"):
        monkeypatch.setattr(store_module.tempfile, name, denied)
    monkeypatch.setattr(store_module, "save_file", denied)
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
    budget, spent = Budget(clock=clock), 0.0
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

    seldom = Seldom(keep, clock)
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
    seldom = Seldom(lambda checkpoint: kept.append(clock.now) or True, clock)
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


# Upkeep


@pytest.fixture
def reader(filled, monkeypatch):
    """Runs `python -m kdnb store …` on the filled store."""
    monkeypatch.setenv("KDNB_RUNS", str(filled.root))
    return lambda *arguments: command_line.main(["store", *arguments])


def flip(folder, file=store_module.TENSORS):
    content = bytearray((folder / file).read_bytes())
    content[-1] ^= 1
    (folder / file).write_bytes(content)


def test_list_tells_kinds_labels_and_sizes(filled, reader, capsys):
    assert reader("list") == 0
    printed = capsys.readouterr().out
    (run,), (part,) = filled.names("run-"), filled.names("part-")
    (row,) = [line for line in printed.splitlines() if line.startswith(run)]
    assert "teacher, tiny, seed 0" in row and " MB " in row
    (row,) = [line for line in printed.splitlines() if line.startswith(part)]
    assert "student without teacher, tiny, seed 0" in row
    size = sum(p.stat().st_size for p in filled.root.rglob("*") if p.is_file())
    assert f"3 in all ({size / 1e6:,.1f} MB)" in printed


def test_verify_names_what_is_damaged(filled, reader, capsys):
    assert reader("verify") == 0
    assert "no damaged of 3" in capsys.readouterr().out
    (run,), (logits,) = filled.names("run-"), filled.names("logits-")
    flip(filled.root / run)
    flip(filled.root / logits, store_module.RECORD)
    assert reader("verify") == 1
    printed = capsys.readouterr().out
    assert f"{run}: tensors.safetensors does not match its SHA-256" in printed
    assert f"{logits}: record.json does not match its SHA-256" in printed
    assert "2 damaged of 3" in printed


def test_prune_takes_nothing_that_would_be_loaded(filled, reader, tiny_task, capsys):
    other = filled.root / "notes"
    other.mkdir()
    before = filled.names()
    living = left_by_a_killed_writer(filled, "run-1", moved=False)
    assert reader("prune") == 0
    assert "nothing removed" in capsys.readouterr().out
    assert filled.names() == before and living.is_dir() and other.is_dir()
    told = []
    lab = lab_in(filled.root, tiny_task, told.append)
    lab.teacher(0), lab.student(ALONE, 0)
    assert told[0].loaded and told[1].continued == 1


def aged(folder):
    long_ago = time.time() - 86_400
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (long_ago, long_ago))


@pytest.mark.parametrize("dry", [True, False])
def test_prune_takes_what_no_present_code_would_load(filled, reader, capsys, dry):
    (run,), (part,), (logits,) = (filled.names(f"{k}-") for k in ("run", "part", "logits"))
    record, tensors = filled.read(run).record, filled.read(run).tensors
    filled.put("run-old-code", tensors, {**record, "settings": {"engine": "of then"}})
    filled.put("logits-old-code", tensors, {**filled.read(logits).record, "code": "of then"})
    filled.put(filled.read(part).record["run"], tensors, record)  # finished meanwhile
    filled.put("maps-old-format", TENSORS, {})
    (filled.root / "maps-old-format" / store_module.SUMS).unlink()
    flip(filled.root / logits)
    filled.put("run-aside", tensors, record)
    aside = left_by_a_killed_writer(filled, "run-aside", moved=True)
    aged(aside)
    expected = {
        "run-old-code": "made by another version of the code",
        "logits-old-code": "made by another version of the code",
        part: "the checkpoint of a run that is finished",
        "maps-old-format": "of an older format",
        logits: "damaged: tensors.safetensors does not match its SHA-256",
        aside.name: "left by a process that was killed while it wrote",
    }
    before = {path.name for path in filled.root.iterdir()}
    assert reader("prune", *["--dry-run"] * dry) == 0
    lines = capsys.readouterr().out.splitlines()
    assert dict(line.split(": ", 1) for line in lines[:-1]) == expected
    after = {path.name for path in filled.root.iterdir()}
    if dry:
        assert after == before and "6 would be removed" in lines[-1]
    else:
        assert before - after == set(expected) and after - before == {"run-aside"}
        assert "6 removed" in lines[-1]


def test_every_kind_of_entry_that_the_code_writes_is_known_to_upkeep():
    written = set()
    for path in (TESTS.parent / "kdnb").rglob("*.py"):
        for kind in {*upkeep.OF_THE_ENGINE, *upkeep.IMAGES}:
            written |= {kind} if f'f"{kind}-{{' in path.read_text() else set()
    assert {"run", "part", "maps", "body", "decoded", "pixels", "polyps"} <= written
    assert written <= {*upkeep.OF_THE_ENGINE, *upkeep.IMAGES}
