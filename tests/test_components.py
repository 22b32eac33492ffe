"""What can be moved in the report: in a real browser, by keyboard, against torch."""

import base64
import io
import json
import re
from dataclasses import replace

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image
from test_size_sweep import BIG, MIDDLE, SMALL, TINY, size

from kdnb.course import interactive, tables
from kdnb.course.figures.costs import BUDGETS, best_within, pareto_front
from kdnb.course.figures.top_classes import MOST
from kdnb.course.interactive import widgets
from kdnb.course.report.page import render_chapter, render_page
from kdnb.course.report.protocol import COMPONENT
from kdnb.course.text import percent
from kdnb.evaluation.metrics import calibration
from kdnb.evaluation.saliency import Saliency
from kdnb.evaluation.statistics import Interval, mean_interval
from kdnb.losses import distillation_loss
from kdnb.training.loop import Epoch, History

pytestmark = pytest.mark.slow
NAMES = ["zero", "</script><b>one", 'two "quoted"', "three & more"]
GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randint(0, 256, (3, 1, 28, 28), generator=GENERATOR, dtype=torch.uint8)
LABELS = torch.tensor([1, 0, 3])
LOGITS = 4 * torch.randn(3, 4, generator=GENERATOR)


def page_of(*lives):
    """A report of one chapter that shows these widgets, as a headless run would leave them."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Touch")])
    for live in lives:
        data, metadata = live._repr_mimebundle_()
        data = {kind: d for kind, d in data.items() if kind != widgets.WIDGET_VIEW}
        if "image/png" in data:  # not of a diagram
            data["image/png"] = base64.b64encode(data["image/png"]).decode()
        output = nbformat.v4.new_output("display_data", data=data, metadata=metadata)
        notebook.cells.append(nbformat.v4.new_code_cell("touch()", outputs=[output]))
    chapter = render_chapter(notebook, "00_touch", ["00_touch"])
    return render_page([chapter], title="Touch", about="A test.", facts=[])


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    live = interactive.temperature_explorer(IMAGES, LABELS, LOGITS, NAMES, 4.0)
    path = tmp_path_factory.mktemp("page") / "touch.html"
    path.write_text(page_of(live), encoding="utf-8")
    return path


@pytest.fixture
def page(browser, file):
    yield from opened(browser, file)


def opened(browser, file):
    """A new page with the file; whatever it complains of fails the test."""
    page = browser.new_page()
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.route(re.compile("^https?:"), lambda route: route.abort())
    page.goto(file.as_uri())
    yield page
    assert page.complaints == []
    page.close()


def numbers(page):
    """The columns of a component's table, whether or not it is unfolded."""
    rows = page.locator("details tbody tr")
    cells = [row.locator("td").all_text_contents() for row in rows.all()]
    return torch.tensor([[float(cell) for cell in row] for row in cells], dtype=torch.float64).T


def test_the_temperature_slider_shows_torchs_numbers(page):
    slider, choice = page.locator("input[type=range]"), page.locator("select")
    seen = set()
    for image, keys in ((0, []), (0, ["ArrowRight"] * 3), (1, ["Home"]), (2, ["End"]),
                        (1, ["ArrowLeft"] * 9)):  # fmt: skip
        choice.select_option(index=image)
        slider.focus()
        for key in keys:
            slider.press(key)
        t = 2 ** float(slider.input_value())
        expected = torch.stack([(LOGITS[image].double() / u).softmax(0) for u in (1, t)])
        torch.testing.assert_close(numbers(page), expected, atol=1e-5, rtol=0)
        said = page.locator("[role=status]").inner_text()
        bits = -(expected[1] * expected[1].log2()).sum()
        assert f"{bits:.2f} bits" in said
        assert f"{100 * (1 - expected[1].max()):.1f} % of the probability lies outside" in said
        assert slider.get_attribute("aria-valuetext") in said
        seen.add((image, t))
    assert len(seen) == 5 and {0.5, 64.0} <= {t for _, t in seen}


def test_names_from_data_stay_text(page):
    assert page.locator(".component b").count() == 0
    assert page.locator(".component tbody th").all_text_contents() == NAMES
    assert page.locator("option").first.inner_text() == f"image 1: a {NAMES[1]}"


