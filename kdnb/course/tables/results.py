"""Tables that compare methods by accuracy, and ways to divide classes into subclasses."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType

import torch
from torch import Tensor

from kdnb.course.tables.table import Table
from kdnb.course.text import (
    ADJUSTED,
    SPLITS,
    listed,
    markdown_table,
    percent,
    percent_range,
    points,
    verdict,
)
from kdnb.evaluation.statistics import image_interval, joint_interval
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.results import Comparison


def result_table(
    comparison: Comparison, baseline: str, teachers: Tensor | None = None,
    plain: Mapping[str, Tensor] = MappingProxyType({}), *, drawn: bool = False,
) -> Table:  # fmt: skip
    """Each method's accuracy, and its gain over the baseline.

    ``teachers`` (seeds, N) bool marks the images that teachers classify correctly, ``plain`` (N,)
    bool by label those of baselines without a network, whose intervals cover images alone.
    ``drawn`` says that `figures.comparison` has drawn them all.
    """
    c, gains = comparison, comparison.gains(baseline)
    own = {} if teachers is None else {"teacher": teachers}
    own |= {label: c.of(label) for label in c.labels}
    correct = {label: right[None] for label, right in plain.items()} | own
    rows = []
    for label, right in correct.items():
        mean = joint_interval(right) if label in own else image_interval(*right)
        errors = listed([str(n) for n in (~right).sum(1).tolist()])
        gain = gains.get(label)
        said = (points(gain), verdict(gain).lower()) if gain else ("–", "–")
        rows.append([label, percent(mean.mean), percent_range(mean), errors, *said])
    head = [
        f"{SPLITS[c.split]} split, {c.images:,} images, {len(c.seeds)} seeds", "accuracy",
        "95 % interval over seeds and images", "errors per seed", f"gain over {baseline}",
        "verdict",
    ]  # fmt: skip
    accuracies = {label: of.double().mean(1).tolist() for label, of in own.items()}
    data = {
        "dataset": c.dataset,
        "split": c.split,
        "images": c.images,
        "seeds": list(c.seeds),
        "accuracy": accuracies,
        "gain_over": baseline,
        "gain": {label: asdict(gain) for label, gain in gains.items()},
        "plain": {label: right.double().mean().item() for label, right in plain.items()},
    }
    return Table(f"{markdown_table(head, rows)}\n\n{ADJUSTED}", data, drawn=drawn)


def division_table(
    divided: Mapping[str, Sequence[dict]], outputs: int, dataset: str,
    constant: tuple[str, float] | None = None,
    plain: Mapping[str, float] = MappingProxyType({}),
) -> Table:  # fmt: skip
    """Ways for a teacher to divide its classes, compared over seeds.

    ``divided`` holds a dictionary for each seed's teacher: ``seed``, the number of ``live``
    subclasses, and (N,) bool of the images whose true subclass is ``recovered`` (None where not
    known) and whose class is ``correct``. ``plain`` holds fractions recovered without a teacher.
    """
    rows, shares = [], {}
    for label, teachers in divided.items():
        shares[label] = [
            {k: v.double().mean().item() if isinstance(v, Tensor) else v for k, v in d.items()}
            for d in teachers
        ]
        live = listed([str(d["live"]) for d in teachers])
        cells = ["–"] * 3
        if teachers[0]["recovered"] is not None:
            found = joint_interval(torch.stack([d["recovered"] for d in teachers]))
            each = listed([f"{100 * d['recovered']:.0f}" for d in shares[label]])
            cells = [percent(found.mean, 1), percent_range(found, 1), each]
        share = sum(d["correct"] for d in shares[label]) / len(teachers)
        rows.append([label, f"{live} of {outputs}", *cells, percent(share)])
    rows += [[label, "–", percent(share, 1), *["–"] * 3] for label, share in plain.items()]
    if constant:
        label, share = constant
        rows.append([label, *["–"] * 4, percent(share)])
    head = [
        "the teacher is trained with", "live subclasses per seed", "true subclasses recovered",
        "95 % interval over seeds and images", "per seed", "class accuracy",
    ]  # fmt: skip
    data = {
        "dataset": dataset,
        "subclass_outputs": outputs,
        "divisions": shares,
        "plain": dict(plain),
    }
    return Table(markdown_table(head, rows), data)


def majority_class(experiment: Experiment, split: str = "test") -> tuple[str, float] | None:
    """The label and accuracy of always predicting the most frequent training class.

    None where classes are about equally frequent: the baseline is then no better than chance.
    """
    if not experiment.task.balanced:
        return None
    answer = experiment.transfer.labels.mode().values
    share = (getattr(experiment.dataset, split).labels == answer).double().mean().item()
    return f"always {experiment.dataset.class_names[answer]}", share
