"""Of many classes a chart shows the top ones by name, and all others as one bar."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

MOST = 12  # bars whose names can be told apart
MATRIX = 30  # rows of a matrix whose numbers can be read


@dataclass(frozen=True)
class TopClasses:
    """The classes ``rows`` that a chart shows, in their order, and how many ``others`` there are.

    >>> few = top_classes(torch.arange(1000.0), [3])
    >>> few.rows, few.others
    ([3, 990, 991, 992, 993, 994, 995, 996, 997, 998, 999], 989)
    >>> few.of(torch.ones(1000)).tolist()[-2:]
    [1.0, 989.0]
    """

    rows: list[int]
    others: int

    def of(self, values: Tensor) -> Tensor:
        """(C,) values as bars: those of the rows, then the sum of the others, if there are any."""
        shown = values[self.rows]
        if not self.others:
            return shown
        rest = torch.ones(len(values), dtype=torch.bool)
        rest[self.rows] = False
        return torch.cat([shown, values[rest].sum()[None]])

    def subclasses(self, size: int) -> list[int]:
        """The rows' subclasses, where each class has so many."""
        return [row * size + i for row in self.rows for i in range(size)]

    def names(self, class_names: Sequence[str]) -> list[str]:
        """What stands under the bars."""
        return [class_names[i] for i in self.rows] + [f"{self.others:,} others"] * bool(self.others)


def top_classes(scores: Tensor, always: Sequence[int] = (), most: int = MOST) -> TopClasses:
    """All of (C,) classes, or of more than ``most`` those with the largest scores and ``always``.

    One place is left for the bar of the others.
    """
    if len(scores) <= most:
        return TopClasses(list(range(len(scores))), 0)
    first = scores.clone()
    first[list(always)] = torch.inf
    rows = sorted(first.topk(most - 1).indices.tolist())
    return TopClasses(rows, len(scores) - len(rows))
