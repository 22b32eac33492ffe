"""Executed notebooks as one self-contained HTML file."""

import ast
import html
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from latex2mathml.converter import convert
from markupsafe import Markup
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter
from traitlets.config import Config

from kdnb.course.glossary import Term, glossary, terms_in
from kdnb.course.interactive.components import scripted
from kdnb.course.references import references
from kdnb.course.report.gathered import Gathered
from kdnb.course.report.protocol import COMPONENT, DRAWN, RESULTS
from kdnb.course.tables.chart import table_chart

TEMPLATES = Path(__file__).parent / "templates"
# The first of these types in an output is shown; a widget needs a kernel and is not included.
SHOWN = ["text/html", "text/markdown", "image/svg+xml", "image/png", "text/plain"]
NOTHING = Gathered()
# What the page writes before a text that it shows once.
LABELS = {"caveats": "**Limits of the results.** "}
# Parts of a Markdown text in which no term of the glossary is marked.
UNMARKED = ("heading", "image", "link", "table")
COLUMNS = 3  # a table of more becomes a chart, with the table folded behind it


@dataclass(frozen=True)
class Chapter:
    """One executed notebook as HTML, with its headings as (anchor, text) for the contents.

    ``cited`` holds the addresses of the works that the chapter links, ``terms`` the terms of the
    glossary that it marks.
    """

    anchor: str
    title: str
    sections: list[tuple[str, str]]
    body: Markup
    cited: frozenset[str]
    terms: frozenset[Term]


class ChapterRenderer(IPythonRenderer):
    """Markdown to HTML: maths as MathML, headings with anchors unique to the chapter.

    A table of more than `COLUMNS` columns with numbers is a chart, with the table folded behind it.
    Where ``tables`` is "drawn", a figure before it shows the numbers already; "plain" tables stay.
    A link to another notebook leads to its chapter, or is plain text where the page lacks it. A
    link to a work that the course cites leads to the page's list of references. With ``marks``, a
    term of the glossary is a button for its definition where the chapter first uses it.
    """

    def __init__(self, chapter: str, chapters: Collection[str], marks: bool = False):
        super().__init__(escape=True, exclude_anchor_links=True)
        self.marks, self.terms = marks, set()
        self.chapter, self.chapters = chapter, chapters
        self.headings: list[tuple[int, str, str]] = []  # level, anchor, inner HTML
        self.cited: set[str] = set()  # addresses of works
        self.tables = "charted"  # or "drawn", or "plain"

    def render_token(self, token: dict, state: object) -> str:
        outside, self.marks = self.marks, self.marks and token["type"] not in UNMARKED
        made = super().render_token(token, state)
        self.marks = outside
        return made

    def text(self, text: str) -> str:
        if not self.marks:
            return super().text(text)
        return "".join(self._marked(*piece) for piece in terms_in(text))

    def _marked(self, text: str, term: Term | None) -> str:
        made = super().text(text)
        if term is None or term in self.terms:
            return made
        self.terms.add(term)
        return f'<button type="button" class="term" popovertarget="{term.anchor}">{made}</button>'

    def inline_math(self, body: str) -> str:
        return _mathml(body, "inline")

    def block_math(self, body: str) -> str:
        # An equation may be within a paragraph, where a div is not allowed.
        return f"<span {_scroll('equation')}>{_mathml(body.strip(), 'block')}</span>"

    def table(self, text: str) -> str:
        table = f"<div {_scroll('table')}><table>\n{text}</table></div>\n"
        head, *rows = cells_of(text)
        if self.tables == "plain" or len(head) <= COLUMNS:
            return table
        chart = table_chart(head, rows) if self.tables == "charted" else None
        if not chart and self.tables == "charted":
            return table
        drawn = f"<div {_scroll('chart')}>{chart.svg}</div>\n" if chart else ""
        folded = f'<details class="table"><summary>the numbers</summary>\n{table}</details>\n'
        return drawn + folded

    def link(self, text: str, url: str, title: str | None = None) -> str:
        if work := references().get(url):
            self.cited.add(url)
            return super().link(text, f"#ref-{work.key}", title)
        if not url.endswith(".ipynb"):
            return super().link(text, url, title)
        name = url.removesuffix(".ipynb")
        return super().link(text, f"#{name}-0", title) if name in self.chapters else text

    def heading(self, text: str, level: int, **attrs: object) -> str:
        anchor = f"{self.chapter}-{len(self.headings)}"
        self.headings.append((level, anchor, text))
        # The page has one h1, its own title.
        return f'<h{level + 1} id="{anchor}">{text}</h{level + 1}>\n'


