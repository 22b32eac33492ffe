"""ImageNet weights: found, verified, or honestly missing. Nothing here reaches the network."""

import hashlib
import os
import socket

import pytest
import torch

from kdnb import doctor
from kdnb.models import mobilenet_v2_student, pretrained, resnet50_teacher
from kdnb.models.pretrained import MissingWeightsWarning, WeightsError, imagenet
from kdnb.torchvision_remedy import import_torchvision


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch, tmp_path):
    """No setting, an empty cache of torchvision's, and a network that is down."""
    pretrained._imagenet.cache_clear()
    monkeypatch.delenv("KDNB_WEIGHTS", raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def down(url, *args, **kwargs):
        raise OSError("the network is down")

    monkeypatch.setattr(torch.hub, "download_url_to_file", down)
    yield
    pretrained._imagenet.cache_clear()


@pytest.fixture(scope="module")
def mobilenet():
    """A state dict with the names and shapes of torchvision's MobileNetV2."""
    torch.manual_seed(0)
    return import_torchvision().models.mobilenet_v2(weights=None).state_dict()


def saved(state, folder, name):
    """Save and name it as torchvision does: with the start of its SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "unnamed")
    start = hashlib.sha256((folder / "unnamed").read_bytes()).hexdigest()[:8]
    return (folder / "unnamed").rename(folder / f"{name}-{start}.pth")


def test_weights_from_a_folder_are_used_bit_for_bit(mobilenet, tmp_path, monkeypatch):
    file = saved(mobilenet, tmp_path / "mine", "mobilenet_v2")
    monkeypatch.setenv("KDNB_WEIGHTS", str(file.parent))
    network = mobilenet_v2_student()
    assert network.origin == f"ImageNet weights, {file.name}"
    assert torch.equal(network.stages.stem[0].weight, mobilenet["features.0.0.weight"])
    last = network.stages.block18[1].running_var
    assert torch.equal(last, mobilenet["features.18.1.running_var"])
    # a copy each time: training one network does not change the next
    with torch.no_grad():
        network.stages.stem[0].weight.zero_()
    other = mobilenet_v2_student()
    assert torch.equal(other.stages.stem[0].weight, mobilenet["features.0.0.weight"])


def test_logits_are_torchvisions(mobilenet, tmp_path, monkeypatch):
    """Normalisation, stages and pooling put together are torchvision's own network."""
    file = saved(mobilenet, tmp_path, "mobilenet_v2")
    monkeypatch.setenv("KDNB_WEIGHTS", str(file))
    network = mobilenet_v2_student().eval()
    theirs = import_torchvision().models.mobilenet_v2(weights=None).eval()
    theirs.load_state_dict(mobilenet)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        features = network.split("output")[0](images)
        seen = (images - mean[:, None, None]) / std[:, None, None]
        expected = theirs.features(seen).mean((2, 3))
    # Untrained features are tiny: what counts is their difference as a share of the largest.
    assert (features - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.slow
def test_resnet_is_torchvisions_too():
    network = resnet50_teacher(weights=None).eval()
    theirs = import_torchvision().models.resnet50(weights=None).eval()
    backbone = network.split("output")[0]
    # the same tensors in the same order, whatever the names
    values = [v for k, v in backbone.state_dict().items()]
    names = [name for name in theirs.state_dict() if not name.startswith("fc.")]
    theirs.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
    theirs.fc = torch.nn.Identity()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        seen = network.stages.normalise(images)
        torch.testing.assert_close(backbone(images), theirs(seen), atol=1e-4, rtol=1e-4)


def test_torchvisions_cache_comes_before_a_download(mobilenet, tmp_path):
    name = "mobilenet_v2-b0353104.pth"
    assert (
        doctor.examine("ImageNet weights")[0].ok is False
        and "resnet50, mobilenet_v2" in doctor.examine("ImageNet weights")[0].found
    )
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(mobilenet, cache / name)
    assert doctor.examine("ImageNet weights")[0].found == "not on this machine for resnet50"
    # What lies there is not what the name says, so it is looked at and refused.
    with pytest.raises(WeightsError, match=f"{name} is damaged: its SHA-256 starts with"):
        imagenet("mobilenet_v2")


def test_a_download_is_kept_and_verified(mobilenet, tmp_path, monkeypatch, capsys):
    asked = []

    def download(url, file, hash_prefix, progress):
        asked.append((url, hash_prefix))
        torch.save(mobilenet, file)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    network, origin = imagenet("mobilenet_v2")
    assert network.state_dict().keys() == mobilenet.keys() and "b0353104.pth" in origin
    imagenet("mobilenet_v2")
    ((url, hash_prefix),) = asked
    assert url.startswith("https://download.pytorch.org/models/mobilenet_v2-b0353104")
    assert hash_prefix == "b0353104"
    assert (tmp_path / "hub" / "checkpoints" / "mobilenet_v2-b0353104.pth").is_file()
    assert socket.getdefaulttimeout() is None
    # torch names the file in its cache: a page that is handed out would show the maker's folders.
    assert capsys.readouterr() == ("", "")


def test_without_any_the_fall_back_is_loud_and_honest():
    with pytest.warns(MissingWeightsWarning, match=r"RANDOM weights.*KDNB_WEIGHTS"):
        network = mobilenet_v2_student()
    assert network.origin == "random weights, because mobilenet_v2-b0353104.pth is not available"


def test_random_weights_can_be_asked_for(monkeypatch):
    monkeypatch.setenv("KDNB_WEIGHTS", "random")  # no warning: warnings are errors here
    assert mobilenet_v2_student().origin == "random weights, as KDNB_WEIGHTS asks"


def test_several_files_and_folders(mobilenet, tmp_path, monkeypatch):
    """Separated as in PATH; each network takes its own, and one may be left to the cache."""
    file = saved(mobilenet, tmp_path / "a", "mobilenet_v2")
    (tmp_path / "b").mkdir()
    monkeypatch.setenv("KDNB_WEIGHTS", os.pathsep.join([str(tmp_path / "b"), str(file)]))
    assert imagenet("mobilenet_v2")[0] is not None
    with pytest.warns(MissingWeightsWarning):
        assert imagenet("resnet50")[0] is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a weights file"),
        (b"no weights", "is not a weights file"),
        (["a", "list"], "does not hold the weights of mobilenet_v2 .*state_dict to be dict-like"),
        ("resnet", "does not hold the weights of mobilenet_v2 .*Missing key.*features.0.0.weight"),
        ("head", r"size mismatch for classifier.1.weight: .*Size\(\[2, 1280\]\)"),
    ],
)
def test_other_files_are_refused_by_name(content, message, mobilenet, tmp_path, monkeypatch):
    file = tmp_path / "mobilenet_v2.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif isinstance(content, list):
        torch.save(content, file)
    elif content == "resnet":
        torch.save(import_torchvision().models.resnet18(weights=None).state_dict(), file)
    else:
        head = {k: v[:2] for k, v in mobilenet.items() if k.startswith("classifier")}
        torch.save({**mobilenet, **head}, file)
    monkeypatch.setenv("KDNB_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match=message) as caught:
        mobilenet_v2_student()
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_a_damaged_file_is_known_by_its_name(mobilenet, tmp_path, monkeypatch):
    file = saved(mobilenet, tmp_path, "mobilenet_v2")
    file.write_bytes(file.read_bytes()[:-100])
    monkeypatch.setenv("KDNB_WEIGHTS", str(file))
    with pytest.raises(WeightsError, match="is damaged: its SHA-256 starts with"):
        imagenet("mobilenet_v2")


def test_a_setting_that_names_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("KDNB_WEIGHTS", str(tmp_path / "gone"))
    assert "does not exist" in doctor.examine("ImageNet weights")[0].found
    with pytest.raises(WeightsError, match="which does not exist: correct it"):
        imagenet("resnet50")
    monkeypatch.setenv("KDNB_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match="holds no weights for resnet50: put resnet50-0676ba61"):
        imagenet("resnet50")
