"""What can be moved in the report: in a real browser, by keyboard, against torch."""

import base64
import re

import nbformat
import pytest
import torch

from kdnb.course import widgets
from kdnb.course.protocol import COMPONENT
from kdnb.course.report import render_chapter, render_page
from kdnb.losses import distillation_loss

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
        data["image/png"] = base64.b64encode(data["image/png"]).decode()
        output = nbformat.v4.new_output("display_data", data=data, metadata=metadata)
        notebook.cells.append(nbformat.v4.new_code_cell("touch()", outputs=[output]))
    chapter = render_chapter(notebook, "00_touch", ["00_touch"])
    return render_page([chapter], title="Touch", about="A test.", facts=[])


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    live = widgets.temperature_explorer(IMAGES, LABELS, LOGITS, NAMES, 4.0)
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
        assert f"{100 * (1 - expected[1].max()):.1f} % lie outside" in said
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
    live = widgets.temperature_explorer(IMAGES, LABELS, LOGITS, NAMES, 4.0)
    component = live._repr_mimebundle_()[0][COMPONENT]
    assert [image["logits"] for image in component["images"]] == LOGITS.double().tolist()
    assert (component["lowest"], component["highest"]) == (0.5, 64.0)
    assert component["temperature"] == 4.0


@pytest.fixture(scope="module")
def other_file(tmp_path_factory):
    loss = widgets.loss_explorer(LOGITS[0], LOGITS[1], 2, NAMES, 4.0, 0.9)
    subclasses = widgets.subclass_explorer(IMAGES, LABELS, LOGITS, ["a", "b"], "xyz", 2.0)
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
        assert f"hold {bits[0]:.2f} bits, the subclasses {bits[1]:.2f}" in said
