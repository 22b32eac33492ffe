"""Sentences made from numbers, so that no text in a notebook can contradict its own run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from IPython.display import Markdown

from kdnb.course.protocol import RESULTS
from kdnb.data import Dataset
from kdnb.data.dataset import PROJECT
from kdnb.experiment import Comparison, Experiment, Run
from kdnb.metrics import Interval, mean_interval

REFERENCE = PROJECT / "report" / "reference"
SPLITS = {"train": "training", "val": "validation", "test": "test"}


def percent(share: float, digits: int = 2) -> str:
    """A share in [0, 1] as a percentage.

    >>> percent(0.98765)
    '98.77 %'
    """
    return f"{100 * share:.{digits}f} %"


def points(interval: Interval) -> str:
    """A difference of shares with its interval, in percentage points."""
    return (
        f"{100 * interval.mean:+.2f} points "
        f"(95 % interval {100 * interval.low:+.2f} to {100 * interval.high:+.2f}, "
        f"{interval.n} seeds)"
    )


def gain_sentence(comparison: Comparison, label: str, over: str) -> str:
    """Whether ``label`` beats ``over`` on this split, and by how much."""
    gain = comparison.gain(label, over)
    where = f"on {comparison.images:,} {SPLITS[comparison.split]} images"
    if not gain.excludes_zero:
        return f"**No clear gain**: {label} against {over} {where}: {points(gain)}."
    verdict = "A gain" if gain.mean > 0 else "A loss"
    return f"**{verdict}**: {label} against {over} {where}: {points(gain)}."


class ResultTable:
    """A comparison as a table for the reader, and as data for whoever collects results."""

    def __init__(self, comparison: Comparison, baseline: str, teachers: Sequence[float] = ()):
        self.comparison, self.baseline, self.teachers = comparison, baseline, list(teachers)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict:
        table = self._markdown()
        return {"text/markdown": table, "text/plain": table, RESULTS: self._data()}

    def _markdown(self) -> str:
        c = self.comparison
        rows = [
            f"| {SPLITS[c.split]} split, {c.images:,} images, {len(c.seeds)} seeds | accuracy "
            f"| 95 % interval | errors per seed | gain over {self.baseline} |",
            "| --- | --- | --- | --- | --- |",
        ]
        if self.teachers:
            rows.append(self._row("teacher", self.teachers, "–"))
        for label in c.labels:
            gain = "–" if label == self.baseline else points(c.gain(label, self.baseline))
            rows.append(self._row(label, c.accuracy(label).tolist(), gain))
        return "\n".join(rows)

    def _row(self, label: str, accuracies: Sequence[float], gain: str) -> str:
        mean = mean_interval(accuracies)
        errors = ", ".join(f"{round((1 - a) * self.comparison.images)}" for a in accuracies)
        return (
            f"| {label} | {percent(mean.mean)} | {percent(mean.low)} to {percent(mean.high)} "
            f"| {errors} | {gain} |"
        )

    def _data(self) -> dict:
        c = self.comparison
        accuracies = {label: c.accuracy(label).tolist() for label in c.labels}
        others = [label for label in c.labels if label != self.baseline]
        return {
            "dataset": c.dataset,
            "split": c.split,
            "images": c.images,
            "seeds": list(c.seeds),
            "accuracy": {**({"teacher": self.teachers} if self.teachers else {}), **accuracies},
            "gain_over": self.baseline,
            "gain": {label: asdict(c.gain(label, self.baseline)) for label in others},
        }


@dataclass(frozen=True)
class Divided:
    """One teacher's subclasses on one split: how many are used, and what they recover."""

    seed: int
    live: int
    recovered: float
    accuracy: float


