"""What a trial is scored by on validation images, and what its training costs."""

from collections.abc import Callable, Sequence

import torch
from stages import Numbers, Settings
from torch import Tensor

from kdnb import losses
from kdnb.data.augmentation import TranslatedImages, random_affine
from kdnb.environment import seeded
from kdnb.evaluation.cost import cost
from kdnb.evaluation.metrics import accuracy, live_subclasses, match_subclasses
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import Method, conventional, subclass, within_classes
from kdnb.experiment.requests import RunRequest
from kdnb.tasks.config import Task
from kdnb.training.predict import evaluating


def teachers(lab: Experiment, seeds: Sequence[int], settings: Settings) -> list[Numbers]:
    """The accuracy of the teacher."""
    val, found = lab.dataset.val, []
    for seed in seeds:
        run = lab.teacher(seed)
        right = accuracy(lab.class_logits(run, val), val.labels)
        found.append({"seed": seed, "score": right, "seconds": run.history.seconds})
    return found


def divisions(lab: Experiment, seeds: Sequence[int], settings: Settings) -> list[Numbers]:
    """The share of digits recovered by the teacher that divides, and what a reader would go by.

    Without true digits that would be the agreement of two views.
    """
    val, found = lab.dataset.val, []
    for seed in seeds:
        run = lab.teacher(seed, lab.task.subclass_config)
        logits = lab.logits(run, val)[0]
        matching = match_subclasses(logits, val.subclasses, len(lab.dataset.subclass_names))
        found.append(
            {
                "seed": seed,
                "score": matching.recovered,
                "agreement": _agreement(lab, run.model),
                "live": live_subclasses(logits),
                "accuracy": accuracy(lab.class_logits(run, val), val.labels),
                "seconds": run.history.seconds,
            }
        )
    return found


def _agreement(lab: Experiment, model: torch.nn.Module) -> float:
    """Mutual information (nats) of two random views' subclasses, the same views in each trial."""
    images, labels = TranslatedImages(lab.dataset.val.images, translate=2), lab.dataset.val.labels
    index = torch.arange(len(labels))

    def answers() -> Tensor:
        view = torch.randint(len(images.names), index.shape)
        shown = random_affine(images.batch(index, view), 0.2).to(lab.device)
        return torch.cat([model(part) for part in shown.split(100)]).cpu()

    with seeded(0), evaluating(model):
        views = answers(), answers()
        return -losses.subclass_agreement_loss(*views, labels, lab.num_classes).item()


def students(*methods: Callable[[Task], Method]) -> Callable[..., list[Numbers]]:
    """The mean accuracy of the students that ``methods`` train, and each one's own."""

    def measured(lab: Experiment, seeds: Sequence[int], settings: Settings) -> list[Numbers]:
        wanted = [method(lab.task) for method in methods]
        lab.train_ahead([RunRequest(seed, method) for seed in seeds for method in wanted])
        result, found = lab.compare(wanted, seeds, split="val"), []
        for place, seed in enumerate(seeds):
            each = {label: result.accuracy(label)[place].item() for label in result.labels}
            seconds = sum(runs[place].history.seconds for runs in result.runs.values())
            score = sum(each.values()) / len(each)
            found.append({"seed": seed, "score": score, **each, "seconds": seconds})
        return found

    return measured


def distilled(of: Task) -> Method:
    """Conventional distillation by the task's defaults."""
    return conventional(of.temperature, of.soft_weight)


def by_class(of: Task) -> Method:
    """The classes of the teacher that divides them."""
    label = "student + KD, classes of the same teacher"
    return conventional(of.temperature, of.soft_weight, label, of.subclass_config)


def by_subclass(of: Task) -> Method:
    """The same teacher's subclasses."""
    return subclass(of.temperature, of.soft_weight, of.subclass_config)


def within(of: Task) -> Method:
    """The same teacher's relative probabilities within each class alone."""
    return within_classes(of.temperature, of.subclass_config)


def classifier(kind: str) -> Callable[..., list[Numbers]]:
    """The accuracy of a class of scikit-learn's, on the images that students see."""

    def measured(lab: Experiment, seeds: Sequence[int], settings: Settings) -> list[Numbers]:
        train, val = lab.transfer, lab.dataset.val
        model = classifiers()[kind](**settings)
        pixels = [(split.images / 255).flatten(1).numpy() for split in (train, val)]
        model.fit(pixels[0], train.labels.numpy())
        return [{"score": model.score(pixels[1], val.labels.numpy())}]

    return measured


def classifiers() -> dict[str, type]:
    """The plain baselines that have settings."""
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    return {"SVM": SVC, "neighbours": KNeighborsClassifier}


def price(role: str) -> Callable[[Experiment], float]:
    """Training images x epochs x views per image x multiply-adds of the teacher or student."""

    def counted(lab: Experiment) -> float:
        of, train, views = lab.task, lab.dataset.train, 1
        network, config = of.teacher, of.teacher_config
        if role == "division":
            config = of.subclass_config.train_config
            views = of.subclass_config.objective.views_per_image
        if role in ("alone", "distilled"):
            network, config, train = of.student, of.student_config, lab.transfer
        if role == "distilled":
            config = of.distillation.train_config or config
        macs = cost(network(num_classes=lab.num_classes), train.images[:1] / 255).macs
        return len(train) * config.total_epochs * views * macs

    return counted
