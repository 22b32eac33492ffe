"""Notebook 02: choose a temperature without the test set, and say whether a gain is real."""

import math

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

from kdnb.course.exercises.exercise import Case, Exercise, Misconception
from kdnb.course.exercises.verdict import Paragraph
from kdnb.evaluation.statistics import mean_interval

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


def _chosen(scores: Tensor, temperatures: list, reported: Tensor) -> tuple[float, float]:
    """The temperature with the best score (temperatures,), and what is reported of it."""
    best = int(scores.argmax())
    return temperatures[best], reported[best].item()


choose_temperature = Exercise(
    key="choose_temperature",
    title="Choose T without the test set",
    difficulty=1,
    minutes=8,
    where=SWEEP,
    stub='''\
def my_choose_temperature(temperatures, validation, test):
    """A list of T, and (temperatures, seeds) accuracies in; the chosen T and its accuracy out."""
    ...  # your code''',
    solved='''\
def my_choose_temperature(temperatures, validation, test):
    """A list of T, and (temperatures, seeds) accuracies in; the chosen T and its accuracy out."""
    best = validation.mean(dim=1).argmax()  # the test split takes no part in the choice
    return temperatures[best], test[best].mean().item()''',
    hints=(
        "Which split may decide, and which may only be looked at when all is decided?",
        "Each T has several seeds: their mean decides, not the luckiest.",
    ),
    right=lambda ts, val, test: _chosen(val.mean(1), ts, test.mean(1)),
    cases=(
        Case("four temperatures with three seeds", FOUR),
        Case("three temperatures with two seeds", THREE),
    ),
    misconceptions=(
        Misconception(
            "chosen on the test split",
            "This T is the best on the *test* images, so its accuracy flatters: they have decided "
            "and are no longer unseen. Let the validation images decide.",
            lambda ts, val, test: _chosen(test.mean(1), ts, test.mean(1)),
        ),
        Misconception(
            "the luckiest seed decides",
            "This T has the single best validation run. Among many runs some are lucky: compare "
            "means over the seeds.",
            lambda ts, val, test: _chosen(val.max(1).values, ts, test.mean(1)),
        ),
        Misconception(
            "validation accuracy reported",
            "The choice is right, but the accuracy is that of the images that made it: the best "
            "of several is too high. Report the test split.",
            lambda ts, val, test: _chosen(val.mean(1), ts, val.mean(1)),
        ),
        Misconception(
            "the best seed reported",
            "The choice is right, but you report its best seed. The mean over the seeds is what "
            "another run may expect.",
            lambda ts, val, test: _chosen(val.mean(1), ts, test.max(1).values),
        ),
        Misconception(
            "both splits decide",
            "Test images had a say in the choice. Even half a say makes their accuracy flatter.",
            lambda ts, val, test: _chosen((val + test).mean(1), ts, test.mean(1)),
        ),
        Misconception(
            "the row instead of the temperature",
            "That is the number of the row: look up its temperature.",
            lambda ts, val, test: (
                int(val.mean(1).argmax()),
                test.mean(1)[val.mean(1).argmax()].item(),
            ),
        ),
        Misconception(
            "the worst instead of the best",
            "Accuracies are to be large: `argmax`, not `argmin`.",
            lambda ts, val, test: _chosen(-val.mean(1), ts, test.mean(1)),
        ),
    ),
    praise="Validation images chose, and the test split was looked at once.",
)


def _interval(
    distilled: list,
    alone: list,
    *,
    ddof: int = 1,
    quantile: float | None = None,
    standard_error: bool = True,
    paired: bool = True,
) -> tuple[float, float]:
    """The 95 % interval of the mean difference with one choice replaced."""  # fmt: skip
    one, other = np.array(distilled), np.array(alone)
    n = len(one)
    if quantile is None:
        quantile = stdtrit(n - 1 if paired else 2 * n - 2, 0.975)
    if paired:
        spread = (one - other).std(ddof=ddof)
    else:
        spread = math.sqrt(one.var(ddof=ddof) + other.var(ddof=ddof))
    half = quantile * spread / (math.sqrt(n) if standard_error else 1)
    return (one - other).mean() - half, (one - other).mean() + half


def _right_interval(distilled: list, alone: list) -> tuple[float, float]:
    interval = mean_interval([a - b for a, b in zip(distilled, alone, strict=True)])
    return interval.low, interval.high


# Points; seeds differ much more from one another than distilled and alone of the same seed.
THREE_SEEDS = ([88.0, 84.5, 91.0], [86.5, 82.2, 89.6])
FIVE_SEEDS = ([71.3, 70.2, 74.9, 77.0, 69.1], [71.0, 70.6, 73.2, 76.1, 68.3])

