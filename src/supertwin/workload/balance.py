"""How unevenly routed tokens load the ranks that share the experts, and what a capacity drops.

Two independent sources add in variance: the draw of a finite batch (multinomial: variance = mean) and the popularity
of experts (coefficient of variation, averaged over the experts of a rank):

    busiest / mean = 1 + e(R) sqrt(cv^2 / (E / R) c^2 + 1 / rows)

with e(R) the expected maximum of R standard normal draws and c the share of the popularity that is left when the r
hottest of E experts have a second copy (the upper r / E quantile over e(R)).
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from supertwin.workload.operators import Real

_NORMAL = NormalDist()


def expected_maximum(n: int) -> float:
    """Mean of the largest of n standard normal draws (Blom's approximation, within 5 %, 1 % from n = 8)."""
    return _NORMAL.inv_cdf((n - 0.375) / (n + 0.25)) if n > 1 else 0.0


def busiest_over_mean(rows: Real, ranks: int, experts: int, popularity_cv: float, redundant: int = 0) -> Real:
    """Rows of the busiest rank over the mean, between 1 and the number of ranks.

    rows: token-expert pairs per rank (mean); experts: routed experts in all; popularity_cv: standard deviation of the
    experts' popularity over its mean; redundant: further copies of the hottest ones.
    """
    if ranks <= 1:
        return 0.0 * rows + 1.0
    largest = expected_maximum(ranks)
    cap = _NORMAL.inv_cdf(1.0 - redundant / experts) if 0 < redundant < experts else largest
    left = min(1.0, max(cap, 0.0) / largest) if redundant < experts else 0.0
    popularity = popularity_cv / math.sqrt(max(1.0, experts / ranks)) * left
    skew = np.minimum(1.0 + largest * np.sqrt(popularity**2 + 1.0 / np.maximum(rows, 1e-9)), float(ranks))
    return skew if isinstance(rows, np.ndarray) else float(skew)


def dropped_share(rows: float, popularity_cv: float, capacity_factor: float) -> float:
    """Share of the token-expert pairs beyond the capacity of their expert: E[(X - c)+] for X normal around 1.

    rows: pairs per expert (mean); capacity_factor: what an expert takes over its mean share.
    """
    sigma = math.sqrt(popularity_cv**2 + 1.0 / max(rows, 1e-9))
    z = (capacity_factor - 1.0) / sigma
    return sigma * (_NORMAL.pdf(z) - z * (1.0 - _NORMAL.cdf(z)))
