"""What this machine has, what is missing, and what to do about each."""

import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from kdnb.data import LOADERS, DataError
from kdnb.environment import best_device, device_name
from kdnb.files import data_root
from kdnb.models.pretrained import NETWORKS, VARIABLE, WeightsError, local_file
from kdnb.store.store import Store, StoreError

# What need not be there: each is for one task, and the others run without it.
OPTIONAL = ("mnist", "mhist", "ImageNet weights")


@dataclass(frozen=True)
class Finding:
    """One thing looked at: ``ok`` or not, what was found, and the remedy if there is one."""

    name: str
    ok: bool
    found: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Look at Python, packages, device, data and run store; nothing is downloaded or changed."""
    data = [_digits(), _mnist(), _mhist(), _weights()]
    return [_python(), *_packages(), _torchvision(), _device(), *data, _store()]


def report(findings: list[Finding]) -> str:
    """The findings as lines of text."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        sign = "ok     " if finding.ok else "MISSING"
        lines.append(f"{sign} {finding.name:<{width}}  {finding.found}")
        if finding.remedy:
            lines.append(f"{'':8}{'':<{width}}  -> {finding.remedy}")
    return "\n".join(lines)


def _python() -> Finding:
    ok = (3, 11) <= sys.version_info < (3, 14)
    remedy = "" if ok else "install Python 3.11, 3.12 or 3.13, then: make clean && make report"
    return Finding("python", ok, platform.python_version(), remedy)


def _packages() -> list[Finding]:
    findings = []
    for requirement in map(Requirement, requires("kdnb") or []):
        if requirement.marker is not None:  # only for the tests
            continue
        try:
            found = version(requirement.name)
            # A local build, such as 2.13.0+cpu, satisfies ==2.13.0.
            ok = requirement.specifier.contains(found)
        except PackageNotFoundError:
            found, ok = "not installed", False
        remedy = "" if ok else f"pip install '{requirement}', or: make clean && make report"
        findings.append(Finding(requirement.name, ok, found, remedy))
    return findings


def _torchvision() -> Finding:
    from kdnb.torchvision_remedy import import_torchvision, operators_declared

    try:
        import_torchvision()
    except (ImportError, RuntimeError) as error:
        remedy = "pip install torchvision again so that it matches torch"
        return Finding("torchvision import", False, str(error), remedy)
    note = "without its compiled operators, which the course does not need"
    return Finding("torchvision import", True, note if operators_declared() else "complete")


def _device() -> Finding:
    return Finding("device", True, device_name(best_device()))


def _digits() -> Finding:
    return _loads("digits", "pip install scikit-learn again")


def _mnist() -> Finding:
    from kdnb.data.mnist import FILES, missing_files

    raw = data_root() / "MNIST" / "raw"
    missing = missing_files(raw)
    if missing:
        return Finding(
            "mnist",
            False,
            f"{len(missing)} of {len(FILES)} files missing in {raw}",
            "python -m kdnb report --task mnist downloads them; without a network copy the four "
            "IDX files there or set KDNB_DATA (the digits task needs none of this)",
        )
    return _loads("mnist", "")


def _mhist() -> Finding:
    """Only whether its files are there: decoding and checking them takes seconds."""
    folder = data_root() / "mhist"
    missing = [] if (folder / "annotations.csv").is_file() else ["annotations.csv"]
    if not (folder / "images").is_dir() and not (folder / "images.zip").is_file():
        missing.append("images.zip")
    if not missing:
        return Finding("mhist", True, f"its files are in {folder}; they are checked when used")
    return Finding(
        "mhist",
        False,
        f"{' and '.join(missing)} missing in {folder}",
        "data/README.md says how its authors give it and where it goes (the polyps task runs the "
        "same code on generated pictures and needs none of this)",
    )


def _weights() -> Finding:
    name = "ImageNet weights"
    try:
        missing = [network for network in NETWORKS if local_file(network) is None]
    except WeightsError as error:
        return Finding(name, False, str(error), f"correct {VARIABLE}")
    if not missing:
        return Finding(name, True, f"for {', '.join(NETWORKS)}")
    return Finding(
        name,
        False,
        f"not on this machine for {', '.join(missing)}",
        f"the polyps task downloads them; without a network put torchvision's files into a folder "
        f"and set {VARIABLE} to it (until then these networks start from random weights)",
    )


def _loads(name: str, remedy: str) -> Finding:
    load: Callable = LOADERS[name]
    try:
        data = load()
    except (DataError, ImportError) as error:
        return Finding(name, False, str(error), remedy)
    counts = f"{len(data.train):,} + {len(data.val):,} + {len(data.test):,} images"
    return Finding(name, True, f"{counts}, fingerprint {data.fingerprint[:16]}")


def _store() -> Finding:
    store = Store()
    try:
        store.require_writable()
    except StoreError as error:
        return Finding("run store", False, str(error), "set KDNB_RUNS to a folder you can write")
    finished = len(store.names("run-"))
    return Finding("run store", True, f"{store.root}: {finished} finished runs")
