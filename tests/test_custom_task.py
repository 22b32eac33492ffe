"""The reader's own data and networks: a task in a few lines, or one sentence why not."""

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from kdnb import maintenance, tasks
from kdnb.__main__ import main
from kdnb.data import DataError, ImageFolder, ImageTensors
from kdnb.data.custom.splits import drawn
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import ALONE, conventional, subclass
from kdnb.tasks.config import COURSE, TWO_CLASSES, Task
from kdnb.tasks.custom import custom_task
from kdnb.tasks.mnist_small import MNIST_SMALL
from kdnb.tasks.trial import Contiguous
from kdnb.training.config import TrainConfig

ROOT = Path(__file__).parents[1]
CLASSES = ("<i>blue & co", "green", "red $x$")
QUICK = TrainConfig(epochs=2, batch_size=16, learning_rate=1e-2)


def picture(c: int, i: int, size: tuple[int, int] = (20, 16)) -> Image.Image:
    """Noise in which the channel of class ``c`` is brighter."""
    pixels = np.random.default_rng((c, i)).integers(0, 120, (*size, 3))
    pixels[..., 2 - c] += 100
    return Image.fromarray(pixels.astype(np.uint8))


def fill(folder: Path, classes=CLASSES, images: int = 10, first: int = 0) -> Path:
    """Images of each class, of which number ``first`` is the first: no two are alike."""
    for c, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(images):
            picture(c, first + i).save(folder / name / f"{i}.{'png' if i % 2 else 'jpeg'}")
    return folder


@pytest.fixture
def flowers(tmp_path) -> Path:
    return fill(tmp_path / "flowers")


def small(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(48, num_classes))


def fixed() -> nn.Module:
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(12, 3))


class Flattening(nn.Module):
    """As many write it: `Tensor.view`, which channels_last does not bear, and batch-norm."""

    def __init__(self, num_classes, subclasses=1):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.output = nn.Linear(4 * 14 * 14, num_classes * subclasses)

    def forward(self, x):
        x = self.layers(x)
        return self.output(x.view(x.size(0), -1))


def flower_task(folder: Path, teacher=Flattening, student=small, **settings) -> Task:
    return custom_task("flowers", ImageFolder(folder, size=16), teacher, student, **settings)


# Data


def test_a_folder_becomes_three_splits_with_every_class(flowers):
    data = ImageFolder(flowers, size=16)()
    # 10 images a class: 15 % is 1.5, which rounds to the even 2, for validation and for testing.
    assert [len(s) for s in (data.train, data.val, data.test)] == [18, 6, 6]
    for split in (data.train, data.val, data.test):
        assert split.labels.unique().tolist() == [0, 1, 2]
        assert split.images.shape[1:] == (3, 16, 16)
        brightest = split.images.float().mean((2, 3)).argmax(1)
        assert torch.equal(brightest, 2 - split.labels)  # each image kept its label
    assert data.class_names == ("<i>blue & co", "green", "red ·x·")
    assert "30 images in 3 classes from the folder flowers" in data.about


def test_the_middle_is_kept_and_grey_has_one_channel(tmp_path):
    folder = fill(tmp_path / "wide", images=3)
    wide = np.zeros((16, 48), dtype=np.uint8)
    wide[:, 16:32] = 200
    Image.fromarray(wide).save(folder / "green" / "0.jpeg".replace("jpeg", "png"))
    data = ImageFolder(folder, size=16, grey=True)()
    every = torch.cat([data.train.images, data.val.images, data.test.images])
    assert every.shape[1:] == (1, 16, 16)
    assert (every == 200).flatten(1).all(1).any()


def test_the_splits_of_the_folder_are_taken_and_the_missing_one_is_drawn(tmp_path):
    root = tmp_path / "split"
    fill(root / "train", images=10)
    fill(root / "test", images=4, first=10)
    data = ImageFolder(root, size=16)()
    assert [len(s) for s in (data.train, data.val, data.test)] == [24, 6, 12]
    fill(root / "val", images=3, first=14)
    data = ImageFolder(root, size=16)()
    assert [len(s) for s in (data.train, data.val, data.test)] == [30, 9, 12]


