"""The terms of the course, from `glossary.md`, and where a text of the page uses them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("glossary.md")
ENTRY = re.compile(
    r"^- \*\*(?P<name>[^*]+)\*\*(?: \(also: (?P<also>[^)]+)\))?: (?P<meaning>.+?)(?=\n- |\n?\Z)",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Term:
    """A term and what it means, in Markdown with maths; ``also`` are other ways to write it."""

    name: str
    meaning: str
    also: tuple[str, ...] = ()

    @property
    def anchor(self) -> str:
        """The id of its entry in the page's glossary.

        >>> Term("Holm's adjustment", "").anchor
        'term-holm-s-adjustment'
        """
        return "term-" + re.sub(r"\W+", "-", self.name.lower())


@cache
def glossary() -> tuple[Term, ...]:
    """All terms, in the order of the file."""
    return tuple(
        Term(
            entry["name"],
            " ".join(entry["meaning"].split()),
            tuple(" ".join((entry["also"] or "").split()).split(", ")) if entry["also"] else (),
        )
        for entry in ENTRY.finditer(FILE.read_text(encoding="utf-8"))
    )


def terms_in(text: str) -> Iterator[tuple[str, Term | None]]:
    """A plain text in pieces, each with the term that it is; the pieces together are the text.

    A term is a whole word or phrase, in singular or plural, and no part of a compound with a
    hyphen. Of two terms that begin at one place the longer counts.

    >>> [piece for piece, term in terms_in("Two students, not the student-teacher.") if term]
    ['students']
    """
    end = 0
    for found in _pattern().finditer(text):
        if found.start() > end:
            yield text[end : found.start()], None
        yield found[0], _by_form()[_lowered(found[0])]
        end = found.end()
    if end < len(text):
        yield text[end:], None


@cache
def _by_form() -> dict[str, Term]:
    """Each term by all its forms, which begin in lower case."""
    return {
        _lowered(form): term
        for term in glossary()
        for written in (term.name, *term.also)
        for form in (written, _plural(written))
    }


def _lowered(form: str) -> str:
    return form[0].lower() + form[1:]


def _plural(form: str) -> str:
    if re.search("[^aeiou]y$", form):
        return form[:-1] + "ies"
    return form + ("es" if re.search("(s|x|ch|sh)$", form) else "s")


@cache
def _pattern() -> re.Pattern[str]:
    """Any form, in lower or upper case at its start, the longest form first."""
    forms = (
        f"[{form[0]}{form[0].upper()}]{re.escape(form[1:])}"
        for form in sorted(_by_form(), key=len, reverse=True)
    )
    return re.compile(rf"(?<![\w-])(?:{'|'.join(forms)})(?![\w-])")
