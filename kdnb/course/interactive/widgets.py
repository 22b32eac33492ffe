"""Things to touch: each is live in Jupyter and rests as a picture wherever scripts cannot run."""

import base64
import html
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import log2

import ipywidgets
from IPython.display import Markdown
from torch import Tensor

from kdnb.course.figures.picture import Picture, image_tag
from kdnb.course.figures.svg import Drawing
from kdnb.course.interactive.components import STATIC
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


class Guess(Live):
    """A slider for the reader's prediction; ``value`` is its position.

    `reveal` shows the result. With ``task`` and ``key``, the notebook's number or "NN/question",
    guess and result are stored for the summary at the end of the course (`Guesses`). Only a slider
    that the reader moved before `reveal` is a guess, and the first guess counts.
    """

    _choices: tuple[ipywidgets.Dropdown, ...] = ()  # of what happens

    def __init__(
        self, question: str, low: float, high: float, start: float, *, unit: str = "",
        digits: int = 1, step: float | None = None, task: str = "", key: str = "",
    ):  # fmt: skip
        self._asked = Guessed(question, unit, digits, [low, high], start)
        self._guesses = Guesses(task) if task and key else None
        self._key, self._touched = key, False
        self._slider = ipywidgets.FloatSlider(
            value=start, min=low, max=high, step=step or (high - low) / 40,
            description="your guess", tooltip=question, readout_format=f".{digits}f",
        )  # fmt: skip
        for control in (*self._choices, self._slider):
            control.observe(self._touch, names="value")
        box = [ipywidgets.HTML(html.escape(question)), *self._choices, self._slider]
        rests = ", ".join([*(c.value for c in self._choices), self._asked.number(start)])
        super().__init__(ipywidgets.VBox(box), f"{question} **{rests}** (the slider's default)")

    @property
    def value(self) -> float:
        """The guess, in the units of the question."""
        return self._slider.value

    @property
    def whose(self) -> str:
        """The name of ``value`` in a legend: the reader's guess, or the slider's default."""
        return "your guess" if live_kernel() and self._touched else "slider's default"

    def reveal(
        self, value: float | None, low: float | None = None, high: float | None = None
    ) -> Markdown:
        """The result, with its 95 % interval if there is one, beside the guess.

        ``value`` is None if the result is no number. The result is stored; the guess only if the
        reader made it before seeing a result.
        """
        return Markdown(self._words(*self._record(value=value, low=low, high=high)))

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

    def _words(self, asked: Guessed, late: bool) -> str:
        came, start, guess = f"Result: **{asked.result}**.", asked.start, asked.guess
        if not live_kernel():
            return (
                f"{came} Headless reports show no guesses; the slider's default is "
                f"**{asked.number(start)}** ({asked.judged(start)})."
            )
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

    def reveal_choice(self, outcome: str, value: float, low: float, high: float) -> Markdown:
        """As `reveal`, and whether the reader chose the ``outcome``, one of the choices."""
        asked, late = self._record(outcome=outcome, value=value, low=low, high=high)
        said = f"Outcome: *{outcome}*."
        if live_kernel() and asked.choice:
            judged = "which is right" if asked.choice == outcome else "which is wrong"
            said += f" You predicted *{asked.choice}*, {judged}."
        return Markdown(f"{said} {self._words(asked, late)}")


def explorer(
    component: str,
    controls: Mapping[str, ipywidgets.Widget],
    draw: Callable[..., Picture | Drawing],
    data: dict | None,
    rest: Picture | None = None,
) -> Live:
    """Controls above a picture that follows them.

    ``draw`` is called with each control's value under the control's name. ``rest`` is the fallback
    without a kernel, by default the first picture. ``data`` lets the page of a report do the same
    without Python, and ``component`` is the name of its script.
    """
    image = ipywidgets.HTML()

    def redraw(change: object = None) -> Picture | Drawing:
        picture = draw(**{name: control.value for name, control in controls.items()})
        image.value = image_tag(picture)
        return picture

    for control in controls.values():
        control.observe(redraw, names="value")
    first = redraw()
    box = ipywidgets.VBox([ipywidgets.HBox(list(controls.values())), image])
    fallback, metadata = (rest or first)._repr_mimebundle_()
    if data:
        fallback = {**fallback, COMPONENT: {"component": component, **data}}
    return Live(box, fallback, metadata)


def dropdown(
    name: str, tooltip: str, options: Sequence, value: object = None, kind: type | None = None,
    **look: object,
) -> ipywidgets.Widget:  # fmt: skip
    """A choice among options, each a value or (name, value); at first ``value`` or the first."""
    chosen = {} if value is None else {"value": value}
    made = kind or ipywidgets.Dropdown
    return made(options=options, description=name, tooltip=tooltip, **chosen, **look)


def temperature_slider(
    start: float, lowest: float = 0.5, highest: float = 64.0
) -> ipywidgets.FloatLogSlider:
    """A logarithmic slider with eight steps for each doubling."""
    return ipywidgets.FloatLogSlider(
        value=start, base=2, min=log2(lowest), max=log2(highest), step=0.125, description="T",
        tooltip="temperature", readout_format=".2f",
    )  # fmt: skip


def ends_of(slider: ipywidgets.FloatLogSlider) -> dict[str, float]:
    """A temperature slider's position and ends, for the page's slider."""
    low, high = (slider.base**end for end in (slider.min, slider.max))
    return {"temperature": slider.value, "lowest": low, "highest": high}


def packed(values: Tensor) -> str:
    """The bytes of numbers as base64, for the page."""
    return base64.b64encode(values.contiguous().numpy().tobytes()).decode()


def deflated(values: Tensor) -> str:
    """As `packed`, compressed by zlib: the page's ``inflated``."""
    data = values.contiguous().numpy().tobytes()
    return base64.b64encode(zlib.compress(data, 9)).decode()
