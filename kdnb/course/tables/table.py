"""The class of all tables."""

from kdnb.course.report.protocol import DRAWN, RESULTS


class Table:
    """Numbers as Markdown for the reader and as ``data`` for programs.

    ``drawn`` says that a figure before the table shows the same numbers, so the page folds the
    table without drawing it again.
    """

    def __init__(self, text: str, data: dict, *, drawn: bool = False):
        self.text, self.data, self.drawn = text, data, drawn

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple:
        shown = {"text/markdown": self.text, "text/plain": self.text, RESULTS: self.data}
        return shown, {"text/markdown": {DRAWN: True}} if self.drawn else {}
