"""The table of scores: every number from the logits, every verdict from an interval."""

import json
from dataclasses import replace

import pytest
import torch
from compared import comparison
from sklearn.metrics import f1_score

from kdnb.course import tables
from kdnb.course import text as words
from kdnb.course.report.protocol import RESULTS
from kdnb.data import Dataset, Split
from kdnb.evaluation.metrics import calibration, weighted_f1
from kdnb.evaluation.statistics import Bootstrap, Interval, adjusted
from kdnb.experiment.experiment import Experiment
from kdnb.tasks.config import Task

ALONE, KD, SUBCLASS = (
    "student without teacher",
    "student + conventional KD",
    "student + subclass KD",
)
LABELS = torch.tensor([0, 1]).repeat_interleave(torch.tensor([130, 70]))
TRAIN = torch.tensor([0, 1]).repeat_interleave(torch.tensor([300, 130]))


def models(seeds, knowledge, noise):
    """(seeds, 200, 2) logits: ``knowledge`` of the label, and noise drawn from seed ``noise``."""
    generator = torch.Generator().manual_seed(noise)
    score = knowledge * (LABELS - 0.5) + torch.randn(seeds, len(LABELS), generator=generator)
    return torch.stack([-score, score], 2)


LOGITS = {
    "teacher": models(1, 4.0, 0),
    ALONE: models(3, 1.0, 1),
    KD: models(3, 1.0, 1) + 0.05 * models(3, 0.0, 2),
    SUBCLASS: models(3, 5.0, 3),
}


def table(logits=LOGITS, **changes):
    about = {"baseline": ALONE, "dataset": "mhist", "resamples": 200} | changes
    return tables.ScoreTable(logits, LABELS, TRAIN, ["HP", "SSA"], **about)


@pytest.fixture(scope="module")
def shown():
    return table()


def cells(row):
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_a_row_per_model_and_one_for_the_constant_answer(shown):
    scores, gains, note = shown.text.split("\n\n")
    head, _, *rows = map(cells, scores.splitlines())
    assert head == [
        "test split, 200 images", "seeds", "accuracy", "balanced accuracy", "weighted F1",
        "SSA F1", "AUC", "calibration error",
    ]  # fmt: skip
    assert [row[:2] for row in rows] == [
        ["teacher", "1"], [ALONE, "3"], [KD, "3"], [SUBCLASS, "3"], ["always HP", "–"],
    ]  # fmt: skip
    assert all(len(row) == len(head) for row in rows)
    # 130 of 200 right; HP's F1 is 2·130/(130 + 200), times 130/200
    assert rows[-1][2].startswith(".650 (") and rows[-1][4].startswith(".512 (")
    assert rows[-1][3] == rows[-1][6] == ".500 (.500–.500)"
    assert rows[-1][5] == ".000 (.000–.000)"
    assert "200 resamples of these 200 images" in note and "variation between seeds" in note
    assert len(cells(gains.splitlines()[0])) == len(cells(gains.splitlines()[-1])) == 5


def test_each_score_is_the_mean_over_seeds(shown):
    interval = shown.scores[ALONE]["weighted F1"]
    each = [f1_score(LABELS, one.argmax(1), average="weighted") for one in LOGITS[ALONE]]
    assert interval.mean == pytest.approx(sum(each) / 3)
    assert interval == Bootstrap(LABELS, 200).interval(weighted_f1, LOGITS[ALONE])
    row = next(line for line in shown.text.splitlines() if line.startswith(f"| {ALONE} |"))
    ends = f"{interval.low:.3f}–{interval.high:.3f}".replace("0.", ".")
    assert cells(row)[4] == f"{interval.mean:.3f} ({ends})".removeprefix("0")
    errors = [calibration(one, LABELS).error for one in LOGITS[ALONE]]
    assert cells(row)[-1] == f"{sum(errors) / 3:.3f}".removeprefix("0")


def test_gains_are_over_the_baseline_and_in_words(shown):
    gains = shown.text.split("\n\n")[1].splitlines()
    rows = {label: values for label, *values in map(cells, gains)}
    assert ALONE not in rows and "always HP" not in rows
    bootstrap = Bootstrap(LABELS, 200)
    gains = {m: bootstrap.gain(weighted_f1, LOGITS[m], LOGITS[ALONE]) for m in (KD, SUBCLASS)}
    gain = gains[SUBCLASS]
    assert shown.gains == adjusted(gains)  # one teacher, three students: nothing to pair
    pairs = zip(LOGITS[SUBCLASS], LOGITS[ALONE], strict=True)
    each = [weighted_f1(a, LABELS) - weighted_f1(b, LABELS) for a, b in pairs]
    assert rows[SUBCLASS] == [
        f"{gain.mean:+.3f}",
        f"{gain.low:+.3f} to {gain.high:+.3f}",
        "a gain",
        ", ".join(f"{g:+.3f}" for g in each),
    ]
    assert rows[KD][2] == "not distinguishable"
    assert table(baseline=SUBCLASS).gains[ALONE].mean == pytest.approx(-gain.mean)


