"""Are students' saliency maps similar to their teacher's? A study of an experiment's models."""

from collections import defaultdict
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kdnb.data import Split
from kdnb.data.dataset import stratified_indices
from kdnb.environment import seeded
from kdnb.evaluation.saliency import Saliency, deletion_and_insertion, saliency_maps
from kdnb.evaluation.similarity import SIMILARITIES
from kdnb.evaluation.statistics import Interval, joint_interval, pair_interval
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
    """Measures by model, seed and image: ``values`` holds (measures, seeds, images) per label.

    For `OTHER_TEACHER` a row is a pair of teachers instead of a seed.
    """

    measures: tuple[str, ...]
    values: dict[str, Tensor]

    def of(self, label: str, measure: str) -> Tensor:
        """(seeds, images) numbers of one model."""
        return self.values[label][self.measures.index(measure)]

    def mean(self, label: str, measure: str) -> Interval:
        """The mean, and its interval over seeds and images."""
        interval = pair_interval if label == OTHER_TEACHER else joint_interval
        return interval(self.of(label, measure))

    def gain(self, label: str, over: str, measure: str) -> Interval:
        """The difference of two models, paired by seed and image."""
        return joint_interval(self.of(label, measure) - self.of(over, measure))


class SaliencyStudy:
    """Saliency maps for some of an experiment's test images, each made once and then stored.

    ``count`` images are drawn from the test split, with its class shares. The teacher is the one
    with subclasses, so that all students, with or without subclasses, have the same one.
    """

    def __init__(self, experiment: Experiment, count: int, subclass_config: SubclassConfig):
        self.experiment, self.subclass_config = experiment, subclass_config
        test = experiment.dataset.test
        (index,) = stratified_indices(test.labels, (min(count, len(test)),), seed=0)
        self.images: Split = test.take(index)
        self.options = {
            "num_classes": experiment.num_classes,
            "background": experiment.task.saliency.background,
            "device": experiment.device,
        }

    def teacher(self, seed: int) -> Run:
        """The teacher of all students with this seed."""
        return self.experiment.teacher(seed, self.subclass_config)

    def predicted(self, run: Run) -> Tensor:
        """(N,) the class that a model predicts for each image."""
        return self.experiment.class_logits(run, self.images).argmax(1)

    def maps(self, run: Run, targets: Tensor, saliency: Saliency) -> Tensor:
        """(N, H, W) maps that explain the logit of each image's class in ``targets`` (N,)."""
        images = self.images.images
        if not run.network:  # such maps have no key of their own
            return saliency_maps(run.model, images, targets, method=saliency, **self.options)
        address = {
            "code": code_fingerprint(),
            "weights": [run.network, run.weights],
            "images": self.images.fingerprint,
            "targets": digest(targets.tolist()),
            "saliency": saliency,
            "background": self.options["background"],
            "precision": precision(),
        }
        key, store = f"maps-{digest(address)}", self.experiment.store
        if (entry := store.get(key)) is not None:
            return entry.tensors["maps"]
        maps = saliency_maps(run.model, images, targets, method=saliency, **self.options)
        store.keep(key, {"maps": maps}, address)
        return maps

    def similarity(
        self, students: Sequence[Method], seeds: Sequence[int], saliency: Saliency
    ) -> Measured:
        """The similarity of students' maps to their teacher's, for the class the teacher predicts.

        Two controls come after the students: every pair of teachers, which shows the similarity of
        two networks of one kind, and the student's network with random weights. An interval for
        pairs needs three seeds: with fewer, there are no pairs.
        """
        values = defaultdict(list)
        for number, seed in enumerate(seeds, 1):
            teacher = self.teacher(seed)
            runs = {m.label: [self.experiment.student(m, seed)] for m in students}
            if len(seeds) > 2:
                runs[OTHER_TEACHER] = [self.teacher(other) for other in seeds[number:]]
            runs[RANDOM] = [randomised(*runs[students[0].label])]
            targets = self.predicted(teacher)
            reference = self.maps(teacher, targets, saliency)
            for label, compared in runs.items():
                for maps in (self.maps(run, targets, saliency) for run in compared):
                    similar = [measure(maps, reference) for measure in SIMILARITIES.values()]
                    values[label].append(similar)
        return _measured(tuple(SIMILARITIES), values)

    def faithfulness(
        self, students: Sequence[Method], seeds: Sequence[int], saliency: Saliency
    ) -> Measured:
        """Deletion and insertion areas of the teacher and its students, by their own maps.

        The same areas with pixels in random order are the result of an uninformative map.
        """
        values = defaultdict(list)
        for seed in seeds:
            runs = {"teacher": self.teacher(seed)}
            runs |= {m.label: self.experiment.student(m, seed) for m in students}
            for label, run in runs.items():
                maps = self.maps(run, self.predicted(run), saliency)
                chance = torch.rand(maps.shape, generator=torch.Generator().manual_seed(seed))
                values[label].append([*self._areas(run, maps), *self._areas(run, chance)])
        return _measured(AREAS, values)

    def _areas(self, run: Run, maps: Tensor) -> tuple[Tensor, Tensor]:
        images, steps = self.images.images, self.experiment.task.saliency.steps
        return deletion_and_insertion(run.model, images, maps, steps=steps, **self.options)


def randomised(run: Run) -> Run:
    """A copy with all weights drawn anew as torch initialises them (Adebayo et al. 2018)."""
    model = deepcopy(run.model)
    with seeded(run.seed):
        for module in model.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    return replace(run, label=RANDOM, model=model, trained_from="")


def _measured(measures: tuple[str, ...], by_label: dict[str, list[list[Tensor]]]) -> Measured:
    """From (images,) numbers by label, seed and measure."""
    values = {
        label: torch.stack([torch.stack(numbers) for numbers in seeds], 1)
        for label, seeds in by_label.items()
    }
    return Measured(measures, values)
