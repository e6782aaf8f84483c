"""Arithmetic of operator lists, counted independently of the product."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from supertwin.workload.operators import Attention, Communication, ExpertMlp, Gemm, Operator


def product_flop(ops: Iterable[Operator], *, skip: str = "/scan") -> float:
    """2 m n k over products with weights (and routed experts), recurrences left out."""
    total = 0.0
    for op in ops:
        if isinstance(op, Gemm) and not op.part.endswith(skip):
            total += float(np.sum(2.0 * op.m * op.n * op.k * op.groups * op.count))
        elif isinstance(op, ExpertMlp):
            total += float(np.sum((6 if op.gated else 4) * op.rows * op.hidden * op.inter * op.count))
    return total


def attention_flop(ops: Iterable[Operator]) -> float:
    """Scores and weighted sum, by summing over queries one by one."""
    total = 0.0
    for op in ops:
        if isinstance(op, Attention):
            queries = np.arange(1, int(op.q_len) + 1)
            keys = (
                float(op.kv_len) - float(op.q_len) + queries if op.causal else np.full(len(queries), float(op.kv_len))
            )
            if op.window:
                keys = np.minimum(keys, op.window)
            per_key = 2.0 * op.heads * (op.qk_head_dim + op.v_head_dim)
            total += float(op.batch * per_key * keys.sum() * op.count)
    return total


def message_bytes(ops: Iterable[Operator], part: str = "") -> float:
    """Bytes of all exchanges whose part starts so."""
    return sum(
        float(np.sum(op.message_bytes * op.count))
        for op in ops
        if isinstance(op, Communication) and op.part.startswith(part)
    )
