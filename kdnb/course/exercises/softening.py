"""Notebook 00: soften answers, and measure how much they say."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kdnb.course.exercises.attempt import Attempt, Failed
from kdnb.course.exercises.exercise import Case, Exercise, Misconception, Question, numbers
from kdnb.course.exercises.verdict import Paragraph
from kdnb.evaluation.metrics import entropy_bits

NOTEBOOK = "00_what_is_distillation"
TEMPERATURE = Paragraph(NOTEBOOK, "Temperature")
EXPLORER = Paragraph(NOTEBOOK, "Touch it")

THREE = torch.tensor([[2.0, 1.0, -1.0, 0.5], [0.0, 3.0, 1.0, -2.0], [-1.0, 0.5, 0.0, 2.5]])
TWO = torch.tensor([[1.0, -2.0, 0.5], [0.0, 2.0, 1.5]], dtype=torch.float64)


def _softened(logits: Tensor, temperature: float) -> Tensor:
    return F.softmax(logits / temperature, dim=1)


def _overflows(attempt: Attempt) -> str | None:
    """One image with large logits: exp(1000) is infinite."""
    return _wrong_on(attempt, "one image with logits 1000, 999 and 0", [[1000.0, 999.0, 0.0]])


def _one_maximum_for_all(attempt: Attempt) -> str | None:
    """Beside it an image with small logits: what is left of these is exp(-1000), zero."""
    logits = [[1000.0, 999.0, 0.0], [1.0, 0.0, -1.0]]
    about = "two images, one with logits 1000, 999 and 0, one with 1, 0 and -1,"
    return _wrong_on(attempt, about, logits)


def _wrong_on(attempt: Attempt, about: str, logits: list) -> str | None:
    given = torch.tensor(logits)
    values = numbers(attempt(given, 1.0))
    if torch.allclose(values, F.softmax(given.double(), dim=1), atol=1e-4):
        return None
    last = ", ".join(f"{v:.3g}" for v in values[-1].tolist())
    return f"On {about} at T = 1, it gives [{last}] for the last."


softened_softmax = Exercise(
    key="softened_softmax",
    title="Soften, and survive large logits",
    difficulty=1,
    minutes=5,
    where=TEMPERATURE,
    stub='''\
def my_softened_softmax(logits, temperature):
    """(images, classes) logits in, as many probabilities out, softened by the temperature."""
    ...  # your code''',
    solved='''\
def my_softened_softmax(logits, temperature):
    """(images, classes) logits in, as many probabilities out, softened by the temperature."""
    scaled = logits / temperature
    # Taking the same number off all logits of an image changes nothing, and exp cannot overflow.
    exponentials = torch.exp(scaled - scaled.max(dim=1, keepdim=True).values)
    return exponentials / exponentials.sum(dim=1, keepdim=True)''',
    hints=(
        "Divide by the temperature *before* the exponential, and let each image's row sum to 1.",
        "`torch.exp(1000.0)` is infinite. What may be taken off all logits of one image without "
        "changing its probabilities?",
    ),
    right=_softened,
    cases=(
        Case("three images with four logits at T = 4", (THREE, 4.0)),
        Case("three images with four logits at T = 0.5", (THREE, 0.5)),
        Case("two images with three logits (float64) at T = 2", (TWO, 2.0)),
    ),
    misconceptions=(
        Misconception(
            "multiplied by T",
            "Multiplying makes a large T harder instead of softer: divide.",
            lambda z, t: F.softmax(z * t, dim=1),
        ),
        Misconception(
            "temperature without effect",
            "These are the probabilities at T = 1. Either T is not used, or it divides the "
            "exponentials, where it cancels: it belongs inside, below each logit.",
            lambda z, t: F.softmax(z, dim=1),
        ),
        Misconception(
            "temperature after the softmax",
            "Probabilities divided by T sum to 1/T: it is the logits that are divided.",
            lambda z, t: F.softmax(z, dim=1) / t,
        ),
        Misconception(
            "softmax twice",
            "A softmax of probabilities treats them as logits between 0 and 1, and comes out "
            "nearly flat.",
            (
                lambda z, t: F.softmax(F.softmax(z / t, dim=1), dim=1),
                lambda z, t: F.softmax(F.softmax(z, dim=1) / t, dim=1),
            ),
        ),
        Misconception(
            "normalised over the batch",
            "Your columns sum to 1: the images compete for a class. The classes must compete for "
            "an image, so sum along `dim=1`.",
            lambda z, t: F.softmax(z / t, dim=0),
        ),
        Misconception(
            "one sum for all images",
            "The whole table sums to 1. Each image's row must: give `sum` its `dim=1` and "
            "`keepdim=True`.",
            lambda z, t: torch.exp(z / t) / torch.exp(z / t).sum(),
        ),
        Misconception(
            "not normalised",
            "Exponentials alone do not sum to 1: divide by the sum of the row.",
            lambda z, t: torch.exp(z / t),
        ),
        Misconception(
            "logarithms of probabilities",
            "All are negative: these are log-probabilities, as `log_softmax` gives.",
            lambda z, t: F.log_softmax(z / t, dim=1),
        ),
        Misconception(
            "overflow",
            "The exponential of a large logit is infinite, and infinite by infinite is not a "
            "number. Take the largest logit of the row off first: it cancels.",
            shown_by=_overflows,
        ),
        Misconception(
            "one maximum for all images",
            "The batch's largest logit was taken off every image, and of an image with small "
            "ones only zeros are left. Take off the largest of each row.",
            shown_by=_one_maximum_for_all,
        ),
    ),
    praise="Each image's row sums to 1 at every T, and logits of 1000 do no harm.",
)


def _entropy_where_zero(attempt: Attempt) -> str | None:
    values = numbers(attempt(torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])))
    if torch.allclose(values, torch.tensor([0.0, 1.0], dtype=torch.float64), atol=1e-4):
        return None
    got = " and ".join(f"{v:.3g}" for v in values.tolist())
    return (
        f"Of the certain answer 1, 0, 0 and the toss-up ½, ½, 0 it gives {got} bits, not 0 and 1."
    )


HALVES = torch.tensor([[0.5, 0.25, 0.125, 0.125], [0.7, 0.1, 0.1, 0.1], [0.97, 0.01, 0.01, 0.01]])
TENTHS = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]], dtype=torch.float64)

soft_target_bits = Exercise(
    key="soft_target_bits",
    title="How undecided is an answer?",
    difficulty=1,
    minutes=5,
    where=EXPLORER,
    stub='''\
def my_soft_target_bits(probabilities):
    """(images, classes) probabilities in, the entropy of each image's answer in bits out."""
    ...  # your code''',
    solved='''\
def my_soft_target_bits(probabilities):
    """(images, classes) probabilities in, the entropy of each image's answer in bits out."""
    # xlogy is p log p, and 0 where p is 0.
    nats = -torch.xlogy(probabilities, probabilities).sum(dim=1)
    return nats / torch.log(torch.tensor(2.0))''',
    hints=(
        "Entropy is the mean surprise: minus the sum over the classes of p · log₂ p.",
        "The logarithm of 0 is minus infinity, and 0 times infinity is not a number. "
        "`torch.xlogy` knows that p · log p goes to 0.",
    ),
    right=entropy_bits,
    cases=(
        Case("three answers about four classes", (HALVES,)),
        Case("two answers about three classes (float64)", (TENTHS,)),
    ),
    misconceptions=(
        Misconception(
            "nats instead of bits",
            "The natural logarithm counts in nats. A bit is log 2 = 0.693 of them: take `log2`.",
            lambda p: entropy_bits(p) * math.log(2),
        ),
        Misconception(
            "decimal logarithm",
            "The logarithm to base 10 counts in decimal digits: take `log2`.",
            lambda p: entropy_bits(p) * math.log10(2),
        ),
        Misconception(
            "sign forgotten",
            "Logarithms of probabilities are negative, entropy is not: a minus is missing.",
            lambda p: -entropy_bits(p),
        ),
        Misconception(
            "mean over the classes",
            "The probabilities are weights already: their p · log p are summed. A mean divides "
            "by the number of classes once more.",
            lambda p: entropy_bits(p) / p.shape[1],
        ),
        Misconception(
            "summed over the images",
            "There is one value per class: you summed over the batch. Each image has an entropy "
            "of its own, so sum along `dim=1`.",
            lambda p: entropy_bits(p.T),
        ),
        Misconception(
            "one number for all images",
            "The images have been put together. Keep one value for each: sum along `dim=1` only.",
            (lambda p: entropy_bits(p).sum(), lambda p: entropy_bits(p).mean()),
        ),
        Misconception(
            "only the largest class counts",
            "That is the surprise at the answer most expected. Entropy is the mean surprise over "
            "all classes, each weighted with its probability.",
            lambda p: -p.max(dim=1).values.log2(),
        ),
        Misconception(
            "not weighted",
            "You summed the surprises −log₂ p. The unlikely ones hardly ever come: weight each "
            "with its p.",
            lambda p: -p.log2().sum(1),
        ),
        Misconception(
            "softmax again",
            "Probabilities come in. Another softmax takes them for logits, and all answers look "
            "undecided.",
            lambda p: entropy_bits(F.softmax(p, dim=1)),
        ),
        Misconception(
            "0 · log 0",
            "The logarithm of 0 is minus infinity, and 0 times infinity is not a number, but "
            "p · log p goes to 0 with p: `torch.xlogy` knows.",
            shown_by=_entropy_where_zero,
        ),
    ),
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
    key="second_opinion",
    title="When does the second opinion show?",
    difficulty=1,
    minutes=3,
    where=EXPLORER,
    stub="my_second_opinion = None  # the smallest T",
    solved="""\
steps = [2 ** (k / 8) for k in range(-8, 49)]  # those of the slider
second = [soften(logits[chosen[0]], t).topk(2).values[1].item() for t in steps]
my_second_opinion = next(t for t, p in zip(steps, second, strict=True) if p >= 0.1)""",
    hints=(
        "Move the temperature of the explorer above until the second bar reads 10 %.",
        "Or in code: `soften(logits[chosen[0]], t).topk(2)` for several `t`.",
    ),
    about="the first image of the explorer",
    right=lambda z: _first_temperature("second", z),
    tolerance=2 ** (1 / 8) - 1,  # one step of the slider
    misconceptions=(
        Misconception(
            "the third class",
            "That is where the *third* class reaches 10 %.",
            lambda z: _first_temperature("third", z),
        ),
        Misconception(
            "all wrong classes together",
            "There all classes but the first have 10 % *together*: one bar alone is asked for.",
            lambda z: _first_temperature("all but the first", z),
        ),
        Misconception(
            "the logarithm of T",
            "That is log₂ T: the slider moves in doublings, and its reading is T itself.",
            lambda z: math.log2(_first_temperature("second", z)),
        ),
    ),
    praise="A temperature that only just shows the second class leaves most others in the dark.",
)
