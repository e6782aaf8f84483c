"""Attention rows of kernels.csv: which library ran, the operator, and the measured time.

Printed TFLOP/s are turned into seconds with the row's own way of counting (flop_count). Rows without a shape give the
best value that a README reports; they are compared at a large shape (`ASYMPTOTIC`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from supertwin.core.formats import number_format
from supertwin.cost.attention import AttentionModel, variant_of
from supertwin.cost.attention_kernels import BACKWARD_FLOP
from supertwin.workload.operators import Attention

KERNELS = ("attention", "attention_decode", "mla_decode", "sparse_mla_prefill")
_MARKS = {"cudnn": "cudnn", "fa2": "fa2", "fa3": "fa3", "flashmla": "flashmla", "simumax": "cudnn"}
DIRECTIONS = {"fwd": ("fwd",), "bwd": ("bwd",), "fwd+bwd": ("fwd", "bwd")}
# assumption: shapes at which kernels reach the best value that their README prints
ASYMPTOTIC: Mapping[str, Attention] = {
    "mla_decode/flop": Attention(
        part="x", batch=128, q_len=2, kv_len=32768, heads=128, kv_heads=1, qk_head_dim=576, v_head_dim=512,
        phase="decode", latent=True,
    ),
    "mla_decode/bytes": Attention(
        part="x", batch=128, q_len=1, kv_len=32768, heads=16, kv_heads=1, qk_head_dim=576, v_head_dim=512,
        phase="decode", latent=True,
    ),
    "sparse_mla_prefill/flop": Attention(
        part="x", batch=1, q_len=4096, kv_len=2048, heads=128, kv_heads=1, qk_head_dim=576, v_head_dim=512,
        latent=True, gathered=True,
    ),
    "attention/flop": Attention(
        part="x", batch=4, q_len=16384, kv_len=16384, heads=32, kv_heads=32, qk_head_dim=128, v_head_dim=128,
        causal=False,
    ),
    "attention_decode/floor": Attention(
        part="x", batch=1, q_len=1, kv_len=16, heads=8, kv_heads=1, qk_head_dim=128, v_head_dim=128, phase="decode",
    ),
    "attention/floor": Attention(
        part="x", batch=1, q_len=16, kv_len=16, heads=8, kv_heads=1, qk_head_dim=128, v_head_dim=128,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class AttentionRow:
    """One row: library ("" = not stated), operators whose times add up to it, and the measured seconds."""

    library: str
    operators: tuple[Attention, ...]
    measured_s: float


def library_of(row: Mapping[str, Any]) -> str:
    """Library named by the row's notes or source."""
    text = f"{row.get('notes') or ''} {row.get('source') or ''}".lower()
    for mark, library in _MARKS.items():
        if mark in text:
            return library
    ascend = str(row.get("chip")).startswith("ascend")
    # tables 8 and 9 of the CloudMatrix384 paper compare with FlashMLA on H800
    return "flashmla" if row.get("kernel") == "mla_decode" and "2506.12708" in text and not ascend else ""


def attention_row(row: Mapping[str, Any]) -> AttentionRow:
    """Read one row of kernels.csv. Raises ValueError with the reason when it cannot be compared with a time."""
    if row["kernel"] not in KERNELS:
        raise ValueError(f"kernel {row['kernel']} is not attention")
    complete = all(row.get(n) for n in ("heads", "head_dim", "seq_q", "seq_kv", "batch"))
    base = _operator(row) if complete else _stand_in(row)
    operators = tuple(_directed(base, d) for d in DIRECTIONS[row.get("direction") or "fwd"])
    if row.get("measured_us"):
        measured = float(row["measured_us"]) * 1e-6
    elif row.get("measured_tflops"):
        measured = counted_flop(base, row) / (float(row["measured_tflops"]) * 1e12)
    elif row.get("measured_gbps"):
        measured = streamed_bytes(base) / (float(row["measured_gbps"]) * 1e9)
    else:
        raise ValueError("row has neither a time nor a rate")
    return AttentionRow(library_of(row), operators, measured)


def counted_flop(op: Attention, row: Mapping[str, Any]) -> float:
    """FLOPs as the row counts them: full = no causal halving; backward 2.5, both 3.5 times the forward pass."""
    pairs = float(op.batch) * float(op.heads) * float(op.q_len) * float(op.kv_len)
    forward = 2.0 * pairs * (float(op.qk_head_dim) + float(op.v_head_dim))
    if row.get("flop_count") == "causal-halved":
        forward *= 0.5
    return forward * {"fwd": 1.0, "bwd": BACKWARD_FLOP, "fwd+bwd": 1.0 + BACKWARD_FLOP}[row.get("direction") or "fwd"]


def streamed_bytes(op: Attention) -> float:
    """Cache bytes that a decode kernel reads."""
    width = float(op.qk_head_dim) + (0.0 if op.latent else float(op.v_head_dim))
    size = number_format(op.kv_dtype).bytes_per_element
    return float(op.batch) * float(op.kv_len) * float(op.kv_heads) * width * size


def host_floor_s(model: AttentionModel, row: AttentionRow) -> float:
    """Shortest time that the row's table can show: what its host needs to issue a call; 0 where that is not known."""
    return model.kernel(variant_of(row.operators[0])).constants.get("host_s", 0.0)


def _operator(row: Mapping[str, Any]) -> Attention:
    decode = row["kernel"] in ("attention_decode", "mla_decode")
    dtype = row.get("dtype") or "bf16"
    heads = int(row["heads"])
    return Attention(
        part=str(row.get("id", "row")),
        batch=int(row["batch"]),
        q_len=int(row["seq_q"]),
        kv_len=int(row["seq_kv"]),
        heads=heads,
        kv_heads=int(row.get("kv_heads") or heads),
        qk_head_dim=int(row["head_dim"]),
        v_head_dim=int(row.get("v_head_dim") or row["head_dim"]),
        causal=bool(int(row["causal"])) if row.get("causal") is not None else True,
        phase="decode" if decode else "prefill",
        dtype=dtype,
        kv_dtype=dtype,
        latent=row["kernel"] == "mla_decode",
        gathered=row["kernel"] == "sparse_mla_prefill",
    )


def _stand_in(row: Mapping[str, Any]) -> Attention:
    """Shape for a row that states none."""
    if row["kernel"] == "attention" and row.get("seq_q") and row.get("measured_tflops"):
        length = int(row["seq_q"])
        return replace(ASYMPTOTIC["attention/flop"], q_len=length, kv_len=length, causal=True)
    if "floor" in str(row.get("notes")):
        return ASYMPTOTIC[f"{row['kernel']}/floor"]
    unit = "bytes" if row.get("measured_gbps") else "flop"
    if (row.get("measured_tflops") or row.get("measured_gbps")) and f"{row['kernel']}/{unit}" in ASYMPTOTIC:
        return ASYMPTOTIC[f"{row['kernel']}/{unit}"]
    raise ValueError("shape not stated")


def _directed(op: Attention, direction: str) -> Attention:
    return op if direction == "fwd" else replace(op, direction=direction)
