"""Slides: which parts of a notebook they show, and how they behave in a browser.

`kdnb/course/static/reveal/` holds reveal.js 6.0.2 (MIT, with its LICENSE), as published on npm. To
renew it: `npm pack reveal.js@VERSION` and take `dist/reveal.js`, `dist/reveal.css` and LICENSE.
"""

import re
import shutil

import nbformat
import pytest
from axe import serious
from lab import PATIENCE
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from kdnb.__main__ import main
from kdnb.course.diagrams.diagram import Diagram
from kdnb.course.report import slides
from kdnb.course.report.editions import edition
from kdnb.course.report.execution import find_notebooks
from kdnb.course.report.protocol import COMPONENT
from kdnb.course.report.slides import lead, make_slides, render_slides, slides_of
from kdnb.course.report.written import WouldBeLostError
from kdnb.tasks.config import COURSE

slow = pytest.mark.slow
TASKS = ["mnist-small", "polyps"]
HOSTILE = "<script>alert(1)</script>"
# Of the slide that is shown: its size, what sticks out of it, and its smallest letters.
MEASURE = """() => {
  const slide = document.querySelector("section.present"), box = slide.getBoundingClientRect();
  const all = [...slide.querySelectorAll("*")];
  const shown = all.filter((e) => !e.closest("aside") && e.checkVisibility());
  const outside = shown.filter((e) => {
    const at = e.getBoundingClientRect();
    return at.width && at.height && (at.right > box.right - 20 || at.bottom > box.bottom - 20
      || at.left < box.left - 1 || at.top < box.top - 1);
  });
  const worded = shown.filter((e) => !e.closest("math, option")
    && [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim()));
  const letters = worded.map((e) => parseFloat(getComputedStyle(e).fontSize)
    * (e.ownerSVGElement ? e.getScreenCTM().a : e.currentCSSZoom));
  return {
    height: box.height, width: box.width, fits: slide.scrollHeight <= slide.clientHeight + 1,
    outside: outside.map((e) => e.outerHTML.slice(0, 80)), letters: Math.min(...letters),
    text: slide.innerText,
  };
}"""
READY = ".reveal.ready"  # not `wait_for_function`, whose polling the page's policy refuses
GO_TO = "number => Reveal.slide(number, 0, 99)"  # with all its fragments


# What stands on a slide


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("# Why?\n\nOne. Two two. Three.\n\nMore.", "# Why?\n\nOne. Two two."),
        ("One two three four. Five.", "One two three four."),
        ("One. Two. Three three. Is it? No.", "One. Two. Is it?"),
        ("As in Müller et al. 2019, e.g. This one. Not this one.",
         "As in Müller et al. 2019, e.g. This one."),
        ("One.\n\n$$ x $$\n\n| a |\n| - |\n\nMore.", "One.\n\n$$ x $$\n\n| a |\n| - |"),
        ("Run:\n\n    make it\n\nMore.", "Run:\n\n    make it"),
        ("- One. More.\n- Two. More.", "- One.\n- Two."),
        ("\n".join(f"- {n}" for n in range(12)),
         "\n".join(f"- {n}" for n in range(9)) + "\n- and 3 more"),
        ("```\na = 1\n\nb = 2. Or 3.\n```\n\nOne.", "```\na = 1\n\nb = 2. Or 3.\n```\n\nOne."),
    ],
)  # fmt: skip
def test_a_slide_shows_the_lead_of_a_text(text, shown):
    assert lead(text, words=3) == shown


def shown(data, **metadata):
    return new_output("display_data", data=data, metadata=metadata)


def cell(make, source, kind=None, tags=(), **more):
    metadata = {"tags": list(tags)} | ({"slideshow": {"slide_type": kind}} if kind else {})
    return make(source, metadata=metadata, **more)


def test_cells_become_slides_by_their_metadata():
    cells = [
        cell(new_code_cell, "hidden = 1", outputs=[shown({"text/markdown": "HIDDEN"})]),
        cell(new_markdown_cell, "# What is it?\n\nOne. Two.", "slide"),
        cell(new_markdown_cell, "## Left out\n\nHIDDEN"),
        cell(new_code_cell, "x = 1", "slide", ["lecture"],
             outputs=[shown({"text/markdown": "Answer."})]),
        cell(new_markdown_cell, "Appears.", "fragment"),
        cell(new_markdown_cell, "Only said.", "notes"),
        cell(new_markdown_cell, "## Next", "subslide"),
    ]  # fmt: skip
    first, second, third = slides_of(new_notebook(cells=cells), about=HOSTILE)
    assert "<h1>What is it?</h1>" in first.body and "script&gt;" in first.body
    assert HOSTILE not in first.body and "script" not in second.body
    assert "<h2>Left out</h2>" in second.body and "x = 1" not in second.body  # a heading from above
    assert '<div class="fragment"><p>Appears.</p>' in second.body.replace("\n", "")
    before, _, notes = second.body.rpartition('<aside class="notes">')
    assert "Only said." in notes and "Only said." not in before and "Answer." in before
    assert [s.in_lecture for s in (first, second, third)] == [False, True, False]
    assert "HIDDEN" not in first.body + second.body + third.body


