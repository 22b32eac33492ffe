"""Notebook 06: what share of a gap is won back, and what a table allows one to claim."""

import math
from collections.abc import Callable

import torch
from scipy.special import stdtrit
from torch import Tensor

from kdnb.course.exercises.exercise import Case, Exercise, Misconception, Question
from kdnb.course.exercises.verdict import Paragraph
from kdnb.evaluation.statistics import mean_interval

NOTEBOOK = "06_answers"
GAIN = Paragraph(NOTEBOOK, "What does it gain?")
NOT_WORKED = Paragraph(NOTEBOOK, "What did not work")


def _means(*groups: list) -> tuple[float, ...]:
    return tuple(sum(group) / len(group) for group in groups)


def _won_back(teacher: list, alone: list, distilled: list) -> float:
    t, a, d = _means(teacher, alone, distilled)
    return (d - a) / (t - a)


def _mean_of_shares(teacher: list, alone: list, distilled: list) -> float:
    each = zip(teacher, alone, distilled, strict=True)
    return _means([(d - a) / (t - a) for t, a, d in each])[0]


def _of_means(formula: str) -> Callable:
    """A reference from a formula of the mean accuracies t, a and d."""
    code = compile(formula, "formula", "eval")
    return lambda *groups: eval(code, dict(zip("tad", _means(*groups), strict=True)))


# In one case a seed has hardly a gap, in another distillation has done harm.
THREE_SEEDS = ([0.970, 0.965, 0.975], [0.812, 0.840, 0.801], [0.887, 0.890, 0.865])
SMALL_GAP = (
    [0.950, 0.900, 0.940, 0.930],
    [0.900, 0.895, 0.860, 0.880],
    [0.910, 0.915, 0.880, 0.89],
)
HARM = ([0.990, 0.980], [0.900, 0.930], [0.880, 0.920])