def render_chapter(
    notebook: NotebookNode, name: str, chapters: Collection[str], stamp: str = ""
) -> Chapter:
    """Turn one executed notebook into a chapter of a page that has all these ``chapters``.

    ``stamp`` is the line under each of its figures and tables.
    """
    renderer = ChapterRenderer(name, chapters, marks=True)
    exporter = notebook_exporter(renderer, "chapter")
    resources = {"stamp": stamp, "component": COMPONENT, "drawn": DRAWN}
    body, _ = exporter.from_notebook_node(notebook, resources=resources)
    titles = [(anchor, text) for level, anchor, text in renderer.headings if level == 1]
    sections = [(anchor, Markup(text)) for level, anchor, text in renderer.headings if level == 2]
    anchor, title = titles[0] if titles else (name, name)
    cited, terms = frozenset(renderer.cited), frozenset(renderer.terms)
    return Chapter(anchor, Markup(title), sections, Markup(body), cited, terms)


def notebook_exporter(renderer: ChapterRenderer, template: str) -> HTMLExporter:
    """The exporter of executed notebooks to HTML by one of the course's templates."""
    exporter = HTMLExporter(
        config=Config(NbConvertBase={"display_data_priority": SHOWN}),
        template_name=template,
        extra_template_basedirs=[str(TEMPLATES)],
        extra_template_paths=[str(TEMPLATES)],
    )

    def markdown2html(source: str, tables: str = "charted") -> str:
        renderer.tables = tables
        return MarkdownWithMath(renderer=renderer).render(source)

    exporter.register_filter("markdown2html", markdown2html)
    exporter.register_filter("settings", settings)
    return exporter


def render_page(
    chapters: Sequence[Chapter], *, title: str, about: str, facts: Sequence[tuple[str, str]],
    gathered: Gathered = NOTHING,
) -> str:  # fmt: skip
    """One HTML page: a cover, contents, the chapters, and how they were made.

    ``gathered`` are the parts of the whole page that notebooks show, ``facts`` on the run (name,
    value) rows. At the end stand the works that the chapters cite, and the terms that they mark.
    """
    renderer = ChapterRenderer("task", ())
    markdown = MarkdownWithMath(renderer=renderer)
    texts = [
        Markup(markdown.render(LABELS.get(kind, "") + text))
        for kind, text in gathered.texts.items()
        if text
    ]
    cited = frozenset(renderer.cited).union(*(chapter.cited for chapter in chapters))
    terms = frozenset().union(*(chapter.terms for chapter in chapters))
    return scripted(
        "page.html.j2",
        title=title,
        about=about,
        facts=facts,
        cover=gathered.cover,
        texts=texts,
        provenance=gathered.provenance,
        chapters=chapters,
        works=[work for url, work in references().items() if url in cited],
        glossary=[(term, _definition(term)) for term in glossary() if term in terms],
        highlight_css=Markup(highlight_css()),
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _definition(term: Term) -> Markup:
    return Markup(MarkdownWithMath(renderer=ChapterRenderer("", ())).render(term.meaning))


def _mathml(body: str, display: str) -> str:
    """LaTeX as MathML. The converter copies the contents of \\text{} unchanged, tags too."""
    return convert(body.replace("<", r"\lt ").replace(">", r"\gt "), display=display)


def _scroll(what: str) -> str:
    """Attributes of a box that scrolls sideways; `scroll.js` makes it reachable by keyboard."""
    return f'class="scroll" data-what="{what}"'


def cells_of(table: str) -> list[list[str]]:
    """The text of each row's cells of a table in HTML."""
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    cells = (re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows)
    return [[html.unescape(re.sub(r"<[^>]*>", "", cell)) for cell in row] for row in cells]


def highlight_css() -> str:
    """Colours of code: pygments' styles with a contrast of 4.5:1 on the page's two backgrounds."""
    light, dark = (
        HtmlFormatter(style=style, nobackground=True).get_style_defs(".highlight")
        for style in ("xcode", "zenburn")
    )
    return f"{light}\n@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}"


def settings(source: str) -> list[str]:
    """What the injected cell of a run sets, line by line, besides the task."""
    lines = source.splitlines()
    return [line for line in lines if "=" in line and not line.startswith("task =")]


def seeds_of(notebook: NotebookNode) -> str:
    """The seeds that an executed notebook's parameters name, as in "0, 1, 2"; "" if none."""
    chosen: dict[str, object] = {}
    for cell in notebook.cells:
        if {"parameters", "injected-parameters"} & set(cell.metadata.get("tags", [])):
            for line in ast.parse(cell.source).body:
                if isinstance(line, ast.Assign) and "seed" in (name := line.targets[0].id):
                    chosen[name] = ast.literal_eval(line.value)
    lists = [value if isinstance(value, list) else [value] for value in chosen.values()]
    return ", ".join(str(seed) for seed in dict.fromkeys(chain.from_iterable(lists)))


def published_results(notebook: NotebookNode) -> list[dict]:
    """The results for other programs in a notebook's outputs, in order."""
    return [
        output.data[RESULTS]
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if RESULTS in output.get("data", {})
    ]
