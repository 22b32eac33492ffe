"""Reads the test split, once: every comparison of the course, with seeds that chose nothing.

    .venv/bin/python report/reference/final.py [--task mnist-small] [--seeds 100 101 102 103 104]

All of MNIST, on request, has seeds 0 to 4, of which a page has trained the first three.

Beside the test images of handwritten digits stand the 40,000 training images of MNIST that are in
no part of `mnist-small`, if MNIST's files are on this machine. Writes final.json, prints a table.
What the run store holds is not trained again.
"""

import argparse
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import zip_longest
from math import hypot
from pathlib import Path

import hinton
import torch
from measures import by_class, by_subclass, distilled
from selection import EMBEDDED, named
from selection import FILE as SELECTION
from stages import kept
from torch import Tensor

from kdnb.data import DataError, Dataset, load, mnist_small, two_by_five
from kdnb.environment import provenance
from kdnb.evaluation.metrics import (
    chance_recovered,
    live_subclasses,
    match_subclasses,
    most_recovered,
)
from kdnb.evaluation.statistics import adjusted, image_interval, joint_interval
from kdnb.experiment.baselines import MAJORITY, baselines, kmeans
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import (
    ALONE,
    Method,
    controls,
    conventional,
    subclass,
    within_classes,
)
from kdnb.experiment.requests import RunRequest
from kdnb.fingerprint import code_fingerprint
from kdnb.models import pretrained
from kdnb.tasks import SubclassConfig
from kdnb.tasks.config import Task

SEEDS = (100, 101, 102, 103, 104)
MNIST_SEEDS = (0, 1, 2, 3, 4)
FILE = Path(__file__).with_suffix(".json")
TEACHER, SUBCLASS_TEACHER = "teacher", "teacher with subclasses"


@dataclass(frozen=True)
class Table:
    """Which images each row classifies correctly, and which rows are claimed to beat which.

    ``rows``: (seeds, N) bool by label, of what no seed decides (N,). Claims are pairs of labels,
    adjusted for one another (Holm 1979). ``levels`` are shares to compare the rows with.
    """

    name: str
    rows: dict[str, Tensor]
    claims: list[tuple[str, str]]
    levels: dict[str, float] = field(default_factory=dict)


Rows = dict[str, Tensor]


def students(lab: Experiment, seeds: Sequence[int], methods: Sequence[Method]) -> Rows:
    """(seeds, N) bool for each method."""
    lab.train_ahead([RunRequest(seed, method) for seed in seeds for method in methods])
    result = lab.compare(methods, seeds)
    return dict(zip(result.labels, result.correct, strict=True))


def teachers(
    lab: Experiment, seeds: Sequence[int], subclass_config: SubclassConfig | None = None
) -> Tensor:
    """(seeds, N) bool."""
    runs = [lab.teacher(seed, subclass_config) for seed in seeds]
    return lab.correct(runs, lab.dataset.test)


def against_plain(lab: Experiment, seeds: Sequence[int], rows: Rows, best: str) -> Table:
    """The teacher, the student alone and the ``best`` one beside plain baselines on their images.

    That they beat the majority is claimed of none.
    """
    of_students, same = baselines(lab), baselines(lab, train=lab.dataset.train)
    of_teacher = {f"{label}, the teacher's images": right for label, right in same.items()}
    claims = [(TEACHER, over) for over in (*of_teacher, ALONE.label, best)]
    claims += [(label, over) for label in (ALONE.label, best) for over in of_students]
    right = {TEACHER: teachers(lab, seeds), **of_teacher}
    right |= {ALONE.label: rows[ALONE.label], best: rows[best], **of_students}
    claims = [(label, over) for label, over in claims if MAJORITY not in over]
    return Table("plain baselines", right, claims)


def ten_classes(lab: Experiment, seeds: Sequence[int]) -> list[Table]:
    """Conventional distillation and what may explain it."""
    kd = distilled(lab.task)
    cold = conventional(1.0, lab.task.soft_weight, f"{kd.label} at T = 1")
    others = controls(kd, lab.num_classes)
    rows = students(lab, seeds, [ALONE, kd, cold, *others])
    small = replace(kd, label="KD from a teacher of the students' images")
    rows |= students(of_few_images(lab), seeds, [small])
    over_alone = [(label, ALONE.label) for label in rows if label != ALONE.label]
    over_others = [(kd.label, label) for label, _ in over_alone[1:]]
    table = Table("distillation and controls", rows, over_alone + over_others)
    return [against_plain(lab, seeds, rows, kd.label), table]


def of_few_images(lab: Experiment) -> Experiment:
    """The same students, of a teacher that sees their images alone, in as many steps."""
    of, data = lab.task, replace(lab.dataset, train=lab.transfer)
    times = len(lab.dataset.train) / len(lab.transfer)
    config = replace(of.teacher_config, epochs=round(of.teacher_config.epochs * times))
    sizes = replace(of.sizes, student_images=None)
    return Experiment(replace(of, dataset=lambda: data, sizes=sizes, teacher_config=config))


