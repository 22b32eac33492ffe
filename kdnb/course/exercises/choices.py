"""Notebook 02: choose a temperature without the test set, and say whether a gain is real."""

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

from kdnb.course.exercises.exercise import Case, Function, Header
from kdnb.course.exercises.verdict import Paragraph

NOTEBOOK = "02_conventional_distillation"
SWEEP = Paragraph(NOTEBOOK, "The temperature")
GAINED = Paragraph(NOTEBOOK, "What was gained")

# Accuracies (temperatures, seeds), made so that each mistake below chooses something else.
FOUR = ([1.0, 4.0, 8.0, 16.0], torch.tensor([
    [0.80, 0.81, 0.79], [0.88, 0.90, 0.89], [0.95, 0.83, 0.84], [0.87, 0.86, 0.87],
]), torch.tensor([
    [0.78, 0.79, 0.80], [0.85, 0.88, 0.86], [0.84, 0.85, 0.83], [0.90, 0.91, 0.92],
]))  # fmt: skip
THREE = ([2.0, 3.0, 20.0], torch.tensor([
    [0.71, 0.76], [0.99, 0.50], [0.70, 0.60],
], dtype=torch.float64), torch.tensor([
    [0.70, 0.74], [0.58, 0.62], [0.81, 0.77],
], dtype=torch.float64))  # fmt: skip


def _choosing(
    by: Callable = lambda val, test: val.mean(1),
    reported: Callable = lambda val, test: test.mean(1),
) -> Callable:
    """The temperature where ``by`` (temperatures,) is largest, and what is reported of it."""

    def choose(temperatures: list, val: Tensor, test: Tensor) -> tuple[float, float]:
        best = int(by(val, test).argmax())
        return temperatures[best], reported(val, test)[best].item()

    return choose


def my_choose_temperature(temperatures, validation, test):
    """A list of T, and (temperatures, seeds) accuracies in; the chosen T and its accuracy out."""
    best = validation.mean(dim=1).argmax()  # the test split takes no part in the choice
    return temperatures[best], test[best].mean().item()


choose_temperature = Function(
    header=Header("Choose T without the test set", difficulty=1, minutes=8, where=SWEEP),
    solved_by=my_choose_temperature,
    hints=(
        "Which split may decide, and which may only be looked at when all is decided?",
        "Each T has several seeds: their mean decides, not the luckiest.",
    ),
    right=my_choose_temperature,
    cases=(
        Case("four temperatures with three seeds", FOUR),
        Case("three temperatures with two seeds", THREE),
    ),
    mistakes={
        "chosen on the test split": _choosing(lambda val, test: test.mean(1)),
        "the luckiest seed decides": _choosing(lambda val, test: val.amax(1)),
        "validation accuracy reported": _choosing(reported=lambda val, test: val.mean(1)),
        "the best seed reported": _choosing(reported=lambda val, test: test.amax(1)),
        "both splits decide": _choosing(lambda val, test: (val + test).mean(1)),
        "the row instead of the temperature": lambda ts, val, test: my_choose_temperature(
            range(len(ts)), val, test
        ),
        "the worst instead of the best": _choosing(lambda val, test: -val.mean(1)),
    },
    says={
        "chosen on the test split": "This T is the best on the *test* images, so its accuracy "
        "flatters: they have decided and are no longer unseen. Let the validation images decide.",
        "the luckiest seed decides": "One lucky run decides here: compare means over the seeds.",
        "validation accuracy reported": "The choice is right, but the accuracy is that of the "
        "images that made it: the best of several is too high. Report the test split.",
        "the best seed reported": "You report the best seed of this T: report the mean.",
        "both splits decide": "Test images took part in the choice: their accuracy flatters.",
        "the row instead of the temperature": "That is the row: look up its temperature.",
        "the worst instead of the best": "Accuracies are to be large: `argmax`, not `argmin`.",
    },
    praise="Validation images chose, and the test split was looked at once.",
)


def students_t(n: int) -> float:
    return stdtrit(n - 1, 0.975)


NORMAL = (lambda n: 1.959964, lambda n: 1.96, lambda n: 2.0)


