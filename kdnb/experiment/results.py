"""Results of an experiment: trained models, updates on training, and comparisons of methods."""

from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor, nn

from kdnb.evaluation.statistics import Interval, adjusted, joint_interval
from kdnb.store.store import weights_digest
from kdnb.training.history import History


@dataclass(frozen=True)
class Run:
    """One trained model: ``loaded`` from the store or trained just now, with its ``provenance``.

    ``trained_from`` names the first stage that was trained last; empty if all were. ``keys`` are
    those of the run store, one for each stage of training. ``network`` is the description of the
    untrained model; empty if it has none, and then nothing of this run is stored.
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
    """An update for a watcher: the present ``history`` of run ``number`` of ``total``.

    The first ``continued`` epochs were not trained now: an earlier training had stopped there, or
    they came from the run store. ``origin`` is the provenance of a finished run.
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
    """The progress of a sweep on workers: runs ``done`` of ``total``."""

    done: float
    total: int
    workers: int
    finished: bool = False


@dataclass(frozen=True)
class Comparison:
    """The correct predictions of several methods over the same seeds on one split.

    ``correct``: (methods, seeds, N) bool, image by image. ``interrupted``: seeds are missing
    because training was stopped. ``dataset`` is the dataset's name.
    """

    labels: tuple[str, ...]
    seeds: tuple[int, ...]
    split: str
    correct: Tensor
    runs: dict[str, list[Run]]
    interrupted: bool = False
    dataset: str = ""

    @property
    def images(self) -> int:
        """The number of images of the split."""
        return self.correct.shape[2]

    @property
    def accuracies(self) -> Tensor:
        """(methods, seeds) float64 in [0, 1]."""
        return self.correct.double().mean(2)

    def of(self, label: str) -> Tensor:
        """(seeds, N) bool: the images that one method classifies correctly."""
        return self.correct[self.labels.index(label)]

    def accuracy(self, label: str) -> Tensor:
        """(seeds,) accuracies of one method."""
        return self.of(label).double().mean(1)

    def mean(self, label: str) -> Interval:
        """Mean accuracy of one method, and its interval over seeds and images."""
        return joint_interval(self.of(label))

    def gain(self, label: str, over: str) -> Interval:
        """Difference of two methods' accuracies, paired by seed and by image."""
        return joint_interval(self.of(label).double() - self.of(over).double())

    def gains(self, over: str) -> dict[str, Interval]:
        """Each other method's gain over one, with p Holm-adjusted for all of them."""
        others = [label for label in self.labels if label != over]
        return adjusted({label: self.gain(label, over) for label in others})
