"""Requests to an experiment, the start of a run, and the key under which it is stored.

A key covers everything that decides a run: the engine's source, the networks' code, settings and
initial weights, data, config, objective and torch's precision. Device and versions of libraries do
not count: a laptop may use a cluster's runs, and a run's provenance names its machine.
"""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import NamedTuple

from torch import nn

from kdnb.data import Split
from kdnb.experiment.methods import Method
from kdnb.experiment.results import Run
from kdnb.fingerprint import code_fingerprint
from kdnb.store.description import UndescribedError, description, precision
from kdnb.store.store import digest, weights_digest
from kdnb.tasks.config import SubclassConfig
from kdnb.training.config import TrainConfig
from kdnb.training.objectives import Objective


@dataclass(frozen=True)
class RunRequest:
    """A request to an experiment: a student, or without a ``method`` a teacher."""

    seed: int
    method: Method | None = None
    subclass_config: SubclassConfig | None = None

    @property
    def label(self) -> str:
        """The name of the run."""
        return self.method.label if self.method else "teacher"

    @property
    def teacher(self) -> "RunRequest | None":
        """The teacher that must be stored before this run can be trained."""
        if self.method is None or not self.method.has_teacher:
            return None
        return RunRequest(self.seed, subclass_config=self.method.subclass_config)


class MissingRun(NamedTuple):
    """A run to be trained; up to ``at_once`` of one ``architecture`` at once (None: alone)."""

    request: RunRequest
    key: str
    architecture: tuple | None
    at_once: int


@dataclass(frozen=True)
class PreparedRun:
    """A model before the stage of training that ``config`` describes, with all its inputs.

    The ``objective`` has no teacher's logits yet. Without a ``key`` the run is not stored.
    """

    request: RunRequest
    model: nn.Module
    objective: Objective
    config: TrainConfig
    train: Split
    teacher: Run | None = None
    key: str = ""
    settings: dict = field(default_factory=dict)

    @property
    def architecture(self) -> tuple:
        """A value that is equal for runs that can be trained as one batched model."""
        return self.settings["network"], self.objective.subclasses, self.config

    @property
    def part(self) -> nn.Module:
        """The stages of the model that are trained and stored."""
        stage = self.config.first_trainable
        return self.model.split(stage)[1] if stage else self.model

    def addressed(self, val: Split) -> "PreparedRun":
        """The run with its key; without one, and with a warning, if it cannot be described."""
        shown = self.objective.uses_subclass_labels and self.train.subclasses is not None
        # A whole number is the same as the float of this value.
        about, method = vars(self.objective).values(), self.request.method
        numbers = [float(value) if isinstance(value, int) else value for value in about]
        try:
            settings = {
                "engine": code_fingerprint(),
                "network": description(self.model),
                "initial_weights": weights_digest(self.model),
                "precision": precision(),
                "train": self.train.fingerprint,
                "val": val.fingerprint,
                "config": asdict(replace(self.config, next_stage=None)),
                "seed": self.request.seed,
                "objective": description(type(method), type(self.objective), numbers),
                "soft_targets": description(method.soft_targets) if method else None,
                "subclasses": digest(self.train.subclasses.tolist()) if shown else None,
                "teacher": self.teacher and [self.teacher.network, self.teacher.weights],
            }
            if self.teacher and not self.teacher.network:
                raise UndescribedError("it has a teacher whose network cannot be described")
        except UndescribedError as error:
            warnings.warn(
                f"runs of {self.request.label} are neither loaded nor stored, since something that "
                f"decides them cannot be put into a key: {error}",
                stacklevel=2,
            )
            return replace(self, key="", settings={})
        return replace(self, key=f"run-{digest(settings)}", settings=settings)


def group_key(members: Sequence[str]) -> str:
    """The key under which students are kept while they are trained as one batched model."""
    return f"part-group-{digest(list(members))}"
