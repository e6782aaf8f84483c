"""One operator of a layer with its time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from supertwin.cost.result import OperatorCost
from supertwin.inference.arrival import NO_MEETING
from supertwin.inference.placement import Real


@dataclass(slots=True)
class Piece:
    """One operator of a layer with its time: stage is attention, experts or exchange (what it overlaps with);
    outward: an exchange that brings tokens to their experts; spread: e(n) sqrt(c) of the n ranks that wait for each
    other in it (arrival.py); ahead_s: memory time of what was moved into L2 before it and is not in its cost."""

    part: str
    stage: str
    time_s: Real
    bound: str
    cost: OperatorCost | None = None
    count: Real = 1.0
    outward: bool = False
    spread: Real = NO_MEETING
    ahead_s: Real = 0.0


def bound_of(cost: OperatorCost) -> str:
    """What bounds the operator at the largest batch of a sweep."""
    compute, memory, start = cost.compute_s, cost.memory_s, cost.overhead_s
    if isinstance(cost.time_s, np.ndarray):
        compute, memory, start = (_last(x) for x in (compute, memory, start))
    if compute >= memory and compute >= start:
        return "compute"
    return "memory" if memory >= start else "latency"


def _last(value: Real) -> float:
    return float(value.item(-1)) if isinstance(value, np.ndarray) else float(value)
