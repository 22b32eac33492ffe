"""Steps of training on CUDA, recorded once and replayed: to start each kernel anew takes longer."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from kdnb.environment import seeded
from kdnb.training.stacked import memory

TRIED = 8  # images
EAGER = 3  # steps before the recording, in which libraries take their memory


class RecordedStep:
    """``step`` with the gradients that it gives ``parameters``; from its fourth call on a replay.

    ``step`` takes tensors on CUDA and returns tensors or None. Only inputs of the first call's
    shapes are recorded and replayed. What the step does beside computing, in Python, is not done
    again: see `recordable`.
    """

    def __init__(self, step: Callable[..., Sequence[Tensor | None]], parameters: Iterable[Tensor]):
        self._step, self._parameters = step, list(parameters)
        self._calls, self._shapes, self._graph = 0, None, None

    def __call__(self, *inputs: Tensor) -> Sequence[Tensor | None]:
        shapes, self._calls = [each.shape for each in inputs], self._calls + 1
        self._shapes = self._shapes or shapes
        if self._calls <= EAGER or shapes != self._shapes:
            return self._step(*inputs)
        if self._graph is None:
            self._record(inputs)
        for ours, given in zip(self._inputs, inputs, strict=True):
            ours.copy_(given)
        self._graph.replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return [None if each is None else each.clone() for each in self._outputs]

    def _record(self, inputs: Sequence[Tensor]) -> None:
        self._graph, self._inputs = torch.cuda.CUDAGraph(), [each.clone() for each in inputs]
        with torch.cuda.graph(self._graph):
            self._outputs = self._step(*self._inputs)
        self._gradients = [parameter.grad for parameter in self._parameters]


def recordable(model: nn.Module, loss: Callable[[nn.Module], object]) -> bool:
    """Whether steps of ``model`` on CUDA may be replayed; ``loss`` computes one of a copy.

    They may if nothing waits for a number of the GPU, and the model leaves no trace: no buffer
    changed, no counter, no random number drawn on the CPU.
    """
    tried = deepcopy(model).train()
    try:
        with seeded(0), warnings.catch_warnings(action="ignore"):  # it is a prototype of torch's
            before = memory(tried)
            torch.cuda.set_sync_debug_mode("error")
            loss(tried)
            return memory(tried) == before
    except Exception:  # a reader's network may raise anything
        return False
    finally:
        torch.cuda.set_sync_debug_mode("default")
