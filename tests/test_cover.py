"""The page's cover, and what a page says once: from the run's numbers, on one screen, escaped."""

import base64
import io
import re
from copy import deepcopy

import nbformat
import numpy as np
import pytest
import torch
from axe import serious
from PIL import Image

from kdnb.course import cover
from kdnb.course import text as words
from kdnb.course.diagrams.diagram import Diagram
from kdnb.course.diagrams.diagram import words as label
from kdnb.course.report.gathered import gather
from kdnb.course.report.page import render_chapter, render_page
from kdnb.course.report.protocol import COVER, ONCE, PROVENANCE
from kdnb.evaluation.cost import Cost
from kdnb.evaluation.statistics import Interval
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import ALONE
from kdnb.experiment.results import Comparison

HOSTILE = "<script>alert(1)</script>"
KD, SUBCLASS = "student + conventional KD", "student + subclass KD"
LABELS = (ALONE.label, KD, SUBCLASS)


def compared(*shares, images=1000, labels=LABELS):
    """Three seeds of each method; a method is right on a share of the images, the first ones."""
    correct = torch.stack([torch.arange(images).expand(3, -1) < s * images for s in shares])
    # Every seed misses one more image than the seed before it: an interval needs a width.
    for seed in range(3):
        correct[:, seed, :seed] = False
    return Comparison(labels, (0, 1, 2), "test", correct, {})


def costs(**parameters):
    return {
        name: Cost(n, n // 2, n, None, {}, 4 * n, 10, uncounted=("einsum",) if n == 7 else ())
        for name, n in parameters.items()
    }


def poster(result, name="5", stamp="made from generated pictures"):
    """A poster with every part; ``name`` is all that can come from data."""
    teachers = torch.arange(result.images).expand(3, -1) < 0.98 * result.images
    image = torch.zeros(1, 28, 28, dtype=torch.uint8)
    models = ["teacher", *result.labels]
    priced = costs(teacher=1_234_567, student=54_321)
    share = Interval(0.54, 0.45, 0.64, 3)
    parts = [label(320, 120, name), '<rect width="640" height="250" fill="none"/>']
    return cover.Cover(
        question="What is distillation, what does it gain, and what does it cost?",
        what=cover.what_it_is(8.0, 0.9, ["3", "5", name]),
        idea=Diagram(640, 250, parts, f"A picture of the idea: {name}"),
        gain=cover.what_it_gains(result, result.labels[1], result.labels[0], share),
        table=cover.table_one(result, result.labels, result.labels[0], teachers),
        maps=cover.map_tiles(
            image, {model: torch.ones(28, 28) for model in models}, f"gradient for {name}"
        ),
        cost=cover.what_it_costs(priced, 4.71),
        costs=cover.cost_bars(priced),
        stamp=stamp,
    )


def shown(*made, metadata=None):
    """An output for each of these: as a headless run would leave it."""
    outputs = []
    for each in made:
        if hasattr(each, "_repr_mimebundle_"):
            data, about = each._repr_mimebundle_(), {}
        else:
            data, *about = each._repr_markdown_()
            data, about = {"text/markdown": data}, {"text/markdown": about[0] if about else {}}
        outputs.append(nbformat.v4.new_output("display_data", data, metadata=about))
    return nbformat.v4.new_code_cell("code", outputs=outputs)


def page_of(title="Knowledge distillation: a task", **notebooks):
    """A page of notebooks, each from its cells."""
    made = {
        name: nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_markdown_cell(f"# Chapter {name}?\n\n## Part"), *deepcopy(cells)]
        )
        for name, cells in notebooks.items()
    }
    gathered = gather(made)
    chapters = [render_chapter(node, name, made) for name, node in made.items()]
    return render_page(chapters, title=title, about="A.", facts=[("a", "b")], gathered=gathered)


# Sentences and numbers


def test_the_answer_names_a_gain_a_loss_or_neither():
    share = Interval(0.54, 0.45, 0.64, 3)
    gained = compared(0.90, 0.94, 0.93)
    text = cover.what_it_gains(gained, KD, ALONE.label, share)
    assert text.startswith(f"A gain: {KD} against {ALONE.label}, +4.00 points (95 % interval ")
    assert text.endswith("3 seeds and 1,000 images), 54 % of the gap to the teacher.")
    lost = cover.what_it_gains(compared(0.94, 0.90, 0.93), KD, ALONE.label, share)
    assert lost.startswith("A loss: ") and "-4.00 points" in lost and "gap" not in lost
    equal = cover.what_it_gains(compared(0.900, 0.901, 0.93), KD, ALONE.label, share)
    assert equal.startswith("Not distinguishable from 0: ") and "+0.10 points" in equal
    assert "gap" not in equal


