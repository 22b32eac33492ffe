"""Measures against numbers worked out by hand and against scikit-learn."""

import math

import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix

from kdnb.metrics import (
    accuracy,
    agreement,
    calibration,
    confusion,
    entropy_bits,
    live_subclasses,
    match_subclasses,
    mean_interval,
)


def test_interval_of_three_values():
    """1, 2, 3: mean 2, deviation 1, t(0.975, 2) = 4.30265 → 2 ± 4.30265/√3."""
    interval = mean_interval([1.0, 2.0, 3.0])
    half = 4.30265 / math.sqrt(3)
    assert (interval.mean, interval.n) == (2.0, 3)
    assert interval.low == pytest.approx(2 - half, abs=1e-5)
    assert interval.high == pytest.approx(2 + half, abs=1e-5)
    assert not interval.excludes_zero  # −0.48 … 4.48
    assert mean_interval([11.0, 12.0, 13.0]).excludes_zero
    assert mean_interval([-11.0, -12.0, -13.0]).excludes_zero


def test_interval_covers_as_often_as_it_says():
    """2,000 samples of 5 normal values: 95 % intervals cover the mean 95 % of the time ± 2 %."""
    samples = torch.randn(2000, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    covered = [i.low <= 0 <= i.high for i in map(mean_interval, samples.tolist())]
    assert sum(covered) / len(covered) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("values", [[], [1.0]])
def test_no_interval_without_two_seeds(values):
    with pytest.raises(ValueError, match="needs at least 2 seeds"):
        mean_interval(values)


def test_entropy():
    probabilities = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25] * 4])
    assert entropy_bits(probabilities).tolist() == [0, 1, 2]


def test_confusion_and_accuracy_agree_with_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    logits, labels = (
        torch.randn(200, 5, generator=generator),
        torch.randint(5, (200,), generator=generator),
    )
    predicted = logits.argmax(1)
    assert confusion(logits, labels).tolist() == confusion_matrix(labels, predicted).tolist()
    assert accuracy(logits, labels) == pytest.approx(accuracy_score(labels, predicted))


def test_calibration_by_hand():
    """Two at 0.85 of which one is right, two at 0.55, both right: ½·0.35 + ½·0.45."""

    def logits(confidence):
        return [math.log(confidence), math.log(1 - confidence)]

    rows = torch.tensor([logits(0.85), logits(0.85), logits(0.55), logits(0.55)])
    result = calibration(rows, torch.tensor([0, 1, 0, 0]))
    assert result.confidence.tolist() == pytest.approx([0.55, 0.85], abs=1e-6)
    assert result.accuracy.tolist() == [1.0, 0.5]
    assert result.share.tolist() == [0.5, 0.5]
    assert result.error == pytest.approx(0.5 * 0.45 + 0.5 * 0.35, abs=1e-6)


def test_certainty_and_temperature():
    certain = torch.tensor([[800.0, 0.0], [800.0, 0.0]])
    assert calibration(certain, torch.tensor([0, 0])).error == 0
    assert calibration(certain, torch.tensor([0, 1])).error == pytest.approx(0.5)
    softened = calibration(certain, torch.tensor([0, 1]), temperature=1e9)
    assert softened.confidence.tolist() == pytest.approx([0.5], abs=1e-5)


def test_agreement():
    student = torch.tensor([[1.0, 0], [0, 1], [1, 0], [1, 0]])
    teacher = torch.tensor([[2.0, 0], [3, 0], [9, 1], [0, 1]])
    assert agreement(student, teacher) == 0.5


def test_matching_by_hand():
    """Invented 0 holds true 2, 2, 1; invented 1 true 0, 0; invented 2 true 1, 2.

    Best pairs: 0 with 2 (2 images), 1 with 0 (2), 2 with 1 (1): 5 of 7.
    """
    invented = torch.tensor([0, 0, 0, 1, 1, 2, 2])
    true = torch.tensor([2, 2, 1, 0, 0, 1, 2])
    logits = torch.nn.functional.one_hot(invented, 3).double()
    matching = match_subclasses(logits, true, 3)
    assert matching.counts.tolist() == [[0, 1, 2], [2, 0, 0], [0, 1, 1]]
    assert matching.partner.tolist() == [2, 0, 1]
    assert matching.recovered == pytest.approx(5 / 7)


def test_matching_does_not_depend_on_names():
    true = torch.randint(6, (500,), generator=torch.Generator().manual_seed(0))
    names = torch.tensor([3, 5, 0, 1, 4, 2])
    logits = torch.nn.functional.one_hot(names[true], 6).double()
    matching = match_subclasses(logits, true, 6)
    assert matching.recovered == 1.0
    assert torch.equal(matching.partner[names], torch.arange(6))


def test_more_invented_than_true_subclasses():
    """Four invented for two true ones: two of them find a partner."""
    true = torch.tensor([0, 0, 0, 1, 1])
    logits = torch.nn.functional.one_hot(torch.tensor([3, 3, 1, 0, 0]), 4).double()
    matching = match_subclasses(logits, true, 2)
    assert matching.counts.tolist() == [[0, 2], [1, 0], [0, 0], [2, 0]]
    assert matching.partner.tolist() == [1, -1, -1, 0]
    assert matching.recovered == pytest.approx(4 / 5)


def test_a_collapsed_class_recovers_its_largest_subclass_only():
    """One invented subclass per class: of ten equal true ones, two are found."""
    true = torch.arange(10).repeat(20)
    logits = torch.zeros(200, 10)
    logits[torch.arange(200), 5 * (true // 5)] = 1
    assert match_subclasses(logits, true, 10).recovered == pytest.approx(0.2)
    assert live_subclasses(logits) == 2


def test_a_subclass_lives_from_one_percent_on():
    logits = torch.zeros(1000, 4)
    logits[:, 0] = 1
    logits[:10, 1] = 2  # ten of a thousand
    logits[10:19, 2] = 2  # nine
    assert live_subclasses(logits) == 2
    assert live_subclasses(logits, share=0.009) == 3
