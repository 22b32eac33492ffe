"""Names from a reader's disk or hand, so that they can be shown."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from kdnb.data.dataset import DataError

# Markdown and TeX would read the first five. The others are control characters, marks that turn the
# direction of the text around them, and bytes of a file's name that are not UTF-8.
UNSHOWN = re.compile(
    r"[$|*`\\\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def plain(name: object) -> str:
    """The name composed (NFC), as macOS does not write it, with a · for what cannot be shown."""
    return UNSHOWN.sub("·", unicodedata.normalize("NFC", str(name)))


def shown(names: Sequence[object]) -> tuple[str, ...]:
    """`plain` class names; raises `DataError` if two of them look the same."""
    known: dict[str, object] = {}
    for name in names:
        if (one := plain(name)) in known:
            raise DataError(
                f"the classes {known[one]!a} and {name!a} are both shown as {one}: rename one"
            )
        known[one] = name
    return tuple(known)


def listed(names: Iterable[object], most: int = 3) -> str:
    """The first names, and how many more there are.

    >>> listed("abcde")
    'a, b, c and 2 more'
    """
    every = [plain(name) for name in names]
    more = f" and {len(every) - most:,} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
