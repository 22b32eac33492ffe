"""The networks: published sizes, and the two shortcuts that must change nothing."""

import pytest
import torch
import torch.nn.functional as F

from kdnb.data import polyps
from kdnb.models import StudentMLP, TeacherCNN, backbones
from kdnb.store.store import weights_digest


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("model", "count"),
    [
        (TeacherCNN(), 1_011_466),  # as published with the course that the study grew from
        (StudentMLP(), 1_238_730),
        # conv 1·32·9+32, conv 32·64·9+64, dense 7744·128+128, output 128·10+10 for 2×5 subclasses
        (TeacherCNN(num_classes=2, subclasses=5), 1_011_466),
        # conv 1·16·9+16, conv 16·32·9+32, dense 5·5·32·128+128, output 1290
        (TeacherCNN(channels=(16, 32), pool_stride=2), 160 + 4_640 + 102_528 + 1_290),
        (StudentMLP(hidden=(64, 64)), 784 * 64 + 64 + 64 * 64 + 64 + 64 * 10 + 10),
        (StudentMLP(hidden=()), 784 * 10 + 10),
    ],
)
def test_parameters(model, count):
    assert parameters(model) == count


@pytest.mark.parametrize("model", [TeacherCNN, StudentMLP])
def test_outputs(model):
    images = torch.rand(3, 1, 28, 28)
    assert model()(images).shape == (3, 10)
    assert model(num_classes=3, subclasses=4)(images).shape == (3, 12)


def test_pooling_before_relu_is_the_same_network():
    torch.manual_seed(0)
    model = TeacherCNN().eval()
    images = torch.rand(4, 1, 28, 28)
    x = F.max_pool2d(F.relu(model.conv1(images)), 2, stride=1)
    x = F.max_pool2d(F.relu(model.conv2(x)), 2, stride=2)
    assert x.shape == (4, 64, 11, 11)
    x = F.relu(model.dense(x.permute(0, 2, 3, 1).reshape(4, -1)))
    torch.testing.assert_close(model(images), model.output(x))


def test_memory_format_changes_nothing():
    torch.manual_seed(0)
    model = TeacherCNN().eval()
    images = torch.rand(4, 1, 28, 28)
    plain = model(images)
    model.to(memory_format=torch.channels_last)
    fast = model(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(plain, fast, atol=1e-5, rtol=0)


@pytest.mark.parametrize("model", [TeacherCNN, StudentMLP])
def test_heads_too_small(model):
    with pytest.raises(ValueError, match="subclasses must be at least 1, got 0"):
        model(num_classes=2, subclasses=0)
    with pytest.raises(ValueError, match="num_classes must be at least 1, got -2"):
        model(num_classes=-2)


@pytest.mark.parametrize("model", [TeacherCNN, StudentMLP])
def test_another_head_starts_from_the_same_backbone(model):
    """Methods whose students differ in the head are paired by everything before it."""
    states = []
    for subclasses in (1, 5):
        torch.manual_seed(3)
        weights = model(num_classes=2, subclasses=subclasses).state_dict()
        states.append({n: w for n, w in weights.items() if not n.startswith("output")})
    assert len(states[0]) >= 4
    assert all(torch.equal(w, states[1][name]) for name, w in states[0].items())


@pytest.mark.slow
@pytest.mark.parametrize("network", ["resnet50", "mobilenet_v2"])
def test_random_backbones_are_the_same_with_any_number_of_threads(network, tmp_path, monkeypatch):
    """Else what one report stores would be of no use to the next."""
    threads, digests = torch.get_num_threads(), set()
    try:
        for count in (1, 2):
            monkeypatch.setenv("KDNB_RUNS", str(tmp_path / str(count)))  # not the other's, stored
            torch.set_num_threads(count)
            backbones.random_backbone.cache_clear()
            digests.add(weights_digest(backbones.random_backbone(network, polyps.sample)))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert len(digests) == 1


def test_a_random_backbone_is_kept_and_found_again(tmp_path, monkeypatch):
    monkeypatch.setenv("KDNB_RUNS", str(tmp_path))
    backbones.random_backbone.cache_clear()
    made = backbones.random_backbone("mobilenet_v2", polyps.sample)
    monkeypatch.setattr(backbones, "_initialise", None)  # whoever calls it now fails
    backbones.random_backbone.cache_clear()
    found = backbones.random_backbone("mobilenet_v2", polyps.sample)
    assert weights_digest(found) == weights_digest(made)
    assert repr(found) == repr(made) and found.training == made.training
    assert all(p.requires_grad and p.is_leaf for p in found.parameters())
    backbones.random_backbone.cache_clear()
    with pytest.raises(TypeError):  # other images, another backbone
        backbones.random_backbone("mobilenet_v2", lambda: polyps.sample()[:8])


@pytest.mark.slow
def test_random_backbones_have_weak_residual_branches():
    net = backbones.random_backbone("resnet50", polyps.sample)
    for block in net.layer2:
        assert block.bn3.weight.unique().item() == pytest.approx(0.3)
    assert net.layer2[0].bn1.weight.unique().item() == 1
    assert net.layer4[2].bn3.running_var.std() > 0  # calibrated on pictures
