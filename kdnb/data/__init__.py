"""Datasets in memory: uint8 images with train, validation and test splits.

>>> digits = load("mnist-small")
>>> digits.train.images.shape, digits.train.images.dtype
(torch.Size([5000, 1, 28, 28]), torch.uint8)
"""

from functools import partial
from pathlib import Path

from kdnb.data import mhist, mnist, mnist_small, polyps, two_by_five
from kdnb.data.custom.sources import ImageFolder, ImageTensors
from kdnb.data.dataset import DataError, Dataset, Split

__all__ = ["LOADERS", "DataError", "Dataset", "ImageFolder", "ImageTensors", "Split", "load"]

LOADERS = {
    "mnist-small": mnist_small.load,
    "mnist-small-2x5": two_by_five.of(mnist_small.load),
    "mnist": mnist.load,
    "mnist-2x5": two_by_five.of(mnist.load),
    "mhist": mhist.load,
    "polyps": polyps.load,
    # As many images as MHIST has, of the same size.
    "polyps-224": partial(polyps.load, train=2_175, test=977, size=mhist.SIZE),
}


def load(name: str, root: str | Path | None = None) -> Dataset:
    """Return the dataset called ``name``.

    ``root`` is the folder that holds the files of datasets that have any; without it, the
    environment variable ``KDNB_DATA``, and without that, the project's ``data/``.

    Raises `DataError` in one sentence if the name is unknown or the files cannot be used.
    """
    if name not in LOADERS:
        raise DataError(f"unknown dataset {name!r}: choose one of {', '.join(LOADERS)}")
    return LOADERS[name](root)
