"""The machine a run happens on: device, seeds, and what a reader needs to repeat it."""

import platform
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version

import numpy as np
import torch

import kdnb

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "matplotlib", "papermill")


def best_device() -> torch.device:
    """CUDA where there is one, then Apple's MPS, then the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def device_name(device: torch.device) -> str:
    """The device in words, with the number of threads where it is the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return f"Apple MPS ({platform.machine()})"
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' * (threads > 1)} ({platform.machine()})"


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's, numpy's and Python's random numbers, and leave them outside as they were.

    torch takes any 64 bits as a seed, numpy the lower 32 of them.
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    mps_state = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    numpy_state, python_state = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            random.seed(seed)
            yield
    finally:
        if mps_state is not None:
            torch.mps.set_rng_state(mps_state)
        np.random.set_state(numpy_state)
        random.setstate(python_state)


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside the block torch computes with one thread: the same sums in the same order anywhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def onednn_products() -> Iterator[None]:
    """Inside the block oneDNN computes float32 matrix products on the CPU, if it stays float32.

    By default torch gives them to MKL, and to oneDNN only where they may be rounded to bfloat16.
    oneDNN rounds only on CPUs that have units for it. On others it computes in float32, and on
    AMD's with AVX-512 large products are then faster and small ones slower. Where a trial shows
    rounding, nothing is changed.
    """
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        if not _products_are_exact():
            matmul.fp32_precision = before
        yield
    finally:
        matmul.fp32_precision = before


@cache
def _products_are_exact() -> bool:
    """Whether a product with the identity keeps what bfloat16 and TF32 would lose."""
    numbers = torch.full((256, 256), 1 + torch.finfo(torch.float32).eps)
    return torch.equal((numbers @ torch.eye(256)).float(), numbers)


def provenance(device: torch.device) -> dict[str, str]:
    """Where and with what something was computed: versions, device, date (UTC)."""
    return {
        "kdnb": kdnb.__version__,
        "python": platform.python_version(),
        **_versions(),
        "device": device_name(device),
        "system": f"{platform.system()} {platform.machine()}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}
