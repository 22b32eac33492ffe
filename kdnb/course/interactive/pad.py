"""A drawing pad, and networks small enough to run inside the page."""

from collections.abc import Mapping, Sequence
from copy import deepcopy

import torch
import torch.nn.functional as F
from IPython.display import Markdown
from torch import Tensor, nn

from kdnb.course.figures.classes import predictions
from kdnb.course.interactive.widgets import Live, explorer, packed, temperatures
from kdnb.data.augmentation import TranslatedImages
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.results import Run
from kdnb.models import StudentMLP, TeacherCNN
from kdnb.training.loop import predict

CPU = torch.device("cpu")  # where the page computes


class ChannelsLastFlatten(nn.Module):
    """(B, C, H, W) to (B, H·W·C), the order of the teacher's layers and of the page's images."""

    def forward(self, images: Tensor) -> Tensor:
        return images.permute(0, 2, 3, 1).flatten(1)


class EightBit:
    """A trained network with weights of eight bits.

    Each output channel or unit has one scale: its largest weight becomes ±127. Biases are
    unchanged. ``layers`` describes the network to the page, and ``module`` repeats the page's
    computation in PyTorch. Raises ValueError for a network that the page cannot compute.
    """

    def __init__(self, model: nn.Module):
        self.module = deepcopy(in_line(model)).cpu().eval()
        idle = nn.Dropout | nn.Identity  # in eval mode
        self.layers = [_rounded(layer) for layer in self.module if not isinstance(layer, idle)]


def in_line(model: nn.Module) -> nn.Sequential:
    """The layers of a network in the order of computation, with shared weights.

    Raises ValueError for a network of unknown order.
    """
    if isinstance(model, TeacherCNN):
        return nn.Sequential(
            model.conv1, model.pool1, nn.ReLU(),
            model.conv2, nn.MaxPool2d(2, stride=2), nn.ReLU(),
            ChannelsLastFlatten(), model.dense, nn.ReLU(), model.output,
        )  # fmt: skip
    if isinstance(model, StudentMLP):
        hidden = [part for layer in model.layers for part in (layer, nn.ReLU())]
        return nn.Sequential(ChannelsLastFlatten(), *hidden, model.output)
    if isinstance(model, nn.Sequential):
        return model
    raise ValueError(
        f"the page does not know the order of layers in a {type(model).__name__}: pass a "
        "TeacherCNN, a StudentMLP or an nn.Sequential"
    )


