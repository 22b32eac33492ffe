"""What the course cites: the list of works, the links to them, and the page's references."""

import ast
import re
import unicodedata
from pathlib import Path

import nbformat
import pytest

from kdnb.course import references as module
from kdnb.course.references import Reference, references
from kdnb.course.report.page import render_chapter, render_page

ROOT = Path(__file__).parents[1]
WORKS = list(references().values())
# Printed before there were DOIs, and given none since.
WITHOUT_NUMBER = {"holm1979", "ruifrok2001", "cochran1957"}
NAME = r"[A-ZÀ-Þ][\w'’-]+"
AUTHORS_YEAR = re.compile(
    rf"(?P<names>{NAME}(?:, {NAME})*(?:,? (?:&|and) {NAME})?(?: et al\.?)?)"
    r"(?:'s?)?,? \(?(?P<year>(?:19|20)\d\d)\b(?![-.]\d)"
)
LINK = re.compile(r"\[(?P<text>[^\]]+)\]\((?P<url>[^)\s]+)\)")
# Words that stand before a year and are no authors.
NOT_AUTHORS = {"ECE1512", "ImageNet", "Toronto"}


def files(*patterns: str) -> list[Path]:
    return sorted({file for pattern in patterns for file in ROOT.glob(pattern)})


def strings(file: Path) -> list[str]:
    """Texts in a module that are no docstrings: what a program shows."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return [x.value for x in constants if isinstance(x.value, str) and id(x) not in alone]


def reader_facing() -> dict[str, str]:
    """Every text that a reader meets, by its place."""
    found = {}
    for file in files("*.md", "*/*.md", "kdnb/course/**/*.md", "kdnb/course/**/*.j2"):
        found[str(file.relative_to(ROOT))] = file.read_text(encoding="utf-8")
    for file in files("notebooks/*.ipynb"):
        for cell in nbformat.read(file, 4).cells:
            found[f"{file.name}: {cell.id}"] = cell.source
    for file in MODULES:
        found[str(file.relative_to(ROOT))] = "\n\n".join(strings(file))
    return found


MODULES = files("kdnb/**/*.py")
READER_FACING = reader_facing()


def mentions(text: str) -> list[str]:
    """Author-years in a text that are no link's own text."""
    found = AUTHORS_YEAR.finditer(LINK.sub("", text))
    return [m[0] for m in found if m["names"].split()[-1] not in NOT_AUTHORS]


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.key)
def test_every_work_has_a_number_and_a_key_of_its_own(work):
    family, year = re.split(r"\W", work.label.lower())[0], work.label[-4:]
    plain = unicodedata.normalize("NFKD", family).encode("ascii", "ignore").decode()
    assert work.key == f"{plain}{year}"
    kind, _, number = work.place.partition(":")
    if kind == "arXiv":
        assert re.fullmatch(r"\d{4}\.\d{4,5}", number)
        # The preprint comes first, and not long before the print.
        assert -1 <= int(year) - int(f"20{number[:2]}") <= 2
    elif kind == "doi":
        assert re.fullmatch(r"10\.\d{4,}/\S+", number)
    else:
        assert work.key in WITHOUT_NUMBER and work.url.startswith("https://")


def test_works_are_told_apart_by_label_and_by_key():
    assert len({work.label for work in WORKS}) == len({work.key for work in WORKS}) == len(WORKS)
    assert module.FILE.read_text(encoding="utf-8").count("@") == len(WORKS)
    assert [work.label for work in WORKS] == sorted(work.label for work in WORKS)


ENTRY = """@article{holm1979,
  author = {Holm, Sture},
  title = {{A Procedure}},
  journal = {A Journal},
  year = {1979},
  doi = {10.1000/1},
}"""


@pytest.mark.parametrize(
    ("authors", "named", "all_of_them"),
    [
        ("Holm, Sture", "Holm", "Sture Holm"),
        ("Cho, Jang Hyun and Lee, A.", "Cho & Lee", "Jang Hyun Cho, A. Lee"),
        (
            "Hinton, G. and Dean, J. and Vinyals, O.",
            "Hinton et al.",
            "G. Hinton, J. Dean, O. Vinyals",
        ),
    ],
)
def test_an_entry_is_read(authors, named, all_of_them):
    assert module._read(ENTRY.replace("Holm, Sture", authors)) == Reference(
        key="holm1979",
        label=f"{named} 1979",
        authors=all_of_them,
        title="A Procedure",
        venue="A Journal",
        url="https://doi.org/10.1000/1",
        place="doi:10.1000/1",
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  year = {1979},\n", ""),
        ("  doi = {10.1000/1},\n", ""),
        ("  journal = {A Journal},\n", ""),
        ("{1979},", "{1979}"),
        ("{A Journal}", "{A\n    Journal}"),
        ("  author", "author"),
        ("\n}", "\n"),
    ],
)
def test_an_entry_of_another_form_is_refused(old, new):
    assert old in ENTRY
    with pytest.raises(ValueError, match=r"this entry of references\.bib needs .*holm1979"):
        module._read(ENTRY.replace(old, new))