def test_the_picture_steps_aside_only_where_scripts_run(page, browser, file):
    assert page.locator(".still").is_hidden()
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto(file.as_uri())
    assert plain.locator(".still img").is_visible()
    assert plain.locator("input[type=range]").count() == 0
    context.close()


def test_controls_have_names_and_fit_a_phone(page):
    for role, name in (("slider", "temperature"), ("combobox", "image")):
        assert page.get_by_role(role, name=name, exact=True).count() == 1
    assert page.get_by_role("img", name=re.compile("bits")).count() == 1  # the bars, in words
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_no_other_script_may_run(page):
    page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.bad = 1';"
        " document.body.append(s); }"
    )
    assert page.evaluate("window.bad") is None
    assert any("Content Security Policy" in text for text in page.complaints)
    page.complaints.clear()


def test_the_data_are_those_of_the_widget():
    live = interactive.temperature_explorer(IMAGES, LABELS, LOGITS, NAMES, 4.0)
    component = live._repr_mimebundle_()[0][COMPONENT]
    assert [image["logits"] for image in component["images"]] == LOGITS.double().tolist()
    assert (component["lowest"], component["highest"]) == (0.5, 64.0)
    assert component["temperature"] == 4.0


@pytest.fixture(scope="module")
def other_file(tmp_path_factory):
    loss = interactive.loss_explorer(LOGITS[0], LOGITS[1], 2, NAMES, 4.0, 0.9)
    subclasses = interactive.subclass_explorer(IMAGES, LABELS, LOGITS, ["a", "b"], "xyz", 2.0)
    path = tmp_path_factory.mktemp("page") / "others.html"
    path.write_text(page_of(loss, subclasses), encoding="utf-8")
    return path


@pytest.fixture
def others(browser, other_file):
    yield from opened(browser, other_file)


def test_the_loss_explorer_shows_torchs_loss_and_gradients(others):
    component = others.locator(".component").first
    t_slider, w_slider = component.locator("input[type=range]").all()
    for t_key, w_key in (("Home", "End"), ("End", "Home"), ("ArrowLeft", "ArrowRight")) * 2:
        t_slider.press(t_key)
        w_slider.press(w_key)
        t, w = 2 ** float(t_slider.input_value()), float(w_slider.input_value())
        z = LOGITS[:1].double().requires_grad_()
        loss = distillation_loss(z, torch.tensor([2]), LOGITS[1:2].double(), t, w)
        soft = -w * torch.autograd.grad(loss.soft, z, retain_graph=True)[0][0]
        hard = -(1 - w) * torch.autograd.grad(loss.hard, z, retain_graph=True)[0][0]
        together = -torch.autograd.grad(loss.total, z)[0][0]
        expected = [(LOGITS[i].double() / t).softmax(0) for i in (1, 0)] + [soft, hard, together]
        torch.testing.assert_close(numbers(component), torch.stack(expected), atol=2e-5, rtol=0)
        said = component.locator("[role=status]").inner_text()
        assert f"loss {loss.total:.3f} nats (soft {loss.soft:.3f}, hard {loss.hard:.3f})" in said


def test_the_subclass_explorer_shows_torchs_sums(others):
    component = others.locator(".component").last
    slider, choice = component.locator("input[type=range]"), component.locator("select")
    for image, key in ((0, "ArrowRight"), (1, "Home"), (2, "End"), (1, "ArrowLeft"), (0, "End")):
        choice.select_option(index=image)
        slider.press(key)
        p = (LOGITS[image].double() / 2 ** float(slider.input_value())).softmax(0)
        classes = p.view(2, 2).sum(1)
        expected = torch.stack([p, classes.repeat_interleave(2)])
        torch.testing.assert_close(numbers(component), expected, atol=1e-5, rtol=0)
        said = component.locator("[role=status]").inner_text()
        bits = [-(q * q.log2()).sum() for q in (classes, p)]
        assert f"classes: {bits[0]:.2f} bits, over subclasses: {bits[1]:.2f} bits" in said


