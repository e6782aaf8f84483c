"""Intervals: quantiles of known samples, fallbacks, and coverage of rows that the intervals have not seen."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supertwin.core.conformal import quantiles, quantiles_by_source
from supertwin.core.prediction import Part
from supertwin.core.regimes import LEAST_FACTOR, LEAST_ROWS, Regimes, Scored, measure, render
from supertwin.training.uncertainty import interval, step_sigma
from supertwin.validation import tables
from supertwin.validation.intervals import by_new_source, coverage_table, cross_validated, training_scores

OWN, WIDE = Regimes(("time/a/b",), ("time/a", "time")), Regimes(("time/a/c",), ("time/a", "time"))


def test_order_statistics_of_a_hundred_rows() -> None:
    # rank floor(101 x 0.05) = 5 from either end
    assert quantiles([float(i) for i in range(1, 101)]) == (5.0, 96.0)


def test_few_rows_give_their_extremes() -> None:
    assert quantiles([3.0, 1.0, 2.0]) == (1.0, 3.0)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=200))
def test_equal_weights_when_every_row_has_its_own_source(scores: list[float]) -> None:
    assert quantiles_by_source([(x, str(i)) for i, x in enumerate(scores)]) == quantiles(scores)


def test_a_large_source_does_not_hide_the_others() -> None:
    large = [(0.001 * i, "large") for i in range(1000)]
    small = [(5.0 + 0.1 * i, f"small {i}") for i in range(6)]
    assert quantiles([x for x, _ in (*large, *small)])[1] < 1.0
    assert quantiles_by_source([*large, *small])[1] > 5.0


def test_the_narrowest_known_regime_counts() -> None:
    known = {"time/a/b": (-1.0, 1.0), "time": (-3.0, 3.0)}
    assert interval(OWN, 0.2, known) == pytest.approx((math.exp(-0.2), math.exp(0.2)))
    assert interval(WIDE, 0.2, known) == pytest.approx((math.exp(-0.6), math.exp(0.6)))
    assert interval(WIDE, 0.2, {}) == pytest.approx((math.exp(-0.329), math.exp(0.329)))
    assert interval(OWN, 0.2, {"time/a/b": (0.5, 1.0)})[0] == 1.0 / LEAST_FACTOR  # holds its own prediction


def test_regimes_of_few_rows_are_left_out() -> None:
    rows = [Scored(OWN, 0.1 * i, 0.2, f"s{i % 6}", "t") for i in range(LEAST_ROWS)]
    assert set(measure(rows)) == {"time/a/b", "time/a", "time"}
    assert set(measure(rows[:-1])) == {"time"}
    assert '"time/a/b"' in render(rows)


def test_sigma_grows_with_the_share_of_the_network() -> None:
    def step(share: float) -> list[Part]:
        return [Part("x", 1.0, 1.0 - share, "compute"), Part("y", 1.0, share, "network")]

    assert step_sigma(step(0.5)) > step_sigma(step(0.0))


@pytest.fixture(scope="module")
def scores() -> list[Scored]:
    """Every third row of the shipped table."""
    return training_scores(tables.load("training", None).rows[::3])


def test_rows_not_seen_lie_within_as_often_as_promised(scores: list[Scored]) -> None:
    found = cross_validated(scores)
    assert 0.85 <= found[""].share <= 0.95
    assert 0.85 <= found["tokens_per_s_per_device"].share <= 0.95
    for name, coverage in found.items():
        if coverage.n >= 60:  # 0.90 +- 0.11 is three standard deviations of 60 rows
            assert 0.79 <= coverage.share <= 1.0, name


def test_a_new_source_is_covered_less_but_is_covered(scores: list[Scored]) -> None:
    # what leaving the largest source out costs is printed in docs/training-bill.md; small sources keep their promise
    found = by_new_source(scores)
    small = [c for name, c in found.items() if "/" in name and c.n < 200]
    assert sum(c.share * c.n for c in small) / sum(c.n for c in small) >= 0.75


def test_the_table_of_the_page_lists_the_large_sources(scores: list[Scored]) -> None:
    lines = coverage_table(scores).splitlines()
    assert lines[2].startswith("| all | ")
    assert any(line.startswith("| vtrain | ") for line in lines)
    assert all(line.count("|") == 5 for line in lines)
