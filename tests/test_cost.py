"""What models cost, against counts that are known."""

import time

import pytest
import torch
from torch import nn

from kdnb import cost as costs
from kdnb.cost import cost, joules_per_image, timing
from kdnb.models import StudentMLP, TeacherCNN, mobilenet_v2_student, resnet50_teacher
from kdnb.store import weights_digest
from kdnb.torchvision_remedy import import_torchvision

DIGIT = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("make", "parameters", "flops"),
    # As counted by TensorFlow's profiler for the course from which the study grew
    [(TeacherCNN, 1_011_466, 22_042_058), (StudentMLP, 1_238_730, 2_475_882)],
)
def test_the_studys_networks_cost_what_is_published(make, parameters, flops):
    found = cost(make(), DIGIT)
    assert (found.parameters, found.flops) == (parameters, flops)
    assert found.thop_macs == found.macs  # neither batch-norm nor pooling layers


@pytest.mark.parametrize(
    ("make", "weights"),
    [
        (resnet50_teacher, "ResNet50_Weights"),
        (mobilenet_v2_student, "MobileNet_V2_Weights"),
    ],
)
def test_torchvisions_networks_cost_what_torchvision_says(make, weights):
    published = getattr(import_torchvision().models, weights).IMAGENET1K_V1.meta
    found = cost(make(num_classes=1000, weights=None), torch.rand(1, 3, 224, 224))
    assert found.parameters == published["num_params"]
    assert found.macs / 1e9 == pytest.approx(published["_ops"], abs=5e-4)  # GMACs to three digits
    assert found.thop_macs - found.macs == sum(found.thop_extra.values())
    assert set(found.thop_extra) == {"BatchNorm2d", "AdaptiveAvgPool2d"}
    assert found.stored_bytes == pytest.approx(4 * published["num_params"], rel=0.02)


@pytest.mark.parametrize("make", [TeacherCNN, lambda: mobilenet_v2_student(weights=None)])
def test_costs_are_per_image_whatever_the_batch(make):
    model = make()
    channels = 3 if hasattr(model, "stages") else 1
    images = torch.rand(5, channels, 28, 28)
    assert cost(model, images) == cost(model, images[:1].clone())


def test_counting_leaves_the_model_as_it_was():
    model = TeacherCNN().train()
    before, names = weights_digest(model), list(model.state_dict())
    cost(model, DIGIT)
    assert weights_digest(model) == before
    assert list(model.state_dict()) == names
    assert model.training


def test_flops_of_each_kind_of_layer_by_hand():
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, stride=2, padding=1),  # 14×14 places, 2 maps, 9 products, one bias
        nn.MaxPool2d((2, 7)),  # 7×2 places, 2 maps, windows of 14
        nn.AdaptiveAvgPool2d(1),  # 28 values
        nn.Flatten(),
        nn.Linear(2, 3, bias=False),
    )
    found = cost(model, DIGIT)
    assert found.macs == 14 * 14 * 2 * 9 + 6
    assert found.flops == 2 * found.macs + 14 * 14 * 2 + 7 * 2 * 2 * 14 + 28


def test_groups_divide_the_products():
    model = nn.Sequential(nn.Conv2d(4, 8, 3, groups=4, padding=1, bias=False))
    found = cost(model, torch.rand(2, 4, 10, 10))
    assert found.macs == 100 * 8 * 9
    assert found.thop_macs == found.macs


def test_the_peak_of_memory_by_hand():
    # In the second layer: image, first layer's answer, second layer's before and after its ReLU.
    assert cost(StudentMLP(hidden=(784, 784)), DIGIT).activation_bytes == 4 * 784 * 4
    # A ReLU in place needs no third tensor; the weights do not count.
    in_place = nn.Sequential(nn.Flatten(), nn.Linear(784, 100), nn.ReLU(inplace=True))
    assert cost(in_place, DIGIT).activation_bytes == (784 + 100) * 4


class Slow(nn.Module):
    """Takes two milliseconds, and notes the number of threads."""

    def __init__(self):
        super().__init__()
        self.threads = set()

    def forward(self, images):
        self.threads.add(torch.get_num_threads())
        time.sleep(0.002)
        return images


def test_timing_waits_for_the_model_with_the_threads_it_was_told():
    before, model = torch.get_num_threads(), Slow().train()
    found = timing(model, torch.rand(4, 1, 2, 2), threads=2, seconds=0.1)
    assert 0.002 <= found.low <= found.median <= found.high
    assert found.images_per_second == 4 / found.median
    assert (found.batch, found.threads, found.device) == (4, 2, "cpu")
    assert model.threads == {2}
    assert torch.get_num_threads() == before
    assert model.training


def counter(folder, number, microjoules):
    package = folder / f"intel-rapl:{number}"
    package.mkdir()
    (package / "energy_uj").write_text(f"{microjoules}\n")
    return package / "energy_uj"


def test_energy_is_what_all_counters_together_went_up_by(tmp_path):
    files = [counter(tmp_path, 0, 500), counter(tmp_path, 1, 0)]
    (tmp_path / "intel-rapl:0:0").mkdir()  # a part of package 0: counted there already
    (tmp_path / "intel-rapl:0:0" / "energy_uj").write_text("7\n")

    class Hungry(nn.Module):
        def forward(self, images):
            for file in files:
                file.write_text(f"{int(file.read_text()) + 1_000_000}\n")
            return images

    found = joules_per_image(Hungry(), torch.rand(4, 1), seconds=0.01, counters=tmp_path)
    assert found == pytest.approx(2 / 4)  # two joules a pass of four images


def test_energy_is_measured_again_where_the_counter_starts_anew(tmp_path):
    file = counter(tmp_path, 0, 5_000_000)
    passes = []

    class Overflowing(nn.Module):
        def forward(self, images):
            passes.append(1)
            file.write_text(f"{len(passes) * 1000}\n")
            return images

    found = joules_per_image(Overflowing(), torch.rand(2, 1), seconds=0.01, counters=tmp_path)
    assert found == pytest.approx(0.0005)


def test_energy_is_unknown_where_nothing_shows_it(tmp_path, monkeypatch):
    assert joules_per_image(Slow(), torch.rand(1, 1), counters=tmp_path) is None
    file = counter(tmp_path, 0, 1)

    def refuse(path):
        raise PermissionError(path)

    monkeypatch.setattr(type(file), "read_text", refuse)
    assert joules_per_image(Slow(), torch.rand(1, 1), counters=tmp_path) is None


def test_the_counters_are_linuxs():
    assert str(costs.RAPL) == "/sys/class/powercap"