def test_the_calibration_slider_shows_torchs_error(browser, tmp_path):
    logits = 2 * torch.randn(300, 4, generator=GENERATOR)
    labels = (logits + torch.randn(300, 4, generator=GENERATOR)).argmax(1)
    live = interactive.calibration_explorer(logits, labels, 1.5)
    for component in shown(browser, tmp_path, live):
        slider = component.locator("input[type=range]")
        for keys in ([], ["Home"], ["ArrowRight"] * 5, ["End"], ["ArrowLeft"] * 7):
            for key in keys:
                slider.press(key)
            t = 2 ** float(slider.input_value())
            now, plain = calibration(logits, labels, t), calibration(logits, labels)
            expected = torch.stack([now.share, now.confidence, now.accuracy])
            torch.testing.assert_close(numbers(component), expected, atol=1e-5, rtol=0)
            said = component.locator("[role=status]").inner_text()
            assert f"calibration error is {100 * now.error:.2f} %" in said
            assert f"(at T = 1: {100 * plain.error:.2f} %)" in said
        assert t < 4


def shown(browser, folder, *lives):
    """The components of a page with these widgets, one after the other."""
    file = folder / "page.html"
    file.write_text(page_of(*lives), encoding="utf-8")
    for page in opened(browser, file):
        yield from page.locator(".component").all()


def history(seed, better, validated=range(10)):
    """A made-up training, of ten epochs or up to the last that is ``validated``."""
    noise = torch.rand(10, 3, generator=torch.Generator().manual_seed(seed)).tolist()
    rows = [
        Epoch(1 / (e + 1 + a), None, None, b, (e + better + c) / 20, 0.1)
        for e, (a, b, c) in enumerate(noise[: max(validated) + 1])
    ]
    skipped = {"val_loss": None, "val_accuracy": None}
    return History(
        [row if e in validated else replace(row, **skipped) for e, row in enumerate(rows)]
    )


def test_the_learning_curves_show_means_and_t_intervals(browser, tmp_path):
    histories = {"alone": [history(s, 0) for s in range(3)]}
    histories["taught"] = [history(s, 5) for s in range(3, 6)]
    live = interactive.curves_explorer(histories)
    quantities = [
        lambda epoch: 100 * epoch.val_accuracy,
        lambda epoch: epoch.val_loss,
        lambda epoch: epoch.train_loss,
    ]
    for component in shown(browser, tmp_path, live):
        slider, choice = component.locator("input[type=range]"), component.locator("select")
        for which, key in ((0, "End"), (0, "Home"), (1, "ArrowRight"), (2, "ArrowRight"),
                           (2, "End"), (0, "ArrowLeft")):  # fmt: skip
            choice.select_option(index=which)
            slider.press(key)
            epoch = int(slider.input_value())
            means = [
                mean_interval([quantities[which](h.epochs[epoch - 1]) for h in seeds])
                for seeds in histories.values()
            ]
            expected = [[getattr(m, end) for m in means] for end in ("mean", "low", "high")]
            expected = torch.tensor(expected, dtype=torch.float64)
            torch.testing.assert_close(numbers(component), expected, atol=1e-5, rtol=0)
            said = component.locator("[role=status]").inner_text()
            quantity = choice.locator("option").nth(which).inner_text()
            assert said.startswith(f"After epoch {epoch}, {quantity}: alone: ")
        assert epoch == 9


def test_methods_with_other_epochs_are_read_at_the_last_that_was_validated(browser, tmp_path):
    histories = {"alone": [history(s, 0, (1, 4, 7)) for s in range(3)]}
    histories["taught"] = [history(s, 5, (2, 5, 9)) for s in range(3, 6)]
    live = interactive.curves_explorer(histories)
    epochs = live._repr_mimebundle_()[0][COMPONENT]["epochs"]
    assert epochs == [3, 5, 6, 8, 10], "not 2, when one of them is not validated yet"
    for component in shown(browser, tmp_path, live):
        moved = component.locator("input[type=range]")
        for key, epoch, ends in (
            ("End", 10, (7, 9)),
            ("Home", 3, (1, 2)),
            ("ArrowRight", 5, (4, 2)),
        ):
            moved.press(key)
            means = [
                mean_interval([100 * h.epochs[e].val_accuracy for h in seeds])
                for seeds, e in zip(histories.values(), ends, strict=True)
            ]
            expected = [[getattr(m, end) for m in means] for end in ("mean", "low", "high")]
            expected = torch.tensor(expected, dtype=torch.float64)
            torch.testing.assert_close(numbers(component), expected, atol=1e-5, rtol=0)
            said = component.locator("[role=status]").inner_text()
            assert said.startswith(f"After epoch {epoch}, ")
            assert f": alone: {means[0].mean:.2f}; taught: {means[1].mean:.2f}." in said


