"""Any network of a reader's: it trains, is stored and answers equally, or is refused in a sentence.

Networks here are made of blocks, modules that map (N, 16) to (N, 16): `SOUND` ones, which are to
work, and `FAULTY` ones, each with what the sentence must say.
"""

import random
import re
import threading
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations

from kdnb.data import ImageTensors
from kdnb.data.augmentation import TranslatedImages
from kdnb.evaluation.saliency import methods_for, saliency_maps
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import ALONE, conventional, subclass
from kdnb.tasks.config import Task
from kdnb.tasks.custom import Network, custom_task
from kdnb.tasks.trial import Contiguous, LogitsOnly
from kdnb.torchvision_remedy import import_torchvision
from kdnb.training.config import TrainConfig
from kdnb.training.loop import predict

QUICK = TrainConfig(epochs=2, batch_size=16, learning_rate=1e-2)
LABELS = torch.arange(3).repeat(14)
IMAGES = torch.randint(
    0, 120, (42, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
IMAGES[torch.arange(42), LABELS] += 100


def tiny_task(teacher, student, images=IMAGES) -> Task:
    recipes = {"teacher_config": QUICK, "student_config": QUICK}
    return custom_task("tiny", ImageTensors(images, LABELS), teacher, student, **recipes)


def small(num_classes):
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, num_classes))


class Net(nn.Module):
    """A convolution, blocks on its 16 features, an output."""

    blocks = ()

    def __init__(self, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.middle = nn.Sequential(*(block() for block in self.blocks))
        self.head = nn.Linear(16, num_classes)

    def features(self, x):
        return self.middle(F.adaptive_avg_pool2d(self.conv(x).relu(), 2).flatten(1))

    def forward(self, x):
        return self.head(self.features(x))


def of(*blocks):
    return type("Net", (Net,), {"blocks": blocks})


# Blocks that are to work


class Tied(nn.Module):
    """Two layers with one weight, and one layer with two names."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 16)
        self.b.weight = self.a.weight
        self.again = self.a

    def forward(self, x):
        return self.again(self.b(self.a(x).relu()).relu())


class Transposed(nn.Module):
    """An autoencoder whose decoder is its encoder, transposed, and kept as a buffer's view too."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(16, 8)
        self.register_buffer("columns", torch.rand(16, 16).t())

    def forward(self, x):
        return F.linear(self.encoder(x).relu(), self.encoder.weight.t()) @ self.columns


class TensorState(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.rand(16)

    def get_extra_state(self):
        return self.scale

    def set_extra_state(self, state):
        self.scale = state

    def forward(self, x):
        return x * self.scale.to(x.device)


class Attention(nn.Module):
    def __init__(self, **settings):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, **settings)

    def forward(self, x):
        x = x.view(-1, 4, 4)
        return self.attention(x, x, x)[0].flatten(1)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)

    def forward(self, x):
        return self.layer(x.view(-1, 4, 4)).flatten(1)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.LSTM(4, 16, batch_first=True)

    def forward(self, x):
        return self.layer(x.view(-1, 4, 4))[0][:, -1]


