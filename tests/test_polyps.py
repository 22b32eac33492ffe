"""The generated stand-in for MHIST: the same layout, the same votes, and pictures that differ."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from kdnb import data
from kdnb.data import DataError, mhist, polyps
from kdnb.files import store_root

SMALL = {"train": 60, "test": 20, "size": 24}


def only_folder(pattern):
    (folder,) = store_root().glob(pattern)
    return folder


def test_it_has_mhists_layout():
    loaded = polyps.load(**SMALL)
    folder = only_folder("polyps-*")
    assert folder.name.startswith("polyps-60-20-24px-seed0")
    assert sorted(path.name for path in folder.iterdir()) == [
        ".kdnb",
        "MD5SUMs.txt",
        "annotations.csv",
        "images",
    ]
    with (folder / "annotations.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == list(mhist.COLUMNS) and len(rows) == 80
    assert rows != sorted(rows)  # MHIST's are in no order
    with Image.open(folder / "images" / rows[0][0]) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (24, 24))
    splits = loaded.train, loaded.val, loaded.test
    assert [len(split) for split in splits] == [51, 9, 20]  # 15 % of 60 validate
    for split in splits:
        assert torch.equal(split.labels, (split.subclasses >= 4).long())
    assert loaded.subclass_names[5] == "5 of 7"


def test_it_says_that_it_is_generated():
    loaded = polyps.load(**SMALL)
    assert "80 generated pictures of 24×24 pixels" in loaded.about
    assert "no tissue, no patient, no medical meaning" in loaded.about


def test_the_full_size_is_mhists():
    numbers = data.LOADERS["polyps-224"].keywords
    of = {
        part: sum(count for (partition, _), count in mhist.PUBLISHED.items() if partition == part)
        for part in ("train", "test")
    }
    assert numbers == {**of, "size": 224}
    assert data.LOADERS["polyps"] == polyps.load


def test_the_name_tells_the_size(monkeypatch):
    monkeypatch.setattr(polyps, "SIZE", 24)
    assert polyps.load(**SMALL).name == "polyps"
    assert polyps.load(**SMALL | {"size": 32}).name == "polyps-32"


def test_it_is_drawn_once(monkeypatch):
    first = polyps.load(**SMALL)
    monkeypatch.setattr(polyps, "draw", None)
    assert polyps.load(**SMALL).fingerprint == first.fingerprint


def test_the_same_arguments_draw_the_same_pixels(tmp_path, monkeypatch):
    """On every machine. When this changes on purpose, raise `polyps.DRAWING`."""
    monkeypatch.setenv("KDNB_RUNS", str(tmp_path / "elsewhere"))
    fingerprint = polyps.load(**SMALL).fingerprint
    assert (polyps.DRAWING, fingerprint[:16]) == (3, "a170c9933da699b9")
    assert polyps.load(**SMALL, seed=1).fingerprint != fingerprint


def test_a_picture_depends_on_no_other():
    """But for its severity, which is drawn for all images together."""
    polyps.load(**SMALL)
    severity, votes = polyps.annotate(80, np.random.default_rng((0, 0)))
    images = only_folder("polyps-*") / "images"
    for i in (41, 3):
        alone = polyps.draw(severity[i], 24, np.random.default_rng((0, i + 1)))
        with Image.open(images / f"POLYP_{i:05d}.png") as image:
            assert np.array_equal(np.asarray(image), alone)
    assert votes.min() == 0 and votes.max() == 7


def test_annotators_disagree_about_as_often_as_mhists():
    """Shares of 0 to 7 votes among MHIST's training images, within 6 points; SSA 29 %, within 5."""
    published = np.array([537, 497, 302, 209, 151, 106, 154, 219]) / 2175
    shares = []
    for seed in range(20):
        _, votes = polyps.annotate(2_000, np.random.default_rng((seed, 0)))
        shares.append(np.bincount(votes, minlength=8) / 2_000)
    share = np.mean(shares, axis=0)
    assert np.abs(share - published).max() < 0.06
    assert share[4:].sum() == pytest.approx(630 / 2175, abs=0.05)


def test_what_means_nothing_tells_nothing():
    """What varies is independent of the severity: |r| < 4 / √2,000."""
    severity, votes = polyps.annotate(2_000, np.random.default_rng((0, 0)))
    looks = [polyps.random_look(np.random.default_rng((0, i + 1))) for i in range(2_000)]
    for values in zip(*looks, strict=True):
        assert np.std(values) > 0.07 * np.mean(values)
        for meaningful in (severity, votes):
            assert abs(np.corrcoef(values, meaningful)[0, 1]) < 4 / 2_000**0.5


def hollow_share(pixels):
    """Of the picture, how much is nearly white."""
    return (pixels.min(axis=-1) > 200).mean()


