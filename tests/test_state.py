"""The state of every component in the page's address: written, restored, and linked."""

import html
import re
from dataclasses import replace
from tempfile import TemporaryDirectory

import pytest
import torch
from lab import PATIENCE
from playwright.sync_api import expect
from test_components import GENERATOR, IMAGES, LABELS, LOGITS, NAMES, history, opened, page_of
from test_pad import IMAGES as DIGITS
from test_pad import NAMES as DIGIT_NAMES
from test_pad import NETWORKS, SEVEN, draw
from test_playground import CONFIG, DISTILLED, small_task
from test_size_sweep import BIG, MIDDLE, SMALL, TINY

from kdnb.course import interactive, tables
from kdnb.course.diagrams.diagram import Diagram, Steps, step, words
from kdnb.course.figures.costs import BUDGETS
from kdnb.course.interactive import pad, playground
from kdnb.course.interactive.components import page_script
from kdnb.course.report.protocol import HEADLESS
from kdnb.evaluation.saliency import Saliency
from kdnb.evaluation.statistics import Interval
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import ALONE
from kdnb.store.store import Store
from kdnb.tasks.config import DistillationConfig

pytestmark = pytest.mark.slow


def temperature():
    return interactive.temperature_explorer(IMAGES, LABELS, LOGITS, NAMES, 4.0)


def saliency():
    maps = torch.randn(3, 4, 28, 28, generator=GENERATOR)
    offered = {n: dict.fromkeys(Saliency, maps) for n in ("teacher", "student")}
    return interactive.saliency_picker(IMAGES, ["one", "two", "three"], NAMES, offered, start=2)


def steps():
    parts = [step([words(20, 20 * n, f"part {n}")]) for n in (1, 2, 3)]
    return Diagram(100, 80, parts, "Three parts.", Steps("part", ["first", "second", "third"]))


def training():
    """The playground of an experiment that is trained in a second."""
    task = replace(small_task(), distillation=DistillationConfig(4.0, 0.7, CONFIG))
    with TemporaryDirectory() as folder:
        lab = Experiment(task, store=Store(folder), device=torch.device("cpu"))
        compared = lab.compare([ALONE, DISTILLED], (1, 0), split="val")
        return playground.playground(lab, compared, 4.0, 0.7)


# Every component with a state, as a notebook makes it. A guess is the reader's alone and in no
# address.
GUESSES = {"guess", "result", "guesses"}
MADE = {
    "temperature": temperature,
    "loss": lambda: interactive.loss_explorer(LOGITS[0], LOGITS[1], 2, NAMES, 4.0, 0.9),
    "subclasses": lambda: interactive.subclass_explorer(
        IMAGES, LABELS, LOGITS, ["a", "b"], "xyz", 2.0
    ),
    "calibration": lambda: interactive.calibration_explorer(
        LOGITS.repeat(9, 1), LABELS.repeat(9), 1.5
    ),
    "curves": lambda: interactive.curves_explorer(
        {"alone": [history(s, 0, (1, 4, 7)) for s in range(3)],
         "taught": [history(s, 5, (2, 5, 9)) for s in range(3)]}
    ),
    "sweep": lambda: interactive.sweep_explorer(tables.REFERENCE / "subclass_sweep.json"),
    "size_sweep": lambda: interactive.budget_explorer(
        [BIG, MIDDLE, SMALL, TINY], dict.fromkeys(BUDGETS, 5.0), Interval(0.97, 0.96, 0.98, 3)
    ),
    "saliency": saliency,
    "pad": lambda: pad.drawing_pad(NETWORKS, DIGITS, LABELS.repeat(2), DIGIT_NAMES, 4.0),
    "playground": training,
    "steps": steps,
}  # fmt: skip
STATE = """() => Array.from(document.querySelectorAll('.component'), (place) => [
  Array.from(place.querySelectorAll('[data-state]'),
    (control) => [control.dataset.state, control.selectedIndex ?? control.value]),
  Array.from(place.querySelectorAll('[role=status], tbody'), (e) => e.textContent),
])"""


@pytest.fixture
def visit(browser, tmp_path, monkeypatch):
    """``visit(*lives)``: a page that shows them; ``visit(address=...)``: the same, elsewhere."""
    monkeypatch.setenv(HEADLESS, "1")
    file, pages = tmp_path / "page.html", []

    class At:  # what `opened` asks of a file
        def __init__(self, address):
            self.address = address

        def as_uri(self):
            return file.as_uri() + self.address

    def visit(*lives, address=""):
        if lives:
            file.write_text(page_of(*lives), encoding="utf-8")
        pages.append(opened(browser, At(address)))
        page = next(pages[-1])
        page.set_default_timeout(PATIENCE)
        page.locator(".component a", has_text="link to this state").first.wait_for()
        return page

    yield visit
    for page in pages:
        assert next(page, None) is None  # the test fails if the page complained


