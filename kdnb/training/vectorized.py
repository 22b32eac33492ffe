"""Many students trained as one batched model, each as if it were trained alone.

Students of one architecture that differ in seed, temperature or weight do the same arithmetic on
other numbers. Stacked, their small matrix products become few large ones, and the cost of starting
an operation is paid once for all. The loss is the single student's loss, mapped over all.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from kdnb import losses
from kdnb.data import Split
from kdnb.data.augmentation import TranslatedImages, Views
from kdnb.environment import best_device, onednn_products, seeded
from kdnb.training.checkpoint import Checkpoint, Keeper, Training
from kdnb.training.config import TrainConfig
from kdnb.training.history import Epoch, History, is_validated
from kdnb.training.loop import (
    TrainingDivergedError,
    adamw,
    batch_sizes,
    epoch_batches,
    one_cycle,
    takes_one,
    views_of,
)
from kdnb.training.objectives import LABELS, Batch, Distillation, Objective
from kdnb.training.predict import BATCH
from kdnb.training.recorded import TRIED, RecordedStep
from kdnb.training.stacked import NotVectorizableError, StackedModel, same_as_alone, stackable

SMALL = 300_000  # parameters
MEMORY = 2**31  # bytes


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
    or `Distillation`, all with one number of subclasses and the same class weights. Each model's
    seed decides its images and their order; only rounding differs from `fit`. The seconds of an
    epoch are divided evenly among the models.

    ``on_epoch`` and ``on_step`` are called as by `fit`, with all histories and all images, and
    ``on_checkpoint`` and ``on_stop`` with one checkpoint of all. With ``resume``, a checkpoint of
    the same models in the same order, training resumes from there, as in `fit`.

    Raises ValueError for what cannot be trained at once: other objectives, configs that warp
    images, train the last stages only or ask for mixed precision, and `NotVectorizableError` for
    networks that would not compute as they do alone (`kdnb.training.stacked`). Raises
    `TrainingDivergedError` if one loss becomes NaN or infinite; alone, the others still train.
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
    labels, views = train.labels.to(device), len(inputs.names)
    for each in objectives:
        each.check_table(views, len(train))
    smoothed = [replace(o, label_smoothing=config.label_smoothing) for o in objectives]
    objective = StackedObjective([smoothed[i] for i in places], device)
    sizes = batch_sizes(len(train), config.batch_size)
    first = torch.arange(min(len(train), TRIED))
    if not same_as_alone(models, inputs.batch(first, torch.zeros_like(first)), device) or (
        1 in sizes[1:] and not takes_one(models[0].to(device), inputs, config, LABELS)
    ):
        raise NotVectorizableError(
            f"networks such as {type(models[0]).__name__} do not compute together what each "
            f"computes alone: train them alone"
        )
    network = StackedModel([models[i] for i in places], len(streams), device)
    optimizer = adamw(network.parameters.values(), config)
    schedule = one_cycle(optimizer, config, len(sizes))
    orders = [torch.Generator().manual_seed(seed) for seed in streams]

    def gradients(index: Tensor, view: Tensor) -> list[Tensor]:
        images = inputs.batch(index.flatten(), view.flatten()).unflatten(0, index.shape)
        loss = objective.loss(network(images), labels[index], view, index)
        optimizer.zero_grad()
        loss[0].sum().backward()
        return [loss.detach()]

    if device.type == "cuda":
        gradients = RecordedStep(gradients, network.parameters.values())
    training = Training(network, optimizer, schedule, orders, device)
    keeper = Keeper(training, [History() for _ in places], resume, on_checkpoint)
    if resume is not None:
        with seeded(0):  # only the orders are random here
            training.restore(resume)
    try:
        while (number := len(keeper.history[0].epochs) + 1) <= config.epochs:
            start = time.perf_counter()
            terms = []
            network.train()
            drawn = (epoch_batches(sizes, views, order, device=device) for order in orders)
            for batches in zip(*drawn, strict=True):
                index, view = (torch.stack(each) for each in zip(*batches, strict=True))
                terms += gradients(index, view)
                optimizer.step()
                schedule.step()
                if on_step is not None:
                    on_step(index.shape[1] * len(models))
            means = torch.stack(terms).mean(0).T.tolist()
            validated = [(None, None)] * len(places)
            if is_validated(number, config.epochs):
                validated = _validate(network, val_inputs, val_labels, objective)
            seconds = (time.perf_counter() - start) / len(models)
            histories = []
            for i, before, (total, hard, soft), scores in zip(
                places, keeper.history, means, validated, strict=True
            ):
                if not math.isfinite(total + (scores[0] or 0)):
                    raise TrainingDivergedError(
                        f"the loss of seed {seeds[i]} is no longer finite in epoch {number}: try a "
                        f"learning rate below {config.learning_rate}",
                        before,
                    )
                distilled = isinstance(objectives[i], Distillation)
                epoch = Epoch(total, soft if distilled else None, hard, *scores, seconds)
                histories.append(History([*before.epochs, epoch]))
            keeper.epoch_ended(histories)
            if on_epoch is not None:
                on_epoch(histories)
    except KeyboardInterrupt:
        if keeper.last.history[0].epochs and on_stop is not None:
            on_stop(keeper.last)
        keeper.history = [replace(history, interrupted=True) for history in keeper.history]
    for place, i in enumerate(places):
        models[i].load_state_dict({name: stack[place] for name, stack in keeper.weights.items()})
        models[i].to(device).eval()
    return [keeper.history[places.index(i)] for i in range(len(models))]


def fits(model: nn.Module, config: TrainConfig, objective: Objective) -> bool:
    """Whether `fit_vectorized` may train such a model, as far as is known without calling it."""
    return (
        type(objective) in (Objective, Distillation)
        and not (config.affine or config.first_trainable or config.mixed_precision)
        and stackable(model)
    )


def at_once(model: nn.Module, device: torch.device) -> int:
    """The best number of such models to train at once; 1 if they cannot be.

    On the CPU the arithmetic of large ones takes all the time, in one or alone: there it pays up to
    `SMALL` parameters (``tests/bench/vectorized.py``). The number is bounded by memory: a quarter
    of what is free on this machine's GPU, `MEMORY` otherwise.
    """
    parameters = sum(p.numel() for p in model.parameters())
    if device.type == "cpu" and parameters > SMALL:
        return 1
    # Weights, gradients, two moments, a checkpoint of all but gradients, and a copy of the weights.
    on_gpu = device.type == "cuda" and torch.cuda.is_available()
    memory = torch.cuda.mem_get_info(device)[0] // 4 if on_gpu else MEMORY
    return max(1, memory // (8 * 4 * parameters))


class StackedObjective:
    """The objectives of S students as one: the same loss, mapped over each student's settings.

    A student of the labels alone is distilled with a ``soft_weight`` of 0 from logits of 0.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ):
        self.one = next((o for o in objectives if isinstance(o, Distillation)), objectives[0])
        self._tables = None
        if isinstance(self.one, Distillation):
            silence = torch.zeros_like(self.one.teacher_logits)
            alone = replace(self.one, temperature=1.0, soft_weight=0.0, teacher_logits=silence)
            taught = [o if isinstance(o, Distillation) else alone for o in objectives]
            numbers = [(o.temperature, o.soft_weight) for o in taught]
            self._numbers = torch.tensor(numbers, dtype=dtype, device=device)
            tables = {id(o.teacher_logits): o.teacher_logits for o in taught}
            places = [list(tables).index(id(o.teacher_logits)) for o in taught]
            self._table_of = torch.tensor(places, device=device)[:, None]
            self._tables = torch.stack([*tables.values()]).to(device, dtype)

    def loss(self, logits: Tensor, labels: Tensor, view: Tensor, index: Tensor) -> Tensor:
        """(3, S) total, hard and soft losses of (S, B, C·s) logits.

        ``labels``, ``view`` and ``index`` are (groups, B).
        """
        each = len(logits) // len(labels)
        labels, view, index = (t.repeat_interleave(each, 0) for t in (labels, view, index))
        if self._tables is None:
            hard = torch.vmap(lambda z, y: self.one.loss(z, Batch(y)).total)(logits, labels)
            return torch.stack([hard, hard, torch.zeros_like(hard)])
        teacher_logits = self._tables[self._table_of, view, index]
        return torch.stack(torch.vmap(self._loss)(logits, labels, teacher_logits, self._numbers))

    def _loss(
        self, logits: Tensor, labels: Tensor, teacher_logits: Tensor, numbers: Tensor
    ) -> tuple[Tensor, ...]:
        temperature, soft_weight = numbers
        objective = replace(self.one, temperature=temperature, soft_weight=soft_weight)
        return objective.loss(logits, Batch(labels, teacher_logits=teacher_logits))[:3]

    def class_logits(self, logits: Tensor) -> Tensor:
        """(S, B, C) class logits of (S, B, C·s) logits."""
        return torch.vmap(self.one.class_logits)(logits)


