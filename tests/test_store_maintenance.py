"""What `python -m kdnb store` lists, calls damaged and removes: nothing that kdnb did not write."""

import json
import os
import shutil
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from kdnb import __main__ as command_line
from kdnb import maintenance
from kdnb.course.interactive.guesses import Guessed, Guesses
from kdnb.data import DataError, ImageFolder, polyps
from kdnb.data.custom import sources as own
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import ALONE
from kdnb.files import whole_folder
from kdnb.store.store import SUFFIX, Store

TESTS = Path(__file__).parent
TENSORS = {"a": torch.arange(6.0).reshape(2, 3)}
GUESSED = Guessed("Gain?", "points", 1, [-5, 15], 2)


@pytest.fixture
def reader(filled, monkeypatch):
    """Runs `python -m kdnb store …` on the filled store."""
    monkeypatch.setenv("KDNB_RUNS", str(filled.root))
    return lambda *arguments: command_line.main(["store", *arguments])


def flip(path, place=-1):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def left_by_a_killed_writer(store, key, length=None):
    """As if SIGKILL came before the file was moved to its place."""
    part = store.root / f".{key}{SUFFIX}-abcd0123.part"
    store.put(key, TENSORS, {"n": 1})
    part.write_bytes(store.path(key).read_bytes()[:length])
    store.path(key).unlink()
    return part


def aged(*paths):
    long_ago = time.time() - 86_400
    for path in paths:
        for each in (*path.rglob("*"), path) if path.is_dir() else (path,):
            os.utime(each, (long_ago, long_ago))


def test_list_tells_kinds_labels_and_sizes(filled, reader, capsys):
    (filled.root / "notes").mkdir()
    assert reader("list") == 0
    printed = capsys.readouterr().out
    (run,), (part,) = filled.names("run-"), filled.names("part-")
    (row,) = [line for line in printed.splitlines() if line.startswith(run)]
    assert "teacher, tiny, seed 0" in row and " MB " in row
    (row,) = [line for line in printed.splitlines() if line.startswith(part)]
    assert "student without teacher, tiny, seed 0" in row
    size = sum(p.stat().st_size for p in filled.root.rglob("*") if p.is_file())
    assert f"3 in all ({size / 1e6:,.1f} MB)" in printed


def test_list_does_without_what_vanishes_meanwhile(filled, reader, monkeypatch, capsys):
    (run,), lstat = filled.names("run-"), Path.lstat

    def vanished(path):
        if path == filled.path(run):
            raise FileNotFoundError(path)
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", vanished)
    assert reader("list") == 0
    assert "2 in all" in capsys.readouterr().out


def test_verify_names_what_is_damaged(filled, reader, capsys):
    assert reader("verify") == 0
    assert "no damaged of 3" in capsys.readouterr().out
    (run,), (logits,) = filled.names("run-"), filled.names("logits-")
    flip(filled.path(run))
    filled.path(logits).write_bytes(b"")
    assert reader("verify") == 1
    printed = capsys.readouterr().out
    assert f"{run}{SUFFIX}: it does not match its SHA-256" in printed
    assert f"{logits}{SUFFIX}: it does not begin as an entry does" in printed
    assert "2 damaged of 3" in printed


def test_prune_takes_nothing_that_would_be_loaded(filled, reader, tiny_task, capsys):
    before = filled.names()
    living = left_by_a_killed_writer(filled, "run-1")
    assert reader("prune") == 0
    assert "nothing removed" in capsys.readouterr().out
    assert filled.names() == before and living.is_file()
    told = []
    lab = Experiment(tiny_task, store=filled, watch=told.append, device=torch.device("cpu"))
    lab.teacher(0), lab.student(ALONE, 0)
    assert told[0].loaded and told[1].continued == 1