def state_of(page):
    return page.evaluate(STATE)


def address(page):
    return page.evaluate("location.hash")


def wait_for_address(page, pattern):
    page.wait_for_url(re.compile(pattern))
    return address(page)


COMPONENTS = re.findall(r"^COMPONENTS\.(\w+) =", page_script(), re.MULTILINE)


@pytest.mark.parametrize("name", [name for name in COMPONENTS if name not in GUESSES])
def test_the_address_holds_every_control_of_a_component(visit, name):
    page = visit(MADE[name]())
    rested, seen = state_of(page), []
    controls = page.locator("[data-state]").all()
    assert controls
    for control in controls:
        kind = control.get_attribute("type")
        if kind == "hidden":
            draw(page, *SEVEN)
        else:
            control.press("ArrowRight" if kind == "range" else "ArrowDown")
            if state_of(page) == (seen or [rested])[-1]:  # it was at its end
                control.press("ArrowLeft" if kind == "range" else "ArrowUp")
        seen.append(state_of(page))
        assert seen[-1] not in [rested, *seen[:-1]]
        setting = control.get_attribute("data-state")
        wait_for_address(page, rf"#00-{name}\?(.*&)?{setting}=[^&]+")
        link = page.locator("a", has_text="link to this state")
        assert link.evaluate("a => a.hash") == address(page)
        assert state_of(visit(address=address(page))) == seen[-1]


def test_values_are_readable(visit):
    image = visit(temperature(), MADE["sweep"](), MADE["curves"](), saliency())
    t, weight, epoch = (image.locator(f"[data-state={name}]") for name in ("T", "weight", "epoch"))
    image.locator("[data-state=image]").first.select_option(index=1)
    for _ in range(8):
        t.press("ArrowRight")
    assert wait_for_address(image, "T=8") == "#00-temperature?image=2&T=8"
    weight.press("ArrowRight")
    assert wait_for_address(image, "sweep") == "#00-sweep?weight=3"
    epoch.press("Home")
    assert wait_for_address(image, "curves") == "#00-curves?epoch=3"
    image.locator("[data-state=map]").select_option(label="Grad-CAM")
    assert wait_for_address(image, "saliency") == "#00-saliency?map=Grad-CAM"
    image.locator("[data-state=map]").select_option(index=0)
    wait_for_address(image, "#00-saliency$")


def test_a_second_component_of_a_kind_has_its_own_address(visit):
    page = visit(temperature(), temperature(), address="#00-temperature-2?T=16")
    first, second = page.locator("input[type=range]").all()
    assert (first.input_value(), second.input_value()) == ("2", "4")
    first.press("ArrowLeft")
    assert wait_for_address(page, "T=3") == "#00-temperature?T=3.668"


def test_a_changed_address_restores_all_settings_of_its_component(visit):
    page = visit(temperature(), MADE["loss"](), address="#00-temperature?T=8&image=3")
    t, w = page.locator("[data-state=T]"), page.locator("[data-state=w]")
    assert t.first.input_value() == "3"
    go_to(page, "#00-loss?w=0.25&T=1")
    assert w.input_value() == "0.25"
    assert (t.first.input_value(), t.last.input_value()) == ("3", "0")
    assert "soft_weight 0.25" in page.locator("[role=status]").last.inner_text()
    go_to(page, "#00-loss?w=1")
    assert (t.last.input_value(), w.input_value()) == ("2", "1"), "what is not named rests"


MALFORMED = [
    "#00-nothing?T=8", "#?T=8", "#T=8", "#%", "#%zz?T=8", "#00-temperature?%zz=%",
    "#00-temperature?T", "#00-temperature?T=", "#00-temperature?T=+", "#00-temperature?T=hot",
    "#00-temperature?T=0", "#00-temperature?T=-8", "#00-temperature?T=Infinity",
    "#00-temperature?t=8", "#00-temperature?image=0", "#00-temperature?image=4",
    "#00-temperature?image=1.5", "#00-temperature?image=two", "#00-temperature?constructor=8",
    "#00-pad?drawing=zzz", "#00-pad?drawing=ab", "#00-pad?drawing=..", "#00-pad?drawing=<b>",
    "#00_touch-99", "#00-loss?w=", "#00-loss?w=+", "#00-sweep?weight=2&loss=length",
]  # fmt: skip