@torch.no_grad()
def _validate(
    network: StackedModel, inputs: Views, labels: Tensor, objective: StackedObjective
) -> list[tuple[float, float]]:
    """Loss and accuracy of each network."""
    network.train(False)
    chunks = []
    for index in torch.arange(len(inputs), device=labels.device).split(BATCH):
        images = inputs.batch(index, torch.zeros_like(index))
        chunks.append(objective.class_logits(network(images.expand(network.groups, *images.shape))))
    logits = torch.cat(chunks, 1)  # (S, N, C)
    each = torch.vmap(losses.label_loss, (0, None))(logits, labels)
    right = (logits.argmax(2) == labels).sum(1)
    return [
        (loss, count / len(labels))
        for loss, count in zip(each.tolist(), right.tolist(), strict=True)
    ]


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
            "configs that warp images, train the last stages only or ask for mixed precision: "
            "train alone"
        )
    for objective in objectives:
        if type(objective) not in (Objective, Distillation):
            raise ValueError(f"{type(objective).__name__} is trained alone, not at once")
    if len({(o.subclasses, o.class_weights) for o in objectives}) > 1:
        raise ValueError("students trained at once have one number of subclasses and class weights")
    if len({repr(model) for model in models}) > 1:
        raise ValueError("students trained at once have one architecture")
    if not all(map(stackable, models)):
        raise NotVectorizableError(
            "networks with dropout, batch-norm, buffers, frozen or shared weights are trained "
            "alone, not at once"
        )