@pytest.mark.parametrize("dry", [True, False])
def test_prune_takes_what_no_present_code_would_load(filled, reader, capsys, dry):
    (run,), (part,), (logits,) = (filled.names(f"{k}-") for k in ("run", "part", "logits"))
    record, tensors = filled.read(run).record, filled.read(run).tensors
    filled.put("run-old-code", tensors, {**record, "settings": {"engine": "of then"}})
    filled.put("logits-old-code", tensors, {**filled.read(logits).record, "code": "of then"})
    filled.put(filled.read(part).record["run"], tensors, record)  # finished meanwhile
    filled.put("maps-format", TENSORS, {})
    path = filled.path("maps-format")
    path.write_bytes(path.read_bytes().replace(b"format 3", b"format 2", 1))
    flip(filled.path(logits))
    aside = left_by_a_killed_writer(filled, "run-aside", length=500)
    aged(aside)
    expected = {
        f"run-old-code{SUFFIX}": "made by another version of the code",
        f"logits-old-code{SUFFIX}": "made by another version of the code",
        f"{part}{SUFFIX}": "the checkpoint of a run that is finished",
        f"maps-format{SUFFIX}": "damaged: it is of a run store, format 2, and this kdnb has a run "
        "store, format 3",
        f"{logits}{SUFFIX}": "damaged: it does not match its SHA-256",
        aside.name: "left by a process that was killed while writing",
    }
    before = {path.name for path in filled.root.iterdir()}
    assert reader("prune", *["--dry-run"] * dry) == 0
    lines = capsys.readouterr().out.splitlines()
    assert dict(line.split(": ", 1) for line in lines[:-1]) == expected
    after = {path.name for path in filled.root.iterdir()}
    if dry:
        assert after == before and "6 would be removed" in lines[-1]
    else:
        assert before - after == set(expected) and not after - before
        assert "6 removed" in lines[-1]


def test_every_kind_of_entry_that_the_code_writes_is_known_to_maintenance():
    written = set()
    for path in (TESTS.parent / "kdnb").rglob("*.py"):
        for kind in {*maintenance.ENTRIES, *maintenance.FOLDERS}:
            written |= {kind} if f'f"{kind}-{{' in path.read_text() else set()
    assert {"run", "part", "maps", "backbone", "decoded", "pixels", "polyps"} <= written
    assert written <= {*maintenance.ENTRIES, *maintenance.FOLDERS}


# Files of others


def picture(folder):
    """Everything in a folder, to the byte; of links where they lead to."""
    found = {}
    for top, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(top, name)
            if path.is_symlink():
                content = path.readlink()
            else:
                content = None if path.is_dir() else path.read_bytes()
            found[path.relative_to(folder).as_posix()] = content
    return found


