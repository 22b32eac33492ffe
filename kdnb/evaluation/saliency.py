"""Which pixels speak for a class, how alike two such maps are, and whether a model bears them out.

A map is (H, W), signed: above 0 a pixel speaks for the class, below 0 against it. What is explained
is the class's logit less the mean over all classes. Adding the same number to all logits changes no
probability and no loss, so what a model does with their sum is chance and explains nothing.
"""

from collections.abc import Callable
from enum import StrEnum

import torch
import torch.nn.functional as F
from captum.attr import IntegratedGradients, LayerGradCam, NoiseTunnel
from captum.attr import Saliency as InputGradient
from torch import Tensor, nn

from kdnb.environment import best_device, seeded
from kdnb.losses import class_logits
from kdnb.models import StagedNetwork
from kdnb.training.predict import evaluating

BATCH = 128  # images, or noisy and scaled copies of them, that run together
NOISE = 0.15  # of SmoothGrad, as a share of the range of pixels
NOISY_COPIES = 16
INTEGRATION_STEPS = 32


class Saliency(StrEnum):
    """Ways to ask a model which pixels matter."""

    GRADIENT = "gradient"  # Simonyan et al. 2014
    SMOOTHGRAD = "SmoothGrad"  # Smilkov et al. 2017: the mean gradient of noisy copies
    INTEGRATED = "integrated gradients"  # Sundararajan et al. 2017: from the background to here
    GRAD_CAM = "Grad-CAM"  # Selvaraju et al. 2017: where the last feature maps speak for the class


def methods_for(model: nn.Module) -> tuple[Saliency, ...]:
    """The ways that fit a model: Grad-CAM needs convolutions."""
    return tuple(s for s in Saliency if s != Saliency.GRAD_CAM or _last_feature_maps(model))


def saliency_maps(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    num_classes: int,
    method: Saliency = Saliency.GRADIENT,
    *,
    background: float = 0.0,
    device: torch.device | None = None,
) -> Tensor:
    """(N, H, W) float32 maps of how each pixel speaks for class ``targets`` (N,) of each image.

    ``images`` (N, C, H, W) uint8; the channels' shares are added up. ``background`` in [0, 1] is
    the empty image from which integrated gradients start. Maps of Grad-CAM are not negative and
    only as fine as the model's last feature maps.

    Raises ValueError for images of another kind or shape than the model reads, for a class that
    does not exist, and for Grad-CAM of a model without convolutions.
    """
    device = device or best_device()
    model.to(device, memory_format=torch.channels_last)
    _check(model, images, targets, num_classes, method, device)

    def evidence(pixels: Tensor) -> Tensor:
        return _centred(model(pixels), num_classes)

    explain = _explainer(method, evidence, model, background, _floats(images[:1], device))
    maps = []
    # Eval mode as for answers, but with gradients.
    with evaluating(model), torch.inference_mode(False), torch.enable_grad(), seeded(0):
        for rows, classes in zip(images.split(BATCH), targets.split(BATCH), strict=True):
            pixels = _floats(rows, device).requires_grad_()
            maps.append(explain(pixels, classes.to(device)).sum(1).detach().cpu())
    return torch.cat(maps)


def normalised(maps: Tensor) -> Tensor:
    """(N, H, W) maps divided each by its largest magnitude; a map of zeros stays one."""
    largest = maps.abs().amax((1, 2), keepdim=True)
    return maps / largest.where(largest > 0, 1.0)


def rank_correlation(maps: Tensor, others: Tensor) -> Tensor:
    """(N,) Spearman's correlation of the pixels of each (H, W) map with those of its partner.

    Equal pixels share their mean rank. A map that is the same everywhere has no order: 0.
    """
    return _cosines(_centred_ranks(maps), _centred_ranks(others))


def cosine(maps: Tensor, others: Tensor) -> Tensor:
    """(N,) cosines of the angle between each (H, W) map and its partner; 0 for a map of zeros."""
    return _cosines(*(each.cpu().double().flatten(1) for each in (maps, others)))


