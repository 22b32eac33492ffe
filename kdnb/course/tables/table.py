"""The class of all tables."""

from kdnb.course.report.protocol import RESULTS


class Table:
    """Numbers as Markdown for the reader and as ``data`` for programs."""

    def __init__(self, text: str, data: dict):
        self.text, self.data = text, data

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict:
        return {"text/markdown": self.text, "text/plain": self.text, RESULTS: self.data}
