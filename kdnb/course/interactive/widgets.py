"""Things to touch: each is live in Jupyter and rests as a picture wherever scripts cannot run."""

import base64
import html
import zlib
from collections.abc import Sequence
from dataclasses import replace

import ipywidgets
from IPython.display import Markdown
from torch import Tensor

from kdnb.course.figures.picture import Picture, image_tag
from kdnb.course.interactive.components import STATIC, frame
from kdnb.course.interactive.guesses import Guessed, Guesses
from kdnb.course.report.protocol import COMPONENT, live_kernel

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
LATE = " You moved the slider after the result was shown; only a guess before that counts."


class Live:
    """A widget and its fallback for a page without a kernel or scripts.

    The output holds both; Jupyter shows the widget if possible, else the fallback.
    """

    def __init__(self, box: ipywidgets.Widget, fallback: dict | str, metadata: dict | None = None):
        self.box = box
        self._shown = ipywidgets.VBox([box, _names_for_sliders()])
        if isinstance(fallback, str):
            fallback = {"text/plain": fallback, "text/markdown": fallback}
        self._fallback, self.metadata = fallback, metadata or {}

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple:
        # Written out: ipywidgets 7, which hosted notebooks may have, has no method that gives it.
        view = {"version_major": 2, "version_minor": 0, "model_id": self._shown.model_id}
        return {**self._fallback, WIDGET_VIEW: view}, self.metadata


def _names_for_sliders() -> ipywidgets.Output:
    """An invisible output whose script labels the sliders beside it for screen readers.

    ipywidgets gives their handles no name and, on a logarithmic scale, another value than shown.
    """
    script = (STATIC / "lab" / "sliders.js").read_text(encoding="utf-8")
    run = {"output_type": "display_data", "data": {"application/javascript": script}}
    return ipywidgets.Output(outputs=[{**run, "metadata": {}}], layout={"display": "none"})


class Revealed(Markdown):
    """A result in words, and for the page its numbers beside them."""

    def __init__(self, text: str, numbers: dict):
        super().__init__(text)
        self.numbers = numbers

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict:
        return {"text/plain": self.data, "text/markdown": self.data, COMPONENT: self.numbers}


class Guess(Live):
    """A slider for the reader's prediction; ``value`` is its position.

    `reveal` shows the result. With ``task`` and ``key``, the notebook's number or "NN/question",
    guess and result are stored for the summary at the end of the course (`Guesses`). Only a slider
    that the reader moved before `reveal` is a guess, and the first guess counts. In the page the
    reader guesses by the script ``guess.js``.
    """

    _choices: tuple[ipywidgets.Dropdown, ...] = ()  # of what happens

    def __init__(
        self, question: str, low: float, high: float, start: float, *, unit: str = "",
        digits: int = 1, step: float | None = None, task: str = "", key: str = "",
    ):  # fmt: skip
        self._asked = Guessed(question, unit, digits, [low, high], start)
        self._guesses = Guesses(task) if task and key else None
        self._key, self._touched = key, False
        step = step or (high - low) / 40
        self._slider = ipywidgets.FloatSlider(
            value=start, min=low, max=high, step=step,
            description="your guess", tooltip=question, readout_format=f".{digits}f",
        )  # fmt: skip
        for control in (*self._choices, self._slider):
            control.observe(self._touch, names="value")
        box = [ipywidgets.HTML(html.escape(question)), *self._choices, self._slider]
        numbers = {
            "component": "guess", "key": key or question, "question": question, "unit": unit,
            "digits": digits, "ends": [low, high], "start": start, "step": step,
            "choices": [[*choice.options] for choice in self._choices],
            "resting": [choice.value for choice in self._choices],
        }  # fmt: skip
        fallback = {"text/plain": question, "text/markdown": question, COMPONENT: numbers}
        super().__init__(ipywidgets.VBox(box), fallback)

    @property
    def value(self) -> float:
        """The guess, in the units of the question."""
        return self._slider.value

    @property
    def made(self) -> float | None:
        """The reader's guess; None if the reader has not moved the slider."""
        return self.value if live_kernel() and self._touched else None

    def reveal(
        self, value: float | None, low: float | None = None, high: float | None = None
    ) -> Revealed:
        """The result, with its 95 % interval if there is one, beside the guess.

        ``value`` is None if the result is no number. The result is stored; the guess only if the
        reader made it before seeing a result.
        """
        asked, late = self._record(value=value, low=low, high=high)
        return self._revealed(self._words(asked, late), asked)

    def _record(self, **outcome: object) -> tuple[Guessed, bool]:
        """The record after this result, and whether the slider was moved too late to count."""
        before = (self._guesses and self._guesses.all().get(self._key)) or self._asked
        mine = kept = before.guess, before.choice
        if live_kernel() and self._touched:
            mine = self.value, "".join(choice.value for choice in self._choices)
        guess, choice = kept if before.shown else mine
        shown = before.shown or live_kernel()
        self._asked = replace(self._asked, **outcome, guess=guess, choice=choice, shown=shown)
        if self._guesses:
            self._guesses.keep(self._key, self._asked)
        return self._asked, before.shown and mine != kept

    def _revealed(self, text: str, asked: Guessed) -> Revealed:
        numbers = {"component": "result", "key": self._key or asked.question, **asked.outcomes()}
        return Revealed(text, numbers)

    def _words(self, asked: Guessed, late: bool) -> str:
        came, guess = f"Result: **{asked.result}**.", asked.guess
        if not live_kernel():
            return came
        text = f"{came} You made no guess (the slider stayed at its default)."
        if guess is not None:
            text = f"{came} Your guess: **{asked.number(guess)}** ({asked.judged(guess)})."
        return text + (LATE if late else "")

    def _touch(self, change: object) -> None:
        self._touched = True


