"""Names from data for figures: short, distinct, in letters that a font here has."""

import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import accumulate, chain, repeat
from pathlib import Path

from matplotlib import font_manager, get_data_path
from matplotlib.figure import Figure
from matplotlib.text import Text

LONGEST = 16  # letters of a name in a figure
LISTED = 30  # names in a note
COLOURS = "\ufe0e\ufe0f"  # say whether the letter before them has any
JOINERS = "\u200c\u200d"  # change how the letters beside them look


def written(names: Sequence[str], longest: int = LONGEST, kind: str = "class") -> list[str]:
    """Names as matplotlib writes them; distinct names stay distinct.

    A name with a letter that no font of this machine has becomes its ``kind`` and number. A long
    name keeps its beginning, or both ends if another name begins in the same way.

    >>> written(["cat", "a very long name of a cat", "a very long name of a dog"])
    ['cat', 'a very l…f a cat', 'a very l…f a dog']
    """
    drawn = [
        name if name and not _fonts_for(_foreign(name))[1] else f"{kind} {i}"
        for i, name in enumerate(map(_tidy, names))
    ]
    # Between two $ matplotlib would read mathematics.
    return [name.replace("$", r"\$") for name in shortened(drawn, longest)]


def shortened(names: Sequence[str], longest: int = LONGEST) -> list[str]:
    """The same for a browser, which has fonts of its own."""
    return list(_shortened(tuple(names), longest))


@lru_cache(maxsize=16)  # a slider asks for the same ones again and again
def _shortened(names: tuple[str, ...], longest: int) -> list[str]:
    names = [_tidy(name) or f"class {i}" for i, name in enumerate(names)]
    half = longest // 2

    def cut(end: int) -> list[str]:
        """The long names' beginnings, and ``end`` letters of their ends."""
        begin = longest - end - 1
        return [
            name if _width(name) <= longest else f"{_first(name, begin)}…{_last(name, end)}"
            for name in names
        ]

    numbered = [
        f"{name if _width(name) <= longest else f'{_first(name, half)}…'} ({i})"
        for i, name in enumerate(names)
    ]
    short = cut(0)
    for others in chain([cut(longest - half - 1)], repeat(numbered)):
        often = Counter(short)
        if len(often) == len(names):
            return short
        pairs = zip(short, others, strict=True)
        short = [other if often[text] > 1 else text for text, other in pairs]


def note(names: Sequence[str]) -> str:
    """A sentence in Markdown on names that figures shorten; "" where they shorten none."""
    pairs = zip(names, (short.replace(r"\$", "$") for short in written(names)), strict=True)
    changed = [f"*{short}* is {name}" for name, short in pairs if short != name]
    if not changed:
        return ""
    more = len(changed) - LISTED
    listed = "; ".join(changed[:LISTED]) + (f"; and {more:,} more" if more > 0 else "")
    return f"Figures shorten some class names: {listed}."


def give_fonts(figure: Figure) -> None:
    """Give every text of a figure the fonts of this machine that its letters need.

    No text is set by LaTeX, whatever the reader's settings were.
    """
    for text in figure.findobj(Text):
        text.set_usetex(False)
        if families := _fonts_for(_foreign(text.get_text()))[0]:
            text.set_fontfamily([*text.get_fontfamily(), *families])


def _tidy(name: str) -> str:
    """The name on one line, in NFC, without invisible characters."""

    def seen(c: str) -> bool:  # Cc and Cf control a device or the direction of text
        invisible = c in COLOURS or unicodedata.category(c) in ("Cc", "Cf")
        return c.isspace() or c in JOINERS or not invisible

    return unicodedata.normalize("NFC", " ".join("".join(filter(seen, name)).split()))


def _width(name: str) -> int:
    """The width in Latin letters; a Chinese character counts as two."""
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in name)


def _first(name: str, width: int) -> str:
    """As many of the first letters as fit; marks on the last one stay with it."""
    end = bisect_right(list(accumulate(map(_width, name))), width)
    while end < len(name) and unicodedata.combining(name[end]):
        end -= 1
    return name[:end]


def _last(name: str, width: int) -> str:
    """As many of the last letters as fit."""
    start = len(name) - bisect_right(list(accumulate(map(_width, name[::-1]))), width)
    while start < len(name) and unicodedata.combining(name[start]):
        start += 1
    return name[start:]


def _foreign(text: str) -> frozenset[str]:
    """The letters of a text that matplotlib's own font lacks."""
    if text.isascii():
        return frozenset()
    has = font_manager.get_font(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
    return frozenset(c for c in text if not c.isspace() and not has.get_char_index(ord(c)))


@cache
def _fonts_for(letters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Font families of this machine that have these letters, and the letters that none has."""
    families, missing = [], set(letters)
    upright = sorted(
        font_manager.fontManager.ttflist,
        key=lambda font: (font.style != "normal", abs(int(font.weight) - 400)),
    )
    for font in upright:
        if not missing:
            break
        # Fonts in colour are pictures, and the last resort has a box for every letter.
        if any(word in font.name.lower() for word in ("color", "last resort", "lastresort")):
            continue
        try:
            face = font_manager.get_font(font.fname)
        except (OSError, RuntimeError):  # a damaged file
            continue
        found = {c for c in missing if face.get_char_index(ord(c))}
        if found and face.scalable:
            families.append(font.name)
            missing -= found
    return tuple(dict.fromkeys(families)), frozenset(missing)
