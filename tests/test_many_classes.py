"""A thousand classes, a hundred seeds: what is drawn, listed and sent to a page does not grow."""

import json

import pytest
import torch
from compared import comparison
from hypothesis import given, settings
from hypothesis import strategies as st

from kdnb.course import figures, interactive, tables
from kdnb.course import text as words
from kdnb.course.figures.matrices import PAIRS
from kdnb.course.figures.methods import METHODS
from kdnb.course.figures.samples import KEYS
from kdnb.course.figures.top_classes import MATRIX, MOST, top_classes
from kdnb.course.report.protocol import COMPONENT, RESULTS
from kdnb.evaluation.metrics import calibration, confusion, match_subclasses, weighted_f1
from kdnb.evaluation.statistics import Bootstrap

MANY = (MATRIX + 1, 77, 1_000)
IMAGES = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)


def made(classes, images=600):
    """Names, labels and logits that are right more often than not."""
    generator = torch.Generator().manual_seed(classes)
    labels = torch.randint(classes, (images,), generator=generator)
    logits = torch.randn(images, classes, generator=generator)
    logits[torch.arange(images), labels] += 3
    return [f"kind {i}" for i in range(classes)], labels, logits


def parts_of(figure):
    """How many things are drawn in each of its charts."""
    return [len(ax.patches) + len(ax.collections) + len(ax.get_xticks()) for ax in figure.axes]


@given(st.lists(st.floats(-9, 9), min_size=2, max_size=99), st.data())
@settings(max_examples=60, deadline=None)
def test_bars_of_the_top_classes_add_up_to_all(scores, data):
    values = torch.tensor(scores, dtype=torch.float64)
    always = data.draw(st.integers(0, len(scores) - 1))
    few = top_classes(values, [always])
    shown = few.of(values)
    assert len(shown) == len(few.names([str(i) for i in range(len(scores))])) <= MOST
    assert shown.sum().item() == pytest.approx(values.sum().item(), abs=1e-9)
    assert always in few.rows and few.rows == sorted(few.rows)
    left = values[[i for i in range(len(scores)) if i not in few.rows]]
    others = [i for i in few.rows if i != always]
    assert not len(left) or left.max() <= values[others].min()
    assert bool(few.others) == (len(scores) > MOST)


@pytest.mark.parametrize("classes", MANY)
def test_the_commonest_confusions_take_the_place_of_the_matrix(classes):
    names, labels, logits = made(classes)
    counts = confusion(logits, labels)
    text = figures.confusion_matrix(counts, names).data
    rows = [
        line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| kind")
    ]
    assert 0 < len(rows) <= PAIRS and f"{classes:,} classes are too many for a matrix" in text
    numbers = [int(row[2]) for row in rows]
    assert numbers == sorted(numbers, reverse=True)
    for true, predicted, number, share in rows:
        i, j = names.index(true), names.index(predicted)
        assert counts[i, j] == int(number) and i != j
        assert share == words.percent(int(number) / counts[i].sum().item(), 1)
    wrong = counts.clone().fill_diagonal_(0)
    assert numbers == wrong.flatten().sort(descending=True).values[: len(rows)].tolist()
    unlisted = (wrong > 0).sum().item() - len(rows)
    assert f"{unlisted:,} other pairs are not listed" in text


@pytest.mark.slow
def test_up_to_thirty_classes_have_a_matrix(drawn):
    names, labels, logits = made(MATRIX)
    figures.confusion_matrix(confusion(logits, labels), names)
    assert [t.get_text() for t in drawn[0].axes[0].get_xticklabels()] == names


def test_a_name_cannot_break_the_table():
    counts = torch.zeros(40, 40, dtype=torch.int64)
    counts[0, 1] = 5
    names = ["up|down", "two\nlines", *map(str, range(38))]
    assert "| up\\|down | two lines | 5 | 100.0 % |" in figures.confusion_matrix(counts, names).data


