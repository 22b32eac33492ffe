"""Costs of models: parameters, arithmetic, memory, time, energy."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from IPython.display import Markdown

from kdnb.course.tables.table import Table
from kdnb.course.text import markdown_table
from kdnb.evaluation.cost import Cost, Timing


def cost_table(
    costs: Mapping[str, Cost], timings: Mapping[str, Sequence[Timing]],
    joules: Mapping[str, float | None], image_shape: tuple[int, ...],
) -> Table:  # fmt: skip
    """Each model's cost. By label: a timing for each setting, and ``joules`` per image."""
    height, width = image_shape[1:]
    head = [
        f"one image of {height} × {width}", "parameters", "MFLOPs", "million multiply-adds",
        "the same, by thop", "MB on disk", "peak activations, kB",
    ]  # fmt: skip
    counted = [
        [
            label, f"{c.parameters:,}", f"{c.flops / 1e6:,.2f}", f"{c.macs / 1e6:,.2f}",
            "failed" if c.thop_macs is None else f"{c.thop_macs / 1e6:,.2f}",
            f"{c.stored_bytes / 1e6:.2f}", f"{c.activation_bytes / 1e3:,.0f}",
        ]
        for label, c in costs.items()
    ]  # fmt: skip
    settings = [f"batch of {t.batch}, {_where(t)}" for t in next(iter(timings.values()))]
    measured = []
    for label, each in timings.items():
        energy = "not shown" if joules[label] is None else f"{1000 * joules[label]:.2f}"
        measured.append([label, *map(_time, each), energy])
    tables = [
        markdown_table(head, counted),
        markdown_table(["measured here", *settings, "mJ per image"], measured),
        "Times are medians, with quartiles in brackets. Energy is that of the whole processor, and "
        "is shown only where the machine gives access to it.",
    ]
    data = {
        "image_shape": list(image_shape),
        "cost": {label: asdict(cost) for label, cost in costs.items()},
        "timing": {label: [asdict(t) for t in each] for label, each in timings.items()},
        "joules_per_image": dict(joules),
    }
    return Table("\n\n".join(tables) + below(costs), data)


def not_counted(costs: Mapping[str, Cost]) -> str:
    """A sentence that names the operations not counted; empty where all are counted."""
    labels: dict[tuple[str, ...], list[str]] = {}
    for label, cost in costs.items():
        if cost.uncounted:
            labels.setdefault(cost.uncounted, []).append(label)
    if not labels:
        return ""
    named = "; ".join(
        f"{', '.join(f'`{name}`' for name in names)} ({', '.join(where)})"
        for names, where in labels.items()
    )
    return f"Not counted: {named}. FLOPs and multiply-adds of these models are lower bounds."


def below(costs: Mapping[str, Cost]) -> str:
    """The end of a table or list of costs: a sentence on operations not counted, if any."""
    sentence = not_counted(costs)
    return f"\n\n{sentence}" if sentence else ""


def fewer_flops(big: Cost, small: Cost) -> str:
    """How many times fewer FLOPs, of those counted, one model takes than another."""
    if not small.flops:
        return "no counted FLOPs"
    counted = "counted " if big.uncounted or small.uncounted else ""
    return f"{big.flops / small.flops:.1f} times fewer {counted}FLOPs"


def counts_compared(costs: Mapping[str, Cost]) -> Markdown:
    """Why thop and kdnb count different numbers of multiply-adds, model by model."""
    lines = [f"- {label}: {_count_compared(cost)}" for label, cost in costs.items()]
    return Markdown("\n".join(lines) + below(costs))


def _count_compared(cost: Cost) -> str:
    if cost.thop_macs is None:
        return f"kdnb counts {cost.macs:,}; thop fails ({cost.thop_failure})."
    difference = cost.thop_macs - cost.macs
    if not difference:
        return f"both count {cost.macs:,}."
    kinds = ", ".join(f"{kind} {ops / 1e6:,.2f}" for kind, ops in cost.thop_extra.items())
    if difference == sum(cost.thop_extra.values()):
        return (
            f"thop counts {difference / 1e6:,.2f} million more, all of them in layers that "
            f"multiply no weights ({kinds})."
        )
    return (
        f"thop counts {cost.thop_macs:,} and kdnb {cost.macs:,}. thop's counts for layers other "
        f"than convolutional and dense ones, in millions ({kinds or 'none'}), do not explain the "
        "difference. thop counts nothing for a layer without a rule, such as attention: **trust "
        "neither number** until you have counted by hand."
    )


def _where(timing: Timing) -> str:
    if timing.device != "cpu":
        return timing.device.upper()
    return "one thread" if timing.threads == 1 else f"{timing.threads} threads"


def _time(timing: Timing) -> str:
    if timing.batch == 1:
        low, median, high = (1000 * t for t in (timing.low, timing.median, timing.high))
        return f"{median:.2f} ms ({low:.2f} to {high:.2f})"
    slow, fast = timing.batch / timing.high, timing.batch / timing.low
    return f"{timing.images_per_second:,.0f} images/s ({slow:,.0f} to {fast:,.0f})"
