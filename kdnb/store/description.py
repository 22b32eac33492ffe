"""What a network is made of, as a key can hold it: code, settings and constants, whoever wrote it.

Two networks with one description compute the same function of their weights and inputs. What comes
from a library, torch's layers for example, is described by its name; all else by the bytecode of
its methods, by what these refer to, and by every attribute. So a description also differs between
versions of Python: a run is then trained again, which costs time and never a wrong number.
"""

import copyreg
import dis
import hashlib
import site
import sys
import sysconfig
import weakref
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)

import torch
from torch import Tensor, nn

from kdnb.fingerprint import replaced
from kdnb.store.store import KEY_LENGTH, tensors_digest

# What a run's provenance says is not in its key: another machine may use it.
UNVERSIONED = {"torch", "torchvision"}
PLAIN = (type(None), bool, int, float, complex, str, bytes)
# What is described by its parts.
PARTS = {
    MethodType: lambda method: (method.__func__, method.__self__),
    property: lambda value: (value.fget, value.fset, value.fdel),
    staticmethod: lambda method: (method.__func__,),
    classmethod: lambda method: (method.__func__,),
    weakref.ReferenceType: lambda reference: (reference(),),
    BuiltinFunctionType: lambda function: (function.__qualname__, function.__self__),
    list: tuple,
}


class UndescribedError(ValueError):
    """Something that decides a result cannot be written down; the message names it."""


def description(*values: object) -> str:
    """Digest of networks, functions, or anything that decides a result.

    Weights do not count (`kdnb.store.weights_digest` has those), but which of them are trained
    does. Raises `UndescribedError` for what Python cannot take apart, such as a compiled module,
    and if functions of kdnb itself were replaced while it runs.

    >>> from functools import partial
    >>> description(partial(max, 1)) == description(partial(max, 1))
    True
    >>> description(partial(max, 1)) == description(partial(max, 2))
    False
    """
    if changed := replaced():
        raise UndescribedError(f"{changed}: restart the kernel")
    return _digest(values, "it")


def precision() -> dict[str, str]:
    """torch's settings that decide how exact results are, wherever they are computed."""
    backends, default = torch.backends, str(torch.get_default_dtype())
    if not hasattr(backends.mkldnn, "matmul"):  # torch before 2.9 has one setting for all products
        products, cudnn = torch.get_float32_matmul_precision(), str(backends.cudnn.allow_tf32)
        return {"default type": default, "products": products, "cudnn": cudnn}
    return {
        "default type": default,
        "cuda products": backends.cuda.matmul.fp32_precision,
        "cudnn": backends.cudnn.conv.fp32_precision,
        "cpu products": backends.mkldnn.matmul.fp32_precision,
    }


def _digest(value: object, where: str) -> str:
    whole = _Description()
    whole.add(value, where)
    return whole.sha.hexdigest()[:KEY_LENGTH]


