"""The page of a report as a reader meets it: contents, schemes, paper, keyboard, hostile names."""

import base64
import json
import re
from pathlib import Path

import nbformat
import pytest
import torch
from axe import serious
from guessing import spoken_of
from lab import PATIENCE

from kdnb.course import figures, interactive
from kdnb.course.report.page import render_chapter, render_page, seeds_of
from kdnb.course.report.protocol import COMPONENT

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
TASKS = ["mnist-small", "polyps"]
HOSTILE = "<script>alert(1)</script>"
PAPER = 680  # CSS pixels: the width of A4 less 2 × 15 mm


@pytest.fixture
def visit(browser, reports):
    """``visit(task, ...)``: a page in a context of its own; a complaint of its fails the test.

    Its answers are shown, unless ``answers`` is False.
    """
    contexts, complaints = [], []

    def visit(task, width=1280, answers=True, **options):
        context = browser.new_context(viewport={"width": width, "height": 800}, **options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto((reports[0] / f"{task}.html").as_uri())
        if answers and options.get("java_script_enabled", True):
            page.evaluate("document.getElementById('show-answers').click()")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []


# Accessibility


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("task", TASKS)
def test_axe_finds_nothing_serious(visit, task, scheme, width):
    page = visit(task, width, color_scheme=scheme, bypass_csp=True, reduced_motion="reduce")
    page.eval_on_selector_all("main details", "all => all.forEach(d => { d.open = true })")
    grave, passed = serious(page)
    assert passed > 15
    assert grave == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_bars_stand_out_from_the_page(visit, scheme):
    page = visit("mnist-small", color_scheme=scheme)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    fills = page.eval_on_selector_all(
        ".component rect[fill]", "bars => [...new Set(bars.map(b => getComputedStyle(b).fill))]"
    )
    assert len(fills) >= 3 and (luminance(paper) > 0.5) == (scheme == "light")
    for fill in fills:
        high, low = sorted((luminance(fill), luminance(paper)), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 3, fill


def luminance(colour):
    """Relative luminance of "rgb(r, g, b)" (WCAG 2.2)."""
    channels = [int(c) / 255 for c in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("task", TASKS)
def test_all_that_can_be_moved_moves_by_keyboard(visit, task):
    page = visit(task, reduced_motion="reduce")
    # What a guess does is tested in test_guess_page.py.
    controls = page.locator(".component:not(.guess) :is(input[type=range], select)").all()
    assert len(controls) >= 5
    for control in controls:
        said = control.locator("xpath=ancestor::*[@class='component']//*[@role='status']")
        before = control.input_value(), said.inner_text()
        control.focus()
        page.keyboard.press("ArrowDown")
        if control.input_value() == before[0]:  # it stood at the last choice
            page.keyboard.press("ArrowUp")
        after = control.input_value(), said.inner_text()
        name = control.evaluate("it => it.labels[0].textContent")
        assert after[0] != before[0] and after[1] != before[1], name
    assert [url for url in page.asked[1:] if not url.startswith("data:")] == []


def test_what_scrolls_sideways_is_a_stop_for_the_keyboard_and_nothing_else(visit):
    boxes = """[...document.querySelectorAll(".scroll")].map(
        (b) => [b.scrollWidth > b.clientWidth, b.tabIndex === 0 && b.role === "group"])"""
    for width, least in ((390, 10), (1280, 0)):
        page = visit("mnist-small", width)
        page.eval_on_selector_all("main details", "all => all.forEach(d => { d.open = true })")
        # The observer is asked with the next frame.
        page.wait_for_function(f"() => {boxes}.every(([wide, stop]) => wide === stop)")
        assert sum(wide for wide, _ in page.evaluate(boxes)) >= least


# Guesses


@pytest.mark.parametrize("task", TASKS)
def test_every_chapter_covers_its_answer_until_it_is_revealed(visit, task):
    page = visit(task, answers=False)
    chapters = page.locator(".chapter").all()
    hidden = page.locator(".covered img").count()
    assert len(chapters) >= 6 and hidden > 20
    for chapter in chapters:
        (guess,) = chapter.locator(".guess").all()
        (result,) = chapter.locator(".beside").all()
        assert result.is_hidden() and chapter.locator("h3.covered").count() > 2
        guess.get_by_role("button", name="Reveal", exact=True).click()
        assert result.is_visible() and chapter.locator(".covered").count() == 0
        assert "Your guess: " in result.inner_text() and "Your guess: " in guess.inner_text()
    made = f"You made {len(chapters)} of {len(chapters)} guesses: "
    assert page.get_by_role("status").filter(has_text=made).count() == 1


@pytest.mark.parametrize("task", TASKS)
def test_headless_outputs_do_not_speak_of_guesses(reports, task):
    for path in sorted((reports[0] / task).glob("*.ipynb")):
        for cell in nbformat.read(path, 4).cells:
            for output in cell.get("outputs", []):
                data = output.get("data", {})
                words = [data.get(kind, "") for kind in ("text/plain", "text/markdown")]
                words += [about["alt"] for about in output.get("metadata", {}).values()
                          if isinstance(about, dict) and "alt" in about]  # fmt: skip
                words.append(output.get("text", ""))
                assert spoken_of("\n".join(words)) == [], (path.name, cell.id)


# Contents


def test_the_contents_follow_the_scroll(visit):
    page = visit("mnist-small", reduced_motion="reduce")
    assert page.locator("nav [aria-current]").count() == 0  # on the cover
    links = page.locator("nav ol a")
    for number in (1, links.count() - 1, 2, links.count() // 2):
        link = links.nth(number)
        target = link.evaluate("it => it.hash")
        page.evaluate("hash => document.getElementById(hash.slice(1)).scrollIntoView()", target)
        page.locator(f"nav [aria-current=true][href='{target}']").wait_for()
        assert page.locator("nav [aria-current]").count() == 1
        place = page.evaluate("window.scrollY")
        shown, box = link.bounding_box(), page.locator("nav ol").bounding_box()
        assert box["y"] <= shown["y"] and shown["y"] + shown["height"] <= box["y"] + box["height"]
        page.wait_for_timeout(100)
        assert page.evaluate("window.scrollY") == place  # the contents moved, the page did not
        assert link.evaluate("it => getComputedStyle(it).fontWeight") == "700"
    # Deep in a section its heading has long left the window.
    page.evaluate("""() => { const next = document.querySelectorAll(".chapter")[2];
      window.scrollTo(0, next.getBoundingClientRect().top + scrollY - innerHeight); }""")
    last = page.locator("nav ol > li:nth-child(2) a").last
    heading = page.locator(f"[id='{last.get_attribute('href')[1:]}']")
    page.evaluate("y => window.scrollBy(0, y)", heading.bounding_box()["y"] + 40)
    page.locator(f"nav [aria-current=true][href='{last.get_attribute('href')}']").wait_for()


def test_on_a_phone_the_contents_unfold_lead_there_and_fold(visit):
    page = visit("mnist-small", 390, reduced_motion="reduce")
    bar, link = page.locator("nav summary"), page.locator("nav ul a").nth(12)
    heading = page.locator("h3").nth(12)
    assert bar.is_visible() and link.is_hidden()
    page.evaluate("window.scrollTo(0, 5000)")
    bar.focus()
    bar.press("Enter")
    assert link.is_visible()
    link.click()
    assert heading.text_content() == link.text_content()
    assert link.is_hidden()
    below = page.locator("nav").bounding_box()
    assert below["y"] == 0 and heading.bounding_box()["y"] >= below["height"]
    page.locator("nav .here", has_text=heading.text_content()).wait_for()


def test_the_contents_need_no_script(visit):
    page = visit("mnist-small", java_script_enabled=False)
    assert page.locator("nav ul a").last.is_visible()
    phone = visit("mnist-small", 390, java_script_enabled=False)
    assert phone.locator("nav ul a").first.is_visible()
    assert phone.locator("main img").first.is_visible()


def test_the_cover_answers_from_the_numbers_of_the_run(visit, reports):
    page = visit("mnist-small")
    record = json.loads((reports[0] / "mnist-small.json").read_text())
    (result,) = (
        r for r in record["results"]
        if r.get("dataset") == "mnist-small" and "student + subclass KD" in r.get("gain", {})
    )  # fmt: skip
    what, gain, cost, _ = page.locator(".poster .answer").all_inner_texts()
    assert "labels (weight 0.1)" in what and "T = 8 (weight 0.9)" in what
    gained = result["gain"]["student + conventional KD"]
    assert f"{100 * gained['mean']:+.2f} points" in gain and "A gain" in gain
    costs = next(r["cost"] for r in record["results"] if "cost" in r)
    assert f"{costs['teacher']['parameters']:,}" in cost
    rows = page.locator(".poster tbody th").all_inner_texts()
    assert rows == ["teacher", *(f"student {how}" for how in METHODS)]
    assert page.locator(".poster figure img").count() == 5
    assert page.locator(".poster svg[role=img]").count() == 1
    assert page.locator(".poster .bar").count() == 4


METHODS = ("without teacher", "+ conventional KD", "+ subclass KD")


@pytest.mark.parametrize("task", TASKS)
def test_the_cover_fills_one_screen_and_the_chapters_follow(visit, task):
    page = visit(task)
    page.set_viewport_size({"width": 1280, "height": 900})
    cover, reading = (page.locator(it).bounding_box() for it in (".cover", ".reading"))
    assert 780 < cover["y"] + cover["height"] <= 900 < reading["y"]
    assert page.locator(".questions li").count() == page.locator(".chapter").count()


def test_the_end_says_what_was_run(visit, reports):
    page = visit("mnist-small")
    rows = dict(page.eval_on_selector_all(
        ".facts tr", "rows => rows.map(r => [r.cells[0].innerText, r.cells[1].innerText])"
    ))  # fmt: skip
    record = json.loads((reports[0] / "mnist-small.json").read_text())
    assert list(rows)[:5] == ["made", "ran", "set for this run", "data", "data fingerprint"]
    assert rows["data fingerprint"] == record["data_fingerprint"]
    assert record["provenance"]["torch"] in rows["versions"]
    models = page.locator(".end .scroll").nth(1).locator("tbody tr").all_inner_texts()
    assert [row[:2] for row in models] == [f"0{n}" for n in range(7)]
    assert "mnist-small-2x5" in models[3] and "0, 1, 2" in models[1]
    # Nowhere else: not as the table of each chapter.
    assert page.locator(".chapter", has_text="fingerprint").count() == 0
    assert page.locator("main strong", has_text="Task: MNIST").count() == 2  # one of two classes


def test_seeds_are_those_that_the_run_was_given():
    cells = [("parameters", "seeds = [0, 1]  # all\nextra_seeds = []\nT = 4"),
             ("injected-parameters", "seeds = [5, 7]"), ("other", "seeds = [9]")]  # fmt: skip
    cells = [nbformat.v4.new_code_cell(code, metadata={"tags": [tag]}) for tag, code in cells]
    assert seeds_of(nbformat.v4.new_notebook(cells=cells)) == "5, 7"
    assert seeds_of(nbformat.v4.new_notebook(cells=cells[:1])) == "0, 1"
    assert seeds_of(nbformat.v4.new_notebook()) == ""


# Paper


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("task", TASKS)
def test_words_in_a_drawing_lie_inside_it(visit, task, width):
    page = visit(task, width)
    outside = """all => all.filter((it) => {
      const text = it.getBoundingClientRect(), box = it.ownerSVGElement.getBoundingClientRect();
      return text.width && (text.left < box.left - 1 || text.right > box.right + 1
        || text.top < box.top - 1 || text.bottom > box.bottom + 1);
    }).map((it) => `${it.textContent} in ${it.ownerSVGElement.getAttribute("aria-label")}`)"""
    words = page.locator("svg text")
    assert words.evaluate_all(outside) == [] and words.count() > 200


@pytest.mark.parametrize("task", TASKS)
def test_on_paper_nothing_is_cut(visit, task):
    page = visit(task, PAPER, answers=False, color_scheme="dark")
    page.emulate_media(media="print")
    shown = "it => it.checkVisibility() && it.getBoundingClientRect().toJSON()"
    pictures = page.eval_on_selector_all(".scroll img", f"all => all.map({shown})")
    assert len(pictures) >= 25 and all(pictures)
    tables = page.eval_on_selector_all("main table", f"all => all.map({shown}).filter(b => b)")
    assert len(tables) >= 15
    maths = page.eval_on_selector_all("main math, main pre", f"all => all.map({shown})")
    for box in pictures + tables + [box for box in maths if box]:
        assert box["left"] >= 0 and box["right"] <= PAPER + 0.5, box
        assert box["width"] > 0 and box["height"] < 970  # a page is 263 mm high
    clipped = "all => all.filter(b => b.scrollWidth > b.clientWidth + 1).map(b => b.outerHTML)"
    assert page.eval_on_selector_all("main *:not(math *)", clipped) == []
    padded = "all => all.filter((it) => getComputedStyle(it).padding !== '0px').length"
    assert page.locator(".term").evaluate_all(padded) == 0  # a term looks like text everywhere
    assert page.locator("nav").is_hidden()
    assert not any(control.is_visible() for control in page.locator("input, select").all())
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_every_figure_is_in_the_pdf(visit):
    page = visit("mnist-small", answers=False)
    page.emulate_media(media="print")
    # Pictures, and those inside diagrams.
    sources = page.eval_on_selector_all(
        "main :is(img, image)",
        """all => new Set(all.filter((i) => i.checkVisibility()).map(
            (i) => i.src ?? i.href.baseVal)).size""",
    )
    assert sources > 25
    pdf = page.pdf(format="A4")
    assert len(re.findall(rb"/Subtype\s*/Image\b", pdf)) == sources
    chapters = page.locator(".chapter").count()
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > chapters


# Tables


@pytest.mark.parametrize("task", TASKS)
def test_no_wide_table_is_unfolded_and_each_has_a_chart_before_it(visit, task):
    page = visit(task)
    wide = page.eval_on_selector_all(
        "main table:has(tr > :nth-child(4)):not(.component *)",
        """all => all.map((table) => {
          const fold = table.closest("details.table"), cell = table.closest(".cell");
          const chart = fold?.previousElementSibling?.matches("[data-what=chart]");
          const figure = [cell, cell?.previousElementSibling].some((c) => c?.querySelector("img"));
          return { open: fold?.open ?? true, chart: chart || figure, head: table.tHead.innerText };
        })""",
    )
    assert len(wide) >= 10
    assert [table for table in wide if table["open"] or not table["chart"]] == []


# What comes from data


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A page in which all that can come from data is a script."""
    names = [HOSTILE, "b"]
    images, logits = torch.zeros(1, 1, 28, 28, dtype=torch.uint8), torch.tensor([[2.0, 1.0]])
    live = interactive.temperature_explorer(images, torch.tensor([0]), logits, names, 4.0)
    picture = figures.confusion_matrix(torch.tensor([[3, 1], [1, 3]]), names)
    outputs = []
    for shown in (live, picture):
        data, metadata = shown._repr_mimebundle_()
        data = {kind: data[kind] for kind in ("image/png", "text/plain", COMPONENT) if kind in data}
        data["image/png"] = base64.b64encode(data["image/png"]).decode()
        outputs.append(nbformat.v4.new_output("display_data", data=data, metadata=metadata))
    table = f"**{HOSTILE}** $\\text{{{HOSTILE}}}$\n\n| {HOSTILE} |\n| --- |\n| {HOSTILE} |\n"
    for data in ({"text/markdown": table}, {"text/plain": HOSTILE}):
        outputs.append(nbformat.v4.new_output("display_data", data=data))
    outputs.append(nbformat.v4.new_output("stream", name="stdout", text=HOSTILE))
    cells = [
        nbformat.v4.new_markdown_cell(f"# {HOSTILE}\n\n## {HOSTILE}"),
        nbformat.v4.new_code_cell(f"x = '{HOSTILE}'", outputs=outputs),
    ]
    chapter = render_chapter(nbformat.v4.new_notebook(cells=cells), "00", ["00"], HOSTILE)
    page = render_page([chapter], title=HOSTILE, about=HOSTILE, facts=[(HOSTILE, HOSTILE)])
    path = tmp_path_factory.mktemp("hostile") / "page.html"
    path.write_text(page, encoding="utf-8")
    return path


def test_a_class_named_like_a_script_is_text(browser, hostile):
    page = browser.new_page()
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.goto(hostile.as_uri())
    assert dialogs == [] and page.title() == HOSTILE
    # The page's own script and a component's data: those two and no more.
    assert page.locator("script").count() == 2
    places = ["h1", "h2", "h3", "nav ol", ".lead", ".facts th", ".facts td", ".stamp", "pre"]
    places += ["main strong", ".scroll th", ".scroll td", "option", ".component tbody"]
    for place in places:
        assert any(HOSTILE in text for text in page.locator(place).all_text_contents()), place
    alts = page.eval_on_selector_all("img", "images => images.map(i => i.alt)")
    assert len(alts) == 3 and all(HOSTILE in alt for alt in alts)
    page.close()


def test_the_policy_refuses_the_network(browser, hostile):
    page = browser.new_page()
    page.goto(hostile.as_uri())
    refused = page.evaluate("""async () => {
      const refused = [];
      document.addEventListener("securitypolicyviolation",
        (event) => refused.push(event.effectiveDirective));
      const image = new Image();
      const failed = new Promise((done) => { image.onerror = done; });
      image.src = "http://127.0.0.1:9/a.png";
      document.body.append(image);
      await failed;
      await fetch("http://127.0.0.1:9/").catch(() => {});
      const frame = document.createElement("iframe");
      frame.src = "http://127.0.0.1:9/";
      document.body.append(frame);
      await new Promise((done) => setTimeout(done, 300));
      return refused;
    }""")
    assert sorted(refused) == ["connect-src", "frame-src", "img-src"]
    page.close()


def test_executed_notebooks_become_a_page(reports):
    paths = sorted((reports[0] / "mnist-small").glob("*.ipynb"))
    chapters = [render_chapter(nbformat.read(p, 4), p.stem, [p.stem]) for p in paths]
    page = render_page(chapters, title="t", about="a", facts=[])
    assert len(chapters) == 7 and all(chapter.body in page for chapter in chapters)


@pytest.mark.parametrize("name", ["cover", "playground"])
def test_the_readme_shows_the_page(name):
    picture = ROOT / "report" / f"{name}.png"
    assert 20e3 < picture.stat().st_size < 250e3
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"!\[[^\]]{{60,}}\]\(report/{name}\.png\)", readme)
