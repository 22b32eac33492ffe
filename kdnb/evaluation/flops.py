"""A model's arithmetic: every operation that torch runs is counted, excluded or named.

Products and poolings are counted. Excluded are operations without floating-point arithmetic, and
those that the definition in `kdnb.evaluation.cost.Cost` excludes. All others are named: an
operation without a rule never counts as free.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import prod

import torch
from torch import Tensor, nn
from torch._C import DispatchKey
from torch._ops import OpOverload
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import conv_flop_count, get_shape, sdpa_flop_count

Shape = tuple[int, ...]
COMPOSITE = DispatchKey.CompositeImplicitAutograd
WITHOUT_SUMS = {torch.Tag.pointwise, torch.Tag.view_copy, torch.Tag.inplace_view}


class Arithmetic(TorchDispatchMode):
    """Counts inside the block, for the parameters of one model.

    ``macs`` and ``flops`` are sums over all operations as `kdnb.evaluation.cost.Cost` defines
    them, and ``uncounted`` has the names of operations whose arithmetic is in neither.
    """

    supports_higher_order_operators = True

    def __init__(self, model: nn.Module):
        super().__init__()
        self.macs = self.flops = 0
        self.uncounted: dict[str, None] = {}  # in the order in which they first run
        self._parameters = {storage_of(p) for p in model.parameters()} - {None}

    def __torch_dispatch__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        kwargs = kwargs or {}
        name = str(getattr(func, "overloadpacket", func))  # such as aten.sort
        kind = name.removeprefix("aten.").rstrip("_")  # the same for one that writes in place
        if kind not in LEFT_OUT and _is_composite(func):
            with self:  # the operations that it is made of
                return func._op_dk(COMPOSITE, *args, **kwargs)
        result = func(*args, **kwargs)
        if kind == "add" and any(storage_of(a) in self._parameters for a in args[:2]):
            self.flops += result.numel()  # a bias
        elif kind in COUNTED:
            tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
            if any(storage_of(t) is None or t.is_complex() or t.is_quantized for t in tensors):
                self.uncounted[f"{name} of sparse, complex or quantized numbers"] = None
            else:
                macs, others = COUNTED[kind](*tree_map(get_shape, (result, *args)), **kwargs)
                self.macs += macs
                self.flops += 2 * macs + others
        elif kind not in LEFT_OUT and not _without_sums(func, kind):
            self.uncounted[name] = None
        return result


@contextmanager
def unfused() -> Iterator[None]:
    """Inside, torch takes attention and recurrent layers apart into operations to be counted."""
    fast, onednn = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled
    torch.backends.mha.set_fastpath_enabled(False)
    torch.backends.mkldnn.enabled = False
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch.backends.mkldnn.enabled = onednn


def storage_of(value: object) -> int | None:
    """An identifier of a tensor's memory; None without memory of the usual kind."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_nested:
        return None
    return value.untyped_storage()._cdata


def _is_composite(func: Callable) -> bool:
    """Whether torch can decompose an operation into others.

    `OpOverload.decompose` would also take interpolation apart, into sums of single values.
    """
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    return isinstance(func, OpOverload) and has_kernel(func.name(), COMPOSITE)


def _without_sums(func: Callable, kind: str) -> bool:
    """Whether an operation is a view, or works on each value alone."""
    packet = getattr(torch.ops.aten, kind, None)  # torch does not tag all that write in place
    overloads = [getattr(packet, name) for name in packet.overloads()] if packet else []
    tags = {tag for each in (func, *overloads) for tag in getattr(each, "tags", ())}
    return getattr(func, "is_view", False) or bool(tags & WITHOUT_SUMS)


# Rules: multiply-adds, and other floating-point operations, from the shapes of the result and of
# what the operation is given.


def _product(out: Shape, *shapes: Shape, beta: float = 1, **_: object) -> tuple[int, int]:
    *added, a, b = shapes
    return prod(a) * (b[-1] if len(b) > 1 else 1), prod(out) if added and beta else 0


