"""Diagrams of results: their numbers against direct computation, and steps in a real browser."""

import re
import xml.etree.ElementTree as ET

import nbformat
import pytest
import torch
import torch.nn.functional as F
from axe import serious
from playwright.sync_api import expect
from scipy import stats
from test_components import opened
from test_diagrams import OVERLAPS
from test_lab import made_notebook

from kdnb.course.diagrams import deletion, epochs, forest, gradients, redraws
from kdnb.course.diagrams.axes import Axis
from kdnb.course.diagrams.diagram import BLUE, ORANGE, Diagram, Steps, box, step, words
from kdnb.course.interactive.live_figures import training
from kdnb.course.report.page import render_chapter, render_page
from kdnb.course.report.protocol import COMPONENT, HEADLESS
from kdnb.data.augmentation import TranslatedImages
from kdnb.evaluation.metrics import match_subclasses
from kdnb.evaluation.saliency import Saliency
from kdnb.evaluation.statistics import Interval
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import subclass
from kdnb.experiment.saliency_study import SaliencyStudy
from kdnb.store.store import Store
from kdnb.training.history import Epoch, History, is_validated
from kdnb.training.loop import predict

CPU = torch.device("cpu")
HOSTILE = '</svg><script>alert("1")</script>'
GENERATOR = torch.Generator().manual_seed(0)


def drawn(diagram):
    """The SVG as a tree; this fails if it is not well-formed."""
    return ET.fromstring(diagram.svg)


def texts(diagram):
    return [element.text for element in drawn(diagram).iter("text")]


@pytest.fixture
def lab(tiny_task, store):
    return Experiment(tiny_task, store=store, device=CPU)


# The ratio of gradients

STUDENT, TEACHER = 3 * torch.randn(2, 16, 5, generator=GENERATOR, dtype=torch.float64)
LABELS = torch.randint(5, (16,), generator=GENERATOR)


@pytest.mark.parametrize(("t", "w"), [(1.0, 0.5), (8.0, 0.9), (64.0, 0.1)])
def test_the_ratio_is_that_of_the_gradients_by_hand(t, w):
    """p_s − p_t at T, times T (of T² and one 1/T), against the softmax minus the label."""
    soft = w * t * ((STUDENT / t).softmax(1) - (TEACHER / t).softmax(1))
    hard = (1 - w) * (STUDENT.softmax(1) - F.one_hot(LABELS, 5))
    expected = soft.norm(dim=1).mean() / hard.norm(dim=1).mean()
    pulls = gradients.pulls(STUDENT, TEACHER, LABELS, t)
    assert gradients.ratio(*pulls, w) == pytest.approx(expected.item(), rel=1e-9)
    assert gradients.ratio(*pulls, gradients.equal_weight(*pulls)) == pytest.approx(1)
    assert not STUDENT.requires_grad  # the reader's logits are unchanged


def test_the_map_of_ratios_has_every_cell_the_setting_and_the_border():
    diagram = gradients.gradient_ratio(STUDENT, TEACHER, LABELS, 3.0, 1.0)
    ts, ws = sorted({*gradients.TEMPERATURES, 3.0}), [1.0, *gradients.WEIGHTS]
    found = {t: gradients.pulls(STUDENT, TEACHER, LABELS, t) for t in ts}
    said = texts(diagram)
    assert said.count("∞") == len(ts)  # without labels
    assert "the labels have no weight" in diagram.alt
    cells = [r for r in drawn(diagram).iter("rect") if r.get("height") == str(gradients.ROW)]
    assert len(cells) == len(ts) * len(ws)
    inks = [rect.get("fill") for rect in cells]
    assert inks == [
        BLUE if gradients.ratio(*found[t], w) > 1 else ORANGE for w in ws for t in ts
    ]  # fmt: skip
    border = drawn(diagram).find("polyline").get("points").split()
    rows = [(float(point.split(",")[1]) - gradients.TOP) / gradients.ROW for point in border]
    stronger = [sum(gradients.ratio(*found[t], w) >= 1 for w in ws) for t in ts]
    assert rows == [count for count in stronger for _ in range(2)]
    assert 0 < min(stronger) < max(stronger)


