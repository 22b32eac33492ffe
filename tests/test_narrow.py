"""The narrow networks of the generated polyps, and when they take the study's networks' places."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from kdnb.evaluation.cost import cost
from kdnb.evaluation.saliency import Saliency, saliency_maps
from kdnb.models import (
    mobilenet_v2_student,
    narrow_mobilenet_v2_student,
    narrow_resnet_teacher,
    pretrained,
    resnet50_teacher,
)
from kdnb.tasks import TASKS
from kdnb.tasks.mhist import POLYPS, PRETRAINED_POLYPS

IMAGE = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def resnet_by_hand(channels=(16, 32, 64, 128)):
    """(parameters, multiply-adds) of convolutions and batch-norm, for one image of 64 pixels."""
    first = channels[0]
    layers = [(27 * first, first, 32), *[(9 * first * first, first, 16)] * 2]
    for before, after, side in zip(channels, channels[1:], (8, 4, 2), strict=False):
        weights = (9 * before * after, 9 * after * after, before * after)
        layers += [(w, after, side) for w in weights]
    return layers, channels[-1]


def mobilenet_by_hand(widths=(16, 8, 8, 16, 24, 32, 56), last=448):
    """The same: Sandler et al. 2018, Table 2, times .35 in multiples of 8."""
    layers, sides = [(27 * widths[0], widths[0], 32)], (32, 16, 8, 8, 4, 4, 2)
    for number, (before, after) in enumerate(pairwise(widths)):
        inside, (side, smaller) = before * (6 if number else 1), sides[number : number + 2]
        if number:
            layers.append((before * inside, inside, side))
        layers += [(9 * inside, inside, smaller), (inside * after, after, smaller)]
    return [*layers, (widths[-1] * last, last, 2)], last


@pytest.mark.parametrize(
    ("make", "by_hand", "parameters"),
    [
        (narrow_resnet_teacher, resnet_by_hand, 307_794),
        (narrow_mobilenet_v2_student, mobilenet_by_hand, 65_522),
    ],
)
def test_parameters_and_multiply_adds(make, by_hand, parameters):
    layers, features = by_hand()
    weights = sum(w + 2 * outputs for w, outputs, _ in layers) + 2 * features + 2
    macs = sum(w * side**2 for w, _, side in layers) + 2 * features
    found = cost(make(), IMAGE)
    assert (found.parameters, found.macs) == (weights, macs) and weights == parameters
    assert found.thop_macs - macs == sum(found.thop_extra.values())
    assert found.uncounted == () and found.thop_failure == ""
    assert cost(make(subclasses=4), IMAGE).parameters == weights + 6 * (features + 1)


@pytest.mark.parametrize("make", [narrow_resnet_teacher, narrow_mobilenet_v2_student])
@pytest.mark.parametrize("method", ["gradient", "Grad-CAM"])
def test_their_answers_can_be_explained(make, method):
    torch.manual_seed(0)
    images = (IMAGE * 255).to(torch.uint8).repeat(2, 1, 1, 1)
    maps = saliency_maps(make(), images, torch.tensor([0, 1]), 2, Saliency(method))
    assert maps.shape == (2, 64, 64) and maps.isfinite().all() and maps.any()


def test_all_of_their_layers_are_trained_and_each_seed_has_its_own():
    for make in (narrow_resnet_teacher, narrow_mobilenet_v2_student):
        one, other = make(), make()
        assert all(p.requires_grad for p in one.parameters())
        stems = [next(network.stages.stem.parameters()) for network in (one, other)]
        assert not torch.equal(*stems)


@pytest.mark.parametrize("missing", [(), ("mobilenet_v2",), ("resnet50", "mobilenet_v2")])
def test_the_studys_networks_are_taken_where_there_are_weights_for_both(missing, monkeypatch):
    """With them the task is as it was: frozen stages, then the last block."""
    found = {name: None if name in missing else nn.Identity() for name in pretrained.NETWORKS}
    monkeypatch.setattr(pretrained, "imagenet", lambda network: (found[network], ""))
    resolved = POLYPS.resolved(None)
    if missing:
        assert resolved is POLYPS and "narrow" in resolved.text.choices
        assert resolved.teacher_config.first_trainable == ""
    else:
        assert resolved is PRETRAINED_POLYPS and "designed for ImageNet" in resolved.text.choices
        assert resolved.teacher.func is resnet50_teacher
        assert resolved.student.func is mobilenet_v2_student
        assert resolved.teacher_config.trained_stages == ("output", "block16")
    assert resolved.name == resolved.dataset == "polyps"
    changed = replace(resolved, sizes=replace(resolved.sizes, student_images=7))
    assert changed.resolved(None).sizes.student_images == 7


def test_only_the_small_pictures_have_narrow_networks(monkeypatch):
    monkeypatch.setenv("KDNB_WEIGHTS", "random")
    for name in ("mhist", "polyps-224"):
        assert TASKS[name].resolved(None) is TASKS[name]
        assert TASKS[name].teacher.func is resnet50_teacher
