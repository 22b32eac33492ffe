"""`polyps`: a generated stand-in for MHIST, in exactly its file layout.

MHIST may not be passed on, so these pictures are drawn: crypts cut across, in the colours of
haematoxylin and eosin. They look like tissue from afar and prove nothing about medicine; every
table and figure made from them says that they are generated. They share with MHIST the properties
that its code must handle: files, columns, imbalance, seven annotators who disagree.

A hidden number per image, its *severity* in 0..1, makes the hollows of the crypts saw-toothed and
their outlines uneven. Each annotator sees the severity with an error of their own; the label is the
majority's. Stain, magnification, blur and the width of the hollows vary at random, so that colours
carry no information about the label: a network must learn shapes.
"""

import csv
import hashlib
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kdnb.data import mhist
from kdnb.data.dataset import DataError, Dataset
from kdnb.files import store_root, whole_folder

TRAIN, TEST, SIZE = 2_000, 1_000, 64
STAMP = "made from generated pictures"
SMALLEST = {"train": 20, "test": 4, "size": 16, "seed": 0}
# Raise this with every change of what is drawn: pictures that are there already are then left be.
DRAWING = 3

# Beta-distributed severity; how far each annotator leans to either side, and the spread of what
# they make of one image. Chosen so that the votes 0 to 7 are about as frequent as in MHIST.
SEVERITY, THRESHOLD = (1.1, 2.0), 0.5
LEANING, DOUBT = 0.06, 0.25

# Optical densities of the two stains in red, green and blue (Ruifrok & Johnston 2001).
HAEMATOXYLIN = np.array([0.65, 0.70, 0.29])
EOSIN = np.array([0.07, 0.99, 0.11])
LIGHT = 245  # of the background, where nothing is stained

ROW_HEIGHT = 0.87  # √3/2: rows of a hexagonal grid, in its pitch
EDGE = 0.006  # softness of the crypts' edges, as a share of the image's side


def load(
    root: str | Path | None = None,
    *,
    train: int = TRAIN,
    test: int = TEST,
    size: int = SIZE,
    seed: int = 0,
) -> Dataset:
    """``train`` + ``test`` pictures of ``size`` × ``size`` pixels, read as MHIST is read.

    The first call draws them under `store_root`; the same arguments draw the same pixels. ``root``
    is not used. Raises `DataError` if an argument is too small or the pictures cannot be kept.
    """
    given = {"train": train, "test": test, "size": size, "seed": seed}
    for name, least in SMALLEST.items():
        if not isinstance(given[name], int) or given[name] < least:
            raise DataError(
                f"{name} must be a whole number of at least {least}, got {given[name]!r}"
            )
    folder = store_root() / f"polyps-{train}-{test}-{size}px-seed{seed}-drawing{DRAWING}"
    if not folder.is_dir():
        with whole_folder(folder) as part:
            _generate(part, train, test, size, seed)
    dataset = mhist.load_layout(
        folder,
        name="polyps" if size == SIZE else f"polyps-{size}",
        about=f"{train + test:,} generated pictures of {size}×{size} pixels in the layout of "
        "MHIST: no tissue, no patient, no medical meaning",
        size=size,
        remedy="delete that folder, and the pictures are drawn again",
    )
    return replace(dataset, stamp=STAMP)


