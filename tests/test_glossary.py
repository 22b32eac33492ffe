"""The glossary: its definitions, where the page marks a term, and how a definition opens."""

import re
from pathlib import Path

import nbformat
import pytest
from axe import serious
from nbconvert.filters.markdown_mistune import MarkdownWithMath
from playwright.sync_api import expect

from kdnb.course import glossary as module
from kdnb.course.glossary import glossary, terms_in
from kdnb.course.report.page import ChapterRenderer, render_chapter, render_page
from kdnb.course.report.slides import slides_of

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
HOSTILE = "<script>alert(1)</script>"
# A line that a phone breaks, and room below and above the window's middle.
TEXT = (
    "The teacher's soft targets at a high temperature, and `logits`.\n\n"
    + "Students differ.\n\n" * 2
    + "Words and more words.\n\n" * 60
    + "At the end of the chapter stands the entropy.\n\n"
)


def chapter(*sources, name="00_a"):
    """A chapter whose first source is a cell of text, the others outputs."""
    outputs = [nbformat.v4.new_output("display_data", {"text/markdown": s}) for s in sources[1:]]
    cells = [
        nbformat.v4.new_markdown_cell(f"# A question?\n\n{sources[0]}"),
        nbformat.v4.new_code_cell("student = 1", outputs=outputs),
    ]
    return render_chapter(nbformat.v4.new_notebook(cells=cells), name, [name])


def marked(*sources):
    """The terms that a chapter marks, as written."""
    return re.findall(r"<button[^>]*>(.*?)</button>", str(chapter(*sources).body))


# The definitions


def test_every_entry_of_the_file_is_read():
    lines = module.FILE.read_text(encoding="utf-8").splitlines()
    assert len(glossary()) == sum(line.startswith("- ") for line in lines) >= 40
    text = " ".join(" ".join(lines).split())
    for term in glossary():
        also = f" (also: {', '.join(term.also)})" if term.also else ""
        assert f"- **{term.name}**{also}: {term.meaning}" in text


def test_entries_are_in_order_and_no_form_has_two():
    names = [term.name for term in glossary()]
    assert names == sorted(names, key=str.lower)
    assert len({term.anchor for term in glossary()}) == len(names)
    forms = [form.lower() for term in glossary() for form in (term.name, *term.also)]
    assert len(set(forms)) == len(forms)


def test_every_definition_is_one_to_three_short_sentences():
    for term in glossary():
        assert term.meaning.endswith(".") and term.meaning[0].isupper(), term.name
        assert len(re.findall(r"[.:](?=\s|$)", term.meaning)) <= 4, term.name
        assert len(term.meaning) < 320 and term.meaning.count("$") % 2 == 0, term.name
        assert "](" not in term.meaning, f"{term.name}: the page lists no works from here"


def test_every_term_occurs_in_a_notebook():
    found = set()
    for path in NOTEBOOKS:
        cells = nbformat.read(path, 4).cells
        texts = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        here = {term for _, term in terms_in(texts) if term}
        assert len(here) >= 8, path.name
        found |= here
    assert [term.name for term in glossary() if term not in found] == []


# Where a term is marked


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The student and two students.", ["student", "student"]),
        ("Students of a teacher's teachers'.", ["student", "teacher", "teacher"]),
        ("A studentship, nonstudents, student_a", []),
        ("the teacher-student gap, and a student-teacher", ["gap"]),
        ("Soft targets are a soft target", ["soft target", "soft target"]),
        ("a confidence interval of the confidence", ["confidence interval", "confidence"]),
        ("ECE, but Ece and ece", ["calibration error"]),
        ("FLOPs, MACs and saliency maps", ["FLOP", "MAC", "saliency map"]),
        ("Holm's adjustment, adjusted by Holm's method", ["Holm's adjustment"] * 2),
        ("cross-entropy is not entropy", ["cross-entropy", "entropy"]),
        ("teachers with subclasses", ["teacher", "subclass"]),
        ("", []),
    ],
)
def test_terms_are_found_as_whole_words_in_every_form(text, terms):
    pieces = list(terms_in(text))
    assert "".join(piece for piece, _ in pieces) == text
    assert [term.name for _, term in pieces if term] == terms


def test_plurals_follow_the_spelling():
    assert module._plural("accuracy") == "accuracies" and module._plural("view") == "views"
    assert module._plural("loss") == "losses" and module._plural("essay") == "essays"


