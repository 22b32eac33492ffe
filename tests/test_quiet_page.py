"""What the page keeps out of the way: code and logs, tables of many columns, told legends."""

import re
from itertools import pairwise

import nbformat
import pytest
import torch
from compared import comparison, right
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from test_components import page_of
from test_page import PAPER

from kdnb.course import figures, interactive, tables
from kdnb.course.figures import Picture
from kdnb.course.report.execution import NOTEBOOKS
from kdnb.course.report.page import cells_of, render_chapter, render_page
from kdnb.course.report.protocol import DRAWN
from kdnb.course.report.slides import slides_of
from kdnb.course.tables.chart import far_below, read, table_chart
from kdnb.course.text import markdown_table

slow = pytest.mark.slow
HOSTILE = "<b>SVM</b> | a"
HEAD = ["test split, 100 images", "accuracy", "95 % interval", "errors per seed", "gain", "verdict"]
ROWS = [
    ["always a", "11.35 %", "10.73 % to 11.97 %", "8,865", "–", "–"],
    [HOSTILE, "90.83 %", "90.26 % to 91.40 %", "917", "–", "–"],
    ["teacher", "98.65 %", "98.44 % to 98.86 %", "129, 142, 134", "–", "–"],
    ["student", "92.60 %", "92.00 % to 93.20 %", "740, 741, 742",
     "-1.20 points (95 % interval -2.50 to +0.10, 3 seeds and 100 images)", "not distinguishable"],
]  # fmt: skip
WIDE = markdown_table(HEAD, ROWS)
NARROW = markdown_table(["model", "accuracy", "verdict"], [["teacher", "98 %", "a gain"]])
WORDS = markdown_table(["control", "keeps", "removes", "why"], [["argmax", "a", "b", "c"]])


def output(text, **metadata):
    return new_output(
        "display_data", data={"text/markdown": text}, metadata={"text/markdown": metadata}
    )


def log(lines, name="stdout"):
    return new_output("stream", name=name, text="epoch\n" * lines)


def chapter_of(*cells):
    return render_chapter(new_notebook(cells=[new_markdown_cell("# Why?"), *cells]), "00", ["00"])


# Tables as charts


def test_a_chart_reads_what_the_cells_say():
    labels, (accuracy, errors, gain) = read(HEAD, ROWS)
    assert labels == [row[0] for row in ROWS]
    assert [mark.value for mark in accuracy.marks] == [11.35, 90.83, 98.65, 92.6]
    assert accuracy.marks[2].ends == (98.44, 98.86) and accuracy.marks[2].unit == "%"
    assert [mark.reach for mark in errors.marks] == [
        (8865,), (917,), (129, 142, 134), (740, 741, 742)
    ]  # fmt: skip
    assert gain.marks[:3] == [None] * 3 and gain.marks[3].reach == (-1.2, -2.5, 0.1)
    assert gain.marks[3].unit == "points"


@pytest.mark.parametrize(
    ("cells", "reach"),
    [
        ([".828 (.812–.843)", "1.000 (1.000–1.000)"], [(0.828, 0.812, 0.843), (1, 1, 1)]),
        (["0.12 ms (0.11 to 0.13)", "failed"], [(0.12, 0.11, 0.13), None]),
        (["6, 6, 5 of 10", "–"], [(6, 6, 5), None]),
        (["1,238,730", "12"], [(1238730,), (12,)]),
    ],
)
def test_numbers_as_the_course_writes_them(cells, reach):
    rows = [["a", cells[0], "x"], ["b", cells[1], "y"]]
    _, columns = read(["model", "number", "words"], [*rows, ["c", "3", "z"]])
    assert [mark and mark.reach for mark in columns[0].marks][:2] == reach


def test_words_and_what_is_the_same_in_every_row_are_left_to_the_table():
    rows = [["a", "3", "3 seeds and 100 images", "7 %"], ["b", "3", "100 images", "8 %"]]
    _, columns = read(["model", "seeds", "over", "accuracy"], rows)
    assert [column.title for column in columns] == ["accuracy"]
    labels, (column,) = read(
        ["map", "model", "share", "per seed"], [["x", "y", "0.5", "0.4, 0.6"], ["x", "z", "1", "–"]]
    )
    assert labels == ["x: y", "x: z"] and column.marks[0].seeds == (0.4, 0.6)
    assert table_chart(["a", "b"], [["x", "not run"]]) is None


def test_a_mark_stands_where_its_number_is():
    """Positions against the axis, whose ticks say what a pixel is worth."""
    svg = table_chart(HEAD, ROWS).svg
    ticks = {}
    for x, name in re.findall(r'<text x="([\d.]+)"[^>]*middle" font-size="12">([-\d,.]+)<', svg):
        ticks[float(name.replace(",", ""))] = float(x)
    one, other = (90.0, 95.0) if 90.0 in ticks else sorted(ticks)[:2]
    scale = (ticks[other] - ticks[one]) / (other - one)
    dots = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', svg)]
    for value in (90.83, 98.65, 92.6):
        expected = ticks[one] + scale * (value - one)
        assert min(abs(dot - expected) for dot in dots) < 0.2, value
    assert svg.count('class="far"') == 1 and ">11.35</text>" in svg  # left of the axis