def raggedness(pixels):
    """Length of the hollows' edges in roots of their area: a matter of shape, not of size."""
    hollow = pixels.min(axis=-1) > 200
    edges = (hollow[1:] != hollow[:-1]).sum() + (hollow[:, 1:] != hollow[:, :-1]).sum()
    return edges / hollow.sum() ** 0.5


def test_severity_is_seen_in_shapes_and_not_in_colours():
    """White areas and mean brightness hardly change with it."""
    drawn = [
        [polyps.draw(s, 96, np.random.default_rng((5, i))) for i in range(16)] for s in (0, 0.5, 1)
    ]
    ragged = [np.mean([raggedness(p) for p in pictures]) for pictures in drawn]
    assert 0 < ragged[0] < 0.75 * ragged[1] and ragged[1] < 0.8 * ragged[2]
    shares = [np.mean([hollow_share(p) for p in pictures]) for pictures in drawn]
    assert max(shares) < 1.25 * min(shares)
    means = [np.mean([p.mean() for p in pictures]) for pictures in drawn]
    assert max(means) < 1.01 * min(means)


@pytest.mark.slow
def test_the_classes_differ_in_shape_and_overlap():
    loaded = polyps.load(train=200, test=40, size=64)
    pixels = loaded.train.images.permute(0, 2, 3, 1).numpy()
    is_ssa = loaded.train.labels.bool().numpy()

    def area_under_roc(values):
        """Probability that an SSA has more of it than an HP."""
        return (values[is_ssa][:, None] > values[~is_ssa]).mean()

    assert 0.75 < area_under_roc(np.array([raggedness(image) for image in pixels])) < 0.95
    assert 0.35 < area_under_roc(np.array([hollow_share(image) for image in pixels])) < 0.65


def test_the_colours_are_those_of_the_two_stains():
    """Pink to violet: green is what both stains swallow most (Ruifrok & Johnston 2001)."""
    for i in range(8):
        picture = polyps.draw(0.4, 64, np.random.default_rng((6, i))).astype(float)
        red, green, blue = picture.mean((0, 1))
        assert green < 0.85 * min(red, blue)
        nuclei = picture[picture[..., 0] < np.quantile(picture[..., 0], 0.02)].mean(0)
        assert nuclei[2] > nuclei[0] > nuclei[1]  # haematoxylin lets blue through


def test_unstained_is_nearly_white():
    assert 230 < polyps.draw(1.0, 64, np.random.default_rng(0)).min(-1).max() <= polyps.LIGHT


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"train": 19}, "train must be a whole number of at least 20, got 19"),
        ({"test": 0}, "test must be a whole number of at least 4, got 0"),
        ({"size": 15}, "size must be a whole number of at least 16, got 15"),
        ({"size": 64.0}, "size must be a whole number of at least 16, got 64.0"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
    ],
)
def test_bad_arguments(options, says):
    with pytest.raises(DataError, match=says):
        polyps.load(**options)
    assert not store_root().exists()


def test_the_smallest_that_is_allowed_works():
    loaded = polyps.load(**polyps.SMALLEST)
    assert len(loaded.test) == polyps.SMALLEST["test"]


def test_ctrl_c_while_drawing_leaves_nothing(monkeypatch):
    original, calls = polyps.draw, []

    def stop(*arguments):
        calls.append(arguments)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(polyps, "draw", stop)
    with pytest.raises(KeyboardInterrupt):
        polyps.load(**SMALL)
    assert list(store_root().iterdir()) == []


def test_without_a_place_for_pictures_it_says_so(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KDNB_RUNS", str(tmp_path / "file" / "runs"))
    with pytest.raises(DataError, match="set KDNB_RUNS to a writable folder"):
        polyps.load(**SMALL)


def test_damaged_pictures_are_drawn_again_once_they_are_deleted():
    before = polyps.load(**SMALL)
    folder = only_folder("polyps-*")
    (folder / "images" / "POLYP_00007.png").write_bytes(b"")
    with pytest.raises(DataError) as error:
        polyps.load(**SMALL)
    message = str(error.value)
    assert str(folder) in message and "images/POLYP_00007.png has MD5" in message
    assert message.endswith("delete that folder, and the pictures are drawn again")
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
    assert polyps.load(**SMALL).fingerprint == before.fingerprint


def test_a_sample_is_of_pictures_in_no_dataset():
    sample = polyps.sample(count=6, size=24)
    assert sample.shape == (6, 3, 24, 24) and sample.dtype == torch.float32
    assert 0 <= sample.min() < 0.6 and 0.8 < sample.max() <= 1
    assert torch.equal(sample, polyps.sample(count=6, size=24))
    loaded = polyps.load(**SMALL)
    known = torch.cat([loaded.train.images, loaded.val.images, loaded.test.images]).float() / 255
    assert not any(torch.equal(one, other) for one in sample for other in known)
