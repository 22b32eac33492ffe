"""Diagrams of the ideas: their numbers against torch's, and every text in its place."""

import re
from html import unescape

import pytest
import torch
import torch.nn.functional as F
from axe import serious
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from torch import nn

from kdnb import tasks
from kdnb.course import diagrams
from kdnb.course.diagrams.diagram import Diagram, words
from kdnb.course.diagrams.layers import MOST, Layer, layers
from kdnb.course.diagrams.triangle import CORNERS
from kdnb.course.report.page import render_chapter, render_page
from kdnb.course.report.slides import slides_of
from kdnb.losses import class_logits
from kdnb.models import StudentMLP, TeacherCNN

HOSTILE = '<script>alert("1")</script>'
GENERATOR = torch.Generator().manual_seed(0)
GREY = torch.randint(0, 256, (3, 1, 28, 28), generator=GENERATOR, dtype=torch.uint8)
RGB = torch.randint(0, 256, (3, 3, 64, 64), generator=GENERATOR, dtype=torch.uint8)
NAMES = {
    "digits": [str(digit) for digit in range(10)],
    "two": ["hyperplastic polyp", "sessile serrated adenoma"],
    "alike": [f"a chair with {legs} legs" for legs in range(8)],
    "wide": ["WOMEN'S SHOES AND BAGS", "犬" * 12, "MAMMALS", "CHEMISTRY"],
    "hostile": [HOSTILE, f"{HOSTILE}2", '" onload="alert(1)'],
    "many": [f"class {i}" for i in range(1000)],
}


def logits_of(names, rows=2):
    return 3 * torch.randn(rows, len(names), generator=torch.Generator().manual_seed(1))


def made_idea(names, temperature=4.0, soft_weight=0.9):
    teacher, student = logits_of(names)
    return diagrams.idea(GREY[0], 1, teacher, student, names, temperature, soft_weight)


def made_head(names, size=5):
    return diagrams.subclass_head(logits_of(names * size, 1)[0], names, 4.0)


def made_simplex(names):
    return diagrams.simplex(logits_of(names[:3], 3), names[:3], 4.0, RGB)


def made_networks(task):
    chosen, image = tasks.task(task), torch.rand(1, 1, 28, 28)
    if task == "polyps":
        image = torch.rand(1, 3, 64, 64)
    count = 10 if task == "mnist-small" else 2
    pair = (chosen.teacher(num_classes=count), chosen.student(num_classes=count))
    return diagrams.networks(*pair, image)


def every():
    """All diagrams, by name: those of each set of class names, and of both default tasks."""
    for kind, names in NAMES.items():
        yield f"idea, {kind}", made_idea(names)
        yield f"head, {kind}", made_head(names)
        if len(names) > 2:
            yield f"simplex, {kind}", made_simplex(names)
    yield "idea, fractions", made_idea(NAMES["two"], 1 / 3, 1 / 3)
    for count, size in ((2, 2), (2, 10), (3, 4), (10, 5), (4, 1)):
        yield f"head, {count} times {size}", made_head(NAMES["many"][:count], size)
    for task in ("mnist-small", "polyps"):
        yield f"networks, {task}", made_networks(task)
    yield (
        "networks, 1.2 million parameters",
        diagrams.networks(TeacherCNN(), StudentMLP(), torch.rand(1, 1, 28, 28)),
    )