def test_pixels_are_decoded_once_and_again_when_a_file_changes(flowers, monkeypatch):
    first = ImageFolder(flowers, size=16)()
    from kdnb.data.custom import pixels
    from kdnb.data.custom import sources as own

    own._read.cache_clear()
    opened = []
    original = pixels._opened
    monkeypatch.setattr(pixels, "_opened", lambda *a: opened.append(a) or original(*a))
    again = ImageFolder(flowers, size=16)()
    assert again.fingerprint == first.fingerprint and not opened
    picture(0, 99).save(flowers / "green" / "1.png")
    assert ImageFolder(flowers, size=16)().fingerprint != first.fingerprint
    assert len(opened) == 30


@pytest.mark.parametrize("name", ["pixels.npy", "record.json"])
def test_damaged_pixels_are_named_and_decoded_again(flowers, store, monkeypatch, name):
    from kdnb.data.custom import sources as own

    monkeypatch.setenv("KDNB_RUNS", str(store.root))
    whole = ImageFolder(flowers, size=16)().fingerprint
    (kept,) = store.root.glob("pixels-*")
    content = bytearray((kept / name).read_bytes())
    content[len(content) // 2] ^= 1
    (kept / name).write_bytes(content)
    own._read.cache_clear()
    assert [item.path for item, _ in maintenance.problems(store)] == [kept]
    assert [item.path for item, _ in maintenance.superfluous(store)] == [kept]
    with pytest.warns(UserWarning, match="pixels-.* is damaged"):
        assert ImageFolder(flowers, size=16)().fingerprint == whole
    assert not list(maintenance.problems(store))


def test_tensors_are_split_alike(flowers):
    labels = torch.arange(3).repeat(10)
    images = torch.randint(0, 255, (30, 1, 12, 14), dtype=torch.uint8)
    data = ImageTensors(images, labels, ("a", "b", "c"))()
    assert [len(s) for s in (data.train, data.val, data.test)] == [18, 6, 6]
    train, val, test = drawn(labels, (0.15, 0.15), 0)
    assert torch.equal(data.test.images, images[test])
    assert sorted(torch.cat([train, val, test]).tolist()) == list(range(30))
    assert torch.equal(drawn(labels, (0.15, 0.15), 0)[0], train)


def spoil(folder: Path, how: str) -> ImageFolder:
    green = folder / "green"
    match how:
        case "no folder":
            return ImageFolder(folder / "none", size=16)
        case "size":
            return ImageFolder(folder, size=8)
        case "shares":
            return ImageFolder(folder, size=16, shares=(0.5, 0.5))
        case "one class":
            return ImageFolder(folder.parent / "alone", size=16)
        case "empty class":
            (folder / "zebra").mkdir()
        case "no image":
            (folder / "zebra").mkdir()
            (folder / "zebra" / "notes.txt").write_text("")
        case "truncated":
            content = (green / "3.png").read_bytes()
            (green / "3.png").write_bytes(content[: len(content) // 2])
        case "no picture":
            (green / "4.jpeg").write_text("not a picture")
        case "too few":
            for i in range(2, 10):
                (green / f"{i}.{'png' if i % 2 else 'jpeg'}").unlink()
        case "no test":
            return ImageFolder(folder.parent / "halves", size=16)
        case "another class":
            return ImageFolder(folder.parent / "unequal", size=16)
    return ImageFolder(folder, size=16)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("no folder", r"there is no folder .*none: name one"),
        ("size", r"size must be at least 11 whole pixels .*got 8"),
        ("shares", r"shares must be two numbers above 0 .*got \(0.5, 0.5\)"),
        ("one class", r"alone must hold at least two classes, got only"),
        ("empty class", r"the class zebra in flowers has no image .*: put some there \(.jpg"),
        ("no image", r"the class zebra in flowers has no image"),
        ("truncated", r"the image green/3.png in flowers cannot be read \(.*\): delete it"),
        ("no picture", r"the image green/4.jpeg in flowers cannot be read"),
        ("too few", r"flowers cannot be used: the class green has 2 image\(s\), and needs 3"),
        ("no test", r"halves has train and val but no test"),
        ("another class", r"the class extra of unequal is not both in train and in test"),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_sentence(flowers, how, says):
    fill(flowers.parent / "alone", ("only",), images=3)
    fill(flowers.parent / "halves" / "train", images=3)
    fill(flowers.parent / "halves" / "val", images=3)
    fill(flowers.parent / "unequal" / "train", images=3)
    fill(flowers.parent / "unequal" / "test", (*CLASSES, "extra"), images=3)
    with pytest.raises(DataError, match=says) as raised:
        spoil(flowers, how)()
    assert "\n" not in str(raised.value)


IMAGES = torch.arange(6 * 3 * 16 * 16).remainder(251).to(torch.uint8).view(6, 3, 16, 16)
LABELS = torch.tensor([0, 1] * 3)


@pytest.mark.parametrize(
    ("images", "labels", "names", "says"),
    [
        (IMAGES.float(), LABELS, (), "images must be uint8 .*got torch.float32"),
        (IMAGES[0], LABELS, (), r"got torch.uint8 of shape \(3, 16, 16\)"),
        (IMAGES[:, :2], LABELS, (), r"shape \(N, 1 or 3, H, W\)"),
        (IMAGES[..., :8], LABELS, (), r"at least 11 pixels high and wide .*\(6, 3, 16, 8\)"),
        (IMAGES.numpy(), LABELS, (), "images must be a tensor, got a ndarray"),
        (IMAGES, LABELS[:5], (), "labels must be 6 whole numbers"),
        (IMAGES, LABELS.float(), (), "labels must be 6 whole numbers"),
        (IMAGES, LABELS - 1, (), "labels must lie in 0..1 for 2 classes, got -1..0: number"),
        (IMAGES, LABELS + 1, ("a", "b"), r"labels must lie in 0..1 for 2 classes, got 1..2"),
        (IMAGES, LABELS * 0, (), "must hold at least two classes"),
        (IMAGES, LABELS, ("a", "b", "c"), "the class c has 0 image"),
        (IMAGES[:0], LABELS[:0], (), "an empty split: give at least one image"),
        (IMAGES, LABELS, ("a|", "a$"), "both shown as a·: rename one"),
    ],
)
def test_tensors_that_cannot_be_used_are_one_sentence(images, labels, names, says):
    with pytest.raises(DataError, match=says):
        ImageTensors(images, labels, names)()


# Tasks


def test_a_task_trains_and_distils_with_any_two_modules(flowers, store):
    task = flower_task(flowers, student=fixed, teacher_config=QUICK, student_config=QUICK)
    lab = Experiment(task, store=store)
    assert isinstance(lab.teacher(0).model, Contiguous)  # for the sake of its `view`
    subclass_config = lab.task.subclass_config
    result = lab.compare(
        [ALONE, conventional(4.0, 0.5), subclass(4.0, 0.5, subclass_config)], [0, 1]
    )
    assert result.accuracies.shape == (3, 2)
    by_subclass = result.runs["student + subclass KD"][0].model
    assert by_subclass[-1].out_features == 3 * 3  # the last layer of `fixed`, made wider
    assert result.runs[ALONE.label][0].weights != result.runs[ALONE.label][1].weights
    assert lab.dataset.name == "flowers" and lab.task.text.title == "flowers"
    # Dask sends tasks to other processes.
    assert pickle.loads(pickle.dumps(lab.task)).subclass_config == subclass_config


def test_what_is_not_given_follows_from_the_data(flowers):
    task = flower_task(flowers, temperature=2.0, other_subclass_configs=())
    fitted = task.resolved(task.load())
    assert type(fitted) is Task and fitted.resolved(None) is fitted
    assert fitted.temperature == 2.0 and fitted.subclass_configs.others == ()
    assert len(fitted.sizes.students) == 2 and fitted.sizes.students[0][0] == "teacher's network"
    assert fitted.sizes.student_image_counts[-1] == 18
    # 3·4·9 + 4 weights and biases of the convolution, 2·4 of the batch-norm, 784·3 + 3 of the rest
    assert "`Flattening`, with 2,475 parameters" in fitted.text.teacher
    assert not fitted.balanced
    assert fitted.chapters(task.load()) == COURSE
    last = (len(task.load().train) - 1) % fitted.teacher_config.batch_size
    assert last  # more than one image in the last batch, for batch-norm


def test_two_unequal_classes_are_balanced_and_leave_out_notebook_00():
    images = torch.randint(0, 255, (60, 3, 16, 16), dtype=torch.uint8)
    labels = (torch.arange(60) < 15).long()
    task = custom_task("two", ImageTensors(images, labels), Flattening, small)
    data = task.load()
    fitted = task.resolved(data)
    assert fitted.balanced and fitted.chapters(data) == TWO_CLASSES
    assert "Notebook 00" in fitted.text.choices and "counts the same" in fitted.text.choices


def gives(outputs):
    return lambda: nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Linear(3, outputs))


def takes_grey(num_classes):
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 14 * 14, num_classes))


