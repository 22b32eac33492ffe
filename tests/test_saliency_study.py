"""Similarity of saliency maps, its controls, and what is said of it."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch

from kdnb.course import figures, interactive, tables
from kdnb.course.report.protocol import COMPONENT, RESULTS
from kdnb.data import Split
from kdnb.evaluation.saliency import Saliency, saliency_maps
from kdnb.evaluation.similarity import SIMILARITIES
from kdnb.evaluation.statistics import joint_interval, pair_interval
from kdnb.experiment import saliency_study as module
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import ALONE, conventional, subclass
from kdnb.experiment.saliency_study import (
    AREAS,
    OTHER_TEACHER,
    RANDOM,
    Measured,
    SaliencyStudy,
    randomised,
)
from kdnb.store.store import weights_digest
from kdnb.tasks.config import SaliencySettings

CPU = torch.device("cpu")


@pytest.fixture
def lab(tiny_task, store):
    return Experiment(tiny_task, store=store, device=CPU)


@pytest.fixture
def study(lab):
    return SaliencyStudy(lab, 20, lab.task.subclass_config)


def students_of(lab):
    return [ALONE, conventional(4.0, 0.9, "by class", lab.task.subclass_config),
            subclass(4.0, 0.9, lab.task.subclass_config)]  # fmt: skip


def test_images_come_from_the_test_split_with_its_class_shares(lab, study):
    assert len(study.images) == 20
    shares = torch.bincount(lab.dataset.test.labels) / 40
    assert (torch.bincount(study.images.labels) / 20 - shares).abs().max() <= 1 / 20
    test = {image.numpy().tobytes() for image in lab.dataset.test.images}
    assert {image.numpy().tobytes() for image in study.images.images} <= test
    assert len(SaliencyStudy(lab, 1000, lab.task.subclass_config).images) == 40


def test_similarity_is_that_of_the_maps_for_the_class_the_teacher_sees(lab, study):
    images, labels = study.images.images, study.images.labels
    study.images = Split(images, (labels + 1) % 4)  # what the teacher sees is not the label
    similarity = study.similarity(students_of(lab), [0, 1, 2], Saliency.GRADIENT)
    labels = [m.label for m in students_of(lab)]
    assert list(similarity.values) == [*labels, OTHER_TEACHER, RANDOM]
    assert all(v.shape == (len(SIMILARITIES), 3, 20) for v in similarity.values.values())
    teachers = [lab.teacher(seed, lab.task.subclass_config) for seed in (0, 1, 2)]
    pixels = study.images.images / 255
    with torch.inference_mode():
        z = teachers[1].model(pixels).view(20, 4, 2).logsumexp(2)
    targets = z.argmax(1)
    own, others = (
        saliency_maps(model, study.images.images, targets, 4, device=CPU)
        for model in (teachers[1].model, lab.student(ALONE, 1).model)
    )
    for name, similar in SIMILARITIES.items():
        expected = similar(others, own)
        torch.testing.assert_close(similarity.of(ALONE.label, name)[1], expected)
        values = similarity.of(ALONE.label, name)
        assert similarity.mean(ALONE.label, name) == joint_interval(values)
    # Pairs 0-1, 0-2 and 1-2, each for the class that its first teacher sees.
    maps = saliency_maps(teachers[2].model, study.images.images, targets, 4, device=CPU)
    pairs = similarity.of(OTHER_TEACHER, "cosine")
    torch.testing.assert_close(pairs[2], SIMILARITIES["cosine"](maps, own))
    assert similarity.mean(OTHER_TEACHER, "cosine") == pair_interval(pairs)


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_an_interval_of_pairs_needs_three_teachers(lab, study, seeds):
    similarity = study.similarity(students_of(lab), seeds, Saliency.GRADIENT)
    assert OTHER_TEACHER not in similarity.values


def test_maps_are_made_once_for_weights_images_classes_and_kind(lab, study, monkeypatch):
    made = []

    def spy(*arguments, **options):
        made.append(arguments)
        return saliency_maps(*arguments, **options)

    monkeypatch.setattr(module, "saliency_maps", spy)
    model, targets = study.teacher(0), torch.zeros(20, dtype=torch.int64)
    first = study.maps(model, targets, Saliency.GRADIENT)
    again = SaliencyStudy(lab, 20, lab.task.subclass_config).maps(model, targets, Saliency.GRADIENT)
    assert len(made) == 1
    assert torch.equal(first, again)
    study.maps(model, targets + 1, Saliency.GRADIENT)
    study.maps(model, targets, Saliency.SMOOTHGRAD)
    study.maps(study.teacher(1), targets, Saliency.GRADIENT)
    SaliencyStudy(lab, 8, lab.task.subclass_config).maps(model, targets[:8], Saliency.GRADIENT)
    assert len(made) == 5


def test_the_background_is_the_tasks(lab, study):
    task = replace(lab.task, saliency=SaliencySettings(background=1.0))
    bright = Experiment(task, store=lab.store, device=CPU)
    other = SaliencyStudy(bright, 20, lab.task.subclass_config)
    model, targets = study.teacher(0), torch.zeros(20, dtype=torch.int64)
    maps = [e.maps(model, targets, Saliency.INTEGRATED) for e in (study, other)]
    assert not torch.allclose(*maps)


def test_faithfulness_has_a_random_order_for_each_model(lab, study):
    students = students_of(lab)
    areas = study.faithfulness(students, [0, 1], Saliency.GRADIENT)
    assert areas.measures == AREAS
    assert list(areas.values) == ["teacher", *(m.label for m in students)]
    assert all(v.shape == (4, 2, 20) for v in areas.values.values())
    assert all(((v >= 0) & (v <= 1)).all() for v in areas.values.values())


def test_random_weights_are_new_ones_and_the_model_stays(lab):
    run, other = lab.student(ALONE, 0), lab.student(ALONE, 1)
    before = weights_digest(run.model)
    drawn = randomised(run)
    assert weights_digest(run.model) == before == run.weights
    assert drawn.weights == weights_digest(drawn.model) == randomised(run).weights
    assert len({before, drawn.weights, randomised(other).weights}) == 3
    for name, tensor in drawn.model.named_parameters():
        assert not torch.equal(tensor, run.model.get_parameter(name)), name


# What is said of it

MEASURES = ("rank correlation", "cosine")


def measured(gain, spread_of_seeds=0.01, spread_of_images=0.01, random=0.0):
    """Three seeds, 40 images: a student alone near .3, one that is better by ``gain``."""
    generator = torch.Generator().manual_seed(0)

    def values(mean):
        seeds = torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1) * spread_of_seeds
        images = torch.randn(1, 1, 40, generator=generator) * spread_of_images
        return (mean + seeds + images - images.mean()).expand(2, 3, 40)

    noise = torch.randn(40, generator=generator) * 0.01
    alone = (0.3 + noise - noise.mean()).expand(2, 3, 40)
    return Measured(
        MEASURES, {"alone": alone, "taught": alone + values(gain), RANDOM: alone * random}
    )


def answer(*parts):
    similarity = {str(kind): part for kind, part in zip(Saliency, parts, strict=False)}
    return tables.similarity_verdict(similarity, ["taught"], "alone").data


def test_a_gain_must_be_clear_of_what_seeds_and_images_do():
    def gain(*made):
        return measured(*made).gain("taught", "alone", "cosine")

    assert gain(0.1).sign == 1 and gain(-0.1).sign == -1
    assert gain(0.1, 0.5).sign == gain(0.01, 0.0001, 0.5).sign == 0
    assert (gain(0.1).n, gain(0.1).images) == (3, 40)
    assert gain(0.1).mean == pytest.approx(0.1)


def test_gains_in_similarity_are_adjusted_together():
    similarity = {str(kind): measured(0.1) for kind in (Saliency.GRADIENT, Saliency.SMOOTHGRAD)}
    gains = tables.similarity_gains(similarity, ["taught"], "alone")
    assert len(gains) == 4
    for gain in gains.values():
        assert gain.p_holm == pytest.approx(4 * gain.p)


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ((measured(0.1), measured(0.1)), "**Yes, by every measure**"),
        ((measured(0.1), measured(0.1, 0.5)), "**Partly**"),
        ((measured(0.1), measured(-0.1)), "**The measures disagree**"),
        ((measured(0.1, 0.5), measured(-0.1)), "**No, less similar**"),
        ((measured(0.1, 0.5),), "**Not distinguishable**"),
    ],
)
def test_the_answer_follows_from_the_counts(parts, says):
    assert answer(*parts).startswith(f"{says}: the maps of *taught*")


def test_the_answer_counts():
    assert (
        "in 2 of 4 comparisons (gradient, SmoothGrad, each by all measures) and further away in 2"
        in (answer(measured(0.1, 0.002), measured(-0.1, 0.002)))
    )


def with_teachers(ahead, spread=0.0):
    """Students of four seeds near .3, and teachers that are ``ahead``, each seed by its own."""
    noise = torch.randn(2, 4, 40, generator=torch.Generator().manual_seed(1)) * 0.01
    seeds = spread * torch.tensor([-1.0, 1, -1, 1]).view(1, 4, 1)
    students = 0.3 + noise + seeds
    first, second = torch.combinations(torch.arange(4)).T
    pairs = (students[:, first] + students[:, second]) / 2 + ahead + seeds[:, first]
    return Measured(MEASURES, {"alone": students, OTHER_TEACHER: pairs, RANDOM: 0 * students})


def test_two_teachers_are_compared_with_the_students_of_the_same_seeds():
    kinds = {"gradient": with_teachers(0.1), "SmoothGrad": with_teachers(0.1, spread=0.4)}
    text = tables.teacher_pairs(kinds, ["alone"], "cosine").data
    same, unclear = text.splitlines()[2:4]
    # Whatever differs from seed to seed is in both, so that the first difference is .1 throughout.
    assert "| +0.100 | +0.100 to +0.100 |" in same
    assert "| not distinguishable, p = " in unclear and unclear.startswith("| SmoothGrad |")
    measured = kinds["SmoothGrad"]
    own, pairs = measured.of("alone", "cosine"), list(combinations(range(4), 2))
    by_hand = [
        measured.of(OTHER_TEACHER, "cosine")[n] - (own[i] + own[j]) / 2
        for n, (i, j) in enumerate(pairs)
    ]
    gap = pair_interval(torch.stack(by_hand))
    assert f"| {gap.mean:+.3f} | {gap.low:+.3f} to {gap.high:+.3f} |" in unclear


@pytest.mark.parametrize(("ahead", "says"), [(0.1, "more"), (-0.1, "less")])
def test_which_of_them_are_more_similar_is_said(ahead, says):
    noise = torch.randn(2, 6, 40, generator=torch.Generator().manual_seed(2)) * 0.01
    made = with_teachers(ahead)
    made.values[OTHER_TEACHER] += noise
    text = tables.teacher_pairs({"gradient": made}, ["alone"], "rank correlation").data
    assert f"| two teachers are {says} similar, p = " in text


def test_without_pairs_of_teachers_nothing_is_said_of_them():
    assert tables.teacher_pairs({"gradient": measured(0.1)}, ["alone"], "cosine") is None


def test_a_control_that_fails_is_named():
    assert "**The control holds**: all 2 similarities are lower with random weights" in answer(
        measured(0.1)
    )
    failing = answer(measured(0.1, random=1.0))
    assert (
        "**The control fails** for 2 of 2 similarities: rank correlation of gradient, cosine"
        in failing
    )
    near = answer(measured(0.1, random=0.9))
    assert "**The control holds**" in near
    assert "reach at least 80 % of the trained student's similarity" in near
    assert "cosine, gradient: 0.270 against 0.300" in near


def test_the_table_carries_its_numbers():
    table = tables.measured_table({"gradient": measured(0.1)}, "alone", "tiny", "similarity")
    bundle = table._repr_mimebundle_()[0]
    mean = measured(0.1).mean("taught", "rank correlation")
    row = f"| gradient | taught | 0.400 ({mean.low:.3f} to {mean.high:.3f}) |"
    assert row in bundle["text/markdown"]
    numbers = bundle[RESULTS]["measured"]["gradient"]["taught"]["cosine"]
    assert numbers["mean"] == pytest.approx(0.4) and numbers["n"] == 3


def test_figures_say_what_they_show():
    bars = figures.measured_bars(measured(0.1), "similarity")
    assert "rank correlation of alone 0.300" in bars.alt and "cosine of taught 0.400" in bars.alt
    image = torch.zeros(1, 28, 28, dtype=torch.uint8)
    spot = torch.zeros(28, 28)
    spot[4, 20], spot[9, 9] = 3.0, -1.0
    grid = figures.saliency_grid(image, ["teacher", "student"], {"gradient": [spot, None]})
    assert (
        "gradient, teacher: strongest at row 5, column 21, 75 % of its magnitude is positive"
        in grid.alt
    )
    assert "student:" not in grid.alt


def test_the_picker_shows_the_map_that_was_picked():
    maps = torch.zeros(2, 2, 28, 28)
    for image, target in ((0, 0), (0, 1), (1, 0), (1, 1)):
        maps[image, target, 4 * image, 6 * target] = 1.0
    images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    kinds = {Saliency.GRADIENT: maps, Saliency.INTEGRATED: -maps}
    offered = {"teacher": {**kinds, Saliency.GRAD_CAM: maps}, "student": kinds}
    picker = interactive.saliency_picker(images, ["one", "two"], ["a", "b"], offered, start=1)
    data, _ = picker._repr_mimebundle_()
    for name in ("teacher", "student"):
        words = f"{Saliency.GRADIENT} for b, {name}: strongest at row 1, column 7"
        assert words in data["text/plain"]
    component = data[COMPONENT]
    by_kind = {kind["name"]: kind["maps"] for kind in component["kinds"]}
    assert component["models"] == ["teacher", "student"] and component["target"] == 1
    teacher, _ = by_kind[Saliency.INTEGRATED]
    assert teacher["says"][1][0] == (0.0, 5, 1), "for class a of the second image"
    assert by_kind[Saliency.GRAD_CAM][1] is None  # a student without convolutions has none
