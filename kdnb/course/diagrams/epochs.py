"""The logits of validation images after each epoch of a teacher's training, as a moving map."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from kdnb.course.diagrams.axes import SMALL
from kdnb.course.diagrams.diagram import INKS, Diagram, Steps, line, step, words
from kdnb.course.labels import shortened
from kdnb.data import Split
from kdnb.data.augmentation import TranslatedImages
from kdnb.evaluation.metrics import match_subclasses
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.requests import RunRequest
from kdnb.experiment.results import Update
from kdnb.fingerprint import code_fingerprint
from kdnb.losses import class_logits
from kdnb.store.description import precision
from kdnb.store.store import Store, digest
from kdnb.tasks.config import SubclassConfig
from kdnb.training.loop import predict

IMAGES, SHOWN = 300, 9  # images of the map, and its steps at most
SECONDS = 60.0  # of a stored teacher's training: a longer one is not repeated for the map
WIDTH, HEIGHT, EDGE, TOP = 400, 360, 16, 46  # CSS pixels of the whole, and around the map
# Each at least 3:1 against the page, light and dark. A class repeats them with another mark.
COLOURS = (*INKS, "#c2619f", "#7a7a7a")
CAPS = ("round", "square")
NAMED = 20  # subclasses whose centres have names

Snapshots = dict[int, Tensor]


def map_images(lab: Experiment) -> Split:
    """The validation images of the map."""
    val = lab.dataset.val
    return val.take(torch.arange(min(IMAGES, len(val))))


def epoch_logits(lab: Experiment, seed: int, config: SubclassConfig) -> Snapshots:
    """(N, C·s) logits of `map_images` before training and after each epoch, by its number.

    The dividing teacher of this seed is trained here and stored as `Experiment.teacher` would. If
    it is stored without these logits, a copy is trained, unless that took more than `SECONDS`: the
    result is then empty. It is stored too, so that this happens once.
    """
    request, split = RunRequest(seed, subclass_config=config), map_images(lab)
    missing = lab.pending(request) is not None
    address = {
        "code": code_fingerprint(),
        "run": lab.key(request),
        "stages": config.train_config.total_epochs,
        "images": split.fingerprint,
        "precision": precision(),
        "epochs": "all",
    }
    key = f"logits-{digest(address)}"
    if address["run"] and (entry := lab.store.get(key)):
        numbers = entry.record["numbers"]
        return dict(zip(numbers, entry.tensors["logits"], strict=True))
    if not missing and lab.teacher(seed, config).history.seconds > SECONDS:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        found = _watched(lab, lab.store if missing else Store(folder), seed, config, split)
    if address["run"] and found:
        tensors = {"logits": torch.stack([*found.values()])}
        lab.store.keep(key, tensors, {**address, "numbers": [*found]})
    return found


def _watched(
    lab: Experiment, store: Store, seed: int, config: SubclassConfig, split: Split
) -> Snapshots:
    """Train the teacher into ``store``, and predict after every epoch; empty if it was stopped."""
    models: list[nn.Module] = []
    found, views = {}, TranslatedImages(split.images)

    def teacher(**options: object) -> nn.Module:
        models.append(lab.task.teacher(**options))
        return models[-1]

    def watch(update: Update) -> None:
        epoch = len(update.history.epochs)
        found[epoch] = predict(models[-1], views, device=lab.device)
        if lab.watch is not None:
            lab.watch(update)

    watched = lab.with_store(store, watch)
    watched.task = replace(lab.task, teacher=teacher)
    run = watched.teacher(seed, config)
    whole = not run.history.interrupted and 0 in found
    return found if whole else {}


def projected(found: Snapshots) -> dict[int, Tensor]:
    """(N, 2) points of at most `SHOWN` epochs, all by the two main directions of the last epoch.

    Each image's mean logit is subtracted first, as it changes no probability.
    """
    numbers = sorted(found)
    last = len(numbers) - 1
    steps = min(SHOWN, len(numbers)) - 1
    chosen = [numbers[round(i * last / steps)] for i in range(steps + 1)] if steps else numbers
    centred = {n: found[n].double() - found[n].double().mean(1, keepdim=True) for n in chosen}
    middle = centred[numbers[-1]].mean(0)
    directions = torch.linalg.svd(centred[numbers[-1]] - middle)[2][:2]
    largest = directions.abs().argmax(1, keepdim=True)
    directions = directions * directions.gather(1, largest).sign()  # a direction has two signs
    return {n: (logits - middle) @ directions.T for n, logits in centred.items()}


def epochs_map(
    found: Snapshots, labels: Tensor, class_names: Sequence[str], subclasses: Tensor | None = None,
    subclass_names: Sequence[str] = (),
) -> Diagram:  # fmt: skip
    """The images of each epoch as dots, a step each, and the path of each subclass's centre.

    ``labels`` and, where they are known, true ``subclasses`` are (N,). A mark is a class, a colour
    a subclass in it; without subclasses a colour is a class.
    """
    points = projected(found)
    truth = labels if subclasses is None else subclasses
    groups = torch.stack([labels, truth], 1).unique(dim=0).tolist()
    names = shortened(list(class_names if subclasses is None else subclass_names), 10)
    every = torch.cat([*points.values()])
    low, high = every.amin(0), every.amax(0)
    room = torch.tensor([WIDTH - 2 * EDGE, HEIGHT - 2 * EDGE]).double()
    scale = (room / (high - low).clamp(min=1e-9)).min()
    shift = torch.tensor([EDGE, TOP + EDGE]) + (room - scale * (high - low)) / 2
    placed = {n: shift + scale * (each - low) for n, each in points.items()}
    parts, steps, centres = [], [], {}
    for c, k in groups:
        chosen = (labels == c) & (truth == k)
        centres[c, k] = [tuple(each[chosen].mean(0).tolist()) for each in placed.values()]
        ink = _colour(groups, c, k, subclasses is None)
        parts.append(line(centres[c, k], ink, width=2.5, opacity=0.45))
    for n, each in placed.items():
        dots = [
            _dots(each[(labels == c) & (truth == k)], _colour(groups, c, k, subclasses is None), c)
            for c, k in groups
        ]
        steps.append(step(dots, hidden=n != max(placed)))
    if len(groups) <= NAMED:
        for (_, k), path in centres.items():
            x, y = path[-1]
            parts.append(_named(x, y + 5, names[k]))
    key = _key(class_names) if subclasses is not None and len(class_names) == 2 else []
    said = {n: _said(found[n], labels, class_names, subclasses, len(subclass_names)) for n in points}
    when = [f"after epoch {n}: {said[n]}" if n else f"before training: {said[n]}" for n in points]
    rest = "after the last epoch, with the path of each centre"
    return Diagram(
        WIDTH, TOP + HEIGHT,
        [*key, *steps, *parts],
        f"Logits of {len(labels)} validation images in two directions. {when[0].capitalize()}; "
        f"{when[-1]}.",
        Steps("epoch", when, rest), of_data=True,
    )  # fmt: skip


def _said(
    logits: Tensor, labels: Tensor, class_names: Sequence[str], subclasses: Tensor | None, true: int
) -> str:
    """How many images have the right class and, where it is known, the right subclass."""
    right = (class_logits(logits, len(class_names)).argmax(1) == labels).double().mean()
    said = f"{100 * right:.0f} % in the right class"
    if subclasses is not None:
        recovered = match_subclasses(logits, subclasses, true).recovered
        said += f", {100 * recovered:.0f} % of the true subclasses recovered"
    return said


def _colour(groups: Sequence[Sequence[int]], c: int, k: int, by_class: bool) -> str:
    if by_class:
        return COLOURS[c % len(COLOURS)]
    siblings = [subclass for label, subclass in groups if label == c]
    return COLOURS[siblings.index(k) % len(COLOURS)]


def _dots(points: Tensor, ink: str, c: int) -> str:
    """All points of one look as one path: a line of no length ends in a round or square cap."""
    path = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points.tolist())
    cap = CAPS[c % len(CAPS)]
    return (
        f'<path d="{path}" fill="none" stroke="{ink}" stroke-width="{5 if cap == "round" else 4}" '
        f'stroke-linecap="{cap}"/>'
    )


def _named(x: float, y: float, name: str) -> str:
    """A name that stays legible over dots: with a rim in the colour of the paper."""
    rim = 'style="paint-order:stroke;stroke:var(--paper,white);stroke-width:4px"'
    return words(x, y, name, bold=True).replace("<text ", f"<text {rim} ", 1)


def _key(class_names: Sequence[str]) -> list[str]:
    parts = []
    for c, name in enumerate(shortened(list(class_names), 16)):
        x = 6 + c * 190
        parts.append(_dots(torch.tensor([[x, 10.0]]), "currentColor", c))
        parts.append(words(x + 10, 14, f"class {name}", "start", size=SMALL))
    return [*parts, words(0, 34, "colours and names: true subclasses", "start", size=SMALL)]
