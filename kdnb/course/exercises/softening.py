"""Notebook 00: soften a teacher's probabilities, and measure their uncertainty."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kdnb.course.exercises.attempt import Failed
from kdnb.course.exercises.exercise import Case, Function, Header, Question, differs_on
from kdnb.course.exercises.verdict import Paragraph
from kdnb.evaluation.metrics import entropy_bits

NOTEBOOK = "00_what_is_distillation"
TEMPERATURE = Paragraph(NOTEBOOK, "Temperature")
EXPLORER = Paragraph(NOTEBOOK, "Touch it")

THREE = torch.tensor([[2.0, 1.0, -1.0, 0.5], [0.0, 3.0, 1.0, -2.0], [-1.0, 0.5, 0.0, 2.5]])
TWO = torch.tensor([[1.0, -2.0, 0.5], [0.0, 2.0, 1.5]], dtype=torch.float64)
LARGE = torch.tensor([[1000.0, 999.0, 0.0], [1.0, 0.0, -1.0]])
ONE_LARGE = Case("one image with logits 1000, 999 and 0", (LARGE[:1], 1.0))
LARGE_AND_SMALL = Case("images with logits 1000, 999, 0 and 1, 0, -1", (LARGE, 1.0))


def my_softened_softmax(logits, temperature):
    """Softened probabilities (images, classes) from logits of the same shape."""
    scaled = logits / temperature
    # Subtracting a number from all logits of an image changes no probability; exp can't overflow.
    exponentials = torch.exp(scaled - scaled.max(dim=1, keepdim=True).values)
    return exponentials / exponentials.sum(dim=1, keepdim=True)


softened_softmax = Function(
    header=Header("Soften, and survive large logits", difficulty=1, minutes=5, where=TEMPERATURE),
    solved_by=my_softened_softmax,
    hints=(
        "Divide by the temperature *before* the exponential. Each image's row must sum to 1.",
        "`torch.exp(1000.0)` is infinite. Which number can you subtract from a row without effect?",
    ),
    right=my_softened_softmax,
    cases=(
        Case("three images with four logits at T = 4", (THREE, 4.0)),
        Case("three images with four logits at T = 0.5", (THREE, 0.5)),
        Case("two images with three logits (float64) at T = 2", (TWO, 2.0)),
    ),
    mistakes={
        "multiplied by T": lambda z, t: F.softmax(z * t, dim=1),
        "temperature without effect": lambda z, t: F.softmax(z, dim=1),
        "temperature after the softmax": lambda z, t: F.softmax(z, dim=1) / t,
        "softmax twice": (
            lambda z, t: F.softmax(F.softmax(z / t, dim=1), dim=1),
            lambda z, t: F.softmax(F.softmax(z, dim=1) / t, dim=1),
        ),
        "normalised over the batch": lambda z, t: F.softmax(z / t, dim=0),
        "one sum for all images": lambda z, t: torch.exp(z / t) / torch.exp(z / t).sum(),
        "not normalised": lambda z, t: torch.exp(z / t),
        "logarithms of probabilities": lambda z, t: F.log_softmax(z / t, dim=1),
        "overflow": differs_on(ONE_LARGE, my_softened_softmax),
        "one maximum for all images": differs_on(LARGE_AND_SMALL, my_softened_softmax),
    },
    says={
        "multiplied by T": "Multiplying by a large T sharpens the probabilities: divide by T.",
        "temperature without effect": "Your result is for T = 1: divide the logits by T.",
        "temperature after the softmax": "You divided the probabilities by T: divide the logits.",
        "softmax twice": "A second softmax treats probabilities as logits: apply only one.",
        "normalised over the batch": "Your columns sum to 1, so you normalised over the images. "
        "Normalise over the classes of each image: `dim=1`.",
        "one sum for all images": "Your whole table sums to 1. Each row must sum to 1: `dim=1`.",
        "not normalised": "Exponentials do not sum to 1: divide each row by its sum.",
        "logarithms of probabilities": "You return log-probabilities: return probabilities.",
        "overflow": "The exponential of a large logit is infinite, and infinity divided by "
        "infinity is not a number. Subtract the largest logit of the row first: it cancels.",
        "one maximum for all images": "You subtracted the batch's largest logit from every image, "
        "so an image with small logits has only zeros. Subtract the largest logit of each row.",
    },
    praise="Each row sums to 1 at every T, and logits of 1000 do not overflow.",
)


HALVES = torch.tensor([[0.5, 0.25, 0.125, 0.125], [0.7, 0.1, 0.1, 0.1], [0.97, 0.01, 0.01, 0.01]])
TENTHS = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]], dtype=torch.float64)
ZEROS = Case("the answers 1, 0, 0 and ½, ½, 0", (torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0]]),))


def my_soft_target_bits(probabilities):
    """The entropy of each image in bits, (images,), from probabilities (images, classes)."""
    # xlogy is p log p, and 0 where p is 0.
    nats = -torch.xlogy(probabilities, probabilities).sum(dim=1)
    return nats / torch.log(torch.tensor(2.0))


soft_target_bits = Function(
    header=Header(
        "Measure the uncertainty of a soft target", difficulty=1, minutes=5, where=EXPLORER
    ),
    solved_by=my_soft_target_bits,
    hints=(
        "Entropy is the mean surprise: minus the sum of p · log₂ p over the classes.",
        "0 times minus infinity is not a number. `torch.xlogy` returns 0 where p is 0.",
    ),
    right=entropy_bits,
    cases=(
        Case("three answers about four classes", (HALVES,)),
        Case("two answers about three classes (float64)", (TENTHS,)),
    ),
    mistakes={
        "nats instead of bits": lambda p: entropy_bits(p) * math.log(2),
        "decimal logarithm": lambda p: entropy_bits(p) * math.log10(2),
        "sign forgotten": lambda p: -entropy_bits(p),
        "mean over the classes": lambda p: entropy_bits(p) / p.shape[1],
        "summed over the images": lambda p: entropy_bits(p.T),
        "one number for all images": (
            lambda p: entropy_bits(p).sum(),
            lambda p: entropy_bits(p).mean(),
        ),
        "only the largest class counts": lambda p: -p.max(dim=1).values.log2(),
        "not weighted": lambda p: -p.log2().sum(1),
        "softmax again": lambda p: entropy_bits(F.softmax(p, dim=1)),
        "0 · log 0": differs_on(ZEROS, entropy_bits),
    },
    says={
        "nats instead of bits": "The natural logarithm gives nats: use `log2`.",
        "decimal logarithm": "The logarithm to base 10 gives decimal digits: use `log2`.",
        "sign forgotten": "Logarithms of probabilities are negative: put a minus in front.",
        "mean over the classes": "The probabilities are the weights already: sum p · log p.",
        "summed over the images": "You summed over the images and have one value per class. Each "
        "image has its own entropy, so sum along `dim=1`.",
        "one number for all images": "Return one value per image: sum along `dim=1` only.",
        "only the largest class counts": "You computed the surprise of the most probable class. "
        "Entropy is the mean surprise over all classes, weighted by their probabilities.",
        "not weighted": "You summed the surprises −log₂ p: weight each by its p.",
        "softmax again": "The inputs are probabilities already: leave out the softmax.",
        "0 · log 0": "The logarithm of 0 is minus infinity, and 0 times infinity is not a number. "
        "The limit of p · log p for p → 0 is 0: use `torch.xlogy`.",
    },
    praise="A certain prediction has 0 bits, an even distribution log₂ of the number of classes.",
)


def _first_temperature(share_of: str, logits: Tensor) -> float:
    """The smallest T of a fine grid at which this share of the probability reaches a tenth."""
    for step in range(-64, 7 * 64):
        t = 2 ** (step / 64)
        p = F.softmax(logits.double() / t, dim=-1).sort(descending=True).values
        shares = {"second": p[1], "third": p[2], "all but the first": p[1:].sum()}
        if shares[share_of] >= 0.1:
            return t
    raise Failed("never reached", f"The {share_of} never reaches 10 % here: use another image.")


second_opinion = Question(
    header=Header(
        "When does the second class become visible?", difficulty=1, minutes=3, where=EXPLORER
    ),
    about="the first image of the explorer",
    stub="my_second_opinion = None  # the smallest T",
    solved="""\
steps = [2 ** (k / 8) for k in range(-8, 49)]  # those of the slider
second = [soften(logits[chosen[0]], t).topk(2).values[1].item() for t in steps]
my_second_opinion = next(t for t, p in zip(steps, second, strict=True) if p >= 0.1)""",
    hints=(
        "Move the temperature slider above until the second bar shows 10 %.",
        "In code: compute `soften(logits[chosen[0]], t).topk(2)` for several `t`.",
    ),
    right=lambda z: _first_temperature("second", z),
    tolerance=2 ** (1 / 8) - 1,  # one step of the slider
    mistakes={
        "the third class": lambda z: _first_temperature("third", z),
        "all wrong classes together": lambda z: _first_temperature("all but the first", z),
        "the logarithm of T": lambda z: math.log2(_first_temperature("second", z)),
    },
    says={
        "the third class": "At your T the *third* class reaches 10 %: watch the second.",
        "all wrong classes together": "At your T all wrong classes *together* reach 10 %: watch "
        "the second class alone.",
        "the logarithm of T": "Your answer is log₂ T: give T, as the slider shows it.",
    },
    praise="At this temperature the second class is visible, and most other classes still are not.",
)
