"""What a reader's folder is read as: splits, classes, files; and no pixels in two splits."""

import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from kdnb.data import DataError, Dataset, ImageFolder, ImageTensors, Split
from kdnb.data.custom.layout import layout, split_of
from kdnb.data.custom.names import plain, shown
from kdnb.data.custom.splits import PARTS, disjoint_splits, drawn

SIZE = 12
MANY = settings(max_examples=30, deadline=None)


def picture(*number: int) -> Image.Image:
    """Noise of 12×12 pixels, the same for the same numbers."""
    pixels = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE))
    return Image.fromarray(pixels.astype(np.uint8))


def fill(folder: Path, *classes: str, images: int = 4, first: int = 0) -> Path:
    for c, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(images):
            picture(c, first + i).save(folder / name / f"{i}.png")
    return folder


def read(folder: Path, **given) -> Dataset:
    """The dataset, whatever it warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ImageFolder(folder, SIZE, **given)()


def sizes(data: Dataset) -> list[int]:
    return [len(data.train), len(data.val), len(data.test)]


def pixels_of(part) -> list[bytes]:
    return [image.contiguous().numpy().tobytes() for image in part.images]


@pytest.fixture(autouse=True)
def runs(monkeypatch, tmp_path):
    monkeypatch.setenv("KDNB_RUNS", str(tmp_path / "runs"))


# Splits


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("train", "valid", "test"), [8, 8, 8]),
        (("training", "testing"), [6, 2, 8]),  # 15 % of four is one at least, of each class
        (("Train", "Test"), [6, 2, 8]),
        (("train", "dev", "test"), [8, 8, 8]),
        (("trn", "Validation", "TST"), [8, 8, 8]),
        (("training_set", "test_set"), [6, 2, 8]),
        (("Train Images", "val-data", "Testing.Samples"), [8, 8, 8]),
    ],
)
def test_splits_are_known_by_many_names(tmp_path, names, expected):
    for i, name in enumerate(names):
        fill(tmp_path / "split" / name, "cat", "dog", first=10 * i)
    data = ImageFolder(tmp_path / "split", SIZE)()
    assert data.class_names == ("cat", "dog") and sizes(data) == expected
    assert set(pixels_of(data.test)) == {
        np.asarray(picture(c, 10 * (len(names) - 1) + i).convert("RGB"))
        .transpose(2, 0, 1)
        .tobytes()
        for c in range(2)
        for i in range(4)
    }


@given(
    st.sampled_from(["train", "training", "val", "valid", "validation", "dev", "test", "testing"]),
    st.sampled_from(["", "_set", " data", "-images", "split", "Samples"]),
    st.booleans(),
)
@MANY
def test_a_split_may_be_written_in_any_case(word, added, loud):
    name = word + added
    expected = {"tr": "train", "te": "test"}.get(word[:2], "val")
    assert split_of(name.upper() if loud else name.title()) == expected
    assert split_of(f"not {name}") is None and split_of(f"{word}s of india") is None


@pytest.mark.parametrize(
    ("folders", "says"),
    [
        ("train/a train/b test/a test/b misc/a", "holds test, train, .*beside misc: remove"),
        ("bus train car", "holds train, named like a split, beside bus, car: .* if that is a"),
        ("Validation_Set rose", "holds Validation_Set, .*beside rose"),
        ("train/a train/val test/a test/val", "x/train holds val, which is named like a split"),
        ("test/a/dev test/b train/a train/b", r"the class a holds test/a/dev, .*such as dev/a"),
        ("cat/train cat/test dog/train", "the class cat holds cat/test"),
        ("train/a train/b val/a valid/a test/a", "holds val, valid, which all mean val"),
        ("training/a training/b dev/a dev/b", "has dev and training but no test"),
        ("train test", "x/train must hold at least two classes, got none"),
    ],
)
def test_a_layout_with_two_meanings_is_one_sentence(tmp_path, folders, says):
    for name in folders.split():
        folder = tmp_path / "x" / name
        folder.mkdir(parents=True, exist_ok=True)
        picture(1).save(folder / "1.png")
    with pytest.raises(DataError, match=says) as raised:
        ImageFolder(tmp_path / "x", SIZE)()
    assert "\n" not in str(raised.value)


def test_splits_of_unknown_names_are_pointed_out(tmp_path):
    for i, name in enumerate(("fold1", "fold2")):
        fill(tmp_path / "x" / name, "cat", "dog", first=10 * i)
    with pytest.warns(UserWarning, match=r"each of fold1, fold2 in x holds the folders cat, dog"):
        ImageFolder(tmp_path / "x", SIZE)()


# Files


def hide(folder: Path, name: str) -> None:
    shutil.copytree(folder / "a", folder / "a" / name)


NOISE = {
    ".ipynb_checkpoints": lambda f: hide(f, ".ipynb_checkpoints"),
    "@eaDir": lambda f: hide(f, "@eaDir"),
    "__MACOSX": lambda f: hide(f, "__MACOSX"),
    "$RECYCLE.BIN": lambda f: hide(f, "$RECYCLE.BIN"),
    "@eaDir beside": lambda f: (f / "@eaDir").mkdir(),
    "AppleDouble": lambda f: (f / "b" / "._1.png").write_bytes(b"not an image"),
    "thumbs": lambda f: (f / "b" / "Thumbs.db").write_bytes(b"not an image"),
    "link up": lambda f: (f / "a" / "up").symlink_to(f),
    "link far up": lambda f: (f / "a" / "top").symlink_to(f.parent.parent),
    "link up beside": lambda f: (f / "c").symlink_to(f),
    "link far up beside": lambda f: (f / "d").symlink_to(f.parent),
    "link to itself": lambda f: (f / "b" / "self").symlink_to(f / "b"),
    "link to a file": lambda f: (f / "b" / "z.png").symlink_to(f / "b" / "1.png"),
    "hard link": lambda f: os.link(f / "b" / "1.png", f / "b" / "zz.png"),
    "link to nothing": lambda f: (f / "b" / "gone.png").symlink_to(f / "gone.png"),
    "pipe": lambda f: os.mkfifo(f / "b" / "pipe.png"),
    "film": lambda f: (f / "a" / "film.mp4").write_bytes(bytes(range(256))),
    "text": lambda f: (f / "a" / "P6.txt").write_text("P6 is how some images begin"),
    "other format": lambda f: (f / "a" / "scan.h5").write_bytes(b"\x89HDF\r\n\x1a\n"),
    "beside": lambda f: (f / "labels.csv").write_text("a,b"),
}


@given(st.sets(st.sampled_from(sorted(NOISE)), min_size=1))
@settings(max_examples=40, deadline=None)
def test_nothing_but_each_image_once_is_read_and_the_rest_is_counted(tmp_path_factory, noise):
    root = tmp_path_factory.mktemp("noise")
    clean = fill(root / "clean" / "x", "a", "b")
    noisy = fill(root / "noisy" / "x", "a", "b")
    for name in sorted(noise):
        NOISE[name](noisy)
    expected, data = read(clean), read(noisy)
    assert data.fingerprint == expected.fingerprint
    assert "left out" in data.about and "left out" not in expected.about
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert sum(count for _, count in layout(noisy).left_out) == len(noise)


def test_what_is_left_out_is_said_by_reason(tmp_path):
    folder = fill(tmp_path / "x", "a", "b", images=20)
    for name in ("film", "text", "@eaDir", "hard link", "beside"):
        NOISE[name](folder)
    data = ImageFolder(folder, SIZE)()  # no warning: it is little
    assert (
        "; left out: 1 beside the class folders, 1 hidden, 1 not an image (.mp4), "
        "1 not an image (.txt), 1 read under another name; val and test drawn" in data.about
    )
    for i in range(4):
        (folder / "a" / f"{i}.heif").write_bytes(b"x")
    with pytest.warns(UserWarning, match=r"x: 40 images, and left out .*4 not an image \(.heif\)"):
        ImageFolder(folder, SIZE)()


def test_images_are_known_by_their_content_where_the_suffix_says_nothing(tmp_path):
    folder = fill(tmp_path / "x", "a", "b", images=3)
    kinds = {".gif": "GIF", ".jfif": "JPEG", "": "PNG", ".PNG": "PNG", ".txt": "BMP", ".1": "WEBP"}
    for c, name in enumerate("ab"):
        for i in range(10):
            for j, (suffix, kind) in enumerate(kinds.items()):
                picture(c, 100 + i, j).save(folder / name / f"{j}{i}{suffix}", kind)
    data = ImageFolder(folder, SIZE)()
    assert sum(sizes(data)) == 2 * (3 + 10 * len(kinds)) and "left out" not in data.about


def test_a_class_without_images_says_what_it_has(tmp_path):
    folder = fill(tmp_path / "x", "a", "b")
    (folder / "c").mkdir()
    (folder / "c" / "1.heic").write_bytes(b"x")
    with pytest.raises(
        DataError, match=r"class c in x has no image \(1 not an image \(.heic\)\): put"
    ):
        ImageFolder(folder, SIZE)()


def test_another_folder_may_be_linked(tmp_path):
    fill(tmp_path / "elsewhere", "more", first=50)
    folder = fill(tmp_path / "x", "a", "b")
    (folder / "a" / "more").symlink_to(tmp_path / "elsewhere" / "more")
    assert sum(sizes(ImageFolder(folder, SIZE)())) == 12


# The same pixels


def test_pixels_of_the_test_split_are_not_trained_on(tmp_path):
    folder = tmp_path / "x"
    for i, part in enumerate(PARTS):
        fill(folder / part, "a", "b", images=20, first=100 * i)
    shutil.copy(folder / "test" / "a" / "0.png", folder / "train" / "a" / "copy.png")
    shutil.copy(folder / "test" / "a" / "1.png", folder / "train" / "b" / "copy.png")
    picture(1, 200).save(folder / "val" / "b" / "copy.bmp")  # test/b/0.png in another format
    shutil.copy(folder / "val" / "b" / "0.png", folder / "train" / "b" / "more.png")
    data = ImageFolder(folder, SIZE)()
    assert sizes(data) == [40, 40, 40]
    assert "3 left out of train, since their pixels are also in another split" in data.about
    assert (
        "1 left out of val, since" in data.about
        and "1 with the pixels of another of a" in data.about
    )
    for i in range(10):
        shutil.copy(folder / "test" / "a" / f"{i}.png", folder / "train" / "a" / f"copy{i}.png")
    with pytest.warns(UserWarning, match="of 134 images 1 left out of val.* 13 left out of train"):
        ImageFolder(folder, SIZE)()
    for i in range(20):
        shutil.copy(folder / "test" / "b" / f"{i}.png", folder / "val" / "b" / f"{i}.png")
    (folder / "val" / "b" / "copy.bmp").unlink()
    with pytest.raises(
        DataError, match="x cannot be used: the class b has only images in val whose"
    ):
        read(folder)


# Which of twenty pictures each image shows, and its class: many repeat.
LISTS = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 1)), min_size=8, max_size=25)


def part_of(pairs: list[tuple[int, int]]) -> Split:
    shown = torch.tensor([pair[0] for pair in pairs], dtype=torch.uint8)
    return Split(shown.view(-1, 1, 1, 1), torch.tensor([pair[1] for pair in pairs]))


@given(LISTS, st.one_of(st.none(), LISTS), st.one_of(st.none(), LISTS), st.integers(0, 5))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_no_pixels_ever_stand_in_two_splits(train, val, test, seed):
    given_parts = {
        name: part_of(pairs)
        for name, pairs in zip(PARTS, (train, val, test), strict=True)
        if pairs is not None
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            parts, _ = disjoint_splits(given_parts, ("a", "b"), (0.2, 0.2), seed)
        except DataError:
            assume(False)
    seen = [set(part.images.flatten().tolist()) for part in parts.values()]
    assert len(parts) == 3 and sum(map(len, seen)) == len(set.union(*seen))
    before = [pair for pairs in (train, val, test) for pair in pairs or []]
    after = [
        pair
        for part in parts.values()
        for pair in zip(part.images.flatten().tolist(), part.labels.tolist(), strict=True)
    ]
    # Nothing is lost but what stands elsewhere; what is given as test stays whole.
    assert {picture for picture, _ in after} == {picture for picture, _ in before}
    if test is not None:
        assert torch.equal(parts["test"].images, given_parts["test"].images)
    if val is None and test is None:
        assert sorted(after) == sorted(before)


def test_without_repeated_pixels_what_is_drawn_is_as_ever():
    labels = torch.arange(3).repeat(10)
    images = torch.arange(30, dtype=torch.uint8).view(-1, 1, 1, 1)
    parts, notes = disjoint_splits({"train": Split(images, labels)}, "abc", (0.15, 0.15), 3)
    for name, index in zip(PARTS, drawn(labels, (0.15, 0.15), 3), strict=True):
        assert torch.equal(parts[name].images, images[index])
        assert torch.equal(parts[name].labels, labels[index])
    assert notes == ["val and test drawn with seed 3, each class by its share"]


def test_repeated_tensors_stay_together():
    images = torch.randint(256, (20, 1, 12, 12), dtype=torch.uint8)
    with pytest.warns(UserWarning, match="of 40 images 20 with the pixels of another"):
        data = ImageTensors(images.repeat(2, 1, 1, 1), torch.arange(2).repeat(20))()
    parts = [set(pixels_of(part)) for part in (data.train, data.val, data.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 20 and sum(sizes(data)) == 40
    with (
        pytest.raises(DataError, match=r"class 0 has 1 .* whose pixels differ, and needs 3"),
    ):
        ImageTensors(images[:2].repeat(20, 1, 1, 1), torch.arange(2).repeat(20))()


# Names


def named(folder: Path, *names: bytes, first: int = 0) -> Path:
    for c, name in enumerate(names):
        path = os.fsencode(folder) + b"/" + name
        os.makedirs(path)  # noqa: PTH103 (bytes that are no text)
        for i in range(4):
            picture(c, first + i).save(os.fsdecode(path + f"/{i}.png".encode()))
    return folder


def test_class_names_that_cannot_be_shown_have_dots(tmp_path):
    folder = named(
        tmp_path / "x", b"caf\xe9", b"a\x1b[31m", "\u202eb".encode(), "猫".encode(), b"d\n"
    )
    data = ImageFolder(folder, SIZE)()
    assert data.class_names == ("a·[31m", "caf·", "d·", "·b", "猫")
    data.about.encode()
    (folder / "猫" / os.fsdecode(b"\xff\n.png")).write_bytes(b"x")
    with pytest.raises(DataError, match=r"the image 猫/··.png in x cannot be read") as raised:
        ImageFolder(folder, SIZE)()
    str(raised.value).encode()
    assert "\n" not in str(raised.value)


@given(st.text(min_size=1, max_size=8))
@MANY
def test_any_name_can_be_shown_on_one_line(name):
    text = plain(name + "\udcff")
    assert len(text.encode().splitlines()) == 1 and text[-1] == "·" and plain(text) == text


COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_composed_and_decomposed_names_are_one_class(tmp_path):
    split = tmp_path / "split"
    named(split / "train", COMPOSED.encode(), b"b")
    named(split / "test", b"b", DECOMPOSED.encode(), first=10)
    data = read(split)
    assert data.class_names == ("b", COMPOSED)
    if len(list(named(tmp_path / "x", COMPOSED.encode()).iterdir())) == 1:
        try:
            named(tmp_path / "x", DECOMPOSED.encode(), b"b")
        except FileExistsError:
            # As on macOS: two such folders cannot lie there. Linux, where CI runs, keeps both.
            pytest.skip("this file system knows but one of the two names")
    with pytest.raises(DataError, match=r"x holds two folders called café, .*'caf\\xe9'"):
        ImageFolder(tmp_path / "x", SIZE)()
    with pytest.raises(DataError, match=r"'cafe\\u0301' are both shown as café: rename one"):
        shown([COMPOSED, DECOMPOSED])


# What the reader gives


@pytest.mark.parametrize(
    ("shares", "seed", "says"),
    [
        (0.2, 0, "shares must be two numbers .*got 0.2"),
        ("ab", 0, "shares must be two numbers .*got 'ab'"),
        ((0.2, float("nan")), 0, "shares must be two numbers"),
        (None, 0, "shares must be two numbers .*got None"),
        ((0.2, 0.2, 0.2), 0, "shares must be two numbers"),
        ((0.2, 0.2), 1.5, "seed must be a whole number of at most 64 bits, got 1.5"),
        ((0.2, 0.2), 10**20, "seed must be a whole number .*got 100000000000000000000"),
        ((0.2, 0.2), "1", "seed must be a whole number .*got '1'"),
    ],
)
def test_shares_and_seeds_are_checked(tmp_path, shares, seed, says):
    images = torch.randint(256, (8, 1, 12, 12), dtype=torch.uint8)
    folder = fill(tmp_path / "x", "a", "b")
    for source in (
        ImageTensors(images, torch.arange(2).repeat(4), shares=shares, seed=seed),
        ImageFolder(folder, SIZE, shares=shares, seed=seed),
    ):
        with pytest.raises(DataError, match=says):
            source()


def test_numbers_of_numpy_and_lists_will_do(tmp_path):
    folder = fill(tmp_path / "x", "a", "b")
    given_so = ImageFolder(folder, np.int64(SIZE), shares=[0.2, 0.2], seed=np.uint8(3))()
    assert given_so.fingerprint == read(folder, shares=(0.2, 0.2), seed=3).fingerprint


WHOLE = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")


@pytest.mark.parametrize("kind", WHOLE)
def test_labels_may_be_any_whole_numbers(kind):
    images = torch.randint(256, (12, 1, 12, 12), dtype=torch.uint8)
    data = ImageTensors(images, torch.arange(2).repeat(6).to(getattr(torch, kind)))()
    assert data.train.labels.dtype == torch.int64 and data.test.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("labels", "names", "says"),
    [
        ([0, 10**15], (), "in 0..1 for 2 classes, got 0..1000000000000000: number the classes"),
        ([0, 7], (), "must lie in 0..1 for 2 classes, got 0..7: .*or give class_names"),
        ([1, 2], (), "got 1..2: number the classes from 0 without gaps"),
        ([0, 2], "abc", "class_names must be a list of names, got the text 'abc'"),
        ([0, 2], ("a", "b", "c"), "the class b has 0 image"),
        ([0, 10**15], ("a", "b"), "must lie in 0..1 for 2 classes, got 0..1000000000000000"),
    ],
)
def test_labels_are_checked_before_anything_is_made(labels, names, says):
    images = torch.randint(256, (8, 1, 12, 12), dtype=torch.uint8)
    with pytest.raises(DataError, match=says):
        ImageTensors(images, torch.tensor(labels).repeat(4), names)()


@pytest.mark.parametrize("largest", [0, 1, 16])
def test_images_that_would_look_black_are_refused(tmp_path, largest):
    images = torch.randint(largest + 1, (12, 1, 12, 12), dtype=torch.uint8)
    with pytest.raises(DataError, match=r"brightest pixel of all images is \d+ of 255.*: scale"):
        ImageTensors(images, torch.arange(2).repeat(6))()
