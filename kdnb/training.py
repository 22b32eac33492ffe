"""The one training loop, and the teacher's answers that it looks up."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdnb import losses
from kdnb.data import Split
from kdnb.data.views import ShiftedImages
from kdnb.environment import best_device, seeded
from kdnb.tasks import Recipe

PREDICT_BATCH = 128


@dataclass(frozen=True)
class Distillation:
    """A teacher's logits for every view of every training image, and how they are weighed.

    ``teacher_logits``: (views, images, classes) float32, views in the order of
    `kdnb.data.views.shift_offsets`, images in the order of the training split.
    """

    teacher_logits: Tensor
    temperature: float
    soft_weight: float

    def __post_init__(self):
        losses.check_temperature(self.temperature)
        losses.check_soft_weight(self.soft_weight)


@dataclass
class Epoch:
    """What one epoch gave: mean training losses (nats), validation loss and accuracy, seconds."""

    train_loss: float
    soft_loss: float | None
    hard_loss: float
    val_loss: float
    val_accuracy: float
    seconds: float


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


class TrainingDivergedError(ArithmeticError):
    """The loss was no longer a number. ``history`` holds the epochs before that."""

    def __init__(self, message: str, history: History):
        super().__init__(message)
        self.history = history


def fit(
    model: nn.Module,
    train: Split,
    val: Split,
    recipe: Recipe,
    seed: int,
    *,
    distillation: Distillation | None = None,
    random_transform: Callable[[Tensor], Tensor] | None = None,
    on_epoch: Callable[[History], None] | None = None,
    device: torch.device | None = None,
) -> History:
    """Train ``model`` in place and leave it, in eval mode, with the weights of its best epoch.

    Best is the highest validation accuracy, and among equals the lowest validation loss. With
    ``distillation`` the loss is `kdnb.losses.distillation_loss`, without it the cross-entropy with
    the labels; everything else is the same. The seed alone decides the batch order, the views and
    the dropout, so two methods with one seed see the same batches. On the CPU a run repeats bit
    for bit with the same number of threads.

    ``random_transform`` maps a batch of images (B, C, H, W) to another; it cannot be combined with
    ``distillation``, whose logits belong to known views. ``on_epoch`` is called after each epoch.

    Ctrl-C stops training and returns the history so far, marked as interrupted.

    Raises ValueError if the soft targets do not fit the images and views, and
    `TrainingDivergedError` if the loss stops being a number: the model then holds the weights of
    the last epoch before that.
    """
    device = device or best_device()
    model.to(device, memory_format=torch.channels_last)
    images = ShiftedImages(train.images.to(device), recipe.shift)
    labels = train.labels.to(device)
    if distillation is not None:
        _check_fit(distillation, images, random_transform)
        teacher_logits = distillation.teacher_logits.to(device)

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
                model.train()
                record = torch.empty(steps, 3, device=device)  # total, soft, hard of each step
                batches = epoch_batches(len(train), images.views, recipe.batch_size, order)
                for step, (index, view) in enumerate(batches):
                    index, view = index.to(device), view.to(device)
                    batch = images.batch(index, view)
                    if random_transform is not None:
                        batch = random_transform(batch)
                    logits = model(batch)
                    if distillation is None:
                        losses.check_labels(labels[index], logits)
                        hard = F.cross_entropy(logits, labels[index])
                        loss = losses.DistillationLoss(hard, torch.zeros_like(hard), hard)
                    else:
                        loss = losses.distillation_loss(
                            logits,
                            labels[index],
                            teacher_logits[view, index],
                            distillation.temperature,
                            distillation.soft_weight,
                        )
                    optimizer.zero_grad()
                    loss.total.backward()
                    optimizer.step()
                    schedule.step()
                    record[step] = torch.stack(loss).detach()
                val_loss, val_accuracy = _validate(model, val, device)
                _check_finite(record, val_loss, model, last_good, history, recipe)
                total, soft, hard = record.mean(0).tolist()
                history.epochs.append(
                    Epoch(
                        train_loss=total,
                        soft_loss=None if distillation is None else soft,
                        hard_loss=hard,
                        val_loss=val_loss,
                        val_accuracy=val_accuracy,
                        seconds=time.perf_counter() - start,
                    )
                )
                last_good = _weights(model)
                if (val_accuracy, -val_loss) > best:
                    best, history.best, best_weights = (val_accuracy, -val_loss), epoch, last_good
                if on_epoch is not None:
                    on_epoch(history)
    except KeyboardInterrupt:
        history.interrupted = True
    model.load_state_dict(best_weights)
    model.eval()
    return history


def epoch_batches(
    images: int, views: int, batch_size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in random order: (B,) indices of images and (B,) numbers of their views."""
    index = torch.randperm(images, generator=generator)
    view = torch.randint(views, (images,), generator=generator)
    return zip(index.split(batch_size), view.split(batch_size), strict=True)


def predict(
    model: nn.Module,
    images: Tensor,
    *,
    offset: tuple[int, int] = (0, 0),
    device: torch.device | None = None,
) -> Tensor:
    """Logits (N, outputs) float32 on the CPU for ``images`` (N, C, H, W) uint8.

    The model runs in eval mode without gradients and is left as it was, buffers and mode included.
    ``offset`` moves the images, in pixels (down, right).
    """
    device = device or best_device()
    model.to(device, memory_format=torch.channels_last)
    shifted = ShiftedImages(images.to(device), max(map(abs, offset)))
    view = shifted.offsets.index(offset)
    with evaluating(model):
        chunks = [
            model(shifted.batch(index, torch.full_like(index, view))).float().cpu()
            for index in torch.arange(len(images), device=device).split(PREDICT_BATCH)
        ]
    return torch.cat(chunks)


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


def _validate(model: nn.Module, val: Split, device: torch.device) -> tuple[float, float]:
    logits = predict(model, val.images, device=device)
    loss = F.cross_entropy(logits, val.labels).item()
    return loss, (logits.argmax(1) == val.labels).double().mean().item()


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return deepcopy(model.state_dict())


def _check_fit(
    distillation: Distillation, images: ShiftedImages, random_transform: Callable | None
) -> None:
    if random_transform is not None:
        raise ValueError(
            "a random transform cannot be used with soft targets that were computed beforehand: "
            "use the recipe's shift, whose views the teacher has answered for"
        )
    have, need = tuple(distillation.teacher_logits.shape[:2]), (images.views, len(images))
    if have != need:
        raise ValueError(
            f"teacher_logits must cover {need[0]} views of {need[1]} images, "
            f"got {have[0]} views of {have[1]}"
        )


def _check_finite(
    record: Tensor,
    val_loss: float,
    model: nn.Module,
    last_good: dict[str, Tensor],
    history: History,
    recipe: Recipe,
) -> None:
    """Looked at once an epoch: asking after every step would make a GPU wait each time."""
    bad = ~record.isfinite().all(1)
    if not bad.any() and torch.tensor(val_loss).isfinite():
        return
    step = int(bad.int().argmax()) + 1 if bad.any() else len(record)
    model.load_state_dict(last_good)
    model.eval()
    raise TrainingDivergedError(
        f"the loss is no longer finite in epoch {len(history.epochs) + 1}, step {step}; the "
        f"weights of epoch {len(history.epochs)} are kept: try a learning rate below "
        f"{recipe.learning_rate}",
        history,
    )