def test_a_chapter_marks_the_first_use_of_each_term():
    sources = (
        "The teacher and *soft targets*.\n\n- A teacher, logits",
        "Logits, a soft target, a seed",
    )
    assert marked(*sources) == ["teacher", "soft targets", "logits", "seed"]
    two = [chapter("The teacher.", name=name) for name in ("00_a", "01_b")]
    assert all('popovertarget="term-teacher"' in one.body for one in two)
    assert two[0].terms == {next(t for t in glossary() if t.name == "teacher")}


@pytest.mark.parametrize(
    "source",
    [
        "## The teacher",
        "`teacher`",
        "    teacher = 1",
        "[teacher](https://example.org/)",
        "![teacher](data:image/png;base64,AA)",
        "$\\text{teacher}$ and $$teacher$$",
        "| teacher |\n| --- |\n| teacher |\n",
    ],
)
def test_other_parts_of_a_text_are_not_marked_and_do_not_count_as_first(source):
    assert marked(source) == []
    assert marked(f"{source}\n\nA teacher.") == ["teacher"]


def test_slides_mark_nothing_and_a_page_without_terms_has_no_glossary():
    cell = nbformat.v4.new_markdown_cell("# The teacher\n\nA teacher.")
    cell.metadata.slideshow = {"slide_type": "slide"}
    (slide,) = slides_of(nbformat.v4.new_notebook(cells=[cell]))
    assert "teacher" in slide.body and "<button" not in slide.body
    page = render_page([chapter("Nothing.")], title="t", about="a", facts=[])
    assert "#glossary" not in page and " popover>" not in page


def test_the_page_lists_the_marked_terms_once_with_their_maths():
    chapters = [chapter("Entropy of a teacher.", name="00_a"), chapter("Teachers.", name="01_b")]
    page = render_page(chapters, title="t", about="a", facts=[])
    assert re.findall(r'<div id="(term-[\w-]+)" popover>', page) == ["term-entropy", "term-teacher"]
    entry = page.partition('<div id="term-entropy"')[2].partition("</div>")[0]
    assert "<dt>entropy</dt>" in entry and "<math" in entry and "$" not in entry
    assert page.count('<a href="#glossary">Glossary</a>') == page.count('<h2 id="glossary">') == 1


def test_text_from_data_is_escaped_once():
    body = str(chapter(f"A teacher & {HOSTILE}", 'a <b> teacher\'s "student" & more').body)
    assert HOSTILE not in body and "&lt;script&gt;alert(1)&lt;/script&gt;" in body
    assert "&amp;lt;" not in body and "&amp;amp;" not in body and "teacher</button> &amp; " in body
    # Before nbconvert, which escapes a lonely & itself.
    html, plain = (
        MarkdownWithMath(renderer=ChapterRenderer("00_a", (), marks)).render(
            "1 < 2 & a teacher > 0"
        )
        for marks in (True, False)
    )
    assert "<p>1 &lt; 2 &amp; a <button" in html
    assert re.sub("</?button[^>]*>", "", html) == plain


# How a definition opens


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    chapters = [chapter(TEXT, name="00_a"), chapter("A teacher.", name="01_b")]
    path.write_text(render_page(chapters, title="t", about="a", facts=[]), encoding="utf-8")
    return path