def put(path, content=b"theirs"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


NAMED = {
    "run-20240101_120000-abcd/config.json": b"{}",  # Weights & Biases
    "run-20240101_120000-abcd/record.json": b'{"settings": {"engine": "theirs"}}',
    "features-v2/record.json": b"{}",
    "features-v2/tensors.safetensors": b"their weights",
    "pixels-2019/record.json": b'{"sha256": "0"}',
    "pixels-2019/pixels.npy": b"their pixels",
}
UNNAMED = {
    "decoded-talks/record.json": b'{"source": "x", "size": 3, "fingerprints": {}}',
    "decoded-0123456789abcdef0123/record.json": b"{}",
    "polyps-study/annotations.csv": b"a,b\n",
    "polyps-320-400-64px-seed0-drawing1/MD5SUMs.txt": b"0  x\n",
    "maps-europe/SHA256SUMS": b"0  europe.tif\n",
    "logits-1/SHA256SUMS": b"# kdnb run store, format 2\n",  # copied there
    "logits-1/my_notes.txt": b"what I found",
    ".backbone-mine-abcdefgh/draft.txt": b"draft",
    ".pixels-0123456789abcdef0123-abcdefgh/new/pixels.npy": b"draft",
    "part-of-my-thesis.txt": b"chapter 1",
    "run-0123456789abcdef0123.safetensors": b"their weights",
    f".run-0123456789abcdef0123{SUFFIX}-abcd0123.part": b"theirs",
    "run-2/.kdnb": b"{}",
    "pixels-0123456789abcdef0123/.kdnb": b'{"made by kdnb as": "pixels-x", "files": []}',
    "guesses-mnist-small.json": b"my own notes",
}


def test_a_folder_of_somebodys_files_is_as_it_was(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KDNB_RUNS", str(tmp_path / "theirs"))
    for name, content in (NAMED | UNNAMED).items():
        put(tmp_path / "theirs" / name, content)
    put(tmp_path / "outside" / "precious.txt")
    for name in ("backbone-link", "pixels-aaaaaaaaaaaaaaaaaaaa", f"run-3{SUFFIX}"):
        (tmp_path / "theirs" / name).symlink_to(tmp_path / "outside")
    aged(tmp_path / "theirs")
    before = picture(tmp_path)
    assert command_line.main(["store", "list"]) == command_line.main(["store", "verify"]) == 0
    assert command_line.main(["store", "prune"]) == 0
    assert picture(tmp_path) == before
    said = capsys.readouterr().out
    assert "0 in all" in said and "no damaged of 0" in said and "nothing removed" in said


def test_a_link_to_an_entry_elsewhere_stays(tmp_path, monkeypatch):
    """As of somebody who shares some runs of a colleague's store."""
    monkeypatch.setenv("KDNB_RUNS", str(tmp_path / "mine"))
    theirs, mine = Store(tmp_path / "theirs"), Store()
    for key in ("run-old", "backbone-old", "part-old"):
        theirs.put(key, TENSORS, {"settings": {"engine": "of then"}})
        mine.root.mkdir(exist_ok=True)
        mine.path(key).symlink_to(theirs.path(key))
    assert mine.read("run-old").record == theirs.read("run-old").record
    before = picture(tmp_path)
    assert command_line.main(["store", "prune"]) == 0 and picture(tmp_path) == before


KINDS = st.sampled_from([*maintenance.ENTRIES, *maintenance.FOLDERS])
ENDS = st.sampled_from(
    ["", SUFFIX, f"{SUFFIX}-abcd0123.part", "-abcd0123", ".json", "/record.json"]
)
ENDS |= st.sampled_from(["/pixels.npy", "/SHA256SUMS", "/.kdnb", "/new/.kdnb", "/old/x"])
MIDDLES = st.sampled_from(["0123456789abcdef0123", "v2", "1-2-16px-seed0-drawing1", "é", "run-1"])
HEADS = [b"", b"{}", b"# kdnb run store", b'{"made by kdnb as": "x", "files": []}', b"\0" * 90]
HEADS += [b'\x98\0\0\0\0\0\0\0{"__metadata__":{"kdnb":"other', b"[]", b"null", b"# kdnb", b"\xff"]


@pytest.mark.slow
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["", "."]), KINDS, MIDDLES, ENDS).map(
            lambda parts: "{}{}-{}{}".format(*parts)
        ),
        st.sampled_from(HEADS) | st.binary(max_size=200),
        max_size=8,
    )
)
def test_files_that_are_called_as_kdnbs_and_are_not_stay_to_the_byte(
    tmp_path_factory, monkeypatch, files
):
    root = tmp_path_factory.mktemp("theirs")
    monkeypatch.setenv("KDNB_RUNS", str(root / "runs"))
    (root / "runs").mkdir()
    put(root / "outside" / "precious")
    for number, (name, content) in enumerate(files.items()):
        try:
            put(root / "runs" / name, content)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            (root / "runs" / f"run-{number}{SUFFIX}").symlink_to(root / "outside" / "precious")
    Store().put("run-ours", TENSORS, {"settings": {"engine": "of then"}})
    for path in (root / "runs").iterdir():
        if not path.is_symlink():
            aged(path)
    before = picture(root)
    command_line.main(["store", "list"])
    command_line.main(["store", "verify"])
    assert command_line.main(["store", "prune"]) == 0
    assert before.pop(f"runs/run-ours{SUFFIX}") and picture(root) == before
    shutil.rmtree(root)


# Folders of images


