"""kdnb's own source as this process imported it, a part of the keys of stored runs."""

import hashlib
import inspect
import sys
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType

PACKAGE = Path(__file__).parent
# The course shows the engine's results, and the other files only call the engine.
BESIDE_THE_ENGINE = (
    "course/",
    "__main__.py",
    "doctor.py",
    "experiment/sweep.py",
    "experiment/distributed.py",
    "maintenance.py",
)


def _digests() -> dict[str, str]:
    """SHA-256 of every file's text without line endings, which git may change."""
    return {path.relative_to(PACKAGE).as_posix(): _digest(path) for path in PACKAGE.rglob("*.py")}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_text(encoding="utf-8").encode()).hexdigest()


# Read when kdnb is imported, before any other module of it: a file may change while a kernel lives.
IMPORTED = _digests()
_SEEN: dict[str, dict[str, CodeType | None]] = {}


@cache
def code_fingerprint(*more: str) -> str:
    """Digest of the engine's source, and of ``more`` files of kdnb, as they were imported.

    Any change of the text counts, even of a comment, so that no judgement is needed.
    """
    files = {name for name in IMPORTED if not name.startswith(BESIDE_THE_ENGINE)}
    total = "".join(f"{name} {IMPORTED[name]}\n" for name in sorted({*files, *more}))
    return hashlib.sha256(total.encode()).hexdigest()[:12]


def replaced() -> str:
    """The part of the running engine that `code_fingerprint` does not describe; empty if none.

    Functions and methods may be replaced in a running kernel: by assignment, by reloading an
    edited module, or by editing a module before it is imported.
    """
    for file, imported in IMPORTED.items():
        name = f"kdnb/{file}".removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        if name not in sys.modules or file.startswith(BESIDE_THE_ENGINE):
            continue
        functions = _functions(sys.modules[name])
        if name not in _SEEN and _digest(PACKAGE / file) != imported:
            return f"kdnb/{file}, which was edited after kdnb was imported"
        before = _SEEN.setdefault(name, functions)
        for function in before.keys() | functions.keys():
            if before.get(function) != functions.get(function):
                return f"{name}.{function}, which was replaced after it was imported"
    return ""


def _functions(module: ModuleType) -> dict[str, CodeType | None]:
    """The code of all functions and methods that are defined in a module, by name."""
    home = module.__name__
    found = {n: v for n, v in vars(module).items() if getattr(v, "__module__", None) == home}
    for name, kind in list(found.items()):
        if inspect.isclass(kind):
            found |= {f"{name}.{member}": value for member, value in vars(kind).items()}
    for name, function in found.items():
        function = getattr(function, "fget", None) or getattr(function, "__func__", function)
        found[name] = getattr(inspect.unwrap(function), "__code__", None)
    return found