def test_of_a_code_cell_one_output_is_shown_and_all_its_words_are_in_the_notes():
    text, table = {"text/markdown": "A sentence."}, {"text/markdown": "| a |\n| --- |\n| cell |"}
    picture = shown({"image/png": "aGk="}, **{"image/png": {"alt": "drawn", "width": 9}})
    moves = shown({COMPONENT: {"component": "loss"}, "image/png": "aGk="})
    diagram = shown(Diagram(9, 9, [], "drawn by code")._repr_mimebundle_()[0])
    log = new_output("stream", name="stdout", text="log\n" * 9)

    def body(*outputs):
        heading = cell(new_markdown_cell, "# A", "slide")
        code = cell(new_code_cell, "x", "-", outputs=[log, *outputs])
        (slide,) = slides_of(new_notebook(cells=[heading, code]))
        assert "log" not in slide.body
        return slide.body.partition('<aside class="notes">')

    on, _, notes = body(shown(text), shown(table), picture, moves)
    assert 'class="component"' in on and on.count("<img") == 1 and "A sentence." not in on
    assert "A sentence." in notes and "cell" in notes
    on, _, _ = body(shown(text), shown(table), picture)
    assert 'alt="drawn"' in on and "component" not in on and "<table" not in on
    on, _, _ = body(shown({"text/html": "<b>HTML</b>"}), shown(table), diagram)
    assert 'aria-label="drawn by code"' in on and "HTML" not in on and "<table" not in on
    on, _, notes = body(shown(text), shown(table))
    assert "A sentence." in on and "<table" not in on and "<table" in notes
    on, _, _ = body(shown(table), shown(text))
    assert "<table" in on and "A sentence." not in on
    assert "<img" not in body()[0]


def test_links_lead_to_the_web_or_nowhere():
    text = "# A\n\n[one](01_a.ipynb), [two](#ref), [three](https://doi.org/1)"
    (slide,) = slides_of(new_notebook(cells=[cell(new_markdown_cell, text, "slide")]))
    assert slide.body.count("<a href=") == 2 and "one, two" in slide.body  # shown and in the notes


@pytest.mark.parametrize("path", find_notebooks(), ids=lambda path: path.stem)
def test_every_chapter_tells_its_story_in_slides(path):
    told = slides_of(edition(path, "report"))
    assert 8 <= len(told) <= (14 if path.name[:2] in COURSE else 24)
    bodies = [slide.body for slide in told]
    assert "<h1>" in bodies[0] and not any("<h1>" in body for body in bodies[1:])
    places = [[n for n, body in enumerate(bodies) if f"<h2>{heading}" in body]
              for heading in ("Predict", "What this does not show")]  # fmt: skip
    assert places == [[1], [len(told) - 1]] or path.name[:2] == "00"
    assert all("<h" in body and 'class="notes"' in body for body in bodies if "<p>" in body)


# Where the executed notebooks come from


@pytest.fixture
def runs(monkeypatch):
    """Reports that are asked for; each executes its notebooks without running anything."""
    asked = []

    def make_report(name, *, only, output, force):
        asked.append((name, list(only)))
        for path in find_notebooks(only):
            node = edition(path, "report")
            for each in node.cells:
                if each.cell_type == "code":
                    each.execution_count = 1
            target = output / name / path.name
            target.parent.mkdir(exist_ok=True)
            nbformat.write(node, target)

    monkeypatch.setattr(slides, "make_report", make_report)
    return asked