def test_only_what_is_far_below_all_others_leaves_the_axis():
    assert far_below([11.3, 86, 89, 92, 94, 96]) == 1
    assert far_below([60, 72, 84, 85, 86]) == 0
    assert far_below([1, 99, 100]) == 0  # of three, none


def test_a_wide_table_is_folded_behind_a_chart_of_its_numbers():
    body = chapter_of(new_code_cell("x", outputs=[output(WIDE)])).body
    assert body.index('data-what="chart"') < body.index('<details class="table">')
    assert "<b>" not in body and "&lt;b&gt;SVM&lt;/b&gt; | a" in body  # in the chart
    (alt,) = re.findall(r'aria-label="([^"]*)"', body)
    for said in ("11.35 % (10.73 to 11.97)", "129, 142, 134", "-1.2 points (-2.5 to +0.1)"):
        assert said in alt, said
    assert cells_of(body.split("<table>")[1]) == [HEAD, *ROWS]


def test_a_table_that_a_figure_draws_is_folded_only():
    body = chapter_of(new_code_cell("x", outputs=[output(WIDE, **{DRAWN: True})])).body
    assert '<details class="table">' in body and "<svg" not in body


@pytest.mark.parametrize("table", [NARROW, WORDS])
def test_other_tables_stay_as_they_are(table):
    body = chapter_of(new_code_cell("x", outputs=[output(table)])).body
    assert '<details class="table">' not in body and "<svg" not in body and "<table>" in body


@pytest.mark.parametrize("drawn", [True, False])
def test_a_slide_shows_the_chart_and_its_notes_the_table(drawn):
    metadata = {"slideshow": {"slide_type": "slide"}}
    cell = new_code_cell("x", metadata=metadata, outputs=[output(WIDE, **{DRAWN: drawn})])
    (slide,) = slides_of(new_notebook(cells=[cell]))
    shown, _, notes = slide.body.partition('<aside class="notes">')
    assert "<svg" in shown and "<table" not in shown
    assert "<table" in notes and "<details" not in notes and "<svg" not in notes


# Code and logs


def test_every_mark_has_a_name():
    cell = new_code_cell("x = 1", execution_count=7, outputs=[log(9), log(1, "stderr"), log(3)])
    body = chapter_of(cell).body
    names = re.findall(r'<span class="name">([^<]*)</span></summary>', body)
    assert names == ["code of cell 7", "log, 9 lines of cell 7", "log, 1 lines of cell 7"]
    assert body.count("<details") == 3
    assert "<pre>epoch\nepoch\nepoch\n</pre>" in body.split("</details>")[-1]  # a result


@pytest.mark.parametrize(("source", "shown"), [('task = "polyps"', False), ("T = 4.0", True)])
def test_what_was_set_for_the_run_is_shown_but_not_the_task(source, shown):
    cell = new_code_cell(f"# Parameters\n{source}\n", metadata={"tags": ["injected-parameters"]})
    body = chapter_of(cell).body
    assert ("Set for this run:" in body) == ('<details class="code" open' in body) == shown


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """A page with two silent cells, a log and a wide table."""
    cells = [
        new_code_cell("import torch", execution_count=1),
        new_code_cell("train()", execution_count=2, outputs=[log(9)]),
        new_markdown_cell("A sentence."),
        new_code_cell("table", execution_count=3, outputs=[output(WIDE)]),
    ]
    page = render_page([chapter_of(*cells)], title="Quiet", about="A test.", facts=[])
    path = tmp_path_factory.mktemp("quiet") / "page.html"
    path.write_text(page, encoding="utf-8")
    return path


