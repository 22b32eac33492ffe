"""Many students trained as one batched model, each following what it would do alone.

Students of one architecture that differ in seed, temperature or weight do the same arithmetic on
other numbers. Stacked, their small matrix products become few large ones, and the cost of starting
an operation is paid once for all.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdnb.data import Split
from kdnb.data.augmentation import TranslatedImages, Views
from kdnb.environment import best_device, onednn_products, seeded
from kdnb.losses import class_logits
from kdnb.training.checkpoint import Checkpoint, TimeBudget, Training
from kdnb.training.config import TrainConfig
from kdnb.training.history import Epoch, History
from kdnb.training.loop import (
    PREDICT_BATCH,
    TrainingDivergedError,
    batch_sizes,
    epoch_batches,
    one_cycle,
    takes_one,
    views_of,
)
from kdnb.training.objectives import LABELS, Distillation, Objective
from kdnb.training.stacked import StackedModel, same_as_alone, stackable

TRIED = 8  # images
SMALL = 300_000  # parameters
MEMORY = 2**31  # bytes


class NotVectorizableError(ValueError):
    """Trained together, these networks would not do what each does alone."""


@onednn_products()
def fit_vectorized(
    models: Sequence[nn.Module],
    train: Split,
    val: Split,
    config: TrainConfig,
    seeds: Sequence[int],
    objectives: Sequence[Objective],
    *,
    on_epoch: Callable[[list[History]], None] | None = None,
    on_step: Callable[[int], None] | None = None,
    on_checkpoint: Callable[[Checkpoint], None] | None = None,
    on_stop: Callable[[Checkpoint], None] | None = None,
    resume: Checkpoint | None = None,
    device: torch.device | None = None,
) -> list[History]:
    """`kdnb.training.fit` for several models at once, in place: each as if it were alone.

    ``models``, ``seeds`` and ``objectives`` belong together one by one; objectives are the labels
    or `Distillation`, all with one number of subclasses and the same class weights. What each model
    sees, and in which order, its own seed decides; only rounding differs from `fit`. The seconds of
    an epoch are shared out evenly.

    ``on_epoch`` and ``on_step`` are called as by `fit`, with all histories and all images, and
    ``on_checkpoint`` and ``on_stop`` with one checkpoint of all. With ``resume``, a checkpoint of
    the same models in the same order, training goes on from there as `fit` does.

    Raises ValueError for what cannot be trained together: other objectives, recipes that warp
    images, train the last stages only or ask for mixed precision, and `NotVectorizableError` for
    networks
    that would not do what they do alone (`kdnb.training.stacked`). Raises `TrainingDivergedError`
    if one loss stops being a number; alone, the others can still be trained.
    """
    device = device or best_device()
    _check(models, config, seeds, objectives)
    # Neighbours with one seed see the same batch, which is then made once for all of them.
    places = sorted(range(len(models)), key=lambda i: seeds[i])
    streams = list(dict.fromkeys(seeds[i] for i in places))
    if len({list(seeds).count(seed) for seed in streams}) > 1:
        streams = [seeds[i] for i in places]  # groups of unequal size: one batch for each student

    inputs = views_of(train, config).to(device)
    val_inputs, val_labels = TranslatedImages(val.images).to(device), val.labels.to(device)
    labels = train.labels.to(device)
    views, images = len(inputs.names), len(train)
    for objective in objectives:
        objective.prepared(views, images, torch.device("cpu"))  # it knows what does not fit
    goals = Goals([objectives[i] for i in places], device)

    sizes = batch_sizes(images, config.batch_size)
    first = torch.arange(min(images, TRIED))
    if not same_as_alone(models, inputs.batch(first, torch.zeros_like(first)), device) or (
        1 in sizes[1:] and not takes_one(models[0].to(device), inputs, config, LABELS)
    ):
        raise NotVectorizableError(
            f"networks such as {type(models[0]).__name__} do not compute together what each "
            f"computes alone: train them alone"
        )
    network = StackedModel([models[i] for i in places], len(streams), device)
    optimizer = torch.optim.Adam(network.parameters.values(), config.learning_rate, fused=True)
    schedule = one_cycle(optimizer, config, len(sizes))
    orders = [torch.Generator().manual_seed(seed) for seed in streams]

    training = Training(network, optimizer, schedule, orders, device)
    copying = TimeBudget()
    with copying.spending():
        kept = resume or training.checkpoint([History() for _ in places], None)
    done, best = kept.history, kept.best_weights  # after the last whole epoch
    if resume is not None:
        with seeded(0):  # there is no chance here but in the orders
            training.restore(resume)
    try:
        for _ in range(config.epochs - len(done[0].epochs)):
            start = time.perf_counter()
            record = []
            network.train()
            drawn = (epoch_batches(sizes, views, order, device=device) for order in orders)
            for batches in zip(*drawn, strict=True):
                index, view = (torch.stack(each) for each in zip(*batches, strict=True))
                batch = inputs.batch(index.flatten(), view.flatten()).unflatten(0, index.shape)
                losses = goals.losses(network(batch), labels[index], index, view)
                optimizer.zero_grad()
                losses[0].sum().backward()
                optimizer.step()
                schedule.step()
                record.append(losses.detach())
                if on_step is not None:
                    on_step(index.shape[1] * len(models))
            means = torch.stack(record).mean(0).T.tolist()
            validated = _validate(network, val_inputs, val_labels, goals)
            seconds = (time.perf_counter() - start) / len(models)
            histories = []
            for place, i in enumerate(places):
                before = done[place]
                epoch = _epoch(means[place], *validated[place], seconds, goals.distils[place])
                if not math.isfinite(epoch.train_loss + epoch.val_loss):
                    raise TrainingDivergedError(
                        f"the loss of seed {seeds[i]} is no longer finite in epoch "
                        f"{len(before.epochs) + 1}: try a learning rate below "
                        f"{config.learning_rate}",
                        before,
                    )
                histories.append(before.with_epoch(epoch))
            improved = torch.tensor([h.best == len(h.epochs) - 1 for h in histories], device=device)
            done, best = histories, _where(improved, network.parameters, best)
            if copying.due():
                with copying.spending():
                    kept = training.checkpoint(done, best)
                if on_checkpoint is not None:
                    on_checkpoint(kept)
            if on_epoch is not None:
                on_epoch(done)
    except KeyboardInterrupt:
        if kept.history[0].epochs and on_stop is not None:
            on_stop(kept)
        done = [replace(history, interrupted=True) for history in done]
    for place, i in enumerate(places):
        models[i].load_state_dict({name: stack[place] for name, stack in best.items()})
        models[i].to(device).eval()
    return [done[places.index(i)] for i in range(len(models))]


def fits(model: nn.Module, config: TrainConfig, objective: Objective) -> bool:
    """Whether `fit_vectorized` may train such a model, as far as shows without calling it."""
    return (
        type(objective) in (Objective, Distillation)
        and not (config.affine or config.first_trainable or config.mixed_precision)
        and stackable(model)
    )


def at_once(model: nn.Module, device: torch.device) -> int:
    """How many such models are best trained together; 1 where they are not.

    On the CPU the arithmetic of large ones takes all the time, together or alone: there it pays up
    to `SMALL` parameters (``tests/bench/together.py``). The number is bounded by memory.
    """
    parameters = sum(p.numel() for p in model.parameters())
    if device.type == "cpu" and parameters > SMALL:
        return 1
    # Weights, gradients, two moments, and copies of the last epoch's and of the best weights.
    return max(1, MEMORY // (8 * 4 * parameters))


def _epoch(
    losses: Sequence[float], val_loss: float, val_accuracy: float, seconds: float, distils: bool
) -> Epoch:
    total, soft, hard = losses
    return Epoch(total, soft if distils else None, hard, val_loss, val_accuracy, seconds)


def _where(
    chosen: Tensor, these: Mapping[str, Tensor], others: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Stacks of weights, of each network (S,) ``chosen`` or not the one or the other."""
    if not chosen.any():
        return others
    return {
        name: torch.where(
            chosen.view(-1, *[1] * (stack.dim() - 1)), stack.detach(), others[name].to(stack.device)
        )
        for name, stack in these.items()
    }


