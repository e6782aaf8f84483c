"""Rows of kernels.csv as operators: products, experts, memory reads. Used by the fits and by validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from supertwin.calibration.experts_fit import EXPERT_FIELDS, ExpertRows
from supertwin.calibration.tables import GemmRows, read_table
from supertwin.core.formats import number_format
from supertwin.cost.gemm import GemmConditions
from supertwin.workload.operators import ExpertMlp, Gemm

_DIRECTIONS = {"fwd": "fwd", "bwd-dgrad": "dgrad", "bwd-wgrad": "wgrad"}
KERNEL_CONTEXTS = (
    ("SimuMax", "cublas-training"),
    ("stas00", "best-shape"),
    ("DeepGEMM", "deepgemm-bench"),
    ("LLMCompass", "torch-eager"),
)


def kernel_context(source: str) -> str:
    """Context of a row of kernels.csv by its source; "" for sources without one of their own."""
    return next((context for mark, context in KERNEL_CONTEXTS if mark in source), "")


def kernel_shape(row: Mapping[str, Any]) -> tuple[float, float, float]:
    """m, n, k; statistics over a table get the shape that they speak of: latency floor, best rate, weight stream."""
    m, n, k = (float(row[c] or 0) for c in ("m", "n", "k"))
    notes = str(row["notes"] or "")
    if row["kernel"] == "gemm_weight_stream":
        return m or 16.0, 8192.0, 8192.0
    if not m and "latency floor" in notes:
        return 16.0, 16.0, 16.0
    if not m and "best" in notes:
        return 8192.0, 8192.0, 8192.0
    return m, n, k


def kernel_time_s(row: Mapping[str, Any]) -> float:
    """Measured time of a row of products, from its time, its rate or its bandwidth (weights alone); 0 without any."""
    if row["measured_us"]:
        return float(row["measured_us"]) * 1e-6
    m, n, k = kernel_shape(row)
    if row["measured_tflops"]:
        return 2.0 * m * n * k * float(row["groups"] or 1) / (float(row["measured_tflops"]) * 1e12)
    if row["measured_gbps"]:
        return n * k * number_format(str(row["dtype"])).bytes_per_element / (float(row["measured_gbps"]) * 1e9)
    return 0.0


def kernel_gemm(row: Mapping[str, Any]) -> tuple[Gemm, GemmConditions] | None:
    """Operator and conditions of a `gemm` or `grouped_gemm` row of kernels.csv; None where the row has no shape.

    Grouped weight gradients print m = tokens per group, which is their contraction: C[k, n] = A[k, m] B[m, n].
    """
    m, n, k = kernel_shape(row)
    if not (m and n and k):
        return None
    direction = _DIRECTIONS.get(str(row["direction"] or "fwd"), "fwd")
    groups = float(row["groups"] or 1) * float(row["batch"] or 1)
    notes = str(row["notes"] or "")
    if direction == "wgrad" and groups > 1:
        m, k = k, m
    out = "fp32" if "main grad fp32" in notes or "output fp32" in notes else "bf16"
    gemm = Gemm(
        part=str(row["kernel"]),
        m=m,
        n=n,
        k=k,
        groups=groups,
        dtype="fp8-tensorwise" if row["dtype"] == "fp8" else str(row["dtype"]),
        out_dtype=out if direction == "wgrad" else "bf16",
        direction=direction,
        quantize_input="dynamic quant" in notes,
    )
    cold = row["kernel"] == "gemm_weight_stream"
    best = cold or "best over the table" in notes
    context = "best-shape" if best else kernel_context(str(row["source"]))
    return gemm, GemmConditions(context=context, weights_cold=cold, loop_weights=1.0)


def kernel_gemm_rows(path: Path) -> list[GemmRows]:
    """Products of kernels.csv with a shape and a time, grouped by chip, context, format and direction."""
    parts: dict[tuple[str, Gemm, GemmConditions, bool], list[tuple[Gemm, float]]] = {}
    for row in read_table(path).iter_rows(named=True):
        if row["kernel"] not in ("gemm", "grouped_gemm", "gemm_weight_stream"):
            continue
        found = kernel_gemm(row)
        if found is None or not kernel_time_s(row) or "not end to end" in str(row["notes"] or ""):
            continue
        gemm, conditions = found
        key = (
            str(row["chip"]),
            replace(gemm, part="", m=0.0, n=0.0, k=0.0, groups=0.0),
            conditions,
            gemm.groups != 1.0,
        )
        parts.setdefault(key, []).append((gemm, kernel_time_s(row)))
    return [_stacked(*key, rows) for key, rows in parts.items()]


def _stacked(
    chip: str, template: Gemm, conditions: GemmConditions, grouped: bool, rows: list[tuple[Gemm, float]]
) -> GemmRows:
    names = ("m", "n", "k", "groups")
    fields: dict[str, Any] = {name: np.array([getattr(g, name) for g, _ in rows], dtype=np.float64) for name in names}
    time_s = np.array([t for _, t in rows])
    return GemmRows(chip, conditions.context, replace(template, **fields), time_s, conditions, grouped, "kernels.csv")


# Medians over shapes with n, k >= 4096 on a 910B (vllm-ascend 0.18.0, graph replay): TFLOP/s by m. W8A8 includes the
# dynamic quantisation of the input. Source: hudingyi688/aiconfigurator-npu 90d7765, systems/data/ascend_910b.
_ASCEND_M = (1.0, 16.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 8192.0, 16384.0)
_ASCEND_TFLOPS: Mapping[str, tuple[float, ...]] = {
    "bf16": (1.2, 18.8, 72.5, 128.0, 162.0, 207.0, 269.0, 304.0, 313.0, 316.0),
    "int8": (2.3, 34.6, 123.0, 235.0, 348.0, 393.0, 491.0, 527.0, 548.0, 559.0),
}
_ASCEND_SIDE = 8192.0  # assumption: n = k of the median shape


def ascend_median_rows() -> list[GemmRows]:
    """Published medians of products on a 910B by m, as rows of `ascend-910b2` (weights from memory)."""
    found = []
    for dtype, rates in _ASCEND_TFLOPS.items():
        m = np.array(_ASCEND_M)
        side = np.full_like(m, _ASCEND_SIDE)
        gemm = Gemm(
            part="gemm", m=m, n=side, k=side, groups=np.ones_like(m), dtype=dtype, quantize_input=dtype == "int8"
        )
        time_s = 2.0 * m * _ASCEND_SIDE**2 / (np.array(rates) * 1e12)
        conditions = GemmConditions(weights_cold=True)
        found.append(GemmRows("ascend-910b2", "", gemm, time_s, conditions, source="aiconfigurator-npu medians by m"))
    return found


_COPIES = 8.0  # experts per token in the moe_mlp rows


def kernel_expert(row: Mapping[str, Any]) -> ExpertMlp | None:
    """Operator of a moe_mlp row of kernels.csv (m = tokens before routing); None where the shape is not stated.

    The notes state top-8 routing over the devices of EP8: each device gets as many rows as there were tokens. The call
    is taken to include sort and combination of all eight copies of a token (60 to 100 us at one token are five to six
    kernels, not two, and 4096 tokens take longer than products of 128 rows per expert and their weights).
    """
    if not (row["m"] and row["n"] and row["k"] and row["groups"]):
        return None
    return ExpertMlp(
        part="moe_mlp",
        rows=float(row["m"]),
        experts=float(row["groups"]),
        hidden=float(row["k"]),
        inter=float(row["n"]),
        dtype=str(row["dtype"]),
        distribution="uniform",
        tokens=_COPIES * float(row["m"]),
    )


def kernel_expert_rows(path: Path) -> list[ExpertRows]:
    """moe_mlp rows of kernels.csv with a shape and a time, by chip and format (all fitted: they are few)."""
    parts: dict[tuple[str, str], list[tuple[ExpertMlp, float]]] = {}
    for row in read_table(path).iter_rows(named=True):
        moe = kernel_expert(row) if row["kernel"] == "moe_mlp" and row["measured_us"] else None
        if moe is not None:
            parts.setdefault((str(row["chip"]), moe.dtype), []).append((moe, float(row["measured_us"]) * 1e-6))
    return [_gathered(chip, rows) for (chip, _), rows in parts.items()]


def _gathered(chip: str, rows: list[tuple[ExpertMlp, float]]) -> ExpertRows:
    arrays: dict[str, Any] = {n: np.array([getattr(m, n) for m, _ in rows], dtype=np.float64) for n in EXPERT_FIELDS}
    time_s = np.array([t for _, t in rows])
    return ExpertRows(chip, "", replace(rows[0][0], **arrays), time_s, np.zeros(len(rows), dtype=bool), "kernels.csv")
