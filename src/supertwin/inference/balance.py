"""How unevenly routed tokens load the expert-parallel ranks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from supertwin.inference.assumptions import POPULARITY_CV
from supertwin.workload.balance import busiest_over_mean

Real = float | npt.NDArray[np.float64]


def rank_skew(rows: Real, ranks: int, experts: int, redundant: int = 0, balance: str = "natural") -> Real:
    """Rows of the busiest rank over the mean, >= 1 (workload.balance); `perfect` balance has neither draw nor
    popularity.

    rows: token-expert pairs per rank (mean); experts: routed experts in all; redundant: replicas of the hottest ones.
    """
    if balance == "perfect" or ranks <= 1:
        return 1.0 + 0.0 * np.asarray(rows, dtype=float) if isinstance(rows, np.ndarray) else 1.0
    return busiest_over_mean(rows, ranks, experts, POPULARITY_CV, redundant)


def touched_experts(tokens: Real, experts: float, topk: float) -> Real:
    """Expected number of distinct experts that `tokens` tokens reach out of `experts` (uniform routing)."""
    return experts * (1.0 - (1.0 - topk / experts) ** tokens)
