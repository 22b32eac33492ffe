"""A bug and its repair, trained with the same seeds, initial students, batches and teachers."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdnb import losses
from kdnb.course.bugs.bug import Bug, Outcome, Place, compiled, outcome_of
from kdnb.data.augmentation import TranslatedImages
from kdnb.environment import seeded
from kdnb.evaluation.metrics import accuracy
from kdnb.evaluation.statistics import Interval, mean_interval
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.results import Run
from kdnb.fingerprint import code_fingerprint
from kdnb.store.description import description, precision
from kdnb.store.store import digest, weights_digest
from kdnb.training.history import History
from kdnb.training.loop import fit, predict
from kdnb.training.objectives import Batch, LossTerms, Objective

TEMPERATURES = (16.0, 4.0, 1.0)  # of the sweep, in this order
# Curves of a trial by epoch; a sweep has other curves, by temperature.
TRAINING_LOSS = "reported training loss"
TO_TEACHER = "T² · KL to the teacher's true logits"
TO_LABELS = "cross-entropy with the true labels"
VALIDATION = "validation accuracy (%)"
STEPS = "training steps of the student so far"


@dataclass(frozen=True)
class Setting:
    """The settings that a bug and its repair share."""

    seeds: tuple[int, ...]
    temperature: float
    soft_weight: float


@dataclass(frozen=True)
class Trial:
    """One training by one version: ``score`` is the reported accuracy, in [0, 1].

    ``curves`` by name over ``x``, which is the epoch or the temperature.
    """

    score: float
    x: list[float]
    curves: dict[str, list[float]]
    history: History | None
    seconds: float


@dataclass(frozen=True)
class BugResult:
    """A bug and its repair over the same seeds."""

    bug: Bug
    broken: list[Trial]
    repaired: list[Trial]
    split: str
    images: int
    chance: float

    @property
    def difference(self) -> Interval:
        """Reported accuracy with the bug minus the accuracy without it, paired by seed."""
        pairs = zip(self.broken, self.repaired, strict=True)
        return mean_interval([wrong.score - right.score for wrong, right in pairs])

    @property
    def points(self) -> tuple[float, float, float]:
        """The difference in points, and the ends of its interval."""
        gap = self.difference
        return 100 * gap.mean, 100 * gap.low, 100 * gap.high

    @property
    def accuracies(self) -> tuple[float, float]:
        """Mean reported accuracy with the bug and without it."""
        both = (self.broken, self.repaired)
        broken, repaired = (sum(t.score for t in trials) / len(trials) for trials in both)
        return broken, repaired

    @property
    def outcome(self) -> Outcome:
        """The outcome that follows from the numbers."""
        return outcome_of(self.difference, self.accuracies[1], self.chance)


@dataclass(frozen=True, kw_only=True)
class FromFunction(Objective):
    """An objective made from a function of a batch's logits and rows."""

    function: Callable[[Tensor, Batch], LossTerms]

    def loss(self, logits: Tensor, rows: Batch) -> LossTerms:
        return self.function(logits, rows)


def run(lab: Experiment, bug: Bug, setting: Setting) -> BugResult:
    """Train both versions with every seed; trials in the run store are not trained again.

    Students are trained without the task's augmentation, so that snippets stay short. Raises
    ValueError for a task whose students are not trained as a whole.
    """
    if lab.task.distilled_config.first_trainable:
        raise ValueError(
            f"the bugs need students that are trained as a whole, and {lab.task.name} trains only "
            "the last stages: choose the task mnist-small"
        )
    broken, repaired = (
        [_stored_trial(lab, bug, source, seed, setting) for seed in setting.seeds]
        for source in (bug.source, bug.repaired)
    )
    split = "val" if bug.place == Place.SWEEP else "test"
    images = len(getattr(lab.dataset, split))
    return BugResult(bug, broken, repaired, split, images, chance=1 / lab.num_classes)


def _stored_trial(lab: Experiment, bug: Bug, source: str, seed: int, setting: Setting) -> Trial:
    """A trial from the run store, or trained now and stored."""
    stage = _Stage(lab, seed, setting)
    student = stage.new_student()
    address = {
        "engine": code_fingerprint("course/bugs/running.py"),
        "source": source,
        "place": bug.place.value,
        "seed": seed,
        "temperature": TEMPERATURES if bug.place == Place.SWEEP else setting.temperature,
        "soft_weight": setting.soft_weight,
        "recipe": asdict(stage.config),
        "student": [description(student), weights_digest(student)],
        "teacher": [stage.teacher.network, stage.teacher.weights],
        "precision": precision(),
        "splits": [s.fingerprint for s in (lab.transfer, lab.dataset.val, lab.dataset.test)],
    }
    key = f"bug-{digest(address)}"
    entry = lab.store.get(key)
    if entry:
        record = dict(entry.record["trial"])
        history = record.pop("history")
        return Trial(history=History.from_record(history) if history else None, **record)
    lab.store.require_writable()
    function = compiled(source)
    trial = stage.sweep(function) if bug.place == Place.SWEEP else stage.train(bug.place, function)
    score = torch.tensor([trial.score], dtype=torch.float64)
    lab.store.keep(key, {"score": score}, {"bug": bug.name, **address, "trial": asdict(trial)})
    return trial


