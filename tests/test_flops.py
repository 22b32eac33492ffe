"""What operations take, against values worked out by hand, and which are named instead."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kdnb.evaluation.cost import cost
from kdnb.evaluation.flops import Arithmetic, unfused


class Layer(nn.Module):
    """A module made of a function of images and parameters."""

    def __init__(self, function, *parameters):
        super().__init__()
        self.function = function
        self.weights = nn.ParameterList(parameters)

    def forward(self, images):
        return self.function(images, *self.weights)


class First(nn.Module):
    """The first of what a module that gives several things gives."""

    def __init__(self, module, times=1):
        super().__init__()
        self.module, self.times = module, times

    def forward(self, images):
        return self.module(*[images] * self.times)[0]


def counted(model, *shape):
    """Multiply-adds, other FLOPs, and what is not counted, for one input of that shape."""
    found = cost(model, torch.rand(1, *shape))
    return found.macs, found.flops - 2 * found.macs, found.uncounted


W = torch.rand
HEADS = {"batch_first": True}

PRODUCTS = {
    # 6 · 4 weights, no bias
    "dense without bias": (nn.Linear(6, 4, bias=False), (6,), 24, 0),
    # each of 5 places: 6 · 4, and 4 biases
    "dense at 5 places": (nn.Linear(6, 4), (5, 6), 120, 20),
    "dense at 5 places, not contiguous": (
        Layer(lambda x, w, b: F.linear(x.transpose(1, 2), w, b), W(4, 6), W(4)), (6, 5), 120, 20,
    ),
    "a bias of one's own": (Layer(lambda x, w, b: x @ w + b, W(6, 4), W(4)), (6,), 24, 4),
    "a matrix and a vector": (Layer(lambda x, w: x @ w, W(6)), (6,), 6, 0),
    "a dot product": (Layer(lambda x, w: torch.dot(x[0], w), W(6)), (6,), 6, 0),
    "addmv": (Layer(lambda x, w, b: torch.addmv(b, x, w), W(6), W(1)), (6,), 6, 1),
    # 5 × 6 by 6 × 5: 25 values of 6 products each, for each of 3 maps
    "bmm": (Layer(lambda x: x[0] @ x[0].transpose(1, 2)), (3, 5, 6), 450, 0),
    "matmul": (Layer(lambda x: x @ x.transpose(-1, -2)), (3, 5, 6), 450, 0),
    # and 25 values that are added
    "baddbmm": (
        Layer(lambda x, b: torch.baddbmm(b, x, x.transpose(1, 2)), W(1, 5, 5)), (5, 6), 150, 25,
    ),
    # a sum over matrices: the products of both
    "addbmm": (
        Layer(lambda x, b: torch.addbmm(b, x[0], x[0].transpose(1, 2)), W(5, 5)),
        (2, 5, 6), 300, 25,
    ),
    # 3 channels to 7 at each of 4 · 5 places
    "einsum": (
        Layer(lambda x, w: torch.einsum("nchw,ck->nkhw", x, w), W(3, 7)), (3, 4, 5), 420, 0,
    ),
    # xᵀ A z for 4 outputs: 6 · 5 by A, then 5 by z; 4 biases
    "bilinear": (
        Layer(lambda x, a, b: F.bilinear(x, x[:, :5].contiguous(), a, b), W(4, 6, 5), W(4)), (6,),
        4 * (6 * 5 + 5), 4,
    ),
    # 8 places, 3 · 3 weights for each of 4 maps; a bias at each of 8 · 4
    "conv 1d": (nn.Conv1d(3, 4, 3), (3, 10), 8 * 36, 32),
    # windows reach over 5 places: 6 × 6 are left
    "conv 2d, dilated": (nn.Conv2d(3, 4, 3, dilation=2), (3, 10, 10), 36 * 27 * 4, 36 * 4),
    "conv 3d": (nn.Conv3d(3, 4, 3), (3, 5, 6, 7), 3 * 4 * 5 * 81 * 4, 3 * 4 * 5 * 4),
    # two groups of 2 channels to 4 maps: each map sees 2 · 9 weights
    "conv 2d, groups": (nn.Conv2d(4, 8, 3, groups=2), (4, 6, 6), 16 * 8 * 18, 16 * 8),
    # each of 10 values of 3 channels is multiplied by 4 · 3 weights; 2 · 9 + 3 places
    "transposed 1d": (nn.ConvTranspose1d(3, 4, 3, stride=2), (3, 10), 360, 21 * 4),
    "transposed 2d, groups": (
        nn.ConvTranspose2d(4, 4, 3, stride=2, groups=2), (4, 5, 5), 25 * 4 * 18, 121 * 4,
    ),
    "transposed 3d": (nn.ConvTranspose3d(3, 4, 2, stride=2), (3, 4, 4, 4), 64 * 3 * 32, 512 * 4),
    # one step: 6 and 4 to 4 gates of 4, two biases
    "LSTM cell": (First(nn.LSTMCell(6, 4)), (6,), 16 * 10, 32),
    # 5 steps
    "LSTM": (First(nn.LSTM(6, 4, **HEADS)), (5, 6), 5 * 160, 5 * 32),
    # two directions of: 6 and 4 to 16, then of 8 and 4 to 16
    "LSTM, two layers, both ways": (
        First(nn.LSTM(6, 4, num_layers=2, bidirectional=True, **HEADS)), (5, 6),
        2 * 5 * 16 * (10 + 12), 4 * 5 * 32,
    ),
    # 6 and 3 to 16, then 4 to 3
    "LSTM, projected": (
        First(nn.LSTM(6, 4, proj_size=3, **HEADS)), (5, 6), 5 * (16 * 9 + 12), 5 * 32,
    ),
    "GRU": (First(nn.GRU(6, 4, **HEADS)), (5, 6), 5 * 12 * 10, 5 * 24),  # 3 gates
    "RNN": (First(nn.RNN(6, 4, **HEADS)), (5, 6), 5 * 4 * 10, 5 * 8),
    # two heads of 4 values: 5 × 5 scores of 4 products, and 5 sums of 5 for each value
    "scaled_dot_product_attention": (
        Layer(lambda x: F.scaled_dot_product_attention(x, x, x)), (2, 5, 4), 2 * (100 + 100), 0,
    ),
    "the same with a mask": (
        Layer(lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True)), (2, 5, 4), 400, 0,
    ),
    # 8 to 24, attention as above, 8 to 8; the mean over the 2 heads looks at their 5 × 5 weights
    "MultiheadAttention": (
        First(nn.MultiheadAttention(8, 2, **HEADS), times=3), (5, 8),
        5 * 8 * 24 + 400 + 5 * 8 * 8, 5 * 24 + 5 * 8 + 50,
    ),
    # attention, then 8 to 16 to 8
    "TransformerEncoderLayer": (
        nn.TransformerEncoderLayer(8, 2, 16, **HEADS), (5, 8), 1680 + 5 * 2 * 128, 5 * (32 + 24),
    ),
    "TransformerEncoder of two": (
        nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, **HEADS), 2), (5, 8),
        2 * 2960, 2 * 280,
    ),
    # attention to itself and to the input, then 8 to 16 to 8
    "TransformerDecoderLayer": (
        First(nn.TransformerDecoderLayer(8, 2, 16, **HEADS), times=2), (5, 8),
        2 * 1680 + 5 * 2 * 128, 2 * 5 * 32 + 5 * 24,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_by_hand(name):
    model, shape, macs, other = PRODUCTS[name]
    assert counted(model, *shape) == (macs, other, ())


@pytest.mark.parametrize(
    ("body", "width", "products", "all_of_them"),
    [
        # 16 tokens of 48 values: 4 · 48² for each, 2 · 48 for each pair, 2 · 48 · 96 for each
        (
            nn.TransformerEncoderLayer(48, 4, 96, batch_first=True), 48,
            16 * 4 * 48**2 + 16**2 * 2 * 48 + 16 * 2 * 48 * 96, 319_632,
        ),
        # 16 steps: 48 and 32 values to 4 gates of 32
        (First(nn.LSTM(48, 32, batch_first=True)), 32, 16 * (48 + 32) * 4 * 32, 163_936),
    ],
)  # fmt: skip
def test_attention_and_recurrent_layers_in_a_network(body, width, products, all_of_them):
    rows = Layer(lambda x: x.permute(0, 2, 1, 3).flatten(2))  # of an image: 16 times 3 · 16 values
    network = nn.Sequential(rows, body, Layer(lambda x: x[:, -1]), nn.Linear(width, 3))
    assert counted(network, 3, 16, 16)[0] == products + width * 3 == all_of_them


POOLINGS = {
    # 4 windows of 3, on each of 3 maps
    "average 1d": (nn.AvgPool1d(3), (3, 12), 36),
    "max 1d": (nn.MaxPool1d(3), (3, 12), 36),
    # 5 × 5 windows of 9; a padded window counts in full
    "average 2d, overlapping": (nn.AvgPool2d(3, stride=2), (3, 12, 12), 3 * 25 * 9),
    "average 2d, padded": (nn.AvgPool2d(3, stride=2, padding=1), (3, 12, 12), 3 * 36 * 9),
    "max 2d, overlapping": (nn.MaxPool2d(3, stride=2), (3, 12, 12), 3 * 25 * 9),
    "max 2d, oblong": (nn.MaxPool2d((2, 7)), (2, 14, 14), 2 * 7 * 2 * 14),
    "average 3d": (nn.AvgPool3d(2), (3, 4, 4, 4), 3 * 64),
    "max 3d": (nn.MaxPool3d(2), (3, 4, 4, 4), 3 * 64),
    # 12 values in 5 windows: 0-2, 2-4, 4-7, 7-9, 9-11, which is 16
    "adaptive average 1d": (nn.AdaptiveAvgPool1d(5), (3, 12), 3 * 16),
    "adaptive average 2d": (nn.AdaptiveAvgPool2d(5), (3, 12, 12), 3 * 16 * 16),
    "adaptive average 2d, all": (nn.AdaptiveAvgPool2d(1), (3, 12, 12), 3 * 144),
    "adaptive average 3d": (nn.AdaptiveAvgPool3d((2, 1, 5)), (3, 4, 4, 12), 3 * 4 * 4 * 16),
    "adaptive max 1d": (nn.AdaptiveMaxPool1d(5), (3, 12), 3 * 16),
    "adaptive max 2d": (nn.AdaptiveMaxPool2d((5, 4)), (3, 12, 12), 3 * 16 * 12),
    "adaptive max 3d": (nn.AdaptiveMaxPool3d(2), (3, 4, 4, 4), 3 * 64),
    "fractional max 2d": (nn.FractionalMaxPool2d(2, output_size=3), (3, 12, 12), 3 * 9 * 4),
    "mean, sum, maximum and minimum over the places": (
        Layer(lambda x: x.mean((2, 3)) + x.sum((2, 3)) + x.amax((2, 3)) + x.flatten(2).min(2)[0]),
        (3, 4, 5),
        4 * 60,
    ),
}


@pytest.mark.parametrize("name", POOLINGS)
def test_poolings_count_the_values_that_they_look_at(name):
    model, shape, values = POOLINGS[name]
    assert counted(model, *shape) == (0, values, ())


def test_the_readmes_student():
    student = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(192, 5))
    found = cost(student, torch.rand(1, 3, 32, 32))
    assert found.macs == 192 * 5
    assert found.flops == 2 * 192 * 5 + 5 + 3 * 32 * 32 == 4_997


class Cube(torch.autograd.Function):
    """A function with a gradient of its own: what it is made of counts."""

    @staticmethod
    def forward(ctx, x, w):
        return (x @ w) ** 3


NOTHING = {
    "activations": nn.Sequential(
        nn.GELU(), nn.SiLU(), nn.PReLU(), nn.Softmax(1), nn.LogSoftmax(1), nn.Hardswish(), nn.ELU(),
        nn.Mish(), nn.Softplus(), nn.Hardtanh(), nn.ReLU6(inplace=True), nn.RReLU(), nn.Dropout(),
        nn.LeakyReLU(inplace=True), nn.LogSigmoid(), nn.GLU(1), nn.Threshold(0.1, 0.0, True),
    ),
    "normalisation": nn.Sequential(
        nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.LayerNorm((8, 8)),
        nn.RMSNorm(8),
    ),
    "moving": nn.Sequential(
        nn.ReflectionPad2d(1), nn.ReplicationPad2d(1), nn.ZeroPad2d(1), nn.CircularPad2d(1),
        nn.PixelUnshuffle(2), nn.PixelShuffle(2), nn.ChannelShuffle(2), nn.Unfold(3),
        Layer(lambda x: torch.cat([x.flip(1), x.roll(1, 1), x[:, [0, 2]], x.repeat(1, 2, 1)], 1)),
        Layer(lambda x: torch.stack([x, x.masked_fill(x > 0.5, 0)]).where(x > 0, x.new_zeros(()))),
    ),
    "nearest neighbours": nn.Upsample(scale_factor=2),
    "residual sums, gates and scales": Layer(lambda x: (x + x.tanh()) * x.sigmoid() / 2 - x * x),
    "making": Layer(lambda x: torch.zeros_like(x) + torch.arange(8) + torch.ones(8, 8).tril()),
}  # fmt: skip


@pytest.mark.parametrize("name", NOTHING)
def test_what_the_definition_leaves_out_is_neither_counted_nor_named(name):
    assert counted(NOTHING[name].eval(), 4, 8, 8) == (0, 0, ())


def test_embeddings_and_functions_with_their_own_gradient():
    model = nn.Sequential(nn.Embedding(10, 6), nn.Flatten(), nn.Linear(18, 2))
    found = cost(model, torch.tensor([[1, 2, 3]]))
    assert (found.macs, found.flops, found.uncounted) == (36, 74, ())
    assert counted(Layer(Cube.apply, W(6, 4)), 6) == (24, 0, ())


@torch.library.custom_op("kdnb_tests::doubled", mutates_args=())
def doubled(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


UNKNOWN = {
    "aten._fft_r2c": lambda x: torch.fft.rfft2(x).abs(),
    "aten.sort": lambda x: x.sort().values,
    "aten.topk": lambda x: x.topk(2).values,
    "aten.cumsum": lambda x: x.cumsum(1),
    "aten._cdist_forward": lambda x: torch.cdist(x, x),
    "aten._linalg_svd": lambda x: torch.linalg.svd(x).S,
    "aten.linalg_vector_norm": F.normalize,
    "aten.logsumexp": lambda x: x.logsumexp(2),
    "aten.var": lambda x: x.var(1),
    "aten.median": lambda x: x.median(1)[0],
    "aten.upsample_bilinear2d": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "aten.upsample_bicubic2d": lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"),
    "aten.grid_sampler_2d": lambda x: F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1)),
    "aten.col2im": lambda x: F.fold(F.unfold(x, 2), (8, 8), 2),
    "aten.scatter_add": lambda x: x.scatter_add(1, torch.zeros(1, 3, 8, 8, dtype=torch.long), x),
    "aten._embedding_bag_forward_only": lambda x: F.embedding_bag(torch.tensor([[1, 2]]), x[0, 0]),
    "aten.bmm of sparse, complex or quantized numbers": lambda x: (
        x.to(torch.complex64) @ x[0, :1].to(torch.complex64).mT
    ),
    "aten.mm of sparse, complex or quantized numbers": lambda x: x[0, 0].to_sparse() @ x[0, 1],
    "kdnb_tests.doubled": lambda x: doubled(x),
}


@pytest.mark.filterwarnings("ignore:Default grid_sample:UserWarning")
@pytest.mark.parametrize("name", UNKNOWN)
def test_an_operation_that_is_not_known_is_named_beside_what_is_counted(name):
    layer = nn.Conv2d(3, 3, 1)  # 64 places, 9 weights, 3 biases
    macs, flops, names = counted(nn.Sequential(layer, Layer(UNKNOWN[name])), 3, 8, 8)
    assert (macs, flops) == (64 * 9, 64 * 3) and name in names


def test_what_is_named_is_named_once_and_in_order():
    model = Layer(lambda x: x.sort()[0].cumsum(1).sort()[0])
    assert counted(model, 6)[2] == ("aten.sort", "aten.cumsum")


class Within(nn.Module):
    """A module that is run in a mode of its own, as frozen bodies are."""

    def __init__(self, module, mode):
        super().__init__()
        self.module, self.mode = module, mode

    def forward(self, images):
        with self.mode():
            return self.module(images)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("name", ["TransformerEncoderLayer", "LSTM", "bilinear", "einsum"])
def test_the_modes_of_a_model_make_no_difference(mode, name):
    model, shape, macs, other = PRODUCTS[name]
    assert counted(Within(model, mode), *shape) == (macs, other, ())
    bent = nn.Upsample(scale_factor=2, mode="bilinear")
    assert counted(Within(bent, mode), 1, 4, 4) == (0, 0, ("aten.upsample_bilinear2d",))


# Layers that no example names: each multiply-add joins one input to one output.


def linked(layer, x):
    """How many pairs of an input and an output have a weight between them."""
    jacobian = torch.autograd.functional.jacobian(layer, x)
    return int((jacobian != 0).sum())


@st.composite
def layers(draw):
    dimensions, groups = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    kind = ("Conv", "ConvTranspose")[draw(st.integers(0, 1))]
    sizes = [draw(st.integers(5, 6)) for _ in range(dimensions)]
    layer = getattr(nn, f"{kind}{dimensions}d")(
        2 * groups, groups * draw(st.integers(1, 2)), draw(st.integers(1, 3)),
        stride=draw(st.integers(1, 2)), dilation=draw(st.integers(1, 2)), groups=groups,
        bias=draw(st.booleans()),
    )  # fmt: skip
    return layer, (2 * groups, *sizes)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, database=None)
@given(layers())
def test_a_convolution_of_any_kind_has_a_multiply_add_for_each_pair_that_it_joins(drawn):
    layer, shape = drawn
    nn.init.uniform_(layer.weight, 0.5, 1.0)
    x = torch.rand(1, *shape)
    biases = layer(x).numel() if layer.bias is not None else 0
    assert counted(layer, *shape) == (linked(layer, x), biases, ())


@settings(max_examples=25, deadline=None, database=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=3))
def test_an_adaptive_pooling_of_any_size_looks_at_each_value_that_it_averages(sizes):
    shape, out = zip(*sizes, strict=True)
    layer = getattr(nn, f"AdaptiveAvgPool{len(sizes)}d")(out)
    assert counted(layer, 2, *shape) == (0, linked(layer, torch.rand(1, 2, *shape)), ())


@settings(max_examples=25, deadline=None, database=None)
@given(
    st.sampled_from([(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)]), st.integers(1, 5),
    st.integers(1, 5), st.integers(2, 5), st.integers(1, 2), st.booleans(), st.booleans(),
)  # fmt: skip
def test_a_recurrent_layer_of_any_size(kind, steps, inputs, hidden, deep, both, biased):
    make, gates = kind
    ways = 1 + both
    layer = make(inputs, hidden, deep, bias=biased, batch_first=True, bidirectional=both)
    weights = sum(p.numel() for n, p in layer.named_parameters() if n.startswith("weight"))
    biases = deep * ways * 2 * gates * hidden if biased else 0
    # every weight and every bias is used once at every step
    assert counted(First(layer), steps, inputs) == (steps * weights, steps * biases, ())


@settings(max_examples=25, deadline=None, database=None)
@given(st.lists(st.integers(1, 4), min_size=0, max_size=3), st.integers(1, 5), st.booleans())
def test_a_dense_layer_at_any_number_of_places(places, width, biased):
    layer = nn.Linear(3, width, bias=biased)
    count = torch.Size(places).numel()
    assert counted(layer, *places, 3) == (count * 3 * width, count * width * biased, ())


# The settings of torch, and the mode on its own.


def test_torch_is_left_as_it_was_also_after_an_error():
    def state():
        return (
            torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled,
            torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.math_sdp_enabled(),
            torch.backends.mkldnn.matmul.fp32_precision,
        )  # fmt: skip

    before = state()
    with unfused():
        assert state() != before
    assert state() == before
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with pytest.raises(ZeroDivisionError):
            cost(Layer(lambda x: 1 / 0), torch.rand(1, 3))
        assert not torch.backends.mha.get_fastpath_enabled()
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    assert state() == before


def test_only_parameters_of_the_model_count_as_biases():
    model = Layer(lambda x, b: x + b, W(6))
    with torch.no_grad(), Arithmetic(model) as found:
        model(torch.rand(2, 6)) + torch.rand(6) + 1.0
    assert (found.macs, found.flops) == (0, 2 * 6)
