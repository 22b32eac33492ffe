"""How a recipe is chosen: stages of trials, measured on validation images, and every trial kept."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import inf, sqrt
from pathlib import Path
from statistics import mean, stdev
from time import process_time

import torch
from joblib import Parallel, delayed

from kdnb.data import Dataset, Split
from kdnb.environment import provenance
from kdnb.experiment.experiment import Experiment
from kdnb.files import write_whole
from kdnb.fingerprint import code_fingerprint
from kdnb.tasks.config import Task

Settings = dict[str, object]  # of a trial, as JSON can hold them
Numbers = dict[str, float]  # what one seed of a trial gave, "score" among them


class SealedSplitError(RuntimeError):
    """Something that chooses asked for the test split."""


class ValidationOnly(Dataset):
    """A dataset without its test split: asking for ``test`` raises `SealedSplitError`.

    Its other splits do not know the whole that they were taken from.
    """

    def __init__(self, dataset: Dataset):
        for name, value in vars(dataset).items():
            if name in ("train", "val"):
                value = replace(value, whole=None, rows=None)
            if name not in ("test", "fingerprint"):
                vars(self)[name] = value

    @property
    def test(self) -> Split:
        raise SealedSplitError(f"a choice must not read the test split of {self.name}")


@dataclass(frozen=True)
class WithoutTest:
    """What an `Experiment` takes for ``task``: the same, on a dataset that is `ValidationOnly`."""

    task: Task

    def load(self) -> Dataset:
        return ValidationOnly(self.task.load())

    def resolved(self, dataset: Dataset) -> Task:
        return replace(self.task.resolved(dataset), dataset=lambda: dataset)


@dataclass(frozen=True)
class Stage:
    """One choice among ``trials``, whose order decides between equals.

    ``applied`` gives a task with a trial's settings, ``measured`` what each seed gives: its "score"
    decides. ``price`` counts what training takes; trials above ``most`` are listed and not run.
    ``after`` names the stages whose picks are applied before.
    """

    name: str
    trials: Sequence[Settings]
    applied: Callable[[Task, Settings], Task]
    measured: Callable[[Experiment, Sequence[int], Settings], list[Numbers]]
    price: Callable[[Experiment], float] = lambda lab: 0
    most: float = inf
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The stages in which a task's recipe is chosen; those in ``as_many`` have as many trials."""

    task: Task
    stages: tuple[Stage, ...]
    as_many: tuple[str, ...] = ()

    def __post_init__(self):
        counts = {s.name: len(s.trials) for s in self.stages if s.name in self.as_many}
        if len(set(counts.values())) > 1 or len(counts) < len(self.as_many):
            raise ValueError(f"these stages must have as many trials as one another: {counts}")

    def with_picks(self, picks: dict[str, Settings]) -> Task:
        """The task with what these stages picked."""
        task = self.task
        for stage in self.stages:
            if stage.name in picks:
                task = stage.applied(task, picks[stage.name])
        return task


def grid(**values: Sequence) -> list[Settings]:
    """Every combination; the last one named changes first.

    >>> grid(epochs=(1, 2), rate=(0.1,))
    [{'epochs': 1, 'rate': 0.1}, {'epochs': 2, 'rate': 0.1}]
    """
    return [dict(zip(values, each, strict=True)) for each in product(*values.values())]


def chosen(trials: Sequence[dict]) -> dict:
    """The pick among finished trials by the rule that `selection` states."""
    run = [trial for trial in trials if trial["results"]]
    if not run:
        raise ValueError("the price of every trial is above the stage's bound: raise it")
    best = max(run, key=score)
    scores = [result["score"] for result in best["results"]]
    error = stdev(scores) / sqrt(len(scores)) if len(scores) > 1 else 0
    near = [trial for trial in run if score(trial) >= score(best) - error - 1e-12]
    return min(near, key=lambda trial: trial["price"])


def score(trial: dict) -> float:
    """The mean score over a trial's seeds."""
    return mean(result["score"] for result in trial["results"])


def select(
    plan: Plan, seeds: Sequence[int], file: Path, rule: str = "", workers: int = 1
) -> dict[str, Settings]:
    """Run the trials that ``file`` lacks, keep each as soon as it is there, pick stage by stage.

    Trials run in so many processes of one thread each. A trial is known by its settings, those
    picked before it, its seeds and its images, whatever the code was. One that is no longer in the
    grid stays in the file.
    """
    data = WithoutTest(plan.task).load()
    images = {"train": data.train.fingerprint, "val": data.val.fingerprint}
    trials, picks = kept(file).get(plan.task.name, {}).get("trials", []), {}

    for stage in plan.stages:
        given = {name: picks[name] for name in stage.after}
        about = {"stage": stage.name, "given": given, "seeds": list(seeds), "images": images}
        wanted = [_written({**about, "settings": settings}) for settings in stage.trials]
        known = {_address(trial): trial for trial in trials}
        run = (
            delayed(_tried)(stage, plan.with_picks(given), about, json.loads(address)["settings"])
            for address in wanted
            if address not in known
        )
        for trial in Parallel(workers, return_as="generator_unordered")(run):
            trials.append(trial)
            known[_address(trial)] = trial
            _keep(file, rule, plan.task.name, picks, trials)
            says = f"{score(trial):.4f}" if trial["results"] else "above the bound, not run"
            print(plan.task.name, stage.name, trial["settings"], says, flush=True)
        picks[stage.name] = chosen([known[address] for address in wanted])["settings"]
        _keep(file, rule, plan.task.name, picks, trials)
        print(plan.task.name, stage.name, "PICKED", picks[stage.name], flush=True)
    return picks


def _tried(stage: Stage, task: Task, about: dict, settings: Settings) -> dict:
    """One trial with its numbers."""
    torch.set_num_threads(1)
    lab = Experiment(WithoutTest(stage.applied(task, settings)))
    price, start = stage.price(lab), process_time()
    results = stage.measured(lab, about["seeds"], settings) if price <= stage.most else []
    origin = {"engine": code_fingerprint(), **provenance(lab.device)}
    return about | {
        "settings": settings, "price": price, "results": results,
        "core_seconds": process_time() - start, "provenance": origin,
    }  # fmt: skip


def _address(trial: dict) -> str:
    names = ("stage", "given", "seeds", "images", "settings")
    return _written({name: trial[name] for name in names})


def _written(value: object) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)


def kept(file: Path) -> dict:
    """By task its picks and all its trials; empty where there is no such file."""
    return json.loads(file.read_text(encoding="utf-8"))["tasks"] if file.exists() else {}


def _keep(file: Path, rule: str, task: str, picks: dict, trials: list[dict]) -> None:
    """Put one task into the file, a trial a line; the others stay."""
    tasks = []
    for name, of in {**kept(file), task: {"picks": picks, "trials": trials}}.items():
        lines = ",\n".join(json.dumps(trial, ensure_ascii=False) for trial in of["trials"])
        tasks.append(f'"{name}": {{"picks": {json.dumps(of["picks"])}, "trials": [\n{lines}]}}')
    text = f'{{"rule": {json.dumps(rule, ensure_ascii=False)},\n"tasks": {{\n'
    write_whole(file, [f"{text}{(',' + chr(10)).join(tasks)}}}}}\n".encode()])
