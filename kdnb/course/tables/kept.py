"""Results on all of MNIST that are kept in report/reference, beside published numbers."""

import json

from IPython.display import Markdown

from kdnb.course.report.protocol import OTHER_DATA
from kdnb.course.text import markdown_table, percent, percent_range, points
from kdnb.evaluation.statistics import Interval
from kdnb.files import CONTENT

REFERENCE = CONTENT / "report" / "reference"
PLAIN, TAUGHT = "plain baselines", "distillation"  # tables of final.json

Row = dict[str, object]  # of final.json


def _accuracy(row: Row) -> str:
    """A share of correct images with its interval."""
    mean = _interval(row)
    return f"{percent(mean.mean)} ({percent_range(mean)})"


def _error(row: Row) -> str:
    """The same as a share of wrong images."""
    mean, low, high = (1 - row[name] for name in ("mean", "high", "low"))
    return _accuracy({**row, "mean": mean, "low": low, "high": high})


def _errors(row: Row) -> str:
    """The same as a number of wrong images."""
    mean, most, least = (row["images"] * (1 - row[name]) for name in ("mean", "low", "high"))
    return f"{mean:.0f} ({max(least, 0):.0f} to {most:.0f})"


def _gain(row: Row) -> str:
    """A difference of two rows in points."""
    return points(_interval(row))


FORMS = {"accuracy": _accuracy, "error": _error, "errors": _errors, "points": _gain}


def published_table() -> Markdown:
    """Published numbers on MNIST beside ours, with a plain baseline of the same images."""
    final, wanted, rows = _read("final"), _read("published"), []
    if lacking := [each["ours"][0] for each in wanted if each["ours"][0] not in final]:
        return _not_kept(lacking[0])
    for each in wanted:
        form, (task, *where), plain = FORMS[each["as"]], each["ours"], each["baseline"]
        baseline = f"{form(_row(final[task], *plain))}: {plain[-1]}" if plain else "–"
        ours = form(_row(final[task], *where))
        rows.append([each["number"], each["published"], ours, baseline])
    seeds = len(final["mnist"]["seeds"])
    head = ["MNIST, 10,000 test images", "published", f"ours, {seeds} seeds", "plain baseline"]
    return _stored(markdown_table(head, rows), final["mnist"])


def kept_table(task: str, over: str) -> Markdown:
    """The comparison of students that is kept for a task, with the gains over one of them."""
    if not (record := _read("final").get(task)):
        return _not_kept(task)
    head = [f"{task}, test split, {len(record['seeds'])} seeds", "accuracy", f"gain over {over}"]
    gains = {
        claim["label"]: points(_interval(claim))
        for claim in _table(record, TAUGHT)["claims"]
        if claim["over"] == over
    }
    shown = [_row(record, PLAIN, "teacher"), *_table(record, TAUGHT)["rows"]]
    rows = [[row["label"], _accuracy(row), gains.get(row["label"], "–")] for row in shown]
    return _stored(markdown_table(head, rows), record)


def _interval(row: Row) -> Interval:
    return Interval(**{name: row[name] for name in Interval.__dataclass_fields__ if name in row})


def _read(name: str) -> dict | list:
    return json.loads((REFERENCE / f"{name}.json").read_text(encoding="utf-8"))


def _table(record: dict, name: str) -> dict:
    (table,) = (each for each in record["test"] if each["table"] == name)
    return table


def _row(record: dict, table: str, label: str, over: str = "") -> Row:
    rows = _table(record, table)["claims" if over else "rows"]
    (row,) = (row for row in rows if row["label"] == label and row.get("over", "") == over)
    return row


def _not_kept(task: str) -> Markdown:
    return Markdown(
        f"`report/reference/final.json` has no results on {task}; `report/README.md` explains how "
        "to make them."
    )


def _stored(text: str, record: dict) -> Markdown:
    origin = record["provenance"]
    return Markdown(
        f"{text}\n\nNot computed here: stored result of a run on {origin['date'][:10]}, "
        f"{origin['device']}, torch {origin['torch']} (`report/reference/final.json`).",
        metadata={OTHER_DATA: True},
    )
