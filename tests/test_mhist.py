"""MHIST's layout, in small: 24 PNG files of 16 pixels, read as the authors' 3,152 of 224 are."""

import csv
import hashlib
import io
import json
import os
import shutil
import stat
import zipfile
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from kdnb import data, doctor
from kdnb.data import DataError, Split, mhist
from kdnb.files import data_root, store_root, whole_folder

SIZE, TRAIN, TEST = 16, 20, 4


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class Layout:
    """A folder in MHIST's layout; what is changed here is on disk after `write`."""

    def __init__(self, folder):
        self.folder = folder
        rng = np.random.default_rng(0)
        self.pixels = {
            f"MHIST_{chr(97 + i)}.png": rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            for i in range(TRAIN + TEST)
        }
        self.files = {name: png(pixels) for name, pixels in self.pixels.items()}
        self.header = list(mhist.COLUMNS)
        self.rows = []
        for i, name in enumerate(self.files):
            votes = i % 8
            label = "SSA" if votes > 3 else "HP"
            self.rows.append([name, label, str(votes), "train" if i < TRAIN else "test"])
        rng.shuffle(self.rows)  # the authors' are in no order either

    def write(self):
        images = self.folder / "images"
        shutil.rmtree(images, ignore_errors=True)
        images.mkdir(parents=True)
        for name, content in self.files.items():
            (images / name).write_bytes(content)
        self.write_table()

    def write_table(self):
        with (self.folder / "annotations.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([self.header, *self.rows])

    def zip(self, *more, folder="images/", cut=None):
        """Have ``images.zip`` instead of ``images/``; ``more`` are further (entry, content)."""
        shutil.rmtree(self.folder / "images", ignore_errors=True)
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in self.files.items():
                archive.writestr(f"{folder}{name}", content)
            for entry, content in more:
                archive.writestr(entry, content)
        (self.folder / "images.zip").write_bytes(file.getvalue()[:cut])

    def load(self, **options):
        return mhist.load_layout(self.folder, "small", "made for tests", SIZE, **options)

    def refused(self):
        """The message, once it is one line and has left nothing behind."""
        with pytest.raises(DataError) as error:
            self.load()
        assert not store_root().exists() or not list(store_root().iterdir())
        message = str(error.value)
        assert "\n" not in message and message.endswith("): copy the authors' files there again")
        return message


@pytest.fixture
def layout(tmp_path):
    layout = Layout(tmp_path / "mhist")
    layout.write()
    return layout


def parts(dataset):
    return dataset.train, dataset.val, dataset.test


def decoded():
    (folder,) = store_root().glob("decoded-*")
    return folder


def same(one, other):
    return all(
        torch.equal(getattr(a, name), getattr(b, name))
        for a, b in zip(parts(one), parts(other), strict=True)
        for name in ("images", "labels", "subclasses")
    )


# What is loaded


def test_every_image_keeps_its_label_and_votes(layout):
    loaded = layout.load()
    assert [len(split) for split in parts(loaded)] == [17, 3, 4]  # 15 % of 20 validate
    assert loaded.class_names == ("HP", "SSA") and loaded.name == "small"
    assert loaded.subclass_names[0] == "0 of 7" and loaded.subclass_names[7] == "7 of 7"
    rows = {name: rest for name, *rest in layout.rows}
    originals = {pixels.transpose(2, 0, 1).tobytes(): n for n, pixels in layout.pixels.items()}
    seen = Counter()
    for split, partition in zip(parts(loaded), ("train", "train", "test"), strict=True):
        for image, label, votes in zip(split.images, split.labels, split.subclasses, strict=True):
            name = originals[image.numpy().tobytes()]
            assert rows[name] == [mhist.CLASS_NAMES[label], str(votes.item()), partition]
            seen[name] += 1
    assert seen == Counter(list(layout.files))  # each once


def test_the_order_of_the_rows_does_not_matter(layout):
    before = layout.load()
    layout.rows.reverse()
    layout.write_table()
    assert same(layout.load(), before)


def test_a_byte_order_mark_is_no_part_of_a_column(layout):
    table = layout.folder / "annotations.csv"
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
    assert len(layout.load().test) == TEST


def test_validation_images_are_training_images_with_the_shares_of_both_labels():
    """By the published numbers: 326 of 2,175, of which 630/2,175 are SSA; no test image."""
    rows = [
        mhist.Annotation(f"{partition}{label}{i}", int(label == "SSA"), 0, partition)
        for (partition, label), count in mhist.PUBLISHED.items()
        for i in range(count)
    ]
    found = mhist.split_rows(rows)
    assert {part: len(rows) for part, rows in found.items()} == {
        "train": 1849, "val": 326, "test": 977,
    }  # fmt: skip
    assert sum(row.label for row in found["val"]) == pytest.approx(326 * 630 / 2175, abs=1)
    assert {row.partition for row in found["train"] + found["val"]} == {"train"}
    assert {row.partition for row in found["test"]} == {"test"}
    assert len({row.image for part in found.values() for row in part}) == 3152


def test_of_three_training_images_one_validates(layout):
    layout.rows = [["MHIST_a.png", "HP", "0", "test"]]
    layout.rows += [[f"MHIST_{letter}.png", "SSA", "7", "train"] for letter in "bcd"]
    layout.files = {row[0]: layout.files[row[0]] for row in layout.rows}
    layout.write()
    assert [len(split) for split in parts(layout.load())] == [2, 1, 1]


@pytest.mark.parametrize("folder", ["images/", "", "deep/er/"])
def test_an_archive_is_read_as_it_is(layout, folder):
    unpacked = layout.load()
    layout.zip(
        ("__MACOSX/images/._MHIST_a.png", b"notes"), ("images/README.txt", b""), folder=folder
    )
    assert same(layout.load(), unpacked)
    assert not (layout.folder / "images").exists()


def test_the_operating_systems_notes_are_no_images(layout):
    (layout.folder / "images" / "._MHIST_a.png").write_bytes(b"notes")
    (layout.folder / "images" / "Thumbs.db").write_bytes(b"notes")
    assert len(layout.load().test) == TEST


@pytest.mark.parametrize(("mode", "channels"), [("L", [0, 0, 0]), ("RGBA", [0, 1, 2])])
def test_grey_and_transparent_images_become_three_channels(layout, mode, channels):
    rng = np.random.default_rng(1)
    shape = (SIZE, SIZE) if mode == "L" else (SIZE, SIZE, 4)
    pixels = rng.integers(0, 256, shape, dtype=np.uint8)
    name = next(row[0] for row in layout.rows if row[3] == "test")
    layout.files[name] = png(pixels)
    layout.write()
    expected = torch.from_numpy(np.atleast_3d(pixels)[:, :, channels]).permute(2, 0, 1)
    assert any(torch.equal(image, expected) for image in layout.load().test.images)


# Decoded once


def test_a_later_start_opens_no_image_and_hashes_each_pixel_once(layout, monkeypatch):
    first = layout.load()
    monkeypatch.setattr(mhist, "_pixels", None)
    monkeypatch.setattr(hashlib, "file_digest", None)
    second = layout.load()
    assert same(first, second)
    for split in parts(second):
        assert "fingerprint" in vars(split)  # computed to be compared, and then known
        assert split.fingerprint == Split(split.images, split.labels).fingerprint
    assert len({split.fingerprint for split in parts(second)}) == 3


def test_a_fingerprint_goes_no_further(layout):
    split = layout.load().train
    every = torch.arange(len(split))
    assert split.take(every).fingerprint == split.fingerprint
    for other in (split.take(every.flip(0)), replace(split, labels=1 - split.labels)):
        assert other.fingerprint == Split(other.images, other.labels).fingerprint
        assert other.fingerprint != split.fingerprint


def test_whoever_changes_an_image_does_not_change_the_file(layout):
    before = layout.load()
    pixel = before.train.images[0, 0, 0, 0].item()
    before.train.images[0, 0, 0, 0] = 255 - pixel
    assert layout.load().train.images[0, 0, 0, 0].item() == pixel


def test_a_changed_image_is_decoded_anew(layout):
    before = layout.load()
    name = layout.rows[0][0]
    layout.files[name] = png(255 - layout.pixels[name])
    layout.write()
    assert layout.load().fingerprint != before.fingerprint
    assert len(list(store_root().glob("decoded-*"))) == 2


def test_a_changed_table_is_noticed(layout):
    """Changed votes alone change no pixel, but they may be what MD5SUMs.txt would tell."""
    before = layout.load()
    row = next(row for row in layout.rows if row[2] == "6")
    row[2] = "7"
    layout.write_table()
    after = layout.load()
    assert after.fingerprint == before.fingerprint and not same(after, before)
    row[1:3] = "HP", "0"
    layout.write_table()
    assert layout.load().fingerprint != before.fingerprint
    assert len(list(store_root().glob("decoded-*"))) == 3


def test_another_size_is_not_taken_for_the_same(layout):
    layout.load()
    with pytest.raises(DataError, match="has 16×16 pixels instead of 32×32"):
        mhist.load_layout(layout.folder, "small", "", 2 * SIZE)


def flip(file, place):
    content = bytearray(file.read_bytes())
    content[place] ^= 4
    file.write_bytes(content)


def halve(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def change_a_vote(file):
    """Of which no fingerprint knows."""
    record = json.loads(file.read_text())
    votes = record["labels"]["train"][1]
    votes[0] = (votes[0] + 1) % 8
    file.write_text(json.dumps(record))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: change_a_vote(folder / "record.json"),
        lambda folder: halve(folder / "pixels.npy"),
        lambda folder: (folder / "pixels.npy").write_bytes(b""),
        lambda folder: (folder / "pixels.npy").write_bytes(b"PK\3\4 no array at all"),
        lambda folder: np.save(folder / "pixels.npy", np.zeros((23, 3, SIZE, SIZE), np.uint8)),
        lambda folder: np.save(folder / "pixels.npy", np.zeros((24, 3, SIZE, SIZE), np.int8)),
        lambda folder: np.save(folder / "pixels.npy", np.zeros((24, 3, 8, 8), np.uint8)),
        lambda folder: (folder / "pixels.npy").unlink(),
        lambda folder: halve(folder / "record.json"),
        lambda folder: (folder / "record.json").write_text("[]"),
        lambda folder: (folder / "record.json").write_text('{"fingerprints": {"train": "0"}}'),
        lambda folder: (folder / "record.json").unlink(),
        lambda folder: flip(folder / "pixels.npy", 128 + 5),
        lambda folder: flip(folder / "pixels.npy", -1),
        lambda folder: flip(folder / "record.json", -20),
    ],
)
def test_damaged_decoded_images_are_made_again(layout, damage):
    fingerprint = layout.load().fingerprint  # nothing that maps the file is kept: it is cut short
    damage(decoded())
    with pytest.warns(UserWarning, match=r"decoded-.* is damaged .*: the images are decoded again"):
        again = layout.load()
    for split in parts(again):
        assert split.fingerprint == Split(split.images, split.labels).fingerprint
    assert layout.load().fingerprint == fingerprint
    assert [path.name for path in store_root().iterdir()] == [decoded().name]