class _Stage:
    """The inputs of a snippet: a teacher, its logits, and a student that the seed determines."""

    def __init__(self, lab: Experiment, seed: int, setting: Setting):
        self.lab, self.seed, self.setting = lab, seed, setting
        self.config = replace(lab.task.distilled_config, translate=0, dihedral=False, affine=0.0)
        self.teacher: Run = lab.teacher(seed)
        if self.teacher.history.interrupted:
            raise KeyboardInterrupt

    def new_student(self) -> nn.Module:
        """The untrained student of this seed."""
        with seeded(self.seed):
            return self.lab.task.student(num_classes=self.lab.num_classes, subclasses=1)

    @cached_property
    def logits(self) -> Tensor:
        """(N, C) logits of the teacher for the students' training images."""
        return self.lab.logits(self.teacher, self.lab.transfer)[0].to(self.lab.device)

    def train(self, place: Place, function: Callable) -> Trial:
        """A student trained with the snippet at its place, and its test accuracy."""
        student, test = self.new_student(), self.lab.dataset.test
        history = self._fit(student, self._loss(place, function, student))
        logits = predict(student, TranslatedImages(test.images), device=self.lab.device)
        epochs = history.validated.values()
        curves = {
            VALIDATION: [100 * epoch.val_accuracy for epoch in epochs],
            TRAINING_LOSS: [epoch.train_loss for epoch in epochs],
            TO_TEACHER: [epoch.soft_loss for epoch in epochs],
            TO_LABELS: [epoch.hard_loss for epoch in epochs],
        }
        score = accuracy(logits, test.labels)
        return Trial(score, list(history.validated), curves, history, history.seconds)

    def sweep(self, function: Callable) -> Trial:
        """A sweep by the snippet; its score is the accuracy of the last temperature."""
        steps, seconds = [], []

        def new_student() -> nn.Module:
            student = self.new_student()
            student.steps = 0
            return student

        def train(student: nn.Module, temperature: float) -> float:
            def loss(logits: Tensor, rows: Batch) -> Tensor:
                student.steps += 1
                return self._distillation(self.logits, logits, rows, temperature)

            history = self._fit(student, loss)
            steps.append(student.steps)
            seconds.append(history.seconds)
            return history.val_accuracy

        accuracies = function(new_student, train, TEMPERATURES)
        shares = [accuracies[t] for t in TEMPERATURES]
        curves = {VALIDATION: [100 * share for share in shares], STEPS: steps}
        return Trial(shares[-1], list(TEMPERATURES), curves, None, sum(seconds))

    def _fit(self, student: nn.Module, loss: Callable[[Tensor, Batch], Tensor]) -> History:
        """Train by ``loss``, and record the student's distance from teacher and labels as well."""

        def measured(logits: Tensor, rows: Batch) -> LossTerms:
            targets, t = self.logits[rows.index], self.setting.temperature
            with torch.no_grad():
                soft = losses.soft_target_loss(logits, targets, t)
                hard = F.cross_entropy(logits, rows.labels)
            return LossTerms(loss(logits, rows), hard, soft)

        lab = self.lab
        history = fit(
            student,
            lab.transfer,
            lab.dataset.val,
            self.config,
            self.seed,
            objective=FromFunction(function=measured),
            on_step=getattr(lab.watch, "step", None),
            device=lab.device,
        )
        if history.interrupted:
            raise KeyboardInterrupt
        return history

    def _loss(
        self, place: Place, function: Callable, student: nn.Module
    ) -> Callable[[Tensor, Batch], Tensor]:
        """The loss of a batch, with the snippet at its place and kdnb's own code elsewhere."""
        device, mix = self.lab.device, (self.setting.temperature, self.setting.soft_weight)
        if place == Place.LOSS:
            return lambda z, rows: function(z, rows.labels, self.logits[rows.index], *mix)
        if place == Place.INDEXED_LOSS:
            labels = self.lab.transfer.labels.to(device)
            return lambda z, rows: function(z, rows.index, labels, self.logits, *mix)
        images = TranslatedImages(self.lab.transfer.images).to(device)
        teacher = deepcopy(self.teacher.model).to(device).eval()  # the run keeps its own
        if place == Place.CACHED_LOGITS:
            every = torch.arange(len(images), device=device)
            with seeded(self.seed):
                cached = function(teacher, images.batch(every, torch.zeros_like(every)))
            return partial(self._distillation, cached)
        distiller = nn.ModuleDict({"student": student, "teacher": teacher})

        def live(z: Tensor, rows: Batch) -> Tensor:
            logits = function(distiller, images.batch(rows.index, rows.view))
            return losses.distillation_loss(z, rows.labels, logits, *mix).total

        return live

    def _distillation(
        self, cached: Tensor, logits: Tensor, rows: Batch, temperature: float | None = None
    ) -> Tensor:
        """kdnb's own loss, from logits of the teacher that were computed once."""
        mix = temperature or self.setting.temperature, self.setting.soft_weight
        return losses.distillation_loss(logits, rows.labels, cached[rows.index], *mix).total
