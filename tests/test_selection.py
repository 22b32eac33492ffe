"""Recipes are chosen without the test split, by the rule, and what was picked is what is used."""

import ast
import json
import sys
from dataclasses import fields, replace
from math import inf
from pathlib import Path

import pytest
from conftest import make_tiny_task, tiny_dataset

from kdnb.data import Split
from kdnb.experiment import baselines
from kdnb.experiment.experiment import Experiment
from kdnb.store.description import description
from kdnb.tasks import Task, task
from kdnb.tasks.config import Sizes

REFERENCE = Path(__file__).parents[1] / "report" / "reference"
sys.path.insert(0, str(REFERENCE))
import measures  # noqa: E402
import selection  # noqa: E402
import stages  # noqa: E402
from stages import Plan, SealedSplitError, Stage, ValidationOnly, WithoutTest, chosen  # noqa: E402

SMALL = {"hidden": [8], "epochs": 1, "student_images": 40}
KEPT = stages.kept(selection.FILE)


class Sealed(Split):
    """A test split of which nothing may be read once the dataset is made."""

    def __getattribute__(self, name):
        if not Sealed.opened:
            raise AssertionError(f"the test split was asked for its {name}")
        return super().__getattribute__(name)


class SealedTask(Task):
    """A task of the course on tiny data: four classes, or two of two digits each, or in colour."""

    def load(self):  # that of a task with a source of its own copies all splits
        Sealed.opened, tiny, splits = True, tiny_dataset(), {}
        two = self.name.endswith("2x5")
        for part in ("train", "val", "test"):
            split, kind = getattr(tiny, part), Sealed if part == "test" else Split
            known = {"subclasses": split.labels} if two else {}
            channels = 3 if self.name == "polyps" else 1
            images = split.images.expand(-1, channels, -1, -1)
            splits[part] = kind(images, split.labels // (1 + two), **known)
        names = {"class_names": ("ab", "cd"), "subclass_names": tiny.class_names} if two else {}
        made = replace(tiny, **splits, **names)
        Sealed.opened = False
        return made


def small(plan: Plan) -> Plan:
    """The same plan with one small trial in each stage."""

    def cut(stage):
        settings = {name: SMALL.get(name, value) for name, value in stage.trials[0].items()}
        return replace(stage, trials=[settings], most=inf)

    return replace(plan, stages=tuple(map(cut, plan.stages)), as_many=())


@pytest.mark.slow
@pytest.mark.parametrize("name", selection.PLANS)
def test_no_stage_reads_the_test_split_and_none_runs_twice(name, tmp_path, monkeypatch):
    sealed = replace(SealedTask(**vars(selection.named(name))), sizes=Sizes(student_images=40))
    plan, file = small(selection.PLANS[name](sealed)), tmp_path / "selection.json"
    with pytest.raises(AssertionError, match="asked for its images"):
        Experiment(plan.task).dataset.test.images  # noqa: B018
    picks = stages.select(plan, (0, 1), file, selection.RULE)
    assert picks.keys() == {stage.name for stage in plan.stages}
    record = json.loads(file.read_text())
    trials = record["tasks"][name]["trials"]
    assert record["rule"] == selection.RULE and record["tasks"][name]["picks"] == picks
    for stage, trial in zip(plan.stages, trials, strict=True):
        assert trial["stage"] == stage.name and trial["provenance"]["engine"]
        assert trial["given"].keys() == set(stage.after)
        assert {r["seed"] for r in trial["results"] if "seed" in r} <= {0, 1}
        assert all(0 <= result["score"] <= 1 for result in trial["results"])
    monkeypatch.setattr(stages, "_tried", None)
    assert stages.select(plan, (0, 1), file, selection.RULE) == picks


def test_a_task_without_test_gives_its_test_split_to_nobody():
    lab = Experiment(WithoutTest(make_tiny_task()))
    assert isinstance(lab.dataset, ValidationOnly) and "test" not in vars(lab.dataset)
    run = lab.teacher(0)
    asked = {
        "dataset": lambda: lab.dataset.test,
        "logits": lambda: lab.test_logits(run),
        "comparison": lambda: lab.compare([selection.ALONE], [0]),
        "task": lambda: lab.task.load(),
        "fingerprint": lambda: lab.dataset.fingerprint,
        "copy": lambda: replace(lab.dataset, name="another"),
    }
    for name, ask in asked.items():
        with pytest.raises(SealedSplitError, match="a choice must not read"):
            print(name, ask())
    whole = tiny_dataset()
    part = replace(whole, val=whole.train.take(whole.train.labels.argsort()[:10]))
    assert ValidationOnly(part).val.whole is None


def test_the_scripts_make_experiments_in_one_place_and_name_no_test_split():
    nodes = [
        node for module in (selection, stages, measures)
        for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8")))
    ]  # fmt: skip
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    made = [ast.unparse(call) for call in calls if ast.unparse(call.func) == "Experiment"]
    assert made == ["Experiment(WithoutTest(stage.applied(task, settings)))"]
    compared = [ast.unparse(call) for call in calls if ast.unparse(call.func) == "lab.compare"]
    assert compared and all("split='val'" in call for call in compared)
    read = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert not read & {"test", "test_logits"}


def trial(price, *scores):
    return {"price": price, "results": [{"score": score} for score in scores]}


@pytest.mark.parametrize(
    ("trials", "pick"),
    [
        ([trial(2, 0.90, 0.90), trial(9, 0.95, 0.97)], 1),  # the best is clearly better
        ([trial(2, 0.945, 0.955), trial(9, 0.95, 0.97)], 0),  # one standard error is 0.01
        ([trial(2, 0.94, 0.955), trial(9, 0.95, 0.97)], 1),
        ([trial(9, 0.95, 0.97), trial(9, 0.96, 0.97)], 0),  # of equal prices the first
        ([trial(1), trial(9, 0.9)], 1),  # what was too dear was not run
    ],
)
def test_the_cheapest_within_a_standard_error_of_the_best_is_picked(trials, pick):
    assert chosen(trials) is trials[pick]


def counting(measured, dies_at=None):
    """A stage that scores a trial by its number, and what it measured so far."""

    def measure(lab, seeds, settings):
        if settings["n"] == dies_at:
            raise KeyboardInterrupt
        measured.append(settings["n"])
        return [{"seed": seed, "score": settings["n"] / 10} for seed in seeds]

    trials = stages.grid(n=[1, 3, 2])
    return Stage("counted", trials, lambda of, s: of, measure, lambda lab: 1.0)


def test_a_selection_that_was_killed_goes_on_and_keeps_every_trial(tmp_path):
    measured, file, of = [], tmp_path / "selection.json", make_tiny_task()
    with pytest.raises(KeyboardInterrupt):
        stages.select(Plan(of, (counting(measured, dies_at=2),)), (0, 1), file)
    assert measured == [1, 3]
    assert stages.select(Plan(of, (counting(measured),)), (0, 1), file) == {"counted": {"n": 3}}
    assert measured == [1, 3, 2]
    fewer = replace(counting(measured), trials=[{"n": 1}, {"n": 2}])
    assert stages.select(Plan(of, (fewer,)), (0, 1), file) == {"counted": {"n": 2}}
    stages.select(Plan(replace(of, name="other"), (fewer,)), (0, 1), file)
    stages.select(Plan(of, (fewer,)), (0, 2), file)  # other seeds: another trial
    record = stages.kept(file)
    assert measured == [1, 3, 2] + 2 * [1, 2]
    assert [t["settings"]["n"] for t in record["tiny"]["trials"]] == [1, 3, 2, 1, 2]
    assert len(record["other"]["trials"]) == 2


def test_what_is_too_dear_is_listed_and_not_run(tmp_path):
    stage = replace(counting([]), price=lambda lab: 5.0, most=4.0)
    with pytest.raises(ValueError, match="above the stage's bound"):
        stages.select(Plan(make_tiny_task(), (stage,)), (0, 1), tmp_path / "selection.json")
    trials = stages.kept(tmp_path / "selection.json")["tiny"]["trials"]
    assert [(t["price"], t["results"]) for t in trials] == [(5.0, [])] * 3


@pytest.mark.parametrize("name", [name for name in selection.PLANS if name != "mnist-2x5"])
def test_a_student_alone_has_as_many_trials_as_a_distilled_one(name):
    plan = selection.PLANS[name](make_tiny_task())
    assert {"alone", "distilled"} <= set(plan.as_many)
    cut = [replace(s, trials=s.trials[:count]) for count, s in enumerate(plan.stages, 1)]
    with pytest.raises(ValueError, match="as many trials"):
        replace(plan, stages=cut)


def test_students_of_mnist_as_two_classes_have_the_recipes_of_ten():
    assert not selection.PLANS["mnist-2x5"](make_tiny_task()).as_many
    ten, two = task("mnist"), task("mnist-2x5")
    for setting in ("student", "student_config", "distillation", "sizes"):
        assert getattr(ten, setting) == getattr(two, setting)


@pytest.mark.parametrize("name", KEPT)
def test_the_picks_follow_from_the_kept_trials_and_are_what_the_task_does(name):
    plan, kept = selection.PLANS[name](selection.named(name)), KEPT[name]
    for stage in plan.stages:
        given = {earlier: kept["picks"][earlier] for earlier in stage.after}
        of_stage = [t for t in kept["trials"] if t["stage"] == stage.name and t["given"] == given]
        wanted = [
            t for s in stage.trials for t in of_stage if t["settings"] == json.loads(json.dumps(s))
        ]
        assert len(wanted) == len(stage.trials)
        assert chosen(wanted)["settings"] == kept["picks"][stage.name]
    picked = plan.with_picks(kept["picks"])
    if name in selection.hinton.TASKS:  # `final` takes these picks from the file
        return
    for field in fields(picked):
        ours, theirs = getattr(plan.task, field.name), getattr(picked, field.name)
        assert ours == theirs or description(ours) == description(theirs), field.name
    if "SVM" in kept["picks"]:
        assert kept["picks"]["SVM"] == baselines.SVM
        assert kept["picks"]["neighbours"] == baselines.NEIGHBOURS