@cache
def sample(count: int = 32, size: int = SIZE, seed: int = 2**31) -> Tensor:
    """(count, 3, size, size) floats in [0, 1]: pictures that are in none of the datasets."""
    severity, _ = annotate(count, np.random.default_rng((seed, 0)))
    pictures = [draw(severity[i], size, np.random.default_rng((seed, i + 1))) for i in range(count)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def _generate(folder: Path, train: int, test: int, size: int, seed: int) -> None:
    """Write ``annotations.csv``, ``images/`` and their ``MD5SUMs.txt``, in MHIST's layout."""
    count = train + test
    # Each image has random numbers of its own, so it can be drawn again alone. Entropy (seed,)
    # would draw what (seed, 0) draws: the images count from 1.
    rng = np.random.default_rng((seed, 0))
    severity, votes = annotate(count, rng)
    names = [f"POLYP_{i:05d}.png" for i in range(count)]
    (folder / "images").mkdir()
    # One after the other: threads made this a third faster at 224 pixels and half as fast at 64.
    for i, name in enumerate(names):
        pixels = draw(severity[i], size, np.random.default_rng((seed, i + 1)))
        # Compressing harder takes as long as drawing and saves a tenth.
        Image.fromarray(pixels).save(folder / "images" / name, compress_level=1)
    with (folder / "annotations.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(mhist.COLUMNS)
        for i in rng.permutation(count):
            label = mhist.CLASS_NAMES[int(votes[i] >= mhist.MAJORITY)]
            writer.writerow((names[i], label, votes[i], "train" if i < train else "test"))
    files = ["annotations.csv", *(f"images/{name}" for name in names)]
    sums = [f"{hashlib.md5((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in files]
    (folder / "MD5SUMs.txt").write_text("".join(sums), encoding="utf-8")


def annotate(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The hidden severity (count,) in 0..1, and how many of seven annotators say SSA (count,)."""
    leaning = rng.normal(0, LEANING, mhist.ANNOTATORS)
    severity = rng.beta(*SEVERITY, count)
    seen = severity[:, None] + leaning + rng.normal(0, DOUBT, (count, mhist.ANNOTATORS))
    return severity, (seen > THRESHOLD).sum(1)


# Drawing. Lengths are shares of the image's side; a stain is an array (size, size) of its amount.


def random_look(rng: np.random.Generator) -> tuple[float, float, float, float, float]:
    """Properties without meaning: two stains, distance between crypts, blur, width of hollows.

    The stains are haematoxylin and eosin. A hollow's width is a share of its crypt's.
    """
    stains = rng.uniform(0.85, 1.15), rng.uniform(0.80, 1.05)
    return *stains, rng.uniform(0.36, 0.52), rng.uniform(0.4, 1.2) / 224, rng.uniform(0.34, 0.54)


def draw(severity: float, size: int, rng: np.random.Generator) -> np.ndarray:
    """One picture (size, size, 3) uint8 of the given ``severity`` in 0..1."""
    much_haematoxylin, much_eosin, pitch, blur, hollow = random_look(rng)
    eosin = 0.35 + 0.08 * _grain(1 / 40, size, rng) + 0.04 * _grain(1 / 150, size, rng)
    haematoxylin = 0.08 + _scattered_nuclei(round(36 / pitch), size, rng)
    for centre in _centres(pitch, rng):
        radius = pitch * rng.uniform(0.36, 0.44)
        # The crypts of one polyp differ.
        crypt_severity = np.clip(severity + rng.normal(0, 0.12), 0, 1.2)
        _draw_crypt(haematoxylin, eosin, centre, radius, hollow, crypt_severity, rng)
    # Beer and Lambert: what two stains let through is the product of what each lets through.
    blue = _blurred(haematoxylin, blur * size) * much_haematoxylin
    pink = _blurred(eosin, blur * size) * much_eosin
    density = np.multiply.outer(blue, HAEMATOXYLIN) + np.multiply.outer(pink, EOSIN)
    return (LIGHT * np.exp(-density.clip(0))).astype(np.uint8)


def _blurred(values: np.ndarray, width: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter  # slow to import, and only drawing needs it

    return gaussian_filter(values, width)


def _grain(width: float, size: int, rng: np.random.Generator) -> np.ndarray:
    """Noise (size, size) of standard deviation 1, smooth over ``width``."""
    noise = _blurred(rng.standard_normal((size, size)), width * size)
    return noise / noise.std()


def _scattered_nuclei(count: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """The small dark cells of the tissue between the crypts: haematoxylin (size, size)."""
    spots = np.zeros((size, size))
    row, column = rng.integers(0, size, (2, count))
    spots[row, column] = 1
    width = size / 110
    # Gaussian spots of height 1; where two lie on each other, no darker than one.
    return 0.7 * (_blurred(spots, width) * (2 * np.pi * width**2)).clip(0, 1)


def _centres(pitch: float, rng: np.random.Generator) -> np.ndarray:
    """Crypt centres (crypts, 2), down and right: a shaken hexagonal grid over the unit square."""
    steps = np.arange(-1, 1 / (pitch * ROW_HEIGHT) + 2)
    points = [(ROW_HEIGHT * row, column + 0.5 * (row % 2)) for row in steps for column in steps]
    shaken = np.array(points) + rng.normal(0, 0.09, (len(points), 2))
    return pitch * (shaken - rng.uniform(0, 1, 2))


def _draw_crypt(
    haematoxylin: np.ndarray,
    eosin: np.ndarray,
    centre: np.ndarray,
    radius: float,
    hollow_width: float,
    severity: float,
    rng: np.random.Generator,
) -> None:
    """Add a gland cut across to both stains: a hollow, a wall, nuclei along its outer edge."""
    teeth, phases = int(rng.integers(6, 10)), rng.uniform(0, 2 * np.pi, 4)
    # Only where it is, which is most of the speed.
    size, reach = len(eosin), radius * (1.02 + 0.50 * severity) + 5 * EDGE
    first = np.ceil((centre - reach) * size - 0.5).astype(int).clip(0, size)
    last = np.ceil((centre + reach) * size - 0.5).astype(int).clip(0, size)
    if (first >= last).any():
        return  # it lies outside the image
    window = slice(first[0], last[0]), slice(first[1], last[1])
    down = ((np.arange(first[0], last[0]) + 0.5) / size - centre[0])[:, None]
    right = (np.arange(first[1], last[1]) + 0.5) / size - centre[1]
    angle, distance = np.arctan2(down, right), np.hypot(down, right)
    # The wall's outer edge: an oval, uneven if severe.
    oval = (0.02 + 0.30 * severity) * np.cos(2 * angle + phases[0])
    uneven = 0.20 * severity * np.cos(3 * angle + phases[1])
    outer = radius * (1 + oval + uneven)
    # The hollow's edge: saw-toothed if severe, and as wide as in the whole picture.
    turn = (angle + phases[2]) * teeth / (2 * np.pi)
    saw = np.abs(turn % 1 - 0.5) * 2 - 0.5  # -0.5 to 0.5
    inner = outer * hollow_width * (1 + (0.10 + 1.20 * severity) * saw)
    # The nuclei stand side by side like beads.
    beads = 0.5 + 0.5 * np.cos(int(2 * np.pi * radius / 0.030) * angle + phases[3])
    nuclei = 0.85 * beads * np.exp(-(((distance - 0.86 * outer) / (0.085 * radius)) ** 2))
    inside = _within(distance, outer)
    hollow = inside * _within(distance, inner)
    wall = inside - hollow
    eosin[window] += inside * -eosin[window] + 0.42 * wall + 0.03 * hollow
    haematoxylin[window] += inside * (nuclei - haematoxylin[window]) + 0.16 * wall


def _within(distance: np.ndarray, edge: np.ndarray) -> np.ndarray:
    """1 where ``distance`` is smaller than ``edge``, 0 where it is larger, soft in between."""
    return 0.5 - 0.5 * np.tanh((distance - edge) / (2 * EDGE))
