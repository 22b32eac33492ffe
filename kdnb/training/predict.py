"""Prediction that leaves the model unchanged."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kdnb.data.augmentation import Views
from kdnb.environment import best_device, onednn_products

BATCH = 128
# On the CPU a larger batch of a convolutional network's activations outgrows what malloc keeps for
# the next: clearing fresh pages for every batch costs a third of the speed.
BATCH_ON_CPU = 32


def predict(
    model: nn.Module, inputs: Views, *, view: int = 0, device: torch.device | None = None
) -> Tensor:
    """The outputs of ``model`` for all ``inputs`` in one view: (N, outputs) float32 on the CPU.

    The model runs in eval mode without gradients and is unchanged afterwards, mode included.
    """
    device = device or best_device()
    model.to(device, memory_format=torch.channels_last)
    outputs = None
    with evaluating(model), onednn_products(sum(p.numel() for p in model.parameters())):
        size = BATCH_ON_CPU if device.type == "cpu" else BATCH
        for index in torch.arange(len(inputs)).split(size):
            batch = inputs.batch(index, torch.full_like(index, view))
            given = model(batch.to(device)).float().cpu()
            if outputs is None:
                # Not a list of batches: what is small and stays, between activations that are large
                # and go, would keep malloc from using their memory again.
                with torch.inference_mode(False):
                    outputs = torch.empty(len(inputs), *given.shape[1:])
            outputs[index] = given
    return outputs


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside the block the model is in eval mode without gradients; its mode is then restored."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