class Counting(nn.Module):
    """Counts in a buffer what it has seen, as batch-norm does."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.tensor(0))

    def forward(self, x):
        self.seen += len(x) * self.training
        return x / (1 + self.seen)


def dense():
    return nn.Linear(16, 16)


def frozen():
    return nn.Linear(16, 16).requires_grad_(False)


SOUND = {
    "tied": Tied,
    "transposed": Transposed,
    "state that is a tensor": TensorState,
    "attention": lambda: Attention(batch_first=True),
    "encoder": Encoder,
    "recurrent": Recurrent,
    "counting": Counting,
    "frozen": frozen,
    "batch-norm": lambda: nn.BatchNorm1d(16),
    "dropout": lambda: nn.Dropout(0.3),
    "group-norm": lambda: nn.Sequential(nn.GroupNorm(4, 16), nn.PReLU()),
    "weight-norm": lambda: parametrizations.weight_norm(dense()),
    "spectral norm": lambda: parametrizations.spectral_norm(dense()),
}

# Blocks that do not suit


class Keeping(nn.Module):
    def __init__(self, buffer):
        super().__init__()
        self.register_buffer("kept", buffer)

    def forward(self, x):
        return x


class DictState(TensorState):
    def get_extra_state(self):
        return {"scale": self.scale}


class MakesLayer(nn.Module):
    def forward(self, x):
        if not hasattr(self, "late"):
            self.late = nn.Linear(16, 16)
        return self.late(x)


class MakesBuffer(nn.Module):
    def forward(self, x):
        self.register_buffer("late", x.detach().mean(0))
        return x


class ReplacesWeight(nn.Module):
    def forward(self, x):
        self.weight = nn.Parameter(torch.ones(16))
        return x * self.weight


class PlainList(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = [dense()]

    def forward(self, x):
        return self.layers[0](x)


class Does(nn.Module):
    def __init__(self, function, **attributes):
        super().__init__()
        self.function = function
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x):
        return self.function(self, x)


class RunningMean(nn.Module):
    """As a tensor that is no buffer, or is not kept."""

    def __init__(self, buffer):
        super().__init__()
        if buffer:
            self.register_buffer("mean", torch.zeros(16), persistent=False)
        else:
            self.mean = torch.zeros(16)

    def forward(self, x):
        if self.training:
            self.mean = (self.mean + x.detach().mean(0) + 1) / 2
        return x - self.mean


class HookOfTheOriginal(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, seen = dense(), []
        self.layer.register_forward_hook(lambda module, given, output: seen.append(output))
        self.seen = seen

    def forward(self, x):
        self.layer(x)
        return self.seen.pop()


def drawn_by_the_clock():
    generator = torch.Generator()
    generator.seed()
    return OneWeight(torch.rand(16, generator=generator))


class OneWeight(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x):
        return (x * self.weight).real


class EmbedsSparsely(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(2, 16, sparse=True)

    def forward(self, x):
        return x + self.table(torch.zeros(len(x), dtype=torch.long))


def old_weight_norm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(dense())


def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch gives it up
        return torch.jit.script(dense())


def quantised():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that its own quantisation will move
        return Keeping(torch.quantize_per_tensor(torch.ones(16), 0.1, 0, torch.quint8))


SLOPE = torch.linspace(-1, 1, 16)  # what is the same for all features, a norm may take away
FAULTY = {
    "expanded buffer": (lambda: Keeping(torch.ones(1).expand(16)), "one number for many"),
    "expanded matrix": (lambda: Keeping(torch.ones(4, 1).expand(4, 4)), "one number for many"),
    "sparse buffer": (lambda: Keeping(torch.eye(16).to_sparse()), "torch.sparse_coo tensor"),
    "compressed buffer": (lambda: Keeping(torch.eye(2).to_mkldnn()), "torch._mkldnn tensor"),
    "quantised buffer": (quantised, "torch.quint8 tensor"),
    "buffer without values": (lambda: Keeping(torch.ones(2, device="meta")), "a meta tensor"),
    "state that is a dict": (DictState, "keeps .*_extra_state as a dict: keep dense tensors"),
    "layer made late": (MakesLayer, "makes .*late.* only when it runs"),
    "buffer made late": (MakesBuffer, "makes .*late only when it runs"),
    "weight made anew": (ReplacesWeight, "makes .*weight only when it runs"),
    "lazy layer": (lambda: nn.LazyLinear(16), "lazy layers"),
    "lazy buffer": (lambda: nn.LazyBatchNorm1d(affine=False), "lazy layers"),
    "layers in a list": (PlainList, r"uses a weight of shape \(16, 16\) .* nn.ModuleList"),
    "dropout left on": (lambda: Does(lambda self, x: F.dropout(x, 0.5)), "two outputs"),
    "noise": (lambda: Does(lambda self, x: x + torch.randn_like(x)), "two outputs"),
    "numpy's noise": (
        lambda: Does(lambda self, x: x + float(np.random.rand()) * SLOPE),
        "two outputs",
    ),
    "Python's noise": (lambda: Does(lambda self, x: x + random.random() * SLOPE), "two outputs"),
    "a count": (
        lambda: Does(lambda self, x: x + next(self.n) * SLOPE, n=iter(range(999))),
        "two outputs",
    ),
    "running mean": (lambda: RunningMean(False), "other logits when stored and loaded"),
    "mean not kept": (lambda: RunningMean(True), "other logits when stored and loaded"),
    "hook": (HookOfTheOriginal, "copied|a copy"),
    "lock": (lambda: Does(lambda self, x: x, lock=threading.Lock()), "cannot be copied .*lock"),
    "old weight-norm": (old_weight_norm, "cannot be copied"),
    "double": (lambda: dense().double(), "torch.float64, and float32 is trained"),
    "half": (lambda: dense().bfloat16(), "torch.bfloat16, and float32"),
    "complex": (lambda: OneWeight(torch.ones(16) * 1j), "torch.complex64, and float32"),
    "another start": (drawn_by_the_clock, "other weights each time"),
    "across the batch": (
        lambda: Does(lambda self, x: x - x.mean(0)),
        "depend on the others of a batch",
    ),
    "batch of two": (lambda: Does(lambda self, x: x.reshape(2, 16)), "take a single image"),
    "batch-norm of batches": (
        lambda: nn.BatchNorm1d(16, track_running_stats=False),
        "cannot take a single image",
    ),
    "NaN": (lambda: Does(lambda self, x: x / 0 - x / 0), r"not numbers \(NaN\) in eval mode"),
    "infinite": (
        lambda: Does(lambda self, x: x / (0 if self.training else 1)),
        "infinite .* in train mode",
    ),
    "NaN by a step": (
        lambda: Does(lambda self, x: x + (x - x).sqrt()),
        "cannot be trained: the loss is no longer finite",
    ),
    "sparse gradients": (EmbedsSparsely, "cannot be trained: Adam does not support sparse"),
    "TorchScript": (scripted, "is TorchScript"),
    "silent failure": (lambda: Does(lambda self, x: (_ for _ in ()).throw(KeyError("w"))), "'w'"),
}


def check(network, images=IMAGES[:2]) -> Network:
    return Network(network).fitting("teacher", images, 3, 2)


def refusal(network) -> str:
    """The sentence, which names the network."""
    with pytest.raises(ValueError, match=r"^the teacher [\w<>]+ [a-z]") as raised:
        check(network)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# What suits


def assert_trains_and_answers(teacher, student=small, images=IMAGES):
    """Trained, stored, and loaded by another experiment: the same answers, also to gradients."""
    methods = [ALONE, conventional(4.0, 0.5)]
    task = tiny_task(teacher, student, images)
    first = Experiment(task)
    methods.append(subclass(4.0, 0.5, first.task.subclass_config))
    trained = first.compare(methods, [0])
    told = []
    second = Experiment(task, watch=told.append)
    loaded = second.compare(methods, [0])
    assert told and all(update.loaded for update in told)
    assert torch.equal(trained.accuracies, loaded.accuracies)
    run, shown = second.teacher(0), TranslatedImages(second.dataset.test.images)
    # Answers are stored too: the network itself must give them, to one image and to many.
    stored = first.test_logits(run)
    assert torch.allclose(predict(run.model, shown), stored, atol=1e-5)
    one = predict(run.model, TranslatedImages(second.dataset.test.images[:1]))
    assert torch.allclose(one, stored[:1], atol=1e-4)
    for saliency in methods_for(run.model):
        maps = saliency_maps(run.model, images[:1], torch.tensor([0]), 3, saliency)
        assert maps.isfinite().all()


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_network_trains_is_stored_and_answers_equally(name):
    network = of(SOUND[name])
    assert_trains_and_answers(network, network)


class PairInTraining(Net):
    def forward(self, x):
        features = self.features(x)
        logits = self.head(features)
        return (logits, features) if self.training else logits


class PairInEval(PairInTraining):
    def forward(self, x):
        features = self.features(x)
        logits = self.head(features)
        return logits if self.training else [logits, features, None]


class Named(PairInTraining):
    def forward(self, x):
        features = self.features(x)
        return {"features": features, "logits": self.head(features)}


class Flattening(Net):
    """Auxiliary outputs, and a `view` that channels_last does not bear."""

    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.output = nn.Linear(4 * 14 * 14, num_classes)

    def forward(self, x):
        x = self.conv(x)
        return self.output(x.view(len(x), -1)), x


class Strided(nn.Module):
    """Reads memory in torch's usual order: in channels_last it would see other pixels."""

    def __init__(self, num_classes):
        super().__init__()
        self.output = nn.Linear(768, num_classes)

    def forward(self, x):
        return self.output(x.as_strided((len(x), 768), (768, 1)))


