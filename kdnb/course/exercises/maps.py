"""Notebook 04: how similar two maps are, and whether a map is faithful."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from kdnb.course.exercises.exercise import Case, Function, Header, differs_on
from kdnb.course.exercises.verdict import Paragraph

NOTEBOOK = "04_saliency"
MEASURED = Paragraph(NOTEBOOK, "Measured, not looked at")
FAITHFUL = Paragraph(NOTEBOOK, "Are the maps faithful?")


def _maps(images: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Maps that are not linear functions of one another, with a mean that is not 0."""
    generator = torch.Generator().manual_seed(seed)
    maps, noise = torch.randn(2, images, size, size, generator=generator, dtype=torch.float64)
    return maps + 0.4, 0.5 * maps**3 + noise - 0.8


def _flat(maps: Tensor) -> Tensor:
    return maps.double().flatten(1)


def _ranks(values: Tensor) -> Tensor:
    """Ranks from 1 for the smallest value of each row; equal values share their mean rank."""
    fewer = (values[..., :, None] > values[..., None, :]).sum(-1)
    as_many = (values[..., :, None] == values[..., None, :]).sum(-1)
    return fewer + (as_many + 1) / 2


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation of each row with its partner."""
    return F.cosine_similarity(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True))


def _kendall(maps: Tensor, others: Tensor) -> Tensor:
    one, other = (torch.sign(m[:, :, None] - m[:, None, :]) for m in map(_flat, (maps, others)))
    pixels = one.shape[1]
    return (one * other).sum((1, 2)) / (pixels * (pixels - 1))


def _by_distances(maps: Tensor, others: Tensor) -> Tensor:
    """The textbook formula, which holds where no two pixels are equal."""
    apart = _ranks(_flat(maps)) - _ranks(_flat(others))
    n = apart.shape[1]
    return 1 - 6 * apart.square().sum(1) / (n * (n**2 - 1))


# Half of each map is 0, as at the empty border of a digit.
ONE, OTHER = torch.tensor([[[[0.0, 0, 3, 1], [0, 0, 2, -1]]], [[[0, 0, 1, 3], [0, 0, 2, 4]]]])
TIED = Case("two maps with the same four pixels at 0", (ONE, OTHER))


def my_map_similarity(maps, others):
    """(N,) rank correlations of two batches of signed maps (N, H, W), one for each image."""

    def centred_ranks(values):
        pixels = values.flatten(1)
        fewer = (pixels[:, :, None] > pixels[:, None, :]).sum(2)
        as_many = (pixels[:, :, None] == pixels[:, None, :]).sum(2)
        ranks = (fewer + as_many / 2).double()  # equal pixels share their mean rank
        return ranks - ranks.mean(dim=1, keepdim=True)

    return torch.cosine_similarity(centred_ranks(maps), centred_ranks(others), dim=1)


map_similarity = Function(
    header=Header("Compare two saliency maps", difficulty=2, minutes=15, where=MEASURED),
    solved_by=my_map_similarity,
    hints=(
        "Spearman's correlation is Pearson's correlation of the ranks.",
        "A pixel's rank is the number of smaller pixels. `argsort` returns positions, not ranks.",
        "Many pixels are exactly 0. They share their mean rank, as in `scipy.stats.rankdata`.",
    ),
    right=my_map_similarity,
    cases=(
        Case("four pairs of maps of 5 × 5 pixels", _maps(4, 5, seed=1)),
        Case("three pairs of maps of 4 × 4 pixels", _maps(3, 4, seed=2)),
    ),
    mistakes={
        "Pearson instead of ranks": lambda a, b: _correlation(_flat(a), _flat(b)),
        "cosine without centring": lambda a, b: F.cosine_similarity(_flat(a), _flat(b)),
        "ranks not centred": lambda a, b: F.cosine_similarity(_ranks(_flat(a)), _ranks(_flat(b))),
        "positions instead of ranks": lambda a, b: _correlation(
            *(_flat(m).argsort(1).double() for m in (a, b))
        ),
        "magnitude of one map only": (
            lambda a, b: my_map_similarity(a.abs(), b),
            lambda a, b: my_map_similarity(a, b.abs()),
        ),
        "signs thrown away": lambda a, b: my_map_similarity(a.abs(), b.abs()),
        "all images as one map": lambda a, b: my_map_similarity(a.view(1, -1), b.view(1, -1))[0],
        "mean map first": lambda a, b: my_map_similarity(a.mean(0)[None], b.mean(0)[None])[0],
        "averaged over the images": lambda a, b: my_map_similarity(a, b).mean(),
        "ranked across the images": lambda a, b: _correlation(
            _ranks(_flat(a).T), _ranks(_flat(b).T)
        ).view(a.shape[1:]),
        "Kendall instead of Spearman": _kendall,
        "distance instead of similarity": lambda a, b: 1 - my_map_similarity(a, b),
        "the short formula where pixels are equal": differs_on(
            TIED, my_map_similarity, like=_by_distances
        ),
        "ties broken by their place": differs_on(TIED, my_map_similarity),
    },
    says={
        "Pearson instead of ranks": "A few extreme values dominate. Correlate the ranks.",
        "cosine without centring": "You computed the cosine of the values. Two maps with a large "
        "mean are similar for that reason alone. Use ranks and subtract their mean.",
        "ranks not centred": "All ranks are positive. Subtract the mean rank first.",
        "positions instead of ranks": "`argsort` returns positions. Apply it twice to get ranks.",
        "magnitude of one map only": "One map lost its signs. Keep the signs of both maps.",
        "signs thrown away": "For magnitudes, a map equals its negative. Keep the signs.",
        "all images as one map": "You ranked all images together. Rank each image separately.",
        "mean map first": "You averaged the maps first. Compare each pair first.",
        "averaged over the images": "You returned the mean. Return one value for each image.",
        "ranked across the images": "You ranked the images. Rank the pixels of each image.",
        "Kendall instead of Spearman": "You computed Kendall's correlation. Correlate the ranks.",
        "distance instead of similarity": "Equal maps must give 1. Do not subtract from 1.",
        "the short formula where pixels are equal": "This formula needs ranks without ties.",
        "ties broken by their place": "`argsort` ranks equal pixels by position, in the same order "
        "in both maps, so empty borders look similar. Give equal pixels their mean rank.",
    },
    praise="Your function keeps signs, ranks each image separately, and handles equal pixels.",
)


def _curve(
    answer: Callable,
    image: Tensor,
    saliency: Tensor,
    steps: int,
    *,
    cumulative: bool = True,
    insertion: bool = False,
) -> Tensor:
    """(steps + 1,) probabilities as pixels are deleted in the order of the map."""
    rank = saliency.flatten().argsort(descending=True).argsort().view_as(saliency)
    each = saliency.numel() // steps
    points = []
    for step in range(steps + 1):
        first = rank < step * each
        if not cumulative:
            first &= rank >= (step - 1) * each
        points.append(answer(torch.where(first == insertion, image, torch.zeros_like(image))))
    return torch.stack(points)


def _area(curve: Tensor) -> Tensor:
    return torch.trapezoid(curve) / (len(curve) - 1)


def _seer(size: int, seed: int) -> tuple[Callable, Tensor, Tensor]:
    """A model's probability of a class, an image, and a roughly faithful map."""
    generator = torch.Generator().manual_seed(seed)
    weights, image, noise = torch.randn(3, size, size, generator=generator, dtype=torch.float64)
    image = image.abs() + 0.2

    def answer(shown: Tensor) -> Tensor:
        seen = (weights.abs() * shown).sum() / (weights.abs() * image).sum()
        return torch.sigmoid(2 * torch.tanh((weights * shown).sum() / size) + 3 * seen**2)

    return answer, image, weights * image + 0.3 * noise


