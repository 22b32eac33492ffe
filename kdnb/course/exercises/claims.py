"""Notebook 06: the fraction of the gap that is closed, and the claims that a table allows."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from kdnb.course.exercises.choices import MEANS, NORMAL, UNPAIRED, interval_with, paired_interval
from kdnb.course.exercises.exercise import Case, Function, Header, Question
from kdnb.course.exercises.verdict import Paragraph
from kdnb.evaluation.statistics import mean_interval

NOTEBOOK = "06_answers"
GAIN = Paragraph(NOTEBOOK, "What does it gain?")
NOT_WORKED = Paragraph(NOTEBOOK, "What did not work")


def _of_means(formula: Callable) -> Callable:
    """A reference from a formula of the mean accuracies t, a and d."""
    return lambda *groups: formula(*(sum(group) / len(group) for group in groups))


def _mean_of_shares(teacher: list, alone: list, distilled: list) -> float:
    each = zip(teacher, alone, distilled, strict=True)
    return sum((d - a) / (t - a) for t, a, d in each) / len(teacher)


# In one case a seed has almost no gap, in another distillation did harm.
THREE_SEEDS = ([0.970, 0.965, 0.975], [0.812, 0.840, 0.801], [0.887, 0.890, 0.865])
SMALL_GAP = (
    [0.950, 0.900, 0.940, 0.930],
    [0.900, 0.895, 0.860, 0.880],
    [0.910, 0.915, 0.880, 0.89],
)
HARM = ([0.990, 0.980], [0.900, 0.930], [0.880, 0.920])


def my_gap_won_back(teacher, alone, distilled):
    """Fraction of the gap that is closed, from three lists with one accuracy per seed."""
    teacher, alone, distilled = (sum(group) / len(group) for group in (teacher, alone, distilled))
    # Means first: the ratio of a seed with a gap near 0 would be huge.
    return (distilled - alone) / (teacher - alone)


gap_won_back = Function(
    header=Header("What fraction of the gap is closed?", difficulty=1, minutes=8, where=GAIN),
    solved_by=my_gap_won_back,
    hints=(
        "The gap is teacher minus alone. The gain is distilled minus alone.",
        "Do you average over seeds before or after dividing? Consider a seed with a gap near 0.",
    ),
    right=my_gap_won_back,
    cases=(
        Case("four seeds, one with a gap of 0.005,", SMALL_GAP),
        Case("three seeds (teacher 0.970, 0.965, 0.975)", THREE_SEEDS),
        Case("two seeds with a student made worse by distillation", HARM),
    ),
    mistakes={
        "mean of the ratios": _mean_of_shares,
        "a share of the teacher's accuracy": _of_means(lambda t, a, d: (d - a) / t),
        "a share of the student's accuracy": _of_means(lambda t, a, d: (d - a) / a),
        "a share of the errors": _of_means(lambda t, a, d: (d - a) / (1 - a)),
        "the wrong sign": _of_means(lambda t, a, d: (a - d) / (t - a)),
        "what is still missing": _of_means(lambda t, a, d: (t - d) / (t - a)),
        "upside down": _of_means(lambda t, a, d: (t - a) / (d - a)),
        "not divided by the gap": _of_means(lambda t, a, d: d - a),
        "distilled over teacher": _of_means(lambda t, a, d: d / t),
        "the best seeds": lambda t, a, d: (max(d) - max(a)) / (max(t) - max(a)),
        "per cent instead of a share": lambda t, a, d: 100 * my_gap_won_back(t, a, d),
    },
    says={
        "mean of the ratios": "You divided seed by seed. The ratio of a seed with a gap near 0 is "
        "huge and dominates the mean. Divide the mean gain by the mean gap.",
        "a share of the teacher's accuracy": "You divided by the teacher's accuracy, most of "
        "which the student reaches alone. Divide by the gap.",
        "a share of the student's accuracy": "You computed the relative gain. Divide by the gap.",
        "a share of the errors": "You divided by the gap to a perfect student. Use the teacher's.",
        "the wrong sign": "Divide distilled minus alone by teacher minus alone.",
        "what is still missing": "You computed the fraction that is left. Subtract it from 1.",
        "upside down": "You divided the gap by the gain. Divide the gain by the gap.",
        "not divided by the gap": "You computed the gain. Divide the gain by the gap.",
        "distilled over teacher": "You divided the two accuracies, a ratio that is near 1 even "
        "without any gain. Subtract the student alone from both.",
        "the best seeds": "You compared the best seed of each group. Use the means.",
        "per cent instead of a share": "You gave per cent. The whole gap is 1 here, not 100.",
    },
    praise="Below 0 distillation did harm, above 1 the student is better than its teacher. Gain "
    "and gap both have an error and contain the student alone: `statistics.share_of_gap` gives "
    "Fieller's interval, and none where the gap is not distinguishable from 0.",
)


# Which rows of a table (alone, conventional KD, subclass KD, teacher) a claim compares.
CLAIMS = ((1, 0), (2, 0), (2, 1), (3, 1))
# Each common mistake leads to other claims.
MADE_UP = """\
my_table = torch.tensor(
    [  # accuracies in %, made up; each column is a seed
        [80.0, 84.0, 88.0],  # student alone
        [81.9, 86.0, 90.1],  # conventional KD
        [86.0, 85.5, 87.5],  # subclass KD
        [98.6, 98.7, 98.8],  # teacher
    ]
)
"""


def _pairs(table: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(seeds,) accuracies of both sides of each claim."""
    return [(table[one].double(), table[other].double()) for one, other in CLAIMS]


