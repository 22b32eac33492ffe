"""How a model is trained."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: Adam under a one-cycle schedule, the best epoch by validation.

    ``learning_rate`` is the peak of the cycle. ``shift`` is the augmentation: each epoch shows
    each image in one of its (2·shift+1)² views, moved by up to ``shift`` pixels. ``warp`` turns,
    shears and stretches it too (`kdnb.data.augmentation.warped`). With ``turns`` the views are the eight
    flips and quarter turns instead.

    ``trains`` names the first stage of a `kdnb.models.StagedNetwork` that is trained; all before it
    stays as it is, and without a name everything is trained. ``then`` is trained on the weights
    that this recipe gives. ``mixed_precision`` has an effect on CUDA only.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    shift: int = 0
    warp: float = 0.0
    turns: bool = False
    trains: str = ""
    mixed_precision: bool = False
    then: "Recipe | None" = None

    def __post_init__(self):
        for name in ("epochs", "batch_size", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)!r}")
        if not (isinstance(self.shift, int) and self.shift >= 0):
            raise ValueError(f"shift must be 0 or more whole pixels, got {self.shift!r}")
        if not 0 <= self.warp < 1:
            raise ValueError(f"warp must lie in [0, 1), got {self.warp!r}")
        if self.turns and self.shift:
            raise ValueError(f"views are shifted or turned, not both, got shift {self.shift}")

    @property
    def trained_stages(self) -> tuple[str, ...]:
        """``trains`` of this recipe and of all that follow it."""
        return (self.trains, *(self.then.trained_stages if self.then else ()))

    @property
    def total_epochs(self) -> int:
        """Epochs of this recipe and of all that follow it."""
        return self.epochs + (self.then.total_epochs if self.then else 0)
