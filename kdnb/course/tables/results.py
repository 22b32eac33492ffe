"""Methods side by side by accuracy, and divisions of classes side by side."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from IPython.display import Markdown

from kdnb.course.report.protocol import OTHER_DATA
from kdnb.course.tables.table import Table
from kdnb.course.text import (
    SPLITS,
    listed,
    markdown_table,
    percent,
    percent_range,
    points,
)
from kdnb.evaluation.statistics import Interval, mean_interval
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.results import Comparison
from kdnb.files import PROJECT

REFERENCE = PROJECT / "report" / "reference"


def result_table(
    comparison: Comparison, baseline: str, teachers: Sequence[float] = (),
    constant: tuple[str, float] | None = None,
) -> Table:  # fmt: skip
    """Each method's accuracy, and its gain over the baseline.

    ``teachers`` are their accuracies, ``constant`` the label and accuracy of a constant answer.
    """
    c, gains = comparison, {}
    accuracies = {"teacher": list(teachers)} if teachers else {}
    for label in c.labels:
        accuracies[label] = c.accuracy(label).tolist()
        if label != baseline:
            gains[label] = c.gain(label, baseline)
    rows = []
    for label, each in accuracies.items():
        mean, gain = mean_interval(each), gains.get(label)
        errors = listed([f"{round((1 - accuracy) * c.images)}" for accuracy in each])
        said = points(gain) if gain else "–"
        rows.append([label, percent(mean.mean), percent_range(mean), errors, said])
    if constant:
        label, share = constant
        wrong = round((1 - share) * c.images)
        rows.append([label, percent(share), "–", wrong, "–"])
    head = [
        f"{SPLITS[c.split]} split, {c.images:,} images, {len(c.seeds)} seeds", "accuracy",
        "95 % interval", "errors per seed", f"gain over {baseline}",
    ]  # fmt: skip
    data = {
        "dataset": c.dataset,
        "split": c.split,
        "images": c.images,
        "seeds": list(c.seeds),
        "accuracy": accuracies,
        "gain_over": baseline,
        "gain": {label: asdict(gain) for label, gain in gains.items()},
    }
    return Table(markdown_table(head, rows), data)


def division_table(
    divided: Mapping[str, Sequence[dict]], outputs: int, dataset: str,
    constant: tuple[str, float] | None = None,
) -> Table:  # fmt: skip
    """Ways for a teacher to divide its classes, side by side over seeds.

    Of each seed's teacher a dictionary: ``seed``, how many subclasses are ``live``, what share of
    the true ones is ``recovered`` (None where they are not known), class ``accuracy``.
    """
    rows = []
    for label, teachers in divided.items():
        live = listed([str(d["live"]) for d in teachers])
        found = [d["recovered"] for d in teachers if d["recovered"] is not None]
        cells = ["–"] * 3
        if found:
            mean, each = mean_interval(found), listed([f"{100 * share:.0f}" for share in found])
            cells = [percent(mean.mean, 1), percent_range(mean, 1), each]
        share = percent(mean_interval([d["accuracy"] for d in teachers]).mean)
        rows.append([label, f"{live} of {outputs}", *cells, share])
    if constant:
        label, share = constant
        rows.append([label, *["–"] * 4, percent(share)])
    head = [
        "the teacher is trained with", "live subclasses per seed", "true subclasses recovered",
        "95 % interval", "per seed", "class accuracy",
    ]  # fmt: skip
    data = {
        "dataset": dataset,
        "subclass_outputs": outputs,
        "divisions": {label: list(teachers) for label, teachers in divided.items()},
    }
    return Table(markdown_table(head, rows), data)


def majority_class(experiment: Experiment, split: str = "test") -> tuple[str, float] | None:
    """The most frequent training class as the answer to everything, and its accuracy.

    None where classes are about equally frequent: there nobody would take it for a result.
    """
    if not experiment.task.balanced:
        return None
    answer = experiment.transfer.labels.mode().values
    share = (getattr(experiment.dataset, split).labels == answer).double().mean().item()
    return f"always {experiment.dataset.class_names[answer]}", share


def reference_table(name: str, dataset: str) -> Markdown:
    """A comparison kept under ``report/reference`` as a table that says where it comes from.

    Where that run is not kept, a sentence says so.
    """
    path = REFERENCE / f"{name}.json"
    if not path.is_file():
        return Markdown(
            f"No run on {dataset} is kept in `report/reference/{name}.json`; `report/README.md` "
            "says how to make it."
        )
    record = json.loads(path.read_text(encoding="utf-8"))
    (result,) = (r for r in record["results"] if r["dataset"] == dataset and "accuracy" in r)
    origin, accuracy, over = record["provenance"], result["accuracy"], result["gain_over"]
    split, seeds = SPLITS[result["split"]], len(result["seeds"])
    head = [
        f"{dataset}, {split} split, {result['images']:,} images, {seeds} seeds", "accuracy",
        f"gain over {over}",
    ]  # fmt: skip
    # A notebook's outputs are stored with sorted names; the teacher and the baseline go first.
    rows = []
    for label in sorted(accuracy, key=lambda label: (label != "teacher", label != over, label)):
        values, gain = accuracy[label], result["gain"].get(label)
        said = points(Interval(**gain)) if gain else "–"
        rows.append([label, percent(sum(values) / len(values)), said])
    return Markdown(
        f"{markdown_table(head, rows)}\n\nNot computed here: kept from a run on "
        f"{origin['date'][:10]}, {origin['device']}, torch {origin['torch']} "
        f"(`report/reference/{name}.json`).",
        metadata={OTHER_DATA: True},
    )