@pytest.fixture
def visit(browser, file):
    """``visit(width, ...)``: the page in a context of its own; a complaint fails the test."""
    contexts, complaints = [], []

    def visit(width=1280, **options):
        size = {"width": width, "height": 700}
        context = browser.new_context(viewport=size, reduced_motion="reduce", **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(file.as_uri())
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []


def term(page, words):
    return page.get_by_role("button", name=words, exact=True).first


def entry(page, name):
    return page.locator(f"#term-{name}:popover-open")


def test_a_definition_opens_under_the_pointer_and_closes_after_it(visit):
    page = visit()
    term(page, "soft targets").hover()
    expect(entry(page, "soft-target")).to_contain_text("The teacher's probabilities")
    # The pointer can go to the definition, which stays.
    entry(page, "soft-target").hover()
    page.wait_for_timeout(400)
    assert entry(page, "soft-target").count() == 1
    page.mouse.move(5, 5)
    expect(entry(page, "soft-target")).to_have_count(0)
    # A pointer that only crosses a term opens nothing.
    page.evaluate("window.opened = 0; addEventListener('beforetoggle', () => opened++, true)")
    term(page, "teacher").hover()
    page.mouse.move(5, 5)
    page.wait_for_timeout(400)
    assert page.evaluate("window.opened") == 0


def test_from_one_term_to_the_next_only_one_definition_is_open(visit):
    page = visit()
    for words, name in (("teacher", "teacher"), ("temperature", "temperature")):
        term(page, words).hover()
        expect(entry(page, name)).to_have_count(1)
        assert page.locator(":popover-open").count() == 1
    page.keyboard.press("Escape")
    expect(page.locator(":popover-open")).to_have_count(0)


def test_a_click_keeps_open_what_the_pointer_opened(visit):
    page = visit()
    term(page, "soft targets").hover()
    expect(entry(page, "soft-target")).to_have_count(1)
    term(page, "soft targets").click()
    page.mouse.move(5, 5)
    page.wait_for_timeout(500)
    assert entry(page, "soft-target").count() == 1
    page.mouse.click(5, 5)  # elsewhere
    expect(entry(page, "soft-target")).to_have_count(0)


def test_a_definition_opens_and_closes_by_keyboard_and_the_focus_stays(visit):
    page = visit()
    button = term(page, "temperature")
    button.focus()
    assert button.evaluate("it => getComputedStyle(it).outlineStyle") == "solid"
    for close in ("Escape", "Enter"):
        page.keyboard.press("Enter")
        expect(entry(page, "temperature")).to_have_count(1)
        page.keyboard.press(close)
        expect(entry(page, "temperature")).to_have_count(0)
        assert button.evaluate("it => it === document.activeElement")


@pytest.mark.parametrize("words", ["teacher", "temperature", "entropy"])
def test_a_tap_on_a_phone_opens_beside_the_term_within_the_window(visit, words):
    page = visit(390, has_touch=True, is_mobile=True)
    button = term(page, words)
    button.evaluate("it => it.scrollIntoView({ block: 'center' })")
    button.tap()
    expect(entry(page, words)).to_have_count(1)
    box, at = entry(page, words).bounding_box(), button.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    assert box["y"] >= 0 and box["y"] + box["height"] <= 700
    below, above = box["y"] - at["y"] - at["height"], at["y"] - box["y"] - box["height"]
    assert 0 <= max(below, above) < 20, "beside the term, which stays visible"
    page.evaluate("scrollBy(0, 50)")
    assert entry(page, words).bounding_box()["y"] == pytest.approx(box["y"] - 50, abs=1)
    page.touchscreen.tap(380, 690)
    expect(entry(page, words)).to_have_count(0)


def test_without_scripts_a_click_opens_the_definition(visit):
    page = visit(java_script_enabled=False)
    assert page.locator("#term-teacher").is_visible() and page.locator("#term-entropy").is_visible()
    term(page, "temperature").click()
    box = entry(page, "temperature").bounding_box()
    assert 0 <= box["y"] < 700 and 0 <= box["x"] < 1280
    page.keyboard.press("Escape")
    expect(entry(page, "temperature")).to_have_count(0)


def test_a_term_changes_no_line_and_looks_like_text(visit):
    page = visit(390)
    measure = """() => [...document.querySelectorAll("main p")].map(
        (p) => [p.getBoundingClientRect().height, p.innerText])"""
    term_style = (
        "it => { const s = getComputedStyle(it); return [s.color, s.font, s.backgroundColor]; }"
    )
    colour, font, background = term(page, "teacher").evaluate(term_style)
    assert [colour, font] == page.locator("main .chapter p").first.evaluate(term_style)[:2]
    assert background == "rgba(0, 0, 0, 0)"
    before = page.evaluate(measure)
    select = "it => { getSelection().selectAllChildren(it); return `${getSelection()}`; }"
    selected = page.locator(".chapter p").first.evaluate(select)
    assert selected.startswith("The teacher's soft targets at")
    page.eval_on_selector_all(".term", "all => all.forEach((it) => it.replaceWith(it.textContent))")
    assert page.evaluate(measure) == before


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing_serious(visit, scheme, width):
    page = visit(width, color_scheme=scheme, bypass_csp=True)
    term(page, "temperature").click()
    expect(entry(page, "temperature")).to_have_count(1)
    grave, passed = serious(page)
    assert passed > 10 and grave == {}
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_on_paper_terms_are_plain_and_every_definition_is_in_the_list(visit):
    page = visit()
    term(page, "temperature").click()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator(":popover-open").count() == 0
    line = term(page, "teacher").evaluate("it => getComputedStyle(it).textDecorationLine")
    assert line == "none"
    entries = page.locator(".glossary dl > div")
    boxes = [one.bounding_box() for one in entries.all()]
    assert len(boxes) == 5 and all(box["height"] > 20 for box in boxes)
    tops = [box["y"] for box in boxes]
    assert tops == sorted(tops) and page.locator("#glossary").bounding_box()["y"] < tops[0]
