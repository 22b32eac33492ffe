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
WIDTH, HEIGHT, EDGE, TOP = 400, 330, 8, 46  # CSS pixels of the whole, and around the map
# Each at least 3:1 against the page, light and dark. A class repeats them with another mark.
COLOURS = (*INKS, "#c2619f", "#7a7a7a")
# A class's mark at a point: a dot (a line of no length with round ends), a cross, a plus.
MARKS = (("M{x:.1f} {y:.1f}h0", 5), ("M{x:.1f} {y:.1f}m-2-2l4 4m0-4l-4 4", 1.5),
         ("M{x:.1f} {y:.1f}m-2.5 0h5m-2.5-2.5v5", 1.5))  # fmt: skip
NAMED = 20  # subclasses whose centres have names
FILLED = 0.9  # of the map, by the last epoch's points

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


def _placed(points: dict[int, Tensor]) -> dict[int, Tensor]:
    """The points in pixels: the last epoch fills most of the map.

    Points of other epochs that would lie outside are put on the map's edge.
    """
    last = points[max(points)]
    low, high = last.amin(0), last.amax(0)
    room = torch.tensor([WIDTH - 2 * EDGE, HEIGHT - 2 * EDGE]).double()
    scale = FILLED * (room / (high - low).clamp(min=1e-9)).min()
    corner, size = torch.tensor([0, TOP]), torch.tensor([WIDTH, HEIGHT])
    shift = corner + (size - scale * (high - low)) / 2
    inside = corner + EDGE, corner + size - EDGE
    return {n: (shift + scale * (each - low)).clamp(*inside) for n, each in points.items()}


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
    placed = _placed(points)
    paths, steps, centres = [], [], {}
    for c, k in groups:
        chosen = (labels == c) & (truth == k)
        centres[c, k] = [tuple(each[chosen].mean(0).tolist()) for each in placed.values()]
        ink = _colour(groups, c, k, subclasses is None)
        paths.append(line(centres[c, k], ink, width=2.5, opacity=0.45))
    for n, each in placed.items():
        dots = [
            _marks(each[(labels == c) & (truth == k)], _colour(groups, c, k, subclasses is None), c)
            for c, k in groups
        ]
        steps.append(step(dots, hidden=n != max(placed)))
    ends = {names[k]: path[-1] for (_, k), path in centres.items()}
    named = _names(ends) if len(groups) <= NAMED else []
    key = _key(class_names) if subclasses is not None and len(class_names) == 2 else []
    said = {
        n: _said(found[n], labels, class_names, subclasses, len(subclass_names)) for n in points
    }
    when = [f"after epoch {n}: {said[n]}" if n else f"before training: {said[n]}" for n in points]
    rest = "after the last epoch, with the path of each centre"
    return Diagram(
        WIDTH, TOP + HEIGHT,
        [*key, *paths, *steps, *named],
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


def _marks(points: Tensor, ink: str, c: int) -> str:
    """All points of one look as one path."""
    mark, width = MARKS[c % len(MARKS)]
    path = "".join(mark.format(x=x, y=y) for x, y in points.tolist())
    return (
        f'<path d="{path}" fill="none" stroke="{ink}" stroke-width="{width}" '
        'stroke-linecap="round"/>'
    )


def _names(ends: dict[str, tuple[float, float]]) -> list[str]:
    """A name at each centre, or below a name that is there, legible over marks by its rim."""
    parts, taken = [], []
    paper = "var(--paper,var(--jp-layout-color0,white))"  # of the page, else of JupyterLab
    rim = f'style="paint-order:stroke;stroke:{paper};stroke-width:4px"'
    for name, (x, y) in sorted(ends.items(), key=lambda item: item[1][1]):
        half = 4 * len(name) + 2
        while any(abs(x - a) < half + b and abs(y - c) < 14 for a, b, c in taken):
            y += 1
        taken.append((x, half, y))
        parts.append(words(x, y + 5, name, bold=True).replace("<text ", f"<text {rim} ", 1))
    return parts


def _key(class_names: Sequence[str]) -> list[str]:
    parts = []
    for c, name in enumerate(shortened(list(class_names), 16)):
        x = 6 + c * 190
        parts.append(_marks(torch.tensor([[x, 10.0]]), "currentColor", c))
        parts.append(words(x + 10, 14, f"class {name}", "start", size=SMALL))
    return [*parts, words(0, 34, "colours and names: true subclasses", "start", size=SMALL)]