def two_classes(lab: Experiment, seeds: Sequence[int]) -> list[Table]:
    """Classes divided by the teacher: what it finds, and what its students gain."""
    own, others = lab.task.subclass_config, lab.task.subclass_configs.others
    test, size, rows, levels = lab.dataset.test, own.objective.subclasses, {}, {}
    for config in (own, *others):
        logits = [lab.logits(lab.teacher(seed, config), test)[0] for seed in seeds]
        rows[config.label] = torch.stack([recovered(lab, each) for each in logits])
        most = [most_recovered(live_subclasses(each), test.subclasses) for each in logits]
        levels[f"at most with the live subclasses of {config.label}"] = sum(most) / len(most)
    rows["k-means on the pixels"] = recovered(lab, kmeans(lab, size))
    levels["chance"] = chance_recovered(test.labels, test.subclasses, size)
    claims = [(own.label, over) for over in rows if over != own.label]
    return [Table("digits recovered", rows, claims, levels), *subclass_tables(lab, seeds)]


def recovered(lab: Experiment, subclass_logits: Tensor) -> Tensor:
    """(N,) bool: which test images have the subclass that their true one is paired with."""
    true = lab.dataset.test.subclasses
    partner = match_subclasses(subclass_logits, true, len(lab.dataset.subclass_names)).partner
    return partner[subclass_logits.argmax(1)] == true


def subclass_tables(lab: Experiment, seeds: Sequence[int]) -> list[Table]:
    """Conventional and subclass distillation, of known subclasses too where there are any."""
    of, known = lab.task, lab.task.subclass_configs.known
    kd, classes, subclasses = (method(of) for method in (distilled, by_class, by_subclass))
    methods = [ALONE, kd, classes, subclasses, within_classes(of.temperature, of.subclass_config)]
    if known:
        label = f"student + KD, {known.label}"
        methods.append(subclass(of.temperature, of.soft_weight, known, label))
    rows = students(lab, seeds, methods)
    claims = [(method.label, ALONE.label) for method in methods[1:]]
    claims += [(method.label, classes.label) for method in methods[3:]]
    table = Table("distillation", rows, [*claims, (subclasses.label, kd.label)])
    tables = [against_plain(lab, seeds, rows, subclasses.label), table]
    tables[0].rows[SUBCLASS_TEACHER] = teachers(lab, seeds, of.subclass_config)
    return tables


def of_mnist(lab: Experiment, seeds: Sequence[int]) -> list[Table]:
    """Conventional and subclass distillation of ten classes."""
    kd, subclasses = distilled(lab.task), by_subclass(lab.task)
    rows = students(lab, seeds, [ALONE, kd, subclasses])
    claims = [(method.label, ALONE.label) for method in (kd, subclasses)]
    claims.append((subclasses.label, kd.label))
    return [against_plain(lab, seeds, rows, kd.label), Table("distillation", rows, claims)]


def of_800(lab: Experiment, seeds: Sequence[int]) -> list[Table]:
    """Hinton's student with its teacher and without."""
    kd = distilled(lab.task)
    rows = students(lab, seeds, [ALONE, kd])
    rows[TEACHER] = teachers(lab, seeds)
    claims = [(kd.label, ALONE.label), (TEACHER, kd.label)]
    return [Table("two layers of 800 units", rows, claims)]


def of_narrow(lab: Experiment, seeds: Sequence[int]) -> list[Table]:
    """Which temperature suits a student of 30 units in each layer."""
    weight, low, others = lab.task.soft_weight, (2.5, 4.0), (1.0, 8.0, 20.0)
    methods = {t: conventional(t, weight, f"T = {t:g}") for t in hinton.TEMPERATURES}
    rows = students(lab, seeds, [ALONE, *methods.values()])
    rows[TEACHER] = teachers(lab, seeds)
    claims = [(methods[one].label, methods[other].label) for one in low for other in others]
    return [Table("two layers of 30 units", rows, claims)]


TABLES = {
    "mnist-small": ten_classes,
    "mnist-small-2x5": two_classes,
    "polyps": subclass_tables,
    "mnist": of_mnist,
    "mnist-2x5": two_classes,
    "mnist-hinton": of_800,
    "mnist-800": of_800,
    "mnist-30": of_narrow,
}


def picked(name: str) -> Task:
    """The task with what was chosen for it, which the course's own tasks have already."""
    of = named(name)
    if name not in hinton.PLANS:
        return of
    return hinton.PLANS[name](of).with_picks(kept(SELECTION)[name]["picks"])


