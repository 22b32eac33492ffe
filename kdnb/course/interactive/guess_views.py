"""How one's guesses did, at the end of the course."""

from collections.abc import Mapping

import nbformat
from IPython.display import Markdown
from matplotlib.figure import Figure

from kdnb.course.figures.drawings import GREY, PALETTE
from kdnb.course.figures.plots import Picture, styled
from kdnb.course.interactive.guesses import Guessed, Guesses
from kdnb.course.report.execution import NOTEBOOKS
from kdnb.course.report.protocol import live_kernel
from kdnb.tasks.config import COURSE, Task


class Summary:
    """Every question of a task's notebooks: what was guessed, what came out, how far off.

    Without a reader no guess is shown, whoever made one at another time: a page that is handed out
    is about nobody's guesses. Notebooks without an outcome are listed as open.
    """

    def __init__(self, task: Task, guesses: Guesses | None = None):
        self.guessed = (guesses or Guesses(task.name)).all()
        self.task, self.reader = task, live_kernel()

    @property
    def table(self) -> Markdown:
        """One row for each question."""
        rows = [
            "| notebook | question | you expected | it was | your guess is |"
            if self.reader
            else "| notebook | question | slider's resting place | it was | resting place is |",
            "| --- | --- | --- | --- | --- |",
        ]
        numbers = {key.split("/")[0] for key in self.guessed}
        for number in sorted(numbers | set(self.task.text.notebooks or COURSE)):
            asked = {k: g for k, g in self.guessed.items() if k.split("/")[0] == number}
            rows += [self._row(key, each) for key, each in asked.items()] or [self._open(number)]
        return Markdown("\n".join(rows))

    @property
    def words(self) -> Markdown:
        """How many guesses there were, and how they did together."""
        open_ones = sorted(
            set(self.task.text.notebooks or COURSE) - {key.split("/")[0] for key in self.guessed}
        )
        text = f" Open: {', '.join(open_ones)}." if open_ones else ""
        made = [each for each in self.guessed.values() if each.guess is not None]
        if not self.reader:
            return Markdown(
                "Nobody guessed here: sliders stand at their resting places, which are in the "
                f"table only to be seen.{text}"
            )
        if not made:
            return Markdown(
                "You have made no guess before an answer was shown. The sliders' resting places "
                f"do not count.{text}"
            )
        verdicts = [each.judged(each.guess) for each in made]
        hits = sum(v in ("within the interval", "right") for v in verdicts)
        low, high = (sum(v.startswith(f"too {way}") for v in verdicts) for way in ("low", "high"))
        told = [each for each in made if each.choice]
        if told:
            right = sum(each.choice == each.outcome for each in told)
            text = f" Of {len(told)} times you said what happens, {right} were right.{text}"
        return Markdown(
            f"You made **{len(made)}** of {len(self.guessed)} guesses: **{hits}** within the "
            f"interval or right, {low} too low, {high} too high.{text}"
        )

    @property
    def picture(self) -> Picture:
        """Guesses and outcomes, each on the range of its slider."""
        return _picture(self.guessed, self.reader)

    def _row(self, key: str, each: Guessed) -> str:
        guess = each.guess if self.reader else each.start
        question = each.question.rstrip(":")
        if guess is None:
            return f"| {key} | {question} | no guess | {each.result} | – |"
        said = each.number(guess) + (f", {each.choice}" if each.choice and self.reader else "")
        came = each.result + (f", {each.outcome}" if each.outcome else "")
        return f"| {key} | {question} | {said} | {came} | {each.judged(guess)} |"

    def _open(self, number: str) -> str:
        return f"| {number} | {title_of(number)} | open | not run yet | – |"


def title_of(number: str) -> str:
    """The question that a notebook is about; "" where the notebooks are not at hand."""
    for path in NOTEBOOKS.glob(f"{number}_*.ipynb"):
        return nbformat.read(path, as_version=4).cells[0].source.splitlines()[0].lstrip("# ")
    return ""


@styled
def _picture(guessed: Mapping[str, Guessed], reader: bool) -> Picture:
    known = {key: each for key, each in guessed.items() if each.value is not None}
    figure = Figure(figsize=(6.8, 0.9 + 0.3 * max(1, len(known))), layout="constrained")
    ax = figure.subplots()
    said = []
    mine = "your guess" if reader else "resting place"
    for row, (key, each) in enumerate(known.items()):

        def place(value: float, each: Guessed = each) -> float:
            return 100 * (value - each.least) / (each.most - each.least)

        guess = each.guess if reader else each.start
        ends = [each.value if end is None else end for end in (each.low, each.high)]
        ax.plot([place(end) for end in ends], [row, row], color=PALETTE[0], lw=4, alpha=0.4)
        ax.plot(place(each.value), row, "o", color=PALETTE[0], label="it was" * (row == 0))
        words = f"{key} it was {each.result}"
        if guess is not None:
            ax.plot(place(guess), row, "D", mfc="none", mec=PALETTE[3], mew=1.5)
            words += f", {mine} {each.number(guess)}"
        said.append(words)
    ax.plot([], [], "D", mfc="none", mec=PALETTE[3], mew=1.5, ls="", label=mine)
    ax.axvline(0, color=GREY, lw=0.5)
    ax.axvline(100, color=GREY, lw=0.5)
    ax.set_yticks(range(len(known)), list(known))
    ax.set_ylim(max(1, len(known)) - 0.5, -0.5)
    ax.set(xlabel="% of the slider's way", ylabel="notebook")
    ax.grid(axis="y", visible=False)
    figure.legend(loc="outside upper right", ncols=2, fontsize=8)
    return Picture(figure, f"Guesses and outcomes: {'; '.join(said) or 'none yet'}.")
