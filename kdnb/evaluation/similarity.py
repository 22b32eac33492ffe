"""Similarity of two saliency maps: 1 for equal maps (Adebayo et al. 2018).

Maps (N, H, W) may be on any device. They are compared on the CPU, in double precision.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata
from torch import Tensor


def normalised(maps: Tensor) -> Tensor:
    """(N, H, W) maps divided each by its largest magnitude; a map of zeros stays one."""
    largest = maps.abs().amax((1, 2), keepdim=True)
    return maps / largest.where(largest > 0, 1.0)


def cosine(maps: Tensor, others: Tensor) -> Tensor:
    """(N,) cosines of the angle between each map and its partner; 0 for a map of zeros."""
    a, b = (each.cpu().double().flatten(1) for each in (maps, others))
    return F.cosine_similarity(a, b, eps=torch.finfo(a.dtype).tiny)


def rank_correlation(maps: Tensor, others: Tensor) -> Tensor:
    """(N,) Spearman's correlation of the pixels of each map with those of its partner.

    Equal pixels share their mean rank. A map that is the same everywhere has no order: 0.
    """
    ranks = (torch.from_numpy(rankdata(each.cpu().flatten(1), axis=1)) for each in (maps, others))
    return cosine(*(each - each.mean(1, keepdim=True) for each in ranks))


def structural_similarity(maps: Tensor, others: Tensor) -> Tensor:
    """(N,) SSIM of the normalised magnitudes (Wang et al. 2004, eq. 13).

    Gaussian windows of 11 pixels with a standard deviation of 1.5, wherever they fit whole.
    """
    if min(maps.shape[1:]) < 11:
        raise ValueError(f"windows of 11 pixels need larger maps, got {tuple(maps.shape[1:])}")
    a, b = (normalised(each.cpu().double()).abs() for each in (maps, others))
    products = torch.stack([a, b, a * a, b * b, a * b])
    means = torch.from_numpy(gaussian_filter(products, 1.5, radius=5, axes=(2, 3)))
    mean_a, mean_b, of_aa, of_bb, of_ab = means[..., 5:-5, 5:-5]
    var_a, var_b, covariance = of_aa - mean_a**2, of_bb - mean_b**2, of_ab - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    ssim = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    ssim /= (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return ssim.mean((1, 2))


SIMILARITIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "rank correlation": rank_correlation,
    "magnitude rank correlation": lambda maps, others: rank_correlation(maps.abs(), others.abs()),
    "SSIM": structural_similarity,
    "cosine": cosine,  # as in e²KD, arXiv 2402.03119
}
