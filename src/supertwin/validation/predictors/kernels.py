"""Rows of kernels.csv: time of one operator."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from supertwin.validation.outcome import Compared, Skip
from supertwin.validation.predictors.common import NoPrediction, attempt, figure
from supertwin.validation.tables import Row
from supertwin.workload.operators import Attention, ExpertMlp, Gemm, Operator, Vector

if TYPE_CHECKING:
    from supertwin.cost.engine import CostEngine

_DTYPES = {"fp8": "fp8-tensorwise"}
_GEMM_DIRECTIONS = {"": "fwd", "fwd": "fwd", "bwd-dgrad": "dgrad", "bwd-wgrad": "wgrad"}
_BACKWARD_FLOP = 2.5  # flash attention: five products backward, two forward


def compare(rows: Sequence[Row]) -> list[Compared | Skip]:
    """kernel_time_s of each row."""
    return [attempt(row, _compare) for row in rows]


def _compare(row: Row) -> Compared:
    measured_s = time_of(row)
    engine = _engine(row.text("chip"))
    costs = engine.price(operators_of(row))
    predicted = float(sum(np.sum(cost.time_s * np.asarray(cost.operator.count)) for cost in costs))
    spread = max(engine.spread(cost) for cost in costs)
    return Compared((figure("kernel_time_s", measured_s, predicted, (math.exp(-spread), math.exp(spread))),))


def time_of(row: Row) -> float:
    """Measured time in seconds; from the printed rate and its FLOP count where no time is printed."""
    micros = row.number("measured_us")
    if micros:
        return micros * 1e-6
    tflops = row.number("measured_tflops")
    if not tflops:
        raise NoPrediction("states neither a time nor TFLOP/s")
    return _counted_flop(row) / (tflops * 1e12)


def operators_of(row: Row) -> list[Operator]:
    """The operators that one kernel row means. Raises NoPrediction where its shape is not stated."""
    kernel = row.text("kernel")
    if kernel not in _BUILDERS:
        raise NoPrediction(f"kernel {kernel} has no shape to price")
    return _BUILDERS[kernel](row)


def _gemm(row: Row) -> list[Operator]:
    direction = row.text("direction")
    if direction not in _GEMM_DIRECTIONS:
        raise NoPrediction(f"direction {direction} of a GEMM is not one product")
    dtype = _dtype(row)
    groups = (row.integer("groups") or 1) * (row.integer("batch") or 1)
    m, n, k = _sizes(row, "m", "n", "k")
    return [
        Gemm(
            part="gemm", m=m, n=n, k=k, groups=groups, dtype=dtype, direction=_GEMM_DIRECTIONS[direction],
            out_dtype="fp32" if direction == "bwd-wgrad" and "SimuMax" in row.text("source") else "bf16",
        )
    ]  # fmt: skip


def _attention(row: Row) -> list[Operator]:
    kernel, direction = row.text("kernel"), row.text("direction", "fwd")
    batch, heads, head_dim, seq_kv = _sizes(row, "batch", "heads", "head_dim", "seq_kv")
    decode = kernel in ("attention_decode", "mla_decode")
    seq_q = row.integer("seq_q") or (1 if decode else seq_kv)
    latent = kernel in ("mla_decode", "sparse_mla_prefill")

    def call(way: str) -> Operator:
        return Attention(
            part="attention",
            batch=batch,
            q_len=seq_q,
            kv_len=seq_kv,
            heads=heads,
            kv_heads=1 if latent else row.integer("kv_heads") or heads,
            qk_head_dim=head_dim,
            v_head_dim=row.integer("v_head_dim") or head_dim,
            causal=bool(row.integer("causal")) and not decode,
            phase="decode" if decode else "prefill",
            dtype=_dtype(row),
            kv_dtype=_dtype(row),
            latent=latent,
            gathered=kernel == "sparse_mla_prefill",
            direction=way,
        )

    return [call(way) for way in direction.split("+")]


def _moe(row: Row) -> list[Operator]:
    rows, hidden, inter, experts = _sizes(row, "m", "k", "n", "groups")
    return [ExpertMlp(part="moe", rows=rows, experts=experts, hidden=hidden, inter=inter, dtype=_dtype(row))]


def _weight_stream(row: Row) -> list[Operator]:
    m, n, k = _sizes(row, "m", "n", "k")
    return [Gemm(part="gemm", m=m, n=n, k=k, dtype=_dtype(row))]


def _norm(row: Row) -> list[Operator]:
    m, n = _sizes(row, "m", "n")
    size = 2.0 * m * n
    return [Vector(part="norm", op="norm", bytes_read=size, bytes_written=size, flop=4.0 * m * n)]


_BUILDERS: dict[str, Callable[[Row], list[Operator]]] = {
    "gemm": _gemm,
    "grouped_gemm": _gemm,
    "gemm_weight_stream": _weight_stream,
    "attention": _attention,
    "attention_decode": _attention,
    "mla_decode": _attention,
    "sparse_mla_prefill": _attention,
    "moe_mlp": _moe,
    "rmsnorm": _norm,
    "moe_permute": _norm,
}


def _sizes(row: Row, *names: str) -> list[int]:
    missing = [name for name in names if row.integer(name) is None]
    if missing:
        raise NoPrediction(f"does not state {', '.join(missing)}")
    return [row.integer(name) or 0 for name in names]


def _dtype(row: Row) -> str:
    dtype = row.text("dtype", "bf16")
    return _DTYPES.get(dtype, dtype)


def _counted_flop(row: Row) -> float:
    """FLOP behind a printed rate, by the row's flop_count."""
    if row.text("kernel") in ("gemm", "grouped_gemm"):
        m, n, k = _sizes(row, "m", "n", "k")
        return 2.0 * m * n * k * (row.integer("groups") or 1) * (row.integer("batch") or 1)
    batch, heads, head_dim, seq_kv = _sizes(row, "batch", "heads", "head_dim", "seq_kv")
    v_head_dim = row.integer("v_head_dim") or head_dim
    seq_q = row.integer("seq_q") or seq_kv
    flop = 2.0 * batch * heads * seq_q * seq_kv * (head_dim + v_head_dim)
    if row.text("flop_count") == "causal-halved" and row.integer("causal"):
        flop /= 2.0
    passes = {"fwd": 1.0, "bwd": _BACKWARD_FLOP, "fwd+bwd": 1.0 + _BACKWARD_FLOP}
    return flop * passes.get(row.text("direction", "fwd"), 1.0)


@cache
def _engine(chip: str) -> CostEngine:
    from supertwin.cost.engine import CostEngine
    from supertwin.machine import load_chip

    return CostEngine(load_chip(chip))