@slow
def test_a_report_is_made_only_where_its_code_is_missing_or_another(runs, tmp_path, capsys):
    command = ["slides", "--task", "mnist-small", "--only", "05", "--output", str(tmp_path)]
    assert main(command) == 0
    made = tmp_path / "slides" / "mnist-small-05.html"
    assert re.search(
        rf"^{re.escape(str(made))} \(0\.\d MB\)$", capsys.readouterr().out, re.MULTILINE
    )
    assert list(made.parent.glob("*.html")) == [made]  # no lecture of one chapter
    assert main(command) == 0 and runs == [("mnist-small", ["05"])]
    (path,) = (tmp_path / "mnist-small").glob("05*.ipynb")
    node = nbformat.read(path, as_version=4)
    node.cells[0].source = "# An older text"
    nbformat.write(node, path)
    assert main(command) == 0 and len(runs) == 1
    assert "An older text" not in made.read_text(encoding="utf-8")
    code = next(each for each in node.cells if each.cell_type == "code")
    for change in ({"source": "older = 1"}, {"execution_count": None}):
        code.update(change)
        nbformat.write(node, path)
        runs.clear()
        assert main(command) == 0 and runs == [("mnist-small", ["05"])]
        code.update(source=nbformat.read(path, as_version=4).cells[1].source)


@slow
def test_slides_that_were_changed_are_not_lost(runs, tmp_path):
    (made,) = make_slides("mnist-small", only=["05"], output=tmp_path)
    made.write_text("mine")
    with pytest.raises(WouldBeLostError, match=r"mnist-small-05\.html"):
        make_slides("mnist-small", only=["05"], output=tmp_path)
    assert made.read_text() == "mine"
    make_slides("mnist-small", only=["05"], output=tmp_path, force=True)
    assert "Reveal.initialize" in made.read_text(encoding="utf-8")


def test_a_notebook_that_does_not_fit_is_named(tmp_path, capsys):
    assert main(["slides", "--task", "polyps", "--only", "00", "--output", str(tmp_path)]) == 1
    assert "notebook 00 does not fit the task polyps" in capsys.readouterr().err