def structural_similarity(maps: Tensor, others: Tensor) -> Tensor:
    """(N,) SSIM of the normalised magnitudes (Wang et al. 2004, eq. 13).

    Gaussian windows of 11 pixels with a standard deviation of 1.5, wherever they fit whole.
    """
    if min(maps.shape[1:]) < 11:
        raise ValueError(f"windows of 11 pixels need larger maps, got {tuple(maps.shape[1:])}")
    offsets = torch.arange(-5.0, 6.0, dtype=torch.float64)
    bell = torch.exp(-(offsets**2) / (2 * 1.5**2))
    bell /= bell.sum()
    a, b = (normalised(each.cpu().double()).abs() for each in (maps, others))
    products = torch.stack([a, b, a * a, b * b, a * b]).flatten(0, 1)[:, None]
    # The window is a product of two bells: down first, then across.
    means = F.conv2d(F.conv2d(products, bell.view(1, 1, 11, 1)), bell.view(1, 1, 1, 11))
    mean_a, mean_b, of_aa, of_bb, of_ab = means.unflatten(0, (5, -1)).squeeze(2)
    var_a, var_b, covariance = of_aa - mean_a**2, of_bb - mean_b**2, of_ab - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    ssim = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    ssim /= (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return ssim.mean((1, 2))


# How alike two maps are, 1 for equal ones: Adebayo et al. 2018; cosine as in e²KD (2402.03119).
# Computed on the CPU wherever the maps are, since not every device has double precision.
SIMILARITIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "rank correlation": rank_correlation,
    "magnitude rank correlation": lambda maps, others: rank_correlation(maps.abs(), others.abs()),
    "SSIM": structural_similarity,
    "cosine": cosine,
}


def deletion_and_insertion(
    model: nn.Module,
    images: Tensor,
    maps: Tensor,
    num_classes: int,
    *,
    background: float = 0.0,
    steps: int = 20,
    device: torch.device | None = None,
) -> tuple[Tensor, Tensor]:
    """What becomes of a model's answer as the pixels of its maps go, or come, in their order.

    Pixels of ``images`` (N, C, H, W) uint8 are replaced by the ``background``, or put into it,
    those with the largest ``maps`` (N, H, W) first, in so many equal ``steps``. Returns the areas
    (N,), (N,) under the probability of the class predicted for the whole image, by the trapezoidal
    rule (Petsiuk et al. 2018): deletion, the lower the better, and insertion, the higher.
    """
    device = device or best_device()
    model.to(device, memory_format=torch.channels_last)
    if maps.shape != (len(images), *images.shape[2:]):
        raise ValueError(
            f"maps must be of shape {(len(images), *images.shape[2:])} for these images, "
            f"got {tuple(maps.shape)}"
        )
    areas = []
    with evaluating(model):
        for rows, own in zip(images.split(BATCH), maps.split(BATCH), strict=True):
            pixels = _floats(rows, device)
            empty = torch.full_like(pixels, background)
            order = own.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
            rank = order.view_as(own)[:, None].to(device)
            predicted = _centred(model(pixels), num_classes).argmax(1, keepdim=True).cpu()

            def probability(shown: Tensor, of: Tensor = predicted) -> Tensor:
                # In double precision, which not every device has.
                p = F.softmax(class_logits(model(shown), num_classes).cpu().double(), 1)
                return p.gather(1, of)[:, 0]

            whole, nothing = probability(pixels), probability(empty)
            gone, come = [whole], [nothing]
            for step in range(1, steps):
                first = rank < step * rank[0].numel() / steps
                gone.append(probability(torch.where(first, empty, pixels)))
                come.append(probability(torch.where(first, pixels, empty)))
            curves = (torch.stack([*gone, nothing]), torch.stack([*come, whole]))
            areas.append([torch.trapezoid(curve, dim=0) / steps for curve in curves])
    deletion, insertion = (torch.cat(parts) for parts in zip(*areas, strict=True))
    return deletion, insertion


