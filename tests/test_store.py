"""The run store: whole entries or none, and honest words where it cannot write."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch
from conftest import TinyTeacher
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from kdnb import files
from kdnb.store.store import DamagedEntryError, Store, StoreError, digest, weights_digest

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2])}
# All that safetensors holds and torch can view as bytes.
TYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn]
TYPES += [torch.int64, torch.int32, torch.int16, torch.int8, torch.bool, torch.complex64]
TYPES += [torch.uint64, torch.uint32, torch.uint16, torch.uint8, torch.float8_e5m2]


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


def shown(tensor):
    """Type, shape and bytes."""
    flat = tensor.clone(memory_format=torch.contiguous_format).view(-1).view(torch.uint8)
    return tensor.dtype, tensor.shape, flat.numpy().tobytes()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_tensor_comes_back_to_the_bit_whatever_it_shares(tmp_path_factory, data):
    """Of every type and shape; transposed, cut out, expanded, tied to another or empty."""
    drawn, bits = {}, torch.Generator().manual_seed(data.draw(st.integers(0, 9999)))
    for name in data.draw(st.lists(st.text("ab.é/ ", min_size=1), max_size=5, unique=True)):
        kind, shape = (
            data.draw(st.sampled_from(TYPES)),
            data.draw(st.lists(st.integers(0, 4))),
        )
        tensor = torch.randint(0, 256, (*shape[:4], 16), dtype=torch.uint8, generator=bits)
        tensor = tensor % 2 == 0 if kind == torch.bool else tensor.view(kind)
        change = data.draw(st.sampled_from(["none", "transpose", "cut", "expand", "one"]))
        tensor = {
            "none": lambda t: t,
            "transpose": lambda t: t.transpose(0, -1),
            "cut": lambda t: t[..., 1::2],
            "expand": lambda t: t[..., :1].expand(*t.shape[:-1], 3),
            "one": lambda t: t.flatten()[0] if t.numel() else t,
        }[change](tensor)
        drawn[name] = tensor
        if data.draw(st.booleans()):
            drawn[f"{name} tied"] = tensor
    store = Store(tmp_path_factory.getbasetemp() / "drawn")
    store.put("run-1", drawn, {})
    found = store.read("run-1").tensors
    assert {n: shown(t) for n, t in found.items()} == {n: shown(t) for n, t in drawn.items()}
    places = [t.untyped_storage().data_ptr() for t in found.values() if t.numel()]
    assert len(set(places)) == len(places), "each by itself"


def test_tied_and_cut_out_weights_are_each_stored_by_themselves(store):
    weight = torch.arange(6.0).reshape(2, 3)
    tensors = {"a": weight, "tied": weight, "turned": weight.t(), "row": weight[1], "x": weight[0]}
    tensors |= {"every second": torch.ones(1).expand(4), "single": torch.arange(4.0)[1:2]}
    tensors |= {"single of a row": torch.arange(2.0)[::2], "none": weight[:0], "all": weight[()]}
    store.put("run-1", tensors, {})
    found = store.read("run-1").tensors
    assert {n: shown(t) for n, t in found.items()} == {n: shown(t) for n, t in tensors.items()}
    found["tied"].zero_()
    assert found["a"].sum() == 15


def test_a_record_may_be_large_and_odd(store):
    record = {"text": "x" * 3_000_000, "lone": "\ud800", "sha256": "0" * 64, "n": [2**70, 1e-300]}
    record["kdnb"] = '"sha256":"' + "0" * 64
    store.put("run-1", {"__metadata": torch.ones(1), "sha256": torch.ones(2)}, record)
    assert store.read("run-1").record == record
    with pytest.raises(ValueError):
        store.put("run-2", {}, {"n": float("nan")})
    with pytest.raises(StoreError, match=r"run-2 cannot be stored: .*header too large"):
        store.put("run-2", {}, {"text": "x" * 100_000_000})
    assert store.names() == ["run-1"] and leftovers(store) == []


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(2, dtype=torch.complex128),
        torch.eye(2).to_sparse(),
        torch.empty(2, device="meta"),
    ],
)
def test_what_cannot_be_stored_is_named_and_the_training_counts(store, tensor):
    with pytest.raises(StoreError, match=r"layer.weight is torch\.\w+ of torch\.\w+: convert"):
        store.put("run-1", {"layer.weight": tensor}, {})
    with pytest.warns(UserWarning, match="trained, but not stored: layer.weight is torch"):
        assert not store.keep("run-1", {"layer.weight": tensor}, {})
    assert store.names() == [] and leftovers(store) == []


def test_an_entry_is_one_file_that_anybody_can_read_and_check(store):
    store.put("run-1", TENSORS, {"n": 1})
    (path,) = store.root.iterdir()
    assert path == store.path("run-1") and path.name == "run-1.kdnb.safetensors"
    assert {n: t.tolist() for n, t in load_file(path).items()} == {
        n: t.tolist() for n, t in TENSORS.items()
    }
    with safe_open(path, "pt") as file:
        about = file.metadata()
    assert about["kdnb"] == "run store, format 3" and json.loads(about["record"]) == {"n": 1}
    blank = path.read_bytes().replace(about["sha256"].encode(), b"0" * 64)
    assert hashlib.sha256(blank).hexdigest() == about["sha256"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask(), "for whoever may read the folder"


def mask():
    now = os.umask(0o022)
    os.umask(now)
    return now


def test_a_file_under_another_entrys_name_is_not_that_entry(store):
    store.put("run-1", TENSORS, {})
    store.path("run-1").rename(store.path("run-2"))
    assert not store.has("run-2")
    with pytest.raises(DamagedEntryError, match="it is the entry run-1"):
        store.read("run-2")


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

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(StoreError, match=r"No space left on device.*set KDNB_RUNS"):
        store.put("run-1", TENSORS, {"n": 2})
    with pytest.raises(StoreError):
        store.put("run-2", TENSORS, {})
    assert store.get("run-1").record == {"n": 1} and store.get("run-2") is None
    assert leftovers(store) == []


@pytest.mark.parametrize("refusals", [1, 3, 4])
def test_where_a_reader_has_the_file_open_windows_is_asked_again(store, monkeypatch, refusals):
    """Windows refuses to replace and to remove a file that another process has open."""
    store.put("run-1", TENSORS, {"n": 1})
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
    left = []

    def refusing(action):
        def act(*arguments, **options):
            if left:
                raise PermissionError(errno.EACCES, left.pop())
            return action(*arguments, **options)

        return act

    monkeypatch.setattr(files.os, "replace", refusing(os.replace))
    monkeypatch.setattr(type(store.root), "unlink", refusing(type(store.root).unlink))
    for act in (lambda: store.put("run-1", TENSORS, {"n": 2}), lambda: store.remove("run-1")):
        left[:] = ["used by another process"] * refusals
        if refusals < 4:
            act()
        else:
            with pytest.raises(StoreError, match="used by another process"):
                act()
            assert store.get("run-1").record == {"n": 1}, "as it was"
        left.clear()
    assert store.has("run-1") == (refusals == 4)


@pytest.mark.slow
def test_killed_while_writing(store):
    """SIGKILL when all is on disk, but under another name: no entry, and no harm."""
    program = textwrap.dedent(
        f"""
        import os, signal, torch
        from kdnb.store.store import Store
        os.replace = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
        Store({str(store.root)!r}).put("run-1", {{"a": torch.ones(3)}}, {{}})
        """
    )
    killed = subprocess.run([sys.executable, "-c", program], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert store.get("run-1") is None and store.names() == [] and len(leftovers(store)) == 1
    store.put("run-1", TENSORS, {})
    assert store.get("run-1") is not None


@pytest.mark.parametrize("length", [0, 10, 300, -1])
def test_a_damaged_entry_is_made_again(store, length):
    store.put("run-1", TENSORS, {"n": 1})
    path = store.path("run-1")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.warns(UserWarning, match=r"run-1\.kdnb\.safetensors cannot be used"):
        assert store.get("run-1") is None
    store.put("run-1", TENSORS, {"n": 2})
    assert store.get("run-1").record == {"n": 2}


def test_no_byte_of_an_entry_can_be_another_unnoticed(store):
    store.put("run-1", TENSORS, {"n": 1})
    content = store.path("run-1").read_bytes()
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        store.path("run-1").write_bytes(flipped)
        with pytest.raises(DamagedEntryError):
            store.read("run-1")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"kdnb": "run store, format 3"}])
def test_another_safetensors_file_is_no_entry(store, metadata):
    store.root.mkdir()
    save_file(TENSORS, store.path("run-1"), metadata)
    with pytest.raises(DamagedEntryError, match="it does not begin as an entry does"):
        store.read("run-1")
    assert not store.has("run-1")


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
