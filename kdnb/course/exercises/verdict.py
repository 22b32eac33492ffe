"""What a checker found, in words: for JupyterLab with folded help, elsewhere as plain text."""

import html
import re
from dataclasses import dataclass

from kdnb.course.report.protocol import live_kernel

NOT_ATTEMPTED, CORRECT, NOT_YET = "not attempted", "correct", "not yet"
# A mark beside the word, and a colour beside both: none of them has to be seen.
MARKS = {NOT_ATTEMPTED: ("○", "#777777"), CORRECT: ("✓", "#2a7d2a"), NOT_YET: ("✗", "#b45f06")}


@dataclass(frozen=True)
class Paragraph:
    """A place in the course: a notebook's file without ending, and one of its headings."""

    notebook: str
    heading: str

    @property
    def href(self) -> str:
        """The address that JupyterLab opens and scrolls to."""
        return f"{self.notebook}.ipynb#{self.heading.replace(' ', '-')}"

    def __str__(self) -> str:
        return f"{self.heading} (notebook {self.notebook[:2]})"


@dataclass(frozen=True)
class Help:
    """Something to show: a title, and a text in which `code` stands in backquotes, or a source."""

    title: str
    text: str = ""
    source: str = ""

    def __str__(self) -> str:
        return f"{self.title}: {self.text}{self.source}"

    @property
    def body(self) -> str:
        """The HTML below the title."""
        if self.source:
            return f"<pre><code>{html.escape(self.source)}</code></pre>"
        return f"<p>{inline(self.text)}</p>"

    @property
    def folded(self) -> str:
        """HTML that opens by a click, or by Enter on its title."""
        return f"<details><summary>{html.escape(self.title)}</summary>{self.body}</details>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict:
        shown = f"<div><p><strong>{html.escape(self.title)}</strong></p>{self.body}</div>"
        return {"text/plain": str(self), "text/html": shown}


@dataclass(frozen=True)
class Verdict:
    """What became of an attempt: ``status`` is one of the three.

    ``name`` is "" or, of "not yet", the misconception's or such as "another number".
    """

    status: str
    text: str
    name: str = ""
    read: Paragraph | None = None
    help: tuple[Help, ...] = ()

    @property
    def correct(self) -> bool:
        """Whether the exercise is solved."""
        return self.status == CORRECT

    @property
    def headline(self) -> str:
        """Status and misconception in a few words."""
        return self.status.capitalize() + (f": {self.name}" if self.name else "")

    def __str__(self) -> str:
        again = f" Read again: {self.read}." if self.read else ""
        return f"{MARKS[self.status][0]} {self.headline}. {self.text}{again}"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict:
        mark, colour = MARKS[self.status]
        again = ""
        if self.read:
            place = html.escape(str(self.read))
            # Where nobody reads live, the notebook is a chapter of a page: no file to open.
            link = f'<a href="{html.escape(self.read.href)}">{place}</a>'
            again = f"<p>Read again: {link if live_kernel() else place}.</p>"
        shown = (
            f'<div role="status" style="border-left:4px solid {colour};padding-left:12px">'
            f'<p><strong><span aria-hidden="true">{mark}</span> {inline(self.headline)}</strong>'
            f"</p><p>{inline(self.text)}</p>{again}{''.join(h.folded for h in self.help)}</div>"
        )
        return {"text/plain": str(self), "text/html": shown}


def inline(text: str) -> str:
    """Text as HTML: what stands in backquotes is code, what stands in asterisks emphasised."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
    return re.sub(r"(?<![\w*])\*(\w[^*<>]*\w)\*(?![\w*])", r"<em>\1</em>", text)