class Prediction(Guess):
    """A guess of the outcome, one of ``choices``, and of its size.

    ``resting`` is the default choice.
    """

    def __init__(
        self, question: str, choices: Sequence[str], resting: str, *slider: float, **options: object
    ):
        self._choices = (dropdown("what happens", question, list(choices), resting),)
        super().__init__(question, *slider, **options)

    @property
    def choice(self) -> str:
        """The outcome that the reader expects."""
        return self._choices[0].value

    def reveal_choice(
        self, outcome: str, value: float, low: float, high: float, before: str = ""
    ) -> Revealed:
        """As `reveal`, and whether the reader chose the ``outcome``, one of the choices.

        The text ``before`` comes first.
        """
        asked, late = self._record(outcome=outcome, value=value, low=low, high=high)
        said = f"{before}\n\nOutcome: *{outcome}*.".lstrip()
        if live_kernel() and asked.choice:
            judged = "which is right" if asked.choice == outcome else "which is wrong"
            said += f" You predicted *{asked.choice}*, {judged}."
        return self._revealed(f"{said} {self._words(asked, late)}", asked)


def explorer(component: str, data: dict | None, rest: Picture, title: str) -> Live:
    """A component of the page that computes from ``data``, and its still, the picture ``rest``.

    ``component`` is the name of its script. In a live notebook it moves in a frame with this title;
    otherwise the output carries the data to the page of a report. Without ``data`` it is the still.
    """
    fallback, metadata = rest._repr_mimebundle_()
    shown = image_tag(rest)
    if data is not None:
        described = {"component": component, **data}
        # Data may be large, so they travel once.
        if live_kernel():
            shown = frame(described, title)
        else:
            fallback = {**fallback, COMPONENT: described}
    return Live(ipywidgets.HTML(shown, layout={"width": "100%"}), fallback, metadata)


def dropdown(name: str, tooltip: str, options: Sequence, value: object) -> ipywidgets.Dropdown:
    """A choice among options, at first ``value``."""
    return ipywidgets.Dropdown(options=options, value=value, description=name, tooltip=tooltip)


def temperatures(start: float, lowest: float = 0.5, highest: float = 64.0) -> dict[str, float]:
    """Where the page's temperature slider rests, and its ends."""
    return {"temperature": start, "lowest": lowest, "highest": highest}


def packed(values: Tensor) -> str:
    """The bytes of numbers as base64, for the page."""
    return base64.b64encode(values.contiguous().numpy().tobytes()).decode()


def deflated(values: Tensor) -> str:
    """As `packed`, compressed by zlib: the page's ``inflated``."""
    data = values.contiguous().numpy().tobytes()
    return base64.b64encode(zlib.compress(data, 9)).decode()