def test_a_budget_buys_the_same_in_the_page(browser, tmp_path):
    shares = ([0.5] * 3, [0.86] * 3)  # as good as the middle one on validation images
    rungs = [BIG, MIDDLE, size("lucky", 150, [0.7] * 3, [0.99] * 3, validation=shares), SMALL, TINY]
    costs = {"MFLOPs per image": 5e-4, "thousand parameters": 0.6, "µs per image, one thread": 20.0}
    live = interactive.budget_explorer(rungs, costs, Interval(0.97, 0.96, 0.98, 3))
    bought = set()
    for component in shown(browser, tmp_path, live):
        moved, choice = component.locator("input[type=range]"), component.locator("select")
        for which, by in enumerate(BUDGETS):
            choice.select_option(index=which)
            for keys in (["Home"], ["ArrowRight"] * 8, ["ArrowRight"] * 6, ["End"]):
                for key in keys:
                    moved.press(key)
                best, label, _ = best_within(rungs, by, int(moved.input_value()))
                expected = f"{best.name}, {label}: {percent(best.mean(label), 1)}"
                said = component.locator("[role=status]").inner_text()
                assert f" {by}: {expected}." in said
                bought.add((which, expected))
            accuracies = numbers(component)[1:]
            means = [[100 * r.mean(m) for r in rungs] for m in rungs[0].result.labels]
            torch.testing.assert_close(
                accuracies, torch.tensor(means, dtype=torch.float64), atol=1e-5, rtol=0
            )
            rings = component.locator("svg.wide .ring").count()
            assert rings == len(pareto_front(rungs, by))
    assert len(bought) > 6


def test_the_sweep_in_the_page_shows_the_cell_that_was_chosen(browser, tmp_path):
    path = tables.REFERENCE / "subclass_sweep.json"
    live, record = interactive.sweep_explorer(path), json.loads(path.read_text(encoding="utf-8"))
    cells = {(c["loss"], c["subclasses"], c["weight"]): c for c in record["cells"]}
    losses, sizes, weights = (list(dict.fromkeys(values)) for values in zip(*cells, strict=True))
    seen = set()
    for component in shown(browser, tmp_path, live):
        choice = component.locator("select")
        sliders = component.locator("input[type=range]").all()
        for which, keys in ((1, ("Home", "End")), (0, ("End", "Home")), (1, ("End", "End")),
                            (0, ("ArrowLeft", "ArrowLeft")), (1, ("Home", "Home"))):  # fmt: skip
            choice.select_option(index=which)
            for slider, key in zip(sliders, keys, strict=True):
                slider.press(key)
            size, weight = (int(slider.input_value()) for slider in sliders)
            cell = cells[losses[which], sizes[size], weights[weight]]
            said = component.locator("[role=status]").inner_text()
            recovered = mean_interval([t["recovered"] for t in cell["teachers"]])
            student = mean_interval(cell["students"])
            assert said.startswith(f"{losses[which]}, weight {weights[weight]:g}; live subclasses")
            assert f"recovered: {100 * recovered.mean:.0f} % ({100 * recovered.low:.0f} " in said
            assert f"subclass student: {100 * student.mean:.1f} % (" in said
            rows = component.locator("tbody tr").all()
            counts = [[int(n) for n in row.locator("td").all_inner_texts()] for row in rows]
            assert sorted(counts) == sorted(cell["teachers"][0]["counts"])
            seen.add(said)
    assert len(seen) == 5


