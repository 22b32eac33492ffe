"""Train methods over seeds, keep what was trained, and compare it fairly.

This is where the other modules meet: data and task on one side, training, store and metrics on the
other. The same seed gives every method the same initial student, the same batches in the same
order and the same teacher, so differences between methods are paired by seed.
"""

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import asdict, replace
from functools import partial

import torch
from torch import Tensor, nn

from kdnb import losses
from kdnb.data import Dataset, Split
from kdnb.data.augmentation import TranslatedImages
from kdnb.environment import best_device, provenance, seeded
from kdnb.evaluation.metrics import accuracy
from kdnb.experiment.logit_cache import LogitCache
from kdnb.experiment.methods import Method, check_seed, check_seeds
from kdnb.experiment.requests import (
    Job,
    MissingRun,
    PreparedRun,
    RunRequest,
    address,
    balancing,
    group_key,
)
from kdnb.experiment.results import Comparison, Run, Update
from kdnb.fingerprint import code_fingerprint
from kdnb.models import StagedNetwork
from kdnb.store.description import UndescribedError
from kdnb.store.store import Entry, Store, StoreError
from kdnb.tasks.config import SubclassConfig, Task
from kdnb.training.checkpoint import Checkpoint, CheckpointThrottle, copied
from kdnb.training.config import TrainConfig
from kdnb.training.history import History
from kdnb.training.loop import TrainingDivergedError, fit, predict
from kdnb.training.objectives import LABELS, Objective, TeacherObjective
from kdnb.training.vectorized import NotVectorizableError, at_once, fit_vectorized, fits

PROBE = 2  # validation images that a stored run must answer as it did when it was stored


