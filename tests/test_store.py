"""The run store: whole entries or none, and honest words where it cannot write."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch
from conftest import TinyTeacher

from kdnb import store as store_module
from kdnb.store import Store, StoreError, digest, weights_digest

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2])}


def leftovers(store):
    return [p.name for p in store.root.iterdir() if p.name.startswith(".")]


def test_what_goes_in_comes_out(store):
    assert store.get("run-1") is None
    store.put("run-1", TENSORS, {"note": "é", "n": 1.5})
    entry = store.get("run-1")
    assert entry.record == {"note": "é", "n": 1.5}
    assert all(torch.equal(entry.tensors[name], TENSORS[name]) for name in TENSORS)
    assert leftovers(store) == []


def test_channels_last_weights_survive(store):
    model = TinyTeacher().to(memory_format=torch.channels_last)
    store.put("run-1", model.state_dict(), {})
    again = TinyTeacher()
    again.load_state_dict(store.get("run-1").tensors)
    assert weights_digest(again) == weights_digest(model)


def test_no_pickle_is_written(store):
    store.put("run-1", TENSORS, {})
    names = sorted(p.name for p in (store.root / "run-1").iterdir())
    assert names == ["SHA256SUMS", "record.json", "tensors.safetensors"]


def test_a_second_entry_replaces_the_first(store):
    store.put("run-1", TENSORS, {"n": 1})
    store.put("run-1", TENSORS, {"n": 2})
    assert store.get("run-1").record == {"n": 2}
    assert leftovers(store) == []


def test_what_is_removed_is_gone(store):
    store.put("run-1", TENSORS, {})
    store.put("run-2", TENSORS, {})
    store.remove("run-1")
    store.remove("run-3")  # never there
    assert store.get("run-1") is None and store.get("run-2") is not None
    assert leftovers(store) == []


def test_a_failed_write_leaves_nothing(store, monkeypatch):
    store.put("run-1", TENSORS, {"n": 1})

    def fail(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr(store_module, "save_file", fail)
    with pytest.raises(StoreError, match=r"No space left on device.*set KDNB_RUNS"):
        store.put("run-1", TENSORS, {"n": 2})
    with pytest.raises(StoreError):
        store.put("run-2", TENSORS, {})
    assert store.get("run-1").record == {"n": 1} and store.get("run-2") is None
    assert leftovers(store) == []


def test_killed_while_writing(store):
    """SIGKILL after the tensors are on disk and before the record: no entry, and no harm."""
    program = textwrap.dedent(
        f"""
        import os, signal, torch
        from pathlib import Path
        from kdnb.store import Store
        Path.write_text = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)
        Store({str(store.root)!r}).put("run-1", {{"a": torch.ones(3)}}, {{}})
        """
    )
    killed = subprocess.run([sys.executable, "-c", program], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert store.get("run-1") is None
    store.put("run-1", TENSORS, {})
    assert store.get("run-1") is not None


@pytest.mark.parametrize("name", ["record.json", "tensors.safetensors"])
def test_a_damaged_entry_is_made_again(store, name):
    store.put("run-1", TENSORS, {"n": 1})
    path = store.root / "run-1" / name
    path.write_bytes(path.read_bytes()[:10])
    with pytest.warns(UserWarning, match="run-1 is damaged"):
        assert store.get("run-1") is None
    store.put("run-1", TENSORS, {"n": 2})
    assert store.get("run-1").record == {"n": 2}


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot write finished runs to .*file/runs.*KDNB_RUNS"):
        Store(tmp_path / "file" / "runs").require_writable()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere; see test_store_faults.py")
def test_a_read_only_folder_is_named_and_can_be_read(store):
    store.put("run-1", TENSORS, {})
    store.root.chmod(0o555)
    with pytest.raises(StoreError, match="Permission denied"):
        store.require_writable()
    assert store.get("run-1") is not None
    store.root.chmod(0o755)


def test_the_environment_says_where(monkeypatch, tmp_path):
    monkeypatch.setenv("KDNB_RUNS", str(tmp_path / "elsewhere"))
    assert Store().root == tmp_path / "elsewhere"


def test_digests():
    assert digest({"a": 1, "b": [2.0]}) == digest({"b": [2.0], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    with pytest.raises(ValueError):
        digest({"a": float("nan")})  # not the same everywhere
    json.dumps(digest(1))


def test_a_buffer_is_part_of_the_weights():
    model = TinyTeacher()
    before = weights_digest(model)
    model.layers[1].running_mean[0] += 1e-7
    assert weights_digest(model) != before
