"""Spot the bug: short snippets, each a bug from public code, rewritten and run.

``published.py`` holds the bugs, `run` trains each with and without its repair, and ``views.py``
asks for a guess and shows the outcome.
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
