"""What a model costs: its size, its arithmetic and memory per image, and the time it takes here."""

import warnings
import weakref
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from math import prod
from pathlib import Path
from time import perf_counter

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from kdnb.training import evaluating

RAPL = Path("/sys/class/powercap")  # where Linux shows the energy counters of Intel's and AMD's


@dataclass(frozen=True)
class Cost:
    """What running a model on one image takes, counted and not timed.

    ``macs``: multiply-adds of convolutions and dense layers. ``flops``: two for each of them, one
    for each bias that is added and one for each value that a pooling looks at; activations,
    batch-norm (which can be folded into the weights) and the sums of residual branches are left
    out. ``thop_macs`` is thop's count, and ``thop_extra`` the part of it that comes from neither
    convolutions nor dense layers, by kind of layer. ``stored_bytes`` is the size of the weights on
    disk, ``activation_bytes`` the most that is held at one time besides the weights.
    """

    parameters: int
    macs: int
    flops: int
    thop_macs: int
    thop_extra: dict[str, int]
    stored_bytes: int
    activation_bytes: int


def cost(model: nn.Module, images: Tensor) -> Cost:
    """The cost per image of ``model`` for a batch of ``images`` (N, C, H, W) floats, on the CPU.

    All but the peak of memory is the same for any N; that is measured with the first image alone.
    The model is left as it is.
    """
    model = deepcopy(model).cpu().eval()  # thop leaves buffers of its own behind
    with torch.no_grad(), FlopCounterMode(display=False) as products:
        model(images)
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=_EVERYTHING) as everything:
        model(images)
    first = images[:1].clone()  # a slice would hold all of the batch
    with torch.no_grad(), _LiveBytes(model, first) as memory:
        model(first)
    thop_macs, thop_extra = _thop(model, images)
    n = len(images)
    return Cost(
        parameters=sum(p.numel() for p in model.parameters()),
        macs=products.get_total_flops() // (2 * n),
        flops=everything.get_total_flops() // n,
        thop_macs=thop_macs // n,
        thop_extra={kind: ops // n for kind, ops in thop_extra.items()},
        stored_bytes=len(save({name: t.contiguous() for name, t in model.state_dict().items()})),
        activation_bytes=memory.peak,
    )


@dataclass(frozen=True)
class Timing:
    """Seconds of one forward pass of a batch: the median and the quartiles of ``n`` times."""

    batch: int
    threads: int
    device: str
    median: float
    low: float
    high: float
    n: int

    @property
    def images_per_second(self) -> float:
        """How many images the median pass answers for in a second."""
        return self.batch / self.median


def timing(
    model: nn.Module,
    images: Tensor,
    *,
    threads: int = 1,
    device: torch.device | None = None,
    seconds: float = 1.0,
) -> Timing:
    """Time ``model`` on a batch of ``images`` (N, C, H, W) floats, for at most so many ``seconds``.

    It ends earlier where half of the times differ by less than a tenth. On a GPU the time includes
    waiting for the result, and ``threads`` do not matter.
    """
    device = device or torch.device("cpu")
    model.to(device, memory_format=torch.channels_last)
    images = images.to(device, memory_format=torch.channels_last)
    with evaluating(model):
        timer = Timer("model(images)", globals=locals(), num_threads=threads)
        timer.timeit(1)  # the first passes choose kernels and allocate
        measured = timer.adaptive_autorange(threshold=0.1, max_run_time=seconds)
    times = torch.tensor(measured.times, dtype=torch.float64)
    low, median, high = times.quantile(times.new_tensor([0.25, 0.5, 0.75])).tolist()
    return Timing(len(images), threads, device.type, median, low, high, len(times))


def joules_per_image(
    model: nn.Module, images: Tensor, *, seconds: float = 1.0, counters: Path = RAPL
) -> float | None:
    """Energy of the whole processor while ``model`` answers, per image; None where it is not shown.

    Everything else that runs on the machine is counted too. Where the counter starts anew in
    between, the measurement is repeated.
    """
    packages = sorted(counters.glob("intel-rapl:?/energy_uj"))

    def microjoules() -> list[int]:
        return [int(package.read_text()) for package in packages]

    try:
        before = microjoules()
        if not before:
            return None
    except OSError:  # most systems show it to root alone
        return None
    passes, start = 0, perf_counter()
    with evaluating(model):
        while perf_counter() - start < seconds:
            model(images)
            passes += 1
    used = sum(after - earlier for after, earlier in zip(microjoules(), before, strict=True))
    if used < 0:
        return joules_per_image(model, images, seconds=seconds, counters=counters)
    return used / 1e6 / (passes * len(images))


def _convolution(x, weight, bias, *rest, out_shape=None, **_) -> int:
    flops = conv_flop_count(x, weight, out_shape, transposed=rest[3])
    return flops + (prod(out_shape) if bias is not None else 0)


def _dense(bias, x, weight, *, out_shape=None, **_) -> int:
    return 2 * prod(out_shape) * x[1] + prod(out_shape)


def _max_pooling(x, window, *_, out_shape=None, **__) -> int:
    return prod(out_shape[0]) * prod(window if len(window) == 2 else 2 * window)


def _mean(x, *_, out_shape=None, **__) -> int:
    return prod(x)


_EVERYTHING = {
    torch.ops.aten.convolution: _convolution,
    torch.ops.aten.addmm: _dense,
    torch.ops.aten.max_pool2d_with_indices: _max_pooling,
    torch.ops.aten.mean: _mean,
}


def _thop(model: nn.Module, images: Tensor) -> tuple[int, dict[str, int]]:
    """Multiply-adds as thop counts them, and what it counts besides products, by kind of layer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # thop asks for distutils
        from thop import profile
    kinds = {name: type(module).__name__ for name, module in model.named_modules()}
    total, _, layers = profile(model, (images,), verbose=False, ret_layer_info=True)
    extra: dict[str, int] = {}

    def collect(part: dict, prefix: str) -> None:
        for name, (ops, _, inside) in part.items():
            path = f"{prefix}{name}"
            if inside:
                collect(inside, f"{path}.")
            elif ops and not kinds[path].startswith(("Conv", "Linear")):
                extra[kinds[path]] = extra.get(kinds[path], 0) + int(ops)

    collect(layers, "")
    return int(total), extra


class _LiveBytes(TorchDispatchMode):
    """The most bytes of tensors, weights aside, that are alive at one time inside the block."""

    def __init__(self, model: nn.Module, *inputs: Tensor):
        super().__init__()
        self.live = self.peak = 0
        self._known = {t.untyped_storage()._cdata for t in model.state_dict().values()}
        for tensor in inputs:
            self._follow(tensor)

    def __torch_dispatch__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._follow(leaf)
        return result

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata in self._known:  # a view, or written in place
            return
        self._known.add(storage._cdata)
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())

    def _gone(self, address: int, size: int) -> None:
        self._known.discard(address)
        self.live -= size
