"""How the collectors draw rows per expert, to tell the busiest device's share (Monte Carlo, fixed seed).

aiconfigurator draws loads from a power law x^-alpha on [1, 0.8 tokens], scales them to tokens x topk and times the rank
with the largest sum; balanced and uniform routing load all ranks alike.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_SAMPLES = 64
_SEED = 20261121


@lru_cache(maxsize=65536)
def busiest_share(alpha: float, experts: int, ranks: int, topk: int, tokens: int) -> float:
    """Mean rows of the busiest of `ranks` over the mean rank (1 for one rank or balanced routing)."""
    if alpha == 0.0 or ranks == 1:
        return 1.0
    random = np.random.default_rng(_SEED)
    many = tokens * topk > experts
    low, high = (1.0, max(0.8 * tokens, 2.0)) if many else (0.01, 2.0)
    power = 1.0 - alpha if abs(alpha - 1.0) > 1e-6 else 1e-6
    u = random.random((_SAMPLES, experts))
    loads = ((high**power - low**power) * u + low**power) ** (1.0 / power)
    loads *= tokens * topk / loads.sum(axis=1, keepdims=True)
    loads = np.minimum(loads, tokens)
    ranked = loads.reshape(_SAMPLES, ranks, experts // ranks).sum(axis=2)
    return float(np.mean(ranked.max(axis=1) / ranked.mean(axis=1)))
