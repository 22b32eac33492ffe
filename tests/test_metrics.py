"""Measures against numbers worked out by hand and against scikit-learn."""

import math
from dataclasses import replace
from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    roc_auc_score,
)

from kdnb.evaluation.metrics import (
    accuracy,
    agreement,
    auc,
    balanced_accuracy,
    calibration,
    class_metrics,
    confusion,
    entropy_bits,
    f1,
    live_subclasses,
    match_subclasses,
    overall_accuracy,
    weighted_f1,
)
from kdnb.evaluation.statistics import (
    Bootstrap,
    adjusted,
    constant_logits,
    holm,
    joint_interval,
    mean_interval,
    pair_interval,
    share_of_gap,
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


def test_a_joint_interval_from_the_squares_of_an_analysis_of_variance():
    """Three seeds and four images; mean squares as in any table of two crossed random factors."""
    values = torch.tensor([[1.0, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]]).double()
    by_seed, by_image = values.mean(1), values.mean(0)
    squares_seed = 4 * by_seed.var().item()
    squares_image = 3 * by_image.var().item()
    residual = values - by_seed[:, None] - by_image + values.mean()
    squares_both = residual.square().sum().item() / (2 * 3)
    assert squares_image < squares_both  # less than nothing is due to images alone
    interval = joint_interval(values)
    half = 4.30265 * math.sqrt(squares_seed / 12)  # so that Student's t has the seeds' 2 degrees
    assert interval.high - interval.mean == pytest.approx(half, rel=1e-5)
    assert (interval.n, interval.images) == (3, 4)
    hard = values + 10 * torch.tensor([0.0, 1, 2, 3])
    squares_image = 3 * hard.mean(0).var().item()
    parts = squares_seed / 12, (squares_image - squares_both) / 12
    interval, share = joint_interval(hard), parts[0] / sum(parts)
    t = 3.18245 + share**1.5 * (4.30265 - 3.18245)  # between 3 and 2 degrees of freedom
    half = t * math.sqrt(sum(parts))
    assert interval.high - interval.mean == pytest.approx(half, rel=1e-5)


def test_p_is_where_the_interval_ends_at_zero():
    values = torch.randn(3, 50, generator=torch.Generator().manual_seed(0)) + 0.3
    interval = joint_interval(values)
    same = joint_interval(values, level=1 - interval.p)
    assert min(abs(same.low), abs(same.high)) == pytest.approx(0, abs=1e-6)
    assert mean_interval([1.0, 2.0, 3.0]).p == pytest.approx(0.0742, abs=1e-4)  # t = 2√3, 2 d.f.
    assert joint_interval(values * 1e-4 + 1.0).p < 1e-6


def test_an_interval_without_width_claims_nothing():
    for interval in (mean_interval([0.1] * 3), joint_interval(torch.full((3, 20), 0.1))):
        assert interval.low == interval.high > 0
        assert not interval.excludes_zero and interval.sign == 0 and interval.p == 1


def test_holm_is_a_step_down_of_bonferroni():
    """Holm 1979: p in order times 4, 3, 2, 1, and never below the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.9, 0.8]) == [1, 1]
    clear = replace(mean_interval([0.10, 0.11, 0.12]), p=0.04)
    assert clear.sign == 1 and clear.excludes_zero
    both = adjusted({"a": clear, "b": replace(clear, p=0.01), "c": replace(clear, p=0.02)})
    assert [gain.sign for gain in both.values()] == [1, 1, 1]
    both = adjusted({"a": clear, "b": replace(clear, p=0.045), "c": replace(clear, p=0.02)})
    assert [gain.sign for gain in both.values()] == [0, 0, 0]
    assert both["a"].p_holm == pytest.approx(0.08) and both["a"].excludes_zero


def test_fiellers_ends_are_where_the_difference_leaves_zero():
    generator = torch.Generator().manual_seed(0)
    common, own = torch.randn(2, 4, 200, generator=generator) * 0.3
    gain, gap = common + 0.05 + 0.2 * own, common + 0.12
    share = share_of_gap(gain, gap)
    assert share.mean == pytest.approx((gain.mean() / gap.mean()).item())
    for end in (share.low, share.high):
        difference = joint_interval(gain.double() - end * gap.double())
        assert min(abs(difference.low), abs(difference.high)) < 1e-5
    assert share_of_gap(gain, gap - gap.mean()) is None  # no gap, no share
    assert share_of_gap(gap, gap).mean == 1


def test_pairs_of_seeds_are_not_independent():
    """Of numbers that are sums of two seeds' parts a₁ + a₂ the mean is twice the parts' mean."""
    parts = torch.tensor([0.1, 0.4, -0.2, 0.3, 0.25], dtype=torch.float64)
    pairs = torch.stack([a + b for a, b in combinations(parts, 2)])
    interval = pair_interval(pairs[:, None].expand(-1, 6))
    expected = mean_interval(2 * parts)
    assert (interval.mean, interval.low) == pytest.approx((expected.mean, expected.low))
    assert interval.n == 5
    for rows in (1, 2, 5):
        with pytest.raises(ValueError, match=f"at least 3 seeds, got {rows} pairs"):
            pair_interval(torch.zeros(rows, 6))


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


# Metrics of two and more classes

SSA = f1(1, "SSA")
TWO = class_metrics(["HP", "SSA"])
REFERENCES = {
    "accuracy": lambda logits, y: accuracy_score(y, logits.argmax(1)),
    "balanced accuracy": lambda logits, y: balanced_accuracy_score(y, logits.argmax(1)),
    "weighted F1": lambda logits, y: f1_score(
        y, logits.argmax(1), average="weighted", zero_division=0
    ),
    "SSA F1": lambda logits, y: f1_score(y, logits.argmax(1), zero_division=0),
    "AUC": lambda logits, y: roc_auc_score(y, F.softmax(logits.double(), 1)[:, 1]),
}


def random_case(images, classes, seed, ties=False):
    """Logits (images, classes) that know a little, and labels of which few are the last class."""
    generator = torch.Generator().manual_seed(seed)
    shares = torch.arange(classes, 0, -1) + 0.5
    labels = torch.multinomial(shares, images, replacement=True, generator=generator)
    logits = torch.randn(images, classes, generator=generator) + F.one_hot(labels, classes)
    return (logits.round() if ties else logits), labels


def seeds_of(count, images, seed):
    """(count, images, 2) logits of models that err on the same images more often than not."""
    generator = torch.Generator().manual_seed(seed)
    logits, labels = random_case(images, 2, seed)
    return logits + 0.5 * torch.randn(count, images, 2, generator=generator), labels


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ties", [False, True])
def test_metrics_of_two_classes_agree_with_scikit_learn(seed, ties):
    logits, labels = random_case(211, 2, seed, ties)
    if ties:
        assert len((logits[:, 1] - logits[:, 0]).unique()) < 15
    assert [metric.name for metric in TWO] == list(REFERENCES)
    for metric in TWO:
        expected = REFERENCES[metric.name](logits, labels)
        assert metric(logits, labels) == pytest.approx(expected, abs=1e-12), metric.name


@pytest.mark.parametrize("classes", [3, 10])
@pytest.mark.parametrize("ties", [False, True])
def test_metrics_of_more_classes_agree_with_scikit_learn(classes, ties):
    logits, labels = random_case(300, classes, classes, ties)
    metrics = class_metrics([str(c) for c in range(classes)])
    assert [metric.name for metric in metrics] == ["accuracy", "balanced accuracy", "weighted F1"]
    for metric in metrics:
        expected = REFERENCES[metric.name](logits, labels)
        assert metric(logits, labels) == pytest.approx(expected, abs=1e-12), metric.name
    each = f1_score(labels, logits.argmax(1), average=None)
    for c in range(classes):
        assert f1(c, "its")(logits, labels) == pytest.approx(each[c], abs=1e-12)


def test_metrics_by_hand():
    """Of 3 HP one is called SSA, of 2 SSA one is found.

    Recalls 2/3 and 1/2. F1: HP 2·2/(3 + 3) = 2/3, SSA 2·1/(2 + 2) = 1/2; weighted by 3 and 2: 3/5.
    SSA scores are 1 and −1, HP scores −2, −1, 2: of 6 pairs 3 are right and one is tied.
    """
    labels = torch.tensor([0, 0, 0, 1, 1])
    score = torch.tensor([-2.0, -1, 2, 1, -1])
    logits = torch.stack([torch.zeros(5), score], 1)
    assert overall_accuracy(logits, labels) == accuracy(logits, labels) == 3 / 5
    assert balanced_accuracy(logits, labels) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert SSA(logits, labels) == 1 / 2
    assert weighted_f1(logits, labels) == pytest.approx(3 / 5)
    assert auc(logits, labels) == pytest.approx(3.5 / 6)


def test_the_area_is_that_of_the_whole_split():
    """Two batches, each in perfect order: a mean of batches says 1, but 2 stands above 1."""
    score = torch.tensor([0.0, 1.0, 2.0, 3.0])
    logits, labels = torch.stack([-score, score], 1), torch.tensor([0, 1, 0, 1])
    batches = [auc(logits[i : i + 2], labels[i : i + 2]) for i in (0, 2)]
    assert sum(batches) / 2 == 1.0
    assert auc(logits, labels) == roc_auc_score(labels, score) == 3 / 4


def test_the_area_needs_scores_not_answers():
    """Both are called SSA with a probability that rounds to 1, and still one of them more so."""
    logits, labels = torch.tensor([[0.0, 100.0], [0.0, 200.0]]), torch.tensor([0, 1])
    assert F.softmax(logits, 1)[:, 1].tolist() == [1.0, 1.0]
    assert auc(logits, labels) == 1.0
    answers = F.one_hot(logits.argmax(1), 2).double()
    assert auc(answers, labels) == 0.5


def test_always_the_most_frequent_class_on_the_counts_of_mhist():
    """Wei et al. 2021, arXiv 2101.12355: 1,545 HP and 630 SSA to train, 617 and 360 to test.

    HP is right on 617/977 = .632; its F1 is 2·617/(617 + 977) = .774, times .632 makes .489.
    """
    train = torch.tensor([0, 1]).repeat_interleave(torch.tensor([1545, 630]))
    labels = torch.tensor([0, 1]).repeat_interleave(torch.tensor([617, 360]))
    logits = constant_logits(train, len(labels), 2)
    scores = {metric.name: metric(logits, labels) for metric in TWO}
    assert round(scores["accuracy"], 3) == 0.632
    assert round(scores["weighted F1"], 3) == 0.489
    assert (scores["AUC"], scores["balanced accuracy"], scores["SSA F1"]) == (0.5, 0.5, 0.0)
    # Its confidence is HP's share of the training images, 1545/2175 = .710.
    assert calibration(logits, labels).error == pytest.approx(1545 / 2175 - 617 / 977)


def test_a_constant_needs_every_class_once():
    with pytest.raises(ValueError, match="no training image of class 1"):
        constant_logits(torch.tensor([0, 2]), 5, 3)


@pytest.mark.parametrize("metric", TWO, ids=lambda metric: metric.name)
def test_the_order_of_images_changes_nothing(metric):
    """Exactly: counts are whole numbers, so no rounding depends on the order."""
    logits, labels = random_case(200, 2, 3, ties=True)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    assert metric(logits[order], labels[order]) == metric(logits, labels)


def test_wrong_inputs_are_named():
    logits, labels = random_case(20, 2, 0)
    three, of_three = random_case(20, 3, 0)
    with pytest.raises(ValueError, match=r"weighted F1 needs .* got shapes \(20, 2\) and \(19,\)"):
        weighted_f1(logits, labels[:-1])
    with pytest.raises(ValueError, match=r"got shapes \(20,\) and \(20,\)"):
        auc(logits[:, 1], labels)
    with pytest.raises(ValueError, match="AUC needs 2 classes, got logits of 3"):
        auc(three, of_three)
    with pytest.raises(ValueError, match=r"needs labels in 0\.\.1, got \[2"):
        balanced_accuracy(logits, of_three)
    with pytest.raises(ValueError, match="finite logits"):
        SSA(logits / 0, labels)
    for metric in TWO:
        message = f"{metric.name} needs images of every class, got none of class 1"
        with pytest.raises(ValueError, match=message):
            metric(logits, torch.zeros_like(labels))


# Intervals over images


@pytest.mark.parametrize("ties", [False, True])
def test_resampling_is_a_loop_over_drawn_images(ties):
    """Each of the vectorised values is scikit-learn's on the same drawn images."""
    logits, labels = random_case(120, 2, 5, ties)
    bootstrap = Bootstrap(labels, resamples=6)
    assert bootstrap.counts.shape == (7, 120)
    for metric in TWO:
        values = metric.resampled(logits, labels, bootstrap.counts)
        for counts, value in zip(bootstrap.counts, values.tolist(), strict=True):
            drawn = torch.arange(120).repeat_interleave(counts.long())
            assert len(drawn) == 120
            expected = REFERENCES[metric.name](logits[drawn], labels[drawn])
            assert value == pytest.approx(expected, abs=1e-12), metric.name


def test_a_bootstrap_of_accuracy_is_the_joint_interval():
    """Of a mean over images both ways must agree, but for the chance of 4,000 draws (1 %)."""
    logits, labels = seeds_of(4, 150, 0)
    over = torch.stack([*logits[1:], logits[0]])
    bootstrap = Bootstrap(labels, resamples=4000)
    gain = bootstrap.gain(overall_accuracy, logits, over)
    right = (logits.argmax(2) == labels).double() - (over.argmax(2) == labels).double()
    expected = joint_interval(right)
    assert (gain.n, gain.images) == (expected.n, expected.images) == (4, 150)
    assert (gain.mean, gain.high) == pytest.approx((expected.mean, expected.high), rel=0.03)
    assert gain.p == pytest.approx(expected.p, abs=0.01)
    narrow = bootstrap.gain(overall_accuracy, logits, over, level=0.5)
    assert gain.low < narrow.low < narrow.mean < narrow.high < gain.high


def test_a_score_stays_below_1_and_one_model_has_an_interval_over_images():
    logits, labels = seeds_of(2, 60, 0)
    logits[:, :, 1] += 1.5 * labels  # nearly all right
    bootstrap = Bootstrap(labels, resamples=100)
    score = bootstrap.interval(auc, logits)
    assert 0 < score.low < score.mean < score.high < 1
    assert score.mean - score.low > score.high - score.mean
    assert bootstrap.interval(auc, logits[:1]).n == 1
    with pytest.raises(ValueError, match="paired by seed, got 2 and 1 seeds"):
        bootstrap.gain(auc, logits, logits[:1])


def test_the_same_seed_draws_the_same_images():
    labels = torch.tensor([0, 1]).repeat(30)
    counts = [Bootstrap(labels, 5, seed).counts for seed in (0, 0, 1)]
    assert torch.equal(counts[0], counts[1]) and not torch.equal(counts[0], counts[2])
    assert counts[0][0].tolist() == [1] * 60  # the images as they are
    assert (counts[0].sum(1) == 60).all() and (counts[0][1:] != 1).any(1).all()


def test_gains_are_paired_by_image():
    """A model gains exactly nothing over itself; one image more is never a loss."""
    logits, labels = seeds_of(3, 150, 1)
    bootstrap = Bootstrap(labels, resamples=300)
    for metric in TWO:
        itself = bootstrap.gain(metric, logits, logits)
        assert (itself.mean, itself.low, itself.high) == (0, 0, 0) and not itself.excludes_zero
    better = logits.clone()
    wrong = (logits[0].argmax(1) != labels).nonzero()[0, 0]
    better[:, wrong] = 9.0 * F.one_hot(labels[wrong], 2)
    gain = bootstrap.gain(overall_accuracy, better, logits)
    fixed = (logits[:, wrong].argmax(1) != labels[wrong]).double().mean().item()
    assert gain.mean == pytest.approx(fixed / 150)
    assert gain.low < 0 < gain.high  # one image of 150 is no gain
    loss = bootstrap.gain(overall_accuracy, logits, better)
    assert (loss.mean, loss.low, loss.high) == (-gain.mean, -gain.high, -gain.low)


def test_intervals_do_not_depend_on_the_order_of_images():
    """With the draws in the same order as the images, exactly; draws of their own differ a bit."""
    logits, labels = seeds_of(2, 150, 2)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(1))
    plain, moved = Bootstrap(labels, 200), Bootstrap(labels[order], 200)
    for metric in TWO:
        fresh = moved.interval(metric, logits[:, order])
        assert fresh.mean == plain.interval(metric, logits).mean
    moved.counts = plain.counts[:, order]
    for metric in TWO:
        assert moved.interval(metric, logits[:, order]) == plain.interval(metric, logits)