def eight_bits(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(rows, …) floats as int8 of the same shape and (rows,) scales, whose product is close."""
    largest = weight.flatten(1).abs().amax(1)
    scales = largest.where(largest > 0, torch.ones_like(largest)) / 127
    by_row = scales.view(-1, *[1] * (weight.dim() - 1))
    return (weight / by_row).round().to(torch.int8), scales


def _rounded(layer: nn.Module) -> dict:
    """A layer in the page's format; its weights are rounded in place."""
    match layer:
        case nn.ReLU():
            return {"kind": "relu"}
        case ChannelsLastFlatten():
            return {"kind": "flatten"}
        case nn.MaxPool2d(padding=0, dilation=1, ceil_mode=False, return_indices=False):
            if isinstance(layer.kernel_size, int) and isinstance(layer.stride, int):
                return {"kind": "pooling", "size": layer.kernel_size, "stride": layer.stride}
        case nn.Linear():
            return {"kind": "dense", **_weights(layer)}
        case nn.Conv2d(stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
            height, width = layer.kernel_size
            if height == width:
                return {"kind": "convolution", "size": height, **_weights(layer)}
    raise ValueError(
        f"the page cannot compute {layer}: use dense layers, square convolutions without stride "
        "or padding, max-pooling, ReLU and flattening with channels last"
    )


@torch.no_grad()
def _weights(layer: nn.Linear | nn.Conv2d) -> dict:
    whole, scales = eight_bits(layer.weight)
    layer.weight.copy_(whole * scales.view(-1, *[1] * (whole.dim() - 1)))
    if whole.dim() == 4:  # channels last here too, so that what is multiplied lies side by side
        whole = whole.permute(0, 2, 3, 1)
    biases = torch.zeros(len(whole)) if layer.bias is None else layer.bias
    return {
        "weights": packed(whole),
        "scales": scales.tolist(),
        "biases": biases.tolist(),
    }


def pen_width(images: Tensor) -> float:
    """The mean width of strokes in (N, 1, H, W) uint8 images, in pixels.

    A long stroke's perimeter is twice its length, so its width is 2 · area / perimeter. A grey
    image's area is the sum of its pixels, its perimeter the sum of its gradients' lengths.
    """
    ink = F.pad(images[:, 0].float() / 255, (1, 1, 1, 1))
    down = ink[:, 1:, :-1] - ink[:, :-1, :-1]
    right = ink[:, :-1, 1:] - ink[:, :-1, :-1]
    perimeter = (down**2 + right**2).sqrt().sum((1, 2))
    return (2 * ink.sum((1, 2)) / perimeter).mean().item()


def what_is_missing(lab: Experiment) -> str:
    """The reason why a task has no pad, as sentences; empty if it has one."""
    shape, students = tuple(lab.dataset.train.images.shape[1:]), dict(lab.task.sizes.students)
    if shape == (1, 28, 28) and "128-128" in students:
        return ""
    return (
        "**No drawing pad here**: the pad needs grey digits of 28×28 pixels and the course's own "
        f"networks. Images of the task {lab.task.text.title} have {'×'.join(map(str, shape))} "
        f"(channels, height, width), and its students are {', '.join(students) or 'others'}."
    )


def drawing_pad(
    networks: Mapping[str, EightBit], images: Tensor, labels: Tensor, class_names: Sequence[str],
    temperature: float,
) -> Live:  # fmt: skip
    """A pad to draw on, and every network's softened probabilities for the drawing.

    The reader can load ``images`` (N, 1, 28, 28) uint8 with ``labels`` (N,) onto the pad; its pen
    is as wide as their strokes. The page computes the answers, in a live notebook inside a frame.
    Without scripts, a picture shows the first image with its answers.

    Raises ValueError if the images have another size or a network has other classes.
    """
    if images.shape[1:] != (1, 28, 28) or not len(images):
        raise ValueError(f"the pad needs (N, 1, 28, 28) images, got {tuple(images.shape)}")
    with torch.inference_mode():
        logits = {name: n.module(images[:1] / 255)[0] for name, n in networks.items()}
    for name, z in logits.items():
        if len(z) != len(class_names):
            raise ValueError(f"{name} has {len(z)} outputs for {len(class_names)} classes")
    data = {
        "classes": list(class_names),
        **temperatures(temperature),
        "pen": pen_width(images),
        "images": [
            {"name": f"an example: a {class_names[label]}", "pixels": packed(image)}
            for image, label in zip(images, labels.tolist(), strict=True)
        ],
        "networks": [{"name": name, "layers": n.layers} for name, n in networks.items()],
    }
    rest = predictions(images[0], logits, class_names, temperature, labels[0].item())
    return explorer("pad", data, rest, "Draw a digit")


def rounding_sentence(
    lab: Experiment, runs: Mapping[str, Run], networks: Mapping[str, EightBit]
) -> Markdown:
    """A sentence on how eight-bit weights change predictions and accuracy on validation images."""
    val = lab.dataset.val
    parts = []
    for name, run in runs.items():
        before = lab.logits(run, val)[0].argmax(1)
        after = predict(networks[name].module, TranslatedImages(val.images), device=CPU).argmax(1)
        right = [100 * (a == val.labels).double().mean().item() for a in (before, after)]
        parts.append(
            f"{(before != after).sum().item()} of the {name} "
            f"(accuracy {right[0]:.2f} %, with eight bits {right[1]:.2f} %)"
        )
    return Markdown(
        f"In the page each weight has eight bits. Changed predictions, out of {len(val):,} on "
        f"validation images: {'; '.join(parts)}."
    )
