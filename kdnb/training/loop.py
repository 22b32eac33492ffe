"""The training loop."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from kdnb import losses
from kdnb.data import Split
from kdnb.data.augmentation import DihedralImages, TranslatedImages, Views, random_affine
from kdnb.environment import best_device, onednn_products, seeded
from kdnb.training.checkpoint import Checkpoint, Keeper, Training
from kdnb.training.config import TrainConfig
from kdnb.training.history import Epoch, History, is_validated
from kdnb.training.objectives import LABELS, LossTerms, Objective, TeacherObjective
from kdnb.training.predict import predict
from kdnb.training.recorded import TRIED, RecordedStep, recordable


class TrainingDivergedError(ArithmeticError):
    """The loss became NaN or infinite. ``history`` holds the epochs before."""

    def __init__(self, message: str, history: History):
        super().__init__(message)
        self.history = history


def fit(
    model: nn.Module,
    train: Split,
    val: Split,
    config: TrainConfig,
    seed: int,
    *,
    objective: Objective = LABELS,
    features: tuple[Views, Views] | None = None,
    on_epoch: Callable[[History], None] | None = None,
    on_step: Callable[[int], None] | None = None,
    on_checkpoint: Callable[[Checkpoint], None] | None = None,
    on_stop: Callable[[Checkpoint], None] | None = None,
    resume: Checkpoint | None = None,
    device: torch.device | None = None,
) -> History:
    """Train ``model`` in place and leave it, in eval mode, with the weights of the last epoch.

    No epoch is chosen: validation images only show the progress of training
    (`kdnb.training.history.is_validated`). Everything but the ``objective`` is the same for all
    methods: the seed alone decides the batch order, the views and the dropout, so two methods with
    one seed see the same batches. On the CPU a run repeats bit for bit with the same number of
    threads. If the last batch would hold one image, and the model cannot be trained on one, this
    image joins the batch before.

    A config that trains only the last stages needs ``features``: the outputs of the stages before
    them for the training views and the validation images. The frozen stages never run here, so
    neither their weights nor their batch-norm statistics change; the trained stages keep their
    statistics too, since few images give poor estimates.

    ``on_epoch`` is called before the first epoch and after each, ``on_step`` after each step with
    its number of images. ``on_checkpoint`` receives a checkpoint after each epoch if copying the
    state takes far less time than an epoch, and otherwise less often.

    Ctrl-C, or a KeyboardInterrupt from any of them, stops training: history, marked as
    interrupted, and weights are those of the last whole epoch, and ``on_stop`` is given the last
    checkpoint, if there was one. With ``resume``, a checkpoint of the same run, training goes on
    from there; on the CPU it ends, bit for bit, as if it had never been stopped.

    Raises ValueError if the soft targets do not fit the images and views, the config warps images
    whose logits or features were computed beforehand, or features are missing. Raises
    `TrainingDivergedError` if the loss or a weight stops being a number: the model then holds the
    weights of the epoch before.
    """
    device = device or best_device()
    if bool(config.first_trainable) != (features is not None):
        raise ValueError("features are needed to train the last stages only, and for nothing else")
    if config.affine and (features or isinstance(objective, TeacherObjective)):
        raise ValueError(
            "a config with affine cannot be used with features or soft targets that were computed "
            "beforehand: use a finite set of views"
        )
    model.eval()  # and only trained stages leave this mode
    if features:
        _, model = model.split(config.first_trainable)
        inputs, val_inputs = (views.to(device) for views in features)
    else:
        inputs = views_of(train, config).to(device)
        val_inputs = TranslatedImages(val.images).to(device)
    model.to(device, memory_format=torch.channels_last)
    labels, subclasses = train.labels.to(device), train.subclasses
    if subclasses is not None:
        subclasses = subclasses.to(device) if objective.uses_subclass_labels else None
    objective.check_table(len(inputs.names), len(inputs))
    objective = replace(objective, label_smoothing=config.label_smoothing).on(device)
    sizes = batch_sizes(len(train), config.batch_size)
    if 1 in sizes[1:] and not takes_one(model, inputs, config, objective):
        sizes = batch_sizes(len(train), config.batch_size, least=2)

    optimizer = adamw(model.parameters(), config)
    schedule = one_cycle(optimizer, config, len(sizes))
    order = torch.Generator().manual_seed(seed)

    def loss_of(network: nn.Module, index: Tensor, view: Tensor) -> LossTerms:
        images = inputs.batch(index, view)
        if config.affine:
            images = random_affine(images, config.affine)
        with mixed_precision(device, config):
            logits = network(images)
        batch = objective.batch(labels.index_select(0, index), index, view)
        if subclasses is not None:
            batch = batch._replace(subclasses=subclasses[index])
        return objective.loss(logits.float(), batch)

    def gradients(index: Tensor, view: Tensor) -> list[Tensor | None]:
        loss = loss_of(model, index, view)
        optimizer.zero_grad()
        loss.total.backward()
        return [None if term is None else term.detach() for term in loss]

    if device.type == "cuda":
        some = torch.arange(len(train), device=device)[:TRIED].repeat(objective.views_per_image)
        if recordable(model, partial(loss_of, index=some, view=torch.zeros_like(some))):
            gradients = RecordedStep(gradients, model.parameters())
    training = Training(model, optimizer, schedule, [order], device)
    keeper = Keeper(training, History(), resume, on_checkpoint)
    try:
        with seeded(seed), onednn_products(sum(p.numel() for p in model.parameters())):
            if resume is not None:
                training.restore(resume)
            if on_epoch is not None:
                on_epoch(keeper.history)
            while (number := len(keeper.history.epochs) + 1) <= config.epochs:
                start = time.perf_counter()
                _train_mode(model, keep_statistics=bool(features))
                terms = []  # of the loss, step after step
                for index, view in epoch_batches(
                    sizes, len(inputs.names), order, objective.views_per_image, device
                ):
                    terms.append(gradients(index, view))
                    optimizer.step()
                    schedule.step()
                    if on_step is not None:
                        on_step(len(index))
                val_loss, val_accuracy = None, None
                if is_validated(number, config.epochs):
                    val_loss, val_accuracy = _validate(model, val_inputs, val, objective, device)
                means = _means(terms, model, keeper.history, config)
                seconds = time.perf_counter() - start
                epoch = Epoch(
                    train_loss=means[0],
                    hard_loss=means[1],
                    soft_loss=means[2],
                    auxiliary_loss=means[3],
                    val_loss=val_loss,
                    val_accuracy=val_accuracy,
                    seconds=seconds,
                )
                keeper.epoch_ended(History([*keeper.history.epochs, epoch]))
                if on_epoch is not None:
                    on_epoch(keeper.history)
    except KeyboardInterrupt:
        if keeper.last.history.epochs and on_stop is not None:
            on_stop(keeper.last)
        keeper.history = replace(keeper.history, interrupted=True)
    finally:
        model.load_state_dict(keeper.weights)
        model.eval()
    return keeper.history


def views_of(split: Split, config: TrainConfig) -> Views:
    """The views in which a config shows the images of ``split``."""
    if config.dihedral:
        return DihedralImages(split.images)
    return TranslatedImages(split.images, config.translate)


def adamw(parameters: Iterable[Tensor], config: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser of all training here; without weight decay it does what Adam does."""
    return torch.optim.AdamW(
        parameters, config.learning_rate, weight_decay=config.weight_decay, fused=True
    )


