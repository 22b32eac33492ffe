"""Tables of the results that are kept in ``report/reference/final.json``."""

import json

from IPython.display import Markdown

from kdnb.course.report.protocol import OTHER_DATA
from kdnb.course.text import markdown_table
from kdnb.files import CONTENT

REFERENCE = CONTENT / "report" / "reference"


def kept_table(task: str, name: str) -> Markdown:
    """The accuracies and gains of one table.

    Raises KeyError where nothing of this name is kept.
    """
    of = _kept("final")[task]
    table = {each["table"]: each for each in of["test"]}[name]
    rows = [[row["label"], _shown(row, "accuracy"), ""] for row in table["rows"]]
    rows += [[_label(row), _shown(row, "gain"), f"{row['p_holm']:.2g}"] for row in table["claims"]]
    images, seeds = table["rows"][0]["images"], len(of["seeds"])
    head = [f"{task}, {images:,} test images, {seeds} seeds", "95 % interval", "p (Holm)"]
    return _not_from_here(head, rows, of["provenance"])


def published_table() -> Markdown:
    """The numbers that others published on MNIST beside those of kdnb and of plain baselines."""
    final, numbers, rows = _kept("final"), _kept("published")["numbers"], []
    for each in numbers:  # three columns, for the page would draw more as a chart
        of, unit = final[each["task"]], each["unit"]
        others = final[each.get("plain_of", each["task"])]  # of the same images
        plain = [f"; {one} {_shown(_row(others, one), unit, mean=True)}" for one in each["plain"]]
        row = _row(of, each["row"])
        ours = _shown(row, unit) + (f", p = {row['p_holm']:.2g} (Holm)" if "over" in row else "")
        rows.append([each["number"], each["published"], "".join([ours, *plain])])
    head = ["MNIST", "published", "here, five seeds (95 % interval); plain baselines"]
    origins = [final[each["task"]]["provenance"] for each in numbers]
    return _not_from_here(head, rows, *origins)


def _not_from_here(head: list[str], rows: list[list[str]], *origins: dict) -> Markdown:
    """A table with the provenance of its runs."""
    runs = dict.fromkeys(f"{o['date'][:10]}, {o['device']}, torch {o['torch']}" for o in origins)
    return Markdown(
        f"{markdown_table(head, rows)}\n\nNot computed here: stored result of a run on "
        f"{'; '.join(runs)} (`report/reference/final.json`).",
        metadata={OTHER_DATA: True},
    )


def _kept(name: str) -> dict:
    return json.loads((REFERENCE / f"{name}.json").read_text(encoding="utf-8"))


def _label(row: dict) -> str:
    return row["label"] + (f" − {row['over']}" if "over" in row else "")


def _row(of: dict, label: str) -> dict:
    """The first row or claim of this label in any table of a task."""
    every = (row for table in of["test"] for row in [*table["rows"], *table["claims"]])
    return next(row for row in every if _label(row) == label)


def _shown(row: dict, unit: str, *, mean: bool = False) -> str:
    """A number and its interval: an "accuracy" or "error" in %, "errors", a "gain" in points."""
    numbers = [row["mean"], row["low"], row["high"]]
    if unit.startswith("error"):
        numbers = [1 - row["mean"], 1 - row["high"], 1 - row["low"]]
    form, scale = {"errors": (".0f", row["images"]), "gain": ("+.2f", 100)}.get(unit, (".2f", 100))
    middle, low, high = (f"{scale * number:{form}}" for number in numbers)
    middle += " %" if unit in ("accuracy", "error") else ""
    return middle if mean else f"{middle} ({low} to {high})"