def test_the_setting_is_said_on_both_sides_of_equal():
    def said(weight):
        return gradients.gradient_ratio(STUDENT, TEACHER, LABELS, 8.0, weight).alt

    soft, hard = gradients.pulls(STUDENT, TEACHER, LABELS, 8.0)
    assert "the soft term has no weight" in said(0.0)
    strength = gradients.ratio(soft, hard, 0.99)
    assert strength > 100
    assert f"the soft term pulls {strength:.0f} times as strongly as the labels" in said(0.99)
    strength = 1 / gradients.ratio(soft, hard, 0.02)
    assert f"the labels pull {strength:.0f} times as strongly as the soft term" in said(0.02)


# Redraws


def test_intervals_are_those_of_scipy_and_miss_as_often():
    found = redraws.redrawn(torch.tensor([1.0, 2.5, 0.5]), draws=2000)
    assert found.mean == pytest.approx(4 / 3)
    assert found.deviation == pytest.approx(torch.tensor([1.0, 2.5, 0.5]).std().item())
    low, high = stats.t.interval(
        0.95, 2, found.gains.mean(1), stats.sem(found.gains.numpy(), axis=1)
    )
    missed = (low > found.mean) | (high < found.mean)
    assert found.missed == missed.tolist()
    assert 0.035 < missed.mean() < 0.065  # binomial: 0.05 ± 3 · 0.0049
    assert abs(found.gains.std() - found.deviation) < 0.05 * found.deviation
    assert torch.equal(found.gains, redraws.redrawn(torch.tensor([1.0, 2.5, 0.5]), 2000).gains)


def test_the_stack_shows_the_misses_and_says_their_number():
    found = redraws.redrawn(torch.tensor([0.4, -0.2, 0.1]))
    diagram = redraws.redraws(found)
    steps = [g for g in drawn(diagram).iter("g") if g.get("class") == "step"]
    inks = [g.find("polyline").get("stroke") for g in steps]
    assert inks == [ORANGE if missed else BLUE for missed in found.missed]
    assert 0 < sum(found.missed) < 15
    assert f"{sum(found.missed)} intervals (orange)" in texts(diagram)
    assert [("misses" in name) for name in diagram.steps.names] == found.missed
    first = found.gains[:, 0]
    wrong = (first < 0).sum()
    assert wrong > 5 and f"in {wrong} of 100 repetitions its sign is wrong" in diagram.alt
    assert f"between {first.min():+.2f} and {first.max():+.2f} points" in diagram.alt


def test_one_seed_has_no_deviation_and_equal_gains_have_no_misses():
    with pytest.raises(ValueError, match="2 seeds, got 1"):
        redraws.redrawn(torch.tensor([1.0]))
    same = redraws.redrawn(torch.full((3,), 1 / 3))
    assert not any(same.missed)
    drawn(redraws.redraws(same))


# The forest


def test_every_comparison_is_a_row_with_its_verdict():
    gain, loss = Interval(0.02, 0.01, 0.03, 3, p_holm=0.01), Interval(-0.3, -0.4, -0.2, 3, p_holm=0)
    unclear = Interval(0.02, 0.001, 0.04, 3, p_holm=0.2)  # excludes 0, and is no claim
    sections = [
        forest.Section("points", {"over a": {"gain": gain, "unclear": unclear}}, 100, 2),
        forest.Section("similarity", {HOSTILE: {HOSTILE: loss}}),
        forest.Section("nothing", {"over b": {}}),
    ]
    diagram = forest.forest(sections)
    said = texts(diagram)
    assert "+2.00 (+1.00 to +3.00)" in said and "-0.300 (-0.400 to -0.200)" in said
    assert "nothing" not in said
    marks = [(m.get("stroke"), m.get("fill")) for m in drawn(diagram).iter("circle")][3:]
    assert marks == [(BLUE, BLUE), ("currentColor", "none"), (ORANGE, ORANGE)]
    head = "Of 3 comparisons, 1 show a gain and 1 a loss; 1 are not distinguishable from 0"
    assert forest.counts(sections).startswith(head) and head in diagram.alt
    assert "unclear: +2.00 (+0.10 to +4.00), not distinguishable" in diagram.alt


