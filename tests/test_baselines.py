"""Plain baselines, what k-means recovers, and what chance and the ceiling allow."""

from dataclasses import replace

import pytest
import torch

from kdnb.data import Dataset, Split
from kdnb.data.dataset import stratified_indices
from kdnb.evaluation.metrics import chance_recovered, match_subclasses, most_recovered
from kdnb.experiment import Experiment
from kdnb.experiment.baselines import baselines, kmeans_recovered


def spots(images: int, seed: int) -> Split:
    """Two classes of two subclasses: a bright quarter, with noise; the subclass is the quarter."""
    generator = torch.Generator().manual_seed(seed)
    quarter = torch.arange(images) % 4
    pixels = torch.randint(0, 60, (images, 1, 28, 28), generator=generator)
    for image, q in zip(pixels, quarter.tolist(), strict=True):
        y, x = divmod(q, 2)
        image[:, y * 14 : y * 14 + 14, x * 14 : x * 14 + 14] += 150
    return Split(pixels.to(torch.uint8), quarter // 2, quarter)


def coloured(images: int, seed: int) -> Split:
    """Class 1, one image in four, is redder than class 0 by less than its images differ."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.arange(images) % 4 == 0).long()
    base = torch.randint(60, 120, (images, 3, 1, 1), generator=generator)
    base[labels == 1, 0] += 40
    pixels = base + torch.randint(0, 20, (images, 3, 32, 32), generator=generator)
    return Split(pixels.to(torch.uint8), labels)


def lab_of(task, store, make, names=("a", "b"), subclasses=(), **changes):
    def dataset():
        splits = (make(images, seed) for seed, images in enumerate((96, 40, 60)))
        return Dataset("made", "made for tests", names, *splits, subclass_names=subclasses)

    return Experiment(replace(task, dataset=dataset, **changes), store=store)


def test_grey_images_have_neighbours_and_an_svm(tiny_task, store):
    lab = Experiment(tiny_task, store=store)
    majority, neighbours, svm = baselines(lab).items()
    labels, test = lab.transfer.labels, lab.dataset.test.labels
    answer = labels.bincount().argmax()
    assert majority[0] == f"always {lab.dataset.class_names[answer]} (majority)"
    assert torch.equal(majority[1], test == answer)
    assert (neighbours[0], svm[0]) == ("3 nearest neighbours", "SVM")
    assert svm[1].dtype == torch.bool
    assert svm[1].shape == test.shape
    # By hand: the majority of the three images at the smallest distance.
    train, asked = (s.images.flatten(1).double() for s in (lab.transfer, lab.dataset.test))
    nearest = labels[torch.cdist(asked, train).topk(3, largest=False).indices]
    agreed = nearest.mode(1)
    sure = (nearest == agreed.values[:, None]).sum(1) > 1
    assert torch.equal(neighbours[1][sure], (agreed.values == test)[sure])
    assert svm[1].double().mean() > majority[1].double().mean() + 0.3


def test_an_svm_sees_no_more_images_than_it_can_take(tiny_task, store, monkeypatch):
    monkeypatch.setattr("kdnb.experiment.baselines.AT_MOST", 40)
    lab = Experiment(tiny_task, store=store)
    few = lab.transfer.take(*stratified_indices(lab.transfer.labels, (40,), 0))
    of_few = baselines(lab, train=few)["SVM"]
    assert torch.equal(baselines(lab)["SVM on 40 images"], of_few)
    assert lab.transfer.labels.unique().equal(few.labels.unique())


def test_a_split_of_their_own_and_other_training_images(tiny_task, store):
    lab = Experiment(tiny_task, store=store)
    assert baselines(lab, "val")["SVM"].shape == (len(lab.dataset.val),)
    few = lab.transfer.take((lab.transfer.labels < 2).nonzero().squeeze(1))
    assert not baselines(lab, train=few)["SVM"][lab.dataset.test.labels >= 2].any()


def test_colour_images_are_told_apart_by_their_colours(tiny_task, store):
    lab = lab_of(tiny_task, store, coloured)
    assert list(found := baselines(lab)) == ["always a (majority)", "colour histogram"]
    assert found["colour histogram"].double().mean() > 0.8
    assert found["always a (majority)"].double().mean() == 0.75


def test_where_the_task_is_balanced_the_rare_class_counts_as_much(tiny_task, store):
    recall = {}
    for balanced in (False, True):
        lab = lab_of(tiny_task, store, coloured, balanced=balanced)
        correct = baselines(lab)["colour histogram"]
        recall[balanced] = correct[lab.dataset.test.labels == 1].double().mean()
    assert recall[True] > recall[False]


def test_predictions_are_kept_and_belong_to_their_images(tiny_task, store, monkeypatch):
    lab = Experiment(tiny_task, store=store)
    first, kept = baselines(lab), store.names("baseline-")
    assert len(kept) == len(first) == 3

    def fail(self, images):
        raise AssertionError("predicted again")

    monkeypatch.setattr("sklearn.svm.SVC.predict", fail)
    again = baselines(lab)
    assert all(torch.equal(first[label], again[label]) for label in first)
    with pytest.raises(AssertionError, match="predicted again"):
        baselines(lab, "val")
    monkeypatch.setattr("sklearn.__version__", "another")
    with pytest.raises(AssertionError, match="predicted again"):
        baselines(lab)


def test_k_means_recovers_what_pixels_tell(tiny_task, store):
    lab = lab_of(tiny_task, store, spots, subclasses=tuple("wxyz"))
    assert kmeans_recovered(lab, 2) == kmeans_recovered(lab, 2, "val") == 1
    # Three clusters for two true subclasses: one of them is split, or left without a partner.
    assert 0.5 < kmeans_recovered(lab, 3) < 1


def test_chance_is_one_in_so_many_and_a_little_more():
    labels = torch.arange(20_000) % 2
    true = labels * 5 + torch.randint(5, labels.shape, generator=torch.Generator().manual_seed(1))
    assert 0.2 < chance_recovered(labels, true, 5) < 0.22


@pytest.mark.parametrize("live", [1, 2, 3, 4])
def test_no_division_into_so_few_recovers_more(live):
    true = torch.tensor([0] * 5 + [1] * 4 + [2] * 2 + [3])
    most = most_recovered(live, true)
    assert most == [5, 9, 11, 12][live - 1] / 12
    for seed in range(20):
        drawn = torch.randint(live, true.shape, generator=torch.Generator().manual_seed(seed))
        invented = torch.nn.functional.one_hot(drawn, 4)
        assert match_subclasses(invented, true, 4).recovered <= most
    merged = torch.nn.functional.one_hot(true.clamp(max=live - 1), 4)
    assert match_subclasses(merged, true, 4).recovered == most
