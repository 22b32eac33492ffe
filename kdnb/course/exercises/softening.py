"""Notebook 00: soften answers, and measure how much they say."""

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
    """(images, classes) logits in, as many probabilities out, softened by the temperature."""
    scaled = logits / temperature
    # Taking the same number off all logits of an image changes nothing, and exp cannot overflow.
    exponentials = torch.exp(scaled - scaled.max(dim=1, keepdim=True).values)
    return exponentials / exponentials.sum(dim=1, keepdim=True)


softened_softmax = Function(
    header=Header("Soften, and survive large logits", difficulty=1, minutes=5, where=TEMPERATURE),
    solved_by=my_softened_softmax,
    hints=(
        "Divide by the temperature *before* the exponential, and let each image's row sum to 1.",
        "`torch.exp(1000.0)` is infinite. What may be taken off all logits without effect?",
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
        "multiplied by T": "Multiplying makes a large T harder instead of softer: divide.",
        "temperature without effect": "That is T = 1: divide the logits, before the exponential.",
        "temperature after the softmax": "Divide the logits by T, not the probabilities.",
        "softmax twice": "A second softmax takes probabilities for logits between 0 and 1.",
        "normalised over the batch": "Your columns sum to 1: the images compete for a class. The "
        "classes must compete for an image, so sum along `dim=1`.",
        "one sum for all images": "The whole table sums to 1: sum along `dim=1`, each row.",
        "not normalised": "Exponentials alone do not sum to 1: divide by the sum of the row.",
        "logarithms of probabilities": "These are log-probabilities, as of `log_softmax`.",
        "overflow": "The exponential of a large logit is infinite, and infinite by infinite is "
        "not a number. Take the largest logit of the row off first: it cancels.",
        "one maximum for all images": "The batch's largest logit was taken off every image, and "
        "of an image with small ones only zeros are left. Take off the largest of each row.",
    },
    praise="Each image's row sums to 1 at every T, and logits of 1000 do no harm.",
)


HALVES = torch.tensor([[0.5, 0.25, 0.125, 0.125], [0.7, 0.1, 0.1, 0.1], [0.97, 0.01, 0.01, 0.01]])
TENTHS = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]], dtype=torch.float64)
ZEROS = Case("the answers 1, 0, 0 and ½, ½, 0", (torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0]]),))


def my_soft_target_bits(probabilities):
    """(images, classes) probabilities in, the entropy of each image's answer in bits out."""
    # xlogy is p log p, and 0 where p is 0.
    nats = -torch.xlogy(probabilities, probabilities).sum(dim=1)
    return nats / torch.log(torch.tensor(2.0))


soft_target_bits = Function(
    header=Header("How undecided is an answer?", difficulty=1, minutes=5, where=EXPLORER),
    solved_by=my_soft_target_bits,
    hints=(
        "Entropy is the mean surprise: minus the sum over the classes of p · log₂ p.",
        "0 times minus infinity is not a number. `torch.xlogy` gives 0 where p is 0.",
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
        "nats instead of bits": "The natural logarithm counts in nats: take `log2`.",
        "decimal logarithm": "The logarithm to base 10 counts in decimal digits: take `log2`.",
        "sign forgotten": "Logarithms of probabilities are negative: a minus is missing.",
        "mean over the classes": "The probabilities are weights already: their p · log p are "
        "summed. A mean divides by the number of classes once more.",
        "summed over the images": "There is one value per class: you summed over the batch. Each "
        "image has an entropy of its own, so sum along `dim=1`.",
        "one number for all images": "Keep one value for each image: sum along `dim=1` only.",
        "only the largest class counts": "That is the surprise at the answer most expected. "
        "Entropy is the mean surprise over all classes, each weighted with its probability.",
        "not weighted": "You summed the surprises −log₂ p: weight each with its p.",
        "softmax again": "Probabilities come in: another softmax takes them for logits.",
        "0 · log 0": "The logarithm of 0 is minus infinity, and 0 times infinity is not a number, "
        "but p · log p goes to 0 with p: `torch.xlogy` knows.",
    },
    praise="0 bits for certainty, log₂ of the number of classes for a toss-up among all.",
)


def _first_temperature(share_of: str, logits: Tensor) -> float:
    """The smallest T of a fine grid at which this share of the probability reaches a tenth."""
    for step in range(-64, 7 * 64):
        t = 2 ** (step / 64)
        p = F.softmax(logits.double() / t, dim=-1).sort(descending=True).values
        shares = {"second": p[1], "third": p[2], "all but the first": p[1:].sum()}
        if shares[share_of] >= 0.1:
            return t
    raise Failed("never reached", f"The {share_of} never reaches 10 % here: take another image.")


second_opinion = Question(
    header=Header("When does the second opinion show?", difficulty=1, minutes=3, where=EXPLORER),
    about="the first image of the explorer",
    stub="my_second_opinion = None  # the smallest T",
    solved="""\
steps = [2 ** (k / 8) for k in range(-8, 49)]  # those of the slider
second = [soften(logits[chosen[0]], t).topk(2).values[1].item() for t in steps]
my_second_opinion = next(t for t, p in zip(steps, second, strict=True) if p >= 0.1)""",
    hints=(
        "Move the temperature of the explorer above until the second bar reads 10 %.",
        "Or in code: `soften(logits[chosen[0]], t).topk(2)` for several `t`.",
    ),
    right=lambda z: _first_temperature("second", z),
    tolerance=2 ** (1 / 8) - 1,  # one step of the slider
    mistakes={
        "the third class": lambda z: _first_temperature("third", z),
        "all wrong classes together": lambda z: _first_temperature("all but the first", z),
        "the logarithm of T": lambda z: math.log2(_first_temperature("second", z)),
    },
    says={
        "the third class": "That is where the *third* class reaches 10 %.",
        "all wrong classes together": "There all other classes have 10 % *together*.",
        "the logarithm of T": "That is log₂ T: the slider shows T itself.",
    },
    praise="A temperature that only just shows the second class leaves most others in the dark.",
)
