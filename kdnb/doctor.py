"""What this machine has, what is missing, and what to do about each."""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import metadata, requires, version

from packaging.requirements import Requirement

from kdnb.data import LOADERS
from kdnb.data.mnist import FILES, missing_files
from kdnb.environment import best_device, device_name
from kdnb.files import data_root
from kdnb.models.pretrained import NETWORKS, VARIABLE, local_file
from kdnb.store.store import Store
from kdnb.torchvision_remedy import import_torchvision, operators_declared

# What need not be there: each is for one task, and the others run without it.
OPTIONAL = ("mnist", "mhist", "ImageNet weights")


@dataclass(frozen=True)
class Finding:
    """One thing looked at: ``ok`` or not, what was found, and the remedy if there is one."""

    name: str
    ok: bool
    found: str
    remedy: str = ""


def examine(*names: str) -> list[Finding]:
    """Look at Python, packages, device, data and run store, or only at those of these ``names``.

    Nothing is downloaded or changed.
    """
    needed = [f"python{metadata('kdnb')['Requires-Python']}", *(requires("kdnb") or [])]
    packages = {
        each.name: (partial(_version, each), f"install {each}")
        for each in map(Requirement, needed)
        if each.marker is None  # the others are only for the tests
    }
    checks = (packages | CHECKS).items()
    return [_finding(name, *check) for name, check in checks if not names or name in names]


def report(findings: list[Finding]) -> str:
    """The findings as lines of text."""
    width, lines = max(len(finding.name) for finding in findings), []
    for finding in findings:
        sign = "ok" if finding.ok else "MISSING"
        lines.append(f"{sign:7} {finding.name:{width}}  {finding.found}")
        if finding.remedy:
            lines.append(f"{'':7} {'':{width}}  -> {finding.remedy}")
    return "\n".join(lines)


def _finding(name: str, check: Callable[[], str], remedy: str) -> Finding:
    """What ``check`` returns, or raises where something is missing."""
    try:
        return Finding(name, True, check())
    except (ImportError, RuntimeError, ValueError, OSError) as error:
        return Finding(name, False, str(error), remedy)


def _version(needed: Requirement) -> str:
    found = platform.python_version() if needed.name == "python" else version(needed.name)
    if not needed.specifier.contains(found):  # 2.13.0+cpu, a local build, satisfies ==2.13.0
        raise ValueError(found)
    return found


def _torchvision() -> str:
    import_torchvision()
    return "without compiled operators: none is needed" if operators_declared() else "complete"


def _loaded(name: str) -> str:
    data = LOADERS[name]()
    counts = f"{len(data.train):,} + {len(data.val):,} + {len(data.test):,} images"
    return f"{counts}, fingerprint {data.fingerprint[:16]}"


def _mnist() -> str:
    raw = data_root() / "MNIST" / "raw"
    if missing := missing_files(raw):
        raise FileNotFoundError(f"{len(missing)} of {len(FILES)} files missing in {raw}")
    return _loaded("mnist")


def _mhist() -> str:
    """Only whether its files are there: decoding and checking them takes seconds."""
    folder = data_root() / "mhist"
    missing = [] if (folder / "annotations.csv").is_file() else ["annotations.csv"]
    if not (folder / "images").is_dir() and not (folder / "images.zip").is_file():
        missing.append("images.zip")
    if missing:
        raise FileNotFoundError(f"{' and '.join(missing)} missing in {folder}")
    return f"its files are in {folder}; they are checked when used"


def _weights() -> str:
    if missing := [network for network in NETWORKS if local_file(network) is None]:
        raise FileNotFoundError(f"not on this machine for {', '.join(missing)}")
    return f"for {', '.join(NETWORKS)}"


def _store() -> str:
    store = Store()
    store.require_writable()
    return f"{store.root}: {len(store.names('run-'))} finished runs"


# What is looked at, and what to do where it is missing.
CHECKS = {
    "torchvision import": (_torchvision, "install torchvision again so that it matches torch"),
    "device": (lambda: device_name(best_device()), ""),
    "mnist-small": (
        lambda: _loaded("mnist-small"),
        "install kdnb again: its own images are damaged",
    ),
    "mnist": (
        _mnist,
        "python -m kdnb report --task mnist downloads its four IDX files; without a network copy "
        "them there or set KDNB_DATA (the task mnist-small needs none of this)",
    ),
    "mhist": (
        _mhist,
        "data/README.md says how its authors give it and where it goes (the polyps task runs the "
        "same code on generated pictures and needs none of this)",
    ),
    "ImageNet weights": (
        _weights,
        f"the polyps task downloads them; without a network put torchvision's files into a folder "
        f"and set {VARIABLE} to it (until then polyps has narrow networks, mhist random weights)",
    ),
    "run store": (_store, "set KDNB_RUNS to a folder you can write"),
}
