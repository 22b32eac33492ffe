"""A device that this machine lacks, pretended: real numbers on the CPU that claim to be elsewhere.

torch's own `FakeTensorMode` knows which devices may not mix, but its tensors have no values, so no
training loop runs under it; and without a GPU's libraries its gradients end the process. Here a
tensor of the pretended device holds its numbers on the CPU, and is for torch on the device "meta",
which any build has. `Pretended` refuses what the device would refuse:

- operations on tensors of two devices, but for numbers of the CPU without dimensions (as torch
  does), copies, and indices on the CPU into a tensor of the device,
- float64 where the device is "mps", which has none,
- a generator of the CPU for random numbers of the device, which has a stream of its own,
- waiting for a number of the device, or a copy from the CPU, while a graph is recorded.

`test_devices.py` holds it against `FakeTensorMode`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

META = torch.device("meta")
aten = torch.ops.aten
MOVES = {aten.copy_.default, aten._to_copy.default}
WAITING = {aten._local_scalar_dense.default, aten.equal.default}
INDEXING = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default}
FROM_NUMBERS = {torch.tensor, torch.as_tensor, torch.asarray}


class DeviceMismatchError(RuntimeError):
    """What torch raises where devices mix."""


class Elsewhere(Tensor):
    """A tensor of the pretended device, whose numbers ``held`` has."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor, pretended: "Pretended") -> "Elsewhere":
        new = Tensor._make_wrapper_subclass(
            cls, held.size(), held.stride(), held.storage_offset(), dtype=held.dtype, device=META
        )
        new.held, new.pretended = held, pretended
        return new

    device = property(lambda self: self.pretended.device)
    is_cuda = property(lambda self: self.device.type == "cuda")
    is_cpu = property(lambda self: False)
    is_meta = property(lambda self: False)

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, new: "Elsewhere") -> None:
        Tensor.data.__set__(self, new)
        self.held = new.held

    def tolist(self) -> object:
        self.pretended.wait()
        return self.held.tolist()

    def numpy(self) -> None:
        raise TypeError(f"can't convert {self.device} device type tensor to numpy")

    def new_tensor(self, numbers: object) -> Tensor:
        return torch.tensor(numbers, dtype=self.dtype).to(self.device)

    def __deepcopy__(self, memo: dict) -> "Elsewhere":
        new = Elsewhere(self.held.clone(), self.pretended).requires_grad_(self.requires_grad)
        new._is_param = getattr(self, "_is_param", False)
        memo[id(self)] = new
        return new

    def __repr__(self) -> str:
        return f"Elsewhere({self.held}, device={self.device})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} of a pretended device outside of its block")


class Pretended(TorchDispatchMode):
    """Inside the block there is a device of this kind, "cuda" or "mps"."""

    def __init__(self, kind: str):
        super().__init__()
        self.device = torch.device(kind, 0)
        self.stream = torch.Generator().manual_seed(0).get_state()
        self.recording, self.before, self.sync_debug_mode = None, {}, "default"

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func.overloadpacket is aten.to:  # in inference mode it arrives whole
            with self:
                return func.decompose(*args, **kwargs)
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        ours = [t for t in given if isinstance(t, Elsewhere)]
        self._refuse_mixtures(func, args, given, ours)
        asked = kwargs.get("device")
        here = bool(ours) if asked is None else asked == META
        moved = func in MOVES and (len(given) > len(ours) if here else ours)
        if moved or (ours and func in WAITING):
            self.wait()
        if asked is not None:
            kwargs["device"] = torch.device("cpu")
        held_args, held_kwargs = tree_map_only(Elsewhere, lambda t: t.held, (args, kwargs))
        if here and self.recording is not None:
            for memory in (t.held.untyped_storage() for t in ours):
                self.before.setdefault(memory.data_ptr(), (memory, memory.clone()))
        with self._chance(func, here, kwargs.get("generator")):
            made = func(*held_args, **held_kwargs)
        if here and self.recording is not None:
            self.recording.append((func, held_args, held_kwargs, made))
        if func is aten.copy_.default:
            return args[0]
        if not here:
            return made
        in_place = {id(t.held): t for t in ours}
        wrap = lambda t: in_place[id(t)] if id(t) in in_place else self._there(t)  # noqa: E731
        return tree_map_only(Tensor, wrap, made)

    def _refuse_mixtures(self, func, args, given: list[Tensor], ours: list[Tensor]) -> None:
        if not ours or func in MOVES:
            return
        if func in INDEXING:
            if not isinstance(args[0], Elsewhere):
                raise DeviceMismatchError(f"{func}: indices on {self.device} into a tensor on cpu")
            given = [t for t in tree_leaves((args[0], args[2:])) if isinstance(t, Tensor)]
        if any(t.dim() and not isinstance(t, Elsewhere) for t in given):
            raise DeviceMismatchError(f"{func} found at least two devices, {self.device} and cpu")

    @contextmanager
    def _chance(self, func, here: bool, generator: torch.Generator | None) -> Iterator[None]:
        if not here or torch.Tag.nondeterministic_seeded not in func.tags:
            yield
            return
        if generator is not None:
            raise RuntimeError(f"Expected a '{self.device.type}' generator, got one of the CPU")
        cpu = torch.get_rng_state()
        torch.set_rng_state(self.stream)
        yield
        self.stream = torch.get_rng_state()
        torch.set_rng_state(cpu)

    def wait(self) -> None:
        """The CPU waits for the GPU, for which a recording cannot."""
        if self.sync_debug_mode == "error" or self.recording is not None:
            raise RuntimeError("called a synchronizing CUDA operation")

    @contextmanager
    def record(self, graph: "Recording") -> Iterator[None]:
        """Note all operations of the block. A GPU would run none: here what they did is undone."""
        graph.mode, self.recording, stream = self, graph.operations, self.stream
        yield
        for memory, bytes_before in self.before.values():
            memory.copy_(bytes_before)
        self.before, self.recording, self.stream = {}, None, stream

    def repeat(self, operations: list[tuple]) -> None:
        """Once more, on the same memory."""
        for func, args, kwargs, made in operations:
            with self._chance(func, True, kwargs.get("generator")):
                again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(made), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)

    def _there(self, held: Tensor) -> Elsewhere:
        if self.device.type == "mps" and held.dtype == torch.float64:
            raise TypeError("the MPS framework doesn't support float64, use float32 instead")
        return Elsewhere(held, self)


