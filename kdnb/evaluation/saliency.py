"""Saliency maps, and whether a model's prediction changes without the pixels that they mark.

A map is (H, W) and signed: it explains a class's logit less the mean over all classes. Adding the
same number to all logits changes no probability and no loss, so the sum of a model's logits is
arbitrary and explains nothing. A gradient is a sensitivity: above 0, a brighter pixel raises it.
"""

from enum import StrEnum

import torch
from captum.attr import IntegratedGradients, LayerGradCam, NoiseTunnel
from captum.attr import Saliency as InputGradient
from torch import Tensor, nn
from torch.nn.functional import interpolate

from kdnb.environment import best_device, seeded
from kdnb.losses import class_logits
from kdnb.models import StagedNetwork
from kdnb.training.predict import evaluating

BATCH = 128  # images, or noisy and scaled copies of them, that run together
NOISE = 0.15  # of SmoothGrad, as a share of the range of pixels
NOISY_COPIES = 16
INTEGRATION_STEPS = 32


class Saliency(StrEnum):
    """Kinds of saliency maps."""

    GRADIENT = "gradient"  # Simonyan et al. 2014
    SMOOTHGRAD = "SmoothGrad"  # Smilkov et al. 2017: the mean gradient of noisy copies
    INTEGRATED = "integrated gradients"  # Sundararajan et al. 2017: from the background to here
    GRAD_CAM = "Grad-CAM"  # Selvaraju et al. 2017: the last feature maps by their gradients


def methods_for(model: nn.Module) -> tuple[Saliency, ...]:
    """The kinds of maps that suit a model: Grad-CAM needs convolutions."""
    convolves = any(isinstance(module, nn.Conv2d) for module in model.modules())
    return tuple(s for s in Saliency if s != Saliency.GRAD_CAM or convolves)


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
    """(N, H, W) float32 maps that explain the logit of class ``targets`` (N,) of each image.

    ``images`` (N, C, H, W) uint8; the channels' shares are added up. ``background`` in [0, 1] is
    the empty image from which integrated gradients start. Maps of Grad-CAM are not negative and
    only as fine as the model's last feature maps. Raises ValueError for images that the model
    cannot read, an unknown class, and Grad-CAM of a model without convolutions.
    """
    device = device or best_device()
    model.to(device, memory_format=torch.channels_last)
    _check(images, targets, num_classes)
    layer = _last_feature_maps(model, _floats(images[:1], device))
    if method == Saliency.GRAD_CAM and layer is None:
        raise ValueError(
            f"Grad-CAM needs a model with convolutions, {type(model).__name__} has none: choose "
            f"one of {', '.join(methods_for(model))}"
        )

    def evidence(pixels: Tensor) -> Tensor:
        z = class_logits(model(pixels), num_classes)
        return z - z.mean(1, keepdim=True)

    gradient = InputGradient(evidence)
    explain = {
        Saliency.GRADIENT: lambda pixels, classes: gradient.attribute(pixels, classes, abs=False),
        Saliency.SMOOTHGRAD: lambda pixels, classes: NoiseTunnel(gradient).attribute(
            pixels,
            nt_samples=NOISY_COPIES,
            nt_samples_batch_size=max(1, BATCH // len(pixels)),
            stdevs=NOISE,
            target=classes,
            abs=False,
        ),
        Saliency.INTEGRATED: lambda pixels, classes: IntegratedGradients(evidence).attribute(
            pixels, background, classes, n_steps=INTEGRATION_STEPS, internal_batch_size=BATCH
        ),
        Saliency.GRAD_CAM: lambda pixels, classes: interpolate(
            LayerGradCam(evidence, layer).attribute(pixels, classes, relu_attributions=True),
            pixels.shape[2:],
            mode="bilinear",
        ),
    }[method]
    maps = []
    # Eval mode as in prediction, but with gradients.
    with evaluating(model), torch.inference_mode(False), torch.enable_grad(), seeded(0):
        for rows, classes in zip(images.split(BATCH), targets.split(BATCH), strict=True):
            pixels = _floats(rows, device).requires_grad_()
            maps.append(explain(pixels, classes.to(device)).sum(1).detach().cpu())
    return torch.cat(maps)


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
    """Changes of a model's prediction as pixels are deleted, or inserted, in a map's order.

    Pixels of ``images`` (N, C, H, W) uint8 are replaced by the ``background``, or put into it,
    those with the largest ``maps`` (N, H, W) first, in so many equal ``steps``. Returns the areas
    (N,), (N,) under the probability of the class predicted for the whole image, by the trapezoidal
    rule (Petsiuk et al. 2018): deletion, the lower the better, and insertion, the higher.
    """
    device = device or best_device()
    model.to(device, memory_format=torch.channels_last)
    shape = (len(images), *images.shape[2:])
    if maps.shape != shape:
        raise ValueError(f"maps must be of shape {shape} for these images, got {tuple(maps.shape)}")

    def curve(old: Tensor, new: Tensor, rank: Tensor) -> Tensor:
        """(steps + 1, B, C) probabilities as pixels of ``old`` become those of ``new``."""
        cuts = (step * rank[0].numel() / steps for step in range(steps + 1))
        shown = (torch.where(rank < cut, new, old) for cut in cuts)
        logits = torch.stack([class_logits(model(pixels), num_classes) for pixels in shown])
        return logits.cpu().double().softmax(2)  # not every device has double precision

    areas = []
    with evaluating(model):
        for rows, own in zip(images.split(BATCH), maps.split(BATCH), strict=True):
            pixels = _floats(rows, device)
            empty = torch.full_like(pixels, background)
            rank = own.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
            rank = rank.view_as(own)[:, None].to(device)
            curves = torch.stack([curve(pixels, empty, rank), curve(empty, pixels, rank)])
            predicted = curves[0, 0].argmax(1)
            areas.append(torch.trapezoid(curves, dim=1)[:, range(len(rows)), predicted] / steps)
    deletion, insertion = torch.cat(areas, 1)
    return deletion, insertion


def _last_feature_maps(model: nn.Module, pixels: Tensor) -> nn.Module | None:
    """The part of a model whose output for ``pixels`` is the last with spatial dimensions.

    None without any. Auxiliary outputs have convolutions too, but do not run in eval mode.
    """
    ran: list[nn.Module] = []
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    hooks = [c.register_forward_hook(lambda c, *_: ran.append(c)) for c in convolutions]
    try:
        with evaluating(model):
            model(pixels)
    except RuntimeError as error:
        raise ValueError(
            f"{type(model).__name__} cannot read images of shape {tuple(pixels.shape[1:])}: {error}"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    if isinstance(model, StagedNetwork):
        return model.split("pool")[0][-1]
    return ran[-1] if ran else None


def _check(images: Tensor, targets: Tensor, num_classes: int) -> None:
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


def _floats(pixels: Tensor, device: torch.device) -> Tensor:
    return pixels.to(device, torch.float32, memory_format=torch.channels_last) / 255
