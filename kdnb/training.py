"""The one training loop, and what a trained model answers."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdnb.data import Split
from kdnb.data.views import ShiftedImages, TurnedImages, Views, warped
from kdnb.environment import best_device, seeded
from kdnb.objectives import LABELS, Imitation, Objective, Rows
from kdnb.tasks import Recipe

PREDICT_BATCH = 128


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

    @property
    def seconds(self) -> float:
        """Wall time of training and validation together."""
        return sum(epoch.seconds for epoch in self.epochs)

    def followed_by(self, later: "History") -> "History":
        """The two trainings as one, of which the later one's best epoch counts."""
        best = None if later.best is None else len(self.epochs) + later.best
        return History(self.epochs + later.epochs, best, later.interrupted)


class TrainingDivergedError(ArithmeticError):
    """The loss was no longer a number. ``history`` holds the epochs before that."""

    def __init__(self, message: str, history: History):
        super().__init__(message)
        self.history = history


def views_of(split: Split, recipe: Recipe) -> Views:
    """The views in which a recipe shows the images of ``split``."""
    return TurnedImages(split.images) if recipe.turns else ShiftedImages(split.images, recipe.shift)


def fit(
    model: nn.Module,
    train: Split,
    val: Split,
    recipe: Recipe,
    seed: int,
    *,
    objective: Objective = LABELS,
    features: tuple[Views, Views] | None = None,
    on_epoch: Callable[[History], None] | None = None,
    device: torch.device | None = None,
) -> History:
    """Train ``model`` in place and leave it, in eval mode, with the weights of its best epoch.

    Best is the highest validation accuracy, and among equals the lowest validation loss; for an
    objective that may not know labels, the last epoch. Whatever the ``objective``, everything else
    is the same: the seed alone decides the batch order, the views and the dropout, so two methods
    with one seed see the same batches. On the CPU a run repeats bit for bit with the same number of
    threads.

    A recipe that trains the last stages only needs ``features``: what the stages before them make
    of the training views and of the validation images. Those stages are never run here, so neither
    their weights nor their batch-norm statistics can move; the trained stages keep their statistics
    too, since few images make poor ones.

    ``on_epoch`` is called after each epoch.

    Ctrl-C stops training and returns the history so far, marked as interrupted.

    Raises ValueError if the soft targets do not fit the images and views, the recipe warps images
    that were answered for beforehand, or features are missing. Raises `TrainingDivergedError` if
    the loss stops being a number: the model then holds the weights of the last epoch before that.
    """
    device = device or best_device()
    if bool(recipe.trains) != (features is not None):
        raise ValueError("features go with a recipe that trains the last stages only, and only so")
    model.eval()  # and only what is trained will leave this mode
    if recipe.trains:
        _, model = model.split(recipe.trains)
        inputs, val_inputs = (views.to(device) for views in features)
    else:
        inputs = views_of(train, recipe).to(device)
        val_inputs = ShiftedImages(val.images).to(device)
    model.to(device, memory_format=torch.channels_last)
    labels = train.labels.to(device)
    subclasses = None
    if objective.hears_subclasses and train.subclasses is not None:
        subclasses = train.subclasses.to(device)
    objective = objective.prepared(len(inputs.names), len(inputs), device)
    if recipe.warp and (features or isinstance(objective, Imitation)):
        raise ValueError(
            "a recipe with warp cannot be used with features or soft targets that were computed "
            "beforehand: use a finite set of views, for which there are answers"
        )

    optimizer = torch.optim.Adam(model.parameters(), recipe.learning_rate, fused=True)
    steps = -(-len(train) // recipe.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.epochs * steps, pct_start=0.2
    )
    order = torch.Generator().manual_seed(seed)
    history = History()
    last_good = best_weights = _weights(model)
    best = (-1.0, 0.0)
    try:
        with seeded(seed):
            for epoch in range(recipe.epochs):
                start = time.perf_counter()
                _train_mode(model, keep_statistics=bool(recipe.trains))
                record = []  # the loss and its parts after each step
                batches = epoch_batches(
                    len(train),
                    len(inputs.names),
                    recipe.batch_size,
                    order,
                    objective.views_per_image,
                )
                for index, view in batches:
                    index, view = index.to(device), view.to(device)
                    batch = inputs.batch(index, view)
                    if recipe.warp:
                        batch = warped(batch, recipe.warp)
                    with mixed_precision(device, recipe):
                        logits = model(batch)
                    known = None if subclasses is None else subclasses[index]
                    rows = Rows(labels[index], index, view, known)
                    loss = objective.loss(logits.float(), rows)
                    optimizer.zero_grad()
                    loss.total.backward()
                    optimizer.step()
                    schedule.step()
                    parts = {n: part for n, part in loss._asdict().items() if part is not None}
                    record.append(torch.stack(list(parts.values())).detach())
                val_loss, val_accuracy = _validate(model, val_inputs, val, objective, device)
                losses = torch.stack(record)
                _check_finite(losses, val_loss, model, last_good, history, recipe)
                means = dict(zip(parts, losses.mean(0).tolist(), strict=True))
                history.epochs.append(
                    Epoch(
                        train_loss=means["total"],
                        soft_loss=means.get("soft"),
                        hard_loss=means.get("hard"),
                        auxiliary_loss=means.get("auxiliary"),
                        val_loss=val_loss,
                        val_accuracy=val_accuracy,
                        seconds=time.perf_counter() - start,
                    )
                )
                last_good = _weights(model)
                if (val_accuracy, -val_loss) > best or not objective.chooses_by_labels:
                    best, history.best, best_weights = (val_accuracy, -val_loss), epoch, last_good
                if on_epoch is not None:
                    on_epoch(history)
    except KeyboardInterrupt:
        history.interrupted = True
    model.load_state_dict(best_weights)
    model.eval()
    return history


