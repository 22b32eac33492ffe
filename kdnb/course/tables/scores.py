"""A table of models by all metrics that suit classes of unequal size."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import torch
from IPython.display import Markdown
from torch import Tensor

from kdnb.course.tables.table import Table
from kdnb.course.text import ADJUSTED, SPLITS, listed, markdown_table, verdict
from kdnb.evaluation.metrics import calibration, class_metrics, weighted_f1
from kdnb.evaluation.statistics import Bootstrap, Interval, adjusted, constant_logits
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.results import Comparison, Run


class ScoreTable(Table):
    """Models on one split by the metrics that suit its classes, and their gains in weighted F1.

    ``logits`` holds (seeds, N, C) class logits for each row; ``labels`` (N,) are the split's.
    The last row always predicts the most frequent class of ``train_labels``. ``published`` holds
    single runs of others, weighted F1 by label, for comparison. All numbers lie in [0, 1].
    Intervals are over seeds and resampled images (`Bootstrap`), the same in every row. A row with
    other seeds than the baseline's has no gain, since the two are not paired.

    The calibration error has no interval. It adds up absolute gaps, which each resample widens by
    chance: the interval would lie too high, and exclude 0 for a perfectly calibrated model.
    """

    HEADLINE = weighted_f1

    def __init__(
        self, logits: Mapping[str, Tensor], labels: Tensor, train_labels: Tensor,
        class_names: Sequence[str], *, baseline: str, dataset: str, split: str = "test",
        resamples: int = 1000, published: Mapping[str, float] | None = None,
    ):  # fmt: skip
        if baseline not in logits:
            raise ValueError(f"the baseline must be one of {list(logits)}, got {baseline!r}")
        self.baseline, self.dataset, self.split = baseline, dataset, split
        self.images, self.resamples = len(labels), resamples
        self.published = published or {}
        self.seeds = {label: len(rows) for label, rows in logits.items()}
        constant = constant_logits(train_labels, len(labels), len(class_names))
        rows = {**logits, f"always {class_names[constant[0].argmax()]}": constant[None]}
        bootstrap, metrics = Bootstrap(labels, resamples), class_metrics(class_names)
        self.scores = {
            label: {metric.name: bootstrap.interval(metric, row) for metric in metrics}
            for label, row in rows.items()
        }
        self.calibration_error = {
            label: sum(calibration(one, labels).error for one in row) / len(row)
            for label, row in rows.items()
        }
        self.per_seed = {
            label: [self.HEADLINE(one, labels) for one in row] for label, row in logits.items()
        }
        self.gains = adjusted({
            label: bootstrap.gain(self.HEADLINE, row, logits[baseline])
            for label, row in logits.items()
            if label != baseline and len(row) == len(logits[baseline])
        })  # fmt: skip
        super().__init__(self._text(), self._data())

    def _text(self) -> str:
        columns = [*self.scores[self.baseline], "calibration error"]
        if self.published:
            columns.append(f"{self.HEADLINE.name} in the study, one run")
        rows = []
        for label, scores in self.scores.items():
            cells = [score_range(score) for score in scores.values()]
            cells.append(three_digits(self.calibration_error[label]))
            if self.published:
                other = self.published.get(label)
                cells.append(f"{other:.4f}".lstrip("0") if other else "–")
            rows.append([label, self.seeds.get(label, "–"), *cells])
        head = [f"{SPLITS[self.split]} split, {self.images:,} images", "seeds", *columns]
        note = (
            "Each score is the mean over the seeds. Its 95 % interval covers the variation between "
            "seeds and between images drawn from the same source. The part of the images comes "
            f"from a bootstrap with {self.resamples:,} resamples of these {self.images:,} images, "
            f"the same in every row. {ADJUSTED} The calibration error has no interval, because "
            "resampling biases it upwards."
        )
        parts = [markdown_table(head, rows), self._gain_table() if self.gains else "", note]
        return "\n\n".join(filter(None, parts))

    def _gain_table(self) -> str:
        head = [
            f"{self.HEADLINE.name} over {self.baseline}", "gain",
            "95 % interval over seeds and images", "verdict", "per seed",
        ]  # fmt: skip
        rows = []
        for label, gain in self.gains.items():
            pairs = zip(self.per_seed[label], self.per_seed[self.baseline], strict=True)
            rows.append([
                label, f"{gain.mean:+.3f}", f"{gain.low:+.3f} to {gain.high:+.3f}",
                verdict(gain).lower(), listed([f"{own - over:+.3f}" for own, over in pairs]),
            ])  # fmt: skip
        return markdown_table(head, rows)

    def sentence(self, label: str) -> Markdown:
        """Whether ``label`` beats the baseline, and by how much."""
        gain = self.gains[label]
        return Markdown(
            f"**{verdict(gain)}**: {label} against {self.baseline} on {self.images:,} "
            f"{SPLITS[self.split]} images: {self.HEADLINE.name} {gain.mean:+.3f} (95 % interval "
            f"over seeds and images {gain.low:+.3f} to {gain.high:+.3f}, {gain.n} seeds)."
        )

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
    """A score in [0, 1] with its interval, short enough for a table of many columns."""
    return f"{three_digits(score.mean)} ({three_digits(score.low)}–{three_digits(score.high)})"


def three_digits(share: float) -> str:
    """A fraction in [0, 1] as papers write it.

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
        logits, split.labels, experiment.transfer.labels, experiment.dataset.class_names,
        baseline=baseline, dataset=result.dataset, split=result.split,
        published=dict(experiment.task.text.published_scores),
    )  # fmt: skip
