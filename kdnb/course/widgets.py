"""Things to touch: each is live in Jupyter and rests as a picture wherever scripts cannot run."""

import base64
import html
import io
from collections.abc import Callable, Mapping
from pathlib import Path

import ipywidgets
import torch
from PIL import Image
from torch import Tensor

from kdnb.course.drawings import Drawing
from kdnb.course.plots import (
    Picture,
    image_tag,
)
from kdnb.course.protocol import COMPONENT

STATIC = Path(__file__).parent / "static"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


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
    """A slider for the reader's prediction; ``value`` is what it stands at."""

    def __init__(self, question: str, low: float, high: float, start: float):
        self._slider = ipywidgets.FloatSlider(
            value=start, min=low, max=high, step=(high - low) / 40, description="your guess",
            tooltip=question, readout_format=".1f",
        )  # fmt: skip
        box = ipywidgets.VBox([ipywidgets.HTML(html.escape(question)), self._slider])
        text = f"{question} **{start:g}** (the slider's resting place)"
        super().__init__(box, ({"text/plain": text, "text/markdown": text}, {}))

    @property
    def value(self) -> float:
        """The guess, in the units of the question."""
        return self._slider.value


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