class Goals:
    """What S students minimise: labels, or labels and a teacher's answers, each at its own T."""

    def __init__(
        self,
        objectives: Sequence[Objective],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ):
        distils = [o if isinstance(o, Distillation) else None for o in objectives]
        self.distils = [o is not None for o in distils]
        # Labels only: the soft part has weight 0 and no teacher's answers, at any temperature.
        numbers = [(o.temperature, o.soft_weight) if o else (1.0, 0.0) for o in distils]
        self._temperature, self._weight = torch.tensor(numbers, dtype=dtype, device=device).T
        self._hears = torch.tensor(self.distils, device=device)[:, None, None]
        teachers = {id(o.teacher_logits): o.teacher_logits for o in distils if o}
        self._teachers = torch.stack(list(teachers.values())).to(device) if teachers else None
        place = {teacher: i for i, teacher in enumerate(teachers)}
        self._teacher_of = torch.tensor(
            [place[id(o.teacher_logits)] if o else 0 for o in distils], device=device
        )[:, None]
        self.subclasses = objectives[0].subclasses
        weights = objectives[0].class_weights
        self._class_weights = torch.tensor(weights, device=device) if weights else None

    def losses(self, logits: Tensor, labels: Tensor, index: Tensor, view: Tensor) -> Tensor:
        """(3, S): total, soft and hard loss of each student, from (S, B, C·s) logits.

        ``labels``, ``index`` and ``view`` are (groups, B).
        """
        students = len(logits)
        labels, index, view = (
            each.repeat_interleave(students // len(each), 0) for each in (labels, index, view)
        )
        hard = self.hard(logits, labels)
        if self._teachers is None:
            return torch.stack([hard, torch.zeros_like(hard), hard])
        t, weight = self._temperature, self._weight
        answers = self._teachers[self._teacher_of, view, index].to(logits.dtype)
        answers = answers.masked_fill(~self._hears, 0)
        log_student = F.log_softmax(logits / t[:, None, None], 2)
        log_teacher = F.log_softmax(answers / t[:, None, None], 2)
        divergence = F.kl_div(log_student, log_teacher, reduction="none", log_target=True)
        soft = t**2 * divergence.sum(2).mean(1)
        return torch.stack([torch.lerp(hard, soft, weight), soft, hard])

    def hard(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(S,) cross-entropies of (S, B, C·s) logits with (S, B) labels."""
        classes = self.class_logits(logits)
        each = F.cross_entropy(classes.flatten(0, 1), labels.flatten(), reduction="none")
        each = each.view_as(labels)
        if self._class_weights is None:
            return each.mean(1)
        weights = self._class_weights.to(each.dtype)[labels]
        return (weights * each).sum(1) / weights.sum(1)

    def class_logits(self, logits: Tensor) -> Tensor:
        """(S, B, C) class logits."""
        flat = logits.flatten(0, 1)
        return class_logits(flat, flat.shape[1] // self.subclasses).unflatten(0, logits.shape[:2])


@torch.no_grad()
def _validate(
    network: StackedModel, inputs: Views, labels: Tensor, goals: Goals
) -> list[tuple[float, float]]:
    """LossTerms and accuracy of each network."""
    network.train(False)
    chunks = []
    for index in torch.arange(len(inputs), device=labels.device).split(PREDICT_BATCH):
        batch = inputs.batch(index, torch.zeros_like(index))
        chunks.append(goals.class_logits(network(batch.expand(network.groups, *batch.shape))))
    logits = torch.cat(chunks, 1)  # (S, N, C)
    every = labels.expand(len(logits), -1)
    losses = F.cross_entropy(logits.flatten(0, 1), every.flatten(), reduction="none")
    right = (logits.argmax(2) == every).sum(1)
    accuracies = [count / len(labels) for count in right.tolist()]
    return list(zip(losses.view_as(every).mean(1).tolist(), accuracies, strict=True))


def _check(
    models: Sequence[nn.Module],
    config: TrainConfig,
    seeds: Sequence[int],
    objectives: Sequence[Objective],
) -> None:
    if not len(models) == len(seeds) == len(objectives) > 0:
        raise ValueError(
            f"each model needs a seed and an objective, got {len(models)} models, {len(seeds)} "
            f"seeds and {len(objectives)} objectives"
        )
    if config.affine or config.first_trainable or config.mixed_precision:
        raise ValueError(
            "recipes that warp images, train the last stages only or ask for mixed precision: "
            "train alone"
        )
    for objective in objectives:
        if type(objective) not in (Objective, Distillation):
            raise ValueError(f"{type(objective).__name__} is trained alone, not together")
    if len({(o.subclasses, o.class_weights) for o in objectives}) > 1:
        raise ValueError(
            "students trained together have one number of subclasses and class weights"
        )
    if len({repr(model) for model in models}) > 1:
        raise ValueError("students trained together have one architecture")
    if not all(map(stackable, models)):
        raise NotVectorizableError(
            "networks with dropout, batch-norm, buffers, frozen or shared weights are trained "
            "alone, not together"
        )
