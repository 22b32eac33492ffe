"""Students of several sizes: what each is worth, alone and with a teacher, and what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass

from kdnb.evaluation.cost import Cost, Timing, cost, require_seconds, timing
from kdnb.evaluation.statistics import Interval, adjusted, joint_interval
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import Method
from kdnb.experiment.results import Comparison


@dataclass(frozen=True)
class SizeResult:
    """One size of student: its cost, its latency on one thread, and what it gets right by method.

    ``result`` is on the test split, with the same seeds for every size.
    """

    name: str
    cost: Cost
    latency: Timing
    result: Comparison

    def mean(self, label: str) -> float:
        """The mean accuracy of one method."""
        return self.result.mean(label).mean


def gains_over(
    sizes: Sequence[SizeResult], label: str, over: str, big: SizeResult | None = None
) -> list[Interval]:
    """By how much a method beats ``over`` at each size, or that of the ``big`` size.

    p is adjusted for so many sizes, of which each could be the one that wins by chance.
    """
    pairs = [(s.result.of(label), (big or s).result.of(over)) for s in sizes]
    differences = [joint_interval(own.double() - other.double()) for own, other in pairs]
    return list(adjusted(dict(enumerate(differences))).values())


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
        latency = timing(network, image, seconds=seconds)
        sizes.append(SizeResult(name, cost(network, image), latency, result))
    return sizes
