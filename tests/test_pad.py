"""The pad: networks of eight bits answer in a real browser as they do in PyTorch."""

import base64
import json
import re
from dataclasses import replace
from functools import partial

import nbformat
import pytest
import torch
from lab import ROOT
from test_components import numbers, opened, page_of
from torch import nn

from kdnb import data
from kdnb.course.interactive import pad, widgets
from kdnb.course.report.protocol import COMPONENT, HEADLESS
from kdnb.data.augmentation import TranslatedImages
from kdnb.evaluation.metrics import accuracy
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import ALONE, conventional
from kdnb.experiment.size_sweep import size_sweep
from kdnb.models import StudentMLP, TeacherCNN
from kdnb.tasks.config import Sizes
from kdnb.training.config import TrainConfig
from kdnb.training.loop import fit, predict

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
NAMES = ["zero", "</script><b>one", 'two "quoted"', "three & more", *"456789"]
TEST = data.load("mnist-small").test
IMAGES, LABELS = TEST.images[:6], TEST.labels[:6]


def networks():
    """A teacher and a student, untrained but sure of themselves."""
    torch.manual_seed(0)
    models = {"teacher": TeacherCNN(), "<i>student</i>": StudentMLP(hidden=(24, 24))}
    for model in models.values():
        model.output.weight.data *= 300
    return {name: pad.EightBit(model) for name, model in models.items()}


NETWORKS = networks()


# Eight bits


def test_a_row_of_weights_by_hand():
    """Largest 2.54: scale 0.02, so 1.27 is 63.5 steps, which rounds to the even 64."""
    whole, scales = pad.eight_bits(torch.tensor([[2.54, -1.27, 0.011], [0.0, 0.0, 0.0]]))
    assert whole.tolist() == [[127, -64, 1], [0, 0, 0]]
    torch.testing.assert_close(scales, torch.tensor([0.02, 1 / 127]))


@pytest.mark.parametrize("make", [TeacherCNN, StudentMLP])
def test_the_layers_in_line_are_the_network(make):
    model = make().eval()
    images = IMAGES / 255
    torch.testing.assert_close(pad.in_line(model)(images), model(images))


def test_the_module_is_the_arithmetic_of_the_dequantised_weights():
    """x·(s·q) + b, written out in NumPy's order of nothing but the description."""
    torch.manual_seed(1)
    model = StudentMLP(hidden=(16,))
    kept = model.output.weight.clone()
    network = pad.EightBit(model)
    assert torch.equal(model.output.weight, kept)  # the trained network is as it was
    x = (IMAGES / 255).flatten(1).double()
    for layer in network.layers[1:]:  # after the flattening
        if layer["kind"] == "relu":
            x = x.clamp(min=0)
            continue
        bits = torch.frombuffer(bytearray(base64.b64decode(layer["weights"])), dtype=torch.int8)
        scales = torch.tensor(layer["scales"]).double()
        biases = torch.tensor(layer["biases"]).double()
        x = scales * (x @ bits.view(len(scales), -1).double().T) + biases
    torch.testing.assert_close(network.module(IMAGES / 255).double(), x, atol=1e-5, rtol=1e-5)
    error = (network.module[1].weight - model.layers[0].weight).abs()
    assert (error <= model.layers[0].weight.abs().amax(1, keepdim=True) / 254 * 1.001).all()


def test_eight_bits_are_as_accurate_as_the_floats():
    """An answer can change only where two logits lie closer than their errors together.

    Half a point of 300 images is one image.
    """
    digits = data.load("mnist-small")
    torch.manual_seed(0)
    model = StudentMLP(hidden=(64, 64))
    fit(model, digits.train, digits.val, TrainConfig(8, 32, 3e-3), 0, device=CPU)
    views = TranslatedImages(digits.val.images)
    before = predict(model, views, device=CPU)
    after = predict(pad.EightBit(model).module, views, device=CPU)
    right = accuracy(before, digits.val.labels)
    assert right > 0.9
    assert abs(right - accuracy(after, digits.val.labels)) < 0.005
    changed = before.argmax(1) != after.argmax(1)
    first, second = before.topk(2).values.T
    assert ((first - second)[changed] <= 2 * (after - before).abs().amax(1)[changed]).all()
    assert 0 < (after - before).abs().max() < 1  # it is rounded, and not by much


