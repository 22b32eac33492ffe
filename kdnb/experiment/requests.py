"""What can be asked of an experiment, what each run starts from, and the key that it is kept under.

A key stands for everything that decides a run, whoever asks for the same gets what is stored: the
engine's source, the networks' code and settings, their initial weights, data, config, objective and
torch's precision. Device and versions of libraries do not count: a laptop may use a cluster's runs,
and a run's provenance says whose they are.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace

import torch
from torch import nn

from kdnb.data import Split
from kdnb.experiment.methods import ALONE, Method
from kdnb.experiment.results import Run
from kdnb.fingerprint import code_fingerprint
from kdnb.store.description import UndescribedError, description, precision
from kdnb.store.store import digest, weights_digest
from kdnb.tasks.config import SubclassConfig
from kdnb.training.config import TrainConfig
from kdnb.training.objectives import Objective


@dataclass(frozen=True)
class RunRequest:
    """What an experiment can be asked for: a student, or without a ``method`` a teacher."""

    seed: int
    method: Method | None = None
    subclass_config: SubclassConfig | None = None

    @property
    def taught_by(self) -> "RunRequest | None":
        """The teacher that must be there before this can be trained."""
        if self.method is None or self.method.temperature is None:
            return None
        return RunRequest(self.seed, subclass_config=self.method.subclass_config)


@dataclass(frozen=True)
class MissingRun:
    """A run that is still to be trained, under ``key`` (empty: it cannot be kept).

    Up to ``at_once`` of those with an equal ``alike`` are trained together; None: alone.
    """

    wanted: RunRequest
    key: str
    alike: tuple | None
    at_once: int


@dataclass(frozen=True)
class Job:
    """One model to be trained, and where it stands among others."""

    label: str
    architecture: Callable[..., nn.Module]
    seed: int
    train: Split
    config: TrainConfig
    objective: Objective
    method: Method = ALONE
    teacher: Run | None = None
    number: int = 1
    total: int = 1
    retrain: bool = False


@dataclass(frozen=True)
class PreparedRun:
    """A job that is to be trained with others, and what it starts from."""

    job: Job
    model: nn.Module
    objective: Objective
    key: str
    settings: dict

    @property
    def alike(self) -> tuple:
        """Equal among those that can be trained together."""
        return self.settings["network"], self.objective.subclasses


def address(
    job: Job, model: nn.Module, config: TrainConfig, objective: Objective, val: Split
) -> tuple[str, dict]:
    """The key of one config of a job, and the settings that it is made from.

    ``model`` is still untrained, and ``val`` chooses the epoch. Raises
    `kdnb.store.description.UndescribedError` where no key can stand for what decides the run.
    """
    settings = {
        "engine": code_fingerprint(),
        "network": description(model),
        "initial_weights": weights_digest(model),
        "precision": precision(),
        "train": job.train.fingerprint,
        "val": val.fingerprint,
        "config": asdict(replace(config, next_stage=None)),
        "seed": job.seed,
        "objective": _described(objective, job.teacher, job.train),
        "method": description(type(job.method)),
    }
    return f"run-{digest(settings)}", settings


def group_key(members: Sequence[str]) -> str:
    """The key under which students are kept while they are trained together."""
    return f"part-together-{digest(list(members))}"


def balancing(split: Split, num_classes: int) -> tuple[float, ...]:
    """Weights by which every class counts the same: N / (classes · images of the class)."""
    counts = torch.bincount(split.labels, minlength=num_classes)
    return tuple((len(split) / (num_classes * counts)).tolist())


def _described(objective: Objective, teacher: Run | None, train: Split) -> dict:
    """An objective as JSON can hold it; a teacher's weights stand for its answers."""
    if teacher and not teacher.network:
        raise UndescribedError("it has a teacher whose network cannot be described")
    names = {f.name for f in fields(objective)} - {"teacher_logits"}
    settings = {name: getattr(objective, name) for name in sorted(names)}
    numbers = {name: float(n) for name, n in settings.items() if isinstance(n, int | float)}
    about = {
        "kind": type(objective).__name__,
        "code": description(type(objective), {**settings, **numbers}),
        "teacher": teacher and [teacher.network, teacher.weights],
        **numbers,
    }
    if objective.uses_subclass_labels and train.subclasses is not None:
        about["known_subclasses"] = digest(train.subclasses.tolist())
    return about
