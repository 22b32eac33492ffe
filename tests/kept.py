"""What is kept in report/reference, and how texts write it."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[1]
ALONE, KD = "student without teacher", "student + conventional KD"
CLASSES, SUBCLASSES = "student + KD, classes of the same teacher", "student + subclass KD"
VIEWS = "mutual information (IIC)"
PLAIN, CONTROLS = "plain baselines", "distillation and controls"
# Rows of report/README.md's tables: a label there; table and row of final.json, and over which.
DIGITS = [
    ("teacher, 5,000 images", PLAIN, "teacher"),
    ("SVM, the same 5,000", PLAIN, "SVM, the teacher's images"),
    ("nearest neighbour, the same 5,000", PLAIN, "nearest neighbour, the teacher's images"),
    ("student without teacher, 500 images", PLAIN, ALONE),
    ("student + conventional KD, the same 500", PLAIN, KD),
    ("SVM, the same 500", PLAIN, "SVM"),
    ("nearest neighbour, the same 500", PLAIN, "nearest neighbour"),
    ("gain of KD over the student without teacher", CONTROLS, KD, ALONE),
    ("gain of KD over the SVM", PLAIN, KD, "SVM"),
]
TWO_CLASSES = [
    ("digits recovered: two views (IIC)", "digits recovered", VIEWS),
    ("digits recovered: Müller's loss", "digits recovered", "Müller's auxiliary loss"),
    ("digits recovered: no auxiliary loss", "digits recovered", "no auxiliary loss"),
    ("digits recovered: k-means on the pixels", "digits recovered", "k-means on the pixels"),
    ("teacher with subclasses", PLAIN, "teacher with subclasses"),
    (ALONE, "distillation", ALONE),
    (CLASSES, "distillation", CLASSES),
    (SUBCLASSES, "distillation", SUBCLASSES),
    ("SVM, the students' images", PLAIN, "SVM"),
    ("gain of subclasses over the student without teacher", "distillation", SUBCLASSES, ALONE),
    ("gain of subclasses over the same teacher's classes", "distillation", SUBCLASSES, CLASSES),
]
POLYPS = [
    (PLAIN, "teacher"),
    (PLAIN, "teacher with subclasses"),
    ("distillation", ALONE),
    ("distillation", KD),
    ("distillation", CLASSES),
    ("distillation", SUBCLASSES),
    ("distillation", "student + KD, annotators' votes"),
    (PLAIN, "colour histogram"),
    (PLAIN, "always HP (majority)"),
]


def kept(name: str) -> dict:
    """One file as it stands there."""
    path = ROOT / "report" / "reference" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def final_table(task: str, table: str, split: str = "test") -> dict:
    """One table of final.json."""
    (found,) = (each for each in kept("final")[task][split] if each["table"] == table)
    return found


def final_row(task: str, table: str, label: str, over: str = "", split: str = "test") -> dict:
    """A row of it or, with ``over``, a claim."""
    rows = final_table(task, table, split)["claims" if over else "rows"]
    (found,) = (row for row in rows if row["label"] == label and row.get("over", "") == over)
    return found


def in_points(gain: dict) -> str:
    return f"{100 * gain['mean']:+.2f} ({100 * gain['low']:+.2f} to {100 * gain['high']:+.2f})"


def three_decimals(measured: dict) -> str:
    """A correlation with its interval, without a minus before 0."""
    mean, low, high = (f"{measured[name]:.3f}" for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})".replace("-0.000", "0.000")


def written(row: dict) -> str:
    """An accuracy or a gain with its interval, the gain with Holm's p."""
    if "over" in row:
        p = row["p_holm"]
        return f"{in_points(row)}, p {'< 0.001' if p < 0.001 else f'= {p:.2g}'}"
    low, high = max(row["low"], 0.0), min(row["high"], 1.0)
    return f"{100 * row['mean']:.2f} % ({100 * low:.2f} to {100 * high:.2f})"


def cells(task: str, table: str, label: str, *pairs: tuple[str, str]) -> list[str]:
    """A row of final.json, and claims of its table, as far as they were made."""
    claims = {(each["label"], each["over"]): each for each in final_table(task, table)["claims"]}
    made = [written(claims[pair]) if pair in claims else "–" for pair in pairs]
    return [written(final_row(task, table, label)), *made]


def rows_of_tables() -> dict[str, list[list[str]]]:
    """The tables of report/README.md that final.json is kept for, by task."""
    both = {"mnist-small": DIGITS, "mnist-small-2x5": TWO_CLASSES}
    found = {
        task: [
            [shown, *(written(final_row(task, *where, split=s)) for s in ("test", "audit"))]
            for shown, *where in rows
        ]
        for task, rows in both.items()
    }
    labels = [row["label"] for row in final_table("mnist-small", CONTROLS)["rows"]]
    found["controls"] = [
        [label, *cells("mnist-small", CONTROLS, label, (label, ALONE), (KD, label))]
        for label in labels
    ]
    found["polyps"] = [
        [label, *cells("polyps", table, label, (label, ALONE))] for table, label in POLYPS
    ]
    return found