real_gain = Exercise(
    key="real_gain",
    title="Is the gain real?",
    difficulty=2,
    minutes=12,
    where=GAINED,
    stub='''\
def my_real_gain(distilled, alone):
    """Accuracies in points, one for each seed, the same seeds in both; (low, high) of the gain."""
    ...  # your code: the 95 % interval of the mean gain''',
    solved='''\
def my_real_gain(distilled, alone):
    """Accuracies in points, one for each seed, the same seeds in both; (low, high) of the gain."""
    from scipy.special import stdtrit  # quantiles of Student's t

    gains = torch.tensor(distilled) - torch.tensor(alone)  # paired: seed by seed
    n = len(gains)
    half = stdtrit(n - 1, 0.975) * gains.std().item() / n**0.5
    return gains.mean().item() - half, gains.mean().item() + half''',
    hints=(
        "Both students of a seed share their initial weights, batches and teacher. Take the "
        "difference first.",
        "mean ± t · s / √n, with the sample standard deviation s of the n differences.",
        "`from scipy.special import stdtrit`: `stdtrit(n - 1, 0.975)` is the t of a two-sided "
        "95 % interval.",
    ),
    right=_right_interval,
    cases=(
        Case("three seeds, 88.0, 84.5, 91.0 over 86.5, 82.2, 89.6,", THREE_SEEDS),
        Case("five seeds, 71.3, 70.2, … over 71.0, 70.6, …,", FIVE_SEEDS),
    ),
    misconceptions=(
        Misconception(
            "not paired",
            "You took the two groups as unrelated, so luck that both students of a seed share "
            "widens the interval. Take the difference of each seed first.",
            (
                lambda a, b: _interval(a, b, paired=False),
                lambda a, b: _interval(a, b, paired=False, quantile=stdtrit(len(a) - 1, 0.975)),
                lambda a, b: _interval(a, b, paired=False, quantile=1.959964),
            ),
        ),
        Misconception(
            "standard deviation instead of standard error",
            "This interval is where one more *seed* may fall. How sure the *mean* is takes a "
            "subclass_config by √n.",
            lambda a, b: _interval(a, b, standard_error=False),
        ),
        Misconception(
            "normal instead of t",
            "1.96 holds for many seeds. With few, the standard deviation is itself uncertain, and "
            "Student's t says how much: 4.30 for three seeds.",
            (
                lambda a, b: _interval(a, b, quantile=1.959964),
                lambda a, b: _interval(a, b, quantile=1.96),
                lambda a, b: _interval(a, b, quantile=2.0),
            ),
        ),
        Misconception(
            "divided by n instead of n − 1",
            "Your standard deviation is that of a whole population. Of a sample the mean is "
            "estimated too, so divide by n − 1: NumPy wants `ddof=1`.",
            lambda a, b: _interval(a, b, ddof=0),
        ),
        Misconception(
            "one-sided quantile",
            "Leaving 5 % on *each* side makes a 90 % interval: the quantile is at 0.975.",
            lambda a, b: _interval(a, b, quantile=stdtrit(len(a) - 1, 0.95)),
        ),
        Misconception(
            "n degrees of freedom",
            "The mean has used up one of the n differences: n − 1 degrees of freedom are left.",
            lambda a, b: _interval(a, b, quantile=stdtrit(len(a), 0.975)),
        ),
        Misconception(
            "the wrong way round",
            "That is alone minus distilled: a gain is what the distilled student has more.",
            lambda a, b: _right_interval(b, a),
        ),
        Misconception(
            "the range of the seeds",
            "Smallest and largest difference are what was seen, and grow apart with more seeds. "
            "An interval for the mean shrinks.",
            lambda a, b: (
                min(x - y for x, y in zip(a, b, strict=True)),
                max(x - y for x, y in zip(a, b, strict=True)),
            ),
        ),
        Misconception(
            "best seed against best seed",
            "The best of each group is compared. One lucky run says nothing about the next.",
            lambda a, b: (max(a) - max(b),) * 2,
        ),
        Misconception(
            "only the mean",
            "A mean without an interval cannot say whether the gain is real: give (low, high).",
            (
                lambda a, b: sum(a) / len(a) - sum(b) / len(b),
                lambda a, b: (sum(a) / len(a) - sum(b) / len(b),) * 2,
            ),
        ),
    ),
    praise="A gain is called one only where this whole interval lies above 0.",
)
