"""`mnist-small`: 6,000 of MNIST's training images and its whole test set, inside the package."""

from pathlib import Path

import numpy as np
import torch

from kdnb.data.dataset import Dataset, Split, stratified_indices
from kdnb.data.mnist import published_splits

TRAIN, VAL, AUDIT = 5_000, 1_000, 40_000
SPLIT_SEED = 0
FILE = Path(__file__).with_name("mnist-small.npz")


def load(root: object = None) -> Dataset:
    """5,000 training, 1,000 validation and 10,000 test images as (N, 1, 28, 28) uint8.

    The first two are drawn from MNIST's training images, stratified by class; the last are MNIST's
    own test images in their order. They need no other file, so ``root`` is not used.
    """
    with np.load(FILE) as kept:
        images, labels = (torch.from_numpy(kept[name]) for name in ("images", "labels"))
    parts = (TRAIN, VAL, len(labels) - TRAIN - VAL)
    splits = map(Split, images[:, None].split(parts), labels.long().split(parts))
    return Dataset(
        "mnist-small",
        "A part of MNIST, handwritten digits of 28×28 pixels (LeCun, Cortes & Burges; CC BY-SA "
        "3.0)",
        tuple("0123456789"),
        *splits,
    )


def audit(root: str | Path | None = None) -> Split:
    """40,000 of MNIST's training images that `load` never returns, for a last check of results.

    MNIST's files are found, and errors raised, as in `kdnb.data.mnist.load`.
    """
    return _drawn(root)[2]


def embed(file: Path = FILE, root: str | Path | None = None) -> None:
    """Write the images and labels that `load` reads, from MNIST's files."""
    train, val, _, test = _drawn(root)
    splits = (train, val, test)
    images = torch.cat([split.images[:, 0] for split in splits]).numpy()
    labels = torch.cat([split.labels for split in splits]).numpy().astype(np.uint8)
    np.savez_compressed(file, images=images, labels=labels)


def _drawn(root: str | Path | None) -> tuple[Split, ...]:
    """Training, validation and audit images, disjoint parts of MNIST's training images; test."""
    train, test = published_splits(root)
    parts = stratified_indices(train.labels, (TRAIN, VAL, AUDIT), SPLIT_SEED)
    return *map(train.take, parts), test