@pytest.fixture
def opened(browser, quiet):
    contexts = []

    def opened(width=1280, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, **options))
        page = contexts[-1].new_page()
        page.goto(quiet.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()


OPEN = "all => all.map(d => d.open)"
FOLDS = "details.code, details.log"


@slow
def test_one_switch_unfolds_code_and_logs_and_folds_them(opened):
    page = opened()
    switch = page.get_by_role("checkbox", name="code and logs")
    assert page.eval_on_selector_all(FOLDS, OPEN) == [False] * 4
    switch.focus()
    page.keyboard.press("Space")
    assert page.eval_on_selector_all(FOLDS, OPEN) == [True] * 4
    assert page.locator("pre").first.is_visible() and page.locator(".log pre").is_visible()
    assert page.locator("table:not(.facts)").is_hidden()  # a table is neither
    page.keyboard.press("Space")
    assert page.eval_on_selector_all(FOLDS, OPEN) == [False] * 4


@slow
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scripts", [True, False])
def test_a_mark_unfolds_its_cell_alone(opened, width, scripts):
    page = opened(width, java_script_enabled=scripts)
    marks = page.locator(f":is({FOLDS}) > summary")
    boxes = [mark.bounding_box() for mark in marks.all()]
    for box, below in zip(boxes, [*boxes[1:], None], strict=True):
        assert box["width"] >= 24 and box["height"] >= 24 and box["x"] + box["width"] <= width
        assert below is None or below["y"] >= box["y"] + box["height"]
    # Cells without visible output take no room: the marks hang beside the next text.
    heading, sentence = (page.locator(at).bounding_box() for at in (".chapter h2", ".chapter > p"))
    assert sentence["y"] < heading["y"] + heading["height"] + 60
    assert page.locator(".switches label:has(#show-code)").is_visible() == (scripts and width > 390)
    marks.nth(1).focus()
    page.keyboard.press("Enter")
    shown = [pre.is_visible() for pre in page.locator("main pre").all()]
    assert shown == [False, True, False, False]


@slow
@pytest.mark.parametrize("scripts", [True, False])
def test_on_paper_tables_are_whole_and_code_is_not_there(opened, scripts):
    page = opened(PAPER, java_script_enabled=scripts)
    page.emulate_media(media="print")
    table = page.locator("details.table table").bounding_box()
    assert table["height"] > 80 and page.locator("svg.diagram").is_visible()
    assert not any(part.is_visible() for part in page.locator("summary, pre").all())


# Legends


@slow
def test_legends_are_drawn(browser, tmp_path):
    images = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    logits, names = torch.tensor([[2.0, 1.0, 0.5, 0.0]]), ["a", "b", "c", "d"]
    one = torch.tensor([0])
    lives = [
        interactive.temperature_explorer(images, one, logits, names, 4.0),
        interactive.loss_explorer(logits[0], 2 * logits[0], 2, names, 4.0, 0.9),
        interactive.subclass_explorer(images, one, logits, ["a", "b"], "x", 2.0),
        interactive.calibration_explorer(logits, one, 2.0),
    ]
    path = tmp_path / "page.html"
    path.write_text(page_of(*lives), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    keys = [
        {one.inner_text(): one.locator(".mark > *").count() for one in key.locator("span").all()}
        for key in page.locator(".key").all()
    ]  # fmt: skip
    assert all(set(key.values()) == {1} for key in keys)
    assert [list(key) for key in keys[:4]] == [
        ["likeliest class", "other classes", "at T = 1"],
        ["teacher", "student"],
        ["soft part", "hard part"],
        ["a", "b"],
    ]
    assert list(keys[4])[-1] == "perfectly calibrated"
    # Teacher's and student's bars differ by more than colour, as their swatches do.
    looks = page.eval_on_selector_all(
        ".key rect", "all => all.map(r => r.getAttribute('fill-opacity'))"
    )
    assert looks.count("0.2") == 2
    said = page.locator("main").inner_text().lower()
    assert not re.search(r"left bars|dotted|dashed|orange|shaded", said)
    page.close()


# The course's own pages


def test_the_notebooks_say_which_tables_are_drawn():
    """A notebook that calls a table drawn has a figure in the same cell or the code cell before."""
    for path in sorted(NOTEBOOKS.glob("0*.ipynb")):
        code = [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
        for before, cell in pairwise(code):
            if "drawn=True" in cell.source:
                assert "figures.comparison(" in before.source and "others=" in before.source, (
                    cell.id
                )


def test_a_comparison_draws_all_rows_of_its_table(monkeypatch):
    figures_made = []
    kept = Picture.__init__
    monkeypatch.setattr(
        Picture, "__init__", lambda self, f, alt: (figures_made.append(f), kept(self, f, alt))[1]
    )
    result = comparison({"alone": [0.80, 0.82], "distilled": [0.90, 0.91]}, 200)
    teachers, plain = right([0.99, 0.98], 200), {"always a": right(0.1, 200)}
    alt = figures.comparison(result, "alone", others={**plain, "teacher": teachers}).alt
    table = tables.result_table(result, "alone", teachers, plain, drawn=True)
    data, metadata = table._repr_mimebundle_()
    assert metadata == {"text/markdown": {DRAWN: True}}
    labels, (accuracy, *_) = read(*table_of(data["text/markdown"]))
    assert labels == ["always a", "teacher", "alone", "distilled"]
    for label, mark in zip(labels, accuracy.marks, strict=True):
        assert f"{label} {mark.value:.2f} %" in alt
    (figure,) = figures_made
    (key,) = figure.legends
    assert [text.get_text() for text in key.get_texts()] == [
        "mean, 95 % interval over seeds and images", "one seed"
    ]  # fmt: skip
    low, high = figure.axes[0].get_xlim()
    assert low > 20 and high > 99  # the constant prediction is at the edge
    assert [text.get_text() for text in figure.axes[0].texts] == ["10.00"]


def table_of(markdown):
    lines = [line.strip("| ").split(" | ") for line in markdown.splitlines() if line[:1] == "|"]
    return lines[0], lines[2:]
