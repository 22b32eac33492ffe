"""Things to touch: each is live in Jupyter and rests as a picture wherever scripts cannot run."""

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import ipywidgets
import torch
from IPython.display import Markdown
from PIL import Image
from torch import Tensor

from kdnb.course.figures.drawings import Drawing
from kdnb.course.figures.plots import (
    Picture,
    image_tag,
)
from kdnb.course.interactive.guesses import Guessed, Guesses
from kdnb.course.report.protocol import COMPONENT, live_kernel

STATIC = Path(__file__).parents[1] / "static"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
LATE = " It was moved after the answer was shown: only what stood there before counts."


class Live:
    """A widget and what stands in its place where there is no kernel or no script.

    The output carries both; Jupyter shows the widget if it may and the fallback if it may not.
    """

    def __init__(self, box: ipywidgets.Widget, fallback: tuple[dict, dict]):
        self.box = box
        self._shown = ipywidgets.VBox([box, _names_for_sliders()])
        self._fallback, self.metadata = fallback

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple:
        view = self._shown._repr_mimebundle_()[WIDGET_VIEW]
        return {**self._fallback, WIDGET_VIEW: view}, self.metadata


def _names_for_sliders() -> ipywidgets.Output:
    """An invisible output whose script gives the sliders beside it what ipywidgets leaves out.

    Their handles have neither a name nor, on a logarithmic scale, the value that the reader sees.
    """
    script = (STATIC / "lab" / "sliders.js").read_text(encoding="utf-8")
    run = {"output_type": "display_data", "data": {"application/javascript": script}}
    return ipywidgets.Output(outputs=[{**run, "metadata": {}}], layout={"display": "none"})


class Guess(Live):
    """A slider for the reader's prediction; ``value`` is what it stands at.

    `reveal` says what came out. With ``task`` and ``key``, the notebook's number or "NN/question",
    guess and outcome are kept for the summary at the end of the course (`Guesses`). Only a slider
    that the reader has moved before that is a guess, and the first one counts.
    """

    def __init__(
        self,
        question: str,
        low: float,
        high: float,
        start: float,
        *,
        unit: str = "",
        digits: int = 1,
        step: float | None = None,
        task: str = "",
        key: str = "",
    ):
        self._asked = Guessed(question, unit, digits, low, high, start)
        self._task, self._key = task, key
        self._touched = False
        self._slider = ipywidgets.FloatSlider(
            value=start, min=low, max=high, step=step or (high - low) / 40,
            description="your guess", tooltip=question, readout_format=f".{digits}f",
        )  # fmt: skip
        self._slider.observe(self._touch, names="value")
        box = ipywidgets.VBox([ipywidgets.HTML(html.escape(question)), *self._controls()])
        text = f"{question} **{self._at_rest()}** (the slider's resting place)"
        super().__init__(box, ({"text/plain": text, "text/markdown": text}, {}))

    @property
    def value(self) -> float:
        """The guess, in the units of the question."""
        return self._slider.value

    @property
    def whose(self) -> str:
        """Whose guess ``value`` is: the reader's, or nobody's."""
        return "your guess" if live_kernel() and self._touched else "resting place"

    def reveal(
        self, value: float | None, low: float | None = None, high: float | None = None
    ) -> Markdown:
        """What came out, with its 95 % interval where it has one, beside what was guessed.

        ``value`` None: no number came out. The outcome is kept; the guess only if a reader made it
        before a reader saw the outcome.
        """
        return Markdown(self._words(*self._kept(value=value, low=low, high=high)))

    def _kept(self, **outcome: object) -> tuple[Guessed, bool]:
        """What stands in the record now, and whether the slider was moved too late to count."""
        kept = Guesses(self._task) if self._task and self._key else None
        before = kept.all().get(self._key) if kept else None
        before = before or self._asked
        guess, choice, late = before.guess, before.choice, False
        if live_kernel() and self._touched:
            mine = (self.value, self._choice())
            late = before.shown and mine != (guess, choice)
            if not before.shown:
                guess, choice = mine
        self._asked = replace(
            self._asked, **outcome, guess=guess, choice=choice, shown=before.shown or live_kernel()
        )
        if kept:
            kept.keep(self._key, self._asked)
        return self._asked, late

    def _words(self, asked: Guessed, late: bool) -> str:
        came = f"it was **{asked.result}**"
        if not live_kernel():
            return (
                f"Nobody guessed here: the slider's resting place is "
                f"**{asked.number(asked.start)}**; {came} ({asked.judged(asked.start)})."
            )
        if asked.guess is None:
            text = f"You made no guess (the slider stood at its resting place); {came}."
        else:
            text = (
                f"You expected **{asked.number(asked.guess)}**; {came} "
                f"({asked.judged(asked.guess)})."
            )
        return text + (LATE if late else "")

    def _controls(self) -> list[ipywidgets.Widget]:
        return [self._slider]

    def _at_rest(self) -> str:
        return self._asked.number(self._asked.start)

    def _choice(self) -> str:
        return ""

    def _touch(self, change: object) -> None:
        self._touched = True


