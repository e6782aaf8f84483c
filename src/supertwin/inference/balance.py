"""How unevenly routed tokens load the expert-parallel ranks."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from supertwin.inference.assumptions import POPULARITY_CV

Real = float | npt.NDArray[np.float64]


def expected_maximum(n: int) -> float:
    """Mean of the largest of n standard normal draws (Blom's approximation, within 5 %, 1 % from n = 8)."""
    return NormalDist().inv_cdf((n - 0.375) / (n + 0.25)) if n > 1 else 0.0


def rank_skew(rows: Real, ranks: int, experts: int, redundant: int = 0, balance: str = "natural") -> Real:
    """Rows of the busiest rank over the mean, >= 1.

    rows: token-expert pairs per rank (mean); experts: routed experts in all; redundant: replicas of the hottest ones.
    Two independent sources add in variance: the draw of a finite batch (multinomial: variance = mean) and the
    popularity of experts (coefficient of variation POPULARITY_CV, averaged over the experts of a rank). Replicating r
    of E experts caps popularity at its upper r/E quantile. `perfect` balance has neither.
    """
    if balance == "perfect" or ranks <= 1:
        return 1.0 + 0.0 * np.asarray(rows, dtype=float) if isinstance(rows, np.ndarray) else 1.0
    largest = expected_maximum(ranks)
    cap = NormalDist().inv_cdf(1.0 - redundant / experts) if 0 < redundant < experts else largest
    popularity = POPULARITY_CV / math.sqrt(max(1.0, experts / ranks)) * min(1.0, max(cap, 0.0) / largest)
    draw = 1.0 / np.maximum(rows, 1e-9)
    skew = 1.0 + largest * np.sqrt(popularity**2 + draw)
    skew = np.minimum(skew, float(ranks))
    return skew if isinstance(rows, np.ndarray) else float(skew)


def touched_experts(tokens: Real, experts: float, topk: float) -> Real:
    """Expected number of distinct experts that `tokens` tokens reach out of `experts` (uniform routing)."""
    return experts * (1.0 - (1.0 - topk / experts) ** tokens)
