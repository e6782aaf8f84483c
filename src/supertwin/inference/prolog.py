"""Everything before the core of latent attention as one kernel (CANN MLAProlog, npu_mla_prolog_v3; CM384 paper 4.2.2).

Down projection, norms, query projection, rotation and the keys' half of absorption run without starts between them,
and vector cores work on one tile while matrix cores multiply the next. So the products follow each other at the rate of
their arithmetic or weights, after one start, and the vector passes hide behind them.

In a running LongCat-Flash the kernel takes 45 us on all cores and 68 on half of them, part of its weights prefetched
into the cache (cann-recipes-infer; kernels.csv); operator by operator its products and passes would take 93 us.
"""

from __future__ import annotations

import numpy as np

from supertwin.cost.result import OperatorCost

PRODUCTS = ("attention/down", "attention/q", "attention/absorb_q")
_PASSES = ("attention/rank_norm", "attention/rope")
JOINED = frozenset(before + part for part in (*PRODUCTS, *_PASSES) for before in ("", "mtp/"))
"""Operators of that kernel."""

ABSORBED = ("attention/absorb_q", "mtp/attention/absorb_q")
"""What layers with latent vectors have. DeepSeek-V4 shares plain vectors: its recipe runs the maps, norms and rotations
as kernels of their own (deepseek_v4, mla_prolog_decode)."""


def in_prolog(part: str, cost: OperatorCost) -> OperatorCost:
    """Cost of an operator where these run as one kernel; others as they are."""
    name = part.removeprefix("mtp/")
    if name in _PASSES:
        nothing = 0.0 * cost.time_s  # what they read and write stays on the chip
        return OperatorCost(cost.operator, nothing, nothing, nothing, nothing, nothing, nothing)
    if name not in PRODUCTS:
        return cost
    start = cost.overhead_s if name == PRODUCTS[0] else 0.0 * cost.overhead_s
    return cost._replace(time_s=np.maximum(cost.compute_s, cost.memory_s) + start, overhead_s=start)