class Recording:
    """In place of `torch.cuda.CUDAGraph`."""

    def __init__(self):
        self.operations, self.mode = [], None

    def replay(self) -> None:
        self.mode.repeat(self.operations)


class Translated(TorchFunctionMode):
    """What is said of the pretended device reaches torch as if it were said of "meta"."""

    def __init__(self, device: torch.device):
        self.names = (device, torch.device(device.type), str(device), device.type)

    def __torch_function__(self, func: Callable, types, args=(), kwargs=None):
        if func in (torch.device, torch.get_device_module):
            return func(*args, **(kwargs or {}))

        def translate(leaf: object) -> object:
            named = isinstance(leaf, str | torch.device) and leaf in self.names
            return META if named else leaf

        args, kwargs = tree_map(translate, (args, kwargs or {}))
        if func in FROM_NUMBERS and kwargs.get("device") == META:
            return func(*args, **{**kwargs, "device": "cpu"}).to(META)  # on "meta": no numbers
        return func(*args, **kwargs)


@contextmanager
def pretended(kind: str) -> Iterator[torch.device]:
    """Inside the block there is one device of this ``kind``, "cuda" or "mps", and no other."""
    mode = Pretended(kind)

    def set_sync_debug_mode(level: str) -> None:
        mode.sync_debug_mode = level

    def seed(number: int) -> None:
        mode.stream = torch.Generator().manual_seed(number).get_state()

    def set_state(state: Tensor, device: object = None) -> None:
        mode.stream = state.clone()

    with pytest.MonkeyPatch.context() as patch:
        module = getattr(torch, kind)
        patch.setattr(module, "get_rng_state", lambda device=None: mode.stream.clone())
        patch.setattr(module, "set_rng_state", set_state)
        patch.setattr(module, "device_count", lambda: 1)
        patch.setattr(module, "synchronize", lambda device=None: None)
        if kind == "cuda":
            # A build for CUDA would ask its driver whether a graph of operations is recorded.
            patch.setattr(torch.accelerator, "current_accelerator", lambda *_, **__: None)
            patch.setattr(torch.cuda, "manual_seed_all", seed)
            patch.setattr(torch.cuda, "is_available", lambda: True)
            patch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
            patch.setattr(torch.cuda, "get_device_name", lambda device: "pretended")
            patch.setattr(torch.cuda, "mem_get_info", lambda device: (2**34, 2**34))
            patch.setattr(torch.cuda, "set_sync_debug_mode", set_sync_debug_mode)
            patch.setattr(torch.cuda, "CUDAGraph", Recording)
            patch.setattr(torch.cuda, "graph", mode.record)
        else:
            patch.setattr(torch.cuda, "is_available", lambda: False)
            patch.setattr(torch.mps, "manual_seed", seed)
            patch.setattr(torch.backends.mps, "is_available", lambda: True)
        with Translated(mode.device), mode:
            yield mode.device
