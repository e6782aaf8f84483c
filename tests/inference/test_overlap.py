"""Two micro-batches: kernels on a part of the cores against kernels measured on half of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supertwin.cost.result import OperatorCost
from supertwin.inference.overlap import KERNEL_START_S, on_cores, two_batches, two_streams
from supertwin.workload.operators import Gemm


def cost(compute: float, memory: float, overhead: float) -> OperatorCost:
    """An operator whose parts add up as the cost engine's do: the longer of both, after the fixed time."""
    product = Gemm(part="x", m=1.0, n=1.0, k=1.0)
    return OperatorCost(product, overhead + max(compute, memory), compute, memory, overhead, 0.0, 0.0)


def test_half_of_the_cores_as_in_longcat() -> None:
    # cann-recipes-infer, LongCat-Flash: us on 12 + 24 cores beside another stream over those on all 24 + 48
    attention = cost(5e-6, 8e-6, 83.8e-6)  # of 91.8 us, fixed time in the main
    assert on_cores(attention, 0.5) / attention.time_s == pytest.approx(118 / 91.8, rel=0.06)
    batched = cost(7.5e-6, 3e-6, KERNEL_START_S)
    assert on_cores(batched, 0.5) / batched.time_s == pytest.approx(19.6 / 12.5, rel=0.06)
    for half, whole in ((18.0, 14.2), (18.7, 14.6), (20.1, 16.3)):
        streams = cost(1e-6, (whole - 5.0) * 1e-6, KERNEL_START_S)
        assert on_cores(streams, 0.5, 0.28) * 1e6 == pytest.approx(half, rel=0.08)


@given(st.floats(0, 1e-3), st.floats(0, 1e-3), st.floats(2e-6, 1e-4), st.floats(0, 0.5))
def test_fewer_cores_never_help(compute: float, memory: float, overhead: float, drawn: float) -> None:
    operator = cost(compute, memory, overhead)
    times = [float(on_cores(operator, share, drawn)) for share in (1.0, 2 / 3, 1 / 2, 1 / 3)]
    assert times == sorted(times)
    assert times[0] >= operator.time_s * (1.0 - 1e-9)


@given(st.floats(1e-6, 1e-3), st.floats(1e-6, 1e-3), st.floats(1e-6, 1e-3), st.floats(1e-6, 1e-3))
def test_alternating_stages_hide_at_most_all_exchanges(a: float, e: float, d: float, c: float) -> None:
    layer = two_batches((a, e), (d, c), 0.0)
    assert 2 * max(a + e, d + c) * (1 - 1e-9) <= layer <= 2 * (a + e + d + c) * (1 + 1e-9)
    assert two_streams(a, e, 0.0) == pytest.approx(2 * max(a, e))