gap_won_back = Exercise(
    key="gap_won_back",
    title="What share of the gap is won back?",
    difficulty=1,
    minutes=8,
    where=GAIN,
    stub='''\
def my_gap_won_back(teacher, alone, distilled):
    """Three lists of accuracies, one for each seed; 1 if all of the gap is won back, 0 if none."""
    ...  # your code''',
    solved='''\
def my_gap_won_back(teacher, alone, distilled):
    """Three lists of accuracies, one for each seed; 1 if all of the gap is won back, 0 if none."""
    teacher, alone, distilled = (sum(group) / len(group) for group in (teacher, alone, distilled))
    # Means first: a seed whose gap is nearly 0 would make its own ratio huge.
    return (distilled - alone) / (teacher - alone)''',
    hints=(
        "The gap is what the teacher is ahead of the student alone. What part of it has the "
        "distilled student gone?",
        "Mean the seeds first or last? Think of a seed with a gap of almost 0.",
    ),
    right=_won_back,
    cases=(
        Case("four seeds, of which one has a gap of 0.005,", SMALL_GAP),
        Case("three seeds (teacher 0.970, 0.965, 0.975)", THREE_SEEDS),
        Case("two seeds with a student that distillation made worse", HARM),
    ),
    misconceptions=(
        Misconception(
            "mean of the ratios",
            "You divided seed by seed. Where a seed's gap is nearly 0 its ratio is huge and "
            "decides the mean: divide the mean gain by the mean gap.",
            _mean_of_shares,
        ),
        Misconception(
            "a share of the teacher's accuracy",
            "The gain is divided by all that the teacher gets right, most of which the student "
            "gets right alone. Divide by the gap.",
            _of_means("(d - a) / t"),
        ),
        Misconception(
            "a share of the student's accuracy",
            "That is the relative gain over the student alone. How much was there to be won? The "
            "gap.",
            _of_means("(d - a) / a"),
        ),
        Misconception(
            "a share of the errors",
            "That is the relative reduction of errors: it measures against a perfect student, and "
            "not even the teacher is one.",
            _of_means("(d - a) / (1 - a)"),
        ),
        Misconception(
            "the wrong sign",
            "A student that distillation makes better comes out below 0: take distilled less "
            "alone over teacher less alone.",
            _of_means("(a - d) / (t - a)"),
        ),
        Misconception(
            "what is still missing",
            "That is the part of the gap that is left: 1 less the share.",
            _of_means("(t - d) / (t - a)"),
        ),
        Misconception(
            "upside down",
            "That is the gap in units of the gain: turn the fraction over.",
            _of_means("(t - a) / (d - a)"),
        ),
        Misconception(
            "not divided by the gap",
            "That is the gain itself. 0.02 is much where the teacher is 0.03 ahead, and little "
            "where it is 0.3.",
            _of_means("d - a"),
        ),
        Misconception(
            "distilled over teacher",
            "That is how close the two accuracies are, and it is near 1 even where nothing was "
            "won. Take the student alone off both.",
            _of_means("d / t"),
        ),
        Misconception(
            "the best seeds",
            "The luckiest seed of each group is compared. Take means.",
            lambda t, a, d: (max(d) - max(a)) / (max(t) - max(a)),
        ),
        Misconception(
            "per cent instead of a share",
            "All of the gap is 1 here, not 100.",
            lambda t, a, d: 100 * _won_back(t, a, d),
        ),
    ),
    praise="Below 0 it did harm, above 1 the student passed its teacher. Its interval is the "
    "gain's, divided by the gap.",
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
    key="allowed_claims",
    title="Which claims does the table allow?",
    difficulty=2,
    minutes=8,
    where=NOT_WORKED,
    stub=MADE_UP
    + "my_allowed_claims = None  # four of 1 (a gain), -1 (a loss) or 0 (neither may be claimed)",
    solved=MADE_UP
    + """\
compared = [(1, 0), (2, 0), (2, 1), (3, 1)]  # rows of the table, first over second
gains = [mean_interval((my_table[a] - my_table[b]).tolist()) for a, b in compared]
my_allowed_claims = [(gain.low > 0) - (gain.high < 0) for gain in gains]""",
    hints=(
        "A claim needs an interval of the *difference*, paired by seed, that leaves out 0.",
        "`mean_interval` of a list has `low` and `high`. The third claim has a difference of its "
        "own.",
    ),
    about="the four claims",
    right=_verdicts,
    tolerance=0,
    misconceptions=(
        Misconception(
            "means alone",
            "The larger mean wins here. With a few seeds means differ by chance: look at the "
            "interval of their difference.",
            _of_each(torch.mean),
        ),
        Misconception(
            "one clear, the other not, so they differ",
            "That one gain is clear and another not does not make the two differ: the difference "
            "between them has an interval of its own.",
            _one_after_the_other,
        ),
        Misconception(
            "overlapping intervals",
            "You asked whether the intervals of the two accuracies overlap. Both students share a "
            "seed's luck: take the interval of the paired difference.",
            _apart,
        ),
        Misconception(
            "best seed against best seed",
            "The best seed of each is compared, one run against one run.",
            _of_each(torch.amax),
        ),
        Misconception(
            "the wrong way round",
            "Gains and losses are exchanged: 1 where the *first* named is better.",
            lambda table: tuple(-sign for sign in _verdicts(table)),
        ),
        Misconception(
            "nothing may be claimed",
            "Nothing is claimed. An interval that leaves out 0 allows a claim.",
            lambda table: (0,) * len(CLAIMS),
        ),
    ),
    praise="No clear gain does not mean no gain: these seeds do not show one.",
)


def _half(values: Tensor, *, quantile: float | None = None, root: bool = True) -> float:
    n = len(values)
    quantile = stdtrit(n - 1, 0.975) if quantile is None else quantile
    return quantile * values.std().item() / (math.sqrt(n) if root else 1)


def _paired(groups: tuple) -> tuple[Tensor, Tensor]:
    """(seeds,) gains of the small and of the large student."""
    small, small_alone, large, large_alone = (torch.tensor(g, dtype=torch.float64) for g in groups)
    return small - small_alone, large - large_alone


def _around(values: Tensor, half: float) -> tuple[float, float]:
    return values.mean().item() - half, values.mean().item() + half


def _difference(*groups: list) -> tuple[float, float]:
    small, large = _paired(groups)
    return _around(small - large, _half(small - large))


def _unpaired_gains(*groups: list) -> tuple[float, float]:
    """The two gains as if of unrelated seeds, with Student's t of all of them."""
    small, large = _paired(groups)
    n = len(small)
    spread = math.sqrt((small.var() + large.var()).item() / n)
    return _around(small - large, stdtrit(2 * n - 2, 0.975) * spread)


