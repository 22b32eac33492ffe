"""A task of the reader's own: their images, any two networks, and defaults for all the rest.

>>> from kdnb.data import ImageFolder
>>> from kdnb.models import mobilenet_v2_student, resnet50_teacher
>>> flowers = ImageFolder("flowers", size=64)  # read when the task is used
>>> task = custom_task("flowers", flowers, resnet50_teacher, mobilenet_v2_student)
"""

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from kdnb.data import Dataset
from kdnb.data.custom.names import listed
from kdnb.data.dataset import stratified_indices
from kdnb.tasks.config import (
    SUBSET_SEED,
    DistillationConfig,
    SaliencySettings,
    Sizes,
    SubclassConfigs,
    Task,
    TaskText,
    check_name,
    two_views,
)
from kdnb.tasks.modules import settings_kept
from kdnb.tasks.trial import MisfitError, built, trial
from kdnb.training.config import TrainConfig

AFFINE = 0.15  # of the two views of which a teacher's subclasses shall be the same
UNEQUAL = 1.5  # times as many images of one class as of another: then classes are balanced


def custom_task(
    name: str,
    data: Callable[[], Dataset],
    teacher: Callable[..., nn.Module],
    student: Callable[..., nn.Module],
    *,
    subclasses: int = 3,
    **settings: object,
) -> "CustomTask":
    """A task from a source of ``data`` and what builds its two networks.

    ``data`` is a `kdnb.data.ImageFolder`, `kdnb.data.ImageTensors` or any function that returns a
    `Dataset`; it is first called when the task is used. ``teacher`` and ``student`` are modules'
    classes or functions that return a module, called with what they take of ``num_classes`` and
    ``subclasses``. One that takes no ``subclasses`` is asked for classes · subclasses classes; of
    one that takes neither the last `nn.Linear` is made as wide as is needed.

    ``subclasses`` is into how many a teacher divides each class. ``settings`` are among
    `SETTINGS`, named as in `kdnb.tasks.config`; those not given follow from the number of images.
    Raises ValueError for another setting, or networks that cannot be called.
    """
    check_name(name)
    if unknown := sorted(set(settings) - set(SETTINGS)):
        known = ", ".join(SETTINGS)
        raise ValueError(f"a task has no {unknown[0]!r}: it has {known}, and subclasses")
    if type(subclasses) is not int or subclasses < 2:
        raise ValueError(f"subclasses must be a whole number of at least 2, got {subclasses!r}")
    if not callable(data):
        raise ValueError(
            "data must be an ImageFolder, ImageTensors or a function that returns a Dataset, "
            f"got a {type(data).__name__}"
        )
    for role, make in (("teacher", teacher), ("student", student)):
        if isinstance(make, nn.Module) or not callable(make):
            raise ValueError(
                f"the {role} must be a class or a function that builds a new network for each "
                f"seed, got a {type(make).__name__}"
            )
    return CustomTask(name, data, Network(teacher), Network(student), subclasses, settings)


SETTINGS = (
    *("teacher_config", "student_config", "subclass_config", "other_subclass_configs"),
    *("temperature", "soft_weight", "student_images", "student_image_counts", "students"),
    *("saliency", "balanced", "text"),
)


@dataclass(frozen=True)
class CustomTask:
    """A task whose configs and text follow from its data, where ``settings`` do not give them."""

    name: str
    dataset: Callable[[], Dataset]
    teacher: "Network"
    student: "Network"
    subclasses: int
    settings: dict

    def load(self) -> Dataset:
        """Its data; raises `kdnb.data.DataError` where they cannot be had."""
        return replace(self.dataset(), name=self.name)

    def resolved(self, dataset: Dataset) -> Task:
        """A plain `Task` for these data; raises ValueError where a network does not fit them."""
        train, classes, size = dataset.train, len(dataset.class_names), self.subclasses
        two = train.images[[0, -1]]  # probably of two classes
        networks, parameters = {}, {}
        for role, network in (("teacher", self.teacher), ("student", self.student)):
            networks[role] = network.fitting(role, two, classes, size)
            model = built(partial(networks[role], num_classes=classes))
            parameters[role] = sum(p.numel() for p in model.parameters())
        about = {
            role: f"the reader's own `{_name(network)}`, with {parameters[role]:,} parameters"
            for role, network in networks.items()
        }
        get = self.settings.get
        teaching = get("teacher_config") or _config(len(train), 12_000, 2e-3, most=40, translate=1)
        shown = get("student_images") or len(train)
        learning = get("student_config") or _config(shown, 24_000, 3e-3, most=80)
        # Frozen stages answer for a finite set of views, of which affine ones are none.
        dividing = teaching if teaching.first_trainable else replace(teaching, affine=AFFINE)
        counts = torch.bincount(train.labels, minlength=classes)
        balanced = get("balanced", bool(counts.max() > UNEQUAL * counts.min()))
        students = [
            (f"{role}'s network", networks[role])
            for role in sorted(networks, key=parameters.get, reverse=True)
        ]
        if get("students"):
            students = [(name, Network(make)) for name, make in get("students")]
        configs = two_views(size, dividing, others=teaching)
        return Task(
            name=self.name,
            dataset=self.dataset,
            **networks,
            teacher_config=teaching,
            student_config=learning,
            subclass_configs=SubclassConfigs(
                get("subclass_config", configs.default),
                get("other_subclass_configs", configs.others),
            ),
            distillation=DistillationConfig(get("temperature", 4.0), get("soft_weight", 0.5)),
            sizes=Sizes(
                get("student_images"),
                get("student_image_counts") or _image_counts(train.labels, classes),
                tuple(students),
            ),
            saliency=get("saliency") or SaliencySettings(images=max(60, 2 * classes)),
            balanced=balanced,
            text=get("text") or _text(self.name, dataset, about, counts, balanced),
        )