def test_nothing_is_written_beside_the_readers_files(layout):
    layout.zip()
    before = sorted(layout.folder.rglob("*"))
    layout.folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        layout.load()
    finally:
        layout.folder.chmod(stat.S_IRWXU)
    assert sorted(layout.folder.rglob("*")) == before


def test_without_a_place_for_decoded_images_it_says_so(layout, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KDNB_RUNS", str(tmp_path / "file" / "runs"))
    with pytest.raises(
        DataError, match=r"cannot write decoded-.*: set KDNB_RUNS to a writable folder"
    ):
        layout.load()


def test_ctrl_c_while_decoding_leaves_nothing(layout, monkeypatch):
    original, calls = mhist._pixels, []

    def stop(*arguments):
        calls.append(arguments)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(mhist, "_pixels", stop)
    with pytest.raises(KeyboardInterrupt):
        layout.load()
    assert list(store_root().iterdir()) == []
    monkeypatch.setattr(mhist, "_pixels", original)
    assert len(layout.load().test) == TEST


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_whole_and_replaces_what_was_there(tmp_path):
    folder = tmp_path / "new" / "place"
    with whole_folder(folder) as part:
        (part / "one").write_text("1")
        assert not folder.exists()
    assert names(folder) == [".kdnb", "one"]
    with whole_folder(folder) as part:
        (part / "two").write_text("2")
    assert names(folder) == [".kdnb", "two"]
    says = r"cannot write place to .*disk full.*set KDNB_RUNS"
    with pytest.raises(DataError, match=says), whole_folder(folder) as part:
        (part / "three").write_text("3")
        raise OSError("disk full")
    assert names(folder) == [".kdnb", "two"]
    assert names(folder.parent) == ["place"]


# What is refused: annotations.csv


def column(number, value):
    def change(layout):
        layout.rows[4][number] = value

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (column(1, "SSL"), "annotations.csv line 6: the label must be HP or SSA, got 'SSL'"),
        (column(1, ""), "line 6: the label must be HP or SSA, got ''"),
        (column(3, "val"), "line 6: the partition must be train or test, got 'val'"),
        (column(2, "8"), "line 6: votes must lie in 0..7, got '8'"),
        (column(2, "-1"), "line 6: votes must lie in 0..7, got '-1'"),
        (column(2, "four"), "line 6: votes must lie in 0..7, got 'four'"),
        (column(2, "4.0"), "line 6: votes must lie in 0..7, got '4.0'"),
        (column(0, "../MHIST_a.png"), "the image must be a file name, got '../MHIST_a.png'"),
        (column(0, "images\\MHIST_a.png"), "the image must be a file name, got 'images"),
        (column(0, "/MHIST_a.png"), "the image must be a file name, got '/MHIST_a.png'"),
        (column(0, ".."), "the image must be a file name, got '..'"),
        (column(0, ""), "the image must be a file name, got ''"),
        (lambda it: it.rows[4].pop(), "line 6 has more or fewer fields than the header"),
        (lambda it: it.rows[4].append("x"), "line 6 has more or fewer fields than the header"),
        (lambda it: it.rows.append(it.rows[0]), ".png 2 times"),
        (lambda it: it.rows.clear(), "0 training and 0 test images, too few"),
    ],
)
def test_a_bad_row_is_named(layout, change, says):
    change(layout)
    layout.write_table()
    assert says in layout.refused()