def test_the_answer_says_from_what_a_student_learns():
    ten, two = [str(n) for n in range(10)], ["HP", "SSA"]
    both = cover.what_it_is(8.0, 0.9, ten)
    assert "labels (weight 0.1) and from its teacher's probabilities at T = 8 (weight 0.9)" in both
    assert "similar the wrong classes" in both
    alone = cover.what_it_is(2.5, 1.0, two)
    assert "labels" not in alone and "T = 2.5" in alone and "certain the teacher" in alone


def test_the_answer_counts_what_is_saved_and_what_the_teacher_costs():
    text = cover.what_it_costs(costs(teacher=2_000_000, student=500_000), 4.71)
    assert "500,000 parameters, its teacher 2,000,000" in text
    assert "4.0 times fewer FLOPs" in text and "(4.7 s)" in text


def test_table_one_has_the_numbers_of_the_comparison():
    result = compared(0.90, 0.94, 0.901)
    teachers = torch.arange(1000).expand(3, -1) < 980
    table = cover.table_one(result, LABELS, ALONE.label, teachers)
    assert [row["model"] for row in table["rows"]] == ["teacher", *LABELS]
    teacher, alone, kd, subclass = table["rows"]
    assert teacher["accuracy"] == "98.00 %" and teacher["gain"] == alone["gain"] == ""
    mean, gain = result.mean(KD), result.gain(KD, ALONE.label)
    assert kd["accuracy"] == f"{100 * mean.mean:.2f} %"
    assert kd["range"] == f"{100 * mean.low:.2f} to {100 * mean.high:.2f} %"
    assert kd["gain"] == "+4.00" and kd["verdict"] == "a gain"
    assert kd["gain_range"] == f"{100 * gain.low:+.2f} to {100 * gain.high:+.2f}"
    assert subclass["verdict"] == "not distinguishable"
    assert "1,000 test images, 3 seeds" in table["about"]


def test_bars_are_fractions_of_the_largest():
    made = cover.cost_bars(costs(teacher=2_000_000, student=500_000))
    parameters, flops = made["groups"]
    assert [bar["percent"] for bar in parameters["bars"]] == [100, 25]
    assert [bar["value"] for bar in parameters["bars"]] == ["2,000,000", "500,000"]
    assert [bar["value"] for bar in flops["bars"]] == ["2.00", "0.50"] and made["note"] == ""
    nothing = cover.cost_bars(costs(teacher=0, student=0))
    assert [bar["percent"] for bar in nothing["groups"][0]["bars"]] == [0, 0]
    assert cover.cost_bars(costs(teacher=9, student=7))["note"].startswith("Not counted: einsum")


