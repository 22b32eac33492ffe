"""A task with the reader's own images, any two networks, and defaults for everything else.

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

AFFINE = 0.15  # of the two views in which a teacher's subclasses should agree
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
    """A task from a source of ``data`` and functions that build its two networks.

    ``data`` is a `kdnb.data.ImageFolder`, `kdnb.data.ImageTensors` or any function that returns a
    `Dataset`, first called when the task is used. ``teacher`` and ``student`` are module classes,
    or functions that return a module, called with those of ``num_classes`` and ``subclasses`` that
    they accept. Without ``subclasses``, ``num_classes`` is classes · subclasses; without either,
    the last `nn.Linear` is replaced by one of the width needed.

    ``subclasses`` is the number into which a teacher divides each class. ``settings`` are among
    `SETTINGS`, named as in `kdnb.tasks.config`; the others follow from the number of images.
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
        """The task's data; raises `kdnb.data.DataError` where they are not available."""
        return replace(self.dataset(), name=self.name)

    def resolved(self, dataset: Dataset) -> Task:
        """A plain `Task` for these data; raises ValueError if a network does not fit them."""
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
    """The texts of such a task for the reader of a report."""
    choices = [
        f"Classes: {listed(dataset.class_names, most=30)}.",
        f"The student is {about['student']}.",
    ]
    if balanced:
        choices.append(
            f"A class has {counts.min():,} to {counts.max():,} training images, and each class has "
            "the same weight in the label loss."
        )
    if len(counts) == 2:
        choices.append("Notebook 00 is omitted, since it compares several wrong classes.")
    error = 100 * (0.09 / len(dataset.test)) ** 0.5
    return TaskText(
        title=name,
        choices=" ".join(choices),
        teacher=about["teacher"],
        subclass_configs="All teachers have the same number of epochs, but the teacher with two "
        "views sees each image twice an epoch, in affine views.",
        caveats="Recipes, temperature and weight are defaults that follow from the number of "
        f"images; none is tuned. With {len(dataset.test):,} test images an accuracy of 90 % has a "
        f"standard error of {error:.1f} points.",
    )


@dataclass(frozen=True)
class Network:
    """Builds any module for a number of classes and subclasses, as the course needs it.

    ``wrappers`` go around the module, the first innermost: `kdnb.tasks.trial.Contiguous` for
    modules that cannot use channels_last, `kdnb.tasks.trial.LogitsOnly` for modules that return
    more than logits.
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
        """The same, with ``wrappers`` if needed, after it has passed `kdnb.tasks.trial.trial`.

        ``images`` are two images, (2, C, H, W) uint8. Raises ValueError for a network that does not
        suit the course, and warns about one that suits only a part.
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
    """The sizes that a function accepts: none, num_classes, or both.

    A function with ** counts as accepting num_classes.
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
    """Epochs that show about ``shown`` images, from 8 to ``most``, with a batch size to match."""
    epochs = min(most, max(8, round(shown / images)))
    batch_size = 8 if images < 100 else 16 if images < 1_000 else 64
    return TrainConfig(epochs, batch_size, rate, translate)


def _image_counts(labels: Tensor, classes: int) -> tuple[int, ...]:
    """A quarter, a half and all of the training images, as far as they contain all classes."""

    def complete(count: int) -> bool:
        (index,) = stratified_indices(labels, (max(1, count),), SUBSET_SEED)
        return len(labels[index].unique()) == classes

    return tuple(filter(complete, (len(labels) // 4, len(labels) // 2, len(labels))))
