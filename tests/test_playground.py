"""The playground: a real browser trains students as the engine does, weight for weight."""

import base64
import json
import re
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from playwright.sync_api import expect
from test_components import numbers, opened, page_of

from kdnb import data, tasks
from kdnb.course.interactive import playground, widgets
from kdnb.course.report.protocol import COMPONENT, HEADLESS
from kdnb.environment import seeded
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import ALONE, conventional
from kdnb.models import StudentMLP
from kdnb.store.store import Store
from kdnb.tasks.config import Sizes
from kdnb.training.config import TrainConfig
from kdnb.training.loop import fit
from kdnb.training.objectives import LABELS, Distillation

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
IMAGES, SEEDS, LONG = 150, (1, 0), 100_000
DISTILLED = conventional(4.0, 0.7)
CONFIG = TrainConfig(16, 32, 1e-2, translate=2)
# With the page's own data: a student after some steps, or its history at the end.
TRAINED = """async ([settings, steps]) => {
  const engine = playgroundEngine();
  const read = JSON.parse(document.querySelector(".component script").textContent);
  const ready = engine.prepared(await playgroundData(read, read.start.seed));
  const student = engine.student(ready, settings);
  for (let i = 0; i < steps; i++) student.step();
  while (!steps && !student.done) student.work();
  const weights = student.layers.flatMap(({ weight, bias }) => [[...weight], [...bias]]);
  return [weights, student.history];
}"""


def small_task():
    """Digits for a teacher that is trained in a second."""
    digits = data.load("mnist-small")
    few = replace(
        digits,
        train=digits.train.take(torch.arange(400)),
        val=digits.val.take(torch.arange(200)),
    )
    task = tasks.task("mnist-small")
    task = replace(
        task,
        name="few-digits",
        dataset=lambda: few,
        teacher_config=replace(task.teacher_config, epochs=2),
        student_config=replace(CONFIG, learning_rate=6e-3, label_smoothing=0.2),
        sizes=replace(task.sizes, student_images=IMAGES),
    )
    return task.with_student(lambda **kw: StudentMLP(hidden=(24, 24), **kw))


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("runs"))
    task = small_task()
    distillation = replace(task.distillation, train_config=CONFIG)
    return Experiment(replace(task, distillation=distillation), store=store, device=CPU)


@pytest.fixture(scope="module")
def compared(lab):
    return lab.compare([ALONE, DISTILLED], SEEDS, split="val")


@pytest.fixture(scope="module")
def component(lab, compared):
    return component_of(lab, compared)


def component_of(lab, compared):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HEADLESS, "1")
        live = playground.playground(lab, compared, 4.0, 0.7)
    live._repr_mimebundle_()[0][COMPONENT]["epochs"].append(LONG)  # long enough to be stopped
    return live


