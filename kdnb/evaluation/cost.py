"""What a model costs: its size, its arithmetic and memory per image, and the time it takes here."""

import math
import re
import warnings
import weakref
from collections.abc import Callable
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
    """What running a model on one image takes, counted and not timed.

    ``macs``: multiply-adds of convolutions, dense layers and all other matrix products: those of
    recurrent layers at each step, and both of attention (queries by keys, weights by values), of
    which a mask saves none. ``flops``: two for each of them, one for each value to which a bias or
    another parameter is added, and one for each value that a pooling, mean, sum, maximum or minimum
    looks at. Left out are activations and softmax, normalisation (batch-norm can be folded into the
    weights) and all that works on each value alone, such as sums of residual branches, gates and
    scales. ``uncounted`` has the names of operations that do other arithmetic: with any of them
    ``macs`` and ``flops`` are too low. Arithmetic outside torch is not seen.

    ``thop_macs`` is thop's count, and ``thop_extra`` the part of it that comes from neither
    convolutions nor dense layers, by kind of layer; where thop fails it is None, and
    ``thop_failure`` says why. ``stored_bytes`` is the size of the weights on disk, those that
    layers share once, and ``activation_bytes`` the most that is held at one time besides the
    weights, with each operation that is counted done by itself. Sparse tensors are in neither.
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
    except Exception as error:  # whatever keeps a network of the reader's from it
        raise ValueError(
            f"cost needs a copy of {type(model).__name__} and cannot make one: keep no computed "
            f"tensors and no open files in its attributes ({_reason(error)})"
        ) from error
    model.cpu().eval()
    image = images[:1].clone().cpu()  # a slice would hold all of the batch
    counted, memory = Arithmetic(model), _LiveBytes(model, image)
    with torch.inference_mode(), unfused(), memory, counted:
        model(image)
    thop_macs, thop_extra, thop_failure = _thop(model, image)
    return Cost(
        parameters=sum(p.numel() for p in model.parameters()),
        macs=counted.macs,
        flops=counted.flops,
        thop_macs=thop_macs,
        thop_extra=thop_extra,
        stored_bytes=_stored_bytes(model),
        activation_bytes=memory.peak,
        uncounted=tuple(counted.uncounted),
        thop_failure=thop_failure,
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
    if not (number and math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"seconds must be a positive number such as 0.3, got {seconds!r}")


def joules_per_image(
    model: nn.Module, images: Tensor, *, seconds: float = 1.0, counters: Path = RAPL
) -> float | None:
    """Energy of the whole processor while ``model`` answers, per image; None where it is not shown.

    Everything else that runs on the machine is counted too. Where the counter starts anew in
    between, the measurement is repeated. Raises ValueError unless ``seconds`` is a positive number.
    """
    require_seconds(seconds)
    packages = sorted(counters.glob("intel-rapl:?/energy_uj"))

    def microjoules() -> list[int]:
        return [int(package.read_text(encoding="ascii")) for package in packages]

    try:
        before = microjoules()
        if not before:
            return None
    except OSError:  # most systems show it to root alone
        return None
    passes, start = 0, perf_counter()
    with evaluating(model):
        while not passes or perf_counter() - start < seconds:
            model(images)
            passes += 1
    used = sum(after - earlier for after, earlier in zip(microjoules(), before, strict=True))
    if used < 0:
        return joules_per_image(model, images, seconds=seconds, counters=counters)
    return used / 1e6 / (passes * len(images))


def _thop(model: nn.Module, image: Tensor) -> tuple[int | None, dict[str, int], str]:
    """Multiply-adds as thop counts them, what of it is not in products by kind of layer, and why
    it failed where it did.
    """
    kinds = {
        name: type(module).__name__ for name, module in model.named_modules(remove_duplicate=False)
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # thop asks for distutils
            from thop import profile
        total, _, layers = profile(model, (image,), verbose=False, ret_layer_info=True)
    except Exception as error:  # a second opinion: without it the first still stands
        return None, {}, _reason(error)
    extra: dict[str, int] = {}

    def collect(part: dict, prefix: str) -> None:
        for name, (ops, _, inside) in part.items():
            path = f"{prefix}{name}"
            if inside:
                collect(inside, f"{path}.")
            elif ops and not kinds[path].startswith(("Conv", "Linear")):
                extra[kinds[path]] = extra.get(kinds[path], 0) + int(ops)

    collect(layers, "")
    return int(total), extra, ""


def _stored_bytes(model: nn.Module) -> int:
    """The size of the weights as a file, with thop's counters in it, as in the kept reference."""
    weights = model.state_dict(keep_vars=True)
    once = {id(t): (name, t) for name, t in weights.items() if isinstance(t, Tensor)}
    return len(save({name: torch.empty(t.shape, dtype=t.dtype) for name, t in once.values()}))


def _reason(error: Exception) -> str:
    """The first sentence of an error's own words, or its kind where it has none."""
    words = str(error).strip().splitlines()
    return re.split(r"\.\s", words[0])[0].rstrip(".") if words else type(error).__name__


class _LiveBytes(TorchDispatchMode):
    """The most bytes of tensors, weights aside, that are alive at one time inside the block."""

    supports_higher_order_operators = True

    def __init__(self, model: nn.Module, *inputs: Tensor):
        super().__init__()
        self.live = self.peak = 0
        self._known = {storage_of(t) for t in [*model.parameters(), *model.buffers()]} - {None}
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
        address = storage_of(tensor)
        if address is None or address in self._known:  # a view, or written in place
            return
        storage = tensor.untyped_storage()
        self._known.add(address)
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._gone, address, storage.nbytes())

    def _gone(self, address: int, size: int) -> None:
        self._known.discard(address)
        self.live -= size