def without_dense_layer():
    return nn.Sequential(nn.Conv2d(3, 3, 16), nn.Flatten())


def lazy(num_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))


@pytest.mark.parametrize(
    ("teacher", "says"),
    [
        (gives(10), r"must give a tensor of shape \(2, 3\) .*3×16×16 and 3 classes, got \(2, 10\)"),
        (takes_grey, r"the teacher takes_grey cannot take images of shape 3×16×16"),
        (without_dense_layer, "cannot be built for 3 × 3 subclasses: it takes no num_classes"),
        (lazy, "lazy layers"),
        (lambda num_classes: 1, "it must give an nn.Module, got a int"),
    ],
)
def test_a_network_that_does_not_fit_is_one_sentence(flowers, teacher, says):
    task = flower_task(flowers, teacher)
    with pytest.raises(ValueError, match=says) as raised:
        task.resolved(task.load())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"name": "a/b"}, "a task's name is also that of a file"),
        ({"data": "flowers"}, "data must be an ImageFolder"),
        ({"teacher": nn.Linear(2, 2)}, "must be a class or a function that builds a new network"),
        ({"subclasses": 1}, "subclasses must be a whole number of at least 2"),
        ({"temprature": 4.0}, "a task has no 'temprature': it has .*temperature"),
    ],
)
def test_a_task_that_makes_no_sense_is_one_sentence(settings, says):
    given = {"name": "x", "data": ImageFolder("x", 16), "teacher": small, "student": small}
    with pytest.raises(ValueError, match=says):
        custom_task(**{**given, **settings})


