"""Saliency maps to choose from: by image, class, kind of map and model."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from matplotlib.colors import to_rgb
from PIL import Image
from torch import Tensor

from kdnb.course.figures.picture import png_url
from kdnb.course.figures.saliency import AGAINST, FOR, evidence, saliency_grid
from kdnb.course.interactive.widgets import Live, explorer
from kdnb.course.labels import written
from kdnb.evaluation.saliency import Saliency
from kdnb.evaluation.similarity import normalised

LEVELS = 20  # of strength in the page, positive and negative
LARGEST_IN_PAGE = 64  # pixels of a map's side


def saliency_picker(
    images: Tensor, captions: Sequence[str], class_names: Sequence[str],
    maps: Mapping[str, Mapping[Saliency, Tensor]], start: int,
) -> Live:  # fmt: skip
    """Choose an image, a class, a kind of map and a model; first all models, for class ``start``.

    ``images`` (N, C, H, W) uint8; ``maps`` (N, classes, H, W) by model and kind, where available.
    """

    def sprites(kind: Saliency) -> list[dict | None]:
        return [_sprite(own[kind]) if kind in own else None for own in maps.values()]

    data = {
        "classes": list(class_names),
        "models": list(maps),
        "target": start,
        "images": [
            {"name": caption, "png": png_url(image)}
            for caption, image in zip(captions, images, strict=True)
        ],
        "kinds": [{"name": str(kind), "maps": sprites(kind)} for kind in Saliency],
    }
    kind = next(iter(Saliency))
    shown = [own.get(kind) for own in maps.values()]
    row = [None if own is None else own[0, start] for own in shown]
    rest = saliency_grid(images[0], list(maps), {f"{kind} for {written(class_names)[start]}": row})
    return explorer("saliency", data, rest, "Saliency maps")


def _sprite(maps: Tensor) -> dict:
    """Maps (N, classes, H, W) as one picture, a row for each image, and numbers for each map.

    Colours are as in `saliency_grid`, in `LEVELS` steps of strength; large maps are averaged.
    """
    each = maps.flatten(0, 1)
    if each.shape[-1] > LARGEST_IN_PAGE:
        each = F.adaptive_avg_pool2d(each, LARGEST_IN_PAGE)
    steps = (normalised(each) * LEVELS).round() + LEVELS  # the middle one is clear
    grid = steps.unflatten(0, maps.shape[:2]).permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
    picture = Image.fromarray(grid.to(torch.uint8).numpy(), "P")
    signed = range(-LEVELS, LEVELS + 1)
    picture.putpalette([round(255 * v) for s in signed for v in to_rgb(FOR if s > 0 else AGAINST)])
    opacity = bytes(round(255 * abs(step) / LEVELS) for step in signed)
    return {
        "png": png_url(picture, transparency=opacity),
        "says": [[evidence(own) for own in row] for row in maps],
    }
