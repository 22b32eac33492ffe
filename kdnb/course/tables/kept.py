"""Results on all of MNIST that are kept in report/reference, beside published numbers."""

import json
from collections.abc import Callable

from IPython.display import Markdown

from kdnb.course.report.protocol import OTHER_DATA
from kdnb.course.text import markdown_table, percent, percent_range, points
from kdnb.evaluation.statistics import Interval
from kdnb.files import CONTENT

REFERENCE = CONTENT / "report" / "reference"
HINTON = "[Hinton et al. 2015](https://arxiv.org/abs/1503.02531)"
MUELLER = "[Müller et al. 2020](https://arxiv.org/abs/2002.03936)"
PROJECTS = "ten [student projects](https://github.com/Joyce-ZhouY/ECE1512-ProjectA)"
ALONE, KD = "student without teacher", "student + conventional KD"
SUBCLASSES = "student + subclass KD"
# Tables of final.json, and rows of plain baselines in them
PLAIN, TAUGHT, DIGITS = "plain baselines", "distillation", "digits recovered"
WIDE, NARROW = "800-800 units", "30-30 units"
SVM, NEIGHBOUR = (PLAIN, "SVM on 10,000 images"), (PLAIN, "nearest neighbour")
KMEANS = (DIGITS, "k-means on the pixels")

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


# A number, what was published, and where ours is: task, table, label (and over which), its form,
# and a plain baseline of the same task.
PUBLISHED: tuple[tuple[str, str, tuple[str, ...], Callable[[Row], str], tuple], ...] = (
    ("teacher, accuracy", f"99.15 to 99.34 % ({PROJECTS}), 99.35 % ({MUELLER}, Colab)",
     ("mnist", PLAIN, "teacher"), _accuracy, NEIGHBOUR),
    ("student 784-784 alone, accuracy", f"97.85 to 98.34 % ({PROJECTS})",
     ("mnist", TAUGHT, ALONE), _accuracy, SVM),
    ("the same, conventional KD", f"98.62 to 98.91 % ({PROJECTS})",
     ("mnist", TAUGHT, KD), _accuracy, SVM),
    ("the same, subclass KD with ten classes", "98.93 % (one project, one run)",
     ("mnist", TAUGHT, SUBCLASSES), _accuracy, SVM),
    ("subclass over conventional KD, points", "–",
     ("mnist", TAUGHT, SUBCLASSES, KD), _gain, ()),
    ("MNIST-2x5: digits recovered by the teacher",
     "73.9 ± 5.9 % ([NumPy](https://cybertronai.github.io/hinton-problems/mnist-2x5-subclass/))",
     ("mnist-2x5", DIGITS, "mutual information (IIC)"), _accuracy, KMEANS),
    ("MNIST-2x5: teacher, error", f"0.73 ± 0.09 % ({MUELLER})",
     ("mnist-2x5", PLAIN, "teacher with subclasses"), _error, NEIGHBOUR),
    ("MNIST-2x5: student alone, error", f"1.57 ± 0.06 % ({MUELLER})",
     ("mnist-2x5", TAUGHT, ALONE), _error, SVM),
    ("MNIST-2x5: conventional KD, error", f"1.23 ± 0.04 % ({MUELLER})",
     ("mnist-2x5", TAUGHT, KD), _error, SVM),
    ("MNIST-2x5: subclass KD, error", f"0.93 ± 0.06 % ({MUELLER})",
     ("mnist-2x5", TAUGHT, SUBCLASSES), _error, SVM),
    ("MNIST-2x5: relative probabilities only, error", f"2.06 ± 0.18 % ({MUELLER})",
     ("mnist-2x5", TAUGHT, "student, relative probabilities only"), _error, SVM),
    ("teacher 1200-1200, dropout and shifts, errors", f"67 ({HINTON})",
     ("mnist-hinton", WIDE, "teacher"), _errors, ()),
    ("student 800-800 alone, errors", f"146 ({HINTON})",
     ("mnist-hinton", WIDE, ALONE), _errors, ()),
    ("the same, distilled from this teacher at T = 20", f"74 ({HINTON})",
     ("mnist-hinton", WIDE, KD), _errors, ()),
    ("the same, distilled by the course's recipe", "–",
     ("mnist-hinton", WIDE, "student + KD, the course's teacher and recipe"), _errors, ()),
    ("student 30-30, T of 2.5 to 4 over T of 8 to 20, points",
     f"significantly better ({HINTON})",
     ("mnist-hinton", NARROW, "T from 2.5 to 4, mean", "T from 8 to 20, mean"), _gain, ()),
)  # fmt: skip


def published_table() -> Markdown:
    """Published numbers on MNIST beside ours, with a plain baseline of the same images."""
    final, rows = _final(), []
    if lacking := [where[0] for _, _, where, *_ in PUBLISHED if where[0] not in final]:
        return _not_kept(lacking[0])
    for number, published, (task, *where), form, plain in PUBLISHED:
        baseline = f"{form(_row(final[task], *plain))}: {plain[-1]}" if plain else "–"
        rows.append([number, published, form(_row(final[task], *where)), baseline])
    seeds = len(final["mnist"]["seeds"])
    head = ["MNIST, 10,000 test images", "published", f"ours, {seeds} seeds", "plain baseline"]
    return _stored(markdown_table(head, rows), final["mnist"])


def kept_table(task: str, over: str) -> Markdown:
    """The comparison of students that is kept for a task, with the gains over one of them."""
    if not (record := _final().get(task)):
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


def _final() -> dict:
    return json.loads((REFERENCE / "final.json").read_text(encoding="utf-8"))


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