# Modules


@pytest.mark.parametrize(
    ("content", "name", "says"),
    [
        (None, "mod_none:t", r"there is no module mod_none in .*: start the command in the folder"),
        ("import nowhere", "mod_a:t", "mod_a cannot be imported: ModuleNotFoundError: .*nowhere"),
        ("1 / 0", "mod_b:t", "mod_b cannot be imported: ZeroDivisionError"),
        ("x =", "mod_c:t", "mod_c cannot be imported: SyntaxError"),
        ("from kdnb.tasks.mnist import MNIST as m", "mod_d:t", "mod_d has no 't': its tasks are m"),
        ("t = 1", "mod_e:t", "mod_e:t is a int and not a task: make one with"),
        (
            "from dataclasses import replace\nfrom kdnb.tasks.mnist_small import MNIST_SMALL\n"
            "t = replace(MNIST_SMALL, balanced=True)",
            "mod_f:t",
            "the name 'mnist-small' is that of a task of the course",
        ),
    ],
)
def test_a_module_without_a_task_is_one_sentence(
    tmp_path, monkeypatch, capsys, content, name, says
):
    monkeypatch.setenv("KDNB_START", str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    if content is not None:
        (tmp_path / f"{name[:5]}.py").write_text(content)
    assert main(["report", "--task", name, "--output", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert re.search(says, said) and said.count("\n") == 1
    assert not list(tmp_path.glob("*.html"))


def test_a_task_of_the_course_may_be_named_in_a_module(tmp_path, monkeypatch):
    monkeypatch.setenv("KDNB_START", str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mod_g.py").write_text("from kdnb.tasks.mnist_small import MNIST_SMALL as t")
    assert tasks.task("mod_g:t") is MNIST_SMALL


def own_module() -> str:
    """The lines that data/README.md shows."""
    section = (ROOT / "data" / "README.md").read_text().split("## On your own data")[1]
    block = re.search(r"\n\n((?:    .*\n|\n)+)", section)[1]
    return "".join(line[4:] if line.strip() else line for line in block.splitlines(True))


@pytest.mark.slow
def test_the_lines_of_data_readme_make_a_task(tmp_path, monkeypatch):
    text = own_module()
    statements = [line for line in text.splitlines() if line and not line.startswith(("from", "#"))]
    assert len(statements) < 10
    (tmp_path / "readme_module.py").write_text(text)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("KDNB_START", str(tmp_path))
    import_only = subprocess.run(
        [sys.executable, "-c", "import readme_module"], cwd=tmp_path, check=False
    )
    assert import_only.returncode == 0  # although there is no folder yet
    fill(tmp_path / "flowers", images=4)
    task = tasks.task("readme_module:my_task")
    assert task.name == "flowers" and task.load().train.images.shape[1:] == (3, 32, 32)


# From the command line

MODULE = """
from torch import nn
from kdnb.data import ImageFolder
from kdnb.tasks.custom import custom_task
from kdnb.training.config import TrainConfig

class Teacher(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
        self.output = nn.Linear(8 * 7 * 7, num_classes)
    def forward(self, x):
        x = self.body(x)
        return self.output(x.view(len(x), -1))

def student():
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(48, 3))

quick = TrainConfig(epochs=2, batch_size=16, learning_rate=1e-2)
my_task = custom_task("flowers", ImageFolder("flowers", size=16), Teacher, student,
                   teacher_config=quick, student_config=quick, other_subclass_configs=())
"""


CHAPTERS = ("00", "02", "03", "05")
NAME = "-".join(["flowers", *CHAPTERS])


@pytest.fixture(scope="module")
def reported(tmp_path_factory) -> Path:
    """The folder in which a report was made: the chapters that cannot show all of such a task."""
    folder = tmp_path_factory.mktemp("own")
    fill(folder / "flowers", images=14)
    (folder / "my_module.py").write_text(MODULE)
    command = [sys.executable, "-m", "kdnb", "report", "--task", "my_module:my_task"]
    command += ["--set", "seeds=[0, 1]", "--set", "temperatures=[1, 4]", "--output", "out"]
    command += [word for number in CHAPTERS for word in ("--only", number)]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "KDNB_RUNS": str(folder / "runs"), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.slow
def test_notebooks_run_on_a_folder_of_images(reported):
    executed = sorted((reported / "out" / "flowers").glob("*.ipynb"))
    assert [path.name[:2] for path in executed] == list(CHAPTERS)
    for path in executed:
        for cell in nbformat.read(path, as_version=4).cells:
            assert cell.cell_type != "code" or cell.execution_count is not None, cell.id
    record = json.loads((reported / "out" / f"{NAME}.json").read_text())
    compared = [r for r in record["results"] if "student + conventional KD" in r.get("gain", {})]
    assert compared and all(r["dataset"] == "flowers" for r in compared)
    # Classes differ by the brightness of a channel: a teacher that learns is far above chance.
    assert min(compared[0]["accuracy"]["teacher"]) > 0.5


@pytest.mark.slow
def test_the_page_says_what_does_not_apply_and_escapes_the_names(reported):
    page = (reported / "out" / f"{NAME}.html").read_text()
    assert "The pad is left out" in page and "The true subclasses are unknown" in page
    assert "This task has 3 classes: read 3 where" in page
    assert "&lt;i&gt;blue &amp; co" in page and "<i>blue" not in page


@pytest.mark.slow
def test_notebook_07_runs_apart_from_the_course(tmp_path):
    assert main(["report", "--only", "07", "--output", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "mnist-small-07.json").read_text())
    (result,) = (r for r in record["results"] if "accuracy" in r)
    assert result["dataset"] == "pictures" and len(result["seeds"]) == 3
    assert min(result["accuracy"]["teacher"]) > 0.8