def _verdicts(table: Tensor) -> tuple[int, ...]:
    """1 or -1 where the interval of the paired difference excludes 0."""
    gains = (mean_interval((a - b).tolist()) for a, b in _pairs(table))
    return tuple((gain.low > 0) - (gain.high < 0) for gain in gains)


def _of_each(measure: Callable[[Tensor], Tensor]) -> Callable:
    """A reference that compares this number of both sides."""
    return lambda table: tuple(int((measure(a) - measure(b)).sign()) for a, b in _pairs(table))


def _apart(table: Tensor) -> tuple[int, ...]:
    """Where the intervals of the two accuracies do not overlap."""
    own = [[mean_interval(x.tolist()) for x in pair] for pair in _pairs(table)]
    return tuple((a.low > b.high) - (a.high < b.low) for a, b in own)


def _one_after_the_other(table: Tensor) -> tuple[int, ...]:
    first, second, _, fourth = _verdicts(table)
    return first, second, (second > first) - (second < first), fourth


allowed_claims = Question(
    header=Header("Which claims does the table allow?", difficulty=2, minutes=8, where=NOT_WORKED),
    about="the four claims",
    stub=MADE_UP
    + "my_allowed_claims = None  # four numbers: 1 (a gain), -1 (a loss), 0 (no claim allowed)",
    solved=MADE_UP
    + """\
from kdnb.evaluation.statistics import mean_interval

compared = [(1, 0), (2, 0), (2, 1), (3, 1)]  # rows of the table, first over second
gains = [mean_interval((my_table[a] - my_table[b]).tolist()) for a, b in compared]
my_allowed_claims = [(gain.low > 0) - (gain.high < 0) for gain in gains]""",
    hints=(
        "A claim needs an interval of the *difference*, paired by seed, that excludes 0.",
        "`kdnb.evaluation.statistics.mean_interval` of a list has `low` and `high`. The third "
        "claim needs its own difference.",
    ),
    right=_verdicts,
    tolerance=0,
    mistakes={
        "means alone": _of_each(torch.mean),
        "one clear, the other not, so they differ": _one_after_the_other,
        "overlapping intervals": _apart,
        "best seed against best seed": _of_each(torch.amax),
        "the wrong way round": lambda table: tuple(-sign for sign in _verdicts(table)),
        "nothing may be claimed": lambda table: (0,) * len(CLAIMS),
    },
    says={
        "means alone": "With few seeds, means differ by chance. Use the interval.",
        "one clear, the other not, so they differ": "One gain excludes 0 and the other does "
        "not. This does not show that the two differ: compute the interval of their difference.",
        "overlapping intervals": "You compared the intervals of the two accuracies. Both models "
        "share the luck of a seed, so use the interval of the paired difference.",
        "best seed against best seed": "You compared two lucky runs. Use the mean difference.",
        "the wrong way round": "You exchanged gains and losses. 1 means that the first is better.",
        "nothing may be claimed": "An interval that excludes 0 allows a claim.",
    },
    praise="Not distinguishable does not mean no gain: these seeds do not show one. Four claims "
    "are four chances of an error, so the course's tables adjust p (Holm).",
)


