"""Which images methods classify correctly, made from the accuracies that a test needs."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdnb.experiment.results import Comparison


def right(accuracies: Sequence | Tensor, images: int) -> Tensor:
    """(..., images) bool: of each accuracy so many first images, so that methods share them."""
    shares = torch.as_tensor(accuracies, dtype=torch.float64)
    return torch.arange(images) < (shares * images).round().unsqueeze(-1)


def comparison(by_label: dict[str, Sequence], images: int, split: str = "test") -> Comparison:
    """A comparison in which every method has these accuracies, one a seed."""
    shares = torch.as_tensor(list(by_label.values()), dtype=torch.float64)
    seeds = tuple(range(shares.shape[1]))
    return Comparison(tuple(by_label), seeds, split, right(shares, images), {})
