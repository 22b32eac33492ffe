"""Train methods over seeds, store the models, and compare the methods.

This is where the other modules meet: data and task on one side, training, store and metrics on the
other. The same seed gives every method the same initial student, the same batches in the same
order and the same teacher, so differences between methods are paired by seed.
"""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn

from kdnb import losses
from kdnb.data import Dataset, Split
from kdnb.environment import best_device, provenance, seeded
from kdnb.experiment.logit_cache import LogitCache
from kdnb.experiment.methods import Method, check_seed, check_seeds
from kdnb.experiment.requests import MissingRun, PreparedRun, RunRequest, group_key
from kdnb.experiment.results import Comparison, Run, Update
from kdnb.experiment.stored_runs import StoredRuns
from kdnb.models import StagedNetwork
from kdnb.store.store import Store
from kdnb.tasks.config import SubclassConfig, Task
from kdnb.tasks.custom import CustomTask
from kdnb.training.config import TrainConfig
from kdnb.training.history import History
from kdnb.training.loop import TrainingDivergedError, fit
from kdnb.training.objectives import LABELS
from kdnb.training.stacked import NotVectorizableError
from kdnb.training.vectorized import at_once, fit_vectorized, fits


class Experiment:
    """A task with its dataset, its run store and the device, which trains all models.

    Stored runs are loaded; others are trained and stored. A training that was stopped or killed
    resumes from its last checkpoint when the run is requested again.

    ``watch`` is called with an `Update` before the first epoch and after every one, and for every
    run that was loaded or stopped. Its method ``step``, if any, is called after every step with
    the number of images. Either stops training by raising KeyboardInterrupt.
    """

    def __init__(
        self,
        task: Task | CustomTask,
        *,
        store: Store | None = None,
        watch: Callable[[Update], None] | None = None,
        device: torch.device | None = None,
    ):
        self.dataset: Dataset = task.load()
        self.task: Task = task.resolved(self.dataset)
        self.transfer: Split = self.task.transfer_set(self.dataset)
        self.device = device or best_device()
        self.logit_cache = LogitCache(store or Store(), self.device)
        self._use(self.logit_cache.store, watch)

    def _use(self, store: Store, watch: Callable[[Update], None] | None) -> None:
        self.store, self.watch = store, watch
        self.logit_cache = copy(self.logit_cache)  # which goes on with the features in memory
        self.logit_cache.store = store
        self._stored = StoredRuns(store, self.task.name, self.dataset.val, self.device)
        self._teachers: dict[RunRequest, Run] = {}

    def with_store(
        self, store: Store, watch: Callable[[Update], None] | None = None
    ) -> "Experiment":
        """The same task and data with another run store and watcher."""
        other = copy(self)
        other._use(store, watch)
        return other

    def with_student(self, student: Callable[..., nn.Module], **changes: object) -> "Experiment":
        """The same experiment, its teachers included; ``changes`` are made to students' configs."""
        other = copy(self)
        other.task = self.task.with_student(student, **changes)
        return other

    @property
    def num_classes(self) -> int:
        """The number of classes of the task's labels."""
        return len(self.dataset.class_names)

    @property
    def origins(self) -> dict[str, str]:
        """The origin of initial weights, for networks that do not start from random ones."""
        networks = {"teacher": self.task.teacher, "student": self.task.student}
        models = {role: make(num_classes=self.num_classes) for role, make in networks.items()}
        return {role: m.origin for role, m in models.items() if isinstance(m, StagedNetwork)}

    # Ask for runs

    def teacher(
        self, seed: int, subclass_config: SubclassConfig | None = None, *, retrain: bool = False
    ) -> Run:
        """The task's teacher for this seed; ``retrain`` trains it again even if it is stored.

        With a ``subclass_config`` it has subclasses and is trained by this config.
        """
        return self.run(RunRequest(seed, subclass_config=subclass_config), retrain=retrain)

    def student(self, method: Method, seed: int) -> Run:
        """A student trained by ``method``, with the teacher of the same seed where it has one.

        Raises KeyboardInterrupt if Ctrl-C stopped this teacher before its end.
        """
        return self.run(RunRequest(seed, method))

    def run(
        self, request: RunRequest, *, place: tuple[int, int] = (1, 1), retrain: bool = False
    ) -> Run:
        """The requested student or teacher; ``place`` is its number and the total."""
        if request in self._teachers and not retrain:
            return self._teachers[request]
        run = self._train(self._prepare(request), place, retrain=retrain)
        if request.method is None and not run.history.interrupted:
            self._teachers[request] = run
        return run

    def key(self, request: RunRequest) -> str:
        """Under which key the first stage of the run is stored; its teacher must be there."""
        return self._prepare(request).key

    def pending(self, request: RunRequest, device: torch.device | None = None) -> MissingRun | None:
        """The description of a run before it is trained on ``device``; None if it is stored.

        None too if the store could not hold the run, which is then trained where it is requested.
        The teacher of a student must be stored.
        """
        prepared = self._prepare(request)
        run = self._train(prepared, only_load=True) if prepared.key else None
        if run and request.method is None:
            self._teachers[request] = run
        if run or not prepared.key:
            return None
        size = at_once(prepared.model, device or self.device)
        joins = size > 1 and self._joins(prepared)
        return MissingRun(request, prepared.key, prepared.architecture if joins else None, size)

    # Train one run

    def _prepare(self, request: RunRequest) -> PreparedRun:
        """The start of a run; its teacher is loaded or trained."""
        check_seed(request.seed)
        teacher = request.teacher and self.run(request.teacher)
        if teacher and teacher.history.interrupted:
            raise KeyboardInterrupt
        task, divided = self.task, request.subclass_config
        if request.method:
            network, train, objective = task.student, self.transfer, request.method.objective
            config = task.distilled_config if teacher else task.student_config
        else:
            network, train = task.teacher, self.dataset.train
            config = divided.train_config if divided else task.teacher_config
            objective = divided.objective if divided else LABELS
        if task.balanced:  # N / (classes · images of the class): every class counts the same
            counts = torch.bincount(train.labels, minlength=self.num_classes)
            weights = len(train) / (self.num_classes * counts)
            objective = replace(objective, class_weights=tuple(weights.tolist()))
        with seeded(request.seed):
            model = network(num_classes=self.num_classes, subclasses=objective.subclasses)
        run = PreparedRun(request, model, objective, config, train, teacher)
        return run.addressed(self.dataset.val)

    def _train(
        self, run: PreparedRun, place: tuple[int, int] = (1, 1),
        *, retrain: bool = False, only_load: bool = False,
    ) -> Run | None:  # fmt: skip
        """Load the stored stages of a run; train and store the others, one after the other.

        With ``only_load`` nothing is trained or reported, and the result is None if not stored.
        """
        label, seed, network = run.request.label, run.request.seed, run.settings.get("network", "")
        history, keys, loaded = History(), [], True
        update = Update(label, seed, *place, history, run.config.total_epochs)
        while True:
            entry = None if retrain else self._stored.load(run)
            if entry is None and only_load:
                return None
            if entry:
                stage = History.from_record(entry.record["history"])
                origin = entry.record["provenance"]
                update = replace(update, continued=len(history.epochs) + len(stage.epochs))
            else:
                loaded, options = False, self._stored.checkpoints(run)
                if resume := options["resume"]:
                    continued = len(history.epochs) + len(resume.history.epochs)
                    update = replace(update, continued=continued)
                stage = self._fit(run, on_epoch=partial(self._tell, update, history), **options)
                origin = provenance(self.device)
                if run.key and not stage.interrupted:
                    self._stored.keep(run, stage, origin)
            history = history.followed_by(stage)
            keys.append(run.key)
            if history.interrupted or run.config.next_stage is None:
                break
            run = replace(run, config=run.config.next_stage).addressed(self.dataset.val)
        if (loaded and not only_load) or history.interrupted:
            self._tell(replace(update, loaded=loaded, origin=origin), History(), history)
        keys, trained_from = tuple(filter(None, keys)), run.config.first_trainable
        return Run(label, seed, run.model, history, origin, loaded, trained_from, keys, network)

    def _fit(self, run: PreparedRun, **options: object) -> History:
        """Train one stage of a run, after computing teacher's logits and frozen features."""
        val, objective, features = self.dataset.val, run.objective, None
        if run.teacher:
            objective = replace(objective, teacher_logits=self._teacher_logits(run))
        if run.config.first_trainable:
            stages = [stage for stage in run.config.trained_stages if stage]
            first = min(len(run.model.split(stage)[0]) for stage in stages)
            frozen, _ = run.model.split(run.config.first_trainable)
            features = tuple(
                self.logit_cache.features(frozen, split, config, first)
                for split, config in ((run.train, run.config), (val, None))
            )
        return fit(
            run.model, run.train, val, run.config, run.request.seed,
            objective=objective, features=features, on_step=getattr(self.watch, "step", None),
            device=self.device, **options,
        )  # fmt: skip

    def _teacher_logits(self, run: PreparedRun) -> Tensor:
        """(views, N, outputs) logits that a student matches, in the views that it sees."""
        logits = self.logits(run.teacher, run.train, run.config)
        return run.request.method.matched(logits, run.train.labels, self.num_classes)

    def _tell(self, update: Update, before: History, history: History) -> None:
        """Call the watcher, with the epochs that were there ``before``."""
        if self.watch is not None:
            self.watch(replace(update, history=before.followed_by(history)))

    # Train many students at once

    def train_ahead(self, requests: Sequence[RunRequest]) -> None:
        """Train the students that will be requested, as many at once as is fastest.

        Each is stored as if it had been trained alone, and differs only by rounding. Students that
        do not suit `kdnb.training.vectorized` are left to `compare`. Stopped or killed, a group
        resumes with the same students in the same places: on the CPU, bit for bit.
        """
        self.store.require_writable()
        begun = self._stored.groups()
        members = {key for keys in begun for key in keys}
        prepared = map(self._prepare, requests)
        ready = {run.key: run for run in prepared if run.key in members or self._joins(run)}
        for keys in begun:
            if all(key in ready for key in keys):
                self._train_group([ready.pop(key) for key in keys])
        joining = list(filter(self._joins, ready.values()))
        for architecture in dict.fromkeys(run.architecture for run in joining):
            group = [run for run in joining if run.architecture == architecture]
            size = at_once(group[0].model, self.device)
            for first in range(0, len(group) if size > 1 else 0, size):
                self._train_group(group[first : first + size])

    def _joins(self, run: PreparedRun) -> bool:
        """Whether a run needs training, and can be trained with others."""
        begun = self.store.has(run.key) or self.store.has(f"part-{run.key}")
        alone = not run.key or begun or run.config.next_stage
        return not alone and fits(run.model, run.config, run.objective)

    def _train_group(self, group: Sequence[PreparedRun]) -> None:
        """Train students as one batched model, and store them."""
        first, members = group[0], [run.key for run in group]
        options = self._stored.checkpoints(first, members)
        label = f"{len(group)} students together, the first of them {first.request.label}"
        update = Update(label, first.request.seed, 1, 1, History(), first.config.epochs)
        if resume := options["resume"]:
            update = replace(update, continued=len(resume.history[0].epochs))
        objectives, logits = [], {}  # one tensor for all students that match the same
        for run in group:
            source = run.request.teacher, run.objective.subclasses, run.request.method.soft_targets
            if run.teacher and source not in logits:
                logits[source] = self._teacher_logits(run)
            matched = {"teacher_logits": logits[source]} if run.teacher else {}
            objectives.append(replace(run.objective, **matched))
        try:
            histories = fit_vectorized(
                [run.model for run in group], first.train, self.dataset.val, first.config,
                [run.request.seed for run in group], objectives,
                on_epoch=lambda histories: self._tell(update, History(), histories[0]),
                on_step=getattr(self.watch, "step", None), device=self.device, **options,
            )  # fmt: skip
        except (NotVectorizableError, TrainingDivergedError):
            self.store.remove(group_key(members))
            return  # they are trained alone, where only the one that diverges will fail
        if histories[0].interrupted:
            raise KeyboardInterrupt
        origin, kept = provenance(self.device), True
        for run, history in zip(group, histories, strict=True):
            if not self.store.has(run.key):
                kept &= self._stored.keep(run, history, origin, len(group))
        if kept:
            self.store.remove(group_key(members))

    # Predictions, and comparisons of methods

    def logits(self, run: Run, split: Split, config: TrainConfig | None = None) -> Tensor:
        """(views, N, outputs) logits for every view in which ``config`` shows ``split``.

        Without a config, one view: the images as they are. Computed once, then stored.
        """
        return self.logit_cache.logits(run, split, config)

    def class_logits(self, run: Run, split: Split) -> Tensor:
        """(N, C) class logits on ``split``, for models with and without subclasses."""
        return losses.class_logits(self.logits(run, split)[0], self.num_classes)

    def test_logits(self, run: Run) -> Tensor:
        """(N, C) class logits on the test split: for the final comparison, never for a choice."""
        return self.class_logits(run, self.dataset.test)

    def correct(self, runs: Sequence[Run], split: Split) -> Tensor:
        """(runs, N) bool: which images of ``split`` each classifies correctly."""
        answers = [self.class_logits(run, split).argmax(1).cpu() for run in runs]
        return torch.stack([*answers, split.labels])[:-1] == split.labels

    def compare(
        self, methods: Sequence[Method], seeds: Sequence[int], *, split: str = "test"
    ) -> Comparison:
        """Train every method with every seed and compare their predictions on ``split``.

        Use ``split="val"`` for choices. Stopped by Ctrl-C, it returns the seeds that all finished.
        """
        labels = tuple(method.label for method in methods)
        if len(set(labels)) != len(labels):
            raise ValueError(f"methods need distinct labels, got {labels}")
        check_seeds(seeds)
        part: Split = getattr(self.dataset, split)
        runs, correct = ({label: [] for label in labels} for _ in range(2))
        total, interrupted = len(seeds) * len(methods), False
        try:
            for number, (seed, method) in enumerate(product(seeds, methods), 1):
                run = self.run(RunRequest(seed, method), place=(number, total))
                if run.history.interrupted:
                    raise KeyboardInterrupt
                correct[method.label].append(self.correct([run], part))
                runs[method.label].append(run)
        except KeyboardInterrupt:
            interrupted = True
        whole = min(map(len, runs.values()))  # seeds that every method has finished
        runs = {label: of[:whole] for label, of in runs.items()}
        empty, name = self.correct([], part), self.dataset.name
        table = torch.stack([torch.cat([empty, *of[:whole]]) for of in correct.values()])
        return Comparison(labels, tuple(seeds[:whole]), split, table, runs, interrupted, name)