class AsComplex(Strided):
    def forward(self, x):
        return self.output(torch.view_as_complex(x.unflatten(3, (8, 2))).real.repeat(1, 1, 1, 2)
                           .flatten(1))  # fmt: skip


class Auxiliary(Net):
    """As torchvision's Inception: a convolution that answers in training only."""

    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.extra = nn.Conv2d(3, num_classes, 16)

    def forward(self, x):
        logits = super().forward(x)
        return (logits, self.extra(x).flatten(1)) if self.training else logits


@pytest.mark.parametrize(
    ("network", "wrappers"),
    [
        (PairInTraining, (LogitsOnly,)),
        (PairInEval, (LogitsOnly,)),
        (Named, (LogitsOnly,)),
        (Auxiliary, (LogitsOnly,)),
        (Flattening, (LogitsOnly, Contiguous)),
        (Strided, (Contiguous,)),
        (AsComplex, (Contiguous,)),
        (Net, ()),
    ],
)
def test_what_a_wrapper_mends_trains_is_stored_and_answers_equally(network, wrappers):
    assert check(network).wrappers == wrappers
    assert_trains_and_answers(network, network)


@pytest.mark.slow
def test_torchvisions_googlenet_teaches():
    torchvision = import_torchvision()

    def googlenet(num_classes):
        return torchvision.models.GoogLeNet(num_classes, aux_logits=True, init_weights=False)

    assert check(googlenet, IMAGES[:2].repeat(1, 1, 2, 2)).wrappers == (LogitsOnly,)


