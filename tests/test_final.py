"""The last word: every comparison on test images and on an audit, with seeds that chose nothing."""

import json
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from conftest import make_tiny_task, random_split, tiny_dataset

from kdnb.experiment import experiment as experiment_module
from kdnb.models import StudentMLP
from kdnb.tasks import task
from kdnb.tasks.config import SubclassConfigs
from kdnb.training.objectives import KnownSubclasses

REFERENCE = Path(__file__).parents[1] / "report" / "reference"
sys.path.insert(0, str(REFERENCE))
import final  # noqa: E402

SEEDS = (100, 101)


def two_by_two(audit=None):
    """Two classes of two digits each; ``audit`` is another test split."""
    tiny, splits = tiny_dataset(), {}
    for part in ("train", "val", "test"):
        split = audit if audit and part == "test" else getattr(tiny, part)
        splits[part] = replace(split, labels=split.labels // 2, subclasses=split.labels)
    return replace(tiny, **splits, class_names=("ab", "cd"), subclass_names=tiny.class_names)


def of_two_classes():
    config = make_tiny_task().subclass_config
    shown = replace(config, label="known digits", objective=KnownSubclasses(subclasses=2))
    configs = SubclassConfigs(config, (replace(config, label="another"),), shown)
    return replace(make_tiny_task(), dataset=two_by_two, subclass_configs=configs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("of", "tables", "with_split"),
    [
        (make_tiny_task, final.ten_classes, lambda split: replace(tiny_dataset(), test=split)),
        (of_two_classes, final.two_classes, two_by_two),
    ],
    ids=["ten classes", "two classes"],
)
def test_rows_and_claims_follow_from_what_each_seed_got_right(of, tables, with_split, monkeypatch):
    first = final.final(of(), tables, SEEDS, None)
    for name in ("fit", "fit_vectorized"):
        monkeypatch.setattr(experiment_module, name, None)  # all is in the run store
    result = final.final(of(), tables, SEEDS, with_split(random_split(50, seed=7)))
    assert first == {"test": result["test"]}
    images = {"test": 40, "audit": 50}
    assert result.keys() == images.keys()
    for split, tables_of_split in result.items():
        for table in tables_of_split:
            rows = {row["label"]: row for row in table["rows"]}
            assert len(rows) == len(table["rows"])
            for row in rows.values():
                scores = torch.tensor(row["per_seed"])
                assert row["images"] == images[split] and scores.numel() in (1, len(SEEDS))
                assert row["mean"] == pytest.approx(scores.mean().item())
            for claim in table["claims"]:
                difference = rows[claim["label"]]["mean"] - rows[claim["over"]]["mean"]
                assert claim["mean"] == pytest.approx(difference)
                assert claim["low"] <= claim["mean"] <= claim["high"]
                assert claim["p"] <= claim["p_holm"] <= min(1, claim["p"] * len(table["claims"]))
            assert table["claims"]
    for one, other in pairwise(result.values()):
        assert [table["table"] for table in one] == [table["table"] for table in other]
    text = final.markdown({"tiny": json.loads(json.dumps(result))})
    labels = {row["label"] for table in result["test"] for row in table["rows"]}
    assert all(f"| {label} |" in text for label in labels)
    assert text.count("Holm p") == 2 * sum(len(table["claims"]) for table in result["test"])


def test_without_an_audit_its_columns_stay_empty():
    row = {"label": "teacher", "mean": 0.98, "low": 0.97, "high": 0.99}
    table = {"table": "all", "rows": [row], "claims": [], "levels": {"chance": 0.5}}
    text = final.markdown({"tiny": {"test": [table]}})
    assert text.splitlines()[-2:] == [
        "| teacher | 98.00 [97.00, 99.00] |  |  |", "| chance | 50.00 |  | |"
    ]  # fmt: skip


def test_two_means_agree_if_their_difference_is_within_both_intervals():
    one = {"mean": 0.90, "low": 0.87, "high": 0.93}
    assert final.agree(one, {"mean": 0.949, "low": 0.909, "high": 0.989})
    assert not final.agree(one, {"mean": 0.951, "low": 0.911, "high": 0.991})


def test_seeds_that_chose_are_refused(tmp_path, monkeypatch):
    file = tmp_path / "selection.json"
    file.write_text(json.dumps({"tasks": {"tiny": {"trials": [{"seeds": [0, 1, 2]}]}}}))
    monkeypatch.setattr(final, "SELECTION", file)
    final.require_unseen("tiny", [100, 3])
    final.require_unseen("other", [0])
    with pytest.raises(ValueError, match=r"seeds \[2\] chose the recipe of tiny"):
        final.require_unseen("tiny", [100, 2])


KEPT = json.loads(final.FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", KEPT)
def test_the_kept_results_are_of_the_tasks_own_images_and_of_seeds_that_chose_nothing(name):
    record, splits = KEPT[name], {"test": 1_000 if name == "polyps" else 10_000}
    assert len(record["seeds"]) >= 5 and final.SELECTION.exists()
    final.require_unseen(name, record["seeds"])
    if name in final.EMBEDDED:
        assert record["data_fingerprint"] == task(name).load().fingerprint
    if name.startswith("mnist-small"):
        splits["audit"] = 40_000
    for split, count in splits.items():
        rows = [row for table in record[split] for row in table["rows"]]
        assert {row["images"] for row in rows} == {count}
        plain = {1} if name not in final.hinton.TASKS else set()  # baselines, without seeds
        assert {row["n"] for row in rows} == plain | {len(record["seeds"])}


def test_the_classifier_of_a_paper_drops_units_in_training_alone():
    model = final.hinton.DropoutMLP(hidden=(1200, 1200))
    image = torch.rand(1, 1, 28, 28)
    plain = StudentMLP(hidden=(1200, 1200))
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(image), plain(image))
    assert not torch.equal(model.train()(image), plain(image))


def test_mnist_is_copied_with_other_shapes_and_the_same_labels(monkeypatch):
    digits = replace(tiny_dataset(), train=random_split(40, seed=1))
    monkeypatch.setattr(final.hinton, "load", lambda name: digits)
    final.hinton.warped_mnist.cache_clear()
    copies = final.hinton.warped_mnist()
    final.hinton.warped_mnist.cache_clear()
    assert len(copies.train) == 8 * 40 and copies.test is digits.test
    assert torch.equal(copies.train.images[:40], digits.train.images)
    assert torch.equal(copies.train.labels.view(8, 40), digits.train.labels.expand(8, 40))
    parts = copies.train.images.view(8, 40, -1)
    assert all(not torch.equal(one, other) for one, other in pairwise(parts))
