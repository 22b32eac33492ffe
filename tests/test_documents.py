"""Every document of the project leads to the others: links, anchors, commands and chapters."""

import re
import shlex
from collections import Counter
from pathlib import Path

import nbformat
import pytest

from kdnb import __main__ as command_line

ROOT = Path(__file__).parents[1]
PATTERNS = "*.md", "data/*.md", "notebooks/*.md", "report/*.md", "kdnb/**/*.md"
DOCUMENTS = sorted(path for pattern in PATTERNS for path in ROOT.glob(pattern))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
README = ROOT / "README.md"
LINK = re.compile(r"\]\(\s*([^)\s]+)[^)]*\)|^\[[^\]]+\]:\s*(\S+)|\b(?:href|src)=\"([^\"]+)\"", re.M)
CODE = re.compile(r"^(```|~~~).*?^\1|^ {4}.*?$|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def named(path):
    return path.relative_to(ROOT).as_posix()


def markdown(path):
    """The Markdown of a document, or that of all cells of a notebook."""
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def links(path):
    return [next(filter(None, found)) for found in LINK.findall(CODE.sub("", markdown(path)))]


def anchors(path):
    """The anchors of all headings: as GitHub makes them, or as JupyterLab does in a notebook."""
    text = re.sub(r"^```.*?^```", "", markdown(path), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#{1,6} +(.+?)(?: +#+)?$", text, re.MULTILINE)
    if path.suffix == ".ipynb":
        return {heading.replace(" ", "-") for heading in headings}
    found, seen = set(), Counter()
    for heading in headings:
        shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


@pytest.mark.parametrize("path", DOCUMENTS + NOTEBOOKS, ids=named)
def test_every_link_leads_to_a_file_and_every_anchor_to_a_heading(path):
    lost = []
    for link in links(path):
        if re.match(r"[a-z]+:", link):
            continue  # another site
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or not target.is_relative_to(ROOT):
            lost.append(f"{link}: no such file")
        elif anchor and target.suffix in {".md", ".ipynb"} and anchor not in anchors(target):
            lost.append(f"{link}: no such heading")
    assert not lost


def test_links_and_anchors_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n## Where is …?\n## Say `x`: [more](a.md)\n## A page\n"
        '![b](c.png) [d](<e.md#f> "g") [h]: `[no](i.md)`\n\n    [no](j.md)\n\n[k]: l.md\n'
        '<a href="m.md">n</a>'
    )
    assert links(page) == ["a.md", "c.png", "<e.md#f>", "l.md", "m.md"]
    assert anchors(page) == {"a-page", "where-is-", "say-x-more", "a-page-1"}


def test_a_reader_of_the_readme_finds_every_other_document():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert lines[2].startswith("![") and lines[2].endswith("](report/cover.png)")
    found = {(ROOT / link.partition("#")[0]).resolve() for link in links(README)}
    assert {*DOCUMENTS, *NOTEBOOKS, ROOT / "LICENSE"} <= found | {README}


@pytest.mark.parametrize("folder", ["", "notebooks"])
def test_the_chapters_are_named_like_the_notebooks(folder):
    text = markdown(ROOT / folder / "README.md")
    rows = re.findall(r"^\| \[(\d\d)\]\((\S+)\) \| (.+?) \|", text, re.MULTILINE)
    titles = [(path, markdown(path).splitlines()[0].removeprefix("# ")) for path in NOTEBOOKS]
    assert [((ROOT / folder / link).resolve(), title) for _, link, title in rows] == titles
    assert all(Path(link).name.startswith(number) for number, link, _ in rows)


def commands():
    """The lines of all blocks of code, a line that goes on in the next joined, as words."""
    for path in DOCUMENTS:
        text = markdown(path).replace("\\\n", "").replace(".venv\\Scripts\\", "")
        for line in re.findall(r"^ {4}(?:\w+=\S+ )*(?:\S*python|make|kdnb) .*", text, re.MULTILINE):
            yield named(path), shlex.split(line, comments=True)


def test_every_command_is_one_of_the_command_line_or_of_make():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    checked = Counter()
    for where, words in commands():
        if "make" in words:
            targets = [word for word in words[words.index("make") + 1 :] if "=" not in word]
            assert targets and all(f"\n{target}:" in makefile for target in targets), (where, words)
            checked["make"] += 1
        elif words[0] == "kdnb" or "-m kdnb" in " ".join(words):
            try:
                command_line._parser().parse_args(words[words.index("kdnb") + 1 :])
            except SystemExit:
                pytest.fail(f"{where}: the command line refuses {' '.join(words)}")
            checked["kdnb"] += 1
        for word in words:
            if word.endswith(".py"):
                assert (ROOT / word).is_file(), (where, word)
                checked["script"] += 1
    assert min(checked.values()) >= 3 and len(checked) == 3