def test_a_notebook_without_slides_is_named(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(slides, "slides_of", lambda *given: [])
    with pytest.raises(ValueError, match=r"^05_cost\.ipynb has no slides: give a cell"):
        make_slides("mnist-small", only=["05"], output=tmp_path)


# In a browser


@pytest.fixture(scope="module")
def decks(reports, tmp_path_factory):
    """The slides of both reports, by name; nothing runs anew."""
    output, made = tmp_path_factory.mktemp("slides"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slides, "make_report", None)
        for name in TASKS:
            shutil.copytree(reports[0] / name, output / name)
            made += make_slides(name, output=output)
    decks = {path.stem: path for path in made}
    assert len(decks) == 7 + 6 + 2 and "mnist-small-lecture" in decks
    return decks


@pytest.fixture
def visit(browser):
    """``visit(path, ...)``: slides in a new context; a complaint or a request fails the test."""
    contexts, complaints, asked = [], [], []

    def visit(path, query="", **options):
        context = browser.new_context(viewport={"width": 1280, "height": 720}, **options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        context.on("console", lambda message: complaints.append(message.text))
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        context.on("request", lambda request: asked.append(request.url))
        page = context.new_page()
        page.goto(path.as_uri() + query)
        page.locator(READY).wait_for()
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []
    assert asked and all(url.startswith(("file:", "data:")) for url in asked)


@slow
def test_the_answer_appears_after_the_question(visit, decks):
    page = visit(decks["mnist-small-00"], "#/2")
    question = page.locator("section.present > p")
    answer = page.locator("section.present .fragment p")
    assert "?" in question.inner_text() and question.is_visible() and answer.is_hidden()
    page.keyboard.press("ArrowRight")
    answer.wait_for()
    assert number(page) == 2


def number(page):
    return page.evaluate("Reveal.getIndices().h")


@slow
@pytest.mark.parametrize("task", TASKS)
def test_no_slide_overflows_and_its_letters_can_be_read(visit, decks, task):
    for name, path in decks.items():
        if not name.startswith(task):
            continue
        page = visit(path)
        assert page.title()
        total = page.evaluate("Reveal.getTotalSlides()")
        for slide in range(total):
            page.evaluate(GO_TO, slide)
            found = page.evaluate(MEASURE)
            where = (name, slide, found)
            assert abs(found["width"] - 1280) < 2 and abs(found["height"] - 720) < 2, where
            assert found["fits"] and found["outside"] == [] and found["letters"] >= 15, where
            assert "$" not in found["text"] and "\\frac" not in found["text"], where
        images = ".slides img:not([role=img] *)"
        alts = page.eval_on_selector_all(images, "all => all.map(image => image.alt)")
        assert all(len(alt) > 20 for alt in alts), name
        assert page.locator("section").count() == total


@slow
def test_sliders_move_their_pictures_and_not_the_slides(visit, decks):
    moved = set()
    for name in ("mnist-small-00", "mnist-small-02", "mnist-small-03", "mnist-small-05"):
        page = visit(decks[name])
        for slide in range(page.evaluate("Reveal.getTotalSlides()")):
            page.evaluate(GO_TO, slide)
            for control in page.locator("section.present .component input[type=range]").all():
                box = control.locator("xpath=ancestor::*[@class='component']")
                before, place = box.inner_html(), control.input_value()
                control.press("ArrowLeft")
                assert control.input_value() != place and box.inner_html() != before
                assert number(page) == slide
                moved.add((name, slide))
                measured = page.evaluate(MEASURE)
                assert measured["fits"] and measured["outside"] == [], (name, slide, measured)
                control.press("PageDown")  # as a presenter's remote does
                assert number(page) == slide + 1
                page.keyboard.press("PageUp")
                assert number(page) == slide
                page.evaluate(GO_TO, slide)
            for control in page.locator("section.present .component select").all():
                control.press("ArrowRight")
                assert number(page) == slide
    assert len(moved) >= 7


@slow
def test_the_speakers_window_has_notes_and_follows_both_ways(visit, decks):
    page = visit(decks["mnist-small-02"])
    assert page.locator(".speaker-notes").is_hidden()
    with page.expect_popup() as opened:
        page.keyboard.press("s")
    speaker = opened.value
    speaker.locator(READY).wait_for()
    page.evaluate(GO_TO, 2)
    speaker.locator("section.present:nth-of-type(3)").wait_for()
    notes = speaker.locator(".speaker-notes")
    assert len(notes.inner_text().split()) > 20 and notes.locator("math").count() > 0
    speaker.keyboard.press("ArrowRight")
    page.locator("section.present:nth-of-type(4)").wait_for()
    assert number(speaker) == 3


@slow
@pytest.mark.parametrize("name", ["mnist-small-lecture", "polyps-06"])
def test_on_paper_every_slide_has_a_page(visit, decks, name):
    page = visit(decks[name], "?print-pdf", color_scheme="dark")
    total = page.locator("section").count()
    page.locator(".pdf-page").nth(total - 1).wait_for()
    assert page.locator(".pdf-page").count() == total
    page.emulate_media(media="print")
    sizes = page.eval_on_selector_all(
        ".pdf-page", """pages => pages.map((page) => {
          const box = page.getBoundingClientRect(), slide = page.querySelector("section");
          const end = Math.max(...[...slide.querySelectorAll("*")].filter((e) => e.checkVisibility()
            && !e.closest("aside")).map((e) => e.getBoundingClientRect().bottom));
          return [box.height, end - box.top, slide.scrollHeight - slide.clientHeight];
        })""",
    )  # fmt: skip
    assert all(height >= 719 and end <= 721 and over <= 1 for height, end, over in sizes), sizes
    assert not any(each.is_visible() for each in page.locator("input, select, .controls").all())
    paper = "e => getComputedStyle(e).backgroundColor"
    assert page.locator("body").evaluate(paper) == "rgb(255, 255, 255)"
    assert page.locator(".pdf-page").first.evaluate(paper) == "rgba(0, 0, 0, 0)"
    pdf = page.pdf(prefer_css_page_size=True)
    assert pdf.count(b"/Type /Page\n") == total


@slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit, decks, scheme):
    page = visit(decks["mnist-small-02"], color_scheme=scheme, bypass_csp=True)
    for slide in range(page.evaluate("Reveal.getTotalSlides()")):
        page.evaluate(GO_TO, slide)
        grave, _ = serious(page, "'section.present'")
        assert grave == {}, slide


@slow
def test_what_comes_from_data_is_text(visit, tmp_path):
    text = {"text/markdown": f"**{HOSTILE}** $\\text{{{HOSTILE}}}$"}
    cells = [
        cell(new_markdown_cell, f"# {HOSTILE}\n\n{HOSTILE}", "slide"),
        cell(new_code_cell, "x", "-", outputs=[shown(text)]),
    ]
    made = slides_of(new_notebook(cells=cells), about=HOSTILE, stamp=HOSTILE)
    path = tmp_path / "hostile.html"
    path.write_text(render_slides(made, HOSTILE), encoding="utf-8")
    page = visit(path)
    assert page.title() == HOSTILE and page.locator("script").count() == 1
    assert page.locator("h1").inner_text() == HOSTILE
    assert page.locator("section strong").first.inner_text() == HOSTILE
