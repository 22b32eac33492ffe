"""Datasets: what is loaded is what it says it is, and what cannot be used is refused by name."""

import gzip
import hashlib
import os
import struct
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from kdnb import data
from kdnb.data import DataError, Dataset, Split, mnist, mnist_small
from kdnb.data.augmentation import TranslatedImages, random_affine, translations
from kdnb.data.dataset import stratified_indices
from kdnb.tasks import task

REAL = Path(os.environ.get("KDNB_DATA", "data"))
real_mnist = pytest.mark.skipif(
    not (REAL / "MNIST/raw").is_dir(), reason="the real MNIST is not on this machine"
)


def test_mnist_small_is_embedded(tmp_path, monkeypatch):
    monkeypatch.setenv("KDNB_DATA", str(tmp_path))  # no file of MNIST's is there
    digits = data.load("mnist-small")
    assert [len(s) for s in (digits.train, digits.val, digits.test)] == [5_000, 1_000, 10_000]
    assert digits.train.images.shape == (5_000, 1, 28, 28)
    # Counts of the test digits 0-9 as published with the dataset.
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert torch.bincount(digits.test.labels).tolist() == counts
    # Published counts of the training digits: the parts have their shares, to one image.
    published = torch.tensor([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])
    for split, size in ((digits.train, 5_000), (digits.val, 1_000)):
        shares = torch.bincount(split.labels) - size * published / 60_000
        assert shares.abs().max() <= 1
    assert data.load("mnist-small").fingerprint == digits.fingerprint
    kept = mnist_small.FILE
    assert kept.stat().st_size < 3e6
    assert "Share Alike 3.0" in kept.with_suffix(".LICENSE.txt").read_text(encoding="utf-8")


@real_mnist
def test_mnist_small_and_its_audit_are_parts_of_mnist(tmp_path):
    """The same file is made again, and the three parts of the training images are disjoint."""
    mnist_small.embed(tmp_path / "again.npz", REAL)
    digits, audit = data.load("mnist-small"), mnist_small.audit(REAL)
    with np.load(tmp_path / "again.npz") as again, np.load(mnist_small.FILE) as kept:
        assert all((again[name] == kept[name]).all() for name in ("images", "labels"))
    train, test = mnist.published_splits(REAL)
    assert test.fingerprint == digits.test.fingerprint
    parts = stratified_indices(train.labels, (5_000, 1_000, 40_000), 0)
    assert len(torch.cat(parts).unique()) == 46_000
    for part, split in zip(parts, (digits.train, digits.val, audit), strict=True):
        assert train.take(part).fingerprint == split.fingerprint


def test_two_classes_of_five_hidden_digits():
    digits, halves = data.load("mnist-small"), data.load("mnist-small-2x5")
    assert halves.class_names == ("0-4", "5-9") and halves.subclass_names == digits.class_names
    for part in ("train", "val", "test"):
        ten, two = getattr(digits, part), getattr(halves, part)
        assert torch.equal(ten.images, two.images) and torch.equal(ten.labels, two.subclasses)
        assert torch.equal(two.labels, (ten.labels > 4).long())
        assert two.take(torch.tensor([4, 2])).subclasses.tolist() == ten.labels[[4, 2]].tolist()
    assert halves.fingerprint != digits.fingerprint
    assert digits.train.subclasses is None


def test_hidden_subclasses_are_no_part_of_what_a_model_learns_from():
    """The fingerprint is of images and labels: with other subclasses a run is the same run."""
    split = data.load("mnist-small-2x5").test
    other = Split(split.images, split.labels, subclasses=split.subclasses.flip(0))
    assert other.fingerprint == split.fingerprint
    with pytest.raises(DataError, match="10000 labels but 9999 subclasses"):
        Split(split.images, split.labels, subclasses=split.subclasses[1:])


def test_stratified_indices_keep_shares_and_do_not_overlap():
    labels = torch.tensor([0] * 70 + [1] * 20 + [2] * 10)
    first, second = stratified_indices(labels, (40, 50), seed=3)
    assert not set(first.tolist()) & set(second.tolist())
    assert torch.bincount(labels[first]).tolist() == pytest.approx([28, 8, 4], abs=1)
    again, _ = stratified_indices(labels, (40, 50), seed=3)
    assert torch.equal(first, again)
    (smaller,) = stratified_indices(labels, (10,), seed=3)
    assert set(smaller.tolist()) <= set(first.tolist())


def test_students_see_as_many_of_each_digit():
    digits = data.load("mnist-small")
    seen = task("mnist-small").transfer_set(digits)
    shares = torch.bincount(digits.train.labels) * len(seen) / len(digits.train)
    assert len(seen) == 500 and (torch.bincount(seen.labels) - shares).abs().max() <= 1


def test_fingerprint_notices_one_pixel(tiny):
    images = tiny.train.images.clone()
    images[5, 0, 3, 3] += 1
    changed = Split(images, tiny.train.labels)
    assert changed.fingerprint != tiny.train.fingerprint
    relabelled = Split(tiny.train.images, tiny.train.labels.flip(0))
    assert relabelled.fingerprint != tiny.train.fingerprint