@pytest.mark.parametrize(("channels", "side", "drawn"), [(1, 28, 168), (3, 224, 192)])
def test_maps_are_orange_where_positive_and_blue_where_negative(channels, side, drawn):
    image = torch.zeros(channels, side, side, dtype=torch.uint8)
    values = torch.zeros(side, side)
    values[: side // 4], values[-side // 4 :] = 1, -1
    made = cover.map_tiles(image, {"teacher": values}, "gradient for 5")
    assert [tile["name"] for tile in made["tiles"]] == ["image", "teacher"]
    png = base64.b64decode(made["tiles"][1]["png"].split(",")[1])
    pixels = np.asarray(Image.open(io.BytesIO(png)))
    assert pixels.shape == (drawn, drawn, 3)
    (red, _, blue), middle, (cold_red, _, cold_blue) = (
        pixels[row, 5].astype(int) for row in (3, drawn // 2, drawn - 4)
    )
    assert red > blue + 100 and cold_blue > cold_red + 100
    assert len(set(middle)) == 1  # no map here: the faint image, grey on paper


def test_in_a_notebook_the_poster_brings_its_style_and_its_words():
    bundle = poster(compared(0.90, 0.94, 0.93))._repr_mimebundle_()
    assert bundle["text/html"].startswith("<style>") and ".poster" in bundle["text/html"]
    assert "+4.00 points" in bundle["text/plain"] and "1,234,567" in bundle["text/plain"]
    assert bundle[COVER]["what"] in bundle["text/html"].replace("&#39;", "'")


# What a page says once


TASK, OTHER = "**Task: digits.** Data.", "**Task: two classes.** Other data."


def once(kind, text):
    output = nbformat.v4.new_output(
        "display_data", {"text/markdown": text}, metadata={"text/markdown": {ONCE: kind}}
    )
    return nbformat.v4.new_code_cell("code", outputs=[output])


def test_the_page_says_once_what_its_chapters_share():
    cells = [once("task", TASK), once("caveats", "Made up.")]
    page = page_of(n00=cells, n03=[once("task", OTHER), cells[1]], n04=cells, n07=cells[:1])
    before = page[: page.index('<section class="chapter">')]
    assert "<strong>Task: digits.</strong>" in before and "Task: two classes" not in before
    assert "<strong>Limits of the results.</strong> Made up." in before
    assert [page.count(text) for text in ("Task: digits", "Made up.", "Task: two classes")] == [
        1
    ] * 3
    third = page[page.index("Chapter n03?</h2>") : page.index("Chapter n04?</h2>")]
    assert "Task: two classes" in third


def test_a_task_without_limits_says_nothing_of_them():
    assert "Limits" not in page_of(n00=[once("task", TASK), once("caveats", "")])


def test_provenance_is_one_table_at_the_end(tiny_task, store):
    lab = Experiment(tiny_task, store=store, device=torch.device("cpu"))
    runs = [lab.teacher(seed) for seed in (0, 1)]
    page = page_of(
        a1=[shown(words.task_card(lab), words.provenance_card(lab, runs))],
        a2=[shown(words.task_card(lab), words.provenance_card(lab, runs[:1]))],
    )
    assert page.count("Task: Tiny") == 1
    end = page[page.index('<h2 id="this-run">') :]
    seconds = [sum(run.history.seconds for run in some) for some in (runs, runs[:1])]
    device = runs[0].provenance["device"]
    for name, row in (("a1", (2, 0, f"{seconds[0]:,.0f}", "0, 1", device)),
                      ("a2", (1, 0, f"{seconds[1]:,.0f}", "0", device))):  # fmt: skip
        models, loaded, took, seeds, machine = row
        cells = f"<td>{models} on tiny, {loaded} loaded, {took} s</td><td>{seeds}; {machine}</td>"
        assert f'<th scope="row">{name}</th>{cells}' in end
    fingerprint = lab.dataset.fingerprint[:16]
    assert page.count(fingerprint) == 1 and f"tiny {fingerprint}" in end
    assert f"torch {runs[0].provenance['torch']}" in end
    assert '<li><a href="#this-run">This run</a></li>' in page


def test_one_chapter_alone_has_all_of_it_too():
    card = {name: name for name in ("dataset", "data", "models", "loaded", "seeds", "device")}
    card = {PROVENANCE: card | {"seconds": 1234.5, "versions": "torch 2"}}
    output = nbformat.v4.new_output(
        "display_data", {"text/markdown": "| provenance |"}, metadata={"text/markdown": card}
    )
    page = page_of(n02=[once("task", TASK), nbformat.v4.new_code_cell("", outputs=[output])])
    assert (
        "| provenance |" not in page
        and "loaded loaded, 1,234 s</td>" in page
        and "Task: digits" in page
    )
    assert "<h1>Knowledge distillation: a task</h1>" in page and 'class="poster"' not in page


@pytest.mark.parametrize("part", ["what", "gain", "cost", "maps"])
def test_a_poster_shows_only_the_parts_that_it_has(part):
    whole = poster(compared(0.90, 0.94, 0.93))
    only = {"what": ("what", "idea"), "gain": ("gain", "table"), "cost": ("cost", "costs"),
            "maps": ("maps",)}[part]  # fmt: skip
    some = cover.Cover(whole.question, **{name: getattr(whole, name) for name in only})
    page = page_of(n06=[shown(some)])
    assert page.count('class="finding"') == 1
    assert f"<h1>{whole.question}</h1>" in page


def test_a_question_alone_is_a_cover():
    page = page_of(n06=[shown(cover.Cover("Why?"))])
    assert "<h1>Why?</h1>" in page and 'class="finding"' not in page


# In a browser


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The longest poster: no verdict is shorter than *not distinguishable*."""
    result = compared(0.900, 0.901, 0.9)
    path = tmp_path_factory.mktemp("cover") / "page.html"
    path.write_text(page_of(n06=[shown(poster(result))], n07=[]), encoding="utf-8")
    return path


@pytest.fixture
def visit(browser):
    contexts = []

    def visit(file, width=1280, height=900, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        page = contexts[-1].new_page()
        page.complaints = []
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (page.complaints.append(dialog.message), dialog.dismiss()))
        page.goto(file.as_uri())
        assert page.complaints == []
        return page

    yield visit
    for context in contexts:
        context.close()


@pytest.mark.slow
def test_the_cover_fits_one_screen_and_the_chapters_come_below(visit, file):
    page = visit(file)
    last = page.locator(".cover .stamp").bounding_box()
    assert 700 < last["y"] + last["height"] <= 900 <= page.locator(".reading").bounding_box()["y"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    inside = page.locator(".poster *").evaluate_all(
        """all => all.every((it) => { const box = it.getBoundingClientRect();
          const poster = it.closest(".poster").getBoundingClientRect();
          return box.left >= poster.left - 1 && box.right <= poster.right + 1; })"""
    )
    assert inside


@pytest.mark.slow
@pytest.mark.parametrize("width", [768, 970, 1024, 1110, 1130, 1200, 1240, 1366, 1920])
def test_on_no_screen_but_a_phones_is_a_part_of_the_cover_cut(visit, file, width):
    page = visit(file, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = "all => all.filter((it) => it.scrollWidth > it.clientWidth).map((it) => it.outerHTML)"
    assert page.locator(".evidence").evaluate_all(cut) == []
    assert page.locator(".evidence svg").count() == 1


@pytest.mark.slow
def test_the_cover_fits_one_printed_page(visit, file):
    page = visit(file, 680)
    page.evaluate("document.querySelectorAll('main > :not(.cover)').forEach((it) => it.remove())")
    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4"))) == 1
    whole = visit(file, 680)
    whole.emulate_media(media="print")
    clipped = whole.locator(".cover, .cover *").evaluate_all(
        "all => all.filter((it) => it.scrollWidth > it.clientWidth + 1).map((it) => it.outerHTML)"
    )
    assert clipped == []
    # Without this a printer leaves the colours of backgrounds away, and so the bars.
    exact = "all => all.every((it) => getComputedStyle(it).printColorAdjust === 'exact')"
    assert whole.locator(".bar").count() == 4 and whole.locator(".bar").evaluate_all(exact)
    assert whole.locator(".cover").evaluate("it => getComputedStyle(it).breakAfter") == "page"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_cover_is_accessible_and_no_wider_than_the_window(visit, file, width, scheme):
    page = visit(file, width, color_scheme=scheme, bypass_csp=True, reduced_motion="reduce")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    grave, passed = serious(page)
    assert grave == {} and passed > 15
    alts = page.locator(".poster img").evaluate_all("all => all.map((it) => it.alt)")
    assert len(set(alts)) == 5 and all("gradient" in alt for alt in alts[1:])


@pytest.mark.slow
def test_on_a_phone_evidence_is_below_its_answer(visit, file):
    page = visit(file, 390, 844)
    for finding in page.locator(".finding").all():
        answer, evidence = (finding.locator(it).bounding_box() for it in (".answer", ".evidence"))
        assert answer["y"] + answer["height"] <= evidence["y"]
        assert answer["x"] == evidence["x"] and answer["width"] == evidence["width"]


@pytest.mark.slow
def test_names_from_data_are_text(visit, tmp_path):
    result = compared(0.90, 0.94, 0.93, labels=(ALONE.label, HOSTILE, SUBCLASS))
    made = poster(result, name=HOSTILE, stamp=HOSTILE)
    path = tmp_path / "page.html"
    path.write_text(page_of(HOSTILE, n06=[shown(made)]), encoding="utf-8")
    page = visit(path)
    assert page.locator("script").count() == 1 and page.locator("svg script").count() == 0
    for place in (".kicker", ".poster .answer", ".poster th", "figcaption", ".stamp", "svg text"):
        assert any(HOSTILE in text for text in page.locator(place).all_text_contents()), place
    alone = tmp_path / "notebook.html"
    alone.write_text(made._repr_mimebundle_()["text/html"], encoding="utf-8")
    assert visit(alone).locator("script").count() == 0