def test_a_row_lies_where_its_axis_says():
    one, two = Interval(0.0, -0.1, 0.1, 3), Interval(0.5, 0.4, 1.0, 3, p_holm=0.01)
    diagram = forest.forest([forest.Section("x", {"": {"one": one, "two": two}})])
    lines = [
        [tuple(map(float, point.split(","))) for point in line.get("points").split()]
        for line in drawn(diagram).iter("polyline")
        if line.get("stroke-width") == "2"
    ]
    (a, b), (c, d) = ([x for x, _ in points] for points in lines)
    assert (c - a) / (b - a) == pytest.approx(0.5 / 0.2, rel=0.01)
    assert (d - c) / (b - a) == pytest.approx(0.6 / 0.2, rel=0.01)


# Deletion and insertion


def test_curves_have_the_engines_areas_and_ends(lab):
    """Their areas are those of the study, and they end at the whole and the empty image."""
    study = SaliencyStudy(lab, 20, lab.task.subclass_config)
    method = subclass(4.0, 0.9, lab.task.subclass_config)
    runs = {"teacher": study.teacher(0), method.label: lab.student(method, 0)}
    found = deletion.study_curves(study, runs, [Saliency.GRADIENT, Saliency.INTEGRATED])
    areas = study.faithfulness([method], [0], Saliency.INTEGRATED)
    for label, run in runs.items():
        for order, extra in (("integrated gradients", ""), (deletion.RANDOM, ", random order")):
            for way, curve in zip(deletion.WAYS, found[label][order], strict=True):
                area = torch.trapezoid(curve, dim=0) / lab.task.saliency.steps
                torch.testing.assert_close(area, areas.of(label, way + extra)[0])
        deleted, inserted = found[label]["gradient"]
        assert deleted.shape == (lab.task.saliency.steps + 1, 20)
        whole = lab.class_logits(run, study.images).double().softmax(1).amax(1)
        torch.testing.assert_close(deleted[0], whole, atol=1e-5, rtol=0)
        torch.testing.assert_close(deleted[0], inserted[-1])
        torch.testing.assert_close(deleted[-1], inserted[0])
    diagram = deletion.deletion_curves(found)
    curves = [c for c in drawn(diagram).iter("polyline") if c.get("stroke-width") == "2"]
    assert len(curves) == 3 + 2 * 2 * 3  # the key, and models · ways · orders
    mean = found["teacher"][deletion.RANDOM][0][2].mean()
    assert re.search(
        rf"teacher, with 20 % of the pixels deleted: [^;]*, {mean:.2f} \(random order\); with 20 %",
        diagram.alt,
    )


# The curve of a training under way


def under_way(losses, epochs):
    """A training that has had as many of its epochs as there are losses."""
    rows = []
    for n, loss in enumerate(losses, 1):
        validation = (2 * loss, 1 - loss / 4) if is_validated(n, epochs) else (None, None)
        rows.append(Epoch(loss, None, None, *validation, 1.0))
    return History(rows)