def test_bad_splits_are_refused(tiny):
    with pytest.raises(DataError, match="empty split"):
        Split(torch.zeros(0, 1, 28, 28, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(DataError, match="96 images but 95 labels"):
        Split(tiny.train.images, tiny.train.labels[:-1])
    with pytest.raises(DataError, match=r"images must be uint8 .* got torch.float32"):
        Split(tiny.train.images.float(), tiny.train.labels)
    with pytest.raises(DataError, match=r"labels of small train must lie in 0..1, got 0..3"):
        Dataset("small", "", ("a", "b"), tiny.train, tiny.val, tiny.test)
    with pytest.raises(DataError, match="unknown dataset 'cifar'"):
        data.load("cifar")


# Views


def test_the_first_view_is_the_image_itself(tiny):
    shifted = TranslatedImages(tiny.train.images, 2)
    assert len(shifted.names) == len(set(shifted.names)) == 25 and translations(2)[0] == (0, 0)
    index = torch.arange(len(tiny.train))
    batch = shifted.batch(index, torch.zeros_like(index))
    assert torch.equal((batch * 255).round().to(torch.uint8), tiny.train.images)


def test_every_view_moves_down_and_right():
    """Against torch.roll on an image whose margin is black, so that nothing wraps around."""
    image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    image[0, 0, 5:20, 7:18] = torch.randint(1, 255, (15, 11), dtype=torch.uint8)
    shifted = TranslatedImages(image, 2)
    for view, (down, right) in enumerate(translations(2)):
        got = shifted.batch(torch.tensor([0]), torch.tensor([view]))
        expected = torch.roll(image, (down, right), dims=(2, 3)).float() / 255
        assert torch.equal(got, expected), (down, right)


def test_what_leaves_the_image_is_gone():
    image = torch.full((1, 1, 4, 4), 255, dtype=torch.uint8)
    view = translations(1).index((1, 0))  # one pixel down
    got = TranslatedImages(image, 1).batch(torch.tensor([0]), torch.tensor([view]))
    assert torch.equal(got[0, 0], torch.tensor([[0.0] * 4] + [[1.0] * 4] * 3))


@pytest.mark.parametrize("translate", [-1, 0.5])
def test_bad_translation(translate):
    with pytest.raises(ValueError, match="translate must be a whole number of pixels"):
        translations(translate)


# MNIST: torchvision's layout, in small


def idx(array: torch.Tensor) -> bytes:
    """IDX: two zero bytes, type 8 (unsigned byte), number of dimensions, sizes, then the bytes."""
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.to(torch.uint8).numpy().tobytes()


@pytest.fixture
def small_mnist(monkeypatch):
    """Files of MNIST's names and format, 300 + 50 images; the loader expects exactly these."""
    generator = torch.Generator().manual_seed(0)
    contents = {}
    for part, count in (("train", 300), ("t10k", 50)):
        images = torch.randint(256, (count, 28, 28), generator=generator)
        contents[f"{part}-images-idx3-ubyte"] = idx(images)
        contents[f"{part}-labels-idx1-ubyte"] = idx(torch.arange(count) % 10)
    files = {n: (len(c), hashlib.sha256(c).hexdigest()) for n, c in contents.items()}
    monkeypatch.setattr(mnist, "FILES", files)
    monkeypatch.setattr(mnist, "VAL", 60)
    return contents


@pytest.fixture
def mnist_root(small_mnist, tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in small_mnist.items():
        (raw / name).write_bytes(content)
    return tmp_path


@pytest.fixture
def mirror(small_mnist, tmp_path, monkeypatch):
    """torchvision's download, pointed at a server on this machine that holds the small files."""
    from kdnb.torchvision_remedy import import_torchvision

    folder = tmp_path / "mirror"
    folder.mkdir()
    resources = []
    for name, content in small_mnist.items():
        packed = gzip.compress(content)
        (folder / f"{name}.gz").write_bytes(packed)
        resources.append((f"{name}.gz", hashlib.md5(packed).hexdigest()))
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    loader = import_torchvision().datasets.MNIST
    monkeypatch.setattr(loader, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setattr(loader, "resources", resources)
    yield folder
    server.shutdown()
    server.server_close()


def test_mnist_reads_torchvisions_layout(mnist_root, small_mnist):
    loaded = data.load("mnist", mnist_root)
    assert [len(s) for s in (loaded.train, loaded.val, loaded.test)] == [240, 60, 50]
    assert loaded.test.labels.tolist() == [i % 10 for i in range(50)]
    first = small_mnist["t10k-images-idx3-ubyte"][16 : 16 + 784]
    assert bytes(loaded.test.images[0].flatten().tolist()) == first
    # Images keep their labels through the split: find each training image among the originals.
    originals = small_mnist["train-images-idx3-ubyte"][16:]
    for image, label in zip(loaded.val.images, loaded.val.labels, strict=True):
        position = originals.index(bytes(image.flatten().tolist())) // 784
        assert position % 10 == label


def test_mnist_agrees_with_torchvision(mnist_root):
    from kdnb.torchvision_remedy import import_torchvision

    theirs = import_torchvision().datasets.MNIST(mnist_root, train=False, download=False)
    ours = data.load("mnist", mnist_root).test
    assert torch.equal(ours.images[:, 0], theirs.data)
    assert torch.equal(ours.labels, theirs.targets)


def test_mnist_from_the_environment(mnist_root, monkeypatch):
    monkeypatch.setenv("KDNB_DATA", str(mnist_root))
    assert len(data.load("mnist").test) == 50


def test_truncated_file(mnist_root, small_mnist):
    name = "train-images-idx3-ubyte"
    (mnist_root / "MNIST/raw" / name).write_bytes(small_mnist[name][:1000])
    with pytest.raises(DataError, match=rf"{name} is truncated: 1000 of 235216 bytes; delete"):
        data.load("mnist", mnist_root)


def test_corrupt_file(mnist_root, small_mnist):
    name = "t10k-labels-idx1-ubyte"
    content = bytearray(small_mnist[name])
    content[20] ^= 1
    (mnist_root / "MNIST/raw" / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name} is corrupt: its SHA-256 starts with .*; delete"):
        data.load("mnist", mnist_root)


def test_missing_files_are_downloaded(mirror, tmp_path):
    root = tmp_path / "fresh"
    assert len(data.load("mnist", root).train) == 240
    assert not mnist.missing_files(root / "MNIST" / "raw")


def test_one_missing_file_is_downloaded(mirror, mnist_root):
    name = "t10k-labels-idx1-ubyte"
    (mnist_root / "MNIST/raw" / name).unlink()
    assert data.load("mnist", mnist_root).test.labels.tolist() == [i % 10 for i in range(50)]


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-images-idx3-ubyte"])
@pytest.mark.parametrize("content", [b"", b"their own digits"])
def test_a_download_overwrites_no_file_that_is_another(mirror, mnist_root, name, content):
    raw = mnist_root / "MNIST/raw"
    (raw / "t10k-labels-idx1-ubyte").unlink()
    (raw / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name} is truncated: {len(content)} of"):
        data.load("mnist", mnist_root)
    assert (raw / name).read_bytes() == content


def test_without_a_network_it_says_so(mirror, tmp_path):
    for file in mirror.iterdir():
        file.unlink()
    with pytest.raises(DataError) as error:
        data.load("mnist", tmp_path / "none")
    message = str(error.value)
    assert "could not be downloaded" in message and "set KDNB_DATA" in message
    assert "train-images-idx3-ubyte" in message and "\n" not in message


@real_mnist
def test_real_mnist():
    loaded = data.load("mnist", REAL)
    assert [len(s) for s in (loaded.train, loaded.val, loaded.test)] == [55_000, 5_000, 10_000]
    # Counts of the test digits 0-9 as published with the dataset.
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert torch.bincount(loaded.test.labels).tolist() == counts
    # Mean and deviation of all training pixels: the well-known 0.1307 and 0.3081.
    pixels = torch.cat([loaded.train.images, loaded.val.images]).double() / 255
    assert pixels.mean().item() == pytest.approx(0.1307, abs=5e-5)
    assert pixels.std().item() == pytest.approx(0.3081, abs=5e-5)


def test_warping_by_nothing_changes_nothing():
    images = torch.rand(5, 1, 28, 28)
    torch.testing.assert_close(random_affine(images, 0.0), images, atol=1e-5, rtol=0)


def test_warped_images_differ_and_keep_their_middle():
    """A disc about the centre stays there: no translation. A bar turns by up to about 10°."""
    y, x = torch.meshgrid(torch.arange(28.0) - 13.5, torch.arange(28.0) - 13.5, indexing="ij")
    disc = ((x**2 + y**2) < 36).float().expand(200, 1, 28, 28)
    torch.manual_seed(0)
    seen = random_affine(disc, 0.2)[:, 0]
    mass = seen.sum((1, 2))
    assert ((seen * x).sum((1, 2)) / mass).abs().max() < 0.05
    assert ((seen * y).sum((1, 2)) / mass).abs().max() < 0.05
    # Determinants from 0.8² − 0.2² to 1.2² + 0.2²: areas between 1/1.48 and 1/0.6 of the disc's.
    ratio = mass / disc[0].sum()
    assert ratio.min() > 1 / 1.48 - 0.05 and ratio.max() < 1 / 0.6 + 0.05
    assert ratio.std() > 0.1
    bar = ((x.abs() < 1.5) & (y.abs() < 10)).float().expand(200, 1, 28, 28)
    upper = random_affine(bar, 0.2)[:, 0, :10]
    lean = ((upper * x[:10]).sum((1, 2)) / upper.sum((1, 2))).abs() / 7  # about tan of the angle
    assert 0.15 < lean.max() < 0.35
