"""Which device is taken, and what a run says of its origin."""

import pytest
import torch

from kdnb.environment import best_device, provenance, seeded


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_cuda_then_mps_then_cpu(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert best_device().type == expected


def test_seeded_numbers_repeat_and_leave_no_trace():
    torch.manual_seed(5)
    outside = torch.rand(2)
    torch.manual_seed(5)
    with seeded(1):
        first = torch.rand(2)
    with seeded(1):
        assert torch.equal(torch.rand(2), first)
    assert torch.equal(torch.rand(2), outside)


def test_provenance_names_versions_and_device():
    origin = provenance(torch.device("cpu"))
    assert origin["torch"] == torch.__version__
    assert f"{torch.get_num_threads()} threads" in origin["device"]
    assert origin["date"].endswith("+00:00")
