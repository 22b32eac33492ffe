"""Executed notebooks in, one HTML file out that asks for nothing else."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from latex2mathml.converter import convert
from markupsafe import Markup
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter
from traitlets.config import Config

from kdnb.course.components import scripted
from kdnb.course.protocol import COMPONENT, RESULTS

TEMPLATES = Path(__file__).parent / "templates"
# The first of these that an output has is shown; a widget without its kernel is not among them.
SHOWN = ["text/html", "text/markdown", "image/svg+xml", "image/png", "text/plain"]


@dataclass(frozen=True)
class Chapter:
    """One executed notebook as HTML, with its headings as (anchor, text) for the contents."""

    anchor: str
    title: str
    sections: list[tuple[str, str]]
    body: Markup


class ChapterRenderer(IPythonRenderer):
    """Markdown to HTML: maths as MathML, headings with anchors unique to the chapter.

    A link to another notebook leads to its chapter, or is plain text where the page lacks it.
    """

    def __init__(self, chapter: str, chapters: Collection[str]):
        super().__init__(escape=True, exclude_anchor_links=True)
        self.chapter, self.chapters = chapter, chapters
        self.headings: list[tuple[int, str, str]] = []  # level, anchor, inner HTML

    def inline_math(self, body: str) -> str:
        return convert(body)

    def block_math(self, body: str) -> str:
        return convert(body.strip(), display="block")

    def link(self, text: str, url: str, title: str | None = None) -> str:
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

    ``stamp`` stands under each of its figures and tables.
    """
    renderer = ChapterRenderer(name, chapters)
    exporter = HTMLExporter(
        config=Config(NbConvertBase={"display_data_priority": SHOWN}),
        template_name="chapter",
        extra_template_basedirs=[str(TEMPLATES)],
    )
    exporter.register_filter(
        "markdown2html", lambda source: MarkdownWithMath(renderer=renderer).render(source)
    )
    resources = {"stamp": stamp, "component": COMPONENT}
    body, _ = exporter.from_notebook_node(notebook, resources=resources)
    titles = [(anchor, text) for level, anchor, text in renderer.headings if level == 1]
    sections = [(anchor, Markup(text)) for level, anchor, text in renderer.headings if level == 2]
    anchor, title = titles[0] if titles else (name, name)
    return Chapter(anchor, Markup(title), sections, Markup(body))


def render_page(
    chapters: Sequence[Chapter], *, title: str, about: str, facts: Sequence[tuple[str, str]]
) -> str:
    """One HTML page: a cover with ``facts`` as (name, value) rows, contents, then the chapters."""
    return scripted(
        "page.html.j2",
        title=title,
        about=about,
        facts=facts,
        chapters=chapters,
        highlight_css=Markup(HtmlFormatter(style="friendly").get_style_defs(".highlight")),
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def published_results(notebook: NotebookNode) -> list[dict]:
    """The results that a notebook's outputs carry for other programs, in order."""
    return [
        output.data[RESULTS]
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if RESULTS in output.get("data", {})
    ]