class Experiment:
    """A task with its dataset, its run store and the device: everything is trained through here.

    What the store already holds is loaded; what it lacks is trained and stored. A training that was
    stopped or killed goes on from its last checkpoint when it is asked for again. A run is loaded
    only if its network answers as it did when it was stored. Runs of networks that cannot be told
    apart (`kdnb.store.description`) are neither loaded nor kept, and a warning says why.

    ``watch`` is called with an `Update` before the first epoch and after every one, for every run
    that was loaded and for one that was stopped. If it has a method ``step``, that is called after
    every step with the number of its images. Either stops training by raising KeyboardInterrupt.
    """

    def __init__(
        self,
        task: Task,
        *,
        store: Store | None = None,
        watch: Callable[[Update], None] | None = None,
        device: torch.device | None = None,
    ):
        self.dataset: Dataset = task.load()
        self.task = task.fitted(self.dataset)
        self.transfer: Split = self.task.transfer_set(self.dataset)
        self.store = store or Store()
        self.watch = watch
        self.device = device or best_device()
        self.answers = LogitCache(self.store, self.device)
        self._teachers: dict[tuple[int, SubclassConfig | None], Run] = {}
        self._probed: set[str] = set()

    @property
    def num_classes(self) -> int:
        """How many classes the task's labels tell apart."""
        return len(self.dataset.class_names)

    @property
    def origins(self) -> dict[str, str]:
        """Where the weights come from of those networks that are not trained from the start."""
        networks = {"teacher": self.task.teacher, "student": self.task.student}
        models = {role: make(num_classes=self.num_classes) for role, make in networks.items()}
        return {role: m.origin for role, m in models.items() if isinstance(m, StagedNetwork)}

    def with_student(self, student: Callable[..., nn.Module], config: TrainConfig) -> "Experiment":
        """The same experiment, its teachers included, with another student and config."""
        other = copy(self)
        other.task = replace(self.task, student=student, student_config=config)
        return other

    def with_store(
        self, store: Store, watch: Callable[[Update], None] | None = None
    ) -> "Experiment":
        """The same task and data with another run store and watcher."""
        other = copy(self)
        other.store, other.watch, other._teachers, other._probed = store, watch, {}, set()
        other.answers = copy(self.answers)
        other.answers.store = store
        return other

    def teacher(
        self, seed: int, subclass_config: SubclassConfig | None = None, *, retrain: bool = False
    ) -> Run:
        """The task's teacher for this seed; ``retrain`` trains it again even if it is stored.

        With a ``subclass_config`` it has subclasses and is trained as that says.
        """
        if not retrain and (seed, subclass_config) in self._teachers:
            return self._teachers[seed, subclass_config]
        run = self._train(replace(self._teacher_job(seed, subclass_config), retrain=retrain))
        if not run.history.interrupted:
            self._teachers[seed, subclass_config] = run
        return run

    def student(self, method: Method, seed: int, *, number: int = 1, total: int = 1) -> Run:
        """A student trained by ``method``, with the teacher of the same seed where it has one.

        ``number`` and ``total`` only tell the watcher where this run stands among others. A teacher
        that Ctrl-C stopped half-way teaches nobody: KeyboardInterrupt goes on.
        """
        return self._train(self._student_job(method, seed, number, total))

    def run(self, wanted: RunRequest) -> Run:
        """The `student` or `teacher` that is wanted."""
        if wanted.method is None:
            return self.teacher(wanted.seed, wanted.subclass_config)
        return self.student(wanted.method, wanted.seed)

    def pending(self, wanted: RunRequest, device: torch.device | None = None) -> MissingRun | None:
        """What is known of a run before it is trained on ``device``; None if the store holds it.

        None too if the store could not keep it: then it is trained where it is asked for. The
        teacher of a student must be there.
        """
        job = self._job(wanted)
        run = self._train(job, only_load=True)
        if run is None:
            one = self._waiting(job)
            if not one.key:
                return None
            size = at_once(one.model, device or self.device)
            alike = one.alike if size > 1 and self._joins(one) else None
            return MissingRun(wanted, one.key, alike, size)
        if wanted.method is None:
            self._teachers[wanted.seed, wanted.subclass_config] = run
        return None

    def key(self, wanted: RunRequest) -> str:
        """Under which key the run of its first config is stored; its teacher must be there."""
        return self._waiting(self._job(wanted)).key

    def train_ahead(self, wanted: Sequence[RunRequest]) -> None:
        """Train those students that will be asked for, as many at once as pays.

        Each is stored as if it had been trained alone, from which only rounding tells it. What is
        stored already, and what does not fit `kdnb.training.vectorized`, is left for `compare`.
        Stopped or
        killed, those that were under way go on together: the same students in the same places, and
        so, on the CPU, with the same result to the bit.
        """
        self.store.require_writable()
        begun = self._begun()
        members = {key for entry in begun.values() for key in entry.record["members"]}
        ready: dict[str, PreparedRun] = {}
        for each in wanted:
            one = self._waiting(self._job(each))
            if not one.key:
                continue
            if one.key in members or self._joins(one):
                ready[one.key] = one
        for name, entry in begun.items():
            keys = entry.record["members"]
            if all(key in ready for key in keys):
                self._train_together(name, [ready.pop(key) for key in keys], entry)
        waiting: dict[tuple, list[PreparedRun]] = {}
        for one in ready.values():
            if self._joins(one):
                waiting.setdefault(one.alike, []).append(one)
        for group in waiting.values():
            size = at_once(group[0].model, self.device)
            for first in range(0, len(group) if size > 1 else 0, size):
                some = group[first : first + size]
                self._train_together(group_key([one.key for one in some]), some)

    def _begun(self) -> dict[str, Entry]:
        """By key, what is stored of students whose training together did not end."""
        entries = {key: self.store.get(key) for key in self.store.names("part-together-")}
        return {k: e for k, e in entries.items() if e and k == group_key(e.record["members"])}

    def _train_together(
        self, name: str, group: Sequence[PreparedRun], begun: Entry | None = None
    ) -> None:
        job = group[0].job
        label = f"{len(group)} students together, the first of them {job.label}"
        shown = replace(job, label=label)
        about = {"members": [one.key for one in group], "engine": code_fingerprint()}
        if begun is None:
            # Killed before there is a checkpoint, they are trained in the same group again.
            with suppress(StoreError):  # whoever wants to keep more is told
                self.store.put(name, {}, about)
        resume = None
        if begun and "history" in begun.record:
            resume = Checkpoint.from_entry(begun)
        tell = partial(self._tell, shown, continued=len(resume.history[0].epochs) if resume else 0)
        keep = partial(self._keep, shown, name, about)
        objectives, answers = [], {}  # one tensor of answers for all who hear the same
        for one in group:
            objective = one.objective
            if isinstance(objective, TeacherObjective):
                source = (one.job.seed, one.job.method.subclass_config, one.job.method.match)
                if source not in answers:
                    informed = self._informed(one.job, objective, one.job.config)
                    answers[source] = informed.teacher_logits
                objective = replace(objective, teacher_logits=answers[source])
            objectives.append(objective)
        try:
            histories = fit_vectorized(
                [one.model for one in group],
                self.transfer,
                self.dataset.val,
                job.config,
                [one.job.seed for one in group],
                objectives,
                on_epoch=lambda histories: tell(histories[0]),
                on_step=getattr(self.watch, "step", None),
                on_checkpoint=CheckpointThrottle(keep),
                on_stop=keep,
                resume=resume,
                device=self.device,
            )
        except (NotVectorizableError, TrainingDivergedError):
            self.store.remove(name)
            return  # they are trained alone, where only the one that diverges will fail
        origin = provenance(self.device)
        kept = True
        for one, history in zip(group, histories, strict=True):
            if history.interrupted:
                raise KeyboardInterrupt
            if not self.store.has(one.key):
                kept &= self._store(
                    one.job, one.key, one.settings, one.model, one.model, history, origin,
                    together=len(group),
                )  # fmt: skip
        if kept:
            self.store.remove(name)

    def _waiting(self, job: Job) -> PreparedRun:
        model, objective = self._start(job)
        return PreparedRun(job, model, objective, *self._address(job, model, job.config, objective))

    def _joins(self, one: PreparedRun) -> bool:
        """Whether it is to be trained, and can be with others."""
        stored = any(self.store.has(name) for name in (one.key, f"part-{one.key}"))
        config = one.job.config
        return not stored and not config.next_stage and fits(one.model, config, one.objective)

    def _job(self, wanted: RunRequest) -> Job:
        if wanted.method is None:
            return self._teacher_job(wanted.seed, wanted.subclass_config)
        return self._student_job(wanted.method, wanted.seed)

    def _teacher_job(self, seed: int, subclass_config: SubclassConfig | None) -> Job:
        return Job(
            "teacher",
            self.task.teacher,
            seed,
            self.dataset.train,
            subclass_config.train_config if subclass_config else self.task.teacher_config,
            subclass_config.objective if subclass_config else LABELS,
        )

    def _student_job(self, method: Method, seed: int, number: int = 1, total: int = 1) -> Job:
        teacher = None
        if method.temperature is not None:
            teacher = self.teacher(seed, method.subclass_config)
            if teacher.history.interrupted:
                raise KeyboardInterrupt
        return Job(
            method.label,
            self.task.student,
            seed,
            self.transfer,
            self.task.student_config,
            method.objective(),
            method,
            teacher,
            number,
            total,
        )

    def logits(self, run: Run, split: Split, config: TrainConfig | None = None) -> Tensor:
        """A model's logits (views, N, outputs) for every view in which ``config`` shows ``split``.

        Without a config, one view: the images as they are. Computed once, then stored.
        """
        return self.answers.logits(run, split, config)

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
        check_seeds(seeds)
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

    def _train(self, job: Job, only_load: bool = False) -> Run | None:
        """Load the run that the job determines, or train and store it, config after config.

        With ``only_load`` nothing is trained or told, and None stands for what is not stored.
        """
        model, objective = self._start(job)
        history, loaded, config, network = History(), True, job.config, ""
        keys = []
        continued = 0  # how many of the epochs were there before
        while config and not history.interrupted:
            part = model.split(config.first_trainable)[1] if config.first_trainable else model
            key, settings = self._address(job, model, config, objective)
            network = network or settings.get("network", "")
            keys += [key] if key else []
            entry = None if job.retrain or not key else self._loaded(key, part, model)
            if entry is None and only_load:
                return None
            if entry is not None:
                history = history.followed_by(History.from_record(entry.record["history"]))
                origin = entry.record["provenance"]
                continued = len(history.epochs)
            else:
                loaded = False
                if key:
                    self.store.require_writable()
                half = self.store.get(f"part-{key}") if key else None
                resume = Checkpoint.from_entry(half) if half else None
                if resume:
                    continued = len(history.epochs) + len(resume.history.epochs)
                tell = partial(self._tell, job, before=history, continued=continued)
                keep = None
                if key:
                    about = {"run": key, "engine": settings["engine"]}
                    keep = partial(self._keep, job, f"part-{key}", about)
                new = self._fit(
                    job, model, config, objective, on_epoch=tell,
                    on_checkpoint=keep and CheckpointThrottle(keep), on_stop=keep, resume=resume,
                )  # fmt: skip
                origin = provenance(self.device)
                if key and not new.interrupted:
                    self._store(job, key, settings, model, part, new, origin)
                history = history.followed_by(new)
            trained_from, config = config.first_trainable, config.next_stage
        if (loaded and not only_load) or history.interrupted:
            self._tell(job, history, loaded=loaded, continued=continued, origin=origin)
        return Run(
            job.label,
            job.seed,
            model,
            history,
            origin,
            loaded,
            trained_from,
            tuple(keys),
            network,
        )

    def _loaded(self, key: str, part: nn.Module, model: nn.Module) -> Entry | None:
        """The entry of a run, its weights in ``part``; None unless ``model`` answers as it did.

        Asked once for each key: what decides a run and is in no key, such as a file that a network
        reads, shows in its answers.
        """
        entry = self.store.get(key)
        if entry is None:
            return None
        untrained = None if key in self._probed else copied(part.state_dict())
        part.load_state_dict(entry.tensors)
        model.eval()
        if untrained is not None:
            before, now = torch.tensor(entry.record["answers"]), self._probe(model)
            error = (before - now).abs().max().item()
            # Another device, or its products in TF32, may round so far and not further.
            if not error <= 0.02 * max(1.0, before.abs().max().item()):
                warnings.warn(
                    f"the stored run {key} is not used: its network's answers are off by "
                    f"{error:.3g}, so something decides them that its code and settings do not "
                    f"hold, such as a file or a number drawn at import; it is trained again",
                    stacklevel=2,
                )
                part.load_state_dict(untrained)
                return None
            self._probed.add(key)
        return entry

    def _probe(self, model: nn.Module) -> Tensor:
        """(PROBE, outputs) logits of a whole model for the first validation images."""
        images = self.dataset.val.images[:PROBE]
        return predict(model, TranslatedImages(images), device=self.device)

    def _start(self, job: Job) -> tuple[nn.Module, Objective]:
        """The untrained model, which the seed decides, and what it will minimise."""
        check_seed(job.seed)
        objective = job.objective
        if self.task.balanced:
            weights = balancing(job.train, self.num_classes)
            objective = replace(objective, class_weights=weights)
        with seeded(job.seed):
            model = job.architecture(num_classes=self.num_classes, subclasses=objective.subclasses)
        return model, objective

    def _store(
        self,
        job: Job,
        key: str,
        settings: dict,
        model: nn.Module,
        trained: nn.Module,
        history: History,
        origin: dict[str, str],
        together: int = 1,
    ) -> bool:
        record = {
            "label": job.label,
            "task": self.task.name,
            "settings": settings,
            "history": asdict(history),
            "answers": self._probe(model).tolist(),
            "provenance": origin,
            "trained_together": together,
        }
        kept = self.store.keep(key, trained.state_dict(), record)
        if kept:
            self.store.remove(f"part-{key}")
        return kept

    def _informed(self, job: Job, objective: Objective, config: TrainConfig) -> Objective:
        """The objective with its teacher's answers, if it has a teacher."""
        if not isinstance(objective, TeacherObjective):
            return objective
        answers = self.logits(job.teacher, job.train, config)
        return replace(objective, teacher_logits=job.method.matched(answers, self.num_classes))

    def _fit(
        self,
        job: Job,
        model: nn.Module,
        config: TrainConfig,
        objective: Objective,
        **options: object,
    ) -> History:
        """Gather what training needs, the teacher's answers and frozen features, and train."""
        val = self.dataset.val
        objective = self._informed(job, objective, config)
        features = None
        if config.first_trainable:
            frozen, _ = model.split(config.first_trainable)
            first = min(len(model.split(stage)[0]) for stage in job.config.trained_stages if stage)
            features = tuple(
                self.answers.features(frozen, split, shown, first)
                for split, shown in ((job.train, config), (val, None))
            )
        return fit(
            model,
            job.train,
            val,
            config,
            job.seed,
            objective=objective,
            features=features,
            on_step=getattr(self.watch, "step", None),
            device=self.device,
            **options,
        )

    def _keep(self, job: Job, key: str, about: dict, checkpoint: Checkpoint) -> bool:
        """Store a training that did not end, to be continued when it is asked for again."""
        entry = checkpoint.entry()
        about = {"label": job.label, "task": self.task.name, "seed": job.seed, **about}
        return self.store.keep(key, entry.tensors, {**about, **entry.record})

    def _tell(
        self,
        job: Job,
        history: History,
        before: History | None = None,
        loaded: bool = False,
        continued: int = 0,
        origin: dict[str, str] | None = None,
    ) -> None:
        if self.watch is None:
            return
        if before:
            history = before.followed_by(history)
        epochs = job.config.total_epochs
        self.watch(
            Update(
                job.label,
                job.seed,
                job.number,
                job.total,
                history,
                epochs,
                loaded,
                continued,
                origin or {},
            )
        )

    def _address(
        self, job: Job, model: nn.Module, config: TrainConfig, objective: Objective
    ) -> tuple[str, dict]:
        """A run's key and settings; empty, with a warning, where no key can stand for it."""
        try:
            return address(job, model, config, objective, self.dataset.val)
        except UndescribedError as error:
            warnings.warn(
                f"runs of {job.label} are neither loaded nor kept, since something that decides "
                f"them cannot be put into a key: {error}",
                stacklevel=2,
            )
            return "", {}
