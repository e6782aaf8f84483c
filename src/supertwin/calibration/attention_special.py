"""Kernels with few rows: sparse attention and indexer scores (H800), Ascend. Few constants, no residual surface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from supertwin.calibration import ascend_attention
from supertwin.calibration.attention_rows import ASYMPTOTIC
from supertwin.calibration.common import require_polars, require_scipy
from supertwin.cost.attention import shape_of, variant_of
from supertwin.cost.attention_kernels import Variant, attention_times, prior_of
from supertwin.cost.geometry import Array
from supertwin.machine.chip import Chip
from supertwin.machine.chips import load_chip
from supertwin.workload.operators import Attention

SPECIAL_CHIP = "h800-sxm"
_BOUNDS = {"start_s": (1e-6, 5e-5), "tile_s": (1e-8, 2e-5), "rate": (0.1, 1.2), "memory": (0.2, 3.0)}
_PRIOR_WEIGHT = 0.1


@dataclass(frozen=True, slots=True)
class Timed:
    """One operator and its measured time."""

    operator: Attention
    measured_s: float


def special_rows(operators: Path) -> list[Timed]:
    """Sparse attention (absorbed MLA, picked keys) and indexer scores of attention_sparse_linear.csv.gz.

    Indexer rows read one FP8 key of 128 per position. The sparse kernel computes all `topk` slots, also of a context
    that is shorter. Empty without that table.
    """
    path = operators / "attention_sparse_linear.csv.gz"
    if not path.is_file():
        return []
    polars = require_polars()
    table = polars.read_csv(path, infer_schema_length=None)
    table = table.filter(polars.col("chip") == SPECIAL_CHIP)
    return [_timed(row) for row in table.to_dicts() if row["op"] in ("dsa-attention", "dsa-indexer-logits")]


def _timed(row: Mapping[str, Any]) -> Timed:
    sparse = row["op"] == "dsa-attention"
    operator = Attention(
        part=str(row["op"]),
        batch=row["batch"],
        q_len=row["q_len"],
        kv_len=row["topk"] if sparse else row["kv_len"],
        heads=row["heads"],
        kv_heads=1,
        qk_head_dim=row["head_dim"],
        v_head_dim=512 if sparse else 1,
        causal=not sparse,
        phase=row["stage"],
        dtype="bf16" if sparse else "fp8",
        kv_dtype="bf16" if sparse else "fp8",
        latent=True,
        gathered=sparse,
    )
    return Timed(operator, row["us"] * 1e-6)


def special_constants(operators: Path) -> dict[str, dict[str, float]]:
    """Constants by variant name, fitted on the H800 rows (shares of its peaks)."""
    chip = load_chip(SPECIAL_CHIP)
    groups: dict[str, list[Timed]] = {}
    for timed in special_rows(operators):
        groups.setdefault(variant_of(timed.operator).name, []).append(timed)
    return {name: fit_few(chip, rows) for name, rows in groups.items()}


def fit_few(chip: Chip, rows: list[Timed]) -> dict[str, float]:
    """Least squares on ln time over four constants, held to the prior."""
    scipy = require_scipy()
    variant = variant_of(rows[0].operator)
    prior = prior_of(variant)
    measured = np.array([r.measured_s for r in rows])
    low, high = np.log([_BOUNDS[n] for n in _BOUNDS]).T
    start = np.log([prior[n] for n in _BOUNDS])

    def constants_of(x: Array) -> dict[str, float]:
        return {**prior, **{n: float(v) for n, v in zip(_BOUNDS, np.exp(x), strict=True)}}

    def residual(x: Array) -> Array:
        constants = constants_of(x)
        predicted = np.array([time_of(chip, r.operator, constants) for r in rows])
        return np.concatenate([np.log(predicted / measured), _PRIOR_WEIGHT * (x - start)])

    found = scipy.optimize.least_squares(residual, np.clip(start, low + 1e-6, high - 1e-6), bounds=(low, high))
    return constants_of(found.x)


def time_of(chip: Chip, operator: Attention, constants: Mapping[str, float]) -> float:
    """Predicted seconds of one call."""
    variant = variant_of(operator)
    return float(attention_times(chip, variant, shape_of(operator, variant), constants).time_s)


def ascend_constants(chip: Chip) -> dict[str, dict[str, float]]:
    """Ascend 910B/910C kernels by variant: ascend_attention.py.

    Backward: share of the forward rate as in cuDNN on A100 and B200 (assumption: no
    Ascend row; training runs attention-cann).
    """
    prefill = dict(ascend_attention.PREFILL)
    prefill["rate"] = _rate_for(chip, {**prefill, "tile_s": 1.5e-6}, 322.9e12)
    backward = {**prefill, "rate": 0.75 * prefill["rate"], "tile_s": 2.2e-6}
    decode = ascend_attention.decode_constants(chip)
    return {
        **{f"decode/{kind}/bf16/{cache}": dict(c) for kind, c in decode.items() for cache in ("bf16", "fp8")},
        **{f"prefill/{kind}/bf16/bf16": prefill for kind in ("gqa/128", "mla/192")},
        **{f"prefill/{kind}/bf16/bf16/bwd": backward for kind in ("gqa/128", "mla/192")},
    }


def flashmla_constants(chip: Chip) -> dict[str, dict[str, float]]:
    """FlashMLA at its best, as its README and tables 8 and 9 of arXiv 2506.12708v2 print it (shapes not stated).

    H800: dense decode 660 TFLOP/s where compute binds and 3,000 GB/s where memory binds. B200: plain attention of a
    prefill 1,460 forward and 1,000 TFLOP/s backward.
    """
    if chip.architecture == "hopper":
        decode = {**prior_of(Variant("decode", "mla", 576)), "rate": 660e12 / chip.peak("bf16"), "sharp": 3.0}
        return {"decode/mla/576/bf16/bf16": {**decode, "memory": 3.0e12 / chip.memory_bytes_per_s}}
    forward = dict(prior_of(Variant("prefill", "gqa", 128)))
    forward["rate"] = _rate_for(chip, forward, 1460e12, causal=False)
    backward = {**forward, "rate": forward["rate"] * 1000.0 / 1460.0}
    return {"prefill/gqa/128/bf16/bf16/full": forward, "prefill/gqa/128/bf16/bf16/full/bwd": backward}


def _rate_for(chip: Chip, constants: Mapping[str, float], flop_per_s: float, causal: bool = True) -> float:
    """Rate share at which a call of 8192 tokens reaches flop_per_s, counted without a causal halving."""
    call = replace(ASYMPTOTIC["attention/flop"], q_len=8192, kv_len=8192, causal=causal)
    counted = 4.0 * float(call.batch) * float(call.heads) * 8192.0**2 * float(call.qk_head_dim)
    rates = np.linspace(0.2, 1.5, 261)
    times = np.array([time_of(chip, call, {**constants, "rate": float(r)}) for r in rates])
    return float(rates[np.argmin(np.abs(np.log(counted / times / flop_per_s)))])
