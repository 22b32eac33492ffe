"""Results as tables for the reader, and as data for whoever collects them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from IPython.display import Markdown
from torch import Tensor

from kdnb.course.report.protocol import OTHER_DATA, RESULTS
from kdnb.course.text import (
    SPLITS,
    in_table,
    listed,
    percent,
    percent_range,
    points,
    verdict,
)
from kdnb.data.dataset import PROJECT
from kdnb.evaluation.metrics import Interval, calibration, mean_interval
from kdnb.evaluation.statistics import Bootstrap, class_metrics, constant_logits, weighted_f1
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.results import Comparison, Run

REFERENCE = PROJECT / "report" / "reference"


class ResultTable:
    """A comparison as a table for the reader, and as data for whoever collects results.

    ``teachers`` are their accuracies, ``constant`` the label and accuracy of a constant answer.
    """

    def __init__(
        self,
        comparison: Comparison,
        baseline: str,
        teachers: Sequence[float] = (),
        constant: tuple[str, float] | None = None,
    ):
        self.comparison, self.baseline, self.teachers = comparison, baseline, list(teachers)
        self.constant = constant

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
        if self.constant:
            label, share = self.constant
            wrong = round((1 - share) * c.images)
            rows.append(f"| {in_table(label)} | {percent(share)} | – | {wrong} | – |")
        return "\n".join(rows)

    def _row(self, label: str, accuracies: Sequence[float], gain: str) -> str:
        mean = mean_interval(accuracies)
        errors = listed([f"{round((1 - a) * self.comparison.images)}" for a in accuracies])
        cells = in_table(label), percent(mean.mean), percent_range(mean), errors, gain
        return f"| {' | '.join(cells)} |"

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


class ScoreTable:
    """Models on one split by the metrics that fit its classes, and their gains in weighted F1.

    ``logits`` holds (seeds, N, C) class logits for each row; ``labels`` (N,) are the split's.
    A last row is the constant answer: the most frequent class of ``train_labels``. ``published``
    are single runs of others, weighted F1 by label, to stand beside it. All numbers lie in [0, 1].
    Intervals are over resampled images (`Bootstrap`), the same ones in every row.

    The calibration error has none. It adds up absolute gaps, and each resample widens the gaps by
    chance: the interval would lie too high, and leave out 0 for a model calibrated to perfection.
    """

    HEADLINE = weighted_f1

    def __init__(
        self,
        logits: Mapping[str, Tensor],
        labels: Tensor,
        train_labels: Tensor,
        class_names: Sequence[str],
        *,
        baseline: str,
        dataset: str,
        split: str = "test",
        resamples: int = 1000,
        published: Mapping[str, float] | None = None,
    ):
        if baseline not in logits:
            raise ValueError(f"the baseline must be one of {list(logits)}, got {baseline!r}")
        self.baseline, self.dataset, self.split = baseline, dataset, split
        self.images, self.resamples = len(labels), resamples
        self.published = published or {}
        self.seeds = {label: len(rows) for label, rows in logits.items()}
        constant = constant_logits(train_labels, len(labels), len(class_names))
        self.constant = f"always {class_names[constant[0].argmax()]}"
        rows = {**logits, self.constant: constant[None]}
        bootstrap = Bootstrap(labels, resamples)
        self.scores = {
            label: {
                metric.name: bootstrap.interval(metric, row)
                for metric in class_metrics(class_names)
            }
            for label, row in rows.items()
        }
        self.calibration_error = {
            label: sum(calibration(one, labels).error for one in row) / len(row)
            for label, row in rows.items()
        }
        self.per_seed = {
            label: [self.HEADLINE(one, labels) for one in row] for label, row in logits.items()
        }
        self.gains = {
            label: bootstrap.gain(self.HEADLINE, row, logits[baseline])
            for label, row in logits.items()
            if label != baseline
        }

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict:
        table = self._markdown()
        return {"text/markdown": table, "text/plain": table, RESULTS: self._data()}

    def _markdown(self) -> str:
        metrics = list(self.scores[self.baseline])
        columns = [*metrics, "calibration error"]
        if self.published:
            columns.append(f"{self.HEADLINE.name} in the study, one run")
        rows = [
            f"| {SPLITS[self.split]} split, {self.images:,} images | seeds "
            f"| {' | '.join(columns)} |",
            "| --- " * (2 + len(columns)) + "|",
        ]
        for label, scores in self.scores.items():
            cells = [score_range(score) for score in scores.values()]
            cells.append(three_digits(self.calibration_error[label]))
            if self.published:
                other = self.published.get(label)
                cells.append(f"{other:.4f}".lstrip("0") if other else "–")
            rows.append(
                f"| {in_table(label)} | {self.seeds.get(label, '–')} | {' | '.join(cells)} |"
            )
        if self.gains:
            rows += [
                "",
                f"| {self.HEADLINE.name} over {self.baseline} | gain | interval over images "
                "| interval over seeds | in words | per seed |",
                "| --- | --- | --- | --- | --- | --- |",
            ]
        for label, gain in self.gains.items():
            seeds = self._over_seeds(label)
            rows.append(
                f"| {in_table(label)} | {gain.mean:+.3f} | {gain.low:+.3f} to {gain.high:+.3f} "
                f"| {f'{seeds.low:+.3f} to {seeds.high:+.3f}' if seeds else '–'} "
                f"| {self.verdict(label).lower()} | {self._gain_per_seed(label)} |"
            )
        rows += [
            "",
            "Each number is the mean over the seeds. Its 95 % interval says how far other images "
            "drawn from the same source could move it (percentile bootstrap, "
            f"{self.resamples:,} resamples of these {self.images:,} images, the same in every "
            "row). How far other seeds could move a gain is said beside it (Student's t); in words "
            "it is a gain where both intervals leave out 0. The calibration error has no interval: "
            "resampling makes it larger.",
        ]
        return "\n".join(rows)

    def verdict(self, label: str) -> str:
        """What may be said of the gain: images and seeds must both speak for it."""
        seeds = self._over_seeds(label)
        if seeds and not seeds.excludes_zero:
            return verdict(seeds)
        return verdict(self.gains[label])

    def sentence(self, label: str) -> Markdown:
        """Whether ``label`` beats the baseline, and by how much."""
        gain, seeds = self.gains[label], self._over_seeds(label)
        text = (
            f"**{self.verdict(label)}**: {label} against {self.baseline} on {self.images:,} "
            f"{SPLITS[self.split]} images: {self.HEADLINE.name} {gain.mean:+.3f} "
            f"(95 % interval over images {gain.low:+.3f} to {gain.high:+.3f}"
        )
        if seeds:
            text += f", over {seeds.n} seeds {seeds.low:+.3f} to {seeds.high:+.3f}"
        return Markdown(text + ").")

    def _over_seeds(self, label: str) -> Interval | None:
        """The paired gain over seeds; None where there are not two seeds in common."""
        values, over = self.per_seed[label], self.per_seed[self.baseline]
        if len(values) != len(over) or len(values) < 2:
            return None
        return mean_interval([v - o for v, o in zip(values, over, strict=True)])

    def _gain_per_seed(self, label: str) -> str:
        values, over = self.per_seed[label], self.per_seed[self.baseline]
        if len(values) != len(over):
            return "–"
        return listed([f"{v - o:+.3f}" for v, o in zip(values, over, strict=True)])

    def _data(self) -> dict:
        return {
            "dataset": self.dataset,
            "split": self.split,
            "images": self.images,
            "resamples": self.resamples,
            "seeds": self.seeds,
            "scores": {
                label: {name: asdict(score) for name, score in scores.items()}
                for label, scores in self.scores.items()
            },
            "calibration_error": self.calibration_error,
            "gain_over": self.baseline,
            "gain_in": self.HEADLINE.name,
            "per_seed": self.per_seed,
            "gain": {label: asdict(gain) for label, gain in self.gains.items()},
        }


def score_range(score: Interval) -> str:
    """A score in [0, 1] with its interval, as short as a table of many columns needs it."""
    return f"{three_digits(score.mean)} ({three_digits(score.low)}–{three_digits(score.high)})"


def three_digits(share: float) -> str:
    """A share in [0, 1] as papers write it.

    >>> three_digits(0.8276), three_digits(1.0)
    ('.828', '1.000')
    """
    return f"{share:.3f}".removeprefix("0")


def score_table(
    experiment: Experiment, result: Comparison, baseline: str, teachers: Mapping[str, list[Run]]
) -> ScoreTable:
    """The scores of a comparison's students and of some teachers by label, on its split."""
    split = getattr(experiment.dataset, result.split)
    logits = {
        label: torch.stack([experiment.class_logits(run, split) for run in runs])
        for label, runs in {**teachers, **result.runs}.items()
    }
    return ScoreTable(
        logits,
        split.labels,
        experiment.transfer.labels,
        experiment.dataset.class_names,
        baseline=baseline,
        dataset=result.dataset,
        split=result.split,
        published=dict(experiment.task.text.published_scores),
    )


