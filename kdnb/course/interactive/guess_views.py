"""A summary of the reader's guesses at the end of the course."""

from collections.abc import Mapping

import nbformat
from IPython.display import DisplayObject, Markdown

from kdnb.course.figures.picture import GREY, PALETTE, Picture, name_rows, panels, styled
from kdnb.course.interactive.guesses import Guessed, Guesses
from kdnb.course.interactive.widgets import Revealed
from kdnb.course.report.execution import NOTEBOOKS
from kdnb.course.report.protocol import live_kernel
from kdnb.course.text import markdown_table
from kdnb.tasks.config import COURSE, Task


class Summary:
    """Every question of a task's notebooks with its guess, its result and their difference.

    Headless reports show no guesses, also if a reader made some earlier: a page to hand out has
    the questions and results, to which its script adds its own reader's guesses. Notebooks without
    a result are listed as open.
    """

    def __init__(self, task: Task, guesses: Guesses | None = None):
        self.guessed = (guesses or Guesses(task.name)).all()
        self.reader = live_kernel()
        answered = {key.split("/")[0] for key in self.guessed}
        self.open = sorted(set(task.text.notebooks or COURSE) - answered)

    @property
    def parts(self) -> list[DisplayObject | Picture]:
        """All to display: words, picture and table for a reader, else the table alone."""
        return [self.words, self.picture, self.table] if self.reader else [self.table]

    @property
    def table(self) -> Markdown:
        """One row for each question."""
        head = ["notebook", "question", *["your guess"] * self.reader, "result"]
        head += ["your guess is"] * self.reader
        rows = [self._row(key, each) for key, each in self.guessed.items()]
        missing = [*["open"] * self.reader, "not run yet", *["–"] * self.reader]
        rows += [[number, title_of(number), *missing] for number in self.open]
        # By notebook; several questions of a notebook are in the order of their keys.
        text = markdown_table(head, sorted(rows, key=lambda row: row[0].split("/")[0]))
        names = ("question", "unit", "digits", "ends")
        questions = [
            {"key": key, **{name: getattr(each, name) for name in names}, **each.outcomes()}
            for key, each in self.guessed.items()
        ]
        return Revealed(text, {"component": "guesses", "questions": questions})

    @property
    def words(self) -> Markdown:
        """The number of guesses, and of those that were right, too low and too high."""
        text = f" Open: {', '.join(self.open)}." if self.open else ""
        made = [each for each in self.guessed.values() if each.guess is not None]
        if not made:
            return Markdown(
                "You made no guess before a result was shown. The sliders' defaults do not "
                f"count as guesses.{text}"
            )
        verdicts = [each.judged(each.guess) for each in made]
        hits = sum(v in ("within the interval", "right") for v in verdicts)
        low, high = (sum(v.startswith(f"too {way}") for v in verdicts) for way in ("low", "high"))
        if chosen := [each for each in made if each.choice]:
            right = sum(each.choice == each.outcome for each in chosen)
            text = f" Of {len(chosen)} predicted outcomes {right} came true.{text}"
        return Markdown(
            f"You made **{len(made)}** of {len(self.guessed)} guesses: **{hits}** within the "
            f"interval or right, {low} too low, {high} too high.{text}"
        )

    @property
    def picture(self) -> Picture:
        """Guesses and results, each on the range of its slider."""
        return _picture(self.guessed)

    def _row(self, key: str, each: Guessed) -> list[str]:
        question, guess = each.question.rstrip(":"), each.guess
        came = each.result + (f", {each.outcome}" if each.outcome else "")
        if not self.reader:
            return [key, question, came]
        if guess is None:
            return [key, question, "no guess", came, "–"]
        said = each.number(guess) + (f", {each.choice}" if each.choice else "")
        return [key, question, said, came, each.judged(guess)]


def title_of(number: str) -> str:
    """A notebook's title, which is a question; "" where the notebook is missing."""
    for path in NOTEBOOKS.glob(f"{number}_*.ipynb"):
        return nbformat.read(path, as_version=4).cells[0].source.splitlines()[0].lstrip("# ")
    return ""


@styled
def _picture(guessed: Mapping[str, Guessed]) -> Picture:
    known = {key: each for key, each in guessed.items() if each.value is not None}
    figure, ax = panels(6.8, 0.9 + 0.3 * max(1, len(known)))
    said = []
    hollow = {"mfc": "none", "mec": PALETTE[3], "mew": 1.5}
    for row, (key, each) in enumerate(known.items()):
        low, high = (each.value if end is None else end for end in (each.low, each.high))
        low, high, value, place = (
            None if v is None else 100 * (v - each.ends[0]) / (each.ends[1] - each.ends[0])
            for v in (low, high, each.value, each.guess)
        )
        ax.plot([low, high], [row, row], color=PALETTE[0], lw=4, alpha=0.4)
        ax.plot(value, row, "o", color=PALETTE[0], label="result" * (row == 0))
        words = f"{key} result {each.result}"
        if each.guess is not None:
            ax.plot(place, row, "D", **hollow)
            words += f", your guess {each.number(each.guess)}"
        said.append(words)
    ax.plot([], [], "D", **hollow, ls="", label="your guess")
    for end in (0, 100):
        ax.axvline(end, color=GREY, lw=0.5)
    name_rows(ax, list(known))
    ax.set(xlabel="% of the slider's range", ylabel="notebook")
    ax.grid(axis="y", visible=False)
    figure.legend(loc="outside upper right", ncols=2, fontsize=8)
    return Picture(figure, f"Guesses and results: {'; '.join(said) or 'none yet'}.")
