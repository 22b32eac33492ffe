"""Checkpoints after whole epochs, from which training resumes as if it had never stopped."""

import io
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils._pytree import tree_leaves, tree_map_only

from kdnb.store.store import Entry
from kdnb.training.history import History

# The share of training time for copying the state, and for storing the copy in the run store.
SHARE = 0.005
# Those kept are at least so many seconds apart; how long the first takes is guessed by its size.
SECONDS_APART, BYTES_PER_SECOND = 5.0, 200e6


class Stateful(Protocol):
    """Anything with a state that can be saved and restored, such as an ``nn.Module``."""

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> object: ...


@dataclass(frozen=True)
class Checkpoint:
    """The ``state`` of a `Training` and its history after whole epochs.

    Of several models that are trained as one, ``history`` holds one for each.
    """

    history: History | list[History]
    state: dict[str, dict] = field(repr=False)

    @property
    def bytes(self) -> int:
        """The size to be stored, nearly all of it tensors."""
        return sum(leaf.nbytes for leaf in tree_leaves(self.state) if isinstance(leaf, Tensor))

    def entry(self) -> Entry:
        """The checkpoint as an entry of the run store: bytes of `torch.save`, and the history."""
        buffer = io.BytesIO()
        torch.save(tree_map_only(Tensor, Tensor.cpu, self.state), buffer)
        several = isinstance(self.history, list)
        history = [asdict(each) for each in self.history] if several else asdict(self.history)
        written = torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8)
        return Entry({"checkpoint": written}, {"history": history})

    @classmethod
    def from_entry(cls, entry: Entry) -> "Checkpoint":
        """The checkpoint that `entry` gave."""
        buffer = io.BytesIO(entry.tensors["checkpoint"].numpy())
        state = torch.load(buffer, map_location="cpu", weights_only=True)
        record = entry.record["history"]
        several = isinstance(record, list)
        history = [*map(History.from_record, record)] if several else History.from_record(record)
        return cls(history, state)


@dataclass(frozen=True)
class Training:
    """The state that changes at each step: model, optimiser, schedule and random numbers.

    ``orders`` draw the batches; dropout and affine views draw from the random numbers of the CPU
    and of ``device``, a reader's network perhaps from those of numpy and Python.

    A training may resume on another device. The random numbers of the new device then keep the
    caller's seed. Only on its first device does a resumed training end with the same bits.
    """

    model: Stateful
    optimizer: Optimizer
    schedule: LRScheduler
    orders: Sequence[torch.Generator]
    device: torch.device

    def checkpoint(self, history: History | list[History]) -> Checkpoint:
        """A copy of this state."""
        state = deepcopy(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "chance": self._chance(),
            }
        )
        return Checkpoint(history, state)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore the state of a checkpoint, which itself does not change."""
        state = deepcopy(checkpoint.state)
        self.model.load_state_dict(state["model"])
        self.schedule.load_state_dict(state["schedule"])
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        for i, moments in state["optimizer"]["state"].items():
            for name, tensor in moments.items():
                if tensor.dim():
                    # In the memory layout of its parameter: a fused step walks both by address.
                    moments[name] = torch.empty_like(parameters[i]).copy_(tensor)
        self.optimizer.load_state_dict(state["optimizer"])
        chance = state["chance"]
        for order, drawn in zip(self.orders, chance["orders"], strict=True):
            order.set_state(drawn)
        torch.set_rng_state(chance["cpu"])
        numbers, position, has_gauss, gauss = chance["numpy"]
        np.random.set_state(("MT19937", numbers.numpy(), position, has_gauss, gauss))
        random.setstate(chance["python"])
        if self.device.type in ("cuda", "mps") and self.device.type in chance:
            getattr(torch, self.device.type).set_rng_state(chance[self.device.type])

    def _chance(self) -> dict[str, object]:
        """The states of all random numbers, in types that `torch.load` takes without pickle."""
        _, numbers, *others = np.random.get_state()
        chance = {
            "orders": [order.get_state() for order in self.orders],
            "cpu": torch.get_rng_state(),
            "numpy": (torch.from_numpy(numbers), *others),
            "python": random.getstate(),
        }
        if self.device.type in ("cuda", "mps"):
            chance[self.device.type] = getattr(torch, self.device.type).get_rng_state()
        return chance


class TimeBudget:
    """Decides when an action may be repeated so that it takes at most `SHARE` of the time.

    Its duration is measured each time; before the first, ``expected`` seconds are assumed. Two
    actions are at least ``apart`` seconds apart.
    """

    def __init__(self, apart: float = 0.0, clock: Callable[[], float] = time.perf_counter):
        self._apart, self._clock = apart, clock
        self.expected, self._last = 0.0, clock()

    def due(self) -> bool:
        """Whether enough time has passed for the next action."""
        return self._clock() - self._last >= max(self.expected / SHARE, self._apart)

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Measure the block."""
        start = self._clock()
        yield
        self._last = self._clock()
        self.expected = self._last - start


class CheckpointThrottle:
    """Passes checkpoints to ``keep``, no more often than `TimeBudget` allows.

    ``keep`` returns whether it succeeded. After a failure it is not called again.
    """

    def __init__(
        self,
        keep: Callable[[Checkpoint], bool],
        clock: Callable[[], float] = time.perf_counter,
    ):
        self._keep, self._budget, self._works = keep, TimeBudget(SECONDS_APART, clock), True

    def __call__(self, checkpoint: Checkpoint) -> None:
        """Store this checkpoint if it is time."""
        if not self._budget.expected:
            self._budget.expected = checkpoint.bytes / BYTES_PER_SECOND
        if self._works and self._budget.due():
            with self._budget.spending():
                self._works = self._keep(checkpoint)


class Keeper:
    """``history`` and ``weights`` of a training after its last whole epoch.

    ``last`` is its last checkpoint, taken as often as copying all of it is cheap. A training that
    starts from ``resume`` must `Training.restore` it before its first step.
    """

    def __init__(
        self,
        training: Training,
        history: History | list[History],
        resume: Checkpoint | None,
        on_checkpoint: Callable[[Checkpoint], None] | None,
    ):
        self._training, self._budget, self._then = training, TimeBudget(), on_checkpoint
        with self._budget.spending():
            self.last = resume or training.checkpoint(history)
        self.history, self.weights = self.last.history, self.last.state["model"]

    def epoch_ended(self, history: History | list[History]) -> None:
        """Copy the weights, and the whole state if it is time."""
        self.history, self.weights = history, deepcopy(self._training.model.state_dict())
        if self._budget.due():
            with self._budget.spending():
                self.last = self._training.checkpoint(history)
            if self._then is not None:
                self._then(self.last)
