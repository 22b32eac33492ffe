"""Runs in the store: loaded if their logits are unchanged, stored, and resumed after a stop."""

import warnings
from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import asdict

import torch
from torch import Tensor, nn

from kdnb.data import Split
from kdnb.data.augmentation import TranslatedImages
from kdnb.experiment.requests import PreparedRun, group_key
from kdnb.fingerprint import code_fingerprint
from kdnb.store.store import Entry, Store, StoreError
from kdnb.training.checkpoint import Checkpoint, CheckpointThrottle
from kdnb.training.history import History
from kdnb.training.loop import predict

PROBE = 2  # validation images for which a loaded model must give the logits it had when stored


class StoredRuns:
    """The finished and half-trained runs of one task in ``store``."""

    def __init__(self, store: Store, task: str, val: Split, device: torch.device):
        self.store, self._task, self._device = store, task, device
        self._images = TranslatedImages(val.images[:PROBE])
        self._probed: set[str] = set()

    def load(self, run: PreparedRun) -> Entry | None:
        """A stored run, its weights in ``run.model``; None unless its logits are unchanged.

        The logits are computed once for each key. They reveal changes that no key covers, such as
        another content of a file that a network reads.
        """
        entry = self.store.get(run.key) if run.key else None
        if entry is None:
            return None
        untrained = None if run.key in self._probed else deepcopy(run.part.state_dict())
        run.part.load_state_dict(entry.tensors)
        run.model.eval()
        if untrained is not None:
            before, now = torch.tensor(entry.record["probe"]), self._probe(run.model)
            error = (before - now).abs().max().item()
            # Another device, or its products in TF32, may round so far and not further.
            if not error <= 0.02 * max(1.0, before.abs().max().item()):
                run.part.load_state_dict(untrained)
                warnings.warn(
                    f"the stored run {run.key} is not used: its network's logits are off by "
                    f"{error:.3g}, so they depend on something that its key does not cover, such "
                    "as a file or a number drawn at import; this run is trained again",
                    stacklevel=2,
                )
                return None
            self._probed.add(run.key)
        return entry

    def keep(self, run: PreparedRun, history: History, origin: dict, together: int = 1) -> bool:
        """Store a trained run, one of ``together`` at once; returns whether it was stored."""
        record = {
            "label": run.request.label,
            "task": self._task,
            "settings": run.settings,
            "history": asdict(history),
            "probe": self._probe(run.model).tolist(),
            "provenance": origin,
            "trained_at_once": together,
        }
        kept = self.store.keep(run.key, run.part.state_dict(), record)
        if kept:
            self.store.remove(f"part-{run.key}")
        return kept

    def checkpoints(self, run: PreparedRun, members: Sequence[str] = ()) -> dict:
        """Options of `kdnb.training.fit` for resuming a training and storing its checkpoints.

        ``members`` are the keys of a group that is trained as one; ``run`` is its first. A run
        without a key is not stored. Raises `StoreError` if nothing can be written.
        """
        if not run.key:
            return {"resume": None}
        self.store.require_writable()
        name = group_key(members) if members else f"part-{run.key}"
        about = {"label": run.request.label, "task": self._task, "seed": run.request.seed}
        about |= {"members": members} if members else {"run": run.key}
        about["engine"] = code_fingerprint()

        def keep(checkpoint: Checkpoint) -> bool:
            entry = checkpoint.entry()
            return self.store.keep(name, entry.tensors, {**about, **entry.record})

        half = self.store.get(name)
        if members and half is None:
            # Killed before there is a checkpoint, they are trained in the same group again.
            with suppress(StoreError):  # storing the run itself will report this
                self.store.put(name, {}, about)
        resume = Checkpoint.from_entry(half) if half and half.tensors else None
        return {"resume": resume, "on_stop": keep, "on_checkpoint": CheckpointThrottle(keep)}

    def groups(self) -> list[list[str]]:
        """The keys of the members of each group whose training did not end."""
        entries = [self.store.get(name) for name in self.store.names("part-group-")]
        return [entry.record["members"] for entry in entries if entry]

    def _probe(self, model: nn.Module) -> Tensor:
        """(PROBE, outputs) logits of a complete model for the first validation images."""
        return predict(model, self._images, device=self._device)