@pytest.mark.slow
def test_intervals_cover_as_often_as_they_say():
    """200 splits of 150 images, for two models per method whose true values are known.

    Scores are N(±d/2, 1), so AUC = Φ(d/√2) and accuracy = Φ(d/2). Of 200 intervals at 95 %, 190
    should cover, with a deviation of √(200·0.95·0.05) = 3.1: three of those are allowed.
    """
    generator = torch.Generator().manual_seed(0)

    def normal(x):
        return (1 + math.erf(x / math.sqrt(2))) / 2

    def logits(labels, shared, distance):
        noise = torch.randn(2, 150, generator=generator)
        score = distance * (labels - 0.5) + math.sqrt(0.5) * (shared + noise)
        return torch.stack([torch.zeros_like(score), score], 2)

    truth = {"AUC": normal(1 / math.sqrt(2)), "gain": normal(0.75) - normal(0.5)}
    covered = dict.fromkeys(truth, 0)
    for split in range(200):
        labels = (torch.rand(150, generator=generator) < 0.37).long()
        shared = torch.randn(150, generator=generator)
        alone, distilled = (logits(labels, shared, distance) for distance in (1.0, 1.5))
        bootstrap = Bootstrap(labels, resamples=200, seed=split)
        found = {
            "AUC": bootstrap.interval(auc, alone),
            "gain": bootstrap.gain(overall_accuracy, distilled, alone),
        }
        for name, value in truth.items():
            covered[name] += found[name].low <= value <= found[name].high
    tolerance = 3 * math.sqrt(200 * 0.95 * 0.05)
    assert covered == pytest.approx({"AUC": 190, "gain": 190}, abs=tolerance)


def test_no_draw_lacks_a_class():
    """Of 1,000 plain draws of 50 images, e⁻⁵ or about 6 would lack the five of class 1."""
    labels = (torch.arange(50) < 5).long()
    plain = torch.randint(50, (1000, 50), generator=torch.Generator().manual_seed(0))
    assert (labels[plain].sum(1) == 0).any()
    counts = Bootstrap(labels, resamples=1000).counts
    assert (counts @ labels.double()).min() > 0


def test_too_little_to_draw_from_is_said():
    logits, labels = seeds_of(2, 60, 0)
    with pytest.raises(ValueError, match="at least 5 images of each class, got 4 of class 1"):
        Bootstrap((torch.arange(50) < 4).long())
    with pytest.raises(ValueError, match=r"got shapes \(60, 2\) and \(59,\)"):
        Bootstrap(labels[:-1]).interval(auc, logits)
    with pytest.raises(ValueError, match=r"of shape \(seeds, N, C\), got \(60, 2\)"):
        Bootstrap(labels).interval(auc, logits[0])
    with pytest.raises(ValueError, match="got none of class 2"):
        Bootstrap(labels).interval(weighted_f1, F.pad(logits, (0, 1)))
