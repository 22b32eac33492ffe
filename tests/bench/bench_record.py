"""Where the benchmarks keep what they measured: report/reference/bench.json, part by part."""

import json
import platform
import resource
from pathlib import Path

import torch

from kdnb.environment import provenance
from kdnb.files import PROJECT

KEPT = PROJECT / "report" / "reference" / "bench.json"


def write(part: str, results: dict, device: torch.device) -> None:
    """Replace one part of the record, with the machine it comes from."""
    record = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    machine = {**provenance(device), "processor": _processor()}
    record[part] = {"provenance": machine, **_rounded(results)}
    KEPT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"kept in {KEPT.relative_to(PROJECT)}")


def peak_memory_mb(device: torch.device) -> float:
    """The most memory that this process has held, on the GPU if it works there."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the process was forked from
        line = next(line for line in status.read_text().splitlines() if "VmHWM" in line)
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(": ")[1] for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor()


def _rounded(value: object) -> object:
    """Four significant digits: more would claim what a noisy machine cannot give."""
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
