"""What models cost, against counts that are known."""

import json
import re
import sys
import time
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from torch import nn

from kdnb.__main__ import main
from kdnb.evaluation import cost as costs
from kdnb.evaluation.cost import cost, joules_per_image, timing
from kdnb.models import StudentMLP, TeacherCNN, mobilenet_v2_student, resnet50_teacher
from kdnb.store.store import weights_digest
from kdnb.tasks import TASKS
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


REFERENCE = Path(__file__).parents[1] / "report" / "reference"


@pytest.mark.parametrize("name", ["mnist-small", "polyps"])
def test_the_sizes_cost_what_the_kept_reference_says(name, monkeypatch):
    monkeypatch.setenv("KDNB_WEIGHTS", "random")
    results = json.loads((REFERENCE / f"{name}.json").read_text())["results"]
    (rungs,) = (result["size_sweep"] for result in results if "size_sweep" in result)
    classes, shape = (2, (3, 64, 64)) if name == "polyps" else (10, (1, 28, 28))
    for (_, make), kept in zip(TASKS[name].sizes.students, rungs, strict=True):
        found = asdict(cost(make(num_classes=classes), torch.rand(1, *shape)))
        assert found["uncounted"] == () and found["thop_failure"] == ""
        for quantity in ("parameters", "macs", "flops", "thop_macs", "activation_bytes"):
            assert found[quantity] == kept["cost"][quantity], (kept["name"], quantity)


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_b_32", "swin_t", "shufflenet_v2_x1_0", "efficientnet_b0"])
def test_networks_that_the_study_does_not_have_cost_what_torchvision_says(name):
    models = import_torchvision().models
    published = models.get_model_weights(name).IMAGENET1K_V1.meta
    found = cost(models.get_model(name, weights=None), torch.rand(1, 3, 224, 224))
    assert found.parameters == published["num_params"]
    assert found.macs / 1e9 == pytest.approx(published["_ops"], abs=5e-4)
    assert found.uncounted == ()


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


class Unusual(nn.Module):
    """All that a copy, a second count or a file may stumble over, and that runs nevertheless."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6, bias=False)
        self.same = self.first  # one layer under two names
        self.tied = nn.Linear(6, 6)
        self.tied.weight = self.first.weight
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.register_buffer("shown", torch.zeros(1).expand(50))
        self.register_buffer("places", torch.rand(6), persistent=False)
        self.calls = 0
        self.first.register_forward_hook(lambda module, inputs, output: output.mul_(2))

    def forward(self, images):
        self.calls += 1
        tokens = self.tied(self.same(self.first(images))).add_(self.places)
        return self.attention(tokens, tokens, tokens)


def test_an_unusual_model_is_counted_and_left_as_it_was():
    model = Unusual()
    model.attention.eval()
    images = torch.rand(3, 5, 6)
    modes, before = [m.training for m in model.modules()], weights_digest(model)
    found = cost(model, images)
    # Three times 6 · 6 at 5 places; 6 to 18 and to 6, two heads of 5 · 5 · 3 scores and as much
    assert found.macs == 3 * 180 + 5 * (108 + 36) + 2 * 2 * 75
    assert found == cost(model, images[:1].clone())
    # Weights once: 36, and 18 · 6 + 18 + 36 + 6 of attention, and 6 biases
    assert found.parameters == 36 + 6 + 108 + 18 + 36 + 6
    apart = Unusual()
    apart.tied.weight = nn.Parameter(torch.rand(6, 6))
    assert 4 * 36 <= cost(apart, images).stored_bytes - found.stored_bytes < 4 * 36 + 100  # a name
    assert model.calls == 0 and not hasattr(model, "total_ops")
    assert [m.training for m in model.modules()] == modes and weights_digest(model) == before
    assert model.tied.weight is model.first.weight and model.same is model.first


def test_where_thop_fails_its_reason_is_kept_and_the_rest_is_counted():
    class Watchful(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 4)

        def forward(self, images):
            if list(self.buffers()):  # thop adds some
                raise RuntimeError
            return self.layer(images)

    found = cost(Watchful(), torch.rand(1, 6))
    assert (found.macs, found.thop_macs, found.thop_extra) == (24, None, {})
    assert found.thop_failure == "RuntimeError"  # no words of its own
    taken = nn.Linear(6, 4)
    taken.total_ops = 1
    found = cost(taken, torch.rand(1, 6))
    assert (found.macs, found.flops, found.thop_macs) == (24, 52, None)
    assert found.thop_failure == "\"attribute 'total_ops' already exists\""


def test_a_model_that_cannot_be_copied_is_one_sentence():
    model = nn.Linear(6, 4)
    model.kept = model(torch.rand(1, 6))
    with pytest.raises(ValueError, match="cost needs a copy of Linear and cannot make one"):
        cost(model, torch.rand(1, 6))


def test_the_peak_of_memory_leaves_out_buffers_that_are_not_saved():
    class Placed(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("places", torch.rand(6), persistent=False)

        def forward(self, images):
            return (images + self.places.view(1, 6)).sum()

    # the images, their sum with the buffer, and one number
    assert cost(Placed(), torch.rand(1, 5, 6)).activation_bytes == 4 * (30 + 30 + 1)


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


@pytest.mark.parametrize(
    "seconds", [0, -0.5, float("nan"), float("inf"), float("-inf"), "0.3", True, None, [1], 1j]
)
def test_a_measurement_that_would_not_end_is_one_sentence(seconds, tmp_path):
    says = re.escape(f"seconds must be a positive number such as 0.3, got {seconds!r}")
    with pytest.raises(ValueError, match=says):
        timing(Slow(), torch.rand(1, 1), seconds=seconds)
    with pytest.raises(ValueError, match=says):
        joules_per_image(Slow(), torch.rand(1, 1), seconds=seconds, counters=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [1, 1e-12, Fraction(1, 10**6), np.float32(1e-3)])
def test_the_shortest_measurement_is_of_one_pass(seconds, tmp_path):
    file = counter(tmp_path, 0, 0)

    class Changing(Slow):
        """Never twice as fast: only the limit ends its measurement."""

        def forward(self, images):
            file.write_text("3000000\n")
            time.sleep(0.05 * (len(self.threads) % 2))
            self.threads.add(len(self.threads))
            return images

    assert timing(Changing(), torch.rand(1, 1, 2, 2), seconds=seconds).n >= 1
    file.write_text("0\n")
    found = joules_per_image(Changing(), torch.rand(2, 1), seconds=1e-12, counters=tmp_path)
    assert found == pytest.approx(3 / 2)


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

    def refuse(path, encoding):
        raise PermissionError(path)

    monkeypatch.setattr(type(file), "read_text", refuse)
    assert joules_per_image(Slow(), torch.rand(1, 1), counters=tmp_path) is None


def test_the_counters_are_linuxs():
    assert str(costs.RAPL) == "/sys/class/powercap"


MODULE = """
import torch
from torch import nn
from kdnb.data import ImageTensors
from kdnb.tasks.custom import custom_task
from kdnb.training.config import TrainConfig