def epoch_batches(
    images: int,
    views: int,
    batch_size: int,
    generator: torch.Generator,
    views_per_image: int = 1,
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in random order: (B,) indices of images and (B,) numbers of their views.

    With several views per image a batch of B rows holds ``batch_size`` images: all of them in one
    view, then all of them in another, and so on.
    """
    index = torch.randperm(images, generator=generator)
    view = torch.randint(views, (views_per_image, images), generator=generator)
    for rows, seen in zip(index.split(batch_size), view.split(batch_size, dim=1), strict=True):
        yield rows.repeat(views_per_image), seen.flatten()


def predict(
    model: nn.Module, inputs: Views, *, view: int = 0, device: torch.device | None = None
) -> Tensor:
    """What ``model`` makes of all ``inputs`` in one view: (N, outputs) float32 on the CPU.

    The model runs in eval mode without gradients and is left as it was, buffers and mode included.
    """
    device = device or best_device()
    model.to(device, memory_format=torch.channels_last)
    with evaluating(model):
        chunks = []
        for index in torch.arange(len(inputs)).split(PREDICT_BATCH):
            batch = inputs.batch(index, torch.full_like(index, view))
            chunks.append(model(batch.to(device)).float().cpu())
    return torch.cat(chunks)


def mixed_precision(device: torch.device, recipe: Recipe) -> AbstractContextManager:
    """On CUDA a recipe that asks for it computes in bfloat16 where that is safe; else nothing."""
    wanted = recipe.mixed_precision and device.type == "cuda"
    return torch.autocast("cuda", torch.bfloat16) if wanted else nullcontext()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside the block the model is in eval mode without gradients; after it as it was before."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _train_mode(model: nn.Module, *, keep_statistics: bool) -> None:
    model.train()
    if keep_statistics:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def _validate(
    model: nn.Module, inputs: Views, val: Split, objective: Objective, device: torch.device
) -> tuple[float, float]:
    logits = objective.class_logits(predict(model, inputs, device=device))
    loss = F.cross_entropy(logits, val.labels).item()
    return loss, (logits.argmax(1) == val.labels).double().mean().item()


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return deepcopy(model.state_dict())


def _check_finite(
    losses: Tensor,
    val_loss: float,
    model: nn.Module,
    last_good: dict[str, Tensor],
    history: History,
    recipe: Recipe,
) -> None:
    """Looked at once an epoch: asking after every step would make a GPU wait each time."""
    bad = ~losses.isfinite().all(1)
    if not bad.any() and torch.tensor(val_loss).isfinite():
        return
    step = int(bad.int().argmax()) + 1 if bad.any() else len(losses)
    model.load_state_dict(last_good)
    model.eval()
    raise TrainingDivergedError(
        f"the loss is no longer finite in epoch {len(history.epochs) + 1}, step {step}; the "
        f"weights of epoch {len(history.epochs)} are kept: try a learning rate below "
        f"{recipe.learning_rate}",
        history,
    )