def _ends(*groups: list) -> tuple[float, float, float, float]:
    small, large = _paired(groups)
    return *_around(small, _half(small)), *_around(large, _half(large))


# Points. Gains of both students go up and down together with the seed's teacher.
FOUR_SEEDS = (
    [84.1, 86.0, 83.2, 87.3],
    [80.0, 79.5, 80.3, 80.9],
    [90.2, 92.5, 89.0, 92.1],
    [87.9, 88.0, 87.2, 88.4],
)
THREE_OTHERS = ([71.0, 74.2, 69.9], [70.1, 71.5, 68.0], [93.0, 92.4, 91.1], [90.9, 91.2, 89.8])

difference_of_gains = Exercise(
    key="difference_of_gains",
    title="Does the small student gain more?",
    difficulty=3,
    minutes=15,
    where=GAIN,
    stub='''\
def my_difference_of_gains(small, small_alone, large, large_alone):
    """Accuracies in points of two students, distilled and alone, the same seeds in all four lists.

    (low, high) of how much more the small student gains than the large one.
    """
    ...  # your code: a 95 % interval''',
    solved='''\
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
    return more.mean().item() - half, more.mean().item() + half''',
    hints=(
        "Every seed has one number: what the small student gained less what the large one gained.",
        "From there on it is the interval of a mean: mean ± t · s / √n.",
    ),
    right=_difference,
    cases=(
        Case("four seeds (small 84.1, 86.0, … over 80.0, 79.5, …)", FOUR_SEEDS),
        Case("three seeds (small 71.0, 74.2, … over 70.1, 71.5, …)", THREE_OTHERS),
    ),
    misconceptions=(
        Misconception(
            "gains not paired",
            "Each student is paired with itself, but not with the other: both gains come from the "
            "same teacher of a seed. Take their difference seed by seed.",
            (
                _unpaired_gains,
                lambda *g: _around(
                    _paired(g)[0] - _paired(g)[1], math.hypot(*map(_half, _paired(g)))
                ),
            ),
        ),
        Misconception(
            "ends subtracted from ends",
            "Ends of intervals cannot be subtracted: they are not met together. Make one interval, "
            "of the difference.",
            (
                lambda *g: (_ends(*g)[0] - _ends(*g)[3], _ends(*g)[1] - _ends(*g)[2]),
                lambda *g: (_ends(*g)[0] - _ends(*g)[2], _ends(*g)[1] - _ends(*g)[3]),
            ),
        ),
        Misconception(
            "the small student's gain alone",
            "That one gain is clear says nothing about the other, which may be as large. Take the "
            "difference of the two.",
            lambda *g: _ends(*g)[:2],
        ),
        Misconception(
            "the students alone forgotten",
            "The distilled students are compared. The large one was ahead before it heard a "
            "teacher: take what each has *alone* off first.",
            lambda s, _, g, __: _difference(s, [0.0] * len(s), g, [0.0] * len(g)),
        ),
        Misconception(
            "gains added",
            "The two gains are added. Asked for is how much larger one is than the other.",
            lambda s, sa, g, ga: _difference(s, sa, ga, g),
        ),
        Misconception(
            "the wrong way round",
            "That is how much more the *large* student gains.",
            lambda s, sa, g, ga: _difference(g, ga, s, sa),
        ),
        Misconception(
            "standard deviation instead of standard error",
            "This interval is where one more *seed* may fall. How sure the *mean* is takes a "
            "subclass_config by √n.",
            lambda *g: _around(
                _paired(g)[0] - _paired(g)[1], _half(_paired(g)[0] - _paired(g)[1], root=False)
            ),
        ),
        Misconception(
            "normal instead of t",
            "1.96 holds for many seeds. With few, Student's t is wider: 4.30 for three.",
            tuple(
                lambda *g, q=q: _around(
                    _paired(g)[0] - _paired(g)[1], _half(_paired(g)[0] - _paired(g)[1], quantile=q)
                )
                for q in (1.959964, 1.96, 2.0)
            ),
        ),
        Misconception(
            "only the mean",
            "Whether the difference is real, a mean alone cannot say: give (low, high).",
            (
                lambda *g: (_paired(g)[0] - _paired(g)[1]).mean().item(),
                lambda *g: ((_paired(g)[0] - _paired(g)[1]).mean().item(),) * 2,
            ),
        ),
    ),
    praise='Only if this interval lies above 0 does the table allow "small students gain more".',
)
