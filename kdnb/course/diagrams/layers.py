"""Two networks side by side, with the size of each layer."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from math import prod, sqrt

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from kdnb.course.diagrams.diagram import BLUE, ORANGE, Diagram, arrow, box, picture, words
from kdnb.course.labels import shortened
from kdnb.training.predict import evaluating

SIZE, SIDE, COLUMN = 13, 56, 310  # SIDE is that of the largest square
MOST = 10  # layers of a network


@dataclass(frozen=True)
class Layer:
    """A layer, or several: the shape of their output for one image, and their parameters."""

    name: str
    shape: tuple[int, ...]
    parameters: int


def networks(teacher: nn.Module, student: nn.Module, image: Tensor) -> Diagram:
    """The layers of both networks for one image (1, 1 or 3, H, W) of floats in [0, 1].

    Each layer has two squares, whose areas are the number of values that leave it and the number
    of its parameters.
    """
    models = {"teacher": teacher, "student": student}
    columns = {label: layers(model, image) for label, model in models.items()}
    every = [layer for column in columns.values() for layer in column]
    largest = (max(prod(x.shape) for x in every), max(1, *(x.parameters for x in every)))
    parts, said, ends = [], [], []
    for x, (label, column) in zip((0, COLUMN), columns.items(), strict=True):
        total = f"{sum(p.numel() for p in models[label].parameters()):,} parameters"
        parts += [
            words(x + 65, 16, label, "start", bold=True),
            words(x + 65, 36, total, "start", size=SIZE),
            picture(x + 6, 4, 48, (image[0] * 255).round().byte().cpu()),
            words(x + 65, 54, f"input {_sizes(image.shape[1:])}", "start", size=SIZE),
        ]
        drawn, end = _column(x, column, largest)
        parts += drawn
        ends.append(end)
        listed = (f"{y.name} {_sizes(y.shape)} with {y.parameters:,} parameters" for y in column)
        said.append(f"The {label} has {total}: {'; '.join(listed)}.")
    end = max(ends) + 20
    for x, ink, what in ((24, ORANGE, "values that leave the layer"), (COLUMN, BLUE, "parameters")):
        parts.append(box(x, end - 12, 12, 12, ink, fill=0.6, rounded=0))
        parts.append(words(x + 20, end - 1, f"area: {what}", "start", size=SIZE))
    return Diagram(2 * COLUMN, round(end) + 8, parts, " ".join(said), of_data=True)


def _column(x: float, column: list[Layer], largest: tuple[int, int]) -> tuple[list[str], float]:
    """The layers from the top to the bottom, and the y at which they end."""
    names = shortened([layer.name for layer in column], 20)
    parts, y, left_at = [], 76.0, 54.0
    for layer, name in zip(column, names, strict=True):
        pair = (prod(layer.shape), layer.parameters)
        sides = [SIDE * sqrt(n / most) for n, most in zip(pair, largest, strict=True)]
        middle = y + max(*sides, 50) / 2
        for center, side, ink in zip((x + 30, x + 94), sides, (ORANGE, BLUE), strict=True):
            corner = center - side / 2, middle - side / 2
            parts += [box(*corner, side, side, ink, fill=0.6, rounded=0)] if side else []
        parts += [
            arrow([(x + 30, left_at + 3), (x + 30, middle - sides[0] / 2 - 3)]),
            words(x + 130, middle - 12, name, "start", size=SIZE, bold=True),
            words(x + 130, middle + 5, f"output {_sizes(layer.shape)}", "start", size=SIZE),
            words(x + 130, middle + 22, f"{layer.parameters:,} parameters", "start", size=SIZE),
        ]
        left_at = middle + sides[0] / 2
        y = 2 * middle - y + 16
    return parts, y


def layers(model: nn.Module, image: Tensor) -> list[Layer]:
    """The layers that run for an image (1, C, H, W), in their order, at most `MOST`.

    Left out are layers without parameters that keep the shape. In a deep network neighbours with
    outputs of one shape become one, and then those in the middle.
    """
    found: dict[str, Layer] = {}
    counted: set[int] = set()  # parameters may be shared

    def hook(name: str) -> Callable:
        def record(module: nn.Module, given: object, made: object) -> None:
            before, after = (
                next((t.shape for t in tree_leaves(each) if isinstance(t, Tensor)), ())
                for each in (given, made)
            )
            new = [p for p in module.parameters() if id(p) not in counted]
            counted.update(map(id, new))
            if new or before != after:
                found.setdefault(name, Layer(name, tuple(after[1:]), sum(p.numel() for p in new)))

        return record

    hooks = [module.register_forward_hook(hook(name)) for name, module in _pieces(model)]
    try:
        with evaluating(model):
            model(image.to(next(model.parameters()).device))
    finally:
        for each in hooks:
            each.remove()
    kept = list(found.values())
    if len(kept) > MOST:
        kept = [_joined(list(same)) for _, same in groupby(kept, lambda layer: layer.shape)]
    if len(kept) > MOST:
        half = MOST // 2
        kept = [*kept[:half], _joined(kept[half : 1 - half]), *kept[1 - half :]]
    return kept


def _joined(several: list[Layer]) -> Layer:
    first, last = several[0], several[-1]
    name = first.name if first is last else f"{first.name} to {last.name}"
    return Layer(name, last.shape, sum(layer.parameters for layer in several))


def _pieces(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """A network's children by name; theirs instead of a list's, or of an only child."""
    children = list(model.named_children())
    if not children:
        yield type(model).__name__, model
    for name, child in children:
        whole = len(children) == 1 and any(child.children())
        if whole or isinstance(child, nn.ModuleList):
            yield from _pieces(child, prefix if whole else f"{prefix}{name}.")
        else:
            yield prefix + name, child


def _sizes(shape: tuple[int, ...]) -> str:
    return " × ".join(f"{n:,}" for n in shape)
