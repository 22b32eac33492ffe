"""What `report --set` and a sweep cannot use is said before anything runs."""

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kdnb.course.report.execution import NotebookError, find_notebooks
from kdnb.course.report.parameters import check_label, parse_parameters
from kdnb.experiment.methods import LARGEST_SEED, check_each, check_seed, check_seeds
from kdnb.experiment.sweep import sweep
from kdnb.losses import check_soft_weight, check_temperature

NOTEBOOKS = find_notebooks()
QUICK = settings(max_examples=60, deadline=None)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("seeds=[]", "give at least one seed and each only once, got []"),
        ("seeds=[3]", "an interval needs at least 2 seeds, got [3]: give a second one"),
        ("seeds=[2, 1, 2]", "give at least one seed and each only once, got [2, 1, 2]"),
        ("seeds=[1.5, 2]", "a seed must be a whole number from 0 to 4294967295, got 1.5"),
        ("seeds=[0, 4294967296]", "from 0 to 4294967295, got 4294967296"),
        ("seeds=[0, -7]", "got -7"),
        ("seeds=[False, 5]", "got False"),
        ("seeds=[0, None]", "got None"),
        ("seeds=[[0], [1]]", "got [0]"),
        ("seeds=(0, 1)", "seeds must be like [0, 1, 2], got '(0, 1)'"),
        ("seeds=range(3)", "seeds must be like [0, 1, 2], got 'range(3)'"),
        ("seed=-1", "from 0 to 4294967295, got -1"),
        ("seed=1e3", "seed must be like 0, got '1e3'"),
        ("ten_class_seeds=[4, 4]", "each only once, got [4, 4]"),
        ("ten_class_seeds=[4]", "at least 2 seeds, got [4]"),
        ("temperature=0", "temperature must be positive and finite, got 0.0"),
        ("temperature=1e999", "got inf"),
        ("temperature=-0.0", "got -0.0"),
        ("temperature=(", "temperature must be like 4.0, got '('"),
        ("temperatures=[]", "give at least one temperature"),
        ("temperatures=[2, 2.0]", "each only once, got [2, 2.0]"),
        ("temperatures=[2, 2.0000001]", "each only once"),
        ("temperatures=['warm']", "got 'warm'"),
        ("soft_weights=[0.5, 1.01]", "soft_weight must lie between 0 (labels only) and 1"),
        ("soft_weight=-1e-9", "got -1e-09"),
        ("soft_weight=1e999", "got inf"),
        ("images=many", "the value must be a whole number of at least 2, got 'many'"),
        ("images=1", "got 1"),
        ("images=2.5", "got 2.5"),
        ("seconds=0", "seconds must be a positive number such as 0.3, got 0.0"),
        ("seconds=-2", "got -2.0"),
        ("seconds=1e400", "got inf"),
        ("classes=[1, 1]", "each only once, got [1, 1]"),
        ("classes=[-1, 2]", "got -1"),
        ("task=mnist", "the task is chosen with --task, got --set task=mnist"),
        ("=4", "unknown parameter ''"),
        ("Seeds=[0, 1]", "unknown parameter 'Seeds': the notebooks have"),
        ("retrain=yes", "retrain must be like False, got 'yes'"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(setting, says):
    with pytest.raises(NotebookError) as caught:
        parse_parameters(NOTEBOOKS, [setting])
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_parameter_is_set_once():
    with pytest.raises(NotebookError, match="temperature is set twice, the second time to '3'"):
        parse_parameters(NOTEBOOKS, ["temperature=2", "seeds=[0, 1]", "temperature=3"])


def test_a_class_is_chosen_by_its_name():
    """ "5" is the name of a digit, and no number."""
    chosen = parse_parameters(NOTEBOOKS, ["label=5"])
    assert {"label": "5"} in chosen.values()
    check_label(chosen, "0123456789")
    with pytest.raises(NotebookError, match="no class '5': choose one of HP, SSA"):
        check_label(chosen, ["HP", "SSA"])


@given(st.integers() | st.floats() | st.booleans() | st.text() | st.none())
@QUICK
def test_a_seed_is_what_every_generator_takes(value):
    fits = type(value) is int and 0 <= value <= LARGEST_SEED
    if fits:
        check_seed(value)
    else:
        with pytest.raises(ValueError, match="a seed must be a whole number from 0 to"):
            check_seed(value)


def test_the_largest_seed_is_taken_by_all():
    import random

    import numpy as np
    import torch

    torch.Generator().manual_seed(LARGEST_SEED)
    np.random.RandomState(LARGEST_SEED)
    random.Random(LARGEST_SEED)
    with pytest.raises(ValueError, match="between 0 and"):
        np.random.RandomState(LARGEST_SEED + 1)


@given(st.lists(st.integers(0, LARGEST_SEED), min_size=1, max_size=9))
@QUICK
def test_seeds_differ(seeds):
    if len(set(seeds)) == len(seeds):
        check_seeds(seeds)
    else:
        with pytest.raises(ValueError, match="each only once"):
            check_seeds(seeds)


@pytest.mark.parametrize("seeds", [3, None, "012", 1.5])
def test_seeds_are_a_list(seeds):
    with pytest.raises(ValueError, match="give a list of seeds, got"):
        check_seeds(seeds)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6))
@QUICK
def test_temperatures_whose_labels_are_alike_are_refused(temperatures):
    labels = {f"T = {t:g}" for t in temperatures}
    if len(labels) == len(temperatures):
        check_each("temperature", temperatures, check_temperature)
    else:
        with pytest.raises(ValueError, match="each only once"):
            check_each("temperature", temperatures, check_temperature)


@given(st.floats())
@QUICK
def test_weights_lie_between_labels_and_teacher(weight):
    assume(math.isnan(weight) or not 0 <= weight <= 1)
    with pytest.raises(ValueError, match="soft_weight must lie between"):
        check_each("soft_weight", [weight], check_soft_weight)


@pytest.mark.parametrize(
    ("temperatures", "weights", "seeds", "says"),
    [
        ([4, 4.0], [0.5], [0, 1], r"each only once, got \[4, 4.0\]"),
        ([4], [0.5, 0.5], [0, 1], "soft_weight and each only once"),
        ([4], [0.5], [], "at least one seed"),
        ([4], [], [0], "at least one soft_weight"),
        ([], [0.5], [0], "at least one temperature"),
        ([4], [0.5], [7, 7], "seed and each only once"),
        ([4], [0.5], [10**20], "got 100000000000000000000"),
        ([float("nan")], [0.5], [0], "got nan"),
        ([4], [1.5], [0], "got 1.5"),
    ],
)
def test_a_sweep_checks_before_it_asks_for_anything(temperatures, weights, seeds, says):
    """There is no experiment here: whatever asked it for something would raise otherwise."""
    with pytest.raises(ValueError, match=says):
        sweep(None, temperatures, weights, seeds)