@pytest.mark.parametrize(("label", "votes"), [("SSA", "3"), ("HP", "4")])
def test_four_votes_are_the_majority(layout, label, votes):
    layout.rows[4][1:3] = [label, votes]
    layout.write_table()
    message = layout.refused()
    assert f"line 6: {votes} of 7 votes for SSA contradict the label {label}" in message


@pytest.mark.parametrize("number", range(4))
def test_a_missing_column_is_named(layout, number):
    name = layout.header[number]
    layout.header[number] = "something else"
    layout.write_table()
    assert f"annotations.csv lacks the column {name!r}" in layout.refused()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("Image Name;Größe".encode("latin-1"), "is not a table of UTF-8 text"),
        (b"", "lacks the column 'Image Name'"),
        (b"\x89PNG\r\n", "is not a table of UTF-8 text"),
    ],
)
def test_what_is_no_table(layout, content, says):
    (layout.folder / "annotations.csv").write_bytes(content)
    assert says in layout.refused()


def test_too_long_a_field(layout):
    layout.rows[4][0] = "x" * (csv.field_size_limit() + 1)
    layout.write_table()
    assert "is not a table of UTF-8 text: field larger" in layout.refused()


@pytest.mark.parametrize("partition", ["train", "test"])
def test_training_and_test_images_are_needed(layout, partition):
    for row in layout.rows:
        row[3] = partition
    layout.write_table()
    assert "too few" in layout.refused()


