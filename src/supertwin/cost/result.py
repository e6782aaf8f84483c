"""What the cost engine says of one operator."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from supertwin.workload.operators import Operator

Real = float | npt.NDArray[np.float64]


class OperatorCost(NamedTuple):
    """One execution of an operator on one device. All fields broadcast to the shape of the operator's fields.

    time_s: predicted kernel time; compute_s, memory_s: what each resource alone would need (with achievable rates);
    overhead_s: fixed part (kernel start, prologue); flop: useful arithmetic; bytes: memory traffic.
    """

    operator: Operator
    time_s: Real
    compute_s: Real
    memory_s: Real
    overhead_s: Real
    flop: Real
    bytes: Real

    @property
    def bound(self) -> npt.NDArray[np.str_]:
        """compute, memory or latency: the largest of the three parts."""
        parts = np.stack(np.broadcast_arrays(self.compute_s, self.memory_s, self.overhead_s))
        return np.asarray(np.array(["compute", "memory", "latency"])[np.argmax(parts, axis=0)])
