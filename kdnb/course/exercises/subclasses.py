"""Notebook 03: a head with subclasses, and the loss that keeps them alive."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kdnb.course.exercises.exercise import Case, Function, Header, differs_on, gradient_missing
from kdnb.course.exercises.verdict import Paragraph
from kdnb.losses import class_logits as logsumexp_by_class
from kdnb.losses import subclass_auxiliary_loss

NOTEBOOK = "03_subclass_distillation"
HEAD = Paragraph(NOTEBOOK, "A head with subclasses")
ALIVE = Paragraph(NOTEBOOK, "Keeping subclasses alive")


def _logits(images: int, outputs: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(images, outputs, generator=generator) + 0.5


def _by_class(logits: Tensor, num_classes: int) -> Tensor:
    return logits.unflatten(1, (num_classes, -1))


HEADS = (
    Case("three images with two classes of three subclasses", (_logits(3, 6, 1), 2)),
    Case("two images with four classes of two subclasses", (_logits(2, 8, 2), 4)),
    Case("four images with three classes of four subclasses", (_logits(4, 12, 3).double(), 3)),
)
LARGE = Case("the logits 1000, 999, 0, 1 of 2 classes", (torch.tensor([[1000.0, 999, 0, 1]]), 2))


def my_class_logits(subclass_logits, num_classes):
    """(N, classes) logits from (N, classes·subclasses) logits, class after class."""
    by_class = subclass_logits.unflatten(1, (num_classes, -1))  # (N, classes, subclasses)
    return torch.logsumexp(by_class, dim=2)


class_logits = Function(
    header=Header("From subclasses to classes", difficulty=1, minutes=8, where=HEAD),
    solved_by=my_class_logits,
    hints=(
        "A class's probability is the sum of its subclass probabilities. How do logits combine?",
        "`unflatten(1, (num_classes, -1))` puts the subclasses of each class into one row. "
        "`torch.logsumexp` combines them and does not overflow for logits of 1000.",
    ),
    right=logsumexp_by_class,
    cases=HEADS,
    mistakes={
        "logits summed instead of logsumexp": lambda z, c: _by_class(z, c).sum(2),
        "mean of the logits": lambda z, c: _by_class(z, c).mean(2),
        "only the largest subclass": lambda z, c: _by_class(z, c).amax(2),
        "probabilities instead of logits": lambda z, c: _by_class(F.softmax(z, dim=1), c).sum(2),
        "log-probabilities instead of logits": lambda z, c: _by_class(
            F.log_softmax(z, dim=1), c
        ).logsumexp(2),
        "softmax inside each class": (
            lambda z, c: F.softmax(_by_class(z, c), dim=2).sum(2),
            lambda z, c: F.log_softmax(_by_class(z, c), dim=2).logsumexp(2),
        ),
        "logarithm forgotten": lambda z, c: _by_class(z, c).exp().sum(2),
        "mean of the exponentials": lambda z, c: _by_class(z, c).exp().mean(2).log(),
        "the wrong columns": lambda z, c: z.unflatten(1, (-1, c)).logsumexp(1),
        "summed over the classes": lambda z, c: _by_class(z, c).logsumexp(1),
        "overflow": differs_on(LARGE, logsumexp_by_class),
        "no gradient": gradient_missing(HEADS[0], 0, "the subclass logits"),
    },
    says={
        "logits summed instead of logsumexp": "A sum of logits multiplies probabilities, so one "
        "very negative subclass makes its class improbable. Probabilities add: use the logsumexp.",
        "mean of the logits": "With a mean, as with a sum, one very negative subclass makes its "
        "class improbable. Probabilities add: use the logsumexp.",
        "only the largest subclass": "The largest logit is close if one subclass dominates. Two "
        "equal subclasses make their class twice as probable, which adds log 2: use the logsumexp.",
        "probabilities instead of logits": "These are class probabilities. `F.cross_entropy` "
        "applies a softmax itself, so the softmax would be applied twice: return logits.",
        "log-probabilities instead of logits": "Leave out the softmax over all subclasses.",
        "softmax inside each class": "This softmax removes differences between classes: leave it "
        "out.",
        "logarithm forgotten": "You summed exponentials: take the logarithm of the sums.",
        "mean of the exponentials": "You averaged the exponentials: sum them.",
        "the wrong columns": "The columns of class c are adjacent: c·s to c·s + s − 1.",
        "summed over the classes": "You summed over the classes: sum over their subclasses.",
        "overflow": "The exponential of a large logit is infinite: use `torch.logsumexp`.",
        "no gradient": "Without a gradient the head learns nothing: remove `.detach()` and NumPy.",
    },
    praise="The softmax of your class logits is the sum of each class's subclass probabilities.",
)


def _unit(logits: Tensor, *, dim: int = 1, correction: int = 0) -> Tensor:
    """Rows without their mean and of length 1, with a choice replaced."""
    deviation, mean = torch.std_mean(logits, dim, correction=correction, keepdim=True)
    return (logits - mean) / deviation / logits.shape[1] ** 0.5


def _loss(v: Tensor, temperature: float) -> Tensor:
    """The loss of rows v, however they are normalised."""
    similarity = v @ v.T / temperature
    return similarity.logsumexp(1).mean() - 1 / temperature - math.log(len(v))


ALIKE = _logits(2, 8, 7)[[0, 0, 1]]
BATCHES = (
    Case("five images with six outputs at T = 1", (_logits(5, 6, 4), 1.0)),
    # Two alike, so that it matters where the logarithm is taken.
    Case("three images with eight outputs, two of them alike, at T = 0.5", (ALIKE, 0.5)),
    Case("four images with four outputs (float64) at T = 2", (_logits(4, 4, 6).double(), 2.0)),
)


def my_auxiliary_loss(subclass_logits, temperature):
    """One number to minimise, from (N, outputs) logits of a batch: 0 if all rows are equal."""
    centred = subclass_logits - subclass_logits.mean(dim=1, keepdim=True)
    v = F.normalize(centred, dim=1)  # each image by itself
    similarity = v @ v.T / temperature  # (N, N)
    n = torch.tensor(float(len(v)))
    return torch.logsumexp(similarity, dim=1).mean() - 1 / temperature - n.log()


auxiliary_loss = Function(
    header=Header("Write the auxiliary loss", difficulty=3, minutes=20, where=ALIVE),
    solved_by=my_auxiliary_loss,
    hints=(
        "First compute the vectors: subtract each row's mean, and divide by the row's length.",
        "`v @ v.T` contains all products. If all rows are equal, what is the mean logarithm, and "
        "what must you subtract to get 0?",
    ),
    right=lambda z, t: subclass_auxiliary_loss(z, 1, t),
    cases=BATCHES,
    mistakes={
        "normalised over the batch": (
            lambda z, t: _loss(_unit(z, dim=0), t),
            lambda z, t: _loss(F.normalize(z - z.mean(0), dim=0), t),
            lambda z, t: _loss(F.normalize(z - z.mean(0), dim=1), t),
        ),
        "mean not taken off": lambda z, t: _loss(F.normalize(z), t),
        "not scaled to length 1": lambda z, t: _loss(z - z.mean(1, keepdim=True), t),
        "scaled to deviation 1 instead of length 1": (
            lambda z, t: _loss(_unit(z) * z.shape[1] ** 0.5, t),
            lambda z, t: _loss(_unit(z, correction=1) * z.shape[1] ** 0.5, t),
        ),
        "sample instead of population deviation": lambda z, t: _loss(_unit(z, correction=1), t),
        "log n forgotten": lambda z, t: _loss(_unit(z), t) + math.log(len(z)),
        "1/T forgotten": lambda z, t: _loss(_unit(z), t) + 1 / t,
        "temperature forgotten": (
            lambda z, t: _loss(_unit(z), 1.0),
            lambda z, t: _loss(_unit(z), 1.0) + 1 - 1 / t,
        ),
        "sum instead of mean": (
            lambda z, t: len(z) * _loss(_unit(z), t),
            lambda z, t: (
                _loss(_unit(z), t) + (len(z) - 1) * (_unit(z) @ _unit(z).T / t).logsumexp(1).mean()
            ),
        ),
        "one logarithm for all": lambda z, t: (
            (_unit(z) @ _unit(z).T / t).logsumexp((0, 1)) - 2 * math.log(len(z)) - 1 / t
        ),
        "the wrong sign": lambda z, t: -_loss(_unit(z), t),
        "no gradient": gradient_missing(BATCHES[0], 0, "the subclass logits"),
    },
    says={
        "normalised over the batch": "You computed mean and scale over the columns. Normalise each "
        "*image* by itself, independently of the other images.",
        "mean not taken off": "A constant added to all logits of an image changes no probability, "
        "but it changes your loss: subtract each row's mean first.",
        "not scaled to length 1": "Longer rows count more: divide each row by its length.",
        "scaled to deviation 1 instead of length 1": "A row divided by its standard deviation has "
        "length √K for K outputs, so your products are K times too large: divide by the length.",
        "sample instead of population deviation": "`std` divides by K − 1 by default, so your rows "
        "are slightly shorter than 1: use `correction=0` or `F.normalize`.",
        "log n forgotten": "Without − log n, identical rows do not give 0: subtract log n.",
        "1/T forgotten": "Without − 1/T, identical rows do not give 0: subtract 1/T.",
        "temperature forgotten": "The products, or the 1 that you subtract, are not divided by T.",
        "sum instead of mean": "With a sum, larger batches count more: take the mean.",
        "one logarithm for all": "Each image has its own logarithm: take their mean.",
        "the wrong sign": "Minimising your loss would make all outputs equal: reverse the sign.",
        "no gradient": "A number without a graph trains nothing: remove `.item()` and NumPy.",
    },
    praise="The loss is 0 if all outputs are equal, and decreases the more they differ.",
)
