"""Two micro-batches in flight: what hides behind what.

Times are those of ONE micro-batch (half the sequences) in one layer.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from supertwin.cost.result import OperatorCost

Real = float | npt.NDArray[np.float64]


def on_cores(cost: OperatorCost, share: float) -> Real:
    """Time of an operator on a share of the cores: compute slows by 1/share, memory traffic keeps the device's rate.

    One core of a da-vinci die can draw more than 1/24 of the HBM bandwidth, so 8 of 24 cores still saturate it to about
    share x 2 (assumption: a core sustains twice its fair share).
    """
    memory = cost.memory_s / min(1.0, 2.0 * share)
    compute = cost.compute_s / share
    before = np.maximum(np.maximum(cost.compute_s, cost.memory_s), 1e-15)
    variable = np.maximum(cost.time_s - cost.overhead_s, 0.0)
    return variable * np.maximum(compute, memory) / before + cost.overhead_s


def two_streams(attention_s: Real, experts_s: Real, memory_s: Real) -> Real:
    """A layer of two micro-batches on two core groups (CM384 paper 4.2.3): each stream runs both of them in turn.

    memory_s: time that the traffic of both streams needs at full bandwidth; it bounds the sum.
    """
    return 2.0 * np.maximum(np.maximum(attention_s, experts_s), memory_s)


def compute_and_exchange(compute_s: Real, exchange_s: Real, cores_taken: float) -> Real:
    """A layer of two micro-batches where exchanges run beside compute and take a share of its cores while they run."""
    busy = compute_s + np.minimum(exchange_s, compute_s) * cores_taken / (1.0 - cores_taken)
    return 2.0 * np.maximum(busy, exchange_s)
