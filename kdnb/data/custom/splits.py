"""The split of each image, given or drawn, but never the same pixels in two splits."""

import hashlib
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from kdnb.data.dataset import DataError, Split

PARTS = ("train", "val", "test")
MUCH = 0.1  # of the images: if more than that is left out or odd, a warning says so


def disjoint_splits(
    given: dict[str, Split], classes: Sequence[str], shares: tuple[float, float], seed: int
) -> tuple[dict[str, Split], list[str]]:
    """The three splits, of which at least "train" is given, and notes on them.

    An image whose pixels are also in a second split is left out of train, or else of val. Missing
    splits are drawn from train, and images with the same pixels go to the same one. Raises
    `DataError` for a class with too few images.
    """
    missing = [part for part in PARTS[1:] if part not in given]
    _check_enough(given["train"].labels, classes, missing)
    splits, alike, odd = _without_shared_pixels(given, classes)
    notes = list(odd)
    if missing:
        train = splits["train"]
        heads = (alike == torch.arange(len(alike))).nonzero().squeeze(1)
        _check_enough(train.labels[heads], classes, missing, " whose pixels differ")
        val, test = (shares[i] * (part in missing) for i, part in enumerate(PARTS[1:]))
        for part, index in zip(PARTS, drawn(train.labels[heads], (val, test), seed), strict=True):
            if len(index):
                others = torch.isin(alike, heads[index])
                others[heads] = False
                splits[part] = _rows(train, torch.cat([heads[index], others.nonzero().squeeze(1)]))
        notes.append(f"{' and '.join(missing)} drawn with seed {seed}, each class by its share")
    total = sum(map(len, given.values()))
    if sum(odd.values()) > MUCH * total:
        warnings.warn(f"of {total:,} images {', '.join(odd)}", stacklevel=4)
    return splits, notes


def drawn(labels: Tensor, shares: tuple[float, float], seed: int) -> list[Tensor]:
    """Indices for training, validation and testing, with at least one of each class in each.

    ``labels`` (N,) int64; ``shares`` of each class go to validation and testing, where a share of 0
    leaves a set empty. Raises `DataError` for a class that leaves no image to train on.
    """
    generator = torch.Generator().manual_seed(seed)
    parts: list[list[Tensor]] = [[], [], []]
    for c in labels.unique():
        members = (labels == c).nonzero().squeeze(1)
        members = members[torch.randperm(len(members), generator=generator)]
        val, test = (max(1, round(share * len(members))) if share else 0 for share in shares)
        train = len(members) - val - test
        if train < 1:
            raise DataError(
                f"class {c.item()} has {len(members)} images, and shares of {shares} leave none of "
                "them to train on"
            )
        for part, piece in zip(parts, members.split([train, val, test]), strict=True):
            part.append(piece)
    sets = [torch.cat(part) for part in parts]
    return [part[torch.randperm(len(part), generator=generator)] for part in sets]


def _check_enough(
    labels: Tensor, classes: Sequence[str], missing: Sequence[str], which: str = ""
) -> None:
    need = 1 + len(missing)
    for c, count in enumerate(torch.bincount(labels, minlength=len(classes)).tolist()):
        if count < need:
            raise DataError(
                f"the class {classes[c]} has {count} image(s){which}, and needs {need} so that "
                f"{', '.join(['train', *missing])} each get one"
            )


def _without_shared_pixels(
    given: dict[str, Split], classes: Sequence[str]
) -> tuple[dict[str, Split], Tensor, dict[str, int]]:
    """No pixels in two splits; for each training image the first with its pixels; what was odd.

    What was odd is said in words, each with its number of images.
    """
    splits, odd, repeated, torn = {}, {}, 0, 0
    seen: dict[bytes, tuple[str, int, int]] = {}  # by digest: the first's split, row and label
    # An image that stands in several splits stays in the last.
    for part in (part for part in reversed(PARTS) if part in given):
        split = given[part]
        rows, alike = [], []
        for i, (image, label) in enumerate(zip(split.images, split.labels.tolist(), strict=True)):
            digest = hashlib.sha256(image.contiguous().numpy()).digest()
            where, row, first = seen.setdefault(digest, (part, len(rows), label))
            torn += label != first
            if where == part:
                repeated += row < len(rows)
                alike.append(row)
                rows.append(i)
        splits[part] = split
        if gone := len(split) - len(rows):
            if lost := set(range(len(classes))) - set(split.labels[rows].tolist()):
                raise DataError(
                    f"the class {classes[min(lost)]} has only images in {part} whose pixels are "
                    "in another split too: each split needs its own images"
                )
            splits[part] = _rows(split, rows)
            odd[f"{gone:,} left out of {part}, since their pixels are also in another split"] = gone
    if repeated:
        odd[f"{repeated:,} with the pixels of another in the same split"] = repeated
    if torn:
        odd[f"{torn:,} with the pixels of another of a different class"] = torn
    return splits, torch.tensor(alike), odd


def _rows(split: Split, rows: Tensor | list[int]) -> Split:
    return Split(split.images[rows], split.labels[rows])