class DivisionTable:
    """Ways for a teacher to divide its classes, side by side over seeds."""

    def __init__(self, divided: Mapping[str, Sequence[Divided]], outputs: int, dataset: str):
        self.divided, self.outputs, self.dataset = divided, outputs, dataset

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict:
        table = self._markdown()
        data = {
            "dataset": self.dataset,
            "subclass_outputs": self.outputs,
            "divisions": {k: [asdict(d) for d in v] for k, v in self.divided.items()},
        }
        return {"text/markdown": table, "text/plain": table, RESULTS: data}

    def _markdown(self) -> str:
        rows = [
            "| the teacher is trained with | live subclasses per seed "
            "| true subclasses recovered | 95 % interval | per seed | class accuracy |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for label, teachers in self.divided.items():
            recovered = mean_interval([d.recovered for d in teachers])
            live = ", ".join(str(d.live) for d in teachers)
            each = ", ".join(f"{100 * d.recovered:.0f}" for d in teachers)
            accuracies = mean_interval([d.accuracy for d in teachers])
            highest = min(recovered.high, 1.0)  # Student's t knows no upper end
            rows.append(
                f"| {label} | {live} of {self.outputs} | {percent(recovered.mean, 1)} "
                f"| {percent(recovered.low, 1)} to {percent(highest, 1)} | {each} "
                f"| {percent(accuracies.mean)} |"
            )
        return "\n".join(rows)


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
    origin = record["provenance"]
    rows = [
        f"| {dataset}, {SPLITS[result['split']]} split, {result['images']:,} images, "
        f"{len(result['seeds'])} seeds | accuracy | gain over {result['gain_over']} |",
        "| --- | --- | --- |",
    ]
    # A notebook's outputs are stored with sorted names; the teacher and the baseline go first.
    first = [name for name in ("teacher", result["gain_over"]) if name in result["accuracy"]]
    for label in [*first, *sorted(set(result["accuracy"]) - set(first))]:
        values, gain = result["accuracy"][label], result["gain"].get(label)
        rows.append(
            f"| {label} | {percent(sum(values) / len(values))} "
            f"| {points(Interval(**gain)) if gain else '–'} |"
        )
    rows.append(
        f"\nNot computed here: kept from a run on {origin['date'][:10]}, {origin['device']}, "
        f"torch {origin['torch']} (`report/reference/{name}.json`)."
    )
    return Markdown("\n".join(rows))


def sweep_sentence(comparison: Comparison, labels: Sequence[str]) -> Markdown:
    """Which setting was best on average, and which others cannot be told from it."""
    best = max(labels, key=lambda label: comparison.accuracy(label).mean().item())
    alike, worse = [], []
    for label in labels:
        if label != best:
            behind = comparison.gain(best, label)
            (worse if behind.excludes_zero else alike).append(label)
    text = (
        f"Best on average: **{best}** with {percent(comparison.mean(best).mean)} over "
        f"{len(comparison.seeds)} seeds on {comparison.images:,} "
        f"{SPLITS[comparison.split]} images. "
    )
    if alike:
        text += f"Not to be told from it (the paired interval includes 0): {', '.join(alike)}. "
    if worse:
        text += f"Behind it by an interval that leaves 0 out: {', '.join(worse)}."
    return Markdown(text)


def task_card(experiment: Experiment) -> Markdown:
    """What this run is about: the data, its splits, and what was chosen for the task."""
    task, data = experiment.task, experiment.dataset
    return Markdown(
        f"**Task: {task.title}.** {data.about}: {_sizes(data)}. "
        f"A student sees {len(experiment.transfer):,} of the {len(data.train):,} training images. "
        f"{task.choices}"
    )


def provenance_card(experiment: Experiment, runs: list[Run]) -> Markdown:
    """Versions, device, seeds, data fingerprint and training time behind the numbers shown.

    A run that served several comparisons is counted once.
    """
    runs = list({run.weights: run for run in runs}.values())
    origins = sorted({run.provenance["device"] for run in runs})
    dates = sorted(run.provenance["date"][:16].replace("T", " ") for run in runs)
    first = runs[0].provenance
    seconds = sum(run.history.seconds for run in runs)
    versions = ", ".join(
        f"{name} {first[name]}" for name in ("kdnb", "python", "torch", "numpy", "scikit-learn")
    )
    return Markdown(
        "| provenance | |\n| --- | --- |\n"
        f"| dataset | {experiment.dataset.name}, fingerprint "
        f"`{experiment.dataset.fingerprint[:16]}` |\n"
        f"| seeds | {', '.join(str(s) for s in sorted({run.seed for run in runs}))} |\n"
        f"| trained | {len(runs)} model(s) in {seconds:,.0f} s, {dates[0]} to {dates[-1]} UTC |\n"
        f"| device | {'; '.join(origins)} |\n"
        f"| versions | {versions} |\n"
        f"| finished runs | {sum(run.loaded for run in runs)} of {len(runs)} came from the run "
        "store, the rest were trained here |"
    )


def _sizes(data: Dataset) -> str:
    return (
        f"{len(data.train):,} training, {len(data.val):,} validation and "
        f"{len(data.test):,} test images"
    )