@pytest.fixture
def pixels(tmp_path, monkeypatch):
    """The folder in which the pixels of some images are kept, and what reads them anew."""
    monkeypatch.setenv("KDNB_RUNS", str(tmp_path / "runs"))
    for c in "ab":
        (tmp_path / "images" / c).mkdir(parents=True)
        for i in range(4):
            pixels = np.random.default_rng([ord(c), i]).integers(0, 256, (12, 12, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "images" / c / f"{i}.png")

    def read():
        own._read.cache_clear()
        return ImageFolder(tmp_path / "images", size=12)()

    read()
    (folder,) = (tmp_path / "runs").glob("pixels-*")
    return folder, read


def test_damaged_pixels_go_and_what_another_put_there_stays(pixels, capsys):
    folder, _ = pixels
    assert command_line.main(["store", "list"]) == 0 and folder.name in capsys.readouterr().out
    flip(folder / "pixels.npy")
    assert command_line.main(["store", "verify"]) == 1
    put(folder / "notes" / "mine.txt")
    before = picture(folder)
    assert command_line.main(["store", "prune"]) == 0 and picture(folder) == before
    shutil.rmtree(folder / "notes")
    assert command_line.main(["store", "prune"]) == 0 and not folder.exists()


@pytest.mark.parametrize("theirs", ["added", "unmarked", "linked", "renamed", "a file"])
def test_a_folder_that_is_not_kdnbs_alone_is_never_replaced(pixels, tmp_path, theirs):
    folder, read = pixels
    (tmp_path / "outside").mkdir()
    if theirs == "added":
        put(folder / "mine.txt")
    elif theirs == "unmarked":
        (folder / ".kdnb").unlink()
    elif theirs == "renamed":
        mark = json.loads((folder / ".kdnb").read_text())
        (folder / ".kdnb").write_text(json.dumps({**mark, "made by kdnb as": "pixels-1"}))
    elif theirs == "linked":
        shutil.move(folder, tmp_path / "outside" / folder.name)
        folder.symlink_to(tmp_path / "outside" / folder.name)
    else:
        shutil.rmtree(folder)
        put(folder)
    if theirs != "a file":
        flip(folder / "pixels.npy")
    before = picture(tmp_path)
    damaged = pytest.warns(UserWarning, match="damaged") if theirs != "a file" else nullcontext()
    says = r"pixels-.* is in the way, and not all of it was made by kdnb: move it"
    with damaged, pytest.raises(DataError, match=says):
        read()
    assert picture(tmp_path) == before


@pytest.mark.parametrize("name", ["pixels-0123456789abcdef0123", "decoded-0123456789abcdef0123"])
def test_what_a_killed_process_left_of_a_folder_goes_after_hours(store, monkeypatch, name):
    class KilledError(BaseException):
        pass

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *a, **k: None)  # a killed process tidies nothing up
        with pytest.raises(KilledError), whole_folder(store.root / name) as part:
            put(part / "pixels.npy")
            raise KilledError
    (left,) = store.root.iterdir()
    assert left.name.startswith(f".{name}-")
    assert list(maintenance.superfluous(store)) == []
    aged(left)
    ((found, why),) = maintenance.superfluous(store)
    assert found.path == left and "killed" in why
    maintenance.prune(found)
    assert list(store.root.iterdir()) == []


def test_drawn_pictures_are_listed_and_stay(store, monkeypatch):
    monkeypatch.setenv("KDNB_RUNS", str(store.root))
    polyps.load(train=20, test=4, size=16)
    assert {item.kind for item in maintenance.items(store)} == {"polyps", "decoded"}
    assert not list(maintenance.problems(store)) and not list(maintenance.superfluous(store))


# Guesses


@pytest.mark.parametrize("content", [b"my own notes", b"{}", b'{"a": 1}', b"\xff\xfe", b"[1, 2]"])
def test_a_file_of_guesses_that_is_none_is_left_as_it_is(store, monkeypatch, content):
    monkeypatch.setenv("KDNB_RUNS", str(store.root))
    guesses = Guesses("mnist-small")
    put(guesses.path, content)
    with pytest.warns(UserWarning, match=r"holds no guesses .*move this file"):
        guesses.keep("02", GUESSED)
    assert guesses.path.read_bytes() == content
    guesses.path.unlink()
    guesses.keep("02", GUESSED)
    assert guesses.all() == {"02": GUESSED}
