"""Casts around low-precision products: bytes of Transformer Engine's quantisation kernels."""

from __future__ import annotations

import pytest

from supertwin.training.casts import Casts, cast_bytes, casts_of, with_casts
from supertwin.workload.operators import Gemm, Operator, Vector


def moved(operators: list[Operator]) -> float:
    return sum(float(o.bytes_read + o.bytes_written) for o in operators if isinstance(o, Vector))


def product(part: str, dtype: str, direction: str = "fwd") -> Gemm:
    return Gemm(part=part, m=1024.0, n=512.0, k=256.0, dtype=dtype, direction=direction)


def test_bytes_of_a_cast_by_scaling_and_layout() -> None:
    delayed, current = casts_of("hopper", "delayed", "eager", 1), casts_of("hopper", "current", "eager", 1)
    assert cast_bytes("fp8-tensorwise", delayed) == (2.0, 2.0)
    assert cast_bytes("fp8-tensorwise", current) == (4.0, 2.0)
    assert cast_bytes("fp8-tensorwise", casts_of("blackwell", "current", "eager", 1)) == (4.0, 1.0)
    assert cast_bytes("mxfp8", current) == pytest.approx((2.0, 2.0 * (1.0 + 1.0 / 32.0)))
    assert cast_bytes("nvfp4", current)[0] == 4.0


def test_mxfp8_cast_on_b200_takes_what_transformer_engine_measures() -> None:
    """8192 x 8192 BF16 to MXFP8 along rows and columns: 52.3 us on B200 (ROCm/TransformerEngine pull request 598)."""
    from supertwin.cost.engine import CostEngine
    from supertwin.machine.chips import load_chip

    (cast, _) = with_casts(Gemm(part="mlp/down", m=8192.0, n=1024.0, k=8192.0, dtype="mxfp8"), Casts())
    seconds = float(CostEngine(load_chip("b200-sxm"), "training").price([cast])[0].time_s)
    assert seconds == pytest.approx(52.3e-6, rel=0.15)


@pytest.mark.parametrize(
    ("part", "dtype", "direction", "casts"),
    [
        ("mlp/up", "bf16", "fwd", Casts()),  # nothing to cast
        ("mlp/down", "mxfp8", "wgrad", Casts()),  # takes the copies of the other two
        ("mlp/up", "mxfp8", "fwd", Casts()),  # part of the norm
        ("mlp/up", "fp8-tensorwise", "fwd", Casts(looks_first=False)),
        ("mlp/down", "fp8-tensorwise", "dgrad", Casts(fused=True)),
    ],
)
def test_products_without_a_cast_of_their_own(part: str, dtype: str, direction: str, casts: Casts) -> None:
    assert moved(with_casts(product(part, dtype, direction), casts)) == 0.0


def test_gathered_operands_are_cast_before_they_are_gathered() -> None:
    alone, shared = (with_casts(product("mlp/down", "mxfp8", "dgrad"), Casts(shared_by=n)) for n in (1, 4))
    assert moved(alone) == pytest.approx(4.0 * moved(shared))
    inner = [with_casts(product("mlp/down", "mxfp8"), Casts(shared_by=n)) for n in (1, 4)]
    assert moved(inner[0]) == moved(inner[1])
