"""Training configs."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class TrainConfig:
    """A training config: AdamW with a one-cycle schedule, which ends at a rate of nearly 0.

    The weights of the last epoch are kept. ``learning_rate`` is the peak of the cycle, and
    ``weight_decay`` is decoupled from the gradient (Loshchilov & Hutter 2019): without it this is
    Adam. ``label_smoothing`` gives this share of each label to all classes alike.

    ``translate`` is the augmentation: each epoch shows each image in one of its (2·translate+1)²
    views, moved by up to ``translate`` pixels. ``affine`` rotates, shears and stretches it too
    (`kdnb.data.augmentation.random_affine`). With ``dihedral`` the views are the eight flips and
    quarter turns instead.

    ``first_trainable`` names the first stage of a `kdnb.models.StagedNetwork` that is trained; the
    stages before it are frozen, and without a name all are trained. ``next_stage`` starts from the
    weights that this config gives. ``mixed_precision`` has an effect on CUDA only.

    >>> TrainConfig(epochs=2, batch_size=32, learning_rate=1e-3, translate=1).total_epochs
    2
    """

    epochs: int
    batch_size: int
    learning_rate: float
    translate: int = 0
    affine: float = 0.0
    dihedral: bool = False
    first_trainable: str = ""
    mixed_precision: bool = False
    next_stage: "TrainConfig | None" = None
    weight_decay: float = 0.0
    label_smoothing: float = 0.0

    def __post_init__(self):
        for name in ("epochs", "batch_size", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)!r}")
        if not (isinstance(self.translate, int) and self.translate >= 0):
            raise ValueError(f"translate must be 0 or more whole pixels, got {self.translate!r}")
        for name in ("affine", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)!r}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be 0 or more, got {self.weight_decay!r}")
        if self.dihedral and self.translate:
            raise ValueError(
                f"views are translated or dihedral, not both, got translate {self.translate}"
            )

    @property
    def trained_stages(self) -> tuple[str, ...]:
        """``first_trainable`` of this config and of all that follow it."""
        following = self.next_stage.trained_stages if self.next_stage else ()
        return (self.first_trainable, *following)

    @property
    def total_epochs(self) -> int:
        """Epochs of this config and of all that follow it."""
        return self.epochs + (self.next_stage.total_epochs if self.next_stage else 0)
