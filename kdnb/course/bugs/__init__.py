"""Spot the bug: short snippets, each a bug of published code, rewritten and really run.

A bug is a `Bug` in ``published.py``; `run` trains it beside its repair, and ``views.py`` asks,
draws and says what happened.
"""

from kdnb.course.bugs.bug import Bug, Outcome, Place
from kdnb.course.bugs.published import ALL
from kdnb.course.bugs.running import BugResult, Setting, run
from kdnb.course.bugs.views import ask, found, overview, picture, reveal

__all__ = [
    "ALL",
    "Bug",
    "BugResult",
    "Outcome",
    "Place",
    "Setting",
    "ask",
    "found",
    "overview",
    "picture",
    "reveal",
    "run",
]