def test_what_eight_bits_change_is_said(tiny_task, store):
    lab = Experiment(tiny_task, store=store, device=CPU)
    lab = lab.with_student(lambda **kw: StudentMLP(hidden=(8,), **kw))
    run = lab.student(ALONE, 0)
    network = pad.EightBit(run.model)
    right = 100 * run.history.val_accuracy
    text = pad.rounding_sentence(lab, {"net": run}, {"net": network}).data
    assert "Changed predictions, out of 40 on validation images: 0 of the net (accuracy" in text
    assert f"(accuracy {right:.2f} %, with eight bits {right:.2f} %)" in text
    with torch.no_grad():
        network.module[-1].weight.mul_(-1)
    upset = pad.rounding_sentence(lab, {"net": run}, {"net": network}).data
    changed = int(re.search(r"images: (\d+) of the net", upset)[1])
    assert changed > 20


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), "BatchNorm2d"),
        (nn.Sequential(nn.Conv2d(1, 2, 3, padding=1)), "Conv2d"),
        (nn.Sequential(nn.Conv2d(1, 2, 3, stride=2)), "Conv2d"),
        (nn.Sequential(nn.MaxPool2d(2, padding=1)), "MaxPool2d"),
        (nn.Sequential(nn.Flatten()), "Flatten"),  # channels first
        (nn.Bilinear(2, 2, 2), "Bilinear"),
    ],
)
def test_what_the_page_cannot_compute_is_refused_in_a_sentence(model, named):
    with pytest.raises(ValueError, match=named) as error:
        pad.EightBit(model)
    assert "the page" in str(error.value) and "\n" not in str(error.value)


def test_images_and_outputs_must_fit():
    with pytest.raises(ValueError, match=r"28, 28\) images, got \(2, 3, 28, 28\)"):
        pad.drawing_pad(NETWORKS, torch.zeros(2, 3, 28, 28), LABELS[:2], NAMES, 4.0)
    with pytest.raises(ValueError, match="teacher has 10 outputs for 3 classes"):
        pad.drawing_pad(NETWORKS, IMAGES, LABELS, NAMES[:3], 4.0)


def test_a_pens_width_is_that_of_the_strokes():
    image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    image[..., 4:24, 12:15] = 255  # 20 by 3: twice 60 by a perimeter of 46, a corner less
    assert pad.pen_width(image) == pytest.approx(2 * 60 / 46, rel=0.02)


def test_weights_travel_once(monkeypatch):
    """To the page of a headless run, or to the frame of a live notebook."""
    monkeypatch.setenv(HEADLESS, "1")
    live = pad.drawing_pad(NETWORKS, IMAGES, LABELS, NAMES, 4.0)
    bundle, metadata = live._repr_mimebundle_()
    assert len(json.dumps(bundle[COMPONENT])) < 1.5e6 and live.box.value.startswith("<img")
    alt = metadata["image/png"]["alt"]
    for name, network in NETWORKS.items():
        p = (network.module(IMAGES[:1] / 255)[0] / 4).softmax(0)
        assert f"{name} predicts {NAMES[p.argmax()]} with {p.max():.3f}" in alt
    monkeypatch.setattr(widgets, "live_kernel", lambda: True)
    live = pad.drawing_pad(NETWORKS, IMAGES, LABELS, NAMES, 4.0)
    bundle, _ = live._repr_mimebundle_()
    assert COMPONENT not in bundle and "image/png" in bundle
    assert live.box.value.startswith('<iframe title="Draw a digit" sandbox="allow-scripts" srcdoc=')


# In the page


@pytest.fixture(scope="module")
def live():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HEADLESS, "1")
        yield pad.drawing_pad(NETWORKS, IMAGES, LABELS, NAMES, 4.0)