# What does not


@pytest.mark.parametrize("name", FAULTY)
def test_a_faulty_network_is_one_sentence(name):
    block, says = FAULTY[name]
    assert re.search(says, refusal(of(block)))


@pytest.mark.slow
@given(
    st.lists(st.sampled_from(sorted(SOUND)), max_size=3),
    st.none() | st.sampled_from(sorted(FAULTY)),
    st.integers(0, 3),
)
@example(["recurrent", "recurrent", "recurrent"], "across the batch", 0)  # which nearly hide it
@settings(max_examples=25, deadline=None)
def test_one_fault_among_sound_blocks_is_found_wherever_it_is(sound, fault, place):
    blocks = [SOUND[name] for name in sound]
    if fault is None:
        check(of(*blocks))
    else:
        blocks.insert(place, FAULTY[fault][0])
        refusal(of(*blocks))


class GradientOff(Net):
    def forward(self, x):
        return super().forward(x).detach()


class NoGrad(Net):
    def forward(self, x):
        with torch.no_grad():
            return super().forward(x)


class AllFrozen(Net):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.requires_grad_(False)


class Nothing(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.classes = num_classes

    def forward(self, x):
        return x.flatten(1)[:, : self.classes]


class TimesZero(Net):
    def forward(self, x):
        return super().forward(x) * 0


class Whole(Net):
    def forward(self, x):
        return super().forward(x).round().long()


class Imaginary(Net):
    def forward(self, x):
        return super().forward(x) * 1j


class FeaturesFirst(Net):
    def forward(self, x):
        features = self.features(x)
        return features, self.head(features)


class OtherName(Net):
    def forward(self, x):
        return {"scores": super().forward(x)}


class TwiceInTraining(Net):
    def forward(self, x):
        logits = super().forward(x)
        return torch.cat([logits, logits], 1) if self.training else logits


class ChangesItsInput(Net):
    def forward(self, x):
        return super().forward(x.sub_(0.5))


class ReluInPlace(Net):
    def forward(self, x):
        return super().forward(F.threshold_(x, 0.5, 0.0))


class AcrossImages(Net):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.attention = nn.MultiheadAttention(16, 2)

    def forward(self, x):
        x = self.features(x)[:, None]  # (N, 1, 16): without batch_first, N is the sequence
        return self.head(10 * self.attention(x, x, x)[0][:, 0])


class TrainsWithoutSelf(Net):
    def train(self, mode=True):
        super().train(mode)


class Wordless(Net):
    def forward(self, x):
        if x.shape[1] > 1:
            raise AssertionError
        return super().forward(x)


# Errors without words, as a network of a reader may raise them: they are what is tested.
class WordlessInTraining(Net):
    def forward(self, x):
        if self.training:
            raise NotImplementedError
        return super().forward(x)


class WordlessWhenBuilt(Net):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        raise NotImplementedError


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (GradientOff, "nothing to train: its output has no gradient"),
        (NoGrad, "nothing to train: its output has no gradient"),
        (AllFrozen, "nothing to train: its output has no gradient"),
        (Nothing, "nothing to train: its output has no gradient"),
        (TimesZero, "nothing to train: all gradients are 0"),
        (Whole, "real numbers with decimals, got torch.int64"),
        (Imaginary, "real numbers with decimals, got torch.complex64"),
        (FeaturesFirst, r"alone or first in a tuple, got tuple with \(2, 16\) first in eval mode"),
        (OtherName, r"must give a tensor of shape \(2, 3\) .*got dict in eval mode"),
        (TwiceInTraining, r"got \(2, 6\) in train mode"),
        (ChangesItsInput, "changes the images that it is given in eval mode"),
        (ReluInPlace, "changes the images that it is given"),
        (AcrossImages, "depend on the others of a batch: .*batch_first=True"),
        (TrainsWithoutSelf, "let it return self"),
        (Wordless, "cannot take images of shape 3×16×16: AssertionError$"),
        (WordlessInTraining, "cannot be trained: NotImplementedError$"),
        (WordlessWhenBuilt, "cannot be built for 3 classes: NotImplementedError$"),
    ],
)
def test_a_network_that_answers_amiss_is_one_sentence(network, says):
    assert re.search(says, refusal(network))


