"""Ranks that share experts arrive apart at an exchange, and all wait for the last one.

What ranks do since they last met takes each of them a little longer or shorter, independently of each other and of
what was done before. So the variance of their arrival grows with the time T since then, and n ranks wait
e(n) sqrt(c T), e(n) the expected maximum of n normal draws. With two micro-batches in flight the stream that has time
left waits (Ascend), or the exchange takes so much longer behind what it hides (NVIDIA).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from supertwin.inference.placement import Real
from supertwin.workload.balance import expected_maximum

NO_MEETING = 0.0

ARRIVAL_VARIANCE_S = 1.3e-6
"""c: variance of the arrival per second of work. CANN's fused dispatch and combine, one after the other with 128 tokens
per rank, take 16.6 and 6.7 us times e(n) longer from 8 to 256 ranks than their bytes explain (CloudMatrix384 paper,
table 7; fit of network.exchange): (16.6^2 + 6.7^2) us^2 in a round of 241 us without them. DeepEP's kernels on the same
machine (sgl-kernel-npu) wait 15.0 and 6.1 us. How this carries over to other work is an assumption."""

CUDA_ARRIVAL_VARIANCE_S = 0.53e-6
"""c on NVIDIA: DeepEP's low-latency dispatch in a profile of SGLang on GB200 (shifangx/Scripts-SGLang,
logs_gb200_blog2_fp4: DeepSeek-R1, 48 ranks, 1,024 sequences each, no overlap; two ranks, four steps, with and without a
load balancer): 658 us after the last combine the receiving half of a dispatch takes 64.7 us, 23.0 where the rank is
the last one (2 % quantile): e(48) sqrt(c 658 us) = 41.7 us. DeepEP's published times, a tight loop of balanced ranks,
contain no such wait."""


def apart(ranks: int, variance_s: float = ARRIVAL_VARIANCE_S) -> float:
    """e(n) sqrt(c) of n ranks, in s^0.5: their mean wait is that times the root of the work since they met."""
    return expected_maximum(ranks) * float(np.sqrt(variance_s))


def arrival_wait_s(work_s: Real, spread: Real) -> Real:
    """Mean wait of a rank for the last one, work_s after all met. spread: e(n) sqrt(c) of the ranks (apart)."""
    return spread * np.sqrt(work_s)


def meets(spread: Real) -> bool:
    """Whether an operator with this e(n) sqrt(c) waits for other ranks (for any size, where sizes are arrays)."""
    return isinstance(spread, np.ndarray) or spread > 0.0


def waits_s(works: Sequence[tuple[Real, Real]]) -> list[Real]:
    """Wait in each of a sequence of operators. works: (seconds, e(n) sqrt(c) of the ranks that meet in it or 0)."""
    if all(spread is NO_MEETING for _, spread in works):
        return [0.0] * len(works)
    out: list[Real] = []
    since: Real = 0.0
    for seconds, spread in works:
        meet = meets(spread)
        out.append(arrival_wait_s(since, spread) if meet else 0.0)
        since = 0.0 if meet else since + seconds
    return out
