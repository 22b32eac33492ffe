"""Do students look at what their teacher looks at? Maps of an experiment's models, compared."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kdnb.data import Split
from kdnb.data.dataset import stratified_indices
from kdnb.environment import seeded
from kdnb.evaluation.metrics import Interval, mean_interval
from kdnb.evaluation.saliency import SIMILARITIES, Saliency, deletion_and_insertion, saliency_maps
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import Method
from kdnb.experiment.results import Run
from kdnb.fingerprint import code_fingerprint
from kdnb.store.description import precision
from kdnb.store.store import digest
from kdnb.tasks.config import SubclassConfig

OTHER_TEACHER = "another teacher"
RANDOM = "random weights"
AREAS = ("deletion", "insertion", "deletion, random order", "insertion, random order")


@dataclass(frozen=True)
class Measured:
    """Numbers by model, seed and image: ``values`` holds (measures, seeds, images) per label."""

    measures: tuple[str, ...]
    values: dict[str, Tensor]

    def of(self, label: str, measure: str) -> Tensor:
        """(seeds, images) numbers of one model."""
        return self.values[label][self.measures.index(measure)]

    def mean(self, label: str, measure: str) -> Interval:
        """The mean over images, and its interval over seeds."""
        return _over_seeds(self.of(label, measure))

    def gain(self, label: str, over: str, measure: str) -> tuple[Interval, Interval]:
        """The paired difference of two models, with its interval over seeds and over images."""
        difference = self.of(label, measure) - self.of(over, measure)
        return _over_seeds(difference), mean_interval(difference.mean(0).tolist())

    def clear_gain(self, label: str, over: str, measure: str) -> int:
        """1 or -1 where seeds and images both speak for a gain or a loss, else 0."""
        seeds, images = self.gain(label, over, measure)
        if not (seeds.excludes_zero and images.excludes_zero):
            return 0
        return 1 if seeds.mean > 0 else -1


class SaliencyStudy:
    """Saliency maps for some of an experiment's test images, each made once and then stored.

    ``count`` images are drawn from the test split, with its class shares. The teacher is the one
    with subclasses, so that all students, whatever they hear, have the same one.
    """

    def __init__(self, experiment: Experiment, count: int, subclass_config: SubclassConfig):
        self.experiment, self.subclass_config = experiment, subclass_config
        test = experiment.dataset.test
        (index,) = stratified_indices(test.labels, (min(count, len(test)),), seed=0)
        self.images: Split = test.take(index)

    def teacher(self, seed: int) -> Run:
        """The teacher of all students with this seed."""
        return self.experiment.teacher(seed, self.subclass_config)

    def predicted(self, run: Run) -> Tensor:
        """(N,) the class that a model gives to each image."""
        return self.experiment.class_logits(run, self.images).argmax(1)

    def maps(self, run: Run, targets: Tensor, saliency: Saliency) -> Tensor:
        """(N, H, W) maps of how each image's pixels speak for its class in ``targets`` (N,)."""
        address = {
            "code": code_fingerprint(),
            "weights": [run.network, run.weights],
            "images": self.images.fingerprint,
            "targets": digest(targets.tolist()),
            "saliency": saliency,
            "background": self.experiment.task.saliency.background,
            "precision": precision(),
        }
        key = f"maps-{digest(address)}"
        entry = self.experiment.store.get(key) if run.network else None
        if entry is not None:
            return entry.tensors["maps"]
        maps = saliency_maps(
            run.model,
            self.images.images,
            targets,
            self.experiment.num_classes,
            saliency,
            background=self.experiment.task.saliency.background,
            device=self.experiment.device,
        )
        if run.network:  # else nothing tells these maps from another network's
            self.experiment.store.keep(key, {"maps": maps}, address)
        return maps

    def likeness(
        self, students: Sequence[Method], seeds: Sequence[int], saliency: Saliency
    ) -> Measured:
        """How alike students' maps are to their teacher's, for the class that the teacher sees.

        Two controls come after the students: the teacher of the next seed, which shows how alike
        two networks of one kind are at all, and the student's network with random weights.
        """
        values: dict[str, list[Tensor]] = {}
        for seed, next_seed in zip(seeds, [*seeds[1:], seeds[0]], strict=True):
            teacher = self.teacher(seed)
            runs = {m.label: self.experiment.student(m, seed) for m in students}
            if next_seed != seed:
                runs[OTHER_TEACHER] = self.teacher(next_seed)
            runs[RANDOM] = randomised(runs[students[0].label])
            targets = self.predicted(teacher)
            own = self.maps(teacher, targets, saliency)
            for label, run in runs.items():
                maps = self.maps(run, targets, saliency)
                alike = torch.stack([similar(maps, own) for similar in SIMILARITIES.values()])
                values.setdefault(label, []).append(alike)
        return _measured(tuple(SIMILARITIES), values)

    def faithfulness(
        self, students: Sequence[Method], seeds: Sequence[int], saliency: Saliency
    ) -> Measured:
        """Deletion and insertion areas of the teacher and its students, by their own maps.

        Beside them the same with pixels in random order: what a map that says nothing would get
        from this very model.
        """
        values: dict[str, list[Tensor]] = {}
        for seed in seeds:
            runs = {"teacher": self.teacher(seed)}
            runs |= {m.label: self.experiment.student(m, seed) for m in students}
            for label, run in runs.items():
                maps = self.maps(run, self.predicted(run), saliency)
                generator = torch.Generator().manual_seed(seed)
                chance = torch.rand(maps.shape, generator=generator)
                areas = [self._areas(run, ranking) for ranking in (maps, chance)]
                values.setdefault(label, []).append(torch.cat(areas))
        return _measured(AREAS, values)

    def _areas(self, run: Run, maps: Tensor) -> Tensor:
        return torch.stack(
            deletion_and_insertion(
                run.model,
                self.images.images,
                maps,
                self.experiment.num_classes,
                background=self.experiment.task.saliency.background,
                steps=self.experiment.task.saliency.steps,
                device=self.experiment.device,
            )
        )


def randomised(run: Run) -> Run:
    """A copy with all weights drawn anew as torch initialises them (Adebayo et al. 2018)."""
    model = deepcopy(run.model)
    with seeded(run.seed):
        for module in model.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    return replace(run, label=RANDOM, model=model, trained_from="")


def _measured(measures: tuple[str, ...], values: Mapping[str, Sequence[Tensor]]) -> Measured:
    return Measured(measures, {label: torch.stack(v, 1) for label, v in values.items()})


def _over_seeds(values: Tensor) -> Interval:
    return mean_interval(values.mean(1).tolist())
