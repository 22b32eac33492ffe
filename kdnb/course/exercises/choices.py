"""Notebook 02: choose a temperature without the test set, and decide whether a gain is real."""

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
    """The chosen T and its accuracy, from a list of T and (temperatures, seeds) accuracies."""
    best = validation.mean(dim=1).argmax()  # the test split plays no part in the choice
    return temperatures[best], test[best].mean().item()


choose_temperature = Function(
    header=Header("Choose T without the test set", difficulty=1, minutes=8, where=SWEEP),
    solved_by=my_choose_temperature,
    hints=(
        "Which split may decide, and which split may you read only after the decision?",
        "Each T has several seeds: compare the means, not the best seeds.",
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
        "chosen on the test split": "This T is the best on the *test* images, so its accuracy on "
        "them is too high on average. Choose on the validation images.",
        "the luckiest seed decides": "A single lucky run decides: compare means over seeds.",
        "validation accuracy reported": "The choice is right, but you report the accuracy on the "
        "images of the choice, where the best of several is too high. Report the test split.",
        "the best seed reported": "You report the best seed of this T: report the mean.",
        "both splits decide": "Test images took part in the choice, so the accuracy on them is too "
        "high on average: choose on the validation images alone.",
        "the row instead of the temperature": "You gave the row: look up its T.",
        "the worst instead of the best": "You chose the lowest accuracy: use `argmax`.",
    },
    praise="You chose on the validation images and read the test split only for the chosen T.",
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

# Points. The spread between seeds is much larger than the gain within a seed.
THREE_SEEDS = ([88.0, 84.5, 91.0], [86.5, 82.2, 89.6])
FIVE_SEEDS = ([71.3, 70.2, 74.9, 77.0, 69.1], [71.0, 70.6, 73.2, 76.1, 68.3])


def my_real_gain(distilled, alone):
    """(low, high) of the mean gain, from accuracies in points, one per seed, same seeds in both."""
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
        "Both students of a seed share weights, batches and teacher: subtract seed by seed.",
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
        "not paired": "You treated the two groups as independent, so variation that both students "
        "of a seed share widens the interval. Take the difference within each seed first.",
        "standard deviation instead of standard error": "Your interval is the range for one more "
        "*seed*. For the *mean*, divide by √n.",
        "normal instead of t": "1.96 is right for many seeds. With few seeds the standard "
        "deviation is uncertain too: use Student's t, which is 4.30 for three seeds.",
        "divided by n instead of n − 1": "You used the standard deviation of a population. In a "
        "sample the mean is estimated too, so divide by n − 1 (`ddof=1` in NumPy).",
        "one-sided quantile": "5 % on *each* side leave 90 %: use the quantile 0.975.",
        "n degrees of freedom": "Estimating the mean uses one degree of freedom: use n − 1.",
        "the wrong way round": "You gave alone minus distilled: give distilled minus alone.",
        "the range of the seeds": "You gave the smallest and the largest difference. This range "
        "grows with more seeds, but a confidence interval for the mean shrinks.",
        "best seed against best seed": "You compared two lucky runs: average the differences.",
        "only the mean": "A mean alone does not show whether the gain is real: give (low, high).",
    },
    praise="Claim a gain only if this whole interval is above 0. The interval covers other seeds. "
    "The tables of the course also cover other test images (`joint_interval`).",
)
