"""kdnb's own source as this process imported it, for which the keys of stored runs stand."""

import hashlib
import inspect
import sys
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType

PACKAGE = Path(__file__).parent
# The course shows what the engine computes; these only call it, or say who shall.
BESIDE_THE_ENGINE = (
    "course/",
    "__main__.py",
    "doctor.py",
    "experiment/sweep.py",
    "experiment/distributed.py",
    "maintenance.py",
)


def _digests() -> dict[str, str]:
    """SHA-256 of every file's text; the ends of lines, which git may change, do not count."""
    return {path.relative_to(PACKAGE).as_posix(): _digest(path) for path in PACKAGE.rglob("*.py")}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_text(encoding="utf-8").encode()).hexdigest()


# Read when kdnb is imported, before any other module of it: a file may change while a kernel lives.
IMPORTED = _digests()
_SEEN: dict[str, dict[str, CodeType]] = {}


@cache
def code_fingerprint(*more: str) -> str:
    """Digest of the engine's source, and of ``more`` files of kdnb, as they were imported.

    Any change of the text counts, a comment too: what decides a result is not left to judgement.
    """
    files = [name for name in IMPORTED if not name.startswith(BESIDE_THE_ENGINE)]
    total = hashlib.sha256()
    for name in sorted({*files, *more}):
        total.update(f"{name} {IMPORTED[name]}\n".encode())
    return total.hexdigest()[:12]


def replaced() -> str:
    """What of the running engine is not what `code_fingerprint` stands for; empty if all is.

    Functions and methods may be replaced in a living kernel: by assignment, by reloading a module
    that was edited, or by a module that is edited before it is imported.
    """
    for name, module in list(sys.modules.items()):
        file = _file(name, module)
        if file not in IMPORTED or file.startswith(BESIDE_THE_ENGINE):
            continue
        functions = _functions(module)
        if name not in _SEEN:
            if _digest(PACKAGE / file) != IMPORTED[file]:
                return f"kdnb/{file}, which was edited after kdnb was imported"
            _SEEN[name] = functions
        before = _SEEN[name]
        for function in before.keys() | functions.keys():
            if before.get(function) != functions.get(function):
                return f"{name}.{function}, which was replaced after it was imported"
    return ""


def _file(name: str, module: ModuleType) -> str:
    """The file of one of kdnb's modules, as `IMPORTED` names it; empty for other modules."""
    if name.partition(".")[0] != __package__ or not getattr(module, "__file__", None):
        return ""
    return Path(module.__file__).relative_to(PACKAGE).as_posix()


def _functions(module: ModuleType) -> dict[str, CodeType]:
    """The code of all functions and methods that are defined in a module, by name."""
    found = {}
    for name, value in vars(module).items():
        if getattr(value, "__module__", None) != module.__name__:
            continue
        members = vars(value).items() if inspect.isclass(value) else [("", value)]
        for member, function in members:
            function = getattr(function, "fget", None) or getattr(function, "__func__", function)
            code = getattr(inspect.unwrap(function), "__code__", None)
            if isinstance(code, CodeType):
                found[f"{name}.{member}".rstrip(".")] = code
    return found