@pytest.fixture(scope="module")
def file(live, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "pad.html"
    path.write_text(page_of(live), encoding="utf-8")
    return path


@pytest.fixture
def page(browser, file):
    yield from opened(browser, file)


def temperature(page):
    return 2 ** float(page.locator("input[type=range]").input_value())


def seen(page):
    """The (1, 1, 28, 28) uint8 image that the networks are given, read from the small canvas."""
    ink = page.locator("canvas.pixels").evaluate(
        "c => { const copy = new OffscreenCanvas(28, 28)"
        ".getContext('2d', { willReadFrequently: true }); copy.drawImage(c, 0, 0);"
        " return Array.from(copy.getImageData(0, 0, 28, 28).data)"
        ".filter((_, i) => i % 4 === 0).map((grey) => 255 - grey) }"
    )
    return torch.tensor(ink, dtype=torch.uint8).view(1, 1, 28, 28)


def expected(image, t):
    with torch.no_grad():
        logits = torch.cat([network.module(image / 255) for network in NETWORKS.values()])
    return (logits.double() / t).softmax(1)


def draw(page, *points, frame=None):
    """A stroke through points given as shares of the pad, then the answer to it."""
    box = (frame or page).locator("canvas.pad").bounding_box()
    at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*at[0])
    page.mouse.down()
    for point in at[1:]:
        page.mouse.move(*point, steps=4)
    page.mouse.up()
    (frame or page).evaluate(TWO_FRAMES)


# The answer to a stroke comes with the next frame of the screen.
TWO_FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
SEVEN = [(0.3, 0.2), (0.7, 0.2), (0.45, 0.85)]


def test_examples_get_torchs_answers_at_every_temperature(page):
    slider, choice = page.locator("input[type=range]"), page.get_by_role("combobox", name="image")
    met = set()
    for image, keys in enumerate(([], ["ArrowRight"] * 3, ["Home"], ["End"], ["ArrowLeft"] * 9,
                                  ["ArrowLeft"] * 20)):  # fmt: skip
        choice.select_option(index=image + 1)
        for key in keys:
            slider.press(key)
        assert torch.equal(seen(page)[0], IMAGES[image])
        t = temperature(page)
        wanted = expected(IMAGES[image : image + 1], t)
        torch.testing.assert_close(numbers(page), wanted, atol=1e-4, rtol=0)
        said = page.locator("[role=status]").inner_text()
        for name, p in zip(NETWORKS, wanted, strict=True):
            found = re.search(re.escape(f"{name} {NAMES[p.argmax()]} with ") + r"(\d\.\d+)", said)
            assert float(found[1]) == pytest.approx(p.max().item(), abs=6e-4)
        met.add((image, t))
    assert len(met) == 6 and len({t for _, t in met}) >= 5
    assert len({tuple(expected(i[None], 1).argmax(1).tolist()) for i in IMAGES}) > 1


def test_a_drawing_gets_torchs_answer(page):
    before = numbers(page)
    draw(page, *SEVEN)
    image = seen(page)
    assert image.max() == 255 and 40 < (image > 127).sum() < 250
    assert page.get_by_role("combobox", name="image").input_value() == "your drawing"
    assert (numbers(page) - before).abs().max() > 0.01
    for key in ([], ["Home"], ["ArrowRight"] * 5):
        for press in key:
            page.locator("input[type=range]").press(press)
        wanted = expected(image, temperature(page))
        torch.testing.assert_close(numbers(page), wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "points",
    [
        [(0.02, 0.02), (0.14, 0.03), (0.06, 0.2)],  # a small seven in a corner
        [(0.95, 0.1), (0.95, 0.97)],  # a tall one at the right edge
        SEVEN,
    ],
)
def test_a_drawing_is_framed_as_mnist_frames_it(page, points):
    draw(page, *points)
    ink = seen(page)[0, 0].double()
    y, x = (ink > 64).nonzero().T
    extent = max((y.max() - y.min()).item(), (x.max() - x.min()).item()) + 1
    assert 19 <= extent <= 21
    place = torch.arange(28.0, dtype=torch.float64)
    for axis in (0, 1):
        centre = (ink.sum(1 - axis) * place).sum() / ink.sum()
        assert abs(centre - 13.5) < 1
    # Wherever and however large it was drawn, the pen is as wide as in the images.
    assert pad.pen_width(seen(page)) == pytest.approx(pad.pen_width(IMAGES), rel=0.25)