def test_the_saliency_picker_cuts_out_the_map_that_was_picked(browser, tmp_path):
    """What the page paints over the image is the map, to half a step of its forty."""
    maps = torch.randn(3, 4, 28, 28, generator=GENERATOR)
    other = torch.randn(3, 4, 28, 28, generator=GENERATOR)
    offered = {
        "teacher": {Saliency.GRADIENT: maps, Saliency.GRAD_CAM: other.abs()},
        "student": {Saliency.GRADIENT: other},
    }
    names = [f"image {i + 1}: {name}" for i, name in enumerate(NAMES[:3])]
    live = interactive.saliency_picker(IMAGES, names, NAMES, offered, start=2)
    for component in shown(browser, tmp_path, live):
        image, target, kind, model = component.locator("select").all()
        assert target.input_value() == NAMES[2]
        assert component.locator("figcaption").all_inner_texts() == ["image", "teacher", "student"]
        for i, c, k, m in ((0, 2, "gradient", 0), (2, 0, "gradient", 2), (1, 3, "gradient", 1),
                           (1, 1, "Grad-CAM", 1), (2, 3, "Grad-CAM", 0)):  # fmt: skip
            image.select_option(index=i)
            target.select_option(index=c)
            kind.select_option(label=k)
            model.select_option(index=m)
            shown_models = [n for j, n in enumerate(offered) if m in (0, j + 1) and k in offered[n]]
            assert component.locator("figcaption").all_inner_texts() == ["image", *shown_models]
            for j, name in enumerate(shown_models):
                own = offered[name][Saliency(k)][i, c]
                painted = pixels(component.locator(".over[role=img] > div").nth(j))
                expected = own / own.abs().max()
                torch.testing.assert_close(painted, expected, atol=0.5 / 20 + 1 / 255, rtol=0)
                share, row, column = numbers(component)[:, j].tolist()
                strongest = own.abs().argmax().item()
                assert (row, column) == (strongest // 28 + 1, strongest % 28 + 1)
                expected = own.clamp(min=0).sum() / own.abs().sum()
                assert share == pytest.approx(expected.item(), abs=1e-5)
        model.select_option(index=2)
        assert "has no feature maps" in component.locator("[role=status]").inner_text()


def pixels(element):
    """(28, 28) signed strengths that an element's background shows, cut out as CSS says."""
    style = element.evaluate(
        "e => { const s = getComputedStyle(e);"
        " return [s.backgroundImage, s.backgroundPosition, s.backgroundSize]; }"
    )
    source, position, size = style
    picture = Image.open(io.BytesIO(base64.b64decode(source.split("base64,")[1].split('"')[0])))
    colours = torch.from_numpy(np.array(picture.convert("RGBA")).copy()).double()
    columns, rows = (round(float(s.rstrip("%")) / 100) for s in size.split())
    x, y = (float(p.rstrip("%")) / 100 for p in position.split())
    left, top = round(x * (columns - 1)) * 28, round(y * (rows - 1)) * 28
    cut = colours[top : top + 28, left : left + 28]
    sign = torch.where(cut[..., 0] > cut[..., 2], 1.0, -1.0)  # orange is positive, blue negative
    return (sign * cut[..., 3] / 255).float()


@pytest.mark.parametrize("classes", [13, 77, 300])
def test_of_many_classes_a_page_shows_the_leading_ones(classes, browser, tmp_path):
    generator = torch.Generator().manual_seed(classes)
    logits = 2 * torch.randn(4, classes, generator=generator)
    labels, names = torch.tensor([0, 1, 2, 3]), [f"a kind of thing no. {i}" for i in range(classes)]
    images = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    lives = (
        interactive.temperature_explorer(images, labels, logits, names, 4.0),
        interactive.loss_explorer(logits[0], logits[1], 5, names, 4.0, 0.5),
        interactive.subclass_explorer(
            images, labels, torch.cat([logits, logits], 1), names, "wxyz", 2.0
        ),
    )
    path = tmp_path / "many.html"
    path.write_text(page_of(*lives), encoding="utf-8")
    for page in opened(browser, path):
        temperature, loss, subclasses = page.locator(".component").all()
        for component in (temperature, loss):
            shown = numbers(component)
            assert shown.shape[1] == MOST
            # Probabilities of all classes add up to 1, pushes on all logits to 0.
            totals = [1, 1] if component is temperature else [1, 1, 0, 0, 0]
            assert shown.sum(1).tolist() == pytest.approx(totals, abs=2e-4)
            rows = component.locator("details tbody th").all_text_contents()
            assert rows[-1] == f"{classes - MOST + 1} others"
        assert "a kind of thing no. 5" in rows
        at_four = (logits[0].double() / 4).softmax(0)
        best = at_four.topk(MOST - 1)
        expected = at_four[best.indices.sort().values]
        torch.testing.assert_close(numbers(temperature)[1, :-1], expected, atol=1e-5, rtol=0)
        assert numbers(subclasses).shape[1] == 2 * (MOST - 1)
        for chart in page.locator(".component svg").all():
            texts = chart.locator("text").all_text_contents()
            assert len(texts) <= 2 * MOST and all(len(text) <= 18 for text in texts)
