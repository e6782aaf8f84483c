"""Error statistics of predictions against measurements."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from supertwin.validation.outcome import Score

Array = npt.NDArray[np.float64]

_SMALLEST_RANK_GROUP = 3


@dataclass(frozen=True, slots=True)
class Summary:
    """Error of one metric over n rows: ape = |predicted/measured - 1|, bias = median(predicted/measured - 1).

    interval_coverage: share of rows whose measured value lies in [low, high]. rank_correlation: mean Spearman over
    groups of at least three rows that share chip, model and device count; None without such a group.
    """

    n: int
    median_ape: float
    mean_ape: float
    p90_ape: float
    bias: float
    within_10: float
    within_25: float
    interval_coverage: float
    rank_correlation: float | None

    def as_dict(self) -> dict[str, float | int | None]:
        """Fields by JSON name."""
        return asdict(self)


def summarize(scores: Sequence[Score]) -> Summary:
    """Statistics of rows of one metric. Raises ValueError when there are none."""
    if not scores:
        raise ValueError("no rows")
    measured, predicted, low, high = (
        np.array([getattr(score, name) for score in scores]) for name in ("measured", "predicted", "low", "high")
    )
    error = predicted / measured - 1.0
    ape = np.abs(error)
    return Summary(
        n=len(scores),
        median_ape=float(np.median(ape)),
        mean_ape=float(np.mean(ape)),
        p90_ape=float(np.quantile(ape, 0.9)),
        bias=float(np.median(error)),
        within_10=float(np.mean(ape <= 0.10)),
        within_25=float(np.mean(ape <= 0.25)),
        interval_coverage=float(np.mean((low <= measured) & (measured <= high))),
        rank_correlation=rank_correlation(scores),
    )


def by_metric(scores: Iterable[Score]) -> dict[str, Summary]:
    """Summary of every metric, sorted by its name."""
    return {metric: summarize(group) for metric, group in grouped(scores, lambda score: score.metric).items()}


def by_key(scores: Iterable[Score], key: Callable[[Score], str]) -> dict[str, dict[str, Summary]]:
    """Summaries per metric inside each value of a key (chip, phase ...); rows without the key are left out."""
    return {name: by_metric(group) for name, group in grouped(scores, key).items() if name}


def grouped(scores: Iterable[Score], key: Callable[[Score], str]) -> dict[str, list[Score]]:
    """Rows by the value of a key, sorted by it."""
    groups: dict[str, list[Score]] = defaultdict(list)
    for score in scores:
        groups[key(score)].append(score)
    return dict(sorted(groups.items()))


def worst(scores: Iterable[Score], most: int) -> list[Score]:
    """Rows by falling distance |log(predicted / measured)|, so that half and double count alike."""
    return sorted(scores, key=lambda score: max(score.ratio, 1.0 / score.ratio), reverse=True)[:most]


def rank_correlation(scores: Iterable[Score]) -> float | None:
    """Mean Spearman coefficient over groups that share chip, model and device count.

    A group counts when it has at least three rows and its measured values are not all equal; None without one.
    """
    groups: dict[tuple[str, str, int | None], list[Score]] = defaultdict(list)
    for score in scores:
        if score.model and score.n_devices is not None:
            groups[score.chip, score.model, score.n_devices].append(score)
    coefficients = []
    for group in groups.values():
        measured = np.array([score.measured for score in group])
        if len(group) >= _SMALLEST_RANK_GROUP and np.ptp(measured) > 0.0:
            coefficients.append(spearman(measured, np.array([score.predicted for score in group])))
    return float(np.mean(coefficients)) if coefficients else None


def spearman(first: Array, second: Array) -> float:
    """Spearman's rho: Pearson correlation of mean ranks. 0 when one side does not vary (it orders nothing)."""
    a, b = ranks(first), ranks(second)
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0.0 else 0.0


def ranks(values: Array) -> Array:
    """Ranks from 1; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts).astype(np.float64)
    shared: Array = last - (counts - 1) / 2.0
    return shared[inverse.reshape(-1)]
