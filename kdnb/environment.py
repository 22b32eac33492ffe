"""The machine a run happens on: device, seeds, and what a reader needs to repeat it."""

import platform
import random
import sys
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
def onednn_products(parameters: int = sys.maxsize) -> Iterator[None]:
    """Inside the block oneDNN computes a large model's float32 matrix products on the CPU.

    On an AMD EPYC it takes 0.78 to 0.87 of MKL's time, torch's default, for products of 784×784 and
    more; for the 64-64 student it takes 1.24 of it, since it starts each product 10 µs later. torch
    leaves them to oneDNN where they may be rounded to bfloat16. Where a trial shows that it rounds,
    nothing is changed.
    """
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    if matmul is None:  # torch before 2.9 has no such setting
        yield
        return
    before = matmul.fp32_precision
    try:
        if parameters > 200_000:
            matmul.fp32_precision = "bf16"
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
