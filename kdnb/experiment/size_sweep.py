"""Students of several sizes: accuracy alone and with a teacher, and cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from kdnb.evaluation.cost import Cost, Timing, cost, require_seconds, timing
from kdnb.evaluation.statistics import Interval, adjusted, joint_interval
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import Method
from kdnb.experiment.results import Comparison


@dataclass(frozen=True)
class SizeResult:
    """One size of student: its cost, its latency on one thread, and its predictions by method.

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
    """A method's gain over ``over`` at each size, or over ``over`` at the ``big`` size.

    p is Holm-adjusted for the number of sizes, since each could win by chance.
    """
    pairs = [(s.result.of(label), (big or s).result.of(over)) for s in sizes]
    differences = [joint_interval(own.double() - other.double()) for own, other in pairs]
    return list(adjusted(dict(enumerate(differences))).values())


def size_sweep(
    experiment: Experiment, methods: Sequence[Method], seeds: Sequence[int], seconds: float
) -> list[SizeResult]:
    """Train every size of student by every method, and measure its cost.

    For networks in stages only the heads are trained, the first stage of training. ``seconds``
    limits each measurement of latency, which is for one image on one thread of the CPU. Raises
    ValueError, before anything is trained, unless ``seconds`` is a positive number.
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
