"""`digits`: scikit-learn's handwritten digits, enlarged to MNIST's framing; needs no files."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdnb.data.dataset import Dataset, Split, stratified_indices

TRAIN, VAL, TEST = 897, 300, 600
SPLIT_SEED = 0


def load(root: object = None) -> Dataset:
    """The 1,797 digits of Alpaydin & Kaynak (1998) as (N, 1, 28, 28) uint8; ``root`` is not used.

    Split once and for all into 897 / 300 / 600 train, validation and test images, stratified.
    The bundled copy does not say who wrote which digit, so the same hands appear in every split.
    """
    from sklearn.datasets import load_digits  # heavy: only those who ask for digits wait for it

    bunch = load_digits()
    images = mnist_framing(torch.from_numpy(bunch.images).float() / 16)
    labels = torch.from_numpy(bunch.target).long()
    whole = Split(images, labels)
    train, val, test = map(whole.take, stratified_indices(labels, (TRAIN, VAL, TEST), SPLIT_SEED))
    return Dataset(
        "digits",
        "1,797 real handwritten digits that come with scikit-learn (Alpaydin & Kaynak 1998), "
        "enlarged from 8×8 to 28×28 pixels in MNIST's framing",
        tuple("0123456789"),
        train,
        val,
        test,
    )


def mnist_framing(small: Tensor) -> Tensor:
    """Enlarge (N, 8, 8) grey values in [0, 1] to (N, 1, 28, 28) uint8 as MNIST frames its digits.

    MNIST puts a digit into a 20×20 box and centres its mass in the 28×28 image.
    """
    box = F.interpolate(small[:, None], size=(20, 20), mode="bicubic", align_corners=False)
    canvas = F.pad(box.clamp(0, 1), (8, 8, 8, 8))  # 36×36: room to slide by up to 4 either way
    position, mass = torch.arange(36.0), canvas.sum((1, 2, 3))
    offsets = []
    for axis in (2, 3):
        centre = (canvas.sum((1, 5 - axis)) * position).sum(1) / mass
        # The window's centre lies 13.5 pixels from its corner.
        offsets.append((centre - 13.5).round().long().clamp(0, 8))
    windows = canvas[:, 0].unfold(1, 28, 1).unfold(2, 28, 1)
    framed = windows[torch.arange(len(small)), *offsets]
    return (framed[:, None] * 255).round().to(torch.uint8)
