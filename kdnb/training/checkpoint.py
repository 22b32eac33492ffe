"""Training as it stood when an epoch ended: enough to go on as if it had never stopped."""

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kdnb.store.store import Entry
from kdnb.training.history import History

# Copying a training, and keeping the copy in the run store, may each take so much of the time.
SHARE = 0.005
# Those kept are at least so many seconds apart; how long the first takes is guessed by its size.
SECONDS_APART, BYTES_PER_SECOND = 5.0, 200e6


class TimeBudget:
    """Says when something may be done again if it is to take at most `SHARE` of the time.

    What it takes is measured whenever it is done; before that `expect` may say it. Once and again
    are at least ``apart`` seconds apart.
    """

    def __init__(self, apart: float = 0.0, clock: Callable[[], float] = time.perf_counter):
        self._apart, self._clock = apart, clock
        self._cost, self._last = 0.0, clock()

    def expect(self, seconds: float) -> None:
        """Say how long it will probably take."""
        self._cost = seconds

    def due(self) -> bool:
        """Whether so much time has passed that it may be done now."""
        return self._clock() - self._last >= max(self._cost / SHARE, self._apart)

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Measure the block."""
        start = self._clock()
        yield
        self._last = self._clock()
        self._cost = self._last - start


class Stateful(Protocol):
    """What has a state that can be taken and given back, as a ``nn.Module`` has."""

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> object: ...


@dataclass(frozen=True)
class Training:
    """What changes from one step to the next: model, optimiser, schedule and all chance.

    ``orders`` draw the batches; dropout and affine views draw from the random numbers of the CPU
    and of ``device``, a reader's network perhaps from those of numpy and Python.

    A training may go on on another device than it began on. The random numbers of the new device
    then stay as whoever restores has seeded them, so what is drawn there is not what would have
    been drawn; to the bit as if never stopped a training ends on the device that it began on.
    """

    model: Stateful
    optimizer: Optimizer
    schedule: LRScheduler
    orders: Sequence[torch.Generator]
    device: torch.device

    def checkpoint(
        self, history: History | list[History], best_weights: dict[str, Tensor] | None
    ) -> "Checkpoint":
        """A copy of all this; without ``best_weights`` the weights of now are the best ones."""
        weights = deepcopy(self.model.state_dict())
        chance = {f"order {i}": order.get_state() for i, order in enumerate(self.orders)}
        chance |= {"cpu": torch.get_rng_state(), **_of_libraries()}
        if self.device.type != "cpu":
            chance[self.device.type] = _of(self.device).get_rng_state()
        return Checkpoint(
            history=history,
            weights=weights,
            best_weights=weights if best_weights is None else best_weights,
            optimizer=deepcopy(self.optimizer.state_dict()),
            schedule=deepcopy(self.schedule.state_dict()),
            chance=chance,
        )

    def restore(self, checkpoint: "Checkpoint") -> None:
        """Stand where the checkpoint was taken, which itself stays as it is."""
        self.model.load_state_dict(checkpoint.weights)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        state = {
            # In the memory layout of its parameter: a fused step walks both by address.
            i: {n: torch.empty_like(parameters[i]).copy_(t) if t.dim() else t.clone()
                for n, t in moments.items()}
            for i, moments in checkpoint.optimizer["state"].items()
        }  # fmt: skip
        groups = deepcopy(checkpoint.optimizer["param_groups"])
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.schedule.load_state_dict(deepcopy(checkpoint.schedule))
        for i, order in enumerate(self.orders):
            order.set_state(checkpoint.chance[f"order {i}"])
        torch.set_rng_state(checkpoint.chance["cpu"])
        _set_libraries(checkpoint.chance)
        if self.device.type != "cpu" and self.device.type in checkpoint.chance:
            _of(self.device).set_rng_state(checkpoint.chance[self.device.type])


@dataclass(frozen=True)
class Checkpoint:
    """The states of a `Training` and of its history after a whole number of epochs.

    Of several models that are trained as one, ``history`` holds one for each.
    """

    history: History | list[History]
    weights: dict[str, Tensor]
    best_weights: dict[str, Tensor]
    optimizer: dict = field(repr=False)
    schedule: dict = field(repr=False)
    chance: dict[str, Tensor] = field(repr=False)

    def entry(self) -> Entry:
        """As the run store keeps it: tensors by name, and a record that JSON can hold."""
        tensors = {
            **_named("weights", self.weights),
            **_named("chance", self.chance),
            **{
                f"moments.{i}.{name}": tensor
                for i, moments in self.optimizer["state"].items()
                for name, tensor in moments.items()
            },
        }
        if self.best_weights is not self.weights:
            tensors |= _named("best", self.best_weights)
        record = {
            "history": _as_record(self.history),
            "param_groups": self.optimizer["param_groups"],
            "schedule": self.schedule,
        }
        return Entry(tensors, record)

    @property
    def bytes(self) -> int:
        """How much there is to store, of which tensors are nearly all."""
        return sum(t.nbytes for t in self.entry().tensors.values())

    @classmethod
    def from_entry(cls, entry: Entry) -> "Checkpoint":
        """The checkpoint that `entry` gave."""
        weights = _under("weights", entry.tensors)
        moments: dict[int, dict[str, Tensor]] = {}
        for place, tensor in _under("moments", entry.tensors).items():
            i, name = place.split(".")
            moments.setdefault(int(i), {})[name] = tensor
        return cls(
            history=_as_history(entry.record["history"]),
            weights=weights,
            best_weights=_under("best", entry.tensors) or weights,
            optimizer={"state": moments, "param_groups": entry.record["param_groups"]},
            schedule=entry.record["schedule"],
            chance=_under("chance", entry.tensors),
        )


class CheckpointThrottle:
    """Gives checkpoints on to ``keep``, as seldom as `TimeBudget` says.

    ``keep`` returns whether it could. Where it could not, it is not asked again.
    """

    def __init__(
        self,
        keep: Callable[[Checkpoint], bool],
        clock: Callable[[], float] = time.perf_counter,
    ):
        self._keep, self._budget = keep, TimeBudget(SECONDS_APART, clock)
        self._first, self._works = True, True

    def __call__(self, checkpoint: Checkpoint) -> None:
        """Keep this one if it is time for it."""
        if self._first:
            self._budget.expect(checkpoint.bytes / BYTES_PER_SECOND)
            self._first = False
        if self._works and self._budget.due():
            with self._budget.spending():
                self._works = self._keep(checkpoint)


def copied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights that stay as they are while training goes on."""
    return {name: tensor.detach().clone() for name, tensor in weights.items()}