@dataclass(frozen=True)
class Divided:
    """One teacher's subclasses on one split: how many are used, and what they recover.

    ``recovered`` is None where the true subclasses are not known.
    """

    seed: int
    live: int
    recovered: float | None
    accuracy: float


class DivisionTable:
    """Ways for a teacher to divide its classes, side by side over seeds."""

    def __init__(
        self,
        divided: Mapping[str, Sequence[Divided]],
        outputs: int,
        dataset: str,
        constant: tuple[str, float] | None = None,
    ):
        self.divided, self.outputs, self.dataset = divided, outputs, dataset
        self.constant = constant

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
            live = listed([str(d.live) for d in teachers])
            accuracies = mean_interval([d.accuracy for d in teachers])
            found = [d.recovered for d in teachers if d.recovered is not None]
            cells = "– | – | –"
            if found:
                recovered = mean_interval(found)
                each = listed([f"{100 * share:.0f}" for share in found])
                cells = f"{percent(recovered.mean, 1)} | {percent_range(recovered, 1)} | {each}"
            share = percent(accuracies.mean)
            rows.append(f"| {in_table(label)} | {live} of {self.outputs} | {cells} | {share} |")
        if self.constant:
            rows.append(
                f"| {in_table(self.constant[0])} | – | – | – | – | {percent(self.constant[1])} |"
            )
        return "\n".join(rows)


def constant_answer(experiment: Experiment, split: str = "test") -> tuple[str, float] | None:
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
            f"| {in_table(label)} | {percent(sum(values) / len(values))} "
            f"| {points(Interval(**gain)) if gain else '–'} |"
        )
    rows.append(
        f"\nNot computed here: kept from a run on {origin['date'][:10]}, {origin['device']}, "
        f"torch {origin['torch']} (`report/reference/{name}.json`)."
    )
    return Markdown("\n".join(rows), metadata={OTHER_DATA: True})
