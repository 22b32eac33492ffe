"""The whole way: one command, all notebooks, one HTML file, looked at in a real browser."""

import json
import re
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

from kdnb.course.report.execution import find_notebooks
from kdnb.tasks.config import COURSE

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def made(reports):
    """Folder and run store of the digits report."""
    return reports


@pytest.fixture(scope="session")
def page(made, browser):
    """The report opened from its file; every request it makes and every complaint is noted."""
    page = browser.new_page()
    page.asked, page.complaints = [], []
    page.route(re.compile("^https?:"), lambda route: route.abort())
    page.on("request", lambda r: page.asked.append(r.url))
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto((made[0] / "mnist-small.html").as_uri())
    page.evaluate("document.getElementById('show-answers').click()")
    return page


def test_every_cell_ran(made):
    for path in find_notebooks(COURSE):
        executed = nbformat.read(made[0] / "mnist-small" / path.name, as_version=4)
        for cell in executed.cells:
            if cell.cell_type == "code":
                assert cell.execution_count is not None, (path.name, cell.id)
                kinds = [output.output_type for output in cell.outputs]
                assert "error" not in kinds, (path.name, cell.id)
                text = "".join(o.text for o in cell.outputs if o.output_type == "stream")
                assert "Warning" not in text, (path.name, cell.id, text)


def results(made, dataset):
    record = json.loads((made[0] / "mnist-small.json").read_text())
    return [result for result in record["results"] if result.get("dataset") == dataset]


def test_the_effect_is_real_and_visible(made):
    """What the embedded task promises: the gain's interval lies above zero."""
    result, *_ = results(made, "mnist-small")
    assert result["split"] == "test" and result["images"] == 10_000 and len(result["seeds"]) == 3
    gain = result["gain"]["student + conventional KD"]
    assert gain["low"] > 0
    accuracy = {label: sum(values) / 3 for label, values in result["accuracy"].items()}
    assert accuracy["student without teacher"] < accuracy["student + conventional KD"]
    assert accuracy["student + conventional KD"] < accuracy["teacher"]


def test_the_sentence_is_the_one_the_numbers_ask_for(made):
    result, *_ = results(made, "mnist-small")
    mean = 100 * result["gain"]["student + conventional KD"]["mean"]
    assert "<strong>A gain</strong>: student + conventional KD" in (html := html_of(made))
    assert f"{mean:+.2f} points" in html


def test_without_an_auxiliary_loss_subclasses_die(made):
    """And with two views that agree more live than without, on every seed."""
    divided, _ = results(made, "mnist-small-2x5")
    assert divided["subclass_outputs"] == 10
    ways = {label: [t["live"] for t in ts] for label, ts in divided["divisions"].items()}
    none, views = ways["no auxiliary loss"], ways["mutual information (IIC)"]
    mueller = ways["Müller's auxiliary loss"]
    assert len(none) == len(mueller) == len(views) == 3
    assert max(none) < min(views) and sum(none) < sum(mueller) <= sum(views)


def html_of(made):
    return (made[0] / "mnist-small.html").read_text(encoding="utf-8")


def test_one_file_that_asks_for_nothing(page, made):
    assert page.asked[0].startswith("file://") and page.asked[0].endswith("mnist-small.html")
    assert [url for url in page.asked[1:] if not url.startswith("data:")] == []
    assert page.complaints == []
    for task in ("mnist-small", "polyps"):
        assert (made[0] / f"{task}.html").stat().st_size < 6e6


def test_every_image_has_words(page):
    # What is put together from several images has one text for all of them.
    alts = page.eval_on_selector_all("img:not([role=img] *)", "images => images.map(i => i.alt)")
    names = page.eval_on_selector_all("[role=img]", "all => all.map(e => e.ariaLabel)")
    assert len(alts) >= 12 and all(len(alt) > 20 for alt in alts)
    assert len(names) >= 12 and all(len(name) > 20 for name in names)
    assert page.eval_on_selector_all("img", "i => i.every(x => x.complete && x.naturalWidth)")


def test_no_dead_widgets_and_no_raw_maths(page):
    text = page.inner_text("main")
    for leftover in ("VBox(children", "FloatLogSlider", "widget-view", "$$", "\\frac"):
        assert leftover not in text
    assert page.locator("math").count() >= 10
    assert page.locator("details.code").count() >= 30


def test_contents_lead_somewhere(page):
    assert page.locator("a[href$='.ipynb']").count() == 0
    targets = page.eval_on_selector_all("a[href^='#']", "links => links.map(a => a.hash.slice(1))")
    ids = page.eval_on_selector_all("[id]", "all => all.map(e => e.id)")
    assert len(targets) >= 20 and set(targets) <= set(ids) and len(set(ids)) == len(ids)


def test_heading_order(page):
    levels = page.eval_on_selector_all(
        "h1, h2, h3, h4, h5, h6", "all => all.map(h => Number(h.tagName[1]))"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_page(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