def _of_gains(reference: Callable) -> Callable:
    """A reference for two groups: the gains of the small and of the large student."""
    return lambda s, sa, g, ga: reference(np.subtract(s, sa), np.subtract(g, ga))


_difference = _of_gains(paired_interval)


def _ends(small: np.ndarray, large: np.ndarray) -> tuple[float, float, float, float]:
    """Both ends of the interval of each gain."""
    return *paired_interval(small, 0 * small), *paired_interval(large, 0 * large)


def _widest(small: np.ndarray, large: np.ndarray) -> tuple[float, float]:
    low, high, other_low, other_high = _ends(small, large)
    return low - other_high, high - other_low


def _end_by_end(small: np.ndarray, large: np.ndarray) -> tuple[float, float]:
    low, high, other_low, other_high = _ends(small, large)
    return low - other_low, high - other_high


# Points. Gains of both students go up and down together with the seed's teacher.
FOUR_SEEDS = (
    [84.1, 86.0, 83.2, 87.3],
    [80.0, 79.5, 80.3, 80.9],
    [90.2, 92.5, 89.0, 92.1],
    [87.9, 88.0, 87.2, 88.4],
)
THREE_OTHERS = ([71.0, 74.2, 69.9], [70.1, 71.5, 68.0], [93.0, 92.4, 91.1], [90.9, 91.2, 89.8])


def my_difference_of_gains(small, small_alone, large, large_alone):
    """(low, high) of the small student's gain minus the large student's gain.

    Four lists of accuracies in points, with the same seeds in the same order.
    """
    from scipy.special import stdtrit  # quantiles of Student's t

    small, small_alone, large, large_alone = map(
        torch.tensor, (small, small_alone, large, large_alone)
    )
    more = (small - small_alone) - (large - large_alone)  # one number for each seed
    n = len(more)
    half = stdtrit(n - 1, 0.975) * more.std().item() / n**0.5
    return more.mean().item() - half, more.mean().item() + half


difference_of_gains = Function(
    header=Header("Does the small student gain more?", difficulty=3, minutes=15, where=GAIN),
    solved_by=my_difference_of_gains,
    note=": a 95 % interval",
    hints=(
        "Each seed gives one number: the small student's gain minus the large student's gain.",
        "The interval of the mean of n such numbers is mean ± t · s / √n, with Student's t.",
    ),
    right=_difference,
    cases=(
        Case("four seeds (small 84.1, 86.0, … over 80.0, 79.5, …)", FOUR_SEEDS),
        Case("three seeds (small 71.0, 74.2, … over 70.1, 71.5, …)", THREE_OTHERS),
    ),
    mistakes={
        "gains not paired": tuple(map(_of_gains, UNPAIRED)),
        "ends subtracted from ends": (_of_gains(_widest), _of_gains(_end_by_end)),
        "the small student's gain alone": lambda s, sa, g, ga: paired_interval(s, sa),
        "the students alone forgotten": lambda s, sa, g, ga: paired_interval(s, g),
        "gains added": lambda s, sa, g, ga: _difference(s, sa, ga, g),
        "the wrong way round": lambda s, sa, g, ga: _difference(g, ga, s, sa),
        "standard deviation instead of standard error": _of_gains(
            interval_with(standard_error=False)
        ),
        "normal instead of t": tuple(_of_gains(interval_with(q)) for q in NORMAL),
        "only the mean": tuple(map(_of_gains, MEANS)),
    },
    says={
        "gains not paired": "You treated the two gains as independent. Both students of a seed "
        "have the same teacher. Take the difference of the gains seed by seed.",
        "ends subtracted from ends": "You subtracted the ends of two intervals. Compute one "
        "interval, of the difference seed by seed.",
        "the small student's gain alone": "You used the small student's gain alone. The large "
        "student's gain may be as large. Take the difference of the two gains.",
        "the students alone forgotten": "You compared the distilled students. The large student "
        "is ahead without a teacher too. Subtract each student's accuracy *alone* first.",
        "gains added": "You added the two gains. Subtract the large student's gain.",
        "the wrong way round": "You computed how much more the *large* student gains.",
        "standard deviation instead of standard error": "Your interval covers single *seeds*. "
        "The interval of the *mean* needs a division by √n.",
        "normal instead of t": "1.96 holds for many seeds. Student's t for three seeds is 4.30.",
        "only the mean": "A mean alone does not show whether the gains differ. Give (low, high).",
    },
    praise='The claim "small students gain more" is allowed only if this interval lies above 0.',
)