def _explainer(
    method: Saliency,
    evidence: Callable[[Tensor], Tensor],
    model: nn.Module,
    background: float,
    example: Tensor,
) -> Callable[[Tensor, Tensor], Tensor]:
    """From (B, C, H, W) pixels, such as ``example``, and (B,) classes to what each place says."""
    gradient = InputGradient(evidence)
    if method == Saliency.SMOOTHGRAD:
        noisy = NoiseTunnel(gradient)
        return lambda pixels, classes: noisy.attribute(
            pixels,
            nt_samples=NOISY_COPIES,
            nt_samples_batch_size=max(1, BATCH // len(pixels)),
            stdevs=NOISE,
            target=classes,
            abs=False,
        )
    if method == Saliency.INTEGRATED:
        path = IntegratedGradients(evidence)
        return lambda pixels, classes: path.attribute(
            pixels,
            baselines=background,
            target=classes,
            n_steps=INTEGRATION_STEPS,
            internal_batch_size=BATCH,
        )
    if method == Saliency.GRAD_CAM:
        cam = LayerGradCam(evidence, _last_feature_maps(model, example))
        return lambda pixels, classes: F.interpolate(
            cam.attribute(pixels, classes, relu_attributions=True),
            pixels.shape[2:],
            mode="bilinear",
        )
    return lambda pixels, classes: gradient.attribute(pixels, classes, abs=False)


def _last_feature_maps(model: nn.Module, pixels: Tensor | None = None) -> nn.Module | None:
    """The part of a model whose output is the last that still has places; None without any.

    With ``pixels``, among what answers for them: auxiliary outputs have convolutions, too.
    """
    if isinstance(model, StagedNetwork):
        stages = dict(model.stages.named_children())
        return list(stages.values())[list(stages).index("pool") - 1]
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    if pixels is not None:
        answering = []
        hooks = [c.register_forward_hook(lambda c, *_: answering.append(c)) for c in convolutions]
        with evaluating(model):
            model(pixels)
        for hook in hooks:
            hook.remove()
        convolutions = answering
    return convolutions[-1] if convolutions else None


def _check(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    num_classes: int,
    method: Saliency,
    device: torch.device,
) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or not len(images):
        raise ValueError(
            f"images must be uint8 of shape (N, C, H, W), got {images.dtype} of shape "
            f"{tuple(images.shape)}"
        )
    if targets.shape != (len(images),):
        raise ValueError(
            f"{len(images)} images need as many classes, got shape {tuple(targets.shape)}"
        )
    unknown = targets[(targets < 0) | (targets >= num_classes)]
    if len(unknown):
        raise ValueError(f"class {unknown[0].item()} does not exist: choose 0 to {num_classes - 1}")
    try:
        with evaluating(model):
            model(_floats(images[:1], device))
    except RuntimeError as error:
        raise ValueError(
            f"{type(model).__name__} cannot read images of shape {tuple(images.shape[1:])}: {error}"
        ) from error
    if method == Saliency.GRAD_CAM and not _last_feature_maps(model, _floats(images[:1], device)):
        raise ValueError(
            f"Grad-CAM needs a model with convolutions, {type(model).__name__} has none: choose "
            f"one of {', '.join(s for s in Saliency if s != Saliency.GRAD_CAM)}"
        )


def _centred(logits: Tensor, num_classes: int) -> Tensor:
    """(B, C) class logits less their mean."""
    z = class_logits(logits, num_classes)
    return z - z.mean(1, keepdim=True)


def _floats(pixels: Tensor, device: torch.device) -> Tensor:
    return pixels.to(device, torch.float32, memory_format=torch.channels_last) / 255


def _centred_ranks(maps: Tensor) -> Tensor:
    """(N, H·W) mean ranks of each map's pixels, less their mean."""
    pixels = maps.cpu().flatten(1)
    ordered = pixels.sort(dim=1).values
    fewer = torch.searchsorted(ordered, pixels)
    as_many = torch.searchsorted(ordered, pixels, right=True)
    ranks = (fewer + as_many).double() / 2
    return ranks - ranks.mean(1, keepdim=True)


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    lengths = a.norm(dim=1) * b.norm(dim=1)
    return (a * b).sum(1) / lengths.where(lengths > 0, 1.0)