def with_audit(name: str) -> Dataset:
    """A dataset of handwritten digits whose test split is the audit; raises `DataError`."""
    digits = replace(load("mnist-small"), test=mnist_small.audit())
    return two_by_five.of(lambda root=None: digits)() if name.endswith("2x5") else digits


def measured(table: Table) -> dict:
    """Means and gains with their intervals, the gains with Holm's p, and what each seed gave."""
    seeds = max(len(right) for right in table.rows.values() if right.ndim == 2)
    rows = {label: right.double() for label, right in table.rows.items()}
    gains = {
        (label, over): joint_interval((rows[label] - rows[over]).expand(seeds, -1))
        for label, over in table.claims
    }
    means = {
        label: joint_interval(right) if right.ndim == 2 else image_interval(right)
        for label, right in rows.items()
    }
    return {
        "table": table.name,
        "rows": [
            {"label": label, **asdict(means[label]), "per_seed": right.mean(-1).tolist()}
            for label, right in rows.items()
        ],
        "claims": [
            {"label": label, "over": over, **asdict(gain)}
            for (label, over), gain in adjusted(gains).items()
        ],
        "levels": table.levels,
    }


def agree(one: dict, other: dict) -> bool:
    """Whether two means differ by no more than their two half-widths allow together."""
    halves = [(each["high"] - each["low"]) / 2 for each in (one, other)]
    return abs(one["mean"] - other["mean"]) <= hypot(*halves)


def markdown(tasks: dict[str, dict[str, list[dict]]]) -> str:
    """One table of all rows and gains in percent: test beside audit, and whether they agree."""
    heading = "%, gains in points; 95 % interval over seeds and images"
    lines = [f"| {heading} | test | audit | agree |", "| --- | --- | --- | --- |"]
    for name, splits in tasks.items():
        for place, table in enumerate(splits["test"]):
            lines.append(f"| **{name}, {table['table']}** | | | |")
            audit = splits["audit"][place] if "audit" in splits else {"levels": {}}
            for kind in ("rows", "claims"):
                for row, again in zip_longest(table[kind], audit.get(kind, ())):
                    label = row["label"] + (f" − {row['over']}" if "over" in row else "")
                    same = ("yes" if agree(row, again) else "**no**") if again else ""
                    lines.append(f"| {label} | {_percent(row)} | {_percent(again)} | {same} |")
            for label, level in table["levels"].items():
                again = [f"{100 * audit['levels'][label]:.2f}"] if label in audit["levels"] else []
                lines.append(f"| {label} | {100 * level:.2f} | {''.join(again)} | |")
    return "\n".join(lines)


def _percent(row: dict | None) -> str:
    if row is None:
        return ""
    low, high, claim = 100 * row["low"], 100 * row["high"], "over" in row
    if not claim:
        return f"{100 * row['mean']:.2f} [{low:.2f}, {high:.2f}]"
    return f"{100 * row['mean']:+.2f} [{low:+.2f}, {high:+.2f}], Holm p = {row['p_holm']:.2g}"


def final(of: Task, tables: Callable, seeds: Sequence[int], audit: Dataset | None) -> dict:
    """The tables of one task by split: "test" and, if there is one, "audit"."""
    labs = {"test": Experiment(of)}
    if audit:  # the same runs: no key holds anything of the test split
        labs["audit"] = Experiment(replace(of, dataset=lambda: audit))
    return {split: [measured(table) for table in tables(lab, seeds)] for split, lab in labs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", nargs="+", choices=TABLES, default=EMBEDDED)
    parser.add_argument("--seeds", nargs="+", type=int)
    options = parser.parse_args()
    os.environ[pretrained.VARIABLE] = "random"  # polyps are for narrow networks
    for name in options.task:
        seeds = options.seeds or (SEEDS if name in EMBEDDED else MNIST_SEEDS)
        require_unseen(name, seeds)
        of = picked(name)
        audit = None
        if name.startswith("mnist-small"):
            try:
                audit = with_audit(name)
            except DataError as error:
                print(f"{name}: no audit, {error}")
        lab = Experiment(of)
        found = {
            "seeds": seeds,
            "data_fingerprint": lab.dataset.fingerprint,
            "engine": code_fingerprint(),
            "provenance": provenance(lab.device),
            **final(of, TABLES[name], seeds, audit),
        }
        record = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
        record[name] = found
        FILE.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(markdown({name: record[name] for name in options.task}))


def require_unseen(name: str, seeds: Sequence[int]) -> None:
    """Raise ValueError if one of the seeds has chosen something."""
    trials = kept(SELECTION).get(name, {}).get("trials", [])
    if seen := {seed for trial in trials for seed in trial["seeds"]} & set(seeds):
        raise ValueError(f"seeds {sorted(seen)} chose the recipe of {name}: take others")


if __name__ == "__main__":
    main()
