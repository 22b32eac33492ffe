"""Makes subclass_sweep.json: number of subclasses and weight of the loss that divides, on digits.

    .venv/bin/python report/reference/subclass_sweep.py

Everything is measured on the validation split. What the run store holds is not trained again.
"""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

from kdnb.evaluation.metrics import accuracy, live_subclasses, match_subclasses
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import subclass
from kdnb.tasks import SubclassConfig, task

TASK = "mnist-small-2x5"
SUBCLASSES = (2, 5, 10)
WEIGHTS = (0.0, 0.3, 1.0, 3.0)
SEEDS = (0, 1, 2)
TARGET = Path(__file__).with_suffix(".json")


def main() -> None:
    lab = Experiment(task(TASK))
    val, names = lab.dataset.val, lab.dataset.subclass_names
    _, spread = lab.task.subclass_configs.others
    cells = []
    for way, subclasses, weight in product((spread, lab.task.subclass_config), SUBCLASSES, WEIGHTS):
        objective = replace(way.objective, subclasses=subclasses, weight=weight)
        subclass_config = SubclassConfig(way.label, objective, way.train_config)
        teachers, students = [], []
        for seed in SEEDS:
            teacher = lab.teacher(seed, subclass_config)
            logits = lab.logits(teacher, val)[0]
            matching = match_subclasses(logits, val.subclasses, len(names))
            teachers.append(
                {
                    "counts": matching.counts.tolist(),
                    "partner": matching.partner.tolist(),
                    "recovered": matching.recovered,
                    "live": live_subclasses(logits),
                    "accuracy": accuracy(lab.class_logits(teacher, val), val.labels),
                }
            )
            method = subclass(lab.task.temperature, lab.task.soft_weight, subclass_config)
            student = lab.student(method, seed)
            students.append(accuracy(lab.class_logits(student, val), val.labels))
        cells.append(
            {
                "loss": way.label,
                "subclasses": subclasses,
                "weight": weight,
                "teachers": teachers,
                "students": students,
            }
        )
        print(way.label, subclasses, weight, [t["live"] for t in teachers], students, flush=True)
    record = {
        "dataset": lab.dataset.name,
        "data_fingerprint": lab.dataset.fingerprint,
        "class_names": lab.dataset.class_names,
        "subclass_names": names,
        "split": "val",
        "seeds": SEEDS,
        "provenance": teacher.provenance,
        "cells": cells,
    }
    TARGET.write_text(json.dumps(record, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
