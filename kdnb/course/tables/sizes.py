"""What students of several sizes cost and are worth, alone and distilled."""

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
    """Students by size: cost, accuracy of each method, and what the teacher gains each of them.

    ``plain`` is what baselines without a network get right, (N,) bool by label.
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
    head = ["student", "parameters", "MFLOPs", "µs per image", alone, distilled, "gain", "in words"]
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
    """How small can a distilled student be and still beat the big one alone?"""
    *_, big = ascending = sorted(sizes, key=lambda size: size.cost.parameters)
    gains = list(zip(ascending, gains_over(ascending, distilled, alone, big), strict=True))
    # The smallest that beats it, and the smallest that may be as good.
    better = next(((size, gain) for size, gain in gains if gain.sign > 0), None)
    level = next(((size, gain) for size, gain in gains if gain.sign == 0), None)
    reference = f"*{big.name}* without a teacher ({percent(big.mean(alone))})"
    text = f"**None of them**: no distilled student is distinguishably better than {reference}."
    if better:
        size, gain = better
        text = (
            f"**As small as {size.name}**: distilled, it beats {reference} by {points(gain)}, with "
            f"{big.cost.parameters / size.cost.parameters:.1f} times fewer parameters and "
            f"{fewer_flops(big.cost, size.cost)}."
        )
    if level and not (better and better[0].cost.parameters <= level[0].cost.parameters):
        size, gain = level
        text += f" The smallest that is not distinguishable from it is {size.name}: {points(gain)}."
    return Markdown(f"{text} {ADJUSTED}")


def times_smaller(sizes: Sequence[SizeResult], distilled: str, alone: str) -> float | None:
    """In parameters, how many times smaller the smallest distilled student is that beats the big
    one alone; None where none of them clearly does.
    """
    big = max(sizes, key=lambda size: size.cost.parameters)
    gains = zip(sizes, gains_over(sizes, distilled, alone, big), strict=True)
    better = [size.cost.parameters for size, gain in gains if gain.sign > 0]
    return big.cost.parameters / min(better) if better else None