def test_a_training_under_way_has_every_epoch_where_its_axes_say():
    diagram = training(HOSTILE, under_way([1, 0.1, 0.01], 20), 20)

    def marks(ink):
        circles = [c for c in drawn(diagram).iter("circle") if c.get("r") == "2"]
        return [(float(c.get("cx")), float(c.get("cy"))) for c in circles if c.get("stroke") == ink]

    def named(name):
        """Where words stand, the leftmost if they stand twice."""
        found = [t for t in drawn(diagram).iter("text") if t.text == name]
        return min((float(t.get("x")), float(t.get("y"))) for t in found)

    assert len(marks(BLUE)) == 3 and len(marks(ORANGE)) == 2, "after epoch 2, in both charts"
    for (_, y), name in zip(marks(BLUE)[1:], ("0.1", "0.01"), strict=True):
        assert y == pytest.approx(named(name)[1] - 4, abs=0.11)
    ends = {c.text: float(c.get("x")) for c in drawn(diagram).iter("text")
            if c.text in ("1", "20") and c.get("text-anchor") == "middle"}  # fmt: skip
    (first, second), width = (x for x, _ in marks(ORANGE)), 338
    step = (ends["20"] - ends["1"]) / 19
    assert second == pytest.approx(ends["1"] + step, abs=0.11) and second - first == width
    assert [x + width for x, _ in marks(BLUE)] == pytest.approx(
        [ends["1"], ends["1"] + step, ends["1"] + 2 * step], abs=0.11
    )
    assert {"loss (nats)", "validation accuracy (%)", "training", "validation"} <= set(
        texts(diagram)
    )
    assert HOSTILE in texts(diagram)
    assert "validation accuracy 97.50 % after epoch 2" in drawn(diagram).get("aria-label")


@pytest.mark.parametrize(
    ("losses", "names"),
    [
        ([0.05, 1.5], ["0.05", "0.1", "0.2", "0.5", "1"]),
        ([0.31, 0.38], ["0.32", "0.34", "0.36", "0.38"]),
        ([1e-5, 2], ["1e-05", "0.0001", "0.001", "0.01", "0.1", "1"]),
        ([0.3], ["0.2", "0.4", "0.6", "0.8"]),
    ],
)
def test_ticks_of_a_logarithmic_axis_are_round(losses, names):
    axis = Axis.over(losses, 160, 0, log=True)
    assert [f"{tick:g}" for tick in axis.ticks()] == names
    assert all(0 < axis.at(loss) < 160 for loss in losses)


@pytest.mark.slow
@pytest.mark.parametrize("paper", ["color:#111;background:#fff", "color:#eee;background:#111"])
def test_no_letters_of_a_training_under_way_overlap(browser, paper):
    shown = [
        training(label, under_way(losses, epochs), epochs)
        for label, losses, epochs in (
            ("teacher", [], 20), ("one", [0.7], 1), ("a", [0.7, 0.69], 3),
            ("long " * 40, [1.5 / n**2 for n in range(1, 501)], 500),
            ("flat", [2.3026, 2.3025], 9), ("steep", [10.0**-n for n in range(12)], 12),
        )
    ]  # fmt: skip
    page = browser.new_page(viewport={"width": 760, "height": 900})
    page.set_content(f'<body style="{paper}">' + "".join(each.svg for each in shown))
    for each in page.locator("svg").all():
        assert each.evaluate(OVERLAPS) == []
        assert each.locator("text").first.evaluate("t => getComputedStyle(t).fill") in (
            "rgb(17, 17, 17)", "rgb(238, 238, 238)"
        )  # fmt: skip
    page.close()


# The map over the epochs


def test_epochs_are_watched_without_changing_the_training(lab, tiny_task, tmp_path):
    updates = []
    lab.watch = updates.append
    config = lab.task.subclass_config
    found = epochs.epoch_logits(lab, 0, config)
    assert list(found) == [0, 1, 2] and [len(u.history.epochs) for u in updates] == [0, 1, 2]
    split = epochs.map_images(lab)
    run = lab.teacher(0, config)
    assert run.loaded  # it was stored while it was watched
    torch.testing.assert_close(found[2], lab.logits(run, split)[0])
    alone = Experiment(tiny_task, store=Store(tmp_path / "alone"), device=CPU)
    assert alone.teacher(0, config).weights == run.weights
    again = epochs.epoch_logits(Experiment(tiny_task, store=lab.store, device=CPU), 0, config)
    assert all(torch.equal(again[n], found[n]) for n in found)


