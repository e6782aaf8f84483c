"""Error statistics against scipy and against numbers worked out by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from supertwin.validation.outcome import Score
from supertwin.validation.statistics import by_key, by_metric, rank_correlation, spearman, summarize

VALUES = st.lists(st.tuples(st.integers(-8, 8), st.integers(-8, 8)), min_size=3, max_size=40)


def score(measured: float, predicted: float, **fields: object) -> Score:
    values: dict[str, object] = {"low": 0.9 * predicted, "high": 1.1 * predicted, "chip": "h100-sxm", **fields}
    return Score("x", "training", "tokens_per_s_per_device", measured, predicted, **values)  # type: ignore[arg-type]


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_spearman_agrees_with_scipy(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs, dtype=float).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = stats.spearmanr(first, second).statistic
    assert spearman(first, second) == pytest.approx(0.0 if np.isnan(expected) else expected, abs=1e-12)


def test_summary_worked_out_by_hand() -> None:
    summary = summarize([score(100.0, p) for p in (100.0, 108.0, 80.0, 150.0)])
    assert summary.n == 4
    assert summary.median_ape == pytest.approx(0.14)
    assert summary.mean_ape == pytest.approx(0.195)
    assert summary.p90_ape == pytest.approx(0.41)
    assert summary.bias == pytest.approx(0.04)
    assert summary.within_10 == 0.5
    assert summary.within_25 == 0.75
    assert summary.interval_coverage == 0.5
    assert summary.rank_correlation is None


def test_rank_correlation_is_the_mean_over_groups() -> None:
    group = {"model": "m", "n_devices": 8}
    up = [score(m, p, **group) for m, p in ((1.0, 5.0), (2.0, 6.0), (3.0, 9.0))]
    down = [score(m, p, **{**group, "n_devices": 16}) for m, p in ((1.0, 9.0), (2.0, 6.0), (3.0, 5.0))]
    small = [score(1.0, 2.0, **{**group, "n_devices": 32}), score(2.0, 1.0, **{**group, "n_devices": 32})]
    unknown = [score(m, p, model="m", n_devices=None) for m, p in ((1.0, 9.0), (2.0, 6.0), (3.0, 5.0))]
    assert rank_correlation(up) == pytest.approx(1.0)
    assert rank_correlation(up + down + small + unknown) == pytest.approx(0.0)
    assert rank_correlation(small) is None


def test_a_constant_prediction_orders_nothing() -> None:
    group = [score(m, 5.0, model="m", n_devices=8) for m in (1.0, 2.0, 3.0)]
    assert rank_correlation(group) == 0.0


def test_groups_are_apart() -> None:
    scores = [score(1.0, 1.0, chip="a"), score(1.0, 2.0, chip="b"), score(1.0, 4.0, chip="")]
    grouped = by_key(scores, lambda s: s.chip)
    assert list(grouped) == ["a", "b"]
    assert grouped["b"]["tokens_per_s_per_device"].bias == pytest.approx(1.0)
    assert by_metric(scores)["tokens_per_s_per_device"].n == 3
    with pytest.raises(ValueError, match="no rows"):
        summarize([])