def test_sentences_follow_the_interval(shown):
    sentence = shown.sentence(SUBCLASS).data
    gain = shown.gains[SUBCLASS]
    assert sentence.startswith(f"**A gain**: {SUBCLASS} against {ALONE} on 200 test images")
    ends = f"{gain.low:+.3f} to {gain.high:+.3f}, 3 seeds"
    assert f"weighted F1 {gain.mean:+.3f} (95 % interval over seeds and images {ends})" in sentence
    assert shown.sentence(KD).data.startswith("**Not distinguishable**")
    loss = table(baseline=SUBCLASS, split="val").sentence(ALONE).data
    assert loss.startswith("**A loss**") and "200 validation images" in loss


def test_a_gain_needs_images_and_seeds_to_agree():
    """Two seeds gain much and one loses: on these images a gain, but not one of the method."""
    mixed = torch.stack([*models(2, 6.0, 4), *models(1, 0.0, 5)])
    shown = table({ALONE: LOGITS[ALONE], KD: mixed})
    pairs = zip(mixed, LOGITS[ALONE], strict=True)
    each = [Bootstrap(LABELS, 200).gain(weighted_f1, a[None], b[None]) for a, b in pairs]
    assert [gain.sign for gain in each[:2]] == [1, 1] and shown.gains[KD].mean > 0.1
    assert shown.sentence(KD).data.startswith("**Not distinguishable**")


def test_single_runs_of_others_stand_beside_ours():
    head, _, *rows = table(published={KD: 0.7285}).text.split("\n\n")[0].splitlines()
    assert cells(head)[-1] == "weighted F1 in the study, one run"
    assert {cells(row)[0]: cells(row)[-1] for row in rows}[KD] == ".7285"
    assert [cells(row)[-1] for row in rows].count("–") == 4


def test_the_constant_answer_stands_in_every_table_of_unequal_classes(tiny_task, store):
    lab = Experiment(tiny_task, store=store)
    assert tables.majority_class(lab) is None
    unequal = Experiment(replace(tiny_task, balanced=True), store=store)
    labels = unequal.dataset.train.labels.bincount()
    label, share = tables.majority_class(unequal)
    assert label == f"always {unequal.dataset.class_names[labels.argmax()]}"
    right = (unequal.dataset.test.labels == labels.argmax()).sum().item()
    assert share == right / 40
    plain = {label: unequal.dataset.test.labels == labels.argmax()}
    table = tables.result_table(comparison({ALONE: [0.5, 0.75]}, 40), ALONE, plain=plain).text
    row = table.splitlines()[2]
    assert row.startswith(f"| {label} | {100 * share:.2f} % |")
    assert row.endswith(f"| {40 - right} | – | – |")
    teachers = [
        {"seed": s, "live": 8, "recovered": None, "correct": plain[label]} for s in range(2)
    ]
    table = tables.division_table({"x": teachers}, 8, "toy", (label, share)).text
    assert table.splitlines()[-1] == f"| {label} | – | – | – | – | {100 * share:.2f} % |"


def test_the_table_carries_its_numbers(shown):
    bundle = shown._repr_mimebundle_()[0]
    assert bundle["text/markdown"] == bundle["text/plain"]
    data = json.loads(json.dumps(bundle[RESULTS]))
    assert (data["dataset"], data["split"], data["images"]) == ("mhist", "test", 200)
    assert data["seeds"] == {"teacher": 1, ALONE: 3, KD: 3, SUBCLASS: 3}
    assert set(data["scores"]) == {*LOGITS, "always HP"}
    assert Interval(**data["scores"][KD]["AUC"]) == shown.scores[KD]["AUC"]
    assert Interval(**data["gain"][KD]) == shown.gains[KD]
    assert (data["gain_over"], data["gain_in"]) == (ALONE, "weighted F1")
    assert len(data["per_seed"][KD]) == 3
    # what reads tables of accuracies alone knows them by this key
    assert "accuracy" not in data


def test_three_classes_have_no_area_and_no_positive_class():
    generator = torch.Generator().manual_seed(0)
    labels, train = torch.arange(90) % 3, torch.tensor([0, 1, 1, 2])
    logits = {ALONE: torch.randn(2, 90, 3, generator=generator)}
    made = tables.ScoreTable(logits, labels, train, ["a", "b", "c"], baseline=ALONE, dataset="toy")
    assert list(made.scores[ALONE]) == ["accuracy", "balanced accuracy", "weighted F1"]
    assert "always b" in made.scores
    assert f"over {ALONE}" not in made.text  # nothing to compare


def test_a_baseline_that_is_not_there():
    with pytest.raises(ValueError, match=r"the baseline must be one of .* got 'nobody'"):
        table(baseline="nobody")
    with pytest.raises(ValueError, match="needs logits"):
        table({ALONE: LOGITS[ALONE][:, :-1]})


def test_the_card_of_a_task_with_colour_images(tiny_task, store):
    class Colour(Task):
        def load(self):
            image = torch.zeros(40, 3, 32, 32, dtype=torch.uint8)
            split = Split(image, torch.arange(40) % 2)
            return Dataset("colour", "Colours made for tests", ("HP", "SSA"), split, split, split)

    about = {name: getattr(tiny_task, name) for name in tiny_task.__dataclass_fields__}
    lab = Experiment(Colour(**about), store=store, device=torch.device("cpu"))
    card = words.task_card(lab).data
    assert "Colours made for tests: 40 training, 40 validation and 40 test images" in card