class Prediction(Guess):
    """A guess of what happens, one of ``choices``, and by how much.

    ``resting`` is the choice where nobody chose.
    """

    def __init__(
        self, question: str, choices: Sequence[str], resting: str, *slider: float, **options: object
    ):
        self._resting = resting
        self._choices = ipywidgets.Dropdown(
            options=list(choices), value=resting, description="what happens", tooltip=question
        )
        self._choices.observe(self._touch, names="value")
        super().__init__(question, *slider, **options)

    @property
    def choice(self) -> str:
        """What the reader expects to happen."""
        return self._choices.value

    def reveal_choice(self, outcome: str, value: float, low: float, high: float) -> Markdown:
        """As `reveal`, and whether what was chosen is the ``outcome``, one of the choices."""
        asked, late = self._kept(outcome=outcome, value=value, low=low, high=high)
        if not live_kernel():
            said = f"It is *{outcome}*; nobody chose."
        elif not asked.choice:
            said = f"It is *{outcome}*."
        elif asked.choice == outcome:
            said = f"You said *{asked.choice}*, and so it is."
        else:
            said = f"You said *{asked.choice}*; it is *{outcome}*."
        return Markdown(f"{said} {self._words(asked, late)}")

    def _controls(self) -> list[ipywidgets.Widget]:
        return [self._choices, self._slider]

    def _at_rest(self) -> str:
        return f"{self._resting}, {super()._at_rest()}"

    def _choice(self) -> str:
        return self.choice


def explorer(
    controls: Mapping[str, ipywidgets.Widget],
    draw: Callable[..., Picture | Drawing],
    rest: Picture,
    component: dict | None = None,
) -> Live:
    """Controls above a picture that follows them.

    ``draw`` is called with the value of each control under its name. ``rest`` stands in where the
    controls cannot be moved. ``component`` is what the page of a report needs to do the same
    without Python; under "component" the name that its file in ``static/`` gives it.
    """
    image = ipywidgets.HTML()

    def redraw(change: object = None) -> None:
        image.value = image_tag(draw(**{name: c.value for name, c in controls.items()}))

    for control in controls.values():
        control.observe(redraw, names="value")
    redraw()
    box = ipywidgets.VBox([ipywidgets.HBox(list(controls.values())), image])
    data, metadata = rest._repr_mimebundle_()
    return Live(box, ({**data, **({COMPONENT: component} if component else {})}, metadata))


def png_source(image: Tensor) -> str:
    """An image (1 or 3, H, W) uint8 as the source of an HTML image; one channel as ink on paper."""
    pixels = image.permute(1, 2, 0).numpy() if len(image) == 3 else 255 - image[0].numpy()
    return png_text(Image.fromarray(pixels))


def png_text(picture: Image.Image, **options: object) -> str:
    """A picture as the source of an HTML image; ``options`` are Pillow's for PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, format="png", optimize=True, **options)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def packed(values: Tensor) -> str:
    """Float32 numbers as base64, for `unpacked` in the page."""
    return base64.b64encode(values.contiguous().float().numpy().astype("<f4").tobytes()).decode()


def ends_of(slider: ipywidgets.FloatLogSlider) -> dict[str, float]:
    """Where a temperature slider stands and how far it goes, for the page's."""
    low, high = (slider.base**end for end in (slider.min, slider.max))
    return {"temperature": slider.value, "lowest": low, "highest": high}


def temperature_slider(
    start: float, lowest: float = 0.5, highest: float = 64.0
) -> ipywidgets.FloatLogSlider:
    """A slider that moves in eighths of a doubling."""
    return ipywidgets.FloatLogSlider(
        value=start,
        base=2,
        min=torch.tensor(lowest).log2().item(),
        max=torch.tensor(highest).log2().item(),
        step=0.125,
        description="T",
        tooltip="temperature",
        readout_format=".2f",
    )
