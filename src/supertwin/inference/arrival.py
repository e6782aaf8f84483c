"""Ranks that share experts arrive apart at an exchange, and all wait for the last one.

What ranks do since they last met takes each of them a little longer or shorter, independently of each other and of
what was done before. So the variance of their arrival grows with the time T since then, and n ranks wait
e(n) sqrt(c T), e(n) the expected maximum of n normal draws. With two micro-batches in flight the stream that has time
left waits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from supertwin.inference.placement import Real

NO_MEETING = 0.0

ARRIVAL_VARIANCE_S = 1.3e-6
"""c: variance of the arrival per second of work. CANN's fused dispatch and combine, one after the other with 128 tokens
per rank, take 16.6 and 6.7 us times e(n) longer from 8 to 256 ranks than their bytes explain (CloudMatrix384 paper,
table 7; fit of network.exchange): (16.6^2 + 6.7^2) us^2 in a round of 241 us without them. DeepEP's kernels on the same
machine (sgl-kernel-npu) wait 15.0 and 6.1 us. How this carries over to other work is an assumption."""


def arrival_wait_s(work_s: Real, largest: Real) -> Real:
    """Mean wait of a rank for the last one, work_s after all met. largest: e(n) of the n ranks."""
    return largest * np.sqrt(ARRIVAL_VARIANCE_S * work_s)


def meets(largest: Real) -> bool:
    """Whether an operator with this e(n) waits for other ranks (for any size, where sizes are arrays)."""
    return isinstance(largest, np.ndarray) or largest > 0.0


def waits_s(works: Sequence[tuple[Real, Real]]) -> list[Real]:
    """Wait in each of a sequence of operators. works: (seconds, e(n) of the ranks that meet in it or 0)."""
    if all(largest is NO_MEETING for _, largest in works):
        return [0.0] * len(works)
    out: list[Real] = []
    since: Real = 0.0
    for seconds, largest in works:
        meet = meets(largest)
        out.append(arrival_wait_s(since, largest) if meet else 0.0)
        since = 0.0 if meet else since + seconds
    return out