def _text(
    name: str, dataset: Dataset, about: dict[str, str], counts: Tensor, balanced: bool
) -> TaskText:
    """What a reader of a report should know of such a task."""
    choices = [
        f"Classes: {listed(dataset.class_names, most=30)}.",
        f"The student is {about['student']}.",
    ]
    if balanced:
        choices.append(
            f"A class has {counts.min():,} to {counts.max():,} training images: each counts the "
            "same in the loss of the labels."
        )
    if len(counts) == 2:
        choices.append("Notebook 00 compares wrong classes, and is left out: here is only one.")
    error = 100 * (0.09 / len(dataset.test)) ** 0.5
    return TaskText(
        title=name,
        choices=" ".join(choices),
        teacher=about["teacher"],
        subclass_configs="All ways have the same epochs, but two views that agree meet each image "
        "twice an epoch, and in affine views.",
        caveats="Recipes, temperature and weight are defaults that follow from the number of "
        f"images and are tuned for nothing. With {len(dataset.test):,} test images an accuracy of "
        f"90 % has a standard error of {error:.1f} points.",
    )


@dataclass(frozen=True)
class Network:
    """Builds a module of any kind as the course asks for it: with so many classes and subclasses.

    ``wrappers`` are put around it, the first one inside: `kdnb.tasks.trial.Contiguous` for modules
    that do not bear channels_last, `kdnb.tasks.trial.LogitsOnly` for those that give more than
    logits.
    """

    make: Callable[..., nn.Module]
    wrappers: tuple[type[nn.Module], ...] = ()

    def __call__(self, num_classes: int, subclasses: int = 1) -> nn.Module:
        takes = _takes(self.make)
        with settings_kept(f"the network {_name(self)}"):
            if "subclasses" in takes:
                model = self.make(num_classes=num_classes, subclasses=subclasses)
            elif takes:
                model = self.make(num_classes=num_classes * subclasses)
            else:
                model = self.make()
        if not isinstance(model, nn.Module):
            raise ValueError(f"it must give an nn.Module, got a {type(model).__name__}")
        if not takes and subclasses > 1:
            _widen(model, num_classes * subclasses)
        lazy = nn.parameter.UninitializedTensorMixin
        if any(isinstance(t, lazy) for t in (*model.parameters(), *model.buffers())):
            raise ValueError("it has lazy layers, which cannot be seeded: write out their sizes")
        for wrapper in self.wrappers:
            model = wrapper(model)
        return model

    def fitting(self, role: str, images: Tensor, classes: int, subclasses: int) -> "Network":
        """The same, or with ``wrappers``, once it has passed `kdnb.tasks.trial.trial`.

        ``images`` are two of (2, C, H, W) uint8. Raises ValueError for a network that does not suit
        the course, and warns of one that suits only a part of it.
        """
        who = f"the {role} {_name(self)}"
        try:
            with settings_kept(who):
                notes = [
                    note
                    for size in (1, subclasses)
                    for note in trial(partial(self, classes, size), images, classes, size)
                ]
        except MisfitError as misfit:
            if misfit.remedy in (None, *self.wrappers):
                raise ValueError(f"{who} {misfit}") from misfit
            wrapped = replace(self, wrappers=(*self.wrappers, misfit.remedy))
            return wrapped.fitting(role, images, classes, subclasses)
        for note in dict.fromkeys(notes):
            warnings.warn(f"{who} {note}", stacklevel=2)
        return self


def _takes(make: Callable[..., nn.Module]) -> set[str]:
    """Which of the two sizes may be given: none, num_classes, or both.

    A function with ** is taken to know num_classes.
    """
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):
        return set()
    kinds = {p.kind for p in parameters}
    named = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    # (*args, **kwargs) is how a class says that it has no __init__ of its own.
    if inspect.Parameter.VAR_KEYWORD in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        named.add("num_classes")
    return named & {"num_classes", "subclasses"} if "num_classes" in named else set()


def _widen(model: nn.Module, outputs: int) -> None:
    """Put a new, wider layer in the place of the last dense one."""
    dense = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not dense or isinstance(model, nn.Linear):
        raise ValueError(
            "it takes no num_classes and has no nn.Linear inside that could be made wider: "
            "let it take num_classes"
        )
    last = model.get_submodule(dense[-1])
    model.set_submodule(dense[-1], nn.Linear(last.in_features, outputs, last.bias is not None))


def _name(make: Callable[..., nn.Module]) -> str:
    while isinstance(make, Network | partial):
        make = make.make if isinstance(make, Network) else make.func
    return getattr(make, "__name__", type(make).__name__)


def _config(images: int, shown: int, rate: float, most: int, translate: int = 0) -> TrainConfig:
    """Epochs that show about ``shown`` images, from 8 to ``most``, in batches that fit them."""
    epochs = min(most, max(8, round(shown / images)))
    batch_size = 8 if images < 100 else 16 if images < 1_000 else 64
    return TrainConfig(epochs, batch_size, rate, translate)


def _image_counts(labels: Tensor, classes: int) -> tuple[int, ...]:
    """A quarter, a half and all of the training images, as far as all classes are among them."""

    def complete(count: int) -> bool:
        (index,) = stratified_indices(labels, (max(1, count),), SUBSET_SEED)
        return len(labels[index].unique()) == classes

    return tuple(filter(complete, (len(labels) // 4, len(labels) // 2, len(labels))))
