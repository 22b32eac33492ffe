"""Several networks of one architecture as one, and a check that each then computes as alone."""

import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from kdnb.environment import seeded
from kdnb.store.description import description

# These draw by chance or keep statistics, and would need streams of their own for each network.
UNFIT = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)
ROUNDING = 1e-3  # how far numbers of about 1 may differ by the order of sums alone


class NotVectorizableError(ValueError):
    """Trained together, these networks would not compute as each does alone."""


class StackedModel:
    """S networks of one architecture as one: parameters (S, …) by name.

    They come in ``groups`` of equal size, one after the other, and each group has its own batch.
    """

    def __init__(self, models: Sequence[nn.Module], groups: int, device: torch.device):
        parameters, _ = stack_module_state(list(models))
        self.parameters = {
            name: stack.detach().to(device).requires_grad_() for name, stack in parameters.items()
        }
        self.groups = groups
        self._skeleton = deepcopy(models[0]).to("meta")
        # Outside over groups with their batches, inside over the networks of a group.
        self._forward = vmap(vmap(self._one, in_dims=(0, None)))

    def __call__(self, batches: Tensor) -> Tensor:
        """(groups, B, …) inputs to (S, B, outputs) logits."""
        grouped = {n: p.unflatten(0, (self.groups, -1)) for n, p in self.parameters.items()}
        return self._forward(grouped, batches).flatten(0, 1)

    def train(self, mode: bool = True) -> None:
        """Switch to training mode, or with ``mode`` False to eval mode."""
        self._skeleton.train(mode)

    def state_dict(self) -> dict[str, Tensor]:
        """The parameters themselves, as for a module."""
        return {name: stack.detach() for name, stack in self.parameters.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take these values."""
        for name, stack in self.parameters.items():
            stack.detach().copy_(state[name])

    def _one(self, parameters: dict[str, Tensor], batch: Tensor) -> Tensor:
        return functional_call(self._skeleton, parameters, (batch,))


def stackable(model: nn.Module) -> bool:
    """Whether training changes only independent parameters of a model.

    False for a buffer, a parameter that is frozen, changes its gradient, or shares its memory with
    another, and for dropout and batch-norm. This check is fast; `same_as_alone` computes.
    """
    parameters = dict(model.named_parameters())
    places = {p.untyped_storage().data_ptr() for p in parameters.values()}
    return (
        model.state_dict().keys() == parameters.keys()
        and not any(True for _ in model.buffers())
        and len(places) == len(parameters)
        and all(
            p.requires_grad and not (p._backward_hooks or p._post_accumulate_grad_hooks)
            for p in parameters.values()
        )
        and not any(isinstance(module, UNFIT) for module in model.modules())
    )


def same_as_alone(models: Sequence[nn.Module], images: Tensor, device: torch.device) -> bool:
    """Whether ``models`` compute together what each computes alone.

    They may differ only in their weights. The trial takes a few ``images`` (B, …) and two copies of
    the first model, one of which has other weights. Together the copies must give the same outputs,
    in training and eval mode, and the same gradients, up to rounding. The output for an image must
    not depend on the rest of its batch, since validation uses other batches together than alone.
    And a call must leave no trace: no random number drawn, no counter. False if anything raises.
    The models and all random numbers are unchanged.
    """
    try:
        with seeded(0), warnings.catch_warnings(action="ignore"):
            # What vmap computes one by one it says so; there is nothing to gain.
            warnings.filterwarnings("error", "There is a performance drop")
            return all(_trials(models, images.to(device), device))
    except Exception:  # a reader's network may raise anything under vmap
        return False


def _trials(models: Sequence[nn.Module], images: Tensor, device: torch.device) -> Iterator[bool]:
    copies = [deepcopy(models[0]) for _ in range(2)]
    # A function inside that knows the model itself would, in a copy, still use the model: then the
    # copy is not alike.
    yield len({description(each) for each in (*models, copies[0])}) == 1
    with torch.no_grad():
        for p in copies[1].parameters():
            p.add_(torch.randn_like(p), alpha=0.1)
    network = StackedModel(copies, 1, device)
    for copy in copies:
        copy.to(device, memory_format=torch.channels_last)
    for mode in (True, False):
        before = memory(copies[0])
        alone = [copy.train(mode)(images.clone()) for copy in copies]
        yield memory(copies[0]) == before
        network.train(mode)
        together = network(images.clone()[None])
        yield _close(together, torch.stack(alone))
        if mode:
            for answers in (*alone, together):
                answers.square().sum().backward()
            for name, stack in network.parameters.items():
                own = [copy.get_parameter(name).grad for copy in copies]
                if stack.grad is None or None in own:
                    yield stack.grad is None and own == [None, None]
                else:
                    yield _close(stack.grad, torch.stack(own))
        else:
            yield _close(copies[0](images[:1].clone()), alone[0][:1])


def memory(model: nn.Module) -> str:
    """All state of a network beside its parameters, and the state of random numbers."""
    return description(model, torch.get_rng_state(), np.random.get_state(), random.getstate())


def _close(ours: Tensor, theirs: Tensor) -> bool:
    size = theirs.detach().abs().max().item()
    return ours.shape == theirs.shape and torch.allclose(ours, theirs, ROUNDING, ROUNDING * size)
