"""What training gave, epoch by epoch."""

from dataclasses import dataclass, field


@dataclass
class Epoch:
    """What one epoch gave: mean training losses (nats), validation loss and accuracy, seconds.

    The parts of the training loss are None where the objective has no such part.
    """

    train_loss: float
    soft_loss: float | None
    hard_loss: float | None
    val_loss: float
    val_accuracy: float
    seconds: float
    auxiliary_loss: float | None = None


@dataclass
class History:
    """A training run, epoch by epoch; ``best`` is the index of the epoch whose weights are kept."""

    epochs: list[Epoch] = field(default_factory=list)
    best: int | None = None
    interrupted: bool = False

    @classmethod
    def from_record(cls, record: dict) -> "History":
        """What ``dataclasses.asdict`` made of a history, as a history again."""
        epochs = [Epoch(**epoch) for epoch in record["epochs"]]
        return cls(epochs, record["best"], record["interrupted"])

    @property
    def seconds(self) -> float:
        """Wall time of training and validation together."""
        return sum(epoch.seconds for epoch in self.epochs)

    def with_epoch(self, epoch: Epoch, by_labels: bool = True) -> "History":
        """One epoch more, kept if it is the best: by validation, or always if not ``by_labels``."""
        better = not by_labels or self.best is None
        if not better:
            best = self.epochs[self.best]
            better = (epoch.val_accuracy, -epoch.val_loss) > (best.val_accuracy, -best.val_loss)
        return History([*self.epochs, epoch], len(self.epochs) if better else self.best)

    def followed_by(self, later: "History") -> "History":
        """The two trainings as one, of which the later one's best epoch counts."""
        best = None if later.best is None else len(self.epochs) + later.best
        return History(self.epochs + later.epochs, best, later.interrupted)
