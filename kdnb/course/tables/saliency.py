"""Measures of saliency maps, as a table and as a verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations

import torch
from IPython.display import Markdown

from kdnb.course.tables.table import Table
from kdnb.course.text import ADJUSTED, markdown_table, percent, verdict
from kdnb.evaluation.statistics import Interval, adjusted, pair_interval
from kdnb.experiment.saliency_study import OTHER_TEACHER, RANDOM, Measured

NEAR = 0.8  # of a trained network's similarity: random weights that reach it come close


def measured_table(measured: Mapping[str, Measured], over: str, dataset: str, kind: str) -> Table:
    """Each model's measures by kind of map: means with intervals over seeds and images.

    ``over`` names the model over which gains are computed. `measured_bars` draws the same numbers.
    """
    measures = next(iter(measured.values())).measures
    means = {
        name: {label: {m: each.mean(label, m) for m in measures} for label in each.values}
        for name, each in measured.items()
    }
    rows = [
        [name, label, *(f"{m.mean:.3f} ({m.low:.3f} to {m.high:.3f})" for m in found.values())]
        for name, by_label in means.items()
        for label, found in by_label.items()
    ]
    data = {
        "dataset": dataset,
        "kind": kind,
        "over": over,
        "measured": {
            name: {label: {m: asdict(i) for m, i in found.items()} for label, found in each.items()}
            for name, each in means.items()
        },
    }
    head = ["map", "model", *(f"{m} (95 % interval over seeds and images)" for m in measures)]
    return Table(markdown_table(head, rows), data, drawn=True)


def similarity_verdict(
    similarity: Mapping[str, Measured], students: Sequence[str], alone: str
) -> Markdown:
    """Does distillation make maps more similar to the teacher's? A sentence for each student.

    A gain over the student without a teacher counts where its p-value, Holm-adjusted for all
    these comparisons, is below 0.05.
    """
    gains = similarity_gains(similarity, students, alone)
    lines = []
    for label in students:
        signs = [gain.sign for (_, _, of), gain in gains.items() if of == label]
        more, less, total = signs.count(1), signs.count(-1), len(signs)
        lines.append(
            f"**{_verdict(more, less, total)}**: the maps of *{label}* are closer to the teacher's "
            f"than those of *{alone}* in {more} of {total} comparisons "
            f"({', '.join(similarity)}, each by all measures) and further away in {less} "
            "(Holm-adjusted for all comparisons)."
        )
    return Markdown("\n\n".join([*lines, _control(similarity, alone)]))


def similarity_gains(
    similarity: Mapping[str, Measured], students: Sequence[str], over: str
) -> dict[tuple[str, str, str], Interval]:
    """Gains by kind of map, measure and student, with p adjusted for all of them."""
    return adjusted({
        (kind, measure, label): measured.gain(label, over, measure)
        for label in students
        for kind, measured in similarity.items()
        for measure in measured.measures
    })  # fmt: skip


def teacher_pairs(
    similarity: Mapping[str, Measured], students: Sequence[str], measure: str
) -> Markdown | None:
    """How much more similar two teachers are than a student and its teacher; None without pairs.

    Each pair of seeds gives a difference; `pair_interval` takes into account the seeds they share.
    """
    if any(OTHER_TEACHER not in each.values for each in similarity.values()):
        return None

    def difference(measured: Measured, label: str) -> Interval:
        own = measured.of(label, measure)  # (seeds, images)
        pairs = torch.tensor(list(combinations(range(len(own)), 2)))
        return pair_interval(measured.of(OTHER_TEACHER, measure) - own[pairs].mean(1))

    found = adjusted({
        (kind, label): difference(measured, label)
        for kind, measured in similarity.items()
        for label in students
    })  # fmt: skip
    head = ["map", "two teachers against", f"difference in {measure}", "95 % interval", "verdict"]
    says = {1: "two teachers are more similar", -1: "two teachers are less similar"}
    rows = [
        [kind, f"{label} and its teacher", f"{gap.mean:+.3f}", f"{gap.low:+.3f} to {gap.high:+.3f}",
         f"{says.get(gap.sign, verdict(gap).lower())}, p = {gap.p_holm:.2g} (Holm)"]
        for (kind, label), gap in found.items()
    ]  # fmt: skip
    return Markdown(f"{markdown_table(head, rows)}\n\n{ADJUSTED}")


def _verdict(more: int, less: int, total: int) -> str:
    if more == total:
        return "Yes, by every measure"
    if more:
        return "The measures disagree" if less else "Partly"
    return "No, less similar" if less else "Not distinguishable"


def _control(similarity: Mapping[str, Measured], alone: str) -> str:
    """Whether maps of random weights are less similar than those of a trained student."""
    blind, near = [], []
    gains = similarity_gains(similarity, [alone], RANDOM)
    for (kind, measure, _), gain in gains.items():
        if gain.sign != 1:
            blind.append(f"{measure} of {kind}")
        random, trained = (similarity[kind].mean(label, measure).mean for label in (RANDOM, alone))
        if random >= NEAR * trained:
            near.append(f"{measure}, {kind}: {random:.3f} against {trained:.3f}")
    text = (
        f"**The control holds**: all {len(gains)} similarities are lower with random weights than "
        "for a student trained without a teacher (Holm-adjusted)."
    )
    if blind:
        text = (
            f"**The control fails** for {len(blind)} of {len(gains)} similarities: "
            f"{', '.join(blind)}. Here a trained student is not distinguishable from random "
            "weights, so these similarities say little about what a model has learnt."
        )
    if near:
        text += (
            f" Random weights reach at least {percent(NEAR, 0)} of the trained student's "
            f"similarity for {'; '.join(near)}. Training does not explain these similarities."
        )
    return text
