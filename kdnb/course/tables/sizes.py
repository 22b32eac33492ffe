"""What students of several sizes cost and are worth, alone and distilled."""

from collections.abc import Sequence
from dataclasses import asdict

from IPython.display import Markdown

from kdnb.course.tables.costs import below, fewer_flops
from kdnb.course.tables.table import Table
from kdnb.course.text import markdown_table, percent, points
from kdnb.experiment.size_sweep import SizeResult


def size_table(sizes: Sequence[SizeResult], distilled: str, alone: str) -> Table:
    """Students by size: cost, accuracy of each method, and what the teacher gains each of them."""
    rows = [
        [
            size.name, f"{size.cost.parameters:,}", f"{size.cost.flops / 1e6:,.3f}",
            f"{1e6 * size.latency.median:,.0f}", percent(size.mean(alone)),
            percent(size.mean(distilled)), points(size.gain(distilled, size.scores[alone])),
        ]
        for size in sizes
    ]  # fmt: skip
    head = ["student", "parameters", "MFLOPs", "µs per image", alone, distilled, "gain"]
    data = {
        "size_sweep": [
            {
                "name": size.name,
                "cost": asdict(size.cost),
                "latency": asdict(size.latency),
                "accuracy": size.scores,
            }
            for size in sizes
        ]
    }
    return Table(markdown_table(head, rows) + below({s.name: s.cost for s in sizes}), data)


def size_verdict(sizes: Sequence[SizeResult], distilled: str, alone: str) -> Markdown:
    """How small can a distilled student be and still beat the big one alone?"""
    *_, big = ascending = sorted(sizes, key=lambda size: size.cost.parameters)
    gains = [(size, size.gain(distilled, big.scores[alone])) for size in ascending]
    # The smallest that beats it, and the smallest that may be as good.
    better = next(((size, gain) for size, gain in gains if gain.low > 0), None)
    level = next(((size, gain) for size, gain in gains if gain.low <= 0 < gain.high), None)
    reference = f"*{big.name}* without a teacher ({percent(big.mean(alone))})"
    text = f"**None of them**: no distilled student clearly beats {reference}."
    if better:
        size, gain = better
        text = (
            f"**As small as {size.name}**: distilled, it beats {reference} by {points(gain)}, with "
            f"{big.cost.parameters / size.cost.parameters:.1f} times fewer parameters and "
            f"{fewer_flops(big.cost, size.cost)}."
        )
    if level and not (better and better[0].cost.parameters <= level[0].cost.parameters):
        size, gain = level
        text += (
            f" The smallest that cannot be told from it (the interval includes 0) is {size.name}: "
            f"{points(gain)}."
        )
    return Markdown(text)


def times_smaller(sizes: Sequence[SizeResult], distilled: str, alone: str) -> float | None:
    """In parameters, how many times smaller the smallest distilled student is that beats the big
    one alone; None where none of them clearly does.
    """
    big = max(sizes, key=lambda size: size.cost.parameters)
    gains = [(size.cost.parameters, size.gain(distilled, big.scores[alone])) for size in sizes]
    better = [parameters for parameters, gain in gains if gain.low > 0]
    return big.cost.parameters / min(better) if better else None