@pytest.fixture(scope="module")
def file(component, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "playground.html"
    path.write_text(page_of(component), encoding="utf-8")
    return path


@pytest.fixture
def page(browser, file):
    yield from opened(browser, file)


def given(live):
    return live._repr_mimebundle_()[0][COMPONENT]


def rounded_logits(live):
    """(views, N, classes): the teacher's logits as the page has them."""
    about = given(live)["teachers"][0]
    whole = zlib.decompress(base64.b64decode(about["logits"]))
    logits = torch.frombuffer(bytearray(whole), dtype=torch.int8) * torch.tensor(about["scale"])
    return logits.view(25, IMAGES, 10)


def engines(lab, live, setting, steps=None):
    """The weights of the engine's student after some steps, or all, and its history."""
    with seeded(setting["seed"]):
        model = StudentMLP(hidden=(setting["hidden"],) * 2)
    config = TrainConfig(
        setting["epochs"], setting["batch"], setting["rate"], translate=2,
        weight_decay=setting["decay"], label_smoothing=setting["smoothing"],
    )  # fmt: skip
    chosen, objective = torch.tensor(setting["chosen"]), LABELS
    if "temperature" in setting:
        logits = rounded_logits(live)[:, chosen]
        objective = Distillation(
            temperature=setting["temperature"], soft_weight=setting["weight"], teacher_logits=logits
        )
    kept = []

    def after_step(images):
        kept[:] = [*kept, None]
        if len(kept) == steps:
            kept[:] = [p.detach().clone() for p in model.parameters()]
            raise KeyboardInterrupt

    history = fit(
        model, lab.transfer.take(chosen), lab.dataset.val, config, setting["seed"],
        objective=objective, on_step=after_step if steps else None, device=CPU,
    )  # fmt: skip
    return kept or list(model.parameters()), history


def pages(page, setting, steps=0):
    """The same of the page's student."""
    flat, history = page.evaluate(TRAINED, [setting, steps])
    sizes = (784, setting["hidden"], setting["hidden"], 10)
    weights = [torch.tensor(values) for values in flat]
    for layer in range(3):  # the page keeps weights input by input
        weights[2 * layer] = weights[2 * layer].view(sizes[layer], sizes[layer + 1]).T
    return weights, history


def setting(**changes):
    return {
        "chosen": list(range(IMAGES)), "hidden": 64, "seed": 0, "epochs": 300, "validations": 10,
        "batch": 128, "rate": 1e-2, "smoothing": 0.0, "decay": 0.0, "translate": 2, **changes,
    }  # fmt: skip


SETTINGS = [
    setting(temperature=8.0, weight=0.9),
    setting(temperature=1.0, weight=0.5, hidden=32, seed=1, decay=0.01, smoothing=0.1),
    setting(temperature=32.0, weight=1.0, hidden=16, seed=2**32 - 1, chosen=[*range(100, 0, -1)]),
    setting(smoothing=0.2, rate=6e-3),
    setting(hidden=128, seed=7),
]


# Against torch


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_random_numbers_are_torchs(page, seed):
    """A version of torch that draws otherwise fails here, and the page must then follow it."""
    drawn = page.evaluate(
        """(seed) => {
          const { mersenne, randperm, randint, uniform } = playgroundEngine();
          const random = mersenne(seed);
          return [1, 7, 500].map((n) => [[...randperm(n, random)], [...randint(25, n, random)],
            [...uniform(0.5, n, random)]]);
        }""",
        seed,
    )
    generator = torch.Generator().manual_seed(seed)
    for n, (order, views, shares) in zip((1, 7, 500), drawn, strict=True):
        assert order == torch.randperm(n, generator=generator).tolist()
        assert views == torch.randint(25, (n,), generator=generator).tolist()
        expected = torch.empty(n).uniform_(-0.5, 0.5, generator=generator)
        torch.testing.assert_close(torch.tensor(shares), expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize("chosen", range(len(SETTINGS)))
def test_weights_after_fifty_steps_are_torchs(page, lab, component, chosen):
    ours, _ = pages(page, SETTINGS[chosen], steps=50)
    torchs, _ = engines(lab, component, SETTINGS[chosen], steps=50)
    with seeded(SETTINGS[chosen]["seed"]):
        initial = list(StudentMLP(hidden=(SETTINGS[chosen]["hidden"],) * 2).parameters())
    for mine, theirs, before in zip(ours, torchs, initial, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=0)
        assert (theirs - before).abs().max() > 5e-3


@pytest.mark.parametrize("chosen", [0, 3])
def test_a_whole_training_is_the_engines(page, lab, component, chosen):
    short = SETTINGS[chosen] | {"epochs": 20}
    weights, history = pages(page, short)
    torchs, theirs = engines(lab, component, short)
    for mine, other in zip(weights, torchs, strict=True):
        torch.testing.assert_close(mine, other.detach(), atol=1e-3, rtol=0)
    assert [epoch["epoch"] for epoch in history if "accuracy" in epoch] == [*theirs.validated]
    images = len(lab.dataset.val)
    for mine, other in zip(history, theirs.epochs, strict=True):
        assert mine["loss"] == pytest.approx(other.train_loss, abs=1e-3)
        if other.val_accuracy is not None:
            assert abs(mine["accuracy"] - other.val_accuracy) < 1.5 / images
    assert theirs.val_accuracy > 0.4


def test_every_number_of_images_has_the_engines_images(lab, component):
    counts = {one["count"]: one["places"] for one in given(component)["counts"]}
    assert list(counts) == [100, IMAGES]
    for count, places in counts.items():
        task = replace(lab.task, sizes=replace(lab.task.sizes, student_images=count))
        assert torch.equal(lab.transfer.images[places], task.transfer_set(lab.dataset).images)


# In the page


def status(page):
    return page.locator(".component [role=status]")


def note(page):
    return page.locator(".component .controls .note")


def button(page, name):
    return page.get_by_role("button", name=name, exact=True)


def test_training_from_a_file_ends_with_the_engines_accuracies(page, lab, compared):
    """In workers under the page's policy, whose complaints would fail the test."""
    button(page, "Train").press("Enter")
    expect(status(page)).to_contain_text("the gain is")
    expect(note(page)).to_have_text(re.compile(r"^finished: epoch 16 of 16, .*, two workers$"))
    _, losses, accuracies = numbers(page)
    runs = [compared.runs[label][0] for label in compared.labels]
    for place, run in enumerate(runs):  # rows: the run's students, then the page's
        last = run.history.epochs[-1]
        assert losses[place].item() == pytest.approx(last.train_loss, abs=1e-4)
        # The page's logits are rounded, the run's are not.
        assert losses[2 + place].item() == pytest.approx(last.train_loss, rel=0.05)
        assert accuracies[place].item() == pytest.approx(100 * last.val_accuracy, abs=1e-4)
        assert abs(accuracies[2 + place] - accuracies[place]) <= 2
    gain = accuracies[3] - accuracies[2]
    said = status(page).inner_text()
    assert f"{'+' if gain >= 0 else '−'}{abs(gain):.1f} points on 200 validation images" in said
    assert "train the other seeds" in said and "mean gain over 2 seeds (" in said
    page.get_by_role("combobox", name="seed").select_option("0")
    about = page.locator(".component > .note").last
    expect(about).to_contain_text("your last training")
    button(page, "Train").click()
    expect(status(page)).to_contain_text("Gains of the seeds 0: ")
    second, first = re.findall(r"[01]: ([+−][\d.]+)", status(page).inner_text())
    first, second = (float(text.replace("−", "-")) for text in (first, second))
    assert first == pytest.approx(gain.item(), abs=0.06)
    interval, mean = compared.gain(*reversed(compared.labels)), (first + second) / 2
    low, high = 100 * interval.low, 100 * interval.high
    where = "below" if mean < low else "above" if mean > high else "inside"
    assert f"The mean lies {where} the 95 % interval" in status(page).inner_text()


@pytest.mark.parametrize(
    "without",
    [
        "delete window.Worker;",
        "window.Worker = class { terminate() {} postMessage() {"
        " setTimeout(() => this.onerror(new Event('error'))); } };",
    ],
)
def test_without_workers_the_page_trains_in_turns(browser, file, without):
    context = browser.new_context()
    context.add_init_script(without)
    for page in opened(context, file):
        button(page, "Train").click()
        expect(status(page)).to_contain_text("the gain is")
        expect(note(page)).to_contain_text("in turns, without workers")
        alone = numbers(page)
    context.close()
    for page in opened(browser, file):
        button(page, "Train").click()
        expect(status(page)).to_contain_text("the gain is")
        torch.testing.assert_close(numbers(page), alone)


@pytest.mark.parametrize("without", ["", "delete window.Worker;"])
def test_pause_and_reset_by_keyboard(browser, file, without):
    context = browser.new_context()
    context.add_init_script(without)
    for page in opened(context, file):
        page.get_by_role("combobox", name="epochs").select_option(f"{LONG}")
        button(page, "Train").press("Enter")
        expect(note(page)).to_have_text(re.compile(r"^training: epoch [2-9]"))
        button(page, "Pause").press("Space")
        expect(status(page)).to_have_text("Paused.")
        page.wait_for_timeout(500)  # the work that had begun
        before = page.locator(".component details").inner_html()
        page.wait_for_timeout(500)
        assert page.locator(".component details").inner_html() == before
        button(page, "Continue").press("Enter")
        expect(page.locator(".component details")).not_to_have_text(before)
        button(page, "Reset").press("Enter")
        expect(status(page)).to_contain_text("Press Train")
        expect(note(page)).to_have_text("")
        assert numbers(page).shape[1] == 2
    context.close()


def test_a_changed_setting_stops_training_and_keeps_the_last_curves(page):
    about = page.locator(".component > .note").last
    assert "this run's students of seed 1" in about.inner_text()
    button(page, "Train").click()
    expect(status(page)).to_contain_text("the gain is")
    page.get_by_role("slider", name="temperature").press("ArrowRight")
    expect(about).to_contain_text("your last training, T = 4.00")
    page.get_by_role("combobox", name="epochs").select_option(f"{LONG}")
    button(page, "Train").click()
    expect(note(page)).to_have_text(re.compile(r"^training: epoch [2-9]"))
    assert page.locator(".component polyline.faint").count() == 4
    page.get_by_role("slider", name="soft_weight").press("ArrowLeft")
    expect(status(page)).to_contain_text("soft_weight 0.65")
    expect(note(page)).to_have_text("")
    button(page, "Reset").click()
    expect(about).to_contain_text("this run's students of seed 1")


def test_every_seed_is_trained_one_after_the_other(page, compared):
    seed = page.get_by_role("combobox", name="seed")
    button(page, "Train every seed").press("Enter")
    first, second = sorted(SEEDS)
    expect(status(page)).to_contain_text(
        re.compile(
            rf"Gains of the seeds {first}: .\d+\.\d, {second}: .\d+\.\d; mean .\d+\.\d points"
        )
    )
    expect(status(page)).to_contain_text(re.compile("The mean lies (inside|below|above) the 95 %"))
    assert seed.input_value() == f"{compared.seeds[-1]}"
    page.get_by_role("combobox", name="epochs").select_option(f"{LONG}")
    button(page, "Train every seed").click()
    expect(note(page)).to_have_text(re.compile(r"^training: epoch [2-9]"))
    page.get_by_role("slider", name="soft_weight").press("ArrowLeft")  # ends all of it
    expect(note(page)).to_have_text("")
    page.wait_for_timeout(300)
    assert note(page).inner_text() == "" and seed.input_value() == f"{compared.seeds[0]}"


def test_every_setting_of_the_address_has_a_control(page):
    names = page.locator("[data-state]").evaluate_all(
        "all => all.map(e => [e.dataset.state, e.dataset.scale ?? ''])"
    )
    plain = [[name, ""] for name in ("w", "images", "epochs", "hidden", "seed")]
    assert sorted(names) == sorted([["T", "log2"], *plain])


def test_controls_have_names_and_a_phone_is_wide_enough(page):
    for role, name in (
        ("slider", "temperature"), ("slider", "soft_weight"), ("combobox", "images"),
        ("combobox", "epochs"), ("combobox", "hidden width"), ("combobox", "seed"),
    ):  # fmt: skip
        assert page.get_by_role(role, name=name, exact=True).count() == 1
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_live_notebooks_frame_trains_in_workers_too(
    browser, lab, compared, tmp_path, monkeypatch
):
    """In a page of its own, from which the frame is shut off."""
    monkeypatch.setattr(widgets, "live_kernel", lambda: True)
    live = playground.playground(lab, compared, 4.0, 0.7)
    bundle, _ = live._repr_mimebundle_()
    assert COMPONENT not in bundle and "image/png" in bundle
    path = tmp_path / "frame.html"
    path.write_text(f"<!DOCTYPE html><title>a notebook</title>{live.box.value}", encoding="utf-8")
    for page in opened(browser, path):
        frame = page.frame_locator("iframe")
        button(frame, "Train").click()
        expect(status(frame)).to_contain_text("the gain is")
        expect(note(frame)).to_contain_text("two workers")


# Which tasks have one


def test_other_images_and_networks_have_no_playground(lab, tiny_task, store):
    assert playground.what_is_missing(lab) == ""
    other = Experiment(tiny_task, store=store, device=CPU)
    assert "No training in the page here" in playground.what_is_missing(other)
    turned = lab.with_student(lab.task.student, dihedral=True, translate=0)
    assert "training config" in playground.what_is_missing(turned)


def test_a_larger_task_has_small_students_in_the_page(lab, store):
    students = (("64-64", lambda **kw: StudentMLP(hidden=(64, 64), **kw)),)
    task = replace(lab.task, sizes=Sizes(students=students)).with_student(StudentMLP)
    large = Experiment(task, store=store, device=CPU)
    small = playground.in_page(large)
    assert playground.hidden_width(small.task) == 64 and small.task.student_config.epochs == 100
    assert "64 units, at most 400 training images" in playground.scale_sentence(large, small)
    assert playground.in_page(small) is small
    assert "the setting of this notebook" in playground.scale_sentence(small, small)


def test_one_seed_has_no_interval(browser, lab, tmp_path):
    live = component_of(lab, lab.compare([ALONE, DISTILLED], [1], split="val"))
    assert given(live)["gain"] is None
    path = tmp_path / "one.html"
    path.write_text(page_of(live), encoding="utf-8")
    for page in opened(browser, path):
        button(page, "Train").click()
        expect(status(page)).to_have_text(re.compile("points on 200 validation images.$"))


def test_data_travel_once_and_are_small(component):
    assert len(json.dumps(given(component))) < 400_000
    picture = component._repr_mimebundle_()[1]["image/png"]["alt"]
    assert "Training curves over 16 epochs" in picture and DISTILLED.label in picture
    first, second = given(component)["teachers"]
    assert (first["seed"], second["seed"]) == SEEDS and first["logits"] != second["logits"]
    assert np.isclose(rounded_logits(component).abs().max().item(), 127 * first["scale"])