def _as_record(history: History | list[History]) -> dict | list[dict]:
    return [asdict(each) for each in history] if isinstance(history, list) else asdict(history)


def _as_history(record: dict | list[dict]) -> History | list[History]:
    if isinstance(record, list):
        return [History.from_record(each) for each in record]
    return History.from_record(record)


def _of_libraries() -> dict[str, Tensor]:
    """The random states of numpy and Python as tensors; float64 holds each number in them."""
    _, keys, *rest = np.random.get_state()
    _, numbers, gauss = random.getstate()
    states = {"numpy": [*keys, *rest], "python": [*numbers, math.nan if gauss is None else gauss]}
    return {name: torch.tensor(state, dtype=torch.float64) for name, state in states.items()}


def _set_libraries(chance: Mapping[str, Tensor]) -> None:
    *keys, position, has_gauss, cached = chance["numpy"].tolist()
    keys = np.array(keys, dtype=np.uint32)
    np.random.set_state(("MT19937", keys, int(position), int(has_gauss), cached))
    *numbers, gauss = chance["python"].tolist()
    gauss = None if math.isnan(gauss) else gauss
    random.setstate((3, tuple(map(int, numbers)), gauss))


def _of(device: torch.device) -> object:
    return torch.cuda if device.type == "cuda" else torch.mps


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
