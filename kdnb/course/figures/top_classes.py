"""The top classes of many: a chart shows these by name, and all others as one bar."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

MOST = 12  # bars with legible names
MATRIX = 30  # rows of a matrix with legible numbers


@dataclass(frozen=True)
class TopClasses:
    """The classes ``rows`` that a chart shows, in their order, and the number of ``others``.

    >>> few = top_classes(torch.arange(1000.0), [3])
    >>> few.rows, few.others
    ([3, 990, 991, 992, 993, 994, 995, 996, 997, 998, 999], 989)
    >>> few.of(torch.ones(1000)).tolist()[-2:]
    [1.0, 989.0]
    """

    rows: list[int]
    others: int

    def of(self, values: Tensor) -> Tensor:
        """(C,) values as bars: the rows' values, then the sum of the others, if any."""
        shown = values[self.rows]
        if not self.others:
            return shown
        rest = torch.ones(len(values), dtype=torch.bool)
        rest[self.rows] = False
        return torch.cat([shown, values[rest].sum()[None]])

    def subclasses(self, size: int) -> list[int]:
        """The rows' subclasses, if each class has ``size`` of them."""
        return [row * size + i for row in self.rows for i in range(size)]

    def names(self, class_names: Sequence[str]) -> list[str]:
        """The names under the bars."""
        return [class_names[i] for i in self.rows] + [f"{self.others:,} others"] * bool(self.others)


def top_classes(scores: Tensor, always: Sequence[int] = (), most: int = MOST) -> TopClasses:
    """All of (C,) classes; of more than ``most``, those with the largest scores and ``always``.

    The bar of the others takes one place.
    """
    if len(scores) <= most:
        return TopClasses(list(range(len(scores))), 0)
    first = scores.clone()
    first[list(always)] = torch.inf
    rows = sorted(first.topk(most - 1).indices.tolist())
    return TopClasses(rows, len(scores) - len(rows))