def interval_with(
    quantile: Callable[[int], float] = students_t,
    *,
    ddof: int = 1,
    paired: bool = True,
    standard_error: bool = True,
) -> Callable:
    """The 95 % interval of a mean difference, with a choice replaced."""

    def interval(some: list, others: list) -> tuple[float, float]:
        one, other = np.array(some), np.array(others)
        n, mean = len(one), (one - other).mean()
        both = one.var(ddof=ddof) + other.var(ddof=ddof)
        variance = (one - other).var(ddof=ddof) if paired else both
        half = quantile(n) * math.sqrt(variance / (n if standard_error else 1))
        return mean - half, mean + half

    return interval


paired_interval = interval_with()
UNPAIRED = tuple(
    interval_with(quantile, paired=False)
    for quantile in (lambda n: stdtrit(2 * n - 2, 0.975), students_t, NORMAL[0])
)
MEANS = (lambda a, b: np.mean(a) - np.mean(b), lambda a, b: (np.mean(a) - np.mean(b),) * 2)

# Points; seeds differ much more from one another than distilled and alone of the same seed.
THREE_SEEDS = ([88.0, 84.5, 91.0], [86.5, 82.2, 89.6])
FIVE_SEEDS = ([71.3, 70.2, 74.9, 77.0, 69.1], [71.0, 70.6, 73.2, 76.1, 68.3])


def my_real_gain(distilled, alone):
    """Accuracies in points, one for each seed, the same seeds in both; (low, high) of the gain."""
    from scipy.special import stdtrit  # quantiles of Student's t

    gains = torch.tensor(distilled) - torch.tensor(alone)  # paired: seed by seed
    n = len(gains)
    half = stdtrit(n - 1, 0.975) * gains.std().item() / n**0.5
    return gains.mean().item() - half, gains.mean().item() + half


real_gain = Function(
    header=Header("Is the gain real?", difficulty=2, minutes=12, where=GAINED),
    solved_by=my_real_gain,
    note=": the 95 % interval of the mean gain",
    hints=(
        "Both students of a seed share initial weights, batches and teacher. Pair them first.",
        "mean ± t · s / √n, with the sample standard deviation s of the n differences.",
        "`scipy.special.stdtrit(n - 1, 0.975)` is the t of a two-sided 95 % interval.",
    ),
    right=paired_interval,
    cases=(
        Case("three seeds, 88.0, 84.5, 91.0 over 86.5, 82.2, 89.6,", THREE_SEEDS),
        Case("five seeds, 71.3, 70.2, … over 71.0, 70.6, …,", FIVE_SEEDS),
    ),
    mistakes={
        "not paired": UNPAIRED,
        "standard deviation instead of standard error": interval_with(standard_error=False),
        "normal instead of t": tuple(map(interval_with, NORMAL)),
        "divided by n instead of n − 1": interval_with(ddof=0),
        "one-sided quantile": interval_with(lambda n: stdtrit(n - 1, 0.95)),
        "n degrees of freedom": interval_with(lambda n: stdtrit(n, 0.975)),
        "the wrong way round": lambda a, b: paired_interval(b, a),
        "the range of the seeds": lambda a, b: (np.subtract(a, b).min(), np.subtract(a, b).max()),
        "best seed against best seed": lambda a, b: (max(a) - max(b),) * 2,
        "only the mean": MEANS,
    },
    says={
        "not paired": "You took the two groups as unrelated, so luck that both students of a seed "
        "share widens the interval. Take the difference of each seed first.",
        "standard deviation instead of standard error": "This interval is where one more *seed* "
        "may fall. How sure the *mean* is takes a division by √n.",
        "normal instead of t": "1.96 holds for many seeds. With few, the standard deviation is "
        "itself uncertain, and Student's t says how much: 4.30 for three seeds.",
        "divided by n instead of n − 1": "Your standard deviation is that of a whole population. "
        "Of a sample the mean is estimated too, so divide by n − 1: NumPy wants `ddof=1`.",
        "one-sided quantile": "5 % on *each* side leave 90 %: the quantile is at 0.975.",
        "n degrees of freedom": "The mean uses up one degree of freedom: n − 1 are left.",
        "the wrong way round": "That is alone minus distilled: take distilled minus alone.",
        "the range of the seeds": "Smallest and largest difference are what was seen, and grow "
        "apart with more seeds. An interval for the mean shrinks.",
        "best seed against best seed": "Two lucky runs are compared: take the mean difference.",
        "only the mean": "A mean alone cannot say whether the gain is real: give (low, high).",
    },
    praise="A gain is called one only where this whole interval lies above 0. It covers other "
    "seeds; the course's tables cover other test images as well (`joint_interval`).",
)
