"""What an experiment gives: trained models, news of their training, and comparisons of methods."""

from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor, nn

from kdnb.evaluation.statistics import Interval, mean_interval
from kdnb.store.store import weights_digest
from kdnb.training.history import History


@dataclass(frozen=True)
class Run:
    """One trained model: ``loaded`` from the store or trained just now, as ``provenance`` says.

    ``trained_from`` names the first stage that was trained last; empty where all was. ``keys`` are
    those of the run store, one for each stage of training. ``network`` is the description of the
    untrained model; empty where it has none, and then nothing of this run is kept.
    """

    label: str
    seed: int
    model: nn.Module
    history: History
    provenance: dict[str, str]
    loaded: bool
    trained_from: str = ""
    keys: tuple[str, ...] = ()
    network: str = ""

    @cached_property
    def weights(self) -> str:
        """Digest of the trained weights."""
        return weights_digest(self.model)


@dataclass(frozen=True)
class Update:
    """What a watcher is told: run ``number`` of ``total`` now stands as in ``history``.

    The first ``continued`` of its epochs were not trained now: an earlier training was stopped
    there, or they were in the run store. ``origin`` is the provenance of a run that is over.
    """

    label: str
    seed: int
    number: int
    total: int
    history: History
    epochs: int
    loaded: bool = False
    continued: int = 0
    origin: dict[str, str] = field(default_factory=dict)

    @property
    def run_finished(self) -> bool:
        """Whether this run needs no more epochs."""
        return self.loaded or len(self.history.epochs) == self.epochs


@dataclass(frozen=True)
class SweepProgress:
    """Where a sweep on workers stands: runs ``done`` of ``total``."""

    done: float
    total: int
    workers: int
    finished: bool = False


@dataclass(frozen=True)
class Comparison:
    """Accuracies of several methods over the same seeds on one split.

    ``accuracies``: (methods, seeds) float64 in [0, 1]. ``interrupted`` says that seeds are missing
    because training was stopped. ``dataset`` is its name.
    """

    labels: tuple[str, ...]
    seeds: tuple[int, ...]
    split: str
    images: int
    accuracies: Tensor
    runs: dict[str, list[Run]]
    interrupted: bool = False
    dataset: str = ""

    def accuracy(self, label: str) -> Tensor:
        """(seeds,) accuracies of one method."""
        return self.accuracies[self.labels.index(label)]

    def mean(self, label: str) -> Interval:
        """Mean accuracy of one method over the seeds."""
        return mean_interval(self.accuracy(label).tolist())

    def gain(self, label: str, over: str) -> Interval:
        """Paired difference of two methods' accuracies, seed by seed."""
        return mean_interval((self.accuracy(label) - self.accuracy(over)).tolist())
