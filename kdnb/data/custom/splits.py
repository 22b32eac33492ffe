"""Which image goes to which split: as given or drawn, but never the same pixels to two of them."""

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kdnb.data.dataset import DataError

PARTS = ("train", "val", "test")
KEPT = PARTS[::-1]  # an image that stands in several splits stays in the first of these
MUCH = 0.1  # of the images: if more than that is left out or odd, a warning says so


class Part(NamedTuple):
    """A split: ``images`` (N, C, H, W) uint8 and ``labels`` (N,) int64."""

    images: Tensor
    labels: Tensor


def settled(
    parts: dict[str, Part], classes: Sequence[str], shares: tuple[float, float], seed: int
) -> tuple[dict[str, Part], list[str]]:
    """The three splits, of which "train" is given at least, and what there is to say of them.

    An image whose pixels stand in a second split is left out of train, or else of val. The missing
    splits are drawn from train, and images with the same pixels go to the same one. Raises
    `DataError` for a class with too few images.
    """
    missing = [part for part in PARTS[1:] if part not in parts]
    _check_enough(parts["train"].labels, classes, missing)
    apart, alike, odd = _apart(parts, classes)
    notes = list(odd)
    if missing:
        images, labels = apart["train"]
        heads = (alike == torch.arange(len(alike))).nonzero().squeeze(1)
        _check_enough(labels[heads], classes, missing, " whose pixels differ")
        used = tuple(
            share if part in missing else 0.0 for part, share in zip(PARTS[1:], shares, strict=True)
        )
        for part, index in zip(PARTS, drawn(labels[heads], used, seed), strict=True):
            if len(index):
                others = torch.isin(alike, heads[index])
                others[heads] = False
                rows = torch.cat([heads[index], others.nonzero().squeeze(1)])
                apart[part] = Part(images[rows], labels[rows])
        notes.append(f"{' and '.join(missing)} drawn with seed {seed}, each class by its share")
    total = sum(len(part.labels) for part in parts.values())
    if sum(odd.values()) > MUCH * total:
        warnings.warn(f"of {total:,} images {', '.join(odd)}", stacklevel=4)
    return apart, notes


def drawn(labels: Tensor, shares: tuple[float, float], seed: int) -> list[Tensor]:
    """Indices for training, validation and testing, with at least one of each class in each.

    ``labels`` (N,) int64; ``shares`` of each class go to validation and testing, where a share of 0
    leaves a set empty. Raises `DataError` for a class with too few images.
    """
    generator = torch.Generator().manual_seed(seed)
    parts: list[list[Tensor]] = [[], [], []]
    for c in labels.unique():
        members = (labels == c).nonzero().squeeze(1)
        members = members[torch.randperm(len(members), generator=generator)]
        val, test = (max(1, round(share * len(members))) if share else 0 for share in shares)
        train = len(members) - val - test
        if train < 1:
            need = 1 + sum(share > 0 for share in shares)
            raise DataError(
                f"class {c.item()} has {len(members)} of the {need} images that it needs, one in "
                "each split"
            )
        for part, piece in zip(parts, members.split([train, val, test]), strict=True):
            part.append(piece)
    sets = [torch.cat(part) for part in parts]
    return [part[torch.randperm(len(part), generator=generator)] for part in sets]


def _check_enough(
    labels: Tensor, classes: Sequence[str], missing: Sequence[str], which: str = ""
) -> None:
    need = 1 + len(missing)
    for c, count in zip(
        classes, torch.bincount(labels, minlength=len(classes)).tolist(), strict=True
    ):
        if count < need:
            raise DataError(
                f"the class {c} has {count} image(s){which}, and needs {need} so that "
                f"{', '.join(['train', *missing])} each get one"
            )


def _apart(
    given: dict[str, Part], classes: Sequence[str]
) -> tuple[dict[str, Part], Tensor, dict[str, int]]:
    """No pixels in two splits; for each training image the first with its pixels; what was odd.

    What was odd is said in words, each with its number of images.
    """
    parts, odd, repeated, torn = {}, {}, 0, 0
    seen: dict[bytes, tuple[str, int, int]] = {}  # by digest: the first's split, row and label
    for part in (part for part in KEPT if part in given):
        rows, alike = [], []
        for i, (digest, label) in enumerate(_digests(given[part])):
            where, row, first = seen.setdefault(digest, (part, len(rows), label))
            torn += label != first
            if where == part:
                repeated += row < len(rows)
                alike.append(row)
                rows.append(i)
        parts[part] = given[part]
        if gone := len(given[part].labels) - len(rows):
            parts[part] = Part(*(tensor[rows] for tensor in given[part]))
            odd[f"{gone:,} left out of {part}, for their pixels stand in another split too"] = gone
            if lost := set(range(len(classes))) - set(parts[part].labels.tolist()):
                raise DataError(
                    f"the class {classes[min(lost)]} has no image in {part} whose pixels do not "
                    "stand in another split too: each split needs images of its own"
                )
    if repeated:
        odd[f"{repeated:,} with the pixels of another in the same split"] = repeated
    if torn:
        odd[f"{torn:,} with the pixels of another of a different class"] = torn
    return parts, torch.tensor(alike), odd


def _digests(part: Part) -> Iterator[tuple[bytes, int]]:
    for image, label in zip(part.images, part.labels.tolist(), strict=True):
        yield hashlib.sha256(image.contiguous().numpy()).digest(), label
