"""One bug: the function as it was found, its wrong lines, and their repair."""

import linecache
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import torch
import torch.nn.functional as F
from IPython.display import Markdown
from torch.utils.data import DataLoader

from kdnb.evaluation.statistics import Interval
from kdnb.store.store import digest


class Place(StrEnum):
    """Where training calls a snippet, and with which arguments."""

    LOSS = "for the loss of each batch"
    INDEXED_LOSS = "for the loss of each batch, with the indices of its images"
    CACHED_LOGITS = "once, for the teacher's logits"
    LIVE_LOGITS = "at each step, for the teacher's logits"
    SWEEP = "once, for a sweep over the temperature"


class Outcome(StrEnum):
    """The effect of a bug on the reported accuracy: the choices of a reader."""

    BREAKS = "most of what is learnt is lost"
    LESS = "less is learnt"
    SAME = "no distinguishable difference"
    BETTER = "the result looks better"


@dataclass(frozen=True)
class Bug:
    """A function with a bug, as the ``diff`` that repairs it.

    ``name`` states the mistake and ``why`` its effect. ``symptom`` is the curve of `Trial` that
    shows the effect. ``seen`` names the kind of code in which the bug was found.
    """

    name: str
    place: Place
    diff: str
    why: str
    symptom: str
    seen: str

    def _lines(self, marks: str) -> str:
        lines = self.diff.splitlines(keepends=True)
        return "".join(line[1:] for line in lines if line[0] in marks)

    @property
    def source(self) -> str:
        """The function with the bug."""
        return self._lines(" -")

    @property
    def repaired(self) -> str:
        """The function without the bug."""
        return self._lines(" +")

    @property
    def snippet(self) -> Markdown:
        """The source as shown to a reader, and where training calls it."""
        return Markdown(f"Called {self.place.value}:\n\n{fenced(self.source)}")

    @property
    def repair(self) -> Markdown:
        """The mistake, the wrong and the repaired lines, and where such code was found."""
        return Markdown(
            f"**{self.name}.** {self.why}\n\nWrong:\n\n{fenced(self._lines('-'))}\n\n"
            f"Repaired:\n\n{fenced(self._lines('+'))}\n\nFound in {self.seen}."
        )


def fenced(source: str) -> str:
    """Source as a Markdown block, highlighted in a notebook and in a report."""
    return f"```python\n{source.strip(chr(10))}\n```"


def compiled(source: str) -> Callable:
    """The one function that ``source`` defines, so that the source shown is the source run."""
    name = f"<snippet {digest(source)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    known = {"torch": torch, "F": F, "DataLoader": DataLoader}
    made: dict[str, object] = {}
    exec(compile(source, name, "exec"), known, made)
    (function,) = made.values()
    return function


def outcome_of(difference: Interval, repaired: float, chance: float) -> Outcome:
    """The outcome, from the difference that the bug makes and the accuracy without the bug."""
    if not difference.excludes_zero:
        return Outcome.SAME
    if difference.mean > 0:
        return Outcome.BETTER
    lost = -difference.mean / (repaired - chance)
    return Outcome.BREAKS if lost > 0.5 else Outcome.LESS
