"""`…-2x5`: ten digits as two classes, 0 to 4 against 5 to 9, whose digits are hidden subclasses.

Two classes leave a teacher little to say, and here is known what it could have said (MNIST-2x5 of
Müller, Kornblith & Hinton 2020).
"""

from collections.abc import Callable
from dataclasses import replace

from kdnb.data.dataset import Dataset, Split

CLASS_NAMES = ("0-4", "5-9")


def of(load: Callable[..., Dataset]) -> Callable[..., Dataset]:
    """A loader of the same images as ``load``, which gives ten digits, with two labels."""
    return lambda root=None: two_classes(load(root))


def two_classes(digits: Dataset) -> Dataset:
    """The same splits with label 0 for the digits 0 to 4 and 1 for 5 to 9, the digits kept aside.

    >>> from kdnb.data import load
    >>> split = load("digits-2x5").test
    >>> split.labels[:5].tolist(), split.subclasses[:5].tolist()
    ([0, 1, 1, 1, 1], [1, 9, 8, 7, 7])
    """

    def halve(split: Split) -> Split:
        return Split(split.images, (split.labels >= 5).long(), subclasses=split.labels)

    return replace(
        digits,
        name=f"{digits.name}-2x5",
        about=f"{digits.about}; labelled as two classes, the digits 0-4 against 5-9",
        class_names=CLASS_NAMES,
        subclass_names=digits.class_names,
        train=halve(digits.train),
        val=halve(digits.val),
        test=halve(digits.test),
    )
