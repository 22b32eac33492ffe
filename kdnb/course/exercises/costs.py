"""Notebook 05: count what a layer takes, and say in which currency a model is smaller."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from kdnb.course.exercises.exercise import Case, Function, Header, Question
from kdnb.course.exercises.verdict import Paragraph
from kdnb.environment import seeded

if TYPE_CHECKING:
    from kdnb.evaluation.cost import Cost  # counts with tools that take a while to import

NOTEBOOK = "05_cost"
COUNTING = Paragraph(NOTEBOOK, "Counting, written out")
CURRENCIES = Paragraph(NOTEBOOK, "Five currencies")


def _places(layer: nn.Module, batch: Tensor, *, stride: bool = True, padding: bool = True) -> int:
    """At how many places each weight of the layer is used in one image."""
    if isinstance(layer, nn.Linear):
        return 1
    sides = zip(batch.shape[2:], layer.kernel_size, layer.stride, layer.padding, strict=True)
    return math.prod((n + 2 * p * padding - k) // (s if stride else 1) + 1 for n, k, s, p in sides)


def _products(layer: nn.Module, batch: Tensor) -> int:
    """Multiply-adds for one image."""
    return layer.weight.numel() * _places(layer, batch)


def _biases(layer: nn.Module) -> int:
    return 0 if layer.bias is None else len(layer.bias)


def _sums(layer: nn.Module, batch: Tensor) -> int:
    """Biases that are added for one image."""
    return _biases(layer) * _places(layer, batch)


def _at(places: Callable) -> Callable:
    """FLOPs with the places counted in this way."""
    return lambda layer, x: (2 * layer.weight.numel() + _biases(layer)) * places(layer, x)


def _with_weights(weights: Callable) -> Callable:
    """FLOPs of a convolution with so many weights in use at each place."""

    def flops(layer: nn.Module, batch: Tensor) -> int:
        if isinstance(layer, nn.Linear):
            return my_layer_flops(layer, batch)
        return 2 * weights(layer) * _places(layer, batch) + _sums(layer, batch)

    return flops


def _area(layer: nn.Conv2d) -> int:
    return math.prod(layer.kernel_size)


def _case(layer: nn.Module, *shape: int) -> Case:
    return Case(f"{layer} and a batch of shape {shape}", (layer, torch.zeros(shape)))


with seeded(0):
    CASES = (
        _case(nn.Linear(12, 5), 5, 12),
        _case(nn.Conv2d(2, 3, (3, 5), stride=2, padding=2), 2, 2, 5, 6),
        _case(nn.Conv2d(2, 6, 3, bias=False), 3, 2, 6, 6),
        _case(nn.Conv2d(4, 4, 3, groups=4), 2, 4, 5, 5),
    )


def my_layer_flops(layer, batch):
    """FLOPs for one image of an `nn.Linear` or `nn.Conv2d` that is given a batch of them.

    The batch is (N, features) or (N, channels, height, width).
    """
    with torch.no_grad():
        output = layer(batch[:1])[0]  # let the layer say how large its output is
    places = output[0].numel()  # 1 for a dense layer, h · w for a convolution
    flops = 2 * layer.weight.numel() * places  # a multiplication and an addition
    return flops + (output.numel() if layer.bias is not None else 0)


layer_flops = Function(
    header=Header("Count the FLOPs of a layer", difficulty=2, minutes=15, where=COUNTING),
    solved_by=my_layer_flops,
    hints=(
        "Two for each multiply-add, one for each bias that is added, for one image.",
        "`layer.weight.numel()` is the number of weights. At how many places is each used?",
        "The size of the output depends on stride and padding: run the layer on one image.",
    ),
    right=my_layer_flops,
    cases=CASES,
    mistakes={
        "MACs instead of FLOPs": (_products, lambda m, x: _products(m, x) + _sums(m, x)),
        "bias forgotten": lambda m, x: 2 * _products(m, x),
        "bias counted twice": lambda m, x: 2 * (_products(m, x) + _sums(m, x)),
        "bias at one place only": lambda m, x: 2 * _products(m, x) + _biases(m),
        "a bias that is not there": lambda m, x: (
            (2 * m.weight.numel() + len(m.weight)) * _places(m, x)
        ),
        "the whole batch": lambda m, x: len(x) * my_layer_flops(m, x),
        "each weight used once": _at(lambda m, x: 1),
        "the input's places": _at(lambda m, x: x[0, 0].numel()),
        "stride forgotten": _at(lambda m, x: _places(m, x, stride=False)),
        "padding forgotten": _at(lambda m, x: _places(m, x, padding=False)),
        "one side of the kernel": (
            _with_weights(lambda m: m.weight[..., 0].numel()),
            _with_weights(lambda m: m.weight[..., 0, :].numel()),
        ),
        "kernel forgotten": _with_weights(lambda m: m.weight[..., 0, 0].numel()),
        "input channels forgotten": _with_weights(lambda m: _area(m) * m.out_channels),
        "groups forgotten": _with_weights(lambda m: _area(m) * m.in_channels * m.out_channels),
        "only dense layers": lambda m, x: my_layer_flops(m, x) if isinstance(m, nn.Linear) else 0,
        "parameters instead of FLOPs": lambda m, x: sum(p.numel() for p in m.parameters()),
    },
    says={
        "MACs instead of FLOPs": "A multiply-add is two operations: multiply by 2.",
        "bias forgotten": "The biases are added too: one operation for each value of the output.",
        "bias counted twice": "A bias is added and not multiplied: one operation, not two.",
        "bias at one place only": "A convolution adds its bias at every place of the output.",
        "a bias that is not there": "This layer has no bias: ask whether `layer.bias` is None.",
        "the whole batch": "That is for the whole batch: a cost is per image.",
        "each weight used once": "A convolution uses each weight at every place of its output.",
        "the input's places": "Count the places of the *output*: stride and border make them "
        "fewer.",
        "stride forgotten": "With stride 2 the kernel stops at every second pixel only.",
        "padding forgotten": "The padding enlarges the image before the kernel goes over it.",
        "one side of the kernel": "A kernel has k × k weights for each pair of channels.",
        "kernel forgotten": "Each place sees k × k pixels: you counted one.",
        "input channels forgotten": "An output channel sees all input channels of its group.",
        "groups forgotten": "In groups a channel sees only the input channels of its group.",
        "only dense layers": "Convolutions get 0, but do most of the arithmetic.",
        "parameters instead of FLOPs": "That is the number of parameters, not the arithmetic.",
    },
    read={"parameters instead of FLOPs": CURRENCIES},
    praise="Add this up over the layers, and the poolings, and you have kdnb's count.",
)


def _shares(student: "Cost", teacher: "Cost") -> np.ndarray:
    return np.array([student.parameters / teacher.parameters, student.flops / teacher.flops])


which_currency = Question(
    header=Header("Smaller, in which currency?", difficulty=1, minutes=5, where=CURRENCIES),
    about="the student's share of its teacher",
    stub="my_which_currency = None  # (share of parameters, share of FLOPs)",
    solved="""\
