"""Networks of a reader's: some that can be trained together, many that must be trained alone."""

import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

CALLS = 0


class Plain(nn.Module):
    """A perceptron, of which the others change one thing."""

    def __init__(self, num_classes=4, subclasses=1):
        super().__init__()
        self.first = nn.Linear(784, 8)
        self.middle = nn.Linear(8, 8)
        self.last = nn.Linear(8, num_classes * subclasses)
        self.more()

    def more(self):
        """What a network has beside three layers."""

    def forward(self, images: Tensor) -> Tensor:
        return self.last(F.relu(self.middle(self.hidden(images))))

    def hidden(self, images: Tensor) -> Tensor:
        return F.relu(self.first(images.flatten(1)))


# Trained together


class Lambda(Plain):
    def more(self):
        self.act = lambda x: x * x.sigmoid()
        self.scale = torch.linspace(0.5, 1.5, 8)

    def hidden(self, images):
        return self.scale * self.act(self.first(images.flatten(1)))


class Normed(Plain):
    def more(self):
        self.norm = nn.LayerNorm(8)

    def hidden(self, images):
        return self.norm(super().hidden(images))


class OtherInEval(Plain):
    """Answers the wrong way round after training, as validation must notice."""

    def forward(self, images):
        answers = super().forward(images)
        return answers if self.training else answers.flip(1)


class Convolutional(nn.Sequential):
    def __init__(self, num_classes=4, subclasses=1):
        super().__init__(
            nn.Conv2d(1, 4, 5, stride=4), nn.ReLU(), nn.Flatten(),
            nn.Linear(144, num_classes * subclasses),
        )  # fmt: skip


TOGETHER = (Plain, Lambda, Normed, OtherInEval, Convolutional)


# Alone


class Frozen(Plain):
    def more(self):
        self.first.requires_grad_(False)


class Counter(Plain):
    """Doubles its answers from the seventh batch on."""

    def more(self):
        self.steps = 0

    def forward(self, images):
        self.steps += self.training
        return super().forward(images) * (2 if self.steps > 6 else 1)


class FunctionalDropout(Plain):
    def hidden(self, images):
        return F.dropout(super().hidden(images), 0.5, self.training)


class Noise(Plain):
    def hidden(self, images):
        noise = 0.1 * torch.randn(8) if self.training else 0
        return super().hidden(images) + noise


class StochasticDepth(Plain):
    def forward(self, images):
        hidden = self.hidden(images)
        if not self.training or random.random() < 0.5:
            hidden = F.relu(self.middle(hidden))
        return self.last(hidden)


class Recurrent(nn.Module):
    def __init__(self, num_classes=4, subclasses=1):
        super().__init__()
        self.rows = nn.LSTM(28, 8, batch_first=True)
        self.last = nn.Linear(8, num_classes * subclasses)

    def forward(self, images):
        return self.last(self.rows(images.squeeze(1))[0][:, -1])


class SpectralNorm(Plain):
    def more(self):
        self.middle = parametrizations.spectral_norm(self.middle)


class Checkpointed(Plain):
    def forward(self, images):
        return self.last(checkpoint(self.hidden, images, use_reentrant=False))


class Item(Plain):
    def hidden(self, images):
        hidden = super().hidden(images)
        return hidden / (1 + hidden.abs().max().item())


class Tied(Plain):
    def more(self):
        self.again = nn.Linear(8, 8)
        self.again.weight = self.middle.weight

    def hidden(self, images):
        return F.relu(self.again(super().hidden(images)))


class Running(Plain):
    def more(self):
        self.register_buffer("mean", torch.zeros(8))

    def hidden(self, images):
        hidden = super().hidden(images)
        if self.training:
            self.mean.lerp_(hidden.detach().mean(0), 0.1)
        return hidden - self.mean


NAMED = (
    Frozen, Counter, FunctionalDropout, Noise, StochasticDepth, Recurrent, SpectralNorm,
    Checkpointed, Item, Running,
)  # fmt: skip


class NumpyNoise(Plain):
    def hidden(self, images):
        return super().hidden(images) * (float(np.random.rand()) if self.training else 1)


class OwnStream(Plain):
    def more(self):
        self.chance = np.random.default_rng(0)

    def hidden(self, images):
        return super().hidden(images) * (float(self.chance.random()) if self.training else 1)


class GlobalCounter(Plain):
    def hidden(self, images):
        global CALLS
        CALLS += self.training
        return super().hidden(images) * (1 if not self.training or CALLS % 3 else 2)


class ClassCounter(Plain):
    seen = 0

    def hidden(self, images):
        ClassCounter.seen += self.training
        return super().hidden(images) * (1 if not self.training or self.seen % 3 else 2)


def alternating():
    count = 0

    def act(x):
        nonlocal count
        count += 1
        return x.relu() if count % 2 else x

    return act


class Closure(Plain):
    def more(self):
        self.act = alternating()

    def hidden(self, images):
        act = self.act if self.training else F.relu
        return act(self.first(images.flatten(1)))


class KnowsItself(Plain):
    """Of a copy, the function inside still uses the layers of what was copied."""

    def more(self):
        self.act = lambda images: F.relu(self.first(images.flatten(1)))

    def hidden(self, images):
        return self.act(images)


class WeightNorm(Plain):
    """vmap computes its weights one by one, and says so in a warning."""

    def more(self):
        self.middle = parametrizations.weight_norm(self.middle)


class ChangedGradient(Plain):
    def more(self):
        self.first.weight.register_hook(lambda gradient: 0.1 * gradient)


class OwnConstant(Plain):
    """Each seed has another order of pixels, which is no parameter."""

    def more(self):
        self.order = torch.randperm(784)

    def hidden(self, images):
        return F.relu(self.first(images.flatten(1)[:, self.order]))


class BatchStatistics(Plain):
    """Answers differently to an image in another batch, also after training."""

    def hidden(self, images):
        return F.batch_norm(super().hidden(images), None, None, training=True)


class Remembers(Plain):
    def more(self):
        self.previous = None

    def hidden(self, images):
        hidden = super().hidden(images)
        if self.training:
            before, self.previous = self.previous, hidden.detach().mean()
            return hidden if before is None else hidden - before
        return hidden


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.sign()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class OwnGradient(Plain):
    def hidden(self, images):
        return Straight.apply(super().hidden(images))


class OtherGradient(torch.autograd.Function):
    """Its rule for vmap gives the same answers and forgets the gradient that goes straight."""

    @staticmethod
    def forward(x):
        return x.sign()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, gradient):
        return gradient

    @staticmethod
    def vmap(info, dims, x):
        return x.sign(), dims[0]


class OtherAnswers(OtherGradient):
    """Its rule for vmap gives other answers."""

    @staticmethod
    def vmap(info, dims, x):
        return x.tanh(), dims[0]


class GradientTogether(Plain):
    def hidden(self, images):
        return OtherGradient.apply(super().hidden(images))


class AnswersTogether(Plain):
    def hidden(self, images):
        hidden = super().hidden(images)
        return hidden if self.training else OtherAnswers.apply(hidden)


# These leave something behind beside the network itself, so that no two runs of them are equal.
SPREAD = (GlobalCounter, ClassCounter)
UNNAMED = (
    NumpyNoise, OwnStream, Closure, KnowsItself, WeightNorm, ChangedGradient, OwnConstant,
    BatchStatistics, Remembers, OwnGradient, GradientTogether, AnswersTogether,
)  # fmt: skip
