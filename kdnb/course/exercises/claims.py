"""Notebook 06: what share of a gap is won back, and what a table allows one to claim."""

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


# In one case a seed has hardly a gap, in another distillation has done harm.
THREE_SEEDS = ([0.970, 0.965, 0.975], [0.812, 0.840, 0.801], [0.887, 0.890, 0.865])
SMALL_GAP = (
    [0.950, 0.900, 0.940, 0.930],
    [0.900, 0.895, 0.860, 0.880],
    [0.910, 0.915, 0.880, 0.89],
)
HARM = ([0.990, 0.980], [0.900, 0.930], [0.880, 0.920])


def my_gap_won_back(teacher, alone, distilled):
    """Three lists of accuracies, one for each seed; 1 if all of the gap is won back, 0 if none."""
    teacher, alone, distilled = (sum(group) / len(group) for group in (teacher, alone, distilled))
    # Means first: a seed whose gap is nearly 0 would make its own ratio huge.
    return (distilled - alone) / (teacher - alone)


gap_won_back = Function(
    header=Header("What share of the gap is won back?", difficulty=1, minutes=8, where=GAIN),
    solved_by=my_gap_won_back,
    hints=(
        "The gap is teacher less student alone. What part of it has the distilled student gone?",
        "Mean the seeds first or last? Think of a seed with a gap of almost 0.",
    ),
    right=my_gap_won_back,
    cases=(
        Case("four seeds, of which one has a gap of 0.005,", SMALL_GAP),
        Case("three seeds (teacher 0.970, 0.965, 0.975)", THREE_SEEDS),
        Case("two seeds with a student that distillation made worse", HARM),
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
        "mean of the ratios": "You divided seed by seed. Where a seed's gap is nearly 0 its ratio "
        "is huge and decides the mean: divide the mean gain by the mean gap.",
        "a share of the teacher's accuracy": "The gain is divided by all that the teacher gets "
        "right, most of which the student gets right alone. Divide by the gap.",
        "a share of the student's accuracy": "That is the relative gain: divide by the gap.",
        "a share of the errors": "That measures against a perfect student: divide by the gap.",
        "the wrong sign": "Distilled less alone, over teacher less alone.",
        "what is still missing": "That is the part of the gap that is left: 1 less the share.",
        "upside down": "That is the gap in units of the gain: turn the fraction over.",
        "not divided by the gap": "That is the gain itself: divide it by the gap of the teacher.",
        "distilled over teacher": "That is how close the two accuracies are, and it is near 1 "
        "even where nothing was won. Take the student alone off both.",
        "the best seeds": "The luckiest seed of each group is compared. Take means.",
        "per cent instead of a share": "All of the gap is 1 here, not 100.",
    },
    praise="Below 0 it did harm, above 1 the student passed its teacher. Gain and gap both have "
    "an error, and share the student alone: `kdnb.evaluation.statistics.share_of_gap` gives the "
    "interval (Fieller), and none where the gap itself may be 0.",
)


# Which rows of a table (alone, conventional KD, subclass KD, teacher) a claim compares.
CLAIMS = ((1, 0), (2, 0), (2, 1), (3, 1))
# Each usual mistake claims something else of it.
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
    """1 or -1 where the interval of the paired difference leaves out 0."""
    gains = (mean_interval((a - b).tolist()) for a, b in _pairs(table))
    return tuple((gain.low > 0) - (gain.high < 0) for gain in gains)


def _of_each(measure: Callable[[Tensor], Tensor]) -> Callable:
    """A reference that claims whatever this number of each side says."""
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
    + "my_allowed_claims = None  # four of 1 (a gain), -1 (a loss) or 0 (neither may be claimed)",
    solved=MADE_UP
    + """\
from kdnb.evaluation.statistics import mean_interval

compared = [(1, 0), (2, 0), (2, 1), (3, 1)]  # rows of the table, first over second
gains = [mean_interval((my_table[a] - my_table[b]).tolist()) for a, b in compared]
my_allowed_claims = [(gain.low > 0) - (gain.high < 0) for gain in gains]""",
    hints=(
        "A claim needs an interval of the *difference*, paired by seed, that leaves out 0.",
        "`kdnb.evaluation.statistics.mean_interval` of a list has `low` and `high`. The third "
        "claim has its own difference.",
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
        "means alone": "With a few seeds means differ by chance: look at the interval.",
        "one clear, the other not, so they differ": "That one gain is clear and another not does "
        "not make the two differ: the difference between them has an interval of its own.",
        "overlapping intervals": "You asked whether the intervals of the two accuracies overlap. "
        "Both students share a seed's luck: take the interval of the paired difference.",
        "best seed against best seed": "Two lucky runs are compared: take the mean difference.",
        "the wrong way round": "Gains and losses are exchanged: 1 where the *first* is better.",
        "nothing may be claimed": "An interval that excludes 0 allows a claim.",
    },
    praise="Not distinguishable does not mean no gain: these seeds do not show one. Four claims "
    "are four chances to be wrong: the course's tables adjust p for that (Holm).",
)


def _of_gains(reference: Callable) -> Callable:
    """A reference for two groups, given the gains of the small and of the large student."""
    return lambda s, sa, g, ga: reference(np.subtract(s, sa), np.subtract(g, ga))


_difference = _of_gains(paired_interval)


def _ends(small: np.ndarray, large: np.ndarray) -> tuple[float, float, float, float]:
    """Both ends of the interval of either gain."""
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
    """Accuracies in points of two students, distilled and alone, the same seeds in all four lists.

    (low, high) of how much more the small student gains than the large one.
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
        "Every seed has one number: what the small student gained less what the large one gained.",
        "From there on it is the interval of a mean: mean ± t · s / √n.",
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
        "gains not paired": "Each student is paired with itself, but not with the other: both "
        "gains come from the same teacher of a seed. Take their difference seed by seed.",
        "ends subtracted from ends": "Make one interval, of the difference seed by seed.",
        "the small student's gain alone": "That one gain is clear says nothing about the other, "
        "which may be as large. Take the difference of the two.",
        "the students alone forgotten": "The distilled students are compared. The large one was "
        "ahead before it heard a teacher: take what each has *alone* off first.",
        "gains added": "The two gains are added: how much larger is one than the other?",
        "the wrong way round": "That is how much more the *large* student gains.",
        "standard deviation instead of standard error": "This interval is where one more *seed* "
        "may fall. How sure the *mean* is takes a division by √n.",
        "normal instead of t": "1.96 holds for many seeds. Student's t for three is 4.30.",
        "only the mean": "A mean alone cannot say whether they differ: give (low, high).",
    },
    praise='Only if this interval lies above 0 does the table allow "small students gain more".',
)