def test_a_stored_teacher_is_repeated_beside_the_store_only_if_it_is_quick(lab, monkeypatch):
    config = lab.task.subclass_config
    weights, before = lab.teacher(0, config).weights, set(lab.store.names("run-"))
    monkeypatch.setattr(epochs, "SECONDS", 0.0)
    assert epochs.epoch_logits(lab, 0, config) == {}
    monkeypatch.setattr(epochs, "SECONDS", 1e6)
    found = epochs.epoch_logits(lab, 0, config)
    assert set(lab.store.names("run-")) == before and lab.teacher(0, config).weights == weights
    inputs = TranslatedImages(epochs.map_images(lab).images)
    torch.testing.assert_close(found[2], predict(lab.teacher(0, config).model, inputs, device=CPU))


def snapshots(numbers):
    shape = 40, 6
    return {n: (n + 1) * torch.randn(shape, generator=GENERATOR) for n in numbers}


def test_the_last_step_is_the_projection_by_hand():
    """Two main directions by the eigenvectors of the last epoch's covariance."""
    found = snapshots(range(4))
    points = epochs.projected(found)
    centred = {n: z.double() - z.double().mean(1, keepdim=True) for n, z in found.items()}
    middle = centred[3].mean(0)
    values, vectors = torch.linalg.eigh((centred[3] - middle).T @ (centred[3] - middle))
    for k, vector in enumerate((vectors[:, -1], vectors[:, -2])):
        vector = vector * vector[vector.abs().argmax()].sign()
        for n in found:
            torch.testing.assert_close(points[n][:, k], (centred[n] - middle) @ vector)
    variance = points[3].square().sum(0)
    torch.testing.assert_close(variance, values[[-1, -2]])


def test_of_many_epochs_nine_are_shown_the_first_and_the_last_among_them():
    assert list(epochs.projected(snapshots(range(31))))[::8] == [0, 30]
    assert len(epochs.projected(snapshots(range(31)))) == 9
    assert list(epochs.projected(snapshots([5]))) == [5]


def numbers_of(path):
    return torch.tensor([[float(v) for v in m] for m in re.findall(r"M(\S+?) (\S+?)[mh]", path)])


def test_the_map_has_a_mark_for_every_image_and_says_what_was_recovered():
    found = snapshots(range(9))
    labels = torch.arange(40) % 2
    subclasses = 3 * labels + torch.arange(40) % 3
    names = [HOSTILE, *"bcdef"]
    diagram = epochs.epochs_map(found, labels, ["x", HOSTILE], subclasses, names)
    steps = [g for g in drawn(diagram).iter("g") if g.get("class") == "step"]
    assert [g.get("display") for g in steps] == ["none"] * 8 + [None]
    for g in steps:
        assert sum(len(numbers_of(path.get("d"))) for path in g.iter("path")) == 40
    # A similarity of the projection: all distances of the last epoch in one ratio.
    (first, *_) = [numbers_of(p.get("d")) for p in steps[-1].iter("path")]
    own = epochs.projected(found)[8][(labels == 0) & (subclasses == 0)]
    ratio = torch.pdist(first.double()) / torch.pdist(own)
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), atol=0.5, rtol=0.02)
    for n, name in zip((0, 8), (diagram.steps.names[0], diagram.steps.names[-1]), strict=True):
        recovered = match_subclasses(found[n], subclasses, 6).recovered
        assert f"{100 * recovered:.0f} % of the true subclasses recovered" in name
    assert "Before training" in diagram.alt and "after epoch 8" in diagram.alt
    assert len(diagram.svg) < 150_000


def test_a_map_without_known_subclasses_is_coloured_by_class():
    diagram = epochs.epochs_map(snapshots([0, 1]), torch.arange(40) % 3, ["x", "y", "z"])
    (last,) = [
        g for g in drawn(diagram).iter("g") if g.get("class") == "step" and not g.get("display")
    ]
    assert [p.get("stroke") for p in last.iter("path")] == list(epochs.COLOURS[:3])
    assert "subclasses" not in diagram.alt
    assert {"x", "y", "z"} <= set(texts(diagram))


