"""Cost and accuracy of students of several sizes, alone and distilled."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType

from IPython.display import Markdown
from torch import Tensor

from kdnb.course.tables.costs import below, fewer_flops
from kdnb.course.tables.table import Table
from kdnb.course.text import ADJUSTED, markdown_table, percent, points, verdict
from kdnb.experiment.size_sweep import SizeResult, gains_over


def size_table(
    sizes: Sequence[SizeResult], distilled: str, alone: str,
    plain: Mapping[str, Tensor] = MappingProxyType({}),
) -> Table:  # fmt: skip
    """Students by size: cost, accuracy of each method, and each student's gain from the teacher.

    ``plain`` (N,) bool by label marks what baselines without a network classify correctly.
    """
    gains = gains_over(sizes, distilled, alone)
    rows = [
        [
            size.name, f"{size.cost.parameters:,}", f"{size.cost.flops / 1e6:,.3f}",
            f"{1e6 * size.latency.median:,.0f}", percent(size.mean(alone)),
            percent(size.mean(distilled)), points(gain), verdict(gain).lower(),
        ]
        for size, gain in zip(sizes, gains, strict=True)
    ]  # fmt: skip
    for label, right in plain.items():
        rows.append([label, *["–"] * 3, percent(right.double().mean().item()), *["–"] * 3])
    head = ["student", "parameters", "MFLOPs", "µs per image", alone, distilled, "gain", "verdict"]
    data = {
        "size_sweep": [
            {
                "name": size.name,
                "cost": asdict(size.cost),
                "latency": asdict(size.latency),
                "accuracy": {m: size.result.accuracy(m).tolist() for m in size.result.labels},
                "gain": asdict(gain),
            }
            for size, gain in zip(sizes, gains, strict=True)
        ]
    }
    text = f"{markdown_table(head, rows)}\n\n{ADJUSTED}"
    return Table(text + below({s.name: s.cost for s in sizes}), data)


def size_verdict(sizes: Sequence[SizeResult], distilled: str, alone: str) -> Markdown:
    """How small can a distilled student be and still beat the largest student alone?"""
    *_, big = ascending = sorted(sizes, key=lambda size: size.cost.parameters)
    gains = list(zip(ascending, gains_over(ascending, distilled, alone, big), strict=True))
    # The smallest better student, and the smallest that is not distinguishable.
    better = next(((size, gain) for size, gain in gains if gain.sign > 0), None)
    level = next(((size, gain) for size, gain in gains if gain.sign == 0), None)
    reference = f"*{big.name}* without a teacher ({percent(big.mean(alone))})"
    text = f"**None**: no distilled student is distinguishably better than {reference}."
    if better:
        size, gain = better
        text = (
            f"**As small as {size.name}**: this distilled student beats {reference} by "
            f"{points(gain)}, with "
            f"{big.cost.parameters / size.cost.parameters:.1f} times fewer parameters and "
            f"{fewer_flops(big.cost, size.cost)}."
        )
    if level and not (better and better[0].cost.parameters <= level[0].cost.parameters):
        size, gain = level
        text += f" The smallest student not distinguishable from it is {size.name}: {points(gain)}."
    return Markdown(f"{text} {ADJUSTED}")


def times_smaller(sizes: Sequence[SizeResult], distilled: str, alone: str) -> float | None:
    """The largest student's parameters over those of the smallest distilled student that beats
    it; None where no distilled student clearly does.
    """
    big = max(sizes, key=lambda size: size.cost.parameters)
    gains = zip(sizes, gains_over(sizes, distilled, alone, big), strict=True)
    better = [size.cost.parameters for size, gain in gains if gain.sign > 0]
    return big.cost.parameters / min(better) if better else None
