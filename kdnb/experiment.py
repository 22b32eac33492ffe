"""Train methods over seeds, keep what was trained, and compare it fairly.

This is where the other modules meet: data and task on one side, training, store and metrics on the
other. The same seed gives every method the same initial student, the same batches in the same
order and the same teacher, so differences between methods are paired by seed.
"""

import ast
import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache, cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from kdnb import losses
from kdnb.data import Dataset, Split
from kdnb.data.views import shift_offsets
from kdnb.environment import best_device, provenance, seeded
from kdnb.methods import Method
from kdnb.metrics import Interval, accuracy, mean_interval
from kdnb.objectives import LABELS, Objective
from kdnb.store import Store, StoreError, digest, weights_digest
from kdnb.tasks import Division, Recipe, Task
from kdnb.training import Epoch, History, fit, predict

# The modules whose code decides what a training run gives.
ENGINE = ("data/views.py", "losses.py", "models.py", "objectives.py", "training.py")


@dataclass(frozen=True)
class Run:
    """One trained model: ``loaded`` from the store or trained just now, as ``provenance`` says."""

    label: str
    seed: int
    model: nn.Module
    history: History
    provenance: dict[str, str]
    loaded: bool

    @cached_property
    def weights(self) -> str:
        """Digest of the trained weights."""
        return weights_digest(self.model)


@dataclass(frozen=True)
class Update:
    """What a watcher is told: run ``number`` of ``total`` now stands as in ``history``."""

    label: str
    seed: int
    number: int
    total: int
    history: History
    epochs: int
    loaded: bool = False

    @property
    def run_finished(self) -> bool:
        """Whether this run needs no more epochs."""
        return self.loaded or len(self.history.epochs) == self.epochs


@dataclass(frozen=True)
class Comparison:
    """Accuracies of several methods over the same seeds on one split.

    ``accuracies``: (methods, seeds) float64 in [0, 1]. ``interrupted`` says that seeds are missing
    because training was stopped. ``dataset`` is its name.
    """

    labels: tuple[str, ...]
    seeds: tuple[int, ...]
    split: str
    images: int
    accuracies: Tensor
    runs: dict[str, list[Run]]
    interrupted: bool = False
    dataset: str = ""

    def accuracy(self, label: str) -> Tensor:
        """(seeds,) accuracies of one method."""
        return self.accuracies[self.labels.index(label)]

    def mean(self, label: str) -> Interval:
        """Mean accuracy of one method over the seeds."""
        return mean_interval(self.accuracy(label).tolist())

    def gain(self, label: str, over: str) -> Interval:
        """Paired difference of two methods' accuracies, seed by seed."""
        return mean_interval((self.accuracy(label) - self.accuracy(over)).tolist())