def one_cycle(
    optimizer: torch.optim.Optimizer, config: TrainConfig, batches: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate rises for a fifth of a run's steps and then falls (Smith 2018).

    Each of the config's epochs has so many ``batches``.
    """
    steps = config.epochs * batches
    # A fifth of five steps rises for no step at all, and OneCycleLR divides by their number.
    rise = 0.2 if steps > 5 else 0.1
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=steps, pct_start=rise
    )


def batch_sizes(images: int, batch_size: int, least: int = 1) -> list[int]:
    """The batch sizes of an epoch; a last batch below ``least`` joins the batch before.

    >>> batch_sizes(9, 4), batch_sizes(9, 4, least=2)
    ([4, 4, 1], [4, 5])
    """
    sizes = [min(batch_size, images - first) for first in range(0, images, batch_size)]
    if len(sizes) > 1 and sizes[-1] < least:
        sizes[-2:] = [sum(sizes[-2:])]
    return sizes


def takes_one(model: nn.Module, inputs: Views, config: TrainConfig, objective: Objective) -> bool:
    """Whether ``model`` can be trained on a batch of one image, tried on a copy.

    Batch-norm after a dense layer cannot: one number has no variance.
    """
    tried = deepcopy(model)
    _train_mode(tried, keep_statistics=bool(config.first_trainable))
    first = torch.zeros(objective.views_per_image, dtype=torch.int64)
    try:
        with seeded(0), torch.no_grad():
            return len(tried(inputs.batch(first, first))) == len(first)
    except Exception:  # a reader's network may raise anything
        return False


def epoch_batches(
    sizes: Sequence[int],
    views: int,
    generator: torch.Generator,
    views_per_image: int = 1,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in random order: (B,) indices of images and (B,) numbers of their views.

    ``sizes`` are the batch sizes. The order is drawn on the CPU and copied to ``device`` at once,
    not batch by batch. With several views per image a batch has as many rows for each image: all
    images in one view, then all images in another, and so on.
    """
    images, sizes = sum(sizes), list(sizes)
    index = torch.randperm(images, generator=generator).to(device)
    view = torch.randint(views, (views_per_image, images), generator=generator).to(device)
    for rows, seen in zip(index.split(sizes), view.split(sizes, dim=1), strict=True):
        yield rows.repeat(views_per_image) if views_per_image > 1 else rows, seen.flatten()


def mixed_precision(device: torch.device, config: TrainConfig) -> AbstractContextManager:
    """bfloat16 where safe, on CUDA and for a config with mixed precision; otherwise nothing."""
    wanted = config.mixed_precision and device.type == "cuda"
    return torch.autocast("cuda", torch.bfloat16) if wanted else nullcontext()


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
    loss = losses.label_loss(logits, val.labels).item()
    return loss, (logits.argmax(1) == val.labels).double().mean().item()


def _means(
    terms: list[list[Tensor | None]], model: nn.Module, before: History, config: TrainConfig
) -> list[float | None]:
    """The mean of each term over an epoch's steps, if all terms and weights are finite.

    Checked once an epoch: a check after every step would make a GPU wait each time.
    """
    columns = [
        None if column[0] is None else torch.stack(column) for column in zip(*terms, strict=True)
    ]
    finite = torch.stack([c.isfinite() for c in columns if c is not None]).all(0)
    if not (finite.all() and all(weights.isfinite().all() for weights in model.parameters())):
        step = len(terms) if finite.all() else int((~finite).int().argmax()) + 1
        done = len(before.epochs)
        raise TrainingDivergedError(
            f"the loss is no longer finite in epoch {done + 1}, step {step}; the weights of epoch "
            f"{done} are kept: try a learning rate below {config.learning_rate}",
            before,
        )
    return [None if column is None else column.mean().item() for column in columns]
