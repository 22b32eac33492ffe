"""Training as it stood when an epoch ended: enough to go on as if it had never stopped."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kdnb.history import History
from kdnb.store import Entry


@dataclass(frozen=True)
class Training:
    """What changes from one step to the next: model, optimiser, schedule and all chance.

    ``order`` draws the batches; dropout and warped views draw from the random numbers of the CPU
    and of ``device``.
    """

    model: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler
    order: torch.Generator
    device: torch.device

    def checkpoint(self, history: History, best_weights: dict[str, Tensor] | None) -> "Checkpoint":
        """A copy of all this; without ``best_weights`` the weights of now are the best ones."""
        weights = deepcopy(self.model.state_dict())
        chance = {"order": self.order.get_state(), "cpu": torch.get_rng_state()}
        if self.device.type != "cpu":
            chance["device"] = _of(self.device).get_rng_state()
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
        self.order.set_state(checkpoint.chance["order"])
        torch.set_rng_state(checkpoint.chance["cpu"])
        if "device" in checkpoint.chance:
            _of(self.device).set_rng_state(checkpoint.chance["device"])


@dataclass(frozen=True)
class Checkpoint:
    """The states of a `Training` and of its history after a whole number of epochs."""

    history: History
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
            "history": asdict(self.history),
            "param_groups": self.optimizer["param_groups"],
            "schedule": self.schedule,
        }
        return Entry(tensors, record)

    @classmethod
    def from_entry(cls, entry: Entry) -> "Checkpoint":
        """The checkpoint that `entry` gave."""
        weights = _under("weights", entry.tensors)
        moments: dict[int, dict[str, Tensor]] = {}
        for place, tensor in _under("moments", entry.tensors).items():
            i, name = place.split(".")
            moments.setdefault(int(i), {})[name] = tensor
        return cls(
            history=History.from_record(entry.record["history"]),
            weights=weights,
            best_weights=_under("best", entry.tensors) or weights,
            optimizer={"state": moments, "param_groups": entry.record["param_groups"]},
            schedule=entry.record["schedule"],
            chance=_under("chance", entry.tensors),
        )


def _of(device: torch.device) -> object:
    return torch.cuda if device.type == "cuda" else torch.mps


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