def _convolution(out: Shape, x: Shape, weight: Shape, bias: Shape | None, *options: object):
    macs = conv_flop_count(x, weight, out, transposed=options[3]) // 2
    return macs, prod(out) if bias is not None else 0


def _bilinear(out: Shape, x: Shape, weight: Shape, *_: object) -> tuple[int, int]:
    _, first, second = weight  # x times the weights, and that times the other input
    return prod(out) * (first + 1) * second, 0


def _pooling(dimensions: int, out: Shape | tuple[Shape, ...], x: Shape, window: list, *_: object):
    sizes = window if len(window) == dimensions else dimensions * window
    return 0, prod(_values(out)) * prod(sizes)


def _adaptive_pooling(out: Shape | tuple[Shape, ...], x: Shape, size: list) -> tuple[int, int]:
    places = zip(x[-len(size) :], _values(out)[-len(size) :], strict=True)
    # From the window's first value, rounded down, to its last, rounded up: they may overlap.
    looked_at = [sum(-(-(i + 1) * n // m) - i * n // m for i in range(m)) for n, m in places]
    return 0, prod(x[: -len(size)]) * prod(looked_at)


def _values(out: Shape | tuple[Shape, ...]) -> Shape:
    """The shape of the pooled values, for poolings that also return indices."""
    return out if isinstance(out, torch.Size) else out[0]


COUNTED: dict[str, Callable[..., tuple[int, int]]] = {
    **dict.fromkeys(["mm", "bmm", "mv", "dot", "vdot"], _product),
    **dict.fromkeys(["addmm", "baddbmm", "addbmm", "addmv"], _product),
    "convolution": _convolution,
    "_scaled_dot_product_flash_attention_for_cpu": lambda out, query, key, value, *_, **__: (
        sdpa_flop_count(query, key, value) // 2,
        0,
    ),
    "_trilinear": _bilinear,
    **{f"max_pool{d}d_with_indices": partial(_pooling, d) for d in (2, 3)},
    **{f"avg_pool{d}d": partial(_pooling, d) for d in (2, 3)},
    **{f"fractional_max_pool{d}d": partial(_pooling, d) for d in (2, 3)},
    **{f"_adaptive_avg_pool{d}d": _adaptive_pooling for d in (2, 3)},
    **{f"adaptive_max_pool{d}d": _adaptive_pooling for d in (2, 3)},
    **dict.fromkeys(
        ["mean", "sum", "prod", "max", "min", "amax", "amin", "aminmax"],
        lambda out, x, *_, **__: (0, prod(x)),
    ),
}

_CREATION = """empty empty_like empty_strided new_empty new_empty_strided zeros zeros_like new_zeros
ones ones_like new_ones full full_like new_full fill zero eye arange scalar_tensor
rand rand_like randn randn_like randint randperm bernoulli uniform normal"""
_MOVEMENT = """copy _to_copy lift cat stack repeat repeat_interleave flip roll index index_select
index_put _unsafe_index index_fill index_copy gather take scatter masked_select masked_scatter
select_scatter diagonal_scatter as_strided_scatter tril triu constant_pad_nd
reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d
replication_pad3d pixel_shuffle pixel_unshuffle channel_shuffle im2col embedding max_unpool2d
max_unpool3d upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d
_upsample_nearest_exact2d _upsample_nearest_exact3d _unsafe_view _reshape_copy unsafe_split
unsafe_split_with_sizes _pack_padded_sequence _local_scalar_dense"""
_TESTS = "all any nonzero is_same_size _linalg_check_errors _assert_async prim.device"
_ACTIVATIONS = """_softmax _safe_softmax _log_softmax _masked_softmax log_sigmoid_forward glu
_prelu_kernel hardswish rrelu_with_noise native_dropout"""
_NORMALISATION = """native_batch_norm _native_batch_norm_legit _batch_norm_no_update
_native_batch_norm_legit_no_training native_layer_norm native_group_norm _fused_rms_norm rms_norm"""
# Neither counted nor named: see the definition in `kdnb.evaluation.cost.Cost`.
LEFT_OUT = {*" ".join([_CREATION, _MOVEMENT, _TESTS, _ACTIVATIONS, _NORMALISATION]).split()}
