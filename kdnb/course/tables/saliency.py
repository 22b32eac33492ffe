"""What is measured of saliency maps, as a table and as an answer."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from IPython.display import Markdown

from kdnb.course.tables.table import Table
from kdnb.course.text import markdown_table, percent
from kdnb.experiment.saliency_study import RANDOM, Measured

NEAR = 0.8  # of a trained network's similarity: then random weights are not far below


def measured_table(measured: Mapping[str, Measured], over: str, dataset: str, kind: str) -> Table:
    """What was measured of each model by kind of map: means over images, intervals over seeds.

    ``over`` names the model against which gains are counted.
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
    return Table(markdown_table(["map", "model", *measures], rows), data)


def similarity_verdict(
    similarity: Mapping[str, Measured], students: Sequence[str], alone: str
) -> Markdown:
    """Does distillation make maps similar to the teacher's? A sentence for each student.

    A gain over the student without a teacher counts where its intervals over seeds and over images
    both leave out 0.
    """
    pairs = [
        (kind, measured, m) for kind, measured in similarity.items() for m in measured.measures
    ]
    lines = []
    for label in students:
        signs = [measured.clear_gain(label, alone, m) for _, measured, m in pairs]
        more, less, total = signs.count(1), signs.count(-1), len(signs)
        lines.append(
            f"**{_verdict(more, less, total)}**: the maps of *{label}* are clearly more like the "
            f"teacher's than those of *{alone}* in {more or 'none'} of {total} comparisons "
            f"({', '.join(similarity)}, by all measures), clearly less in {less or 'none'}."
        )
    return Markdown("\n\n".join([*lines, _control(pairs, alone)]))


def _verdict(more: int, less: int, total: int) -> str:
    if more == total:
        return "Yes, by every measure"
    if more:
        return "The measures disagree" if less else "Partly"
    return "No, rather less" if less else "No clear sign"


def _control(pairs: Sequence[tuple[str, Measured, str]], alone: str) -> str:
    """Whether maps of random weights are less similar than those of a trained student."""
    blind, near = [], []
    for kind, measured, measure in pairs:
        if measured.clear_gain(alone, RANDOM, measure) != 1:
            blind.append(f"{measure} of {kind}")
        random, trained = (measured.mean(label, measure).mean for label in (RANDOM, alone))
        if random >= NEAR * trained:
            near.append(f"{measure}, {kind}: {random:.3f} against {trained:.3f}")
    text = (
        f"**The control holds**: with random weights all {len(pairs)} similarities are clearly "
        "below those of a student trained without a teacher."
    )
    if blind:
        text = (
            f"**The control fails** for {len(blind)} of {len(pairs)}: {', '.join(blind)}. There a "
            "network with random weights is not clearly less like the teacher than a trained "
            "student, so such a number says little about what a model has learnt to look at."
        )
    if near:
        text += (
            f" Little is learnt from those where random weights reach {percent(NEAR, 0)} of the "
            f"trained student's similarity ({'; '.join(near)}): there the image makes the maps "
            "alike."
        )
    return text
