"""Students of several sizes: what each is worth, alone and with a teacher, and what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass

from kdnb.evaluation.cost import Cost, Timing, cost, require_seconds, timing
from kdnb.evaluation.statistics import Interval, mean_interval
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import Method
from kdnb.experiment.results import Run


@dataclass(frozen=True)
class SizeResult:
    """One size of student: its cost, its latency on one thread, and its runs by method.

    ``scores`` are test accuracies in [0, 1], in the same order of seeds for every size.
    """

    name: str
    cost: Cost
    latency: Timing
    scores: dict[str, list[float]]
    runs: dict[str, list[Run]]

    def mean(self, label: str) -> float:
        """The mean accuracy of one method."""
        return sum(self.scores[label]) / len(self.scores[label])

    def gain(self, label: str, over: Sequence[float]) -> Interval:
        """The paired difference of one method here and other scores, with its interval."""
        return mean_interval([a - b for a, b in zip(self.scores[label], over, strict=True)])


def size_sweep(
    experiment: Experiment, methods: Sequence[Method], seeds: Sequence[int], seconds: float
) -> list[SizeResult]:
    """Train every size of student by every method, and measure what it costs.

    Of networks in stages only the first stage is trained, for the heads. ``seconds`` limits each
    measurement of latency, which is for one image on one thread of the CPU. Raises ValueError,
    before anything is trained, unless it is a positive number.
    """
    require_seconds(seconds)
    image = experiment.dataset.test.images[:1] / 255
    sizes = []
    for name, student in experiment.task.sizes.students:
        result = experiment.with_student(student, next_stage=None).compare(methods, seeds)
        network = student(num_classes=experiment.num_classes)
        scores = {label: result.accuracy(label).tolist() for label in result.labels}
        latency = timing(network, image, seconds=seconds)
        sizes.append(SizeResult(name, cost(network, image), latency, scores, result.runs))
    return sizes