@pytest.mark.parametrize("place", READER_FACING)
def test_authors_and_year_are_a_link_to_the_work(place):
    text = READER_FACING[place]
    assert not mentions(text), f"{place}: link these as kdnb/course/references.bib has them"
    for link in LINK.finditer(text):
        work = references().get(link["url"])
        about_a_paper = re.match(r"https?://(\w+\.)*(arxiv|doi)\.org/", link["url"])
        if work or about_a_paper or AUTHORS_YEAR.fullmatch(link["text"]):
            assert work, f"{place}: {link[0]} is not in kdnb/course/references.bib"
            assert link["text"] == work.label, f"{place}: {work.url} is {work.label}"
    # Nor is a paper named by its number alone, outside of a link.
    assert not re.search(r"arXiv:? ?\d{4}\.\d{4}", LINK.sub("", text)), place


def test_mentions_are_found_in_every_form():
    said = [
        "(Hinton, Vinyals & Dean 2015, §2)",
        "Adebayo et al. (2018) found",
        "Müller, Kornblith & Hinton (2020, eq. 6-7) add",
        "as e²KD, Parchami-Araghi et al. 2024",
        "Cho and Hariharan, 2019",
        "Pepe 2003",
        "Holm (1979)",
    ]
    assert all(len(mentions(text)) == 1 for text in said)
    assert mentions("a random number below 2000, ImageNet 2012, on 2020-01-01, 12 in 1998") == []
    assert mentions("[Holm 1979](https://www.jstor.org/stable/4615733), below .05") == []


def in_code() -> str:
    """The package's source, docstrings and comments too, and the scripts of the reference runs."""
    scripts = [*MODULES, *files("report/**/*.py")]
    text = " ".join(file.read_text(encoding="utf-8").replace("#", " ") for file in scripts)
    return " ".join(text.split())


def test_every_work_is_cited_and_what_docstrings_cite_is_listed():
    code, linked = in_code(), "\n".join(READER_FACING.values())
    for work in WORKS:
        family, year = work.label.split()[0], work.label[-4:]
        named = rf"\b{family}\b[^.;(]{{0,40}}(?: et al\.)?,? \(?{year}"
        assert f"({work.url})" in linked or re.search(named, code), f"nothing cites {work.key}"
    known = {(work.label.split()[0], work.label[-4:]) for work in WORKS}
    for found in AUTHORS_YEAR.finditer(code):
        names = re.findall(NAME, found["names"])
        listed = any((name, found["year"]) in known for name in names)
        assert listed or names[-1] in NOT_AUTHORS, f"{found[0]} is not in references.bib"


def page_of(*sources: str) -> str:
    """A page of one chapter; its first text is a cell, the others are outputs."""
    outputs = [
        nbformat.v4.new_output("display_data", {"text/markdown": source}) for source in sources[1:]
    ]
    cells = [
        nbformat.v4.new_markdown_cell(f"# A question?\n\n{sources[0]}"),
        nbformat.v4.new_code_cell("1", outputs=outputs),
    ]
    chapter = render_chapter(nbformat.v4.new_notebook(cells=cells), "00_a", ["00_a"])
    return render_page([chapter], title="t", about="a", facts=[])


def test_the_page_lists_what_its_chapters_cite():
    holm, hinton = "https://www.jstor.org/stable/4615733", "https://arxiv.org/abs/1503.02531"
    other = "https://example.org/"
    page = page_of(
        f"See [Holm 1979]({holm}) and [elsewhere]({other}).", f"[Hinton et al. 2015]({hinton}), §3"
    )
    assert '<a href="#ref-holm1979">Holm 1979</a>' in page
    assert '<a href="#ref-hinton2015">Hinton et al. 2015</a>, §3' in page
    assert f'<a href="{other}">elsewhere</a>' in page
    assert re.findall(r'id="ref-(\w+)"', page) == ["hinton2015", "holm1979"]
    assert page.count(f'href="{holm}"') == page.count(f'href="{hinton}"') == 1
    assert '<li><a href="#references">References</a></li>' in page
    assert "Geoffrey Hinton, Oriol Vinyals, Jeff Dean: <cite>Distilling the Knowledge" in page
    assert f'<a href="{hinton}">arXiv:1503.02531</a>' in page


def test_a_page_that_cites_nothing_has_no_references():
    page = page_of("See [elsewhere](https://example.org/).")
    assert "#references" not in page and "#ref-" not in page and 'id="ref' not in page


@pytest.mark.parametrize("width", [390, 1280])
def test_a_citation_leads_to_its_work_below_the_bar_and_asks_for_nothing(browser, tmp_path, width):
    cited = [f"[{work.label}]({work.url})" for work in WORKS]
    file = tmp_path / "page.html"
    file.write_text(page_of("\n\n".join(cited)), encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 800}, reduced_motion="reduce")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    page.locator("a", has_text="Holm 1979").click()
    entry = page.locator("#ref-holm1979")
    bar = page.locator("nav").bounding_box() if width < 960 else {"y": 0, "height": 0}
    page.locator("nav .here", has_text="References").wait_for(state="attached")
    top = entry.bounding_box()["y"]
    assert bar["y"] + bar["height"] <= top < 800
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert asked == [file.as_uri()]
    page.close()