class Experiment:
    """A task with its dataset, its run store and the device: everything is trained through here.

    What the store already holds is loaded; what it lacks is trained and stored. ``watch`` is called
    with an `Update` after every epoch, for every run that was loaded and for one that was stopped.
    """

    def __init__(
        self,
        task: Task,
        *,
        store: Store | None = None,
        watch: Callable[[Update], None] | None = None,
        device: torch.device | None = None,
    ):
        self.task = task
        self.dataset: Dataset = task.load()
        self.transfer: Split = task.transfer_set(self.dataset)
        self.store = store or Store()
        self.watch = watch
        self.device = device or best_device()
        self._teachers: dict[tuple[int, Division | None], Run] = {}

    @property
    def num_classes(self) -> int:
        """How many classes the task's labels tell apart."""
        return len(self.dataset.class_names)

    def teacher(self, seed: int, division: Division | None = None, *, retrain: bool = False) -> Run:
        """The task's teacher for this seed; ``retrain`` trains it again even if it is stored.

        With a ``division`` it has subclasses and is trained as that says.
        """
        if not retrain and (seed, division) in self._teachers:
            return self._teachers[seed, division]
        objective = division.objective if division else LABELS
        run = self._train(
            "teacher",
            self.task.teacher,
            seed,
            self.dataset.train,
            division.recipe if division else self.task.teacher_recipe,
            objective,
            retrain=retrain,
        )
        if not run.history.interrupted:
            self._teachers[seed, division] = run
        return run

    def student(self, method: Method, seed: int, *, number: int = 1, total: int = 1) -> Run:
        """A student trained by ``method``, with the teacher of the same seed where it has one.

        ``number`` and ``total`` only tell the watcher where this run stands among others. A teacher
        that Ctrl-C stopped half-way teaches nobody: KeyboardInterrupt goes on.
        """
        teacher, objective = None, LABELS
        if method.temperature is not None:
            teacher = self.teacher(seed, method.division)
            if teacher.history.interrupted:
                raise KeyboardInterrupt
            soft_targets = self.logits(teacher, self.transfer, self.task.student_recipe.shift)
            objective = method.objective(soft_targets, self.num_classes)
        return self._train(
            method.label,
            self.task.student,
            seed,
            self.transfer,
            self.task.student_recipe,
            objective,
            teacher=teacher,
            number=number,
            total=total,
        )

    def logits(self, run: Run, split: Split, shift: int = 0) -> Tensor:
        """A model's logits (views, N, C) for every view of ``split``; computed once, then stored.

        The key is made from the model's weights, the split's fingerprint and the view, so other
        weights or other images never get these answers.
        """
        return torch.stack([self._view_logits(run, split, o) for o in shift_offsets(shift)])

    def class_logits(self, run: Run, split: Split) -> Tensor:
        """(N, C) class logits on ``split``, whether or not the model has subclasses."""
        return losses.class_logits(self.logits(run, split)[0], self.num_classes)

    def test_logits(self, run: Run) -> Tensor:
        """(N, C) class logits on the test split: for the final comparison, never for a choice."""
        return self.class_logits(run, self.dataset.test)

    def compare(
        self, methods: Sequence[Method], seeds: Sequence[int], *, split: str = "test"
    ) -> Comparison:
        """Train every method with every seed and measure accuracy on ``split``.

        Use ``split="val"`` for whatever a choice is made from. Stopped by Ctrl-C, it returns the
        seeds that every method has finished.
        """
        if len({method.label for method in methods}) != len(methods):
            raise ValueError(f"methods need distinct labels, got {[m.label for m in methods]}")
        if len(set(seeds)) != len(seeds) or not seeds:
            raise ValueError(f"give at least one seed and each only once, got {list(seeds)}")
        part: Split = getattr(self.dataset, split)
        runs: dict[str, list[Run]] = {method.label: [] for method in methods}
        columns, interrupted = [], False
        try:
            for i, seed in enumerate(seeds):
                finished = []
                for j, method in enumerate(methods):
                    number = i * len(methods) + j + 1
                    total = len(methods) * len(seeds)
                    run = self.student(method, seed, number=number, total=total)
                    if run.history.interrupted:
                        raise KeyboardInterrupt
                    finished.append((run, accuracy(self.class_logits(run, part), part.labels)))
                for method, (run, _) in zip(methods, finished, strict=True):
                    runs[method.label].append(run)
                columns.append([value for _, value in finished])
        except KeyboardInterrupt:
            interrupted = True
        return Comparison(
            labels=tuple(method.label for method in methods),
            seeds=tuple(seeds[: len(columns)]),
            split=split,
            images=len(part),
            accuracies=torch.tensor(columns, dtype=torch.float64).reshape(-1, len(methods)).T,
            runs=runs,
            interrupted=interrupted,
            dataset=self.dataset.name,
        )

    def _train(
        self,
        label: str,
        architecture: Callable[..., nn.Module],
        seed: int,
        train: Split,
        recipe: Recipe,
        objective: Objective,
        *,
        teacher: Run | None = None,
        number: int = 1,
        total: int = 1,
        retrain: bool = False,
    ) -> Run:
        """Load the run that these arguments determine, or train and store it."""
        with seeded(seed):
            model = architecture(num_classes=self.num_classes, subclasses=objective.subclasses)
        settings = {
            "engine": engine_fingerprint(),
            "architecture": repr(model),
            "initial_weights": weights_digest(model),
            "train": train.fingerprint,
            "val": self.dataset.val.fingerprint,
            "recipe": asdict(recipe),
            "seed": seed,
            "objective": _described(objective, teacher),
        }
        key = f"run-{digest(settings)}"

        def tell(history: History, loaded: bool = False) -> None:
            if self.watch is not None:
                self.watch(Update(label, seed, number, total, history, recipe.epochs, loaded))

        entry = None if retrain else self.store.get(key)
        if entry is not None:
            model.load_state_dict(entry.tensors)
            model.eval()
            history = _history_from(entry.record["history"])
            tell(history, loaded=True)
            return Run(label, seed, model, history, entry.record["provenance"], loaded=True)

        self.store.require_writable()
        history = fit(
            model,
            train,
            self.dataset.val,
            recipe,
            seed,
            objective=objective,
            on_epoch=tell,
            device=self.device,
        )
        origin = provenance(self.device)
        if history.interrupted:
            tell(history)
        else:
            record = {
                "label": label,
                "task": self.task.name,
                "settings": settings,
                "history": asdict(history),
                "provenance": origin,
            }
            self._keep(key, model.state_dict(), record)
        return Run(label, seed, model, history, origin, loaded=False)

    def _view_logits(self, run: Run, split: Split, offset: tuple[int, int]) -> Tensor:
        address = {"weights": run.weights, "images": split.fingerprint, "offset": list(offset)}
        key = f"logits-{digest({'engine': engine_fingerprint(), **address})}"
        entry = self.store.get(key)
        if entry is not None:
            return entry.tensors["logits"]
        logits = predict(run.model, split.images, offset=offset, device=self.device)
        self._keep(key, {"logits": logits}, address)
        return logits

    def _keep(self, key: str, tensors: dict[str, Tensor], record: dict) -> None:
        """Store finished work; if that fails now, the work in memory still counts."""
        try:
            self.store.put(key, {n: t.detach().cpu() for n, t in tensors.items()}, record)
        except StoreError as error:
            warnings.warn(f"finished, but not kept: {error}", stacklevel=3)


@cache
def engine_fingerprint() -> str:
    """Digest of the code that decides what a run gives; comments and layout do not count."""
    total = hashlib.sha256()
    for name in ENGINE:
        source = (Path(__file__).parent / name).read_text(encoding="utf-8")
        total.update(ast.dump(ast.parse(source)).encode())
    return total.hexdigest()[:12]


def _described(objective: Objective, teacher: Run | None) -> dict:
    """An objective as JSON can hold it; a teacher's weights stand for its answers."""
    about = {f.name: getattr(objective, f.name) for f in fields(objective)}
    about.pop("teacher_logits", None)
    kind = {"kind": type(objective).__name__, "teacher": teacher and teacher.weights}
    return kind | {name: float(value) for name, value in about.items()}


def _history_from(record: dict) -> History:
    epochs = [Epoch(**epoch) for epoch in record["epochs"]]
    return History(epochs, record["best"], record["interrupted"])
