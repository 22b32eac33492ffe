"""Students of several sizes: what is compared, which are on the front, and what is said of them."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from compared import comparison, right
from torch import nn

from kdnb.course import figures, interactive, tables
from kdnb.course.figures import costs
from kdnb.course.report.protocol import RESULTS
from kdnb.evaluation.cost import Cost, Timing
from kdnb.evaluation.statistics import Interval, holm, joint_interval
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import ALONE, conventional
from kdnb.experiment.results import Run
from kdnb.experiment.size_sweep import SizeResult, gains_over, size_sweep
from kdnb.models import StudentMLP, mobilenet_v2_student
from kdnb.tasks import TASKS
from kdnb.tasks.config import Sizes
from kdnb.training.config import TrainConfig
from kdnb.training.history import Epoch, History

CPU = torch.device("cpu")
KD = conventional(4.0, 0.9)


def trained(accuracy):
    """A run with this validation accuracy at its end, and a lower one before."""
    epochs = [Epoch(1, None, None, 1, validated, 1) for validated in (0.1, accuracy)]
    return Run("", 0, nn.Identity(), History(epochs), {}, False)


def size(name, parameters, alone, distilled, microseconds=10.0, validation=None):
    """A student with that many parameters and twice as many FLOPs, three seeds.

    ``validation`` are the validation accuracies of both methods; those on the test split if None.
    """
    spent = Cost(parameters, parameters, 2 * parameters, parameters, {}, 4 * parameters, 100)
    latency = Timing(1, 1, "cpu", microseconds / 1e6, microseconds / 1e6, microseconds / 1e6, 5)
    by_label = {ALONE.label: alone, KD.label: distilled}
    validated = zip(by_label, validation or by_label.values(), strict=True)
    runs = {label: [trained(accuracy) for accuracy in each] for label, each in validated}
    result = replace(comparison(by_label, 1000), runs=runs)
    return SizeResult(name, spent, latency, result)


BIG = size("big", 1000, [0.80, 0.81, 0.82], [0.90, 0.91, 0.92])
MIDDLE = size("middle", 200, [0.78, 0.79, 0.80], [0.85, 0.86, 0.87])
SMALL = size("small", 50, [0.70, 0.71, 0.72], [0.80, 0.83, 0.82])
TEACHER = Interval(0.97, 0.96, 0.98, 3)
TINY = size("tiny", 10, [0.60, 0.61, 0.62], [0.61, 0.60, 0.62])


def test_every_size_is_trained_by_every_method_with_the_same_teachers(tiny_task, store):
    sizes = ((str(w), partial(StudentMLP, hidden=(w,))) for w in (16, 4))
    config = replace(tiny_task.student_config, next_stage=TrainConfig(1, 16, 1e-3))
    task = replace(tiny_task, sizes=Sizes(students=tuple(sizes)), student_config=config)
    lab = Experiment(task, store=store, device=CPU)
    large, small = size_sweep(lab, [ALONE, KD], [0, 1], seconds=0.01)
    assert [large.name, small.name] == ["16", "4"]
    assert large.cost.parameters == 785 * 16 + 17 * 4
    assert small.cost.parameters == 785 * 4 + 5 * 4
    for found in (large, small):
        for label, runs in found.result.runs.items():
            own = [lab.test_logits(run).argmax(1) == lab.dataset.test.labels for run in runs]
            assert torch.equal(found.result.of(label), torch.stack(own))
            assert [run.seed for run in runs] == [0, 1]
            assert all(len(run.history.epochs) == 3 for run in runs)  # the first config alone
    assert lab.task.student is task.student  # the experiment itself is as it was
    assert len(store.names("run-")) == 2 + 8  # teachers are shared


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), "soon"])
def test_nothing_is_trained_for_a_time_that_makes_no_sense(tiny_task, store, seconds):
    lab = Experiment(tiny_task, store=store, device=CPU)
    with pytest.raises(ValueError, match="seconds must be a positive number"):
        size_sweep(lab, [ALONE], [0], seconds)
    assert not list(store.root.glob("run-*"))


def test_the_tasks_have_sizes_of_falling_size():
    for name, largest in (("mnist-small", 118_282), ("mnist", 1_238_730), ("polyps", 65_522)):
        counts = []
        for label, student in TASKS[name].sizes.students:
            model = student(num_classes=2 if name == "polyps" else 10)
            counts.append(sum(p.numel() for p in model.parameters()))
            assert label
        assert counts[0] == largest
        assert counts == sorted(counts, reverse=True) and len(set(counts)) == len(counts)


def test_narrow_mobilenets_start_from_random_weights_and_say_so(monkeypatch):
    narrow = mobilenet_v2_student(width=0.5)
    assert narrow.origin == "random weights"
    logits = narrow.eval()(torch.rand(2, 3, 64, 64))
    assert logits.shape == (2, 2) and logits.isfinite().all()
    assert sum(p.numel() for p in narrow.parameters()) < 2_226_434 / 2


def test_gains_are_paired_and_adjusted_for_the_number_of_sizes():
    sizes = [MIDDLE, SMALL]
    gains = gains_over(sizes, KD.label, ALONE.label, BIG)
    for gain, size in zip(gains, sizes, strict=True):
        own = size.result.of(KD.label).double() - BIG.result.of(ALONE.label).double()
        expected = joint_interval(own)
        assert (gain.low, gain.p) == (expected.low, expected.p)
    assert [gain.p_holm for gain in gains] == holm([gain.p for gain in gains])
    own = gains_over(sizes, KD.label, ALONE.label)
    assert [gain.mean for gain in own] == pytest.approx([0.07, 0.32 / 3])
    assert MIDDLE.mean(KD.label) == pytest.approx(0.86)


def test_the_smallest_of_many_sizes_must_be_more_than_lucky():
    """One of 20 sizes is ahead, p = 0.014 or so: with the big one alone it wins, among 20 not."""
    big = size("big", 1000, [0.80] * 3, [0.80] * 3)
    lucky = size("lucky", 10, [0.70] * 3, [0.806] * 3)
    same = [size(f"{i}", 20 + i, [0.7] * 3, [0.8, 0.8, 0.801]) for i in range(18)]
    (alone,) = gains_over([lucky], KD.label, ALONE.label, big)
    assert 0.0025 < alone.p < 0.025
    assert tables.times_smaller([lucky, big], KD.label, ALONE.label) == 100
    assert tables.times_smaller([lucky, big, *same], KD.label, ALONE.label) is None


def test_the_front_holds_what_nothing_cheaper_beats():
    by = "thousand parameters"
    front = costs.pareto_front([BIG, MIDDLE, SMALL, TINY], by)
    # Tiny alone and distilled are equally good: only one of them is on the front.
    assert [(r.name, m) for r, m in front] == [
        ("tiny", ALONE.label), ("small", KD.label), ("middle", KD.label), ("big", KD.label),
    ]  # fmt: skip
    worse = size("worse", 500, [0.5, 0.5, 0.5], [0.85, 0.85, 0.85])
    assert costs.pareto_front([BIG, worse, MIDDLE, SMALL, TINY], by) == front


def test_how_small_is_answered_from_the_intervals():
    text = tables.size_verdict([BIG, MIDDLE, SMALL, TINY], KD.label, ALONE.label).data
    assert text.startswith(
        "**As small as middle**: this distilled student beats *big* without a teacher"
    )
    assert "by +5.00 points" in text and "5.0 times fewer parameters" in text
    assert "The smallest student not distinguishable from it is small" in text
    none = tables.size_verdict([size("big", 900, [0.8, 0.8, 0.81], [0.7, 0.7, 0.71]), TINY],
                                    KD.label, ALONE.label).data  # fmt: skip
    assert none.startswith(
        "**None**: no distilled student is distinguishably better than *big* without a "
        "teacher (80.33 %)."
    )


def test_the_budget_is_spent_by_validation_images():
    """The lucky size is best on the test split alone; of equally good sizes the cheapest wins."""
    lucky = size("lucky", 100, [0.7] * 3, [0.99] * 3, validation=([0.7] * 3, [0.8] * 3))
    by = "thousand parameters"
    bought = costs.best_within([BIG, MIDDLE, lucky], by, costs.STEPS)
    assert (bought[0].name, bought[1]) == ("big", KD.label)
    twin = size("twin", 150, [0.1] * 3, MIDDLE.result.accuracy(KD.label).tolist())
    assert costs.best_within([MIDDLE, twin, lucky], by, costs.STEPS)[0] is twin
    assert costs.validated(lucky, KD.label) == pytest.approx(0.8)


def test_the_budget_buys_the_best_that_fits():
    by, bought = "thousand parameters", {}
    for share in (0, 8, 13, 14, 20):
        bought[share] = costs.best_within([BIG, MIDDLE, SMALL, TINY], by, share)[:2]
    # From 10 to 1,000 parameters in twenty steps of equal ratio: the 8th is 63, the 13th 200.
    assert {share: (best.name, label) for share, (best, label) in bought.items()} == {
        0: ("tiny", ALONE.label),
        8: ("small", KD.label),
        13: ("small", KD.label),
        14: ("middle", KD.label),
        20: ("big", KD.label),
    }


@pytest.mark.slow
def test_the_budgets_picture_is_drawn_where_its_slider_rests():
    live = interactive.budget_explorer(
        [BIG, MIDDLE, SMALL, TINY],
        dict.fromkeys(figures.BUDGETS, 5.0),
        Interval(0.97, 0.96, 0.98, 3),
    )
    by = next(iter(figures.BUDGETS))
    best, label, limit = costs.best_within([BIG, MIDDLE, SMALL, TINY], by, costs.STEPS // 2)
    words = live._repr_mimebundle_()[0]["text/plain"]
    assert f"best within a budget of {limit:,.3g} {by}: {best.name}, {label}: " in words


def test_the_sizes_table_and_figure_say_its_numbers():
    table = tables.size_table([BIG, SMALL], KD.label, ALONE.label)
    bundle = table._repr_mimebundle_()[0]
    assert (
        "| small | 50 | 0.000 | 10 | 71.00 % | 81.67 % | +10.67 points" in bundle["text/markdown"]
    )
    assert bundle[RESULTS]["size_sweep"][1]["accuracy"][KD.label] == [0.80, 0.83, 0.82]
    assert bundle[RESULTS]["size_sweep"][1]["gain"]["p_holm"] < 0.01
    assert "| a gain |" in bundle["text/markdown"]
    plain = {"SVM": right(0.9, 1000)}
    text = tables.size_table([BIG, SMALL], KD.label, ALONE.label, plain).text
    assert "| SVM | – | – | – | 90.00 % | – | – | – |" in text
    picture = figures.size_sweep([BIG, SMALL], (5.0, TEACHER), "thousand parameters")
    assert "student + conventional KD: big 91.0 %, small 81.7 %" in picture.alt
    assert "teacher 97.0 % at 5" in picture.alt


# Costs


def test_the_cost_table_says_what_was_counted_and_measured():
    spent = Cost(1000, 5_000_000, 10_100_000, 5_200_000, {"BatchNorm2d": 200_000}, 4096, 3000)
    one, many = Timing(1, 1, "cpu", 1e-3, 5e-4, 2e-3, 9), Timing(64, 2, "cpu", 0.1, 0.08, 0.16, 9)
    table = tables.cost_table({"net": spent}, {"net": [one, many]}, {"net": 0.25}, (3, 32, 16))
    bundle = table._repr_mimebundle_()[0]
    text = bundle["text/markdown"]
    assert "one image of 32 × 16" in text
    assert "| net | 1,000 | 10.10 | 5.00 | 5.20 | 0.00 | 3 |" in text
    assert "| batch of 1, one thread | batch of 64, 2 threads | mJ per image |" in text
    assert "| net | 1.00 ms (0.50 to 2.00) | 640 images/s (400 to 800) | 250.00 |" in text
    assert bundle[RESULTS]["cost"]["net"]["flops"] == 10_100_000
    unknown = tables.cost_table({"net": spent}, {"net": [one]}, {"net": None}, (3, 32, 16))
    assert "| not shown |" in unknown.text


def test_disagreeing_tools_are_explained_or_not_trusted():
    def says(thop, extra):
        spent = Cost(1, 5_000_000, 1, thop, extra, 1, 1)
        return tables.counts_compared({"net": spent}).data

    assert says(5_000_000, {}) == "- net: both count 5,000,000."
    assert "thop counts 0.20 million more" in says(5_200_000, {"BatchNorm2d": 200_000})
    assert "(BatchNorm2d 0.20)" in says(5_200_000, {"BatchNorm2d": 200_000})
    assert "**trust neither number**" in says(5_300_000, {"BatchNorm2d": 200_000})
    assert "**trust neither number**" in says(4_900_000, {})


def test_the_bars_say_their_values():
    spent = {
        "teacher": Cost(2_000_000, 1, 3_000_000, 1, {}, 1, 1),
        "student": Cost(500_000, 1, 1_000_000, 1, {}, 1, 1),
    }
    picture = figures.cost_bars(spent)
    assert "million parameters: teacher 2.00, student 0.50" in picture.alt
    assert "MFLOPs per image: teacher 3.00, student 1.00" in picture.alt


@pytest.mark.slow
def test_what_is_not_counted_is_said_wherever_costs_are_shown():
    whole = Cost(100, 50, 100, 50, {}, 400, 1)
    lacking = Cost(10, 5, 10, 5, {}, 40, 1, uncounted=("aten.sort", "aten._fft_r2c"))
    says = (
        "Not counted: `aten.sort`, `aten._fft_r2c` (small, tiny). FLOPs and multiply-adds of these "
        "models are lower bounds."
    )
    spent = {"big": whole, "small": lacking, "tiny": lacking}
    one = [Timing(1, 1, "cpu", 1e-3, 1e-3, 1e-3, 9)]
    table = tables.cost_table(spent, dict.fromkeys(spent, one), dict.fromkeys(spent), (1, 8, 8))
    plain = says.replace("`", "")
    assert table.text.endswith(f"\n\n{says}")
    assert table._repr_mimebundle_()[0][RESULTS]["cost"]["tiny"]["uncounted"] == lacking.uncounted
    assert tables.counts_compared(spent).data.endswith(f"\n\n{says}")
    assert figures.cost_bars(spent).alt.endswith(f". {plain}")
    rungs = [BIG, replace(SMALL, cost=lacking), replace(TINY, cost=lacking)]
    assert tables.size_table(rungs, KD.label, ALONE.label).text.endswith(says)
    by = "MFLOPs per image"
    assert figures.size_sweep(rungs, None, by).alt.endswith(plain)
    assert "Not counted" not in figures.size_sweep(rungs, None, "thousand parameters").alt
    assert (
        "10.0 times fewer counted FLOPs"
        in tables.size_verdict(
            [replace(BIG, cost=whole), replace(MIDDLE, cost=lacking)], KD.label, ALONE.label
        ).data
    )
    for said in (tables.cost_table({"big": whole}, {"big": one}, {"big": None}, (1, 8, 8)),):
        assert "Not counted" not in said.text


def test_many_names_do_not_squeeze_the_bars():
    names = tuple(f"aten.operation_number_{i}" for i in range(40))
    few = figures.cost_bars({"net": Cost(1, 1, 1, 1, {}, 1, 1)})
    many = figures.cost_bars({"net": Cost(1, 1, 1, 1, {}, 1, 1, names)})
    heights = [int.from_bytes(picture.png[20:24], "big") for picture in (few, many)]  # of a PNG
    assert heights[1] > heights[0] + 40 * 20  # a line of letters for two names, 288 dots to an inch


def test_a_network_of_which_nothing_is_counted_is_shown():
    none = Cost(10, 0, 0, 0, {}, 40, 1, uncounted=("aten._cdist_forward",))
    some = Cost(100, 50, 100, 50, {}, 400, 1)
    assert tables.fewer_flops(some, none) == "no counted FLOPs"
    assert tables.fewer_flops(some, replace(some, flops=8)) == "12.5 times fewer FLOPs"
    assert "MFLOPs per image: net 0.00" in figures.cost_bars({"net": none}).alt
    rungs = [replace(BIG, cost=some), replace(TINY, cost=none)]
    by = "MFLOPs per image"
    assert costs.best_within(rungs, by, 0)[0].name == "tiny"
    assert "big 81.0 %, tiny 61.0 %" in figures.size_sweep(rungs, None, by).alt


def test_thop_may_fail():
    failed = Cost(10, 5_000, 10_000, None, {}, 40, 1, thop_failure="no rule")
    one = {"net": [Timing(1, 1, "cpu", 1e-3, 1e-3, 1e-3, 9)]}
    table = tables.cost_table({"net": failed}, one, {"net": None}, (1, 8, 8)).text
    assert "| net | 10 | 0.01 | 0.01 | failed | 0.00 | 0 |" in table
    text = tables.counts_compared({"net": failed}).data
    assert text == "- net: kdnb counts 5,000; thop fails (no rule)."
