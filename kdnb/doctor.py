"""Checks of this machine, with a remedy for each missing part."""

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

# Optional parts: each belongs to one task, and the others run without it.
OPTIONAL = ("mnist", "mhist", "ImageNet weights")


@dataclass(frozen=True)
class Finding:
    """The result of one check: ``ok`` or not, what was found, and a remedy if there is one."""

    name: str
    ok: bool
    found: str
    remedy: str = ""


def examine(*names: str) -> list[Finding]:
    """Check Python, packages, device, data and run store, or only the parts in ``names``.

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
    """The result of ``check``, or its error as a missing part."""
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
    return "without compiled operators (not needed)" if operators_declared() else "complete"


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
    """Only whether the files exist: decoding and checking them takes seconds."""
    folder = data_root() / "mhist"
    missing = [] if (folder / "annotations.csv").is_file() else ["annotations.csv"]
    if not (folder / "images").is_dir() and not (folder / "images.zip").is_file():
        missing.append("images.zip")
    if missing:
        raise FileNotFoundError(f"{' and '.join(missing)} missing in {folder}")
    return f"files found in {folder}; they are checked when used"


def _weights() -> str:
    if missing := [network for network in NETWORKS if local_file(network) is None]:
        raise FileNotFoundError(f"not on this machine for {', '.join(missing)}")
    return f"for {', '.join(NETWORKS)}"


def _store() -> str:
    store = Store()
    store.require_writable()
    return f"{store.root}: {len(store.names('run-'))} finished runs"


# Each check, and the remedy where a part is missing.
CHECKS = {
    "torchvision import": (_torchvision, "install torchvision again so that it matches torch"),
    "device": (lambda: device_name(best_device()), ""),
    "mnist-small": (
        lambda: _loaded("mnist-small"),
        "install kdnb again: its embedded images are damaged",
    ),
    "mnist": (
        _mnist,
        "python -m kdnb report --task mnist downloads the four IDX files; without a network, copy "
        "them to this folder or set KDNB_DATA (mnist-small needs no download)",
    ),
    "mhist": (
        _mhist,
        "data/README.md explains how to get MHIST from its authors and where to put it (the polyps "
        "task runs the same code on generated images and needs no download)",
    ),
    "ImageNet weights": (
        _weights,
        f"the polyps task downloads them; without a network, set {VARIABLE} to a folder with "
        "torchvision's files (until then polyps has narrow networks, mhist random weights)",
    ),
    "run store": (_store, "set KDNB_RUNS to a writable folder"),
}