def my_deletion_area(answer, image, saliency, steps):
    """Area under the deletion curve of one image (H, W) and its map `saliency` (H, W).

    `answer(image)` returns the probability of the class. Set pixels to 0 in `steps` equal steps,
    the largest values of the map first, until all pixels are 0.
    """
    order = saliency.flatten().argsort(descending=True)
    curve = [answer(image)]
    for step in range(1, steps + 1):
        left = image.clone().flatten()
        left[order[: step * len(order) // steps]] = 0
        curve.append(answer(left.view_as(image)))
    curve = torch.stack(curve)
    # The first and the last point belong to one interval each, all others to two.
    return (curve.sum() - curve[0] / 2 - curve[-1] / 2) / steps


deletion_area = Function(
    header=Header("Put a map to the test", difficulty=2, minutes=15, where=FAITHFUL),
    solved_by=my_deletion_area,
    hints=(
        "The curve has steps + 1 points, from the whole image to the empty image.",
        "The trapezoidal rule for n points is (sum − first/2 − last/2)/(n − 1).",
    ),
    right=my_deletion_area,
    cases=(
        Case("an image of 4 × 4 pixels in 4 steps", (*_seer(4, seed=1), 4)),
        Case("an image of 6 × 6 pixels in 9 steps", (*_seer(6, seed=4), 9)),
    ),
    mistakes={
        "the mean of the points": lambda f, x, m, k: _curve(f, x, m, k).mean(),
        "divided by the points instead of the intervals": lambda f, x, m, k: (
            torch.trapezoid(_curve(f, x, m, k)) / (k + 1)
        ),
        "not divided at all": lambda f, x, m, k: torch.trapezoid(_curve(f, x, m, k)),
        "rectangles instead of trapezoids": (
            lambda f, x, m, k: _curve(f, x, m, k)[:-1].mean(),
            lambda f, x, m, k: _curve(f, x, m, k)[1:].mean(),
        ),
        "the empty image forgotten": (
            lambda f, x, m, k: _area(_curve(f, x, m, k)[:-1]),
            lambda f, x, m, k: torch.trapezoid(_curve(f, x, m, k)[:-1]) / k,
        ),
        "the whole image forgotten": (
            lambda f, x, m, k: _area(_curve(f, x, m, k)[1:]),
            lambda f, x, m, k: torch.trapezoid(_curve(f, x, m, k)[1:]) / k,
        ),
        "the least important first, or insertion": (
            lambda f, x, m, k: _area(_curve(f, x, -m, k)),
            lambda f, x, m, k: _area(_curve(f, x, m, k, insertion=True)),
        ),
        "by magnitude": lambda f, x, m, k: _area(_curve(f, x, m.abs(), k)),
        "removed pixels come back": lambda f, x, m, k: _area(_curve(f, x, m, k, cumulative=False)),
        "the brightest instead of the most important": lambda f, x, m, k: _area(_curve(f, x, x, k)),
    },
    says={
        "the mean of the points": "A mean gives all points the same weight, but the first and "
        "the last belong to one interval only. Count each of these two half.",
        "divided by the points instead of the intervals": "n points enclose n − 1 intervals. "
        "Divide by n − 1: a curve that stays at 1 must have area 1.",
        "not divided at all": "Your area grows with the number of steps. The axis is the fraction "
        "of deleted pixels, from 0 to 1, so divide by the number of steps.",
        "rectangles instead of trapezoids": "Your sum omits one end of the curve, so the area of a "
        "falling curve is too large or too small. Count both ends half.",
        "the empty image forgotten": "The curve must end with all pixels deleted.",
        "the whole image forgotten": "The curve must start with the whole image.",
        "the least important first, or insertion": "You deleted the smallest values of the map "
        "first, or inserted the largest. Delete the largest values first.",
        "by magnitude": "You ordered the pixels by magnitude. Keep the sign of the map.",
        "removed pixels come back": "Deleted pixels must stay deleted in later steps.",
        "the brightest instead of the most important": "The map gives the order, not the image.",
    },
    praise="Lower is better. Compare with pixels in random order, not with another model's area.",
)
