"""The page's cover: the study's poster, made from the numbers of one run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from kdnb.course.diagrams.diagram import Diagram
from kdnb.course.figures.picture import png_url
from kdnb.course.figures.saliency import overlaid
from kdnb.course.interactive.components import rendered
from kdnb.course.report.protocol import COVER
from kdnb.course.tables.costs import fewer_flops, not_counted
from kdnb.course.text import SPLITS, percent, percent_range, points, verdict
from kdnb.evaluation.cost import Cost
from kdnb.evaluation.statistics import Interval, joint_interval
from kdnb.experiment.results import Comparison

STYLE = Path(__file__).parent / "report" / "templates" / "poster.css"
SIDE = 192  # pixels, at most or about, of an image in the file; it is shown half as large


@dataclass(frozen=True)
class Cover:
    """The poster of a study. Parts that a task lacks are empty and not shown.

    ``what``, ``gain`` and ``cost`` are the answers to the three parts of the ``question``, each a
    sentence; `table_one`, `map_tiles` and `cost_bars` make ``table``, ``maps`` and ``costs``. The
    ``stamp`` says where data come from that are not real.
    """

    question: str
    what: str = ""
    idea: Diagram | None = None
    gain: str = ""
    table: Mapping | None = None
    maps: Mapping | None = None
    cost: str = ""
    costs: Mapping | None = None
    stamp: str = ""

    @property
    def data(self) -> dict:
        """What ``poster.html.j2`` shows. The diagram is markup, all other parts are text."""
        return vars(self) | {"idea": self.idea.svg if self.idea else ""}

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict:
        style = STYLE.read_text(encoding="utf-8")
        poster = rendered("poster.html.j2", cover=self.data, alone=True)
        answers = filter(None, [self.question, self.what, self.gain, self.cost])
        return {
            "text/html": f"<style>{style}</style>\n{poster}",
            "text/plain": "\n".join(answers),
            COVER: self.data,
        }


def what_it_is(temperature: float, soft_weight: float, class_names: Sequence[str]) -> str:
    """How a student learns, in a sentence."""
    source = f"its teacher's probabilities at T = {temperature:g}"
    if soft_weight < 1:
        labels = f"labels (weight {1 - soft_weight:.2g})"
        source = f"{labels} and from {source} (weight {soft_weight:g})"
    shown = "similar the wrong classes are" if len(class_names) > 2 else "certain the teacher is"
    return f"A student learns from {source}, which also show how {shown}."


def what_it_gains(result: Comparison, label: str, over: str, share: Interval | None = None) -> str:
    """The gain of a method over another, in a sentence; ``share`` is its part of the gap."""
    gain = result.gains(over)[label]
    said = verdict(gain) + " from 0" * (not gain.sign)
    closed = (
        f", {percent(share.mean, 0)} of the gap to the teacher" if share and gain.sign > 0 else ""
    )
    return f"{said}: {label} against {over}, {points(gain)}{closed}."


def what_it_costs(costs: Mapping[str, Cost], seconds: float) -> str:
    """What a student saves, and the ``seconds`` that training its teacher takes, in a sentence."""
    big, small = costs["teacher"], costs["student"]
    return (
        f"The student has {small.parameters:,} parameters, its teacher {big.parameters:,}, and "
        f"runs with {fewer_flops(big, small)}, but the teacher must be trained first "
        f"({seconds:,.1f} s)."
    )


def table_one(result: Comparison, labels: Sequence[str], over: str, teachers: Tensor) -> dict:
    """The accuracies of ``teachers`` (seeds, N) bool and of methods, and the gains ``over`` one."""
    gains, rows = result.gains(over), []
    for label, accuracy in {
        "teacher": joint_interval(teachers),
        **{label: result.mean(label) for label in labels},
    }.items():
        ends = percent_range(accuracy).replace(" %", "", 1)
        row = {"model": label, "accuracy": percent(accuracy.mean), "range": ends}
        gained = ("", "", "")
        if gain := gains.get(label):
            ends = f"{100 * gain.low:+.2f} to {100 * gain.high:+.2f}"
            gained = (f"{100 * gain.mean:+.2f}", ends, verdict(gain).lower())
        rows.append(row | dict(zip(("gain", "gain_range", "verdict"), gained, strict=True)))
    about = (
        f"{result.images:,} {SPLITS[result.split]} images, {len(result.seeds)} seeds, 95 % "
        "intervals; the verdict is Holm-adjusted."
    )
    return {"about": about, "over": over, "rows": rows}


def map_tiles(image: Tensor, maps: Mapping[str, Tensor], kind: str) -> dict:
    """Maps (H, W) by model over one image (1 or 3, H, W) uint8, with the ``kind`` of map in words.

    Large images are averaged, the pixels of small ones repeated.
    """
    size = [min(SIDE, side) for side in image.shape[1:]]
    image = F.adaptive_avg_pool2d(image.float(), size).round().to(torch.uint8)
    pictures = {"image": image}
    pictures |= {name: overlaid(image, values) for name, values in maps.items()}
    times = max(1, SIDE // max(size))
    tiles = [
        {"name": name, "png": png_url(each.repeat_interleave(times, 1).repeat_interleave(times, 2))}
        for name, each in pictures.items()
    ]
    return {"kind": kind, "tiles": tiles}


def cost_bars(costs: Mapping[str, Cost]) -> dict:
    """Parameters and FLOPs of each model, each a fraction of the largest."""
    quantities = {
        "parameters": {label: (c.parameters, f"{c.parameters:,}") for label, c in costs.items()},
        "million FLOPs per image": {
            label: (c.flops, f"{c.flops / 1e6:,.2f}") for label, c in costs.items()
        },
    }
    groups = []
    for name, values in quantities.items():
        most = max(value for value, _ in values.values()) or 1
        bars = [
            {"model": label, "value": said, "percent": round(100 * value / most, 1)}
            for label, (value, said) in values.items()
        ]
        groups.append({"name": name, "bars": bars})
    return {"groups": groups, "note": not_counted(costs).replace("`", "")}