@pytest.mark.slow
@pytest.mark.parametrize("classes", MANY)
def test_charts_of_classes_stay_small(classes, drawn):
    names, labels, logits = made(classes)
    label, subclasses = labels[0].item(), torch.cat([logits, logits], 1)
    picture = figures.softened(IMAGES[0], logits[0], names, [1, 4], label)
    assert f"labelled kind {label}" in picture.alt
    figures.predictions(IMAGES[0], {"a": logits[0], "b": logits[1]}, names, 4.0, label)
    bars = figures.subclass_bars(IMAGES[0], subclasses[0], names, label, 2.0)
    assert len(bars.alt) < 600 and "others" in bars.alt
    figures.gallery({f"{n} no. {k}": IMAGES for n in names for k in (1, 2)})
    figures.logit_map({"m": torch.randn(300, 2)}, labels[:300], labels[:300], names, "class")
    interactive.loss_explorer(logits[0], logits[1], label, names, 4.0, 0.5)
    for figure in drawn:
        assert max(figure.get_size_inches()) < 20
        assert max(parts_of(figure)) <= 300 + len(figure.axes) and len(figure.axes) <= 100
    assert len(drawn[4].legends[0].texts) == KEYS


@pytest.mark.parametrize("classes", MANY)
def test_many_subclasses_are_a_table(classes):
    names, labels, logits = made(classes)
    matching = match_subclasses(torch.cat([logits, logits], 1), labels, classes)
    text = figures.subclass_tables({"so": matching}, names, names).data
    assert f"{2 * classes:,} invented by {classes:,} true subclasses are too many" in text
    assert text.count("| kind") == 2 * PAIRS or text.count("\n| kind") == PAIRS


@pytest.mark.slow
def test_a_page_carries_no_more_logits_than_it_can_bear():
    names, labels, logits = made(1_000)
    few, _ = interactive.calibration_explorer(logits[:400], labels[:400])._repr_mimebundle_()
    many, _ = interactive.calibration_explorer(logits, labels)._repr_mimebundle_()
    assert COMPONENT in few and COMPONENT not in many
    assert "no slider here, since 600 × 1,000 logits are too many" in str(many)
    carried, _ = interactive.temperature_explorer(
        IMAGES, labels[:4], logits[:4], names, 4.0
    )._repr_mimebundle_()
    assert len(json.dumps(carried[COMPONENT])) < 200_000


def compared(methods, seeds):
    return comparison({f"method {i}": torch.rand(seeds).tolist() for i in range(methods)}, 500)


@pytest.mark.slow
@pytest.mark.parametrize("methods", [METHODS + 1, 99, 400])
def test_many_methods_show_the_best(methods, drawn):
    result = compared(methods, 3)
    picture = figures.comparison(result, "method 0")
    means = result.accuracies.mean(1)
    best = {f"method {i}" for i in means.topk(METHODS).indices.tolist()} | {"method 0"}
    shown = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert set(shown) == best
    assert f"the {METHODS} methods with the highest means, of {methods}" in picture.alt


def test_more_curves_than_colours_are_all_drawn(drawn):
    interval = compared(1, 4).mean("method 0")
    curves = {f"T = {t}": [interval, interval] for t in range(11)}
    picture = figures.sweep([1, 2], curves, xlabel="x", ylabel="y")
    assert all(f"{name}: " in picture.alt for name in curves)
    assert len(drawn[0].axes[0].get_legend_handles_labels()[1]) == len(curves)
    figures.sweep(list(range(1, 200)), {"one": [interval] * 199}, xlabel="x", ylabel="y")
    assert len(drawn[1].axes[0].get_xticks()) <= MOST


@pytest.mark.parametrize("seeds", [21, 50, 1_000])
def test_many_seeds_are_counted_and_not_listed(seeds):
    table = tables.result_table(compared(2, seeds), "method 0")._repr_mimebundle_()[0]
    assert f"and {seeds - 20:,} more" in table["text/markdown"]
    assert len(table["text/markdown"]) < 800
    assert len(table[RESULTS]["accuracy"]["method 1"]) == seeds  # the numbers are all there


def test_scores_of_many_classes_need_no_table_of_all_pairs():
    """Images · classes² cells would be 8 GB here."""
    classes = 1_000
    labels = torch.arange(classes).repeat(9)
    logits = torch.nn.functional.one_hot(labels, classes).float()
    assert Bootstrap(labels, resamples=3).interval(weighted_f1, logits[None]).low == 1.0


@pytest.mark.parametrize(("classes", "images"), [(2_000, 6), (5_000, 7), (100_000, 9)])
def test_draws_that_would_not_end_are_refused(classes, images):
    with pytest.raises(ValueError, match=rf"would nearly always miss a class.*which have {images}"):
        Bootstrap(torch.arange(classes).repeat(images))


def test_calibration_is_that_of_all_classes():
    _, labels, logits = made(77)
    shown, _ = interactive.calibration_explorer(logits, labels)._repr_mimebundle_()
    assert f"{100 * calibration(logits, labels).error:.2f} %" in shown["text/plain"]
