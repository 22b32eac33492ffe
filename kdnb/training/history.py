"""The history of a training, epoch by epoch."""

from dataclasses import dataclass, field

VALIDATIONS = 10


def is_validated(epoch: int, epochs: int) -> bool:
    """Whether validation follows this epoch, the first of which is 1.

    It follows `VALIDATIONS` epochs, spread evenly, the last of which is the last of all; each one
    if there are no more. After every epoch it would take longer than to train a small student.

    >>> [epoch for epoch in range(1, 26) if is_validated(epoch, 25)][:5]
    [3, 5, 8, 10, 13]
    """
    return epoch * VALIDATIONS // epochs > (epoch - 1) * VALIDATIONS // epochs


@dataclass
class Epoch:
    """One epoch: mean training losses (nats), validation loss and accuracy, seconds.

    The parts of the training loss are None where the objective has no such part. Validation values
    are None for an epoch without validation (`is_validated`).
    """

    train_loss: float
    soft_loss: float | None
    hard_loss: float | None
    val_loss: float | None
    val_accuracy: float | None
    seconds: float
    auxiliary_loss: float | None = None


@dataclass
class History:
    """A training run, epoch by epoch."""

    epochs: list[Epoch] = field(default_factory=list)
    interrupted: bool = False

    @classmethod
    def from_record(cls, record: dict) -> "History":
        """A history from the dictionary that ``dataclasses.asdict`` made of it."""
        return cls([Epoch(**epoch) for epoch in record["epochs"]], record["interrupted"])

    @property
    def seconds(self) -> float:
        """Wall time of training and validation together."""
        return sum(epoch.seconds for epoch in self.epochs)

    @property
    def validated(self) -> dict[int, Epoch]:
        """The epochs that validation followed, by their number, the first of which is 1."""
        return {n: e for n, e in enumerate(self.epochs, 1) if e.val_accuracy is not None}

    @property
    def val_accuracy(self) -> float | None:
        """The last validation accuracy, in [0, 1]; None before the first."""
        return next((e.val_accuracy for e in reversed(self.validated.values())), None)

    def followed_by(self, later: "History") -> "History":
        """The two trainings as one."""
        return History(self.epochs + later.epochs, later.interrupted)
