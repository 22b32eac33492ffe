"""Figures of colour images, and of subclasses whose names are longer than a digit."""

import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib import image as reader
from matplotlib.colors import to_rgb
from PIL import Image

from kdnb.course import figures
from kdnb.evaluation.metrics import match_subclasses

CLASSES = ["HP", "SSA"]
VOTES = [f"{v} of 7" for v in range(8)]
ORANGE = (230, 120, 10)


def colour(count, size=224):
    return torch.tensor(ORANGE, dtype=torch.uint8).view(1, 3, 1, 1).expand(count, 3, size, size)


def pixels(picture):
    """(H, W, 3) uint8."""
    return (255 * reader.imread(io.BytesIO(picture.png))[..., :3]).round().astype(np.uint8)


def share_of(picture, rgb):
    return (pixels(picture) == np.array(rgb, dtype=np.uint8)).all(2).mean()


DRAWN = {
    "images": lambda: figures.images(colour(3), VOTES[:3]),
    "softened": lambda: figures.softened(colour(1)[0], torch.tensor([1.0, -1]), CLASSES, [1, 4], 0),
    "subclass_bars": lambda: figures.subclass_bars(colour(1)[0], torch.randn(8), CLASSES, 1, 4.0),
    "gallery": lambda: figures.gallery({"HP no. 1": colour(2), "SSA no. 1": colour(1)}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWN)
def test_colour_images_keep_their_colours(name):
    assert share_of(DRAWN[name](), ORANGE) > 0.05


def test_channels_are_red_green_blue_and_rows_go_down():
    picture = torch.zeros(3, 100, 80, dtype=torch.uint8)
    picture[0, :50] = 200  # the upper half is red
    shown = pixels(figures.images(picture[None], ["one"]))
    red = (shown == [200, 0, 0]).all(2)
    black = (shown == 0).all(2)
    # The caption above is black too: look below the first red row.
    rows, under = red.any(1).nonzero()[0], black[red.any(1).nonzero()[0].max() + 3 :]
    assert len(rows) > 40 and under.any() and not red[rows.max() + 3 :].any()


def test_grey_images_stay_ink_on_paper():
    """0 is white and 255 black, whatever the other pixels are."""
    image = torch.full((1, 1, 28, 28), 255, dtype=torch.uint8)
    assert share_of(figures.images(image, [""]), (0, 0, 0)) > 0.5
    assert share_of(figures.images(torch.zeros_like(image), [""]), (255, 255, 255)) > 0.99


@pytest.mark.slow
def test_large_images_get_more_room(drawn):
    figures.images(colour(12), ["x"] * 12)
    figures.images(colour(12, size=28), ["x"] * 12)
    large, small = drawn
    assert (len(large.axes), len(small.axes)) == (15, 20)  # 3 rows of 5, 2 rows of 10
    sides = [figure.axes[0].get_window_extent().width / figure.dpi for figure in drawn]
    assert sides[0] > 1.8 * sides[1]


@pytest.mark.slow
def test_long_names_of_true_subclasses_do_not_overlap(drawn):
    votes = torch.arange(200) % 8
    matching = match_subclasses(torch.nn.functional.one_hot(votes, 8).double(), votes, 8)
    alt = figures.subclass_tables({"by chance": matching, "again": matching}, CLASSES, VOTES).alt
    assert "HP no. 4 has 25 images, most often 3 of 7" in alt
    for ax in drawn[0].axes:
        assert [t.get_text() for t in ax.get_xticklabels()] == VOTES
        boxes = [t.get_window_extent() for t in ax.get_xticklabels()]
        assert not any(a.overlaps(b) for a, b in pairwise(boxes))
    for names, rotation in ((VOTES, 90), ([f"no{d}" for d in range(8)], 90), ("01234567", 0)):
        figures.subclass_tables({"by chance": matching}, CLASSES, names)
        labels = drawn[-1].axes[0].get_xticklabels()
        assert {label.get_rotation() for label in labels} == {rotation}


def test_points_of_long_names_are_dots_with_a_legend(drawn):
    votes = torch.arange(80) % 8
    picture = figures.logit_map({"a": torch.randn(80, 2), "b": torch.randn(80, 2)}, votes // 4,
                              votes, VOTES)  # fmt: skip
    assert "darker for each further subclass" in picture.alt
    (legend,) = drawn[0].legends
    assert [text.get_text() for text in legend.get_texts()] == VOTES
    points = {c.get_label(): c for c in drawn[0].axes[1].collections}
    assert list(points) == VOTES and all(len(c.get_offsets()) == 10 for c in points.values())
    light = [points[name].get_facecolor()[0, :3].sum() for name in VOTES]
    for siblings in (light[:4], light[4:]):
        assert siblings == sorted(siblings, reverse=True) and len(set(siblings)) == 4
    # the darkest of each class has the class's own colour
    for name, c in (("3 of 7", 0), ("7 of 7", 1)):
        rgb = points[name].get_facecolor()[0, :3]
        assert rgb == pytest.approx(to_rgb(figures.PALETTE[c]))


def test_digits_are_drawn_as_themselves(drawn):
    digits = torch.arange(40) % 10
    picture = figures.logit_map(
        {"a": torch.randn(40, 2)}, (digits > 4).long(), digits, "0123456789"
    )
    assert "drawn as their true subclass" in picture.alt and not drawn[0].legends
    assert len(drawn[0].axes[0].collections) == 10


def test_charts_have_a_palette_and_photographs_all_their_colours():
    """A ramp of 2,304 reds and greens; drawn three dots to a CSS pixel, ten to one of its own."""
    ramp = torch.zeros(1, 3, 48, 48, dtype=torch.uint8)
    ramp[0, 0], ramp[0, 1] = 5 * torch.arange(48), 5 * torch.arange(48)[:, None]
    photograph = figures.images(ramp, ["a ramp"])
    chart = figures.confusion_matrix(torch.tensor([[30, 2], [1, 30]]), CLASSES)
    assert len(np.unique(pixels(photograph).reshape(-1, 3), axis=0)) > 48 * 48
    with Image.open(io.BytesIO(chart.png)) as opened:
        assert opened.mode == "P" and abs(opened.width - 3 * chart.width) <= 2
