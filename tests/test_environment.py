"""Which device is taken, and what a run says of its origin."""

import pytest
import torch

from kdnb import environment
from kdnb.environment import best_device, onednn_products, provenance, seeded

MATMUL = torch.backends.mkldnn.matmul


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
    assert torch.__version__.split("+")[0] == origin["torch"].split("+")[0]  # 2.13.0+cu130
    assert f"{torch.get_num_threads()} thread" in origin["device"]
    assert origin["date"].endswith("+00:00")


def test_products_by_onednn_stay_float32():
    a, b = torch.randn(2, 300, 300, generator=torch.Generator().manual_seed(0))
    with onednn_products():
        product = a @ b
    error = (product - a.double() @ b.double()).abs()
    # Sums of n products in float32, in any order (Higham 2002, section 3.1); bfloat16's are beyond.
    bound = 300 * 2**-24 / (1 - 300 * 2**-24) * (a.abs().double() @ b.abs().double())
    assert (error <= bound).all()
    rounded = a.bfloat16().double() @ b.bfloat16().double() - a.double() @ b.double()
    assert (rounded.abs() > bound).any()


@pytest.mark.parametrize("exact", [True, False])
def test_torch_is_left_alone_where_products_round(monkeypatch, exact):
    monkeypatch.setattr(environment, "_products_are_exact", lambda: exact)
    before = MATMUL.fp32_precision
    with onednn_products():
        assert MATMUL.fp32_precision == ("bf16" if exact else before)


def test_the_trial_sees_rounding():
    trial = environment._products_are_exact.__wrapped__
    assert trial()
    with torch.autocast("cpu", torch.bfloat16):
        assert not trial()


def test_the_way_of_products_is_as_before_whatever_happens_inside():
    before = MATMUL.fp32_precision
    with pytest.raises(KeyError), onednn_products():
        raise KeyError
    assert MATMUL.fp32_precision == before