def texts(diagram):
    return [unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", diagram.svg)]


def bars(diagram, ink):
    """Heights of the filled bars of one ink, in order."""
    return [
        float(height)
        for height in re.findall(rf'<rect [^>]*height="([\d.]+)" fill="{ink}"/>', diagram.svg)
    ]


# Their numbers


def test_the_losses_of_the_idea_are_torchs():
    names = NAMES["digits"]
    teacher, student = logits_of(names).double()
    soft = 16 * F.kl_div(
        (student / 4).log_softmax(0), (teacher / 4).softmax(0), reduction="sum"
    )  # fmt: skip
    hard = F.cross_entropy(student[None], torch.tensor([1]))
    total = 0.9 * soft + 0.1 * hard
    shown = made_idea(names)
    assert [f"= {soft:.3f}", "× 0.9", f"loss = {total:.3f}", "× 0.1"] == [
        text for text in texts(shown) if re.search(r"^[=×]|^loss", text)
    ][:4]
    assert f"= {hard:.3f}" in texts(shown)
    for number in (soft, hard, total):
        assert f"{number:.3f}" in shown.alt
    assert "computed once" in shown.alt and "only to the student" in shown.alt


def test_the_bars_of_the_idea_are_softmaxes():
    names = NAMES["digits"]
    teacher, student = logits_of(names)
    shown = made_idea(names)
    soft = torch.stack([teacher, student]).div(4).softmax(1)
    drawn = torch.tensor(bars(shown, "#c27c0e") + bars(shown, "#0173b2"))
    expected = torch.cat([(36 * soft / soft.max()).flatten(), 32 * student.softmax(0)])
    torch.testing.assert_close(drawn, expected, atol=0.01, rtol=0)
    assert bars(shown, "#029e73") == [0, 32] + [0] * 8


def test_of_many_classes_the_idea_shows_ten_bars():
    shown = made_idea(NAMES["many"])
    assert len(bars(shown, "#c27c0e")) == 10 and len(shown.alt) < 900
    assert sum(bars(shown, "#029e73")) == 32


@pytest.mark.parametrize(("classes", "size"), [(2, 5), (3, 4), (10, 5), (1, 3)])
def test_the_head_shows_the_logsumexp_and_the_sum_of_probabilities(classes, size):
    names = NAMES["many"][:classes]
    logits = logits_of(names * size, 1).double()
    z, shown = class_logits(logits, classes)[0], made_head(names, size)
    sums = logits.softmax(1).view(classes, size).sum(1)
    for c in {0, min(1, classes - 1), classes - 1}:
        assert f"z = {z[c]:.2f}" in texts(shown) and f"P = {sums[c]:.3f}" in texts(shown)
        assert f"z = {z[c]:.2f}, P = {sums[c]:.3f}" in shown.alt
        assert f"{logits[0, c * size]:.1f}" in texts(shown)
    assert f"all {classes * size} logits" in shown.alt
    assert ("7 more" in texts(shown)) == (classes == 10)


def test_the_paths_end_in_the_centre_and_the_steps_lie_on_them():
    logits, names = torch.tensor([[6.0, 2.0, 1.0], [1.0, 1.0, 4.0]]), ["a", "b", "c"]
    shown = diagrams.simplex(logits, names, 4.0, GREY[:2])
    groups = re.findall(r'<g class="step">(.*?)</g>', shown.svg)
    assert len(groups) == len(shown.steps.names) == 17
    assert (shown.steps.names[0], shown.steps.names[4]) == ("T = 0.25", "T = 1")
    top, left, right = CORNERS
    for group, name in zip(groups, shown.steps.names, strict=True):
        t = 2 ** (round(2 * torch.tensor(float(name[4:])).log2().item()) / 2)
        points = re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', group)
        expected = (logits / t).softmax(1) @ torch.tensor([top, left, right])
        drawn = torch.tensor([[float(v) for v in point] for point in points])
        torch.testing.assert_close(drawn, expected, atol=0.02, rtol=0)
    centre = torch.tensor([top, left, right]).mean(0)
    assert (drawn - centre).norm(dim=1).max() < 5  # at T = 64
    largest = (logits / torch.tensor([1.0, 4.0])[:, None, None]).softmax(2).amax(2).T
    assert [f"{p:.3f}" for p in largest.flatten()] == [t for t in texts(shown) if t[:2] == "0."]
    assert "T = 1: a 0.976, b 0.018, c 0.007" in shown.alt


def test_three_classes_share_the_probability_of_their_images():
    labels = torch.arange(5).repeat(40)
    logits = torch.randn(200, 5, generator=torch.Generator().manual_seed(2)) - 9
    logits[:, 1:4] += 9  # the classes 1, 2 and 3
    logits[torch.arange(200), labels] += 2
    trio, rows = diagrams.three_classes(logits, labels)
    assert trio == [1, 2, 3] and labels[rows].tolist() == trio
    assert logits[rows].argmax(1).tolist() == trio
    assert (logits[rows].softmax(1).amax(1) - 0.9).abs().max() < 0.05
    few, _ = diagrams.three_classes(torch.eye(3), torch.tensor([1, 2, 0]))  # all are wrong
    assert few == [0, 1, 2]


def test_the_layers_are_those_of_the_module():
    image = torch.rand(1, 1, 28, 28)
    teacher, student = TeacherCNN(), StudentMLP()
    assert layers(teacher, image) == [
        Layer("conv1", (32, 26, 26), 320), Layer("pool1", (32, 25, 25), 0),
        Layer("conv2", (64, 23, 23), 18_496), Layer("dense", (128,), 991_360),
        Layer("output", (10,), 1_290),
    ]  # fmt: skip
    assert [each.name for each in layers(student, image)] == ["layers.0", "layers.1", "output"]
    shown = diagrams.networks(teacher, student, image)
    assert "1,011,466 parameters" in texts(shown) and "1,238,730 parameters" in texts(shown)
    assert "conv2 64 × 23 × 23 with 18,496 parameters" in shown.alt
    squares = re.findall(r'width="([\d.]+)" height="\1" rx="0" fill="#0173b2"', shown.svg)[:-1]
    areas = torch.tensor([float(side) for side in squares]) ** 2  # without that of the legend
    counts = [320, 18_496, 991_360, 1_290, 615_440, 615_440, 7_850]
    torch.testing.assert_close(
        areas / areas.max(), torch.tensor(counts) / 991_360, atol=2e-3, rtol=0
    )
    assert not teacher._forward_hooks and teacher.training


def test_a_deep_network_has_at_most_ten_rows_and_all_its_parameters():
    shared = nn.Linear(4, 4)
    deep = [nn.Sequential(nn.Linear(4 + i, 5 + i), nn.ReLU()) for i in range(30)]
    twice = [nn.Sequential(shared, nn.ReLU()) for _ in range(2)]
    model = nn.Sequential(nn.Flatten(), *twice, *deep, nn.Dropout())
    found = layers(model, torch.rand(1, 1, 2, 2))
    assert len(found) == MOST
    assert sum(each.parameters for each in found) == sum(p.numel() for p in model.parameters())
    staged = nn.Sequential(*(nn.Linear(4, 4) for _ in range(20)), nn.Linear(4, 2))
    found = layers(nn.Sequential(nn.Flatten(), staged), torch.rand(1, 1, 2, 2))
    assert [each.parameters for each in found] == [0, 20 * 20 + 10]
    assert layers(nn.Linear(2, 3), torch.rand(1, 1, 2, 2)) == [Layer("Linear", (1, 2, 3), 9)]


# Their form


def test_their_texts_are_escaped_and_they_have_an_alternative():
    for name, shown in every():
        assert "<script" not in shown.svg and 'onload="' not in shown.svg, name
        assert f'aria-label="{escaped(shown.alt)}"' in shown.svg and len(shown.alt) > 100, name
        assert shown.svg.count("<svg") == 1 and 'role="img"' in shown.svg
    assert HOSTILE in made_idea(NAMES["hostile"]).alt


def escaped(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace(
        '"', "&quot;"
    ).replace("'", "&#x27;")  # fmt: skip


def test_a_page_scrolls_where_letters_would_be_too_small():
    shown = Diagram(600, 20, [words(1, 10, "a", size=12), words(9, 10, "b")], "A line.")
    assert "--legible:550px" in shown.svg
    assert "--legible:471px" in Diagram(600, 20, [], "No letters.").svg


def outputs(*shown):
    made = [each._repr_mimebundle_() for each in shown]
    return [new_output("display_data", data=data, metadata=about) for data, about in made]


def page_of(shown, stamp=""):
    cells = [new_markdown_cell("# Diagrams"), new_code_cell("x", outputs=outputs(*shown))]
    chapter = render_chapter(new_notebook(cells=cells), "00", ["00"], stamp)
    return render_page([chapter], title="Diagrams", about="A test.", facts=[])


def test_what_shows_data_is_stamped():
    page = page_of([made_idea(NAMES["two"]), made_simplex(NAMES["digits"])], "GENERATED")
    assert page.count('<p class="stamp">GENERATED</p>') == 2
    page = page_of([made_head(NAMES["two"])], "GENERATED")
    assert "GENERATED" not in page and '<div class="scroll" data-what="diagram">' in page


def test_on_a_slide_a_diagram_is_a_picture():
    shown = made_idea(NAMES["digits"])
    sentence = new_output("display_data", data={"text/markdown": "A sentence."})
    metadata = {"slideshow": {"slide_type": "slide"}}
    for extra, expected in (([], 1), (outputs(made_simplex(NAMES["digits"])), 1)):
        cell = new_code_cell("x", metadata=metadata, outputs=[sentence, *outputs(shown), *extra])
        (slide,) = slides_of(new_notebook(cells=[new_markdown_cell("# A"), cell]))
        on, _, notes = slide.body.partition('<aside class="notes">')
        assert on.count("<svg") == expected and "A sentence." in notes
        assert ("component" in on) == bool(extra) and "A sentence." not in on


# In a browser

OVERLAPS = """svg => {
  const frame = svg.getBoundingClientRect(), found = [];
  const boxes = [...svg.querySelectorAll("text")].map(
    t => [t.textContent, t.getBoundingClientRect()]);
  boxes.forEach(([text, a], i) => {
    if (a.left < frame.left - 1 || a.right > frame.right + 1 || a.top < frame.top - 1
      || a.bottom > frame.bottom + 1) found.push(`${text} is outside`);
    for (const [other, b] of boxes.slice(i + 1)) {
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 1.5 && high > 3) found.push(`${text} is over ${other}`);
    }
  });
  for (const rect of svg.querySelectorAll("rect")) {
    const b = rect.getBoundingClientRect();
    for (const [text, a] of boxes) {
      const x = (a.left + a.right) / 2, y = (a.top + a.bottom) / 2;
      const inside = x > b.left && x < b.right && y > b.top && y < b.bottom;
      if (inside && (a.left < b.left || a.right > b.right)) found.push(`${text} leaves its box`);
    }
  }
  return found;
}"""


@pytest.fixture
def opened(browser, tmp_path):
    """``opened(html, **options)``: a page of a new context; a complaint fails the test."""
    contexts, complaints = [], []

    def open_(html, **options):
        path = tmp_path / "page.html"
        path.write_text(html, encoding="utf-8")
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path.as_uri())
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.mark.slow
@pytest.mark.parametrize("font", ["DejaVu Sans", "Liberation Sans"])
def test_no_text_leaves_its_place(opened, font):
    named = list(every())
    svgs = [each.svg.replace("sans-serif", font) for _, each in named]
    page = opened("<!DOCTYPE html><meta charset=utf-8>" + "".join(svgs))
    for (name, _), svg in zip(named, page.locator("svg").all(), strict=True):
        assert svg.evaluate(OVERLAPS) == [], name


@pytest.mark.slow
def test_letters_are_legible_on_a_phone_and_the_page_does_not_scroll_sideways(opened):
    shown = [made_idea(NAMES["two"]), made_head(NAMES["two"]), made_simplex(NAMES["digits"])]
    page = opened(
        page_of([*shown, made_networks("polyps")]), viewport={"width": 390, "height": 800}
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    sizes = """all => all.filter(t => t.checkVisibility())
      .map(t => parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a)"""
    letters = page.eval_on_selector_all("svg.diagram text", sizes)
    assert len(letters) > 60 and min(letters) >= 10.9
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 680, "height": 1000})
    for svg in page.locator(".still svg, .scroll svg").all():
        box = svg.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 681 and box["height"] < 870


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(opened, scheme):
    shown = [made_idea(NAMES["hostile"]), made_head(NAMES["two"]), made_networks("mnist-small")]
    page = opened(
        page_of(shown), viewport={"width": 390, "height": 800}, color_scheme=scheme, bypass_csp=True
    )
    grave, passes = serious(page)
    assert grave == {} and passes > 10
