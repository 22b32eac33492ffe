"""Executed notebooks in, slides out: a reveal.js file for each chapter, and one for a lecture.

A cell's metadata choose its place, by the `slideshow.slide_type` of the notebook format: ``slide``
begins a slide, ``-`` continues it, ``fragment`` appears at a key, ``notes`` are the speaker's. A
cell without a type is on no slide. A text shows its lead and a code cell one output; the notes hold
the whole text. The slides tagged ``lecture`` of all chapters make the lecture.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import nbformat
from markupsafe import Markup
from nbformat import NotebookNode

from kdnb.course.interactive.components import STATIC, scripted
from kdnb.course.report.editions import edition
from kdnb.course.report.page import (
    ChapterRenderer,
    highlight_css,
    notebook_exporter,
    seeds_of,
    settings,
)
from kdnb.course.report.pipeline import REPORTS, chosen_notebooks, make_report
from kdnb.course.report.protocol import COMPONENT, DIAGRAM, DRAWN
from kdnb.course.report.written import Written
from kdnb.tasks import task

# Words of a text's first paragraph, in whole sentences: beside a figure or table, and alone.
BESIDE, ALONE = 40, 80
ITEMS = 9  # of a list
LECTURE = "lecture"
TEXT = 2  # as `_kind` counts; tables are text, too
# A sentence ends before a space and a capital, a number or emphasis, but not after these.
SENTENCE = re.compile(r"(?<=[.?!])(?<!e\.g\.)(?<!i\.e\.)(?<!al\.)(?<!eq\.)\s+(?=[^a-z(&\s])")
FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
ITEM = re.compile(r"(?=^(?:[-*]|\d+\.) )", re.MULTILINE)


@dataclass(frozen=True)
class Slide:
    """One slide as HTML, with its notes in it."""

    body: Markup
    in_lecture: bool


class SlideRenderer(ChapterRenderer):
    """Headings as they are, and links only to what is elsewhere on the web.

    Of a wide table only its chart is shown; the notes have the table.
    """

    def table(self, text: str) -> str:
        if self.tables == "drawn":  # perhaps on another slide
            self.tables = "charted"
        return super().table(text).partition('<details class="table">')[0]

    def heading(self, text: str, level: int, **attrs: object) -> str:
        return f"<h{level}>{text}</h{level}>\n"

    def link(self, text: str, url: str, title: str | None = None) -> str:
        # Not the chapter's own way, which leads to places in the page.
        link = super(ChapterRenderer, self).link
        return link(text, url, title) if url.startswith("https://") else text


def make_slides(
    task_name: str, *, only: Sequence[str] = (), output: Path = REPORTS, force: bool = False
) -> list[Path]:
    """Write slides of a task's chapters, and of the lecture, into ``output/slides``.

    The source is the report's executed notebooks in ``output/<task>``. Where one is missing, or its
    code differs from the course's notebook, the report is made first. ``only`` chooses notebooks by
    number, and then there is no lecture. Raises the errors of `make_report`.
    """
    chosen = task(task_name)
    notebooks, data = chosen_notebooks(chosen, only)
    data = data or chosen.load()
    names = [f"{chosen.name}-{path.name[:2]}.html" for path in notebooks]
    lecture = f"{chosen.name}-{LECTURE}.html"
    written = Written(output / "slides")
    written.require_folder()
    written.require_unchanged([*names, lecture], force=force)
    executed = {path: _executed(path, output / chosen.name / path.name) for path in notebooks}
    if None in executed.values():
        make_report(task_name, only=only, output=output, force=force)
        executed = {path: _executed(path, output / chosen.name / path.name) for path in notebooks}
    contents, chosen_slides = {}, []
    for path, name in zip(notebooks, names, strict=True):
        about = "; ".join([chosen.text.title, *_set_for(executed[path])])
        slides = slides_of(executed[path], about, data.stamp)
        if not slides:
            raise ValueError(
                f"{path.name} has no slides: give a cell the slide type slide, in JupyterLab "
                "under Property Inspector"
            )
        texts = (cell.source for cell in executed[path].cells if cell.cell_type == "markdown")
        question = next(texts).split("\n")[0].lstrip("# ")
        contents[name] = render_slides(slides, f"{question} {chosen.text.title}")
        chosen_slides += [slide for slide in slides if slide.in_lecture]
    if chosen_slides and not only:
        title = f"Knowledge distillation: {chosen.text.title}"
        contents[lecture] = render_slides(chosen_slides, title)
    written.write({name: text.encode() for name, text in contents.items()})
    return [written.folder / name for name in contents]


def slides_of(notebook: NotebookNode, about: str = "", stamp: str = "") -> list[Slide]:
    """An executed notebook's slides, ``about`` on the first and ``stamp`` under each figure."""
    exporter = notebook_exporter(SlideRenderer("", ()), "slides")
    slides = []
    for cells in _grouped(notebook.cells):
        kinds = {_kind(each) for cell in cells for each in cell.get("outputs", [])}
        words = BESIDE if kinds - {None, TEXT} else ALONE
        shown = [_shortened(cell, words) for cell in cells]
        page = nbformat.v4.new_notebook(cells=shown)
        resources = {"stamp": stamp, "component": COMPONENT, "about": "" if slides else about}
        resources["drawn"] = DRAWN
        body, _ = exporter.from_notebook_node(page, resources=resources)
        tags = [tag for cell in cells for tag in cell.metadata.get("tags", [])]
        slides.append(Slide(Markup(body), LECTURE in tags))
    return slides


