"""Notebook 05: count the FLOPs of a layer, and say in which currency a model is smaller."""

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
CURRENCIES = Paragraph(NOTEBOOK, "Six currencies")


def _places(layer: nn.Module, batch: Tensor, *, stride: bool = True, padding: bool = True) -> int:
    """The number of output positions at which each weight is used, for one image."""
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
    """Additions of biases for one image."""
    return _biases(layer) * _places(layer, batch)


def _at(places: Callable) -> Callable:
    """FLOPs with the positions counted by ``places``."""
    return lambda layer, x: (2 * layer.weight.numel() + _biases(layer)) * places(layer, x)


def _with_weights(weights: Callable) -> Callable:
    """FLOPs of a convolution with this number of weights in use at each position."""

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
    """FLOPs of an `nn.Linear` or `nn.Conv2d` for one image of a batch.

    The batch is (N, features) or (N, channels, height, width).
    """
    with torch.no_grad():
        output = layer(batch[:1])[0]  # one image gives the size of the output
    places = output[0].numel()  # 1 for a dense layer, h · w for a convolution
    flops = 2 * layer.weight.numel() * places  # a multiplication and an addition
    return flops + (output.numel() if layer.bias is not None else 0)


layer_flops = Function(
    header=Header("Count the FLOPs of a layer", difficulty=2, minutes=15, where=COUNTING),
    solved_by=my_layer_flops,
    hints=(
        "Count two FLOPs per multiply-add and one per added bias, for one image.",
        "`layer.weight.numel()` is the number of weights. At how many positions is each used?",
        "The size of the output depends on stride and padding. Run the layer on one image.",
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
        "MACs instead of FLOPs": "A multiply-add is two operations. You counted one.",
        "bias forgotten": "You left out the biases. Each value of the output needs one addition.",
        "bias counted twice": "A bias is added, not multiplied. Count one operation, not two.",
        "bias at one place only": "A convolution adds its bias at every position of the output.",
        "a bias that is not there": "This layer has no bias. Check `layer.bias`.",
        "the whole batch": "You counted the whole batch. Count one image.",
        "each weight used once": "A convolution uses each weight at every position of its output.",
        "the input's places": "You counted positions of the input. Count those of the output.",
        "stride forgotten": "With stride 2 the kernel visits every second pixel only.",
        "padding forgotten": "You ignored the padding, which enlarges the image first.",
        "one side of the kernel": "Each pair of channels has k × k weights. You counted k.",
        "kernel forgotten": "You counted one pixel per position. The kernel reads k × k pixels.",
        "input channels forgotten": "An output channel reads all input channels of its group.",
        "groups forgotten": "A channel reads only the input channels of its own group.",
        "only dense layers": "You counted 0 for convolutions. Count their operations too.",
        "parameters instead of FLOPs": "You counted parameters. Count the operations.",
    },
    read={"parameters instead of FLOPs": CURRENCIES},
    praise="The sum over all layers, plus the pooling layers, is kdnb's count.",
)


def _shares(student: "Cost", teacher: "Cost") -> np.ndarray:
    return np.array([student.parameters / teacher.parameters, student.flops / teacher.flops])


which_currency = Question(
    header=Header("Smaller, in which currency?", difficulty=1, minutes=5, where=CURRENCIES),
    about="the ratios of student to teacher",
    stub="my_which_currency = None  # (ratio of parameters, ratio of FLOPs)",
    solved="""\
my_which_currency = (
    costs["student"].parameters / costs["teacher"].parameters,
    costs["student"].flops / costs["teacher"].flops,
)""",
    hints=(
        "The table above contains all four numbers. A ratio below 1 means a smaller student.",
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
        "parameters for FLOPs": "Both ratios are of the parameters. A convolution uses each "
        "weight at many positions, so the ratio of the FLOPs is different.",
        "FLOPs for parameters": "Both ratios are of the FLOPs. Start with the parameters.",
        "what is saved instead of what is left": "You gave what is saved. Give the ratio.",
        "differences instead of shares": "You subtracted. Divide student by teacher.",
        "per cent instead of shares": "You gave per cent. A ratio of 1 is 100 %, so divide by 100.",
        "one currency only": "One number is missing. Give both ratios.",
    },
    read={"parameters for FLOPs": COUNTING},
    praise="A model can be smaller in one currency and larger in another: name the currency.",
)
