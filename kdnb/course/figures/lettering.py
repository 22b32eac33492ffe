"""How names from data are written in figures: short, distinct, in letters that a font here has."""

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
COLOURS = ("\ufe0e", "\ufe0f")  # say whether the letter before them has any
UNSEEN = ("Cc", "Cf")  # Unicode's categories of what controls a device or the direction of text
JOINERS = ("\u200c", "\u200d")  # but for these, which change how the letters beside them look


def written(names: Sequence[str], longest: int = LONGEST, kind: str = "class") -> list[str]:
    """Names as matplotlib shall write them; distinct names stay distinct.

    A name without a letter that a font of this machine could draw is its ``kind`` and number. Of a
    long one the beginning is left, or both ends where another begins in the same way.

    >>> written(["cat", "a very long name of a cat", "a very long name of a dog"])
    ['cat', 'a very l…f a cat', 'a very l…f a dog']
    """
    drawn = [
        f"{kind} {i}" if _undrawable(name) else name for i, name in enumerate(map(_tidy, names))
    ]
    # Between two $ matplotlib would read mathematics.
    return [name.replace("$", r"\$") for name in shortened(drawn, longest)]


def shortened(names: Sequence[str], longest: int = LONGEST) -> list[str]:
    """The same for what a browser draws, which has fonts of its own."""
    return list(_shortened(tuple(names), longest))


@lru_cache(maxsize=16)  # a slider asks for the same ones again and again
def _shortened(names: tuple[str, ...], longest: int) -> list[str]:
    names = [_tidy(name) or f"class {i}" for i, name in enumerate(names)]
    half = longest // 2

    def beginning(i: int, name: str) -> str:
        return name if _width(name) <= longest else f"{_first(name, longest - 1)}…"

    def ends(i: int, name: str) -> str:
        if _width(name) <= longest:
            return name
        return f"{_first(name, half)}…{_last(name, longest - half - 1)}"

    def numbered(i: int, name: str) -> str:
        return f"{name if _width(name) <= longest else f'{_first(name, half)}…'} ({i})"

    short = [beginning(i, name) for i, name in enumerate(names)]
    for way in chain([ends], repeat(numbered)):
        often = Counter(short)
        if len(often) == len(names):
            return short
        short = [way(i, names[i]) if often[text] > 1 else text for i, text in enumerate(short)]


def note(names: Sequence[str]) -> str:
    """What figures write in place of names, as a sentence in Markdown; "" where they write them."""
    changed = [
        f"*{short}* is {name}"
        for name, short in zip(names, (w.replace(r"\$", "$") for w in written(names)), strict=True)
        if short != name
    ]
    if not changed:
        return ""
    more = len(changed) - LISTED
    listed = "; ".join(changed[:LISTED]) + (f"; and {more:,} more" if more > 0 else "")
    return f"Figures write some classes in short: {listed}."


def give_fonts(figure: Figure) -> None:
    """Let every text of a figure use the fonts of this machine that its letters need.

    None is set by LaTeX, whatever the reader's settings were when it was made.
    """
    for text in figure.findobj(Text):
        text.set_usetex(False)
        if families := _fonts_for(_foreign(text.get_text()))[0]:
            text.set_fontfamily([*text.get_fontfamily(), *families])


def _tidy(name: str) -> str:
    """One line, one way of writing each letter, and nothing that cannot be seen."""
    seen = (
        c
        for c in name
        if c.isspace() or c in JOINERS or not (c in COLOURS or unicodedata.category(c) in UNSEEN)
    )
    return unicodedata.normalize("NFC", " ".join("".join(seen).split()))


def _undrawable(name: str) -> bool:
    return not name or bool(_fonts_for(_foreign(name))[1])


def _width(name: str) -> int:
    """In Latin letters: Chinese ones are twice as wide."""
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
    letters = (c for c in text if not c.isspace())
    return frozenset(c for c in letters if not _plain().get_char_index(ord(c)))


@cache
def _plain() -> object:
    return font_manager.get_font(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


@cache
def _fonts_for(letters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Families of this machine that have these letters, and the letters that none has."""
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
