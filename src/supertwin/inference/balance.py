"""How unevenly routed tokens load the expert-parallel ranks.

Three independent sources on a rank that holds s = (E + r) / R slots:

    busiest / mean = 1 + sqrt((exp(sigma e(R) - sigma^2 / 2) - 1)^2 + e(R)^2 / rows)
    sigma^2 = ln(1 + (spread^2 + prompt^2 / prompts) / s)

spread: popularity of experts, or with replicas (a load balancer places the experts by their statistics) what is left of
it when traffic drifts; prompt: the prompts in a batch have favourites of their own, which few prompts do not average
out; 1 / rows: draw of a finite batch. Expected loads are log-normal (DeepEP PR 393: the best fit to recorded loads of
DeepSeek-V3), the draw is normal; e(R) is the expected maximum of R standard normal draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from supertwin.inference.assumptions import DRIFT_CV, POPULARITY_CV, PROMPT_CV, REBALANCED_CV
from supertwin.workload.balance import expected_maximum
from supertwin.workload.shard import plain

Real = float | npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Slots:
    """ranks that share `experts` routed experts and `redundant` further copies of the hottest ones; rebalanced: placed
    by the statistics of the traffic itself, not by a recording."""

    ranks: int
    experts: int
    redundant: int = 0
    rebalanced: bool = False


def rank_skew(rows: Real, slots: Slots, balance: str = "natural", prompts: Real = np.inf) -> Real:
    """Rows of the busiest rank over the mean, between 1 and the number of ranks; `perfect` balance is 1.

    rows: token-expert pairs per rank (mean); prompts: sequences whose tokens meet in the experts.
    """
    ranks = slots.ranks
    if balance == "perfect" or ranks <= 1:
        return 1.0 + 0.0 * np.asarray(rows, dtype=float) if isinstance(rows, np.ndarray) else 1.0
    left = REBALANCED_CV if slots.rebalanced else DRIFT_CV
    spread = left if slots.redundant else POPULARITY_CV
    per_rank = max(1.0, (slots.experts + slots.redundant) / ranks)
    own = PROMPT_CV**2 / np.maximum(prompts, 1.0)
    largest = expected_maximum(ranks)
    variance = np.log1p((spread**2 + own) / per_rank)
    excess = np.exp(np.sqrt(variance) * largest - variance / 2.0) - 1.0
    skew = 1.0 + np.sqrt(excess**2 + largest**2 / np.maximum(rows, 1e-9))
    return plain(np.minimum(np.maximum(skew, 1.0), float(ranks)))