class _Description:
    """A walk through a value and all that it refers to; each object is entered once."""

    def __init__(self):
        self.sha = hashlib.sha256()
        self._seen: dict[int, int] = {}
        self._alive: list[object] = []  # so that no other object gets an id that was seen
        self._entered: set[tuple[str, str]] = set()  # names in modules of the reader's

    def add(self, value: object, where: str, words: set[str] | None = None) -> None:
        """Describe ``value``, which an error would call ``where``.

        Of a module only what may be meant by one of ``words``, where they are given.
        """
        kind = type(value)
        if kind in PLAIN:
            self._put(kind.__name__, value)
        # Whether equal constants are one object is the compiler's choice.
        elif kind in (tuple, CodeType):
            self._code(value, where) if kind is CodeType else self._items(value, where)
        elif kind in (set, frozenset):  # their order is not the same in every process
            self._put(kind.__name__, *sorted(_digest(each, where) for each in value))
        elif isinstance(value, ModuleType):
            self._module(value, set(vars(value)) if words is None else words, where)
        elif not self._was_seen(value):
            self._once(value, where)

    def _put(self, *tokens: object) -> None:
        self.sha.update(repr(tokens).encode())

    def _was_seen(self, value: object) -> bool:
        number = self._seen.setdefault(id(value), len(self._seen))
        if number < len(self._alive):
            self._put("seen", number)
            return True
        self._alive.append(value)
        return False

    def _items(self, values: Sequence, where: str) -> None:
        self._put("items", len(values))
        for value in values:
            self.add(value, where)

    def _once(self, value: object, where: str) -> None:
        if isinstance(value, type):
            self._class(value)
        elif isinstance(value, FunctionType):
            self._function(value)
        elif isinstance(value, nn.Module):
            self._network(value)
        elif isinstance(value, Tensor):
            self._tensor(value, where)
        elif isinstance(value, Mapping) and _is_library(type(value).__module__):
            self._put(type(value).__name__)
            self._items([part for item in value.items() for part in item], where)
        elif kind := next((kind for kind in PARTS if isinstance(value, kind)), None):
            self._put(kind.__name__)
            self._items(PARTS[kind](value), where)
        else:
            self._object(value, where)

    def _is_named(self, module: str, name: str) -> bool:
        """Describe by its name; returns whether that is enough, since a library defines it."""
        top = module.partition(".")[0]
        version = "" if top in UNVERSIONED else getattr(sys.modules.get(top), "__version__", "")
        self._put(module, name, str(version))
        return _is_library(module)

    def _class(self, kind: type) -> None:
        # A compiled class, such as numpy's generators, may say where it is by a descriptor.
        home = kind.__module__ if isinstance(kind.__module__, str) else "builtins"
        if self._is_named(home, kind.__qualname__):
            return
        self._items((type(kind), *kind.__bases__), kind.__name__)
        for name, member in sorted(vars(kind).items()):
            # Python and its libraries note things about a class, such as its doc or its line.
            noted = name.startswith("__") and not isinstance(member, _OF_CODE)
            if name != "_abc_impl" and not noted and not isinstance(member, _OF_SLOTS):
                self._put(name)
                self.add(member, f"{kind.__name__}.{name}")

    def _function(self, function: FunctionType) -> None:
        name, code = function.__qualname__, function.__code__
        is_named = self._is_named(function.__module__ or "", name)
        self._items((function.__defaults__, function.__kwdefaults__), name)
        for variable, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            value = () if cell == CellType() else (cell.cell_contents,)  # it may have none yet
            self.add(value, f"{name}'s {variable}")
        if is_named and "<" not in name:
            return
        self._code(code, name)
        words, names = _words(code)
        for called in sorted(names & function.__globals__.keys()):
            self._put(called)
            self.add(function.__globals__[called], called, words)

    def _module(self, module: ModuleType, words: set[str], where: str) -> None:
        if self._is_named(module.__name__, ""):
            return
        names = {(module.__name__, name) for name in words & vars(module).keys()} - self._entered
        self._entered |= names
        for _, name in sorted(names):
            if not name.startswith("__"):
                self._put(name)
                self.add(getattr(module, name), f"{where}.{name}", words)

    def _code(self, code: CodeType, where: str) -> None:
        self._put(code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_flags)
        self._put(code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
        self._items(code.co_consts, where)

    def _network(self, network: nn.Module) -> None:
        """All attributes but the mode; of weights, which ones are trained and which are one."""
        kind = type(network)
        self.add(kind, kind.__name__)
        for name, value in vars(network).items():
            if name == "training" or name in getattr(kind, "not_described", ()):
                continue
            self._put(name)
            here = f"{kind.__name__}.{name}"
            if name in ("_parameters", "_buffers"):
                for own, tensor in value.items():
                    self._put(own)
                    if own in network._non_persistent_buffers_set:
                        self.add(tensor, f"{kind.__name__}.{own}")
                    elif tensor is None or not self._was_seen(tensor):
                        self._shape(tensor)
            elif "_hooks" in name and isinstance(value, Mapping):
                self._items(tuple(value.values()), here)  # their names are numbers by chance
            else:
                self.add(value, here)

    def _shape(self, tensor: Tensor | None) -> None:
        if tensor is not None:
            self._put(tuple(tensor.shape), str(tensor.dtype), tensor.requires_grad)

    def _tensor(self, tensor: Tensor, where: str) -> None:
        self._shape(tensor)
        try:
            self._put(tensors_digest({"": tensor}))
        except RuntimeError as error:  # of sparse, meta and quantized ones
            raise UndescribedError(f"{where} is a tensor without plain values") from error

    def _object(self, value: object, where: str) -> None:
        """Anything else, by what pickle would make it from."""
        kind = type(value)
        try:
            reduce = copyreg.dispatch_table.get(kind)
            parts = reduce(value) if reduce else value.__reduce_ex__(4)
        except Exception as error:  # whatever an object that cannot be pickled may raise
            name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
            raise UndescribedError(f"{where} is a {name}, which cannot be taken apart") from error
        self.add(kind, where)
        if isinstance(parts, str):  # the name of something global, such as a cached function
            parts = (parts, getattr(value, "__wrapped__", None))
        self._items([list(p) if hasattr(p, "__next__") else p for p in parts], where)


def _words(code: CodeType) -> tuple[set[str], set[str]]:
    """Every word in some code, and those that name global variables; of inner functions too."""
    codes = list(_nested(code))
    words = {word for each in codes for word in (*each.co_names, *each.co_consts)}
    steps = (step for each in codes for step in dis.get_instructions(each))
    return words, {step.argval for step in steps if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _nested(inner)


@cache
def _is_library(module: str) -> bool:
    """Whether a module is installed, or kdnb's engine, and not a file or notebook of a reader's."""
    top = module.partition(".")[0]
    if top == "kdnb":
        return not module.startswith("kdnb.course")
    if module == "__main__":
        return False
    file = getattr(sys.modules.get(top), "__file__", None)
    if file is None:
        return top in sys.stdlib_module_names
    return any(Path(file).is_relative_to(folder) for folder in _LIBRARIES)


_OF_CODE = (FunctionType, property, staticmethod, classmethod)
_OF_SLOTS = (GetSetDescriptorType, MemberDescriptorType)
_LIBRARIES = {
    *(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    *map(Path, (*site.getsitepackages(), site.getusersitepackages())),
    Path(torch.__file__).parents[1],
}