my_which_currency = (
    costs["student"].parameters / costs["teacher"].parameters,
    costs["student"].flops / costs["teacher"].flops,
)""",
    hints=(
        "The table above has both. A share below 1 says that the student is smaller.",
        '`costs["student"].parameters`, `costs["student"].flops`, and the same of the teacher.',
    ),
    right=_shares,
    tolerance=0.02,
    mistakes={
        "upside down": lambda s, t: _shares(t, s),
        "currencies exchanged": lambda s, t: _shares(s, t)[[1, 0]],
        "parameters for FLOPs": lambda s, t: _shares(s, t)[[0, 0]],
        "FLOPs for parameters": lambda s, t: _shares(s, t)[[1, 1]],
        "what is saved instead of what is left": lambda s, t: 1 - _shares(s, t),
        "differences instead of shares": (
            lambda s, t: (s.parameters - t.parameters, s.flops - t.flops),
            lambda s, t: (t.parameters - s.parameters, t.flops - s.flops),
        ),
        "per cent instead of shares": lambda s, t: 100 * _shares(s, t),
        "one currency only": (lambda s, t: _shares(s, t)[0], lambda s, t: _shares(s, t)[1]),
    },
    says={
        "upside down": "Divide the student's number by the teacher's.",
        "currencies exchanged": "Parameters come first, FLOPs second.",
        "parameters for FLOPs": "Both numbers are that of the parameters. A weight of a "
        "convolution is used at every place, so FLOPs go their own way.",
        "FLOPs for parameters": "Both are FLOPs. What is stored on disk is the parameters.",
        "what is saved instead of what is left": "That is 1 less the share: what is saved.",
        "differences instead of shares": "Differences have a currency: divide.",
        "per cent instead of shares": "A share of 1 is 100 %: divide by 100.",
        "one currency only": "One number is missing: give both.",
    },
    read={"parameters for FLOPs": COUNTING},
    praise="A model is smaller in a currency, not as such: always name it.",
)
