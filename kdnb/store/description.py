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
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import (
    BuiltinFunctionType,
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
    backends = torch.backends
    return {
        "default type": str(torch.get_default_dtype()),
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
        self._entered: dict[str, set[str]] = {}  # names in modules of the reader's

    def add(self, value: object, where: str) -> None:
        """Describe ``value``, which an error would call ``where``."""
        kind = type(value)
        if value is None or kind in (bool, int, float, complex, str, bytes):
            self._put(kind.__name__, value)
        # Whether equal constants are one object is the compiler's choice.
        elif kind in (tuple, CodeType):
            self._code(value, where) if kind is CodeType else self._items(value, where)
        elif kind in (set, frozenset):
            # Their order is not the same in every process.
            self._put(kind.__name__, *sorted(_digest(each, where) for each in value))
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

    def _once(self, value: object, where: str) -> None:
        if isinstance(value, type):
            self._class(value)
        elif isinstance(value, FunctionType):
            self._function(value)
        elif isinstance(value, MethodType):
            self._items((value.__func__, value.__self__), where)
        elif isinstance(value, BuiltinFunctionType):
            self._put("builtin", value.__module__, value.__qualname__)
            if not isinstance(value.__self__, ModuleType):
                self.add(value.__self__, where)
        elif isinstance(value, property):
            self._items((value.fget, value.fset, value.fdel), where)
        elif isinstance(value, staticmethod | classmethod):
            self._items((type(value), value.__func__), where)
        elif isinstance(value, ModuleType):
            self._library(value.__name__, "")
            if not _is_library(value.__name__):
                self._attributes(value, set(vars(value)), where)
        elif isinstance(value, nn.Module):
            self._network(value, where)
        elif isinstance(value, weakref.ReferenceType):
            self.add(value(), where)
        elif isinstance(value, Tensor):
            self._tensor(value, where)
        elif isinstance(value, list):
            self._items(value, where)
        elif isinstance(value, Mapping) and _is_library(type(value).__module__):
            self._put(type(value).__name__)
            self._items([part for item in value.items() for part in item], where)
        else:
            self._object(value, where)

    def _items(self, values: tuple | list, where: str) -> None:
        self._put(type(values).__name__, len(values))
        for value in values:
            self.add(value, where)

    def _library(self, module: str, name: str) -> None:
        top = module.partition(".")[0]
        version = getattr(sys.modules.get(top), "__version__", "")
        self._put(module, name, "" if top in UNVERSIONED else str(version))

    def _class(self, kind: type) -> None:
        # A compiled class, such as numpy's generators, may say where it is by a descriptor.
        home = kind.__module__ if isinstance(kind.__module__, str) else "builtins"
        self._library(home, kind.__qualname__)
        if _is_library(home):
            return
        self._items((type(kind), *kind.__bases__), kind.__name__)
        for name, member in sorted(vars(kind).items()):
            # Python and its libraries note things about a class, such as its doc or its line.
            noted = name.startswith("__") and not isinstance(member, _OF_CODE)
            if name == "_abc_impl" or noted or isinstance(member, _OF_SLOTS):
                continue
            self._put(name)
            self.add(member, f"{kind.__name__}.{name}")

    def _function(self, function: FunctionType) -> None:
        name = function.__qualname__
        self._library(function.__module__ or "", name)
        self._items((function.__defaults__, function.__kwdefaults__), name)
        for cell, variable in zip(
            function.__closure__ or (), function.__code__.co_freevars, strict=True
        ):
            try:
                self.add(cell.cell_contents, f"{name}'s {variable}")
            except ValueError:  # a variable that has no value yet
                self._put("empty")
        if _is_library(function.__module__ or "") and "<" not in name:
            return
        self._code(function.__code__, name)
        words, names = _names(function.__code__)
        for called in sorted(names):
            self._put(called)
            if called not in function.__globals__:
                continue  # a builtin, or nothing
            value = function.__globals__[called]
            if isinstance(value, ModuleType):
                self._attributes(value, words, called)
            else:
                self.add(value, called)

    def _attributes(self, module: ModuleType, words: set[str], where: str) -> None:
        """Those of a module's attributes that may be meant by one of these ``words``."""
        self._library(module.__name__, "")
        if _is_library(module.__name__):
            return
        entered = self._entered.setdefault(module.__name__, set())
        for name in sorted(words & vars(module).keys() - entered):
            entered.add(name)
            if name.startswith("__"):
                continue
            self._put(name)
            value = getattr(module, name)
            if isinstance(value, ModuleType):
                self._attributes(value, words, f"{where}.{name}")
            else:
                self.add(value, f"{where}.{name}")

    def _code(self, code: CodeType, where: str) -> None:
        self._put(code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_flags)
        self._put(code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
        self._items(code.co_consts, where)

    def _network(self, network: nn.Module, where: str) -> None:
        """All attributes but the mode; of weights, which ones are trained and which are one."""
        self.add(type(network), where)
        told = getattr(type(network), "only_told", ())
        for name, value in vars(network).items():
            if name == "training" or name in told:
                continue
            self._put(name)
            here = f"{type(network).__name__}.{name}"
            if name == "_parameters" or name == "_buffers":
                for own, tensor in value.items():
                    self._put(own)
                    if own in network._non_persistent_buffers_set:
                        self.add(tensor, f"{type(network).__name__}.{own}")
                    elif tensor is None or not self._was_seen(tensor):
                        self._shape(tensor)
            elif "_hooks" in name and isinstance(value, Mapping):
                self._items(list(value.values()), here)  # their names are numbers by chance
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
            self._put(parts)
            self.add(getattr(value, "__wrapped__", None), where)
            return
        for part in parts:
            self.add(list(part) if hasattr(part, "__next__") else part, where)


def _names(code: CodeType) -> tuple[set[str], set[str]]:
    """Every word in some code, and those that name global variables; of inner functions too."""
    words = {*code.co_names, *(each for each in code.co_consts if isinstance(each, str))}
    names = {
        step.argval
        for step in dis.get_instructions(code)
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            more_words, more_names = _names(inner)
            words, names = words | more_words, names | more_names
    return words, names


@cache
def _is_library(module: str) -> bool:
    """Whether a module is installed, or kdnb's engine, and not a file or notebook of a reader's."""
    top = module.partition(".")[0]
    if top == __package__:
        return not module.startswith(f"{top}.course")
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
