"""`…-2x5`: ten digits as two classes, 0 to 4 against 5 to 9, whose digits are hidden subclasses.

With two classes a teacher's soft targets carry little information beyond the label; here the
hidden digits show what subclasses can add (MNIST-2x5 of Müller, Kornblith & Hinton 2020).
"""

from collections.abc import Callable
from dataclasses import replace

from kdnb.data.dataset import Dataset, Split


def of(load: Callable[..., Dataset]) -> Callable[..., Dataset]:
    """A loader of the images of ``load``, ten digits, with the digits as true subclasses.

    >>> from kdnb.data import load
    >>> split = load("mnist-small-2x5").test
    >>> split.labels[:5].tolist(), split.subclasses[:5].tolist()
    ([1, 0, 0, 0, 0], [7, 2, 1, 0, 4])
    """
    return lambda root=None: _two_classes(load(root))


def _two_classes(digits: Dataset) -> Dataset:
    splits = {
        part: Split(split.images, (split.labels >= 5).long(), subclasses=split.labels)
        for part, split in (("train", digits.train), ("val", digits.val), ("test", digits.test))
    }
    return replace(
        digits,
        name=f"{digits.name}-2x5",
        about=f"{digits.about}; labelled as two classes, the digits 0-4 against 5-9",
        class_names=("0-4", "5-9"),
        subclass_names=digits.class_names,
        **splits,
    )