def test_a_touch_is_a_stroke_too(browser, file):
    context = browser.new_context(has_touch=True)
    page = context.new_page()
    page.goto(file.as_uri())
    box = page.locator("canvas.pad").bounding_box()
    page.touchscreen.tap(box["x"] + 20, box["y"] + 20)
    page.wait_for_function("document.querySelector('select').selectedIndex === 0")
    page.evaluate(TWO_FRAMES)
    y, x = (seen(page)[0, 0] > 127).nonzero().T
    assert {y.min().item(), x.min().item()} <= {11, 12, 13}  # a dot stays a dot, in the middle
    assert page.locator("canvas.pad").evaluate("c => getComputedStyle(c).touchAction") == "none"
    context.close()


def test_only_the_main_button_draws(page):
    before = seen(page)
    page.locator("canvas.pad").click(button="right")
    assert torch.equal(seen(page), before)


def test_an_empty_pad_has_no_answer(page):
    draw(page, *SEVEN)
    page.get_by_role("button", name="Clear").press("Enter")
    assert seen(page).max() == 0
    assert "The pad is empty" in page.locator("[role=status]").inner_text()
    assert page.locator("details tbody tr").count() == 0
    page.get_by_role("combobox", name="image").select_option(index=2)
    assert torch.equal(seen(page)[0], IMAGES[1])


def test_names_stay_text_controls_have_names_and_a_phone_is_wide_enough(page):
    assert page.locator(".component :is(b, i)").count() == 0
    assert page.locator(".component tbody th").all_text_contents() == NAMES
    heads = page.locator(".component thead th").all_text_contents()
    assert heads == ["class", *NETWORKS]
    assert page.get_by_role("img", name=re.compile("^Drawing pad")).count() == 1
    assert page.get_by_role("img", name=re.compile("as the networks see it")).count() == 1
    assert page.get_by_role("slider", name="temperature", exact=True).count() == 1
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_frame_of_a_live_notebook_computes_the_same(browser, tmp_path, monkeypatch):
    """In a page of its own, from which the frame is shut off."""
    monkeypatch.setattr(widgets, "live_kernel", lambda: True)
    live = pad.drawing_pad(NETWORKS, IMAGES, LABELS, NAMES, 4.0)
    path = tmp_path / "frame.html"
    path.write_text(f"<!DOCTYPE html><title>a notebook</title>{live.box.value}", encoding="utf-8")
    for page in opened(browser, path):
        (frame,) = page.frames[1:]
        frame.locator("canvas.pad").wait_for()
        wanted = expected(IMAGES[:1], 4.0)
        torch.testing.assert_close(numbers(frame), wanted, atol=1e-4, rtol=0)
        draw(page, *SEVEN, frame=frame)
        wanted = expected(seen(frame), 4.0)
        torch.testing.assert_close(numbers(frame), wanted, atol=1e-4, rtol=0)


# The notebook's students


def test_the_size_sweep_finds_the_pads_students_in_the_store(tiny_task, store):
    """What the notebook's cell trains, notebook 05 loads, whatever the student of the task is."""
    students = (("128-128", partial(StudentMLP, hidden=(128, 128))),)
    task = replace(tiny_task, sizes=Sizes(students=students))
    lab = Experiment(task, store=store, device=CPU)
    notebook = nbformat.read(ROOT / "notebooks" / "00_what_is_distillation.ipynb", 4)
    (cell,) = (cell for cell in notebook.cells if cell.id == "pad")
    training = cell.source[: cell.source.index("networks = ")]
    given = {"lab": lab, "teacher": lab.teacher(0), "seed": 0, "Progress": lambda: None, "pad": pad}
    exec(training, given | {"replace": replace, "ALONE": ALONE, "conventional": conventional})
    trained = store.names("run-")
    assert len(trained) == 3
    distilled = conventional(task.temperature, task.soft_weight)
    (rung,) = size_sweep(lab, [ALONE, distilled], [0], seconds=0.01)
    assert store.names("run-") == trained
    assert all(run.loaded for (run,) in rung.result.runs.values())
