"""Quantiles of past errors that a further one stays within: split conformal prediction (Vovk et al. 2005).

Rows of one source are alike, so where a source is new the rows of every known one may be weighed down to that of
`CAP` rows: then the quantile says what a further source would do, not a further row of the largest one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

TAIL = 0.05  # of an interval of 90 %, on either side
CAP = 10


def quantiles(scores: Sequence[float]) -> tuple[float, float]:
    """(low, high): order statistics below and above which a further exchangeable score falls with 5 % each."""
    return _low([(score, 1.0) for score in scores]), -_low([(-score, 1.0) for score in scores])


def quantiles_by_source(scores: Sequence[tuple[float, str]]) -> tuple[float, float]:
    """As `quantiles`, for (score, source): the rows of one source weigh as much as CAP rows at most."""
    rows = Counter(source for _, source in scores)
    weighed = [(score, min(1.0, CAP / rows[source])) for score, source in scores]
    return _low(weighed), -_low([(-score, weight) for score, weight in weighed])


def _low(weighed: Sequence[tuple[float, float]]) -> float:
    """Smallest score below which at most TAIL of the weight lies, the further score counted with the largest weight;
    the least score of all where there are too few."""
    ordered = sorted(weighed)
    limit = TAIL * (sum(weight for _, weight in ordered) + max(weight for _, weight in ordered))
    reached, found = 0.0, ordered[0][0]
    for score, weight in ordered:
        reached += weight
        if reached > limit * (1.0 + 1e-12):
            break
        found = score
    return found
