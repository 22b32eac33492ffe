"""Saliency maps: what each method must give for models whose evidence is known."""

import pytest
import torch
from torch import nn

from kdnb.evaluation.saliency import Saliency, deletion_and_insertion, methods_for, saliency_maps
from kdnb.evaluation.similarity import (
    SIMILARITIES,
    cosine,
    normalised,
    rank_correlation,
    structural_similarity,
)
from kdnb.models import StudentMLP, TeacherCNN, resnet50_teacher
from kdnb.store.store import weights_digest

GENERATOR = torch.Generator()
CPU = torch.device("cpu")


def noise(*shape, seed=0):
    return torch.randn(shape, generator=GENERATOR.manual_seed(seed))


def pictures(n=6, channels=1, size=28, seed=0):
    shape = (n, channels, size, size)
    return torch.randint(0, 256, shape, generator=GENERATOR.manual_seed(seed), dtype=torch.uint8)


class Linear(nn.Module):
    """Logits that are a dense layer's of the pixels; an offset is added to all of them."""

    def __init__(self, channels=1, size=28, outputs=4, offset=0.0):
        super().__init__()
        self.dense = nn.Linear(channels * size * size, outputs, bias=False)
        self.dense.weight.data = noise(*self.dense.weight.shape, seed=1)
        self.offset = offset

    def forward(self, images):
        return self.dense(images.flatten(1)) + self.offset * images.square().sum((1, 2, 3))[:, None]