labels = torch.arange(90) % 3
images = torch.randint(0, 60, (90, 3, 12, 12), generator=torch.Generator().manual_seed(0))
images[range(90), labels] += 150

class Teacher(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(36, 4, 48, batch_first=True)
        self.output = nn.Linear(36, num_classes)
    def forward(self, x):
        return self.output(self.layer(x.permute(0, 2, 1, 3).flatten(2)).mean(1))

class Prototypes(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.places = nn.Parameter(torch.rand(num_classes, 432))
    def forward(self, x):
        return -torch.cdist(x.flatten(1), self.places)

quick = TrainConfig(epochs=1, batch_size=16, learning_rate=1e-2)
my_task = custom_task("tokens", ImageTensors(images.to(torch.uint8), labels), Teacher, Prototypes,
                   teacher_config=quick, student_config=quick)
"""


@pytest.mark.slow
def test_chapter_05_counts_attention_and_names_what_it_does_not_count(tmp_path, monkeypatch, capfd):
    (tmp_path / "tokens_task.py").write_text(MODULE)
    monkeypatch.setenv("KDNB_RUNS", str(tmp_path / "runs"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    command = ["report", "--task", "tokens_task:my_task", "--only", "05", "--output", "out"]
    assert main([*command, "--set", "seeds=[0, 1]"]) == 0
    executed = nbformat.read(tmp_path / "out" / "tokens" / "05_cost.ipynb", as_version=4)
    said = str([cell.get("outputs") for cell in executed.cells])
    # 12 tokens of 36: 4 · 36² each, 2 · 36 for each pair, 2 · 36 · 48 each; 36 to 3
    assert f"kdnb {12 * 4 * 36**2 + 144 * 2 * 36 + 12 * 2 * 36 * 48 + 108:,}" in said
    assert "Not counted: `aten._cdist_forward` (student" in said
    capfd.readouterr()
    assert main([*command, "--set", "seconds=0"]) == 1
    assert "seconds must be a positive number such as 0.3, got 0" in capfd.readouterr().err
    sys.modules.pop("tokens_task", None)