# Steps


def test_a_report_has_the_still_and_the_steps_of_a_diagram(monkeypatch):
    monkeypatch.setenv(HEADLESS, "1")
    data, about = made("all of it")._repr_mimebundle_()
    assert data[COMPONENT] == {
        "component": "steps", "name": "part", "names": ["one", HOSTILE, "three"],
        "rest": "all of it", "faint": False,
    }  # fmt: skip
    assert data["text/html"].count('class="step"') == 3 and about == {}


def test_a_diagram_of_data_has_the_stamp_and_one_of_an_idea_has_none():
    for of_data in (True, False):
        diagram = Diagram(100, 100, [], "x", of_data=of_data)
        assert ("STAMP" in page_of(diagram, stamp="STAMP")) == of_data


def made(rest, *, faint=False):
    parts = [step([box(100 * i, 10, 80, 80), words(100 * i + 40, 50, n)])
             for i, n in enumerate(["one", HOSTILE, "three"])]  # fmt: skip
    steps = Steps("part", ["one", HOSTILE, "three"], rest, faint=faint)
    return Diagram(300, 100, parts, "Three parts.", steps)


def page_of(*diagrams, stamp=""):
    """A report of one chapter with these diagrams, as a headless run would leave them."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Steps")])
    for diagram in diagrams:
        data, metadata = diagram._repr_mimebundle_()
        outputs = [
            nbformat.v4.new_output("stream", text="drawn\n"),
            nbformat.v4.new_output("display_data", data=data, metadata=metadata),
        ]
        notebook.cells.append(nbformat.v4.new_code_cell("draw()", outputs=outputs))
    chapter = render_chapter(notebook, "00_steps", ["00_steps"], stamp)
    return render_page([chapter], title="Steps", about="A test.", facts=[])


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "steps.html"
    path.write_text(page_of(made("all of it"), made("others", faint=True)), encoding="utf-8")
    return path


@pytest.fixture
def page(browser, file):
    yield from opened(browser, file)


def visible(component):
    """The opacity of each step; 0 if it is not shown."""
    return component.locator(".diagram .step").evaluate_all(
        "steps => steps.filter((s) => !s.closest('.still')).map((s) => getComputedStyle(s)).map("
        "(look) => (look.display === 'none' ? 0 : Number(look.opacity)))"
    )


@pytest.mark.slow
def test_the_slider_shows_one_step_at_a_time_by_keyboard(page):
    alone, before_others = page.locator(".component").all()
    for component, rest, hidden in ((alone, "all of it", 0), (before_others, "others", 0.15)):
        slider, says = component.get_by_role("slider", name="part"), component.get_by_role("status")
        assert visible(component) == [1, 1, 1] and says.inner_text() == f"Shown: {rest}"
        for number, name in enumerate(["one", HOSTILE, "three"], 1):
            slider.press("ArrowRight")
            assert visible(component) == [1 if i == number else hidden for i in (1, 2, 3)]
            assert says.inner_text() == f"Step {number} of 3: {name}"
            assert slider.get_attribute("aria-valuetext") == says.inner_text()
        slider.press("Home")
        assert visible(component) == [1, 1, 1]
        assert slider.get_attribute("data-state") == "step"


@pytest.mark.slow
def test_play_goes_through_the_steps_once_and_can_be_paused(browser, file):
    page = browser.new_page()
    page.clock.install()
    page.goto(file.as_uri())
    component = page.locator(".component").first
    slider, button = component.get_by_role("slider"), component.get_by_role("button")
    assert button.inner_text() == "Play"
    button.click()
    assert (slider.input_value(), button.inner_text()) == ("1", "Pause")
    assert component.get_by_role("status").get_attribute("aria-live") == "off"
    page.clock.run_for(3400)  # ten seconds for three steps
    assert slider.input_value() == "2"
    button.click()
    page.clock.run_for(20_000)
    assert (slider.input_value(), button.inner_text()) == ("2", "Play")
    button.click()
    page.clock.run_for(3400)
    assert (slider.input_value(), button.inner_text()) == ("0", "Play")  # at rest again
    assert visible(component) == [1, 1, 1]
    button.click()
    slider.press("End")  # the reader takes over
    page.clock.run_for(20_000)
    assert (slider.input_value(), button.inner_text()) == ("3", "Play")
    page.close()


@pytest.mark.slow
def test_with_reduced_motion_nothing_moves_by_itself(browser, file):
    page = browser.new_page(reduced_motion="reduce")
    page.clock.install()
    page.goto(file.as_uri())
    component = page.locator(".component").first
    slider, button = component.get_by_role("slider"), component.get_by_role("button")
    seen = []
    for _ in range(4):
        assert button.inner_text() == "Next"
        button.press("Enter")
        page.clock.run_for(20_000)
        seen.append(slider.input_value())
    assert seen == ["1", "2", "3", "0"]
    page.close()


@pytest.mark.slow
def test_the_still_is_there_without_scripts_and_in_print(page, browser, file):
    component = page.locator(".component").first
    component.get_by_role("slider").press("ArrowRight")
    page.emulate_media(media="print")
    assert component.locator(".still svg").is_visible()
    assert not component.get_by_role("slider").is_visible()
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto(file.as_uri())
    assert plain.locator(".still svg").first.is_visible()
    assert plain.locator(".still .step").first.is_visible()
    assert plain.get_by_role("slider").count() == plain.get_by_role("button").count() == 0
    context.close()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_diagrams_fit_a_phone_and_are_accessible(browser, tmp_path, scheme):
    found = snapshots(range(3))
    interval = Interval(0.02, 0.01, 0.03, 3, p_holm=0.01)
    both = torch.rand(2, 11, 4, generator=GENERATOR)
    path = tmp_path / "all.html"
    path.write_text(page_of(
        made("all"), redraws.redraws(redraws.redrawn(torch.tensor([0.4, -0.2, 0.1]))),
        gradients.gradient_ratio(STUDENT, TEACHER, LABELS, 8.0, 0.9),
        forest.forest([forest.Section("points", {"over a": {"b": interval}})]),
        deletion.deletion_curves({"teacher": {"gradient": both, deletion.RANDOM: both}}),
        epochs.epochs_map(found, torch.arange(40) % 2, ["x", HOSTILE], torch.arange(40) % 6,
                          [HOSTILE, *"bcdef"]),
    ), encoding="utf-8")  # fmt: skip
    page = browser.new_page(
        viewport={"width": 390, "height": 800}, color_scheme=scheme, bypass_csp=True
    )
    page.goto(path.as_uri())
    assert page.locator("svg.diagram:visible").count() == 6
    assert page.locator("script:not([type])").count() == 1  # no name became markup
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    grave, passes = serious(page)
    assert grave == {} and passes > 10
    page.close()


@pytest.mark.slow
def test_the_steps_work_in_jupyterlab(jupyterlab, tmp_path):
    source = """
        from kdnb.course.diagrams.diagram import Diagram, Steps, box, step
        parts = [step([box(100 * i, 10, 80, 80)]) for i in range(3)]
        Diagram(300, 100, parts, "Three parts.", Steps("part", ["one", "<b>", "three"]))
    """
    path = made_notebook(tmp_path, "steps", ["\n".join(map(str.strip, source.splitlines()))])
    with jupyterlab(path, runs=tmp_path / "runs") as page:
        outer = page.locator("iframe[title='part']")
        outer.wait_for()
        outer.scroll_into_view_if_needed()
        frame = outer.content_frame
        says = frame.get_by_role("status")
        expect(says).to_have_text("Shown: all steps")
        frame.get_by_role("slider").press("ArrowRight")
        frame.get_by_role("slider").press("ArrowRight")
        expect(says).to_have_text("Step 2 of 3: <b>")
        assert visible(frame.locator("body")) == [0, 1, 0]
        assert frame.locator("body").evaluate("b => b.scrollHeight <= innerHeight")