def test_a_table_that_is_not_there(layout):
    (layout.folder / "annotations.csv").unlink()
    assert "annotations.csv" in layout.refused()


# What is refused: images


def test_missing_images(layout):
    for name in ("MHIST_c.png", "MHIST_b.png"):
        (layout.folder / "images" / name).unlink()
    says = "annotations.csv names 2 images that are not there, the first is MHIST_b.png"
    assert says in layout.refused()


def test_images_without_a_row(layout):
    layout.rows = [row for row in layout.rows if row[0] != "MHIST_d.png"]
    layout.write_table()
    says = "annotations.csv does not name 1 images that are there, the first is MHIST_d.png"
    assert says in layout.refused()


def test_neither_images_nor_archive(layout):
    shutil.rmtree(layout.folder / "images")
    assert "there is neither images/ nor images.zip" in layout.refused()


def jpeg(content):
    file = io.BytesIO()
    Image.open(io.BytesIO(content)).save(file, "JPEG")
    return file.getvalue()


def flipped(at):
    def flip(content):
        changed = bytearray(content)
        changed[at] ^= 1
        return bytes(changed)

    return flip


# Cut short, empty, one bit of the header's length, of the next chunk's name and of the pixels.
DAMAGES = [lambda c: c[:-30], lambda c: b"", flipped(11), flipped(35), flipped(300), jpeg]


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_image_is_named(layout, damage, zipped):
    layout.files["MHIST_g.png"] = damage(layout.files["MHIST_g.png"])
    layout.write()
    if zipped:
        layout.zip()
    assert "MHIST_g.png cannot be read: " in layout.refused()