def test_a_malformed_address_changes_nothing(visit):
    page = visit(temperature(), MADE["pad"](), MADE["sweep"](), MADE["loss"]())
    rested = state_of(page)
    for malformed in MALFORMED:
        go_to(page, malformed)
        assert state_of(page) == rested, malformed
    assert state_of(visit(address="#00-temperature?T=hot&%")) == rested


def go_to(page, there):
    page.evaluate(
        "there => new Promise((done) => { location.hash = there;"
        " addEventListener('hashchange', () => setTimeout(done), { once: true }); })",
        there,
    )


def test_the_page_comes_to_the_component_and_tells_what_covers_it(visit):
    visit(*[temperature() for _ in range(6)])
    page = visit(address="#00-temperature-5?T=8")
    fifth, second = (page.locator(f"[id='00-temperature-{n}']") for n in (5, 2))
    expect(fifth).to_be_in_viewport(ratio=0.9)
    expect(second).not_to_be_in_viewport()
    page.evaluate(
        "document.querySelector('.chapter').addEventListener('reveal', (event) =>"
        " { document.title = event.target.id; })"
    )
    go_to(page, "#00-temperature-2?T=1")
    assert page.title() == "00-temperature-2"
    expect(second).to_be_in_viewport(ratio=0.9)


def test_a_link_that_is_followed_at_once_keeps_its_address(visit):
    page = visit(temperature())
    page.locator("input[type=range]").press("ArrowRight")
    page.locator("nav ol a").first.click()
    page.wait_for_timeout(1000)
    assert address(page) == "#00_touch-0"


def test_many_moves_are_no_flood_of_addresses(visit):
    """Browsers ignore or refuse more than 100 to 200 changes in half a minute."""
    page = visit(temperature())
    page.evaluate(
        "() => { const real = history.replaceState; window.changes = 0;"
        " history.replaceState = (...given) => { window.changes += 1;"
        " real.apply(history, given); }; }"
    )
    page.locator("input[type=range]").evaluate(
        "async (slider) => { for (let i = 0; i < 400; i++) { slider.value = i % 6;"
        " slider.dispatchEvent(new Event('change', { bubbles: true }));"
        " await new Promise((done) => setTimeout(done, 5)); } }"
    )
    assert wait_for_address(page, "T=8$") == "#00-temperature?T=8"
    assert page.evaluate("window.changes") < 20


def test_what_was_drawn_is_linked_in_few_characters(visit):
    page = visit(MADE["pad"]())
    page.locator("canvas.pad").scroll_into_view_if_needed()
    draw(page, *SEVEN)
    drawn = wait_for_address(page, "drawing=").partition("drawing=")[2]
    assert len(drawn) == 9, "three points of three characters"
    draw(page, (0.3, 0.5), (0.7, 0.5))
    wait_for_address(page, r"drawing=\w{9}\.\w{6}$")
    page.get_by_role("button", name="Clear").press("Enter")
    wait_for_address(page, r"#00-pad\?image=1$")
    go_to(page, f"#00-pad?image=1&drawing={drawn}")
    assert page.locator("[data-state=drawing]").input_value() == drawn
    go_to(page, "#00-pad?T=8")
    assert page.locator("[data-state=drawing]").input_value() == ""


def test_links_are_for_the_screen_and_the_page_itself(visit, browser, tmp_path):
    page = visit(temperature())
    link = page.locator("a", has_text="link to this state")
    assert link.is_visible() and link.get_attribute("href") == "#00-temperature"
    page.emulate_media(media="print")
    assert not link.is_visible()
    source = html.escape((tmp_path / "page.html").read_text(encoding="utf-8"))
    framed = tmp_path / "framed.html"
    sandboxed = f"<iframe sandbox='allow-scripts' srcdoc=\"{source}\"></iframe>"
    framed.write_text(f"<!DOCTYPE html><title>a lesson</title>{sandboxed}", encoding="utf-8")
    for outer in opened(browser, framed):
        (frame,) = outer.frames[1:]
        slider = frame.locator("input[type=range]")
        slider.press("ArrowRight")
        assert slider.input_value() == "2.125"
        outer.wait_for_timeout(1000)
        assert frame.locator("a", has_text="link to this state").count() == 0
