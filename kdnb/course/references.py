"""The works that the course cites, from `references.bib`.

Notebooks and README files link them, as in "[Holm 1979](https://www.jstor.org/stable/4615733)";
the page lists those that its chapters link. The file has one form, one field a line, which a dozen
lines can read; a BibTeX library would be one more dependency of every installation.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("references.bib")
# The second pair of braces, around a title, keeps its capitals in BibTeX.
FIELD = re.compile(r"  (\w+) = \{\{?([^{}\n]+)\}?\},\n")
ENTRY = re.compile(rf"@\w+\{{(?P<key>\w+),\n(?P<fields>(?:{FIELD.pattern})+)\}}")
VENUES = ("journal", "booktitle", "publisher", "howpublished")
# Where a work is found, the best place first: the beginnings of its address and of its name.
PLACES = {"eprint": ("https://arxiv.org/abs/", "arXiv:"), "doi": ("https://doi.org/", "doi:")}
PLACES["url"] = ("", "")


@dataclass(frozen=True)
class Reference:
    """One work. ``label`` is its name in text: "Holm 1979", "Cho & Hariharan 2019",
    "Hinton et al. 2015"; ``authors`` are all of them, ``place`` is "arXiv:1503.02531".
    """

    key: str
    label: str
    authors: str
    title: str
    venue: str
    url: str
    place: str


@cache
def references() -> Mapping[str, Reference]:
    """All works by their address, in the order of their labels.

    >>> references()["https://arxiv.org/abs/1503.02531"].authors
    'Geoffrey Hinton, Oriol Vinyals, Jeff Dean'
    """
    works = [_read(entry.strip()) for entry in FILE.read_text(encoding="utf-8").split("\n\n")]
    return {work.url: work for work in sorted(works, key=lambda work: work.label)}


def _read(entry: str) -> Reference:
    parts = ENTRY.fullmatch(entry)
    fields = dict(FIELD.findall(parts["fields"])) if parts else {}
    places = [name for name in PLACES if name in fields]
    venues = [fields[name] for name in VENUES if name in fields]
    if not ({"author", "title", "year"} <= fields.keys() and places and venues):
        raise ValueError(
            "this entry of references.bib needs author, title, venue, year and an address, one "
            f"field a line, in the form of the other entries: {entry}"
        )
    authors = [author.split(", ") for author in fields["author"].split(" and ")]
    family = [names[0] for names in authors]
    said = f"{family[0]} et al." if len(family) > 2 else " & ".join(family)
    address, name = PLACES[places[0]]
    return Reference(
        key=parts["key"],
        label=f"{said} {fields['year']}",
        authors=", ".join(f"{given} {family}" for family, given in authors),
        title=fields["title"],
        venue=venues[0],
        url=address + fields[places[0]],
        place=name + fields[places[0]],
    )