def test_a_huge_image_is_not_decoded(layout, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # fewer than half of 16 × 16
    assert ".png cannot be read: Image size (256 pixels) exceeds limit" in layout.refused()


def test_an_image_of_another_size_is_named(layout):
    layout.files["MHIST_g.png"] = png(np.zeros((SIZE, SIZE + 1, 3), np.uint8))
    layout.write()
    assert "MHIST_g.png has 17×16 pixels instead of 16×16" in layout.refused()


# What is refused: images.zip


@pytest.mark.parametrize(
    "entry",
    ["/images/x.png", "images/../../x.png", "C:/images/x.png", "images\\x.png", "../notes.txt"],
)
def test_a_path_that_leaves_the_archive(layout, entry):
    layout.zip((entry, b""))
    assert f"images.zip holds a path or link outside it: {entry!r}" in layout.refused()


def test_a_link_in_the_archive(layout):
    link = zipfile.ZipInfo("images/x.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    layout.zip((link, "/etc/passwd"))
    assert "images.zip holds a path or link outside it: 'images/x.png'" in layout.refused()


def test_an_image_twice_in_the_archive(layout):
    layout.zip(("other/MHIST_a.png", layout.files["MHIST_b.png"]))
    assert "images.zip holds MHIST_a.png more than once" in layout.refused()


@pytest.mark.parametrize("cut", [0, 10, -10, 2000])
def test_a_truncated_archive(layout, cut):
    layout.zip(cut=cut)
    assert "images.zip is damaged: " in layout.refused()


def test_a_page_instead_of_the_archive(layout):
    layout.zip()
    (layout.folder / "images.zip").write_text("<html>Please log in</html>")
    assert "images.zip is damaged: File is not a zip file" in layout.refused()


def test_damage_inside_the_archive_is_noticed(layout):
    """By the CRC-32 that the archive keeps of each file."""
    layout.zip()
    archive = layout.folder / "images.zip"
    content = bytearray(archive.read_bytes())
    start = content.index(b"MHIST_k.png")
    content[start + 300] ^= 8
    archive.write_bytes(content)
    assert "MHIST_k.png cannot be read: " in layout.refused()


# MD5SUMs.txt


def write_sums(layout, names, line="{md5}  {name}", changed=()):
    lines = []
    for name in names:
        path = layout.folder / name
        content = path.read_bytes() if path.is_file() else b""
        lines.append(line.format(md5=hashlib.md5(content).hexdigest(), name=name))
    (layout.folder / "MD5SUMs.txt").write_text("\n".join([*lines, ""]))


@pytest.mark.parametrize("line", ["{md5}  {name}", "{md5} *{name}", "MD5 ({name}) = {md5}"])
@pytest.mark.parametrize("name", ["annotations.csv", "images.zip"])
def test_sums_are_compared_before_anything_is_decoded(layout, line, name, monkeypatch):
    layout.zip()
    write_sums(layout, ["annotations.csv", "images.zip"], line)
    assert len(layout.load().test) == TEST
    shutil.rmtree(store_root())
    monkeypatch.setattr(mhist, "_pixels", None)
    path = layout.folder / name
    if name == "annotations.csv":
        path.write_bytes(path.read_bytes() + b"\r\n")  # a blank line is no row
    else:
        layout.zip(("images/README.txt", b""))
    found = hashlib.md5(path.read_bytes()).hexdigest()
    assert f"{name} has MD5 {found} where MD5SUMs.txt says " in layout.refused()


def test_sums_of_single_images(layout):
    write_sums(layout, ["images/MHIST_a.png", "images.zip"])  # there is no images.zip any more
    assert len(layout.load().test) == TEST
    shutil.rmtree(store_root())
    (layout.folder / "images" / "MHIST_a.png").write_bytes(layout.files["MHIST_b.png"])
    assert "images/MHIST_a.png has MD5" in layout.refused()


def test_sums_that_are_none(layout):
    (layout.folder / "MD5SUMs.txt").write_text("\n<html>Please log in</html>\n")
    assert "MD5SUMs.txt line 2 is not an MD5 and a file" in layout.refused()


# MHIST itself


def test_without_mhist_it_says_how_to_get_it(tmp_path):
    with pytest.raises(DataError, match=r"MHIST is not in .*mhist: .*agreement; data/README.md"):
        data.load("mhist", tmp_path)


def test_what_was_published_must_be_there(layout, monkeypatch):
    assert sum(mhist.PUBLISHED.values()) == 3152  # Wei et al. 2021
    monkeypatch.setattr(mhist, "SIZE", SIZE)
    with pytest.raises(DataError) as error:
        data.load("mhist", layout.folder.parent)
    assert "annotations.csv has 12 train images of HP where 1,545 were published" in str(
        error.value
    )
    # 20 training images with votes 0 to 7 in turn: 12 have fewer than four; of the last four, none.
    counts = {("train", "HP"): 12, ("train", "SSA"): 8, ("test", "HP"): 0, ("test", "SSA"): 4}
    monkeypatch.setattr(mhist, "PUBLISHED", counts)
    monkeypatch.setenv("KDNB_DATA", str(layout.folder.parent))
    assert data.load("mhist").test.labels.tolist() == [1, 1, 1, 1]


def test_the_doctor_looks_whether_mhist_is_there(tmp_path, monkeypatch):
    monkeypatch.setenv("KDNB_DATA", str(tmp_path))
    folder = tmp_path / "mhist"
    finding = doctor.examine("mhist")[0]
    assert not finding.ok and "annotations.csv and images.zip missing" in finding.found
    assert "data/README.md" in finding.remedy and finding.name in doctor.OPTIONAL
    folder.mkdir()
    (folder / "annotations.csv").write_text("")
    finding = doctor.examine("mhist")[0]
    assert not finding.ok and finding.found.startswith("images.zip missing in")
    (folder / "images.zip").write_bytes(b"never opened")
    assert doctor.examine("mhist")[0].ok
    (folder / "images.zip").unlink()
    (folder / "images").mkdir()
    assert doctor.examine("mhist")[0].ok
    monkeypatch.setitem(doctor.CHECKS, "torchvision import", (str, ""))  # which takes seconds
    assert "mhist" in [finding.name for finding in doctor.examine()]


@pytest.mark.skipif(
    not os.access(data_root() / "mhist" / "annotations.csv", os.R_OK),
    reason="the real MHIST is not on this machine",
)
def test_real_mhist():
    loaded = data.load("mhist")
    assert [len(split) for split in parts(loaded)] == [1849, 326, 977]
    # How many images got 0 to 7 votes, counted in the authors' file.
    train = torch.cat([loaded.train.subclasses, loaded.val.subclasses]).bincount()
    assert train.tolist() == [537, 497, 302, 209, 151, 106, 154, 219]
    counts = [186, 208, 124, 99, 65, 62, 96, 137]
    assert loaded.test.subclasses.bincount().tolist() == counts
