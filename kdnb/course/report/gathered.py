"""What a page shows once, taken from the notebooks that show it each for itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from nbformat import NotebookNode

from kdnb.course.report.protocol import COVER, ONCE, PROVENANCE

TEXT = "text/markdown"


@dataclass
class Gathered:
    """The cover's parts (None: no chapter has one), the ``texts`` on the page's task as Markdown,
    and each chapter's provenance by its notebook's name.
    """

    cover: dict | None = None
    texts: dict[str, str] = field(default_factory=dict)
    provenance: dict[str, dict] = field(default_factory=dict)


def gather(notebooks: Mapping[str, NotebookNode]) -> Gathered:
    """Take the parts of the whole page out of executed notebooks, in the page's order.

    A text on a task goes to the page where it is the first of its kind, and stays in a chapter
    where it is new: a chapter may have a task of its own.
    """
    gathered, said = Gathered(), set()
    for name, notebook in notebooks.items():
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs = [
                    output for output in cell.outputs if not _taken(output, name, gathered, said)
                ]
    return gathered


def _taken(output: NotebookNode, name: str, gathered: Gathered, said: set[str]) -> bool:
    """Whether the page takes this output of a chapter, or has taken the same before."""
    data = output.get("data", {})
    about = output.get("metadata", {}).get(TEXT, {})
    if COVER in data:
        gathered.cover = data[COVER]
        return True
    if PROVENANCE in about:
        gathered.provenance[name] = about[PROVENANCE]
        return True
    if ONCE not in about:
        return False
    kind, text = about[ONCE], data[TEXT]
    known = text in said
    said.add(text)
    if not known and kind not in gathered.texts:
        gathered.texts[kind] = text
        known = True
    return known