def render_slides(slides: Sequence[Slide], title: str) -> str:
    """One HTML file of these slides, which asks for nothing else."""
    reveal, start = (STATIC / "reveal" / name for name in ("reveal.js", "slides.js"))
    return scripted(
        "slides.html.j2",
        after="\n".join(path.read_text(encoding="utf-8") for path in (reveal, start)),
        title=title,
        slides=slides,
        highlight_css=Markup(highlight_css()),
        reveal_css=Markup((STATIC / "reveal" / "reveal.css").read_text(encoding="utf-8")),
    )


def lead(text: str, words: int = BESIDE) -> str:
    """The part of a Markdown text that a slide shows.

    Headings, equations, tables and code stay. Of the first paragraph stay the whole sentences that
    fit into ``words`` words, at least one, and every question; of a list the first sentence of the
    first `ITEMS` items. Other paragraphs go.

    >>> lead("## Why?\\n\\nBecause. Is it so? It is.\\n\\nMore.", words=1)
    '## Why?\\n\\nBecause. Is it so?'
    """
    shown, led = [], False
    parts = (part.strip() for part in FENCED.split(text))
    blocks = chain.from_iterable([p] if FENCED.match(p) else re.split(r"\n\s*\n", p) for p in parts)
    for block in filter(None, blocks):
        if block.startswith(("#", "|", "```", "    ")) or "$$" in block:
            shown.append(block)
        elif ITEM.match(block):
            items = [SENTENCE.split(item)[0].strip() for item in ITEM.split(block) if item]
            rest = [f"- and {len(items) - ITEMS} more"] * (len(items) > ITEMS)
            shown.append("\n".join(items[:ITEMS] + rest))
        elif not led:
            first, *others = SENTENCE.split(block)
            kept, room = [first], words - len(first.split())
            for sentence in others:
                room -= len(sentence.split())
                if room >= 0 or sentence.endswith("?"):
                    kept.append(sentence)
            shown.append(" ".join(kept))
            led = True
    return "\n\n".join(shown)


def _grouped(cells: Sequence[NotebookNode]) -> Iterator[list[NotebookNode]]:
    """The cells of each slide. A slide that begins with code takes the last heading above it."""
    slide, heading = [], ""
    for cell in cells:
        kind = cell.metadata.get("slideshow", {}).get("slide_type", "skip")
        if cell.cell_type == "markdown" and cell.source.startswith("#"):
            heading = cell.source.split("\n")[0]
        if kind in ("slide", "subslide"):
            if slide:
                yield slide
            slide = []
            if not cell.source.startswith("#"):
                slide = [nbformat.v4.new_markdown_cell(heading)]
        if kind != "skip" and (slide or kind in ("slide", "subslide")):
            slide.append(cell)
    if slide:
        yield slide


def _shortened(cell: NotebookNode, words: int) -> NotebookNode:
    """A cell as its slide shows it; ``notes`` in its metadata hold its texts in full."""
    cell = nbformat.from_dict(cell)
    if cell.cell_type == "markdown":
        cell.metadata.notes = re.sub(r"^#.*\n?", "", cell.source).strip()
        cell.source = lead(cell.source, words)
        return cell
    outputs = sorted((each for each in cell.outputs if _kind(each) is not None), key=_kind)
    texts = [each.data["text/markdown"] for each in outputs if _kind(each) == TEXT]
    cell.metadata.notes = "\n\n".join(texts)
    cell.outputs = outputs[:1]
    for output in cell.outputs:
        if _kind(output) == TEXT:
            output.data["text/markdown"] = lead(output.data["text/markdown"], words)
    return cell


def _kind(output: NotebookNode) -> int | None:
    """A component is 0, a picture 1, text 2; of a cell's outputs the first of the lowest is shown.

    A diagram is a picture. None of logs and plain text, which no slide shows.
    """
    data = output.get("data", {})
    # A guess and its result are for one reader: a class sees the words beside them.
    moves = data.get(COMPONENT, {}).get("component") not in (None, "guess", "result", "guesses")
    pictured = "image/png" in data or DIAGRAM in data.get("text/html", "")
    found = (moves, pictured, "text/markdown" in data)
    return found.index(True) if any(found) else None


def _set_for(notebook: NotebookNode) -> list[str]:
    """Seeds, and what was set for this run, in words."""
    cells = [c for c in notebook.cells if "injected-parameters" in c.metadata.get("tags", [])]
    given = [line for cell in cells for line in settings(cell.source)]
    seeds = seeds_of(notebook)
    return [f"seeds {seeds}"] * bool(seeds) + [f"set: {', '.join(given)}"] * bool(given)


def _executed(notebook: Path, path: Path) -> NotebookNode | None:
    """The notebook with the outputs of the executed one at ``path``; None if their code differs.

    Metadata and Markdown are the notebook's own, so that new texts need no new run.
    """
    if not path.is_file():
        return None
    done = nbformat.read(path, as_version=4)
    ran = {cell.id: cell for cell in done.cells if cell.get("execution_count")}
    if any(each.output_type == "error" for cell in ran.values() for each in cell.outputs):
        return None
    node = edition(notebook, "report")
    for cell in node.cells:
        if cell.cell_type == "code":
            if cell.id not in ran or ran[cell.id].source != cell.source:
                return None
            cell.outputs = ran[cell.id].outputs
    injected = [c for c in done.cells if "injected-parameters" in c.metadata.get("tags", [])]
    node.cells += injected
    return node