def test_of_a_student_it_is_said_that_it_is_one():
    with pytest.raises(ValueError, match=r"^the student AllFrozen has nothing to train"):
        Experiment(tiny_task(small, AllFrozen))


class SameForAll(Net):
    def forward(self, x):
        return super().forward(0 * x)


class Rounded(Net):
    def forward(self, x):
        return super().forward((x > 0.5).float())


class Caches(Net):
    """Keeps what it makes while nobody needs gradients."""

    scale = None

    def forward(self, x):
        if self.scale is None:
            self.scale = torch.linspace(1, 2, 16)
        return super().forward(x * self.scale)


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (SameForAll, "the teacher SameForAll gives the same logits for every image"),
        (
            Rounded,
            "the teacher Rounded has no saliency maps, so that notebooks 04 and 06 will stop",
        ),
        (Caches, "the teacher Caches has no saliency maps, .* Inference tensors cannot be saved"),
    ],
)
def test_of_what_suits_a_part_of_the_course_it_warns_once(network, says):
    with pytest.warns(UserWarning, match=says) as told:
        check(network)
    assert len(told) == 1


# Around it


class SetsDouble(Net):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        torch.set_default_dtype(torch.float64)


class StopsGradients(Net):
    def forward(self, x):
        torch.set_grad_enabled(False)
        return super().forward(x)


def chance():
    return torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()


def test_a_trial_leaves_chance_and_settings_as_they_were():
    torch_before, numpy_before, python_before = chance()
    check(of(*SOUND.values()))
    torch_after, numpy_after, python_after = chance()
    assert torch.equal(torch_before, torch_after)
    assert (numpy_before, python_before) == (numpy_after, python_after)
    with pytest.warns(UserWarning, match="network SetsDouble sets torch's default type .*float64"):
        check(SetsDouble)
    assert torch.get_default_dtype() == torch.float32
    assert "no gradient" in refusal(StopsGradients)
    assert torch.is_grad_enabled()


class Impatient(Net):
    def forward(self, x):
        if self.training and torch.is_grad_enabled():
            Impatient.steps += 1
            if Impatient.steps == 3:
                raise KeyboardInterrupt
        return super().forward(x)


def test_ctrl_c_stops_a_trial():
    Impatient.steps = 0
    with pytest.raises(KeyboardInterrupt):
        check(Impatient)
