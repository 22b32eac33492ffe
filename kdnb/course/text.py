"""Sentences made from numbers, so that no text in a notebook can contradict its own run."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from IPython.display import Markdown

from kdnb.course.labels import note
from kdnb.course.report.protocol import ONCE, PROVENANCE
from kdnb.environment import best_device, provenance
from kdnb.evaluation.statistics import Interval, adjusted, detectable_difference
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.results import Comparison, Run
from kdnb.tasks.config import Task
from kdnb.training.config import TrainConfig

SPLITS = {"train": "training", "val": "validation", "test": "test"}
ADJUSTED = (
    "Each 95 % confidence interval covers seeds and images and is not adjusted for several "
    "comparisons. A gain or a loss is claimed only where the p-value, Holm-adjusted for all claims "
    "of the table, is below 0.05."
)


def percent(share: float, digits: int = 2) -> str:
    """A fraction in [0, 1] as a percentage.

    >>> percent(0.98765)
    '98.77 %'
    """
    return f"{100 * share:.{digits}f} %"


def percent_range(interval: Interval, digits: int = 2) -> str:
    """The ends of a fraction's interval, cut at 0 and 1, beyond which Student's t may reach."""
    low, high = max(interval.low, 0.0), min(interval.high, 1.0)
    return f"{percent(low, digits)} to {percent(high, digits)}"


def points(interval: Interval) -> str:
    """A difference of two fractions with its interval, in percentage points."""
    return (
        f"{100 * interval.mean:+.2f} points "
        f"(95 % interval {100 * interval.low:+.2f} to {100 * interval.high:+.2f}, "
        f"{counted(interval)})"
    )


def counted(interval: Interval) -> str:
    """The numbers of seeds and images that an interval covers.

    >>> counted(Interval(0.5, 0.4, 0.6, n=3, images=2000))
    '3 seeds and 2,000 images'
    """
    seeds = f"{interval.n} seeds" if interval.n > 1 else ""
    images = f"{interval.images:,} images" if interval.images else ""
    return " and ".join(filter(None, [seeds, images]))


def markdown_table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; a cell may hold any text, since it may come from data.

    >>> print(markdown_table(["model", "errors"], [["up|down", 3]]))
    | model | errors |
    | --- | --- |
    | up\\|down | 3 |
    """
    lines = [head, ["---"] * len(head), *rows]
    cells = ([" ".join(str(cell).split()).replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def listed(parts: Sequence[str], most: int = 20) -> str:
    """The first ``most`` parts, with commas between them, and the number of the others.

    >>> listed(["1", "2", "3"], most=2)
    '1, 2 and 1 more'
    """
    more = len(parts) - most
    return ", ".join(parts[:most]) + (f" and {more:,} more" if more > 0 else "")


def gain_sentence(comparison: Comparison, label: str, over: str) -> str:
    """Whether ``label`` beats ``over`` on this split, adjusted for all methods compared."""
    gain = comparison.gains(over)[label]
    where = f"on {comparison.images:,} {SPLITS[comparison.split]} images"
    adjusted_p = f"Holm-adjusted p = {gain.p_holm:.2g}"
    return f"**{verdict(gain)}**: {label} against {over} {where}: {points(gain)}, {adjusted_p}."


def verdict(gain: Interval) -> str:
    """The verdict on a gain with this interval."""
    return {1: "A gain", 0: "Not distinguishable", -1: "A loss"}[gain.sign]


def seen(gain: Interval) -> str:
    """The difference that a comparison with such an interval detects with a power of 80 %."""
    return (
        f"A comparison like this one detects a true difference of "
        f"{100 * detectable_difference(gain):.1f} points with a power of 80 %, and often misses "
        "smaller differences."
    )


def sweep_sentence(comparison: Comparison, labels: Sequence[str]) -> Markdown:
    """The setting with the best mean, and the others that are not distinguishable from it."""
    best = max(labels, key=lambda label: comparison.accuracy(label).mean().item())
    behind = adjusted({x: comparison.gain(best, x) for x in labels if x != best})
    text = (
        f"Highest mean accuracy: **{best}** with {percent(comparison.mean(best).mean)} over "
        f"{len(comparison.seeds)} seeds on {comparison.images:,} "
        f"{SPLITS[comparison.split]} images. These images also selected the setting, so this "
        "accuracy is biased upwards. "
    )
    for said, signs in (("Not distinguishable from it", (0, -1)), ("Worse", (1,))):
        if found := [label for label, gain in behind.items() if gain.sign in signs]:
            text += f"{said} (Holm-adjusted): {listed(found)}. "
    return Markdown(text.strip())


def task_card(experiment: Experiment) -> Markdown:
    """The data of this run, their splits, and the choices made for the task."""
    task, data = experiment.task, experiment.dataset
    parts = [
        f"**Task: {task.text.title}.** {data.about}: {len(data.train):,} training, "
        f"{len(data.val):,} validation and {len(data.test):,} test images. A student sees "
        f"{len(experiment.transfer):,} of the {len(data.train):,} training images. "
        f"{task.text.choices}"
    ]
    parts += [
        f"**The {role} starts from {origin}.**" for role, origin in experiment.origins.items()
    ]
    text = "\n\n".join(filter(None, [*parts, note(data.class_names)]))
    return Markdown(text, metadata={ONCE: "task"})


def caveats(task: Task) -> Markdown:
    """The limits of all results on a task."""
    return Markdown(task.text.caveats, metadata={ONCE: "caveats"})


def recipe_in_words(recipe: TrainConfig) -> str:
    """A model's training config in words.

    >>> recipe_in_words(TrainConfig(6, 16, 2e-3, translate=1))
    '6 epochs, batch size 16, peak learning rate 0.002, views shifted by up to 1 pixel(s)'
    """
    parts = [
        f"{recipe.epochs} epochs",
        f"batch size {recipe.batch_size}",
        f"peak learning rate {recipe.learning_rate:g}",
        recipe.translate and f"views shifted by up to {recipe.translate} pixel(s)",
        recipe.dihedral and "eight rotated and mirrored views",
        recipe.affine and f"random affine views of strength {recipe.affine:g}",
        recipe.weight_decay and f"weight decay {recipe.weight_decay:g}",
        recipe.label_smoothing and f"label smoothing {recipe.label_smoothing:g}",
        recipe.first_trainable and f"stages before `{recipe.first_trainable}` frozen",
    ]
    text = ", ".join(filter(None, parts))
    return f"{text}; then {recipe_in_words(recipe.next_stage)}" if recipe.next_stage else text


def provenance_card(experiment: Experiment, runs: list[Run]) -> Markdown:
    """Versions, device, seeds, data fingerprint and training time behind the numbers shown.

    A run used in several comparisons counts once.
    """
    runs = list({run.weights: run for run in runs}.values())
    origins = Counter(run.provenance["device"] for run in runs)
    devices = [f"{device} ({n} run{'s' * (n != 1)})" for device, n in sorted(origins.items())]
    packages = ("kdnb", "python", "torch", "numpy", "scikit-learn")
    versions = {", ".join(f"{name} {run.provenance[name]}" for name in packages) for run in runs}
    dates = sorted(run.provenance["date"][:16].replace("T", " ") for run in runs)
    seconds = sum(run.history.seconds for run in runs)
    data, seeds = experiment.dataset, sorted({run.seed for run in runs})
    loaded = sum(run.loaded for run in runs)
    # What the page shows of each chapter in one table.
    facts = {
        "dataset": data.name,
        "data": f"{data.name} {data.fingerprint[:16]}",
        "models": len(runs),
        "loaded": loaded,
        "seconds": seconds,
        "seeds": listed([str(seed) for seed in seeds]),
        "device": "; ".join(devices if len(origins) > 1 else origins),
        "versions": "; ".join(sorted(versions)),
    }
    rows = {
        "dataset": f"{data.name}, fingerprint `{data.fingerprint[:16]}`",
        "seeds": facts["seeds"],
        "trained": f"{len(runs)} model(s) in {seconds:,.0f} s, {dates[0]} to {dates[-1]} UTC",
        "device": facts["device"],
        "versions": facts["versions"],
        "finished runs": f"{loaded} of {len(runs)} loaded from the run store, the others trained "
        "here",
    }
    table = markdown_table(["provenance", ""], rows.items())
    return Markdown(table, metadata={PROVENANCE: facts})


def trained_elsewhere(origin: dict[str, str]) -> str:
    """Where a stored run was trained; empty if on the same kind of machine as this one."""
    here = provenance(best_device())
    machine = [re.sub(r"\d+ threads?", "", o["device"]) + o["system"] for o in (origin, here)]
    if machine[0] == machine[1] and origin["torch"] == here["torch"]:
        return ""
    return f"trained on {origin['device']}, {origin['system']}, with torch {origin['torch']}"
