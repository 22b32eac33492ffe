"""The cost of a model: size, arithmetic and memory per image, and time on this machine."""

import math
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from time import perf_counter

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.benchmark import Timer

from kdnb.evaluation.flops import Arithmetic, storage_of, unfused
from kdnb.training.predict import evaluating

RAPL = Path("/sys/class/powercap")  # where Linux shows the energy counters of Intel's and AMD's


@dataclass(frozen=True)
class Cost:
    """The cost of one forward pass for one image, counted and not timed.

    ``macs``: multiply-adds of all matrix products, those of recurrent layers at each step, and both
    of attention (a mask saves none). ``flops``: two for each of them, one for each value to which a
    parameter is added, and one for each value that a pooling, mean, sum, maximum or minimum looks
    at. Left out are activations, softmax, normalisation (batch-norm can be folded into the weights)
    and what works on each value alone, such as residual sums. ``uncounted`` names the operations
    that do other arithmetic: with any of them ``macs`` and ``flops`` are too low. Arithmetic
    outside torch is not seen.

    ``thop_macs`` is thop's count, and ``thop_extra`` the part of it by kind of layer that comes
    from neither convolutions nor dense layers; where thop fails it is None, and ``thop_failure``
    says why. ``stored_bytes`` is the size of the weights on disk, shared ones once, and
    ``activation_bytes`` the most that is held at one time besides the weights, with each counted
    operation done by itself. Sparse tensors are in neither.
    """

    parameters: int
    macs: int
    flops: int
    thop_macs: int | None
    thop_extra: dict[str, int]
    stored_bytes: int
    activation_bytes: int
    uncounted: tuple[str, ...] = ()
    thop_failure: str = ""


def cost(model: nn.Module, images: Tensor) -> Cost:
    """The cost of ``model`` for the first of ``images`` (N, C, H, W) floats, on the CPU.

    The model is left as it is. Raises ValueError if it cannot be copied.
    """
    try:
        model = deepcopy(model)  # thop leaves buffers of its own behind
    except Exception as error:  # a reader's network may raise anything
        raise ValueError(
            f"cost needs a copy of {type(model).__name__} and cannot make one: keep no computed "
            f"tensors and no open files in its attributes ({error})"
        ) from error
    model.cpu().eval()
    image = images[:1].clone().cpu()  # a slice would hold all of the batch
    counted, memory = Arithmetic(model), _LiveBytes(model, image)
    with torch.inference_mode(), unfused(), memory, counted:
        model(image)
    stored_bytes = _stored_bytes(model)
    try:
        thop_macs, thop_extra, thop_failure = *_thop(model, image), ""
    except Exception as error:  # a second opinion: without it the first still stands
        thop_macs, thop_extra, thop_failure = None, {}, str(error) or type(error).__name__
    return Cost(
        parameters=sum(p.numel() for p in model.parameters()),
        macs=counted.macs,
        flops=counted.flops,
        thop_macs=thop_macs,
        thop_extra=thop_extra,
        stored_bytes=stored_bytes,
        activation_bytes=memory.peak,
        uncounted=tuple(counted.uncounted),
        thop_failure=thop_failure.partition("\n")[0],
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
        """Images per second at the median time."""
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
    waiting for the result, and ``threads`` do not matter. Raises ValueError unless ``seconds`` is
    a positive number.
    """
    require_seconds(seconds)
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


def require_seconds(seconds: object) -> None:
    """Raise ValueError unless a measurement of so many ``seconds`` would end."""
    number = isinstance(seconds, Real) and not isinstance(seconds, bool)
    if not (number and 0 < seconds < math.inf):
        raise ValueError(f"seconds must be a positive number such as 0.3, got {seconds!r}")


def joules_per_image(
    model: nn.Module, images: Tensor, *, seconds: float = 1.0, counters: Path = RAPL
) -> float | None:
    """Energy per image of the whole processor while ``model`` runs; None if it cannot be read.

    The energy includes everything else that runs on the machine. If the counter restarts in
    between, the measurement is repeated. Raises ValueError unless ``seconds`` is a positive number.
    """
    require_seconds(seconds)
    packages = sorted(counters.glob("intel-rapl:?/energy_uj"))

    def microjoules() -> int:
        return sum(int(package.read_text(encoding="ascii")) for package in packages)

    try:
        before = microjoules()
    except OSError:  # most systems show it to root alone
        return None
    if not packages:
        return None
    passes, start = 0, perf_counter()
    with evaluating(model):
        while not passes or perf_counter() - start < seconds:
            model(images)
            passes += 1
    used = microjoules() - before
    if used < 0:
        return joules_per_image(model, images, seconds=seconds, counters=counters)
    return used / 1e6 / (passes * len(images))


def _thop(model: nn.Module, image: Tensor) -> tuple[int, dict[str, int]]:
    """Multiply-adds as thop counts them, and by kind of layer those that are not in products."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # thop asks for distutils
        from thop import profile
    total, _, layers = profile(model, (image,), verbose=False, ret_layer_info=True)
    extra: Counter[str] = Counter()
    for name, ops in _thop_leaves(layers):
        kind = type(model.get_submodule(name)).__name__
        if ops and not kind.startswith(("Conv", "Linear")):
            extra[kind] += ops
    return int(total), dict(extra)


def _thop_leaves(layers: dict, prefix: str = "") -> Iterator[tuple[str, int]]:
    for name, (ops, _, inside) in layers.items():
        if inside:
            yield from _thop_leaves(inside, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", int(ops)


def _stored_bytes(model: nn.Module) -> int:
    """The size of the weights as a safetensors file."""
    weights = model.state_dict(keep_vars=True)
    once = {id(t): (name, t) for name, t in weights.items() if isinstance(t, Tensor)}
    return len(save({name: torch.empty(t.shape, dtype=t.dtype) for name, t in once.values()}))


class _LiveBytes(TorchDispatchMode):
    """The most bytes of tensors, weights aside, that are alive at one time inside the block."""

    supports_higher_order_operators = True

    def __init__(self, model: nn.Module, image: Tensor):
        super().__init__()
        self.live = self.peak = 0
        self._known = {storage_of(t) for t in [*model.parameters(), *model.buffers()]} - {None}
        self._follow(image)

    def __torch_dispatch__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            self._follow(leaf)
        return result

    def _follow(self, value: object) -> None:
        address = storage_of(value)
        if address is None or address in self._known:  # a view, or written in place
            return
        storage = value.untyped_storage()
        self._known.add(address)
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._gone, address, storage.nbytes())

    def _gone(self, address: int, size: int) -> None:
        self._known.discard(address)
        self.live -= size