class Convolving(nn.Module):
    """Two feature maps, the image and its negative; class 1 looks at the first, class 0 at none."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 2, 1, bias=False)
        self.convolution.weight.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)

    def forward(self, images):
        seen = self.convolution(images)[:, 0].flatten(1).sum(1)
        return torch.stack([torch.zeros_like(seen), seen], 1)


def maps_of(model, images, classes=4, method=Saliency.GRADIENT, **options):
    targets = torch.arange(len(images)) % classes
    return saliency_maps(model, images, targets, classes, method, device=CPU, **options)


@pytest.mark.parametrize("method", [Saliency.GRADIENT, Saliency.SMOOTHGRAD])
def test_the_gradient_of_a_dense_layer_is_its_weight_less_the_mean_class(method):
    model, images = Linear(channels=3, size=12), pictures(channels=3, size=12)
    weight = model.dense.weight.detach().view(4, 3, 12, 12)
    expected = (weight - weight.mean(0)).sum(1)[torch.arange(6) % 4]
    torch.testing.assert_close(maps_of(model, images, method=method), expected)


def test_integrated_gradients_of_a_dense_layer_are_weight_times_distance_from_the_background():
    model, images = Linear(), pictures()
    weight = model.dense.weight.detach().view(4, 28, 28)
    expected = (weight - weight.mean(0))[torch.arange(6) % 4] * (images[:, 0] / 255 - 0.25)
    found = maps_of(model, images, method=Saliency.INTEGRATED, background=0.25)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_integrated_gradients_add_up_to_what_the_image_changed():
    # Completeness, Sundararajan et al. 2017, proposition 1; 32 steps integrate a smooth net well.
    torch.manual_seed(0)
    smooth = nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.Softplus(), nn.Linear(16, 4))
    images = pictures()
    maps = maps_of(smooth, images, method=Saliency.INTEGRATED)
    with torch.no_grad():
        z = smooth(images / 255) - smooth(torch.zeros_like(images / 255))
    change = (z - z.mean(1, keepdim=True))[torch.arange(6), torch.arange(6) % 4]
    torch.testing.assert_close(maps.sum((1, 2)), change, atol=1e-4, rtol=1e-4)


def test_grad_cam_shows_the_feature_maps_that_speak_for_the_class():
    images = pictures(2)
    maps = saliency_maps(
        Convolving(), images, torch.tensor([1, 0]), 2, Saliency.GRAD_CAM, device=CPU
    )
    # For class 1 the first map counts, by half: the mean of both classes is taken off.
    torch.testing.assert_close(maps[0], images[0, 0] / 255 / 2)
    assert not maps[1].any()  # what speaks for class 0 is negative everywhere, and cut off


@pytest.mark.parametrize("method", list(Saliency)[:3])
def test_a_number_added_to_all_logits_changes_no_map(method):
    images = pictures()
    plain = maps_of(Linear(), images, method=method)
    shifted = maps_of(Linear(offset=3.0), images, method=method)
    torch.testing.assert_close(shifted, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", Saliency)
def test_a_model_is_left_as_it_was(method):
    torch.manual_seed(0)
    model = TeacherCNN(num_classes=4, channels=(4, 8)).train()
    before = weights_digest(model)
    maps = maps_of(model, pictures(), method=method)
    assert maps.shape == (6, 28, 28)
    assert maps.any()
    assert not maps.requires_grad
    assert model.training
    assert weights_digest(model) == before
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("method", Saliency)
def test_maps_do_not_depend_on_the_company_of_other_images(method, monkeypatch):
    torch.manual_seed(0)
    model, images = TeacherCNN(num_classes=4, channels=(4, 8)), pictures()
    together = maps_of(model, images, method=method)
    again = maps_of(model, images, method=method)
    assert torch.equal(together, again)  # the noise of SmoothGrad too
    if method != Saliency.SMOOTHGRAD:
        monkeypatch.setattr("kdnb.evaluation.saliency.BATCH", 4)
        torch.testing.assert_close(maps_of(model, images, method=method), together)


def test_subclasses_are_explained_by_their_class():
    torch.manual_seed(0)
    model, images = StudentMLP(num_classes=4, subclasses=3, hidden=(8,)), pictures()
    (pixels := images / 255).requires_grad_()
    z = model(pixels).view(6, 4, 3).logsumexp(2)
    targets = torch.arange(6) % 4
    (z[torch.arange(6), targets] - z.mean(1)).sum().backward()
    torch.testing.assert_close(maps_of(model, images), pixels.grad[:, 0])


def test_grad_cam_needs_convolutions():
    assert Saliency.GRAD_CAM in methods_for(TeacherCNN())
    assert methods_for(StudentMLP()) == tuple(Saliency)[:3]
    with pytest.raises(ValueError, match="needs a model with convolutions, StudentMLP has none"):
        maps_of(StudentMLP(), pictures(), 10, Saliency.GRAD_CAM)


@pytest.mark.slow
def test_grad_cam_of_a_staged_network_takes_the_stage_before_the_pooling():
    network = resnet50_teacher(weights=None)
    maps = maps_of(network, pictures(2, 3, 64), 2, Saliency.GRAD_CAM)
    assert maps.shape == (2, 64, 64)
    assert (maps >= 0).all()
    assert maps.any()


@pytest.mark.parametrize(
    ("images", "targets", "message"),
    [
        (pictures(), torch.tensor([0, 1, 2, 3, 0, 4]), "class 4 does not exist: choose 0 to 3"),
        (pictures(), torch.tensor([0, 1, 2, -1, 0, 3]), "class -1 does not exist"),
        (pictures(), torch.tensor([0, 1]), r"6 images need as many classes, got shape \(2,\)"),
        (pictures()[0], torch.tensor([0]), r"shape \(N, C, H, W\), got torch.uint8 of shape \(1,"),
        (pictures() / 255, torch.zeros(6).long(), "must be uint8.*got torch.float32"),
        (pictures(size=20), torch.zeros(6).long(), r"Linear cannot read images of shape \(1, 20,"),
        (pictures(0), torch.zeros(0).long(), r"of shape \(0, 1, 28, 28\)"),
    ],
)
def test_bad_input_is_named(images, targets, message):
    with pytest.raises(ValueError, match=message):
        saliency_maps(Linear(), images, targets, 4, device=CPU)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_similarity_is_one_for_equal_maps_and_unchanged_by_rescaling(name):
    similarity, maps, others = SIMILARITIES[name], noise(5, 28, 28), noise(5, 28, 28, seed=1)
    ones = torch.ones(5, dtype=torch.float64)
    torch.testing.assert_close(similarity(maps, maps), ones)
    torch.testing.assert_close(similarity(maps, 1e-6 * maps), ones, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        similarity(maps, others), similarity(100 * maps, others / 7), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("name", SIMILARITIES)
def test_similarity_of_independent_noise_is_near_zero(name):
    # 400 pairs of 784 pixels: a correlation has a standard error of 1/sqrt(784 · 400) = 0.0018.
    # Magnitudes of noise are alike in their mean, which SSIM sees: 0.2 is its 'near'.
    maps, others = noise(400, 28, 28), noise(400, 28, 28, seed=1)
    assert abs(SIMILARITIES[name](maps, others).mean().item()) < (0.2 if name == "SSIM" else 0.01)


def test_similarity_of_opposite_maps():
    maps = noise(5, 28, 28)
    minus = -torch.ones(5, dtype=torch.float64)
    torch.testing.assert_close(rank_correlation(maps, -maps), minus)
    torch.testing.assert_close(cosine(maps, -maps), minus)
    torch.testing.assert_close(SIMILARITIES["magnitude rank correlation"](maps, -maps), -minus)


def test_rank_correlation_against_scipy_with_ties():
    from scipy.stats import spearmanr

    maps, others = noise(4, 28, 28).round(), noise(4, 28, 28, seed=1).clamp(min=0)
    found = rank_correlation(maps + others, others)
    for one, a, b in zip(found, maps + others, others, strict=True):
        assert one.item() == pytest.approx(spearmanr(a.flatten(), b.flatten()).statistic)


def test_ssim_against_its_formula_window_by_window():
    a, b = normalised(noise(1, 13, 12)).abs()[0], normalised(noise(1, 13, 12, seed=1)).abs()[0]
    offsets = torch.arange(-5.0, 6.0)
    bell = torch.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / 4.5)
    bell /= bell.sum()
    values = []
    for row in range(3):
        for column in range(2):
            u, v = (m[row : row + 11, column : column + 11] for m in (a, b))
            mu, mv = (bell * u).sum(), (bell * v).sum()
            su, sv = (bell * (u - mu) ** 2).sum(), (bell * (v - mv) ** 2).sum()
            suv = (bell * (u - mu) * (v - mv)).sum()
            top = (2 * mu * mv + 1e-4) * (2 * suv + 9e-4)
            values.append(top / ((mu**2 + mv**2 + 1e-4) * (su + sv + 9e-4)))
    expected = torch.stack(values).mean().double()
    torch.testing.assert_close(
        structural_similarity(a[None], b[None])[0], expected, atol=1e-6, rtol=0
    )


def test_maps_without_content_are_like_nothing():
    maps, nothing = noise(2, 28, 28), torch.zeros(2, 28, 28)
    assert not cosine(maps, nothing).any()
    assert not rank_correlation(maps, nothing).any()
    assert torch.equal(normalised(nothing), nothing)
    with pytest.raises(ValueError, match="windows of 11 pixels need larger maps"):
        structural_similarity(maps[:, :8, :8], nothing[:, :8, :8])


class PatchModel(nn.Module):
    """Class 1 is as probable as a corner of the image is bright, whatever the rest shows."""

    def forward(self, images):
        brightness = images[:, :, :4, :4].mean((1, 2, 3))
        return torch.stack([torch.zeros_like(brightness), 12 * brightness - 4], 1)


def planted(value):
    """A map with ``value`` on the corner that counts, and small noise elsewhere."""
    maps = 0.01 * noise(3, 28, 28)
    maps[:, :4, :4] = value
    return maps


def test_deletion_and_insertion_rank_maps_by_whether_they_know_the_evidence():
    images = torch.full((3, 1, 28, 28), 255, dtype=torch.uint8)
    model = PatchModel()
    right, blind, wrong = (
        deletion_and_insertion(model, images, maps, 2, steps=49, device=CPU)
        for maps in (planted(1.0), 0.01 * noise(3, 28, 28), planted(-1.0))
    )
    for better, worse in ((right, blind), (blind, wrong)):
        assert (better[0] < worse[0]).all()  # deleted
        assert (better[1] > worse[1]).all()  # inserted
    # All evidence is gone after one of 49 steps: p falls from σ(8) to σ(-4) and stays there.
    first, rest = torch.sigmoid(torch.tensor([8.0, -4.0])).double()
    expected = ((first + rest) / 2 + 48 * rest) / 49
    torch.testing.assert_close(right[0], expected.expand(3), atol=1e-6, rtol=0)


def test_deletion_and_insertion_against_a_plain_loop():
    torch.manual_seed(0)
    model, images = TeacherCNN(num_classes=4, subclasses=2, channels=(4, 8)).eval(), pictures()
    maps = noise(6, 28, 28, seed=3)
    found = deletion_and_insertion(
        model, images, maps, 4, background=0.5, steps=7, device=CPU
    )  # 784 pixels in 7 steps of 112

    def probabilities(pixels):
        return model(pixels[None]).softmax(1).view(4, 2).sum(1).detach().double()

    for i, (image, own) in enumerate(zip(images / 255, maps, strict=True)):
        predicted = probabilities(image).argmax()
        order = own.flatten().argsort(descending=True)
        curves = {"deletion": [], "insertion": []}
        for step in range(8):
            chosen = torch.zeros(784, dtype=torch.bool)
            chosen[order[: 112 * step]] = True
            for name, kept in (("deletion", ~chosen), ("insertion", chosen)):
                shown = torch.where(kept.view(1, 28, 28), image, torch.tensor(0.5))
                curves[name].append(probabilities(shown)[predicted].item())
        for area, curve in zip(found, curves.values(), strict=True):
            expected = (sum(curve) - curve[0] / 2 - curve[-1] / 2) / 7
            assert area[i].item() == pytest.approx(expected, abs=1e-5)


def test_deletion_refuses_maps_of_another_size():
    with pytest.raises(ValueError, match=r"must be of shape \(6, 28, 28\).*got \(6, 14, 14\)"):
        deletion_and_insertion(PatchModel(), pictures(), noise(6, 14, 14), 2, device=CPU)
