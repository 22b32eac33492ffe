"""Datasets: three splits of uint8 images with labels."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from kdnb.files import DataError


@dataclass(frozen=True)
class Split:
    """``images`` (N, C, H, W) uint8 and their ``labels`` (N,) int64, in a fixed order.

    ``subclasses`` (N,) int64 are the true subclasses if known. They evaluate the subclasses that a
    teacher invents, and are shown only to a teacher whose objective uses them.

    ``whole`` and ``rows`` (N,) name the split of which this is a part, and its rows, so that
    results for the whole can be reused.
    """

    images: Tensor
    labels: Tensor
    subclasses: Tensor | None = None
    whole: "Split | None" = field(default=None, repr=False)
    rows: Tensor | None = field(default=None, repr=False)

    def __post_init__(self):
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise DataError(
                f"images must be uint8 of shape (N, C, H, W), got {self.images.dtype} "
                f"of shape {tuple(self.images.shape)}"
            )
        if len(self.images) != len(self.labels):
            raise DataError(f"{len(self.images)} images but {len(self.labels)} labels")
        if self.subclasses is not None and self.subclasses.shape != self.labels.shape:
            raise DataError(f"{len(self.labels)} labels but {len(self.subclasses)} subclasses")
        if len(self.images) == 0:
            raise DataError("an empty split: give at least one image")

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of shape, pixels and labels, in hexadecimal: of all that a model learns from."""
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        digest.update(self.images.contiguous().numpy())
        digest.update(self.labels.contiguous().numpy())
        return digest.hexdigest()

    def take(self, index: Tensor) -> "Split":
        """The images at ``index`` (M,) int64, in that order."""
        subclasses = None if self.subclasses is None else self.subclasses[index]
        return Split(self.images[index], self.labels[index], subclasses, self, index)


@dataclass(frozen=True)
class Dataset:
    """A named dataset; ``about`` gives its contents and origin in one sentence.

    ``subclass_names`` names the true subclasses if the splits have them. ``stamp`` goes under every
    figure and table of a report, for data that must not be mistaken for real data.
    """

    name: str
    about: str
    class_names: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    subclass_names: tuple[str, ...] = ()
    stamp: str = ""

    def __post_init__(self):
        for part in ("train", "val", "test"):
            labels = getattr(self, part).labels
            if labels.min() < 0 or labels.max() >= len(self.class_names):
                raise DataError(
                    f"labels of {self.name} {part} must lie in 0..{len(self.class_names) - 1}, "
                    f"got {labels.min().item()}..{labels.max().item()}"
                )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the three splits and the class names, in hexadecimal."""
        parts = (self.train.fingerprint, self.val.fingerprint, self.test.fingerprint)
        return hashlib.sha256(repr((parts, self.class_names)).encode()).hexdigest()


def stratified_indices(labels: Tensor, sizes: tuple[int, ...], seed: int) -> list[Tensor]:
    """Disjoint sets of (size,) indices into ``labels`` (N,), each with the labels' class shares.

    The same seed draws the same sets, and a smaller first size draws a subset of a larger one.
    """
    if min(sizes) < 1 or sum(sizes) > len(labels):
        raise DataError(f"cannot draw sets of {sizes} from {len(labels)} images")
    generator = torch.Generator().manual_seed(seed)
    # Each image gets its rank within its class as a share in (0, 1); ordered by that share, every
    # stretch of the list holds the classes in their proportions.
    share = torch.empty(len(labels), dtype=torch.float64)
    for c in labels.unique():
        members = (labels == c).nonzero().squeeze(1)
        members = members[torch.randperm(len(members), generator=generator)]
        jitter = torch.rand(len(members), generator=generator, dtype=torch.float64)
        share[members] = (torch.arange(len(members), dtype=torch.float64) + jitter) / len(members)
    order = share.argsort(stable=True)
    return [
        part[torch.randperm(len(part), generator=generator)]
        for part in order[: sum(sizes)].split(list(sizes))
    ]
