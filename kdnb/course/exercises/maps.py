"""Notebook 04: how alike two maps are, and whether a model bears its map out."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from kdnb.course.exercises.exercise import Case, Function, Header, differs_on
from kdnb.course.exercises.verdict import Paragraph

NOTEBOOK = "04_saliency"
MEASURED = Paragraph(NOTEBOOK, "Measured, not looked at")
FAITHFUL = Paragraph(NOTEBOOK, "Do the models bear their maps out?")


def _maps(images: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Maps that are not straight functions of one another, with a mean that is not 0."""
    generator = torch.Generator().manual_seed(seed)
    maps, noise = torch.randn(2, images, size, size, generator=generator, dtype=torch.float64)
    return maps + 0.4, 0.5 * maps**3 + noise - 0.8


def _flat(maps: Tensor) -> Tensor:
    return maps.double().flatten(1)


def _ranks(values: Tensor) -> Tensor:
    """1 for the smallest of each row; equal values share their mean rank."""
    fewer = (values[..., :, None] > values[..., None, :]).sum(-1)
    as_many = (values[..., :, None] == values[..., None, :]).sum(-1)
    return fewer + (as_many + 1) / 2


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's, of each row with its partner."""
    return F.cosine_similarity(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True))


def _kendall(maps: Tensor, others: Tensor) -> Tensor:
    one, other = (torch.sign(m[:, :, None] - m[:, None, :]) for m in map(_flat, (maps, others)))
    pixels = one.shape[1]
    return (one * other).sum((1, 2)) / (pixels * (pixels - 1))


def _by_distances(maps: Tensor, others: Tensor) -> Tensor:
    """The formula of text books, which holds where no two pixels are equal."""
    apart = _ranks(_flat(maps)) - _ranks(_flat(others))
    n = apart.shape[1]
    return 1 - 6 * apart.square().sum(1) / (n * (n**2 - 1))


# Half of each map is 0, as at the empty border of a digit.
ONE, OTHER = torch.tensor([[[[0.0, 0, 3, 1], [0, 0, 2, -1]]], [[[0, 0, 1, 3], [0, 0, 2, 4]]]])
TIED = Case("two maps with the same four pixels at 0", (ONE, OTHER))


def my_map_similarity(maps, others):
    """(N, H, W) signed maps of two models in; (N,) rank correlations out, one for each image."""

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
        "Spearman's correlation is Pearson's, of the ranks instead of the values.",
        "A rank is the number of smaller pixels. `argsort` says *which* pixel comes first.",
        "Many pixels are exactly 0: they share their mean rank, as in `scipy.stats.rankdata`.",
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
        "Pearson instead of ranks": "A few glaring pixels decide: replace values by ranks.",
        "cosine without centring": "That is the cosine of the values: two maps with a large mean "
        "are alike for that alone. Rank, and take the mean off.",
        "ranks not centred": "Ranks are all positive: take the mean rank off first.",
        "positions instead of ranks": "`argsort` says which pixel comes first: apply it twice.",
        "magnitude of one map only": "One map has lost its signs, the other has not: keep both.",
        "signs thrown away": "A map and its opposite are equal for that: keep the signs.",
        "all images as one map": "Pixels of one image are ranked among those of another, so a "
        "model with larger gradients for some images looks alike for that. Compare image by image.",
        "mean map first": "What differs from image to image is gone: compare each pair first.",
        "averaged over the images": "That is the mean: return one value for each image.",
        "ranked across the images": "You ranked the images at a pixel: rank an image's pixels.",
        "Kendall instead of Spearman": "That counts pairs of pixels in the same order, which is a "
        "measure too, and smaller. The course's is the correlation of ranks.",
        "distance instead of similarity": "Equal maps must give 1: leave out the 1 minus.",
        "the short formula where pixels are equal": "It holds only where all ranks differ.",
        "ties broken by their place": "`argsort` puts equal pixels into an order which they do "
        "not have, the same in both maps: so empty borders look alike. Give them their mean rank.",
    },
    praise="Signed, image by image, and empty borders count for nothing more than they say.",
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
    """(steps + 1,) probabilities as the pixels go in the order of the map."""
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
    """A model's probability of a class, an image, and a map that is roughly right."""
    generator = torch.Generator().manual_seed(seed)
    weights, image, noise = torch.randn(3, size, size, generator=generator, dtype=torch.float64)
    image = image.abs() + 0.2

    def answer(shown: Tensor) -> Tensor:
        seen = (weights.abs() * shown).sum() / (weights.abs() * image).sum()
        return torch.sigmoid(2 * torch.tanh((weights * shown).sum() / size) + 3 * seen**2)

    return answer, image, weights * image + 0.3 * noise


def my_deletion_area(answer, image, saliency, steps):
    """The area under the deletion curve of one (H, W) image and its (H, W) map.

    `answer(image)` is the probability of the class. In so many equal steps the pixels are set to
    0, those that speak most for the class first, until none is left.
    """
    order = saliency.flatten().argsort(descending=True)
    curve = [answer(image)]
    for step in range(1, steps + 1):
        left = image.clone().flatten()
        left[order[: step * len(order) // steps]] = 0
        curve.append(answer(left.view_as(image)))
    curve = torch.stack(curve)
    # The first and the last point border on one interval each, all others on two.
    return (curve.sum() - curve[0] / 2 - curve[-1] / 2) / steps


deletion_area = Function(
    header=Header("Put a map to the test", difficulty=2, minutes=15, where=FAITHFUL),
    solved_by=my_deletion_area,
    hints=(
        "A curve of steps + 1 points: from the whole image to the empty one.",
        "Trapezoids: (Σ − first/2 − last/2)/(n − 1) for n points.",
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
        "the mean of the points": "In a mean the first and the last point weigh as much as the "
        "others, but they border on one interval only: count each of them half.",
        "divided by the points instead of the intervals": "n points have n − 1 intervals between "
        "them: a curve that stays at 1 must have area 1.",
        "not divided at all": "The area grows with the number of steps: the axis goes from 0 to "
        "1, the share of pixels that are gone, so divide by the steps.",
        "rectangles instead of trapezoids": "One end of the curve is left out, so a falling curve "
        "comes out too large or too small. Count both ends half.",
        "the empty image forgotten": "`range(steps)` stops before all pixels are gone.",
        "the whole image forgotten": "The first point is the answer to the whole image.",
        "the least important first, or insertion": "What matters goes last here, or comes first "
        "into an empty image. Take away first what speaks most for the class.",
        "by magnitude": "Pixels against the class go early here, which raises it: keep the sign.",
        "removed pixels come back": "Each step starts anew: pixels that are gone stay gone.",
        "the brightest instead of the most important": "The map gives the order, not the image.",
    },
    praise="The lower, the better: but compare it with pixels in random order, not across models.",
)
