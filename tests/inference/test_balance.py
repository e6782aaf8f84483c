"""Expert balance against a Monte-Carlo draw."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.inference.balance import rank_skew, touched_experts
from supertwin.workload.balance import expected_maximum


def test_expected_maximum_matches_draws() -> None:
    rng = np.random.default_rng(1)
    assert expected_maximum(2) == pytest.approx(1.0 / np.sqrt(np.pi), rel=0.05)
    for n in (8, 64, 320):
        drawn = rng.standard_normal((4000, n)).max(axis=1).mean()
        assert expected_maximum(n) == pytest.approx(drawn, rel=0.02)


def test_draw_term_matches_multinomial_routing() -> None:
    """With equally popular experts only the multinomial draw is left; compare with simulated routing."""
    rng = np.random.default_rng(2)
    ranks, experts, rows = 32, 32, 200.0
    counts = rng.multinomial(int(rows * ranks), np.full(ranks, 1.0 / ranks), size=2000)
    drawn = counts.max(axis=1).mean() / rows
    natural = rank_skew(rows, ranks, experts)
    only_draw = 1.0 + expected_maximum(ranks) * np.sqrt(1.0 / rows)
    assert only_draw == pytest.approx(drawn, rel=0.02)
    assert natural > drawn


@settings(max_examples=60, deadline=None)
@given(st.floats(1, 1e6), st.integers(2, 320), st.integers(1, 64))
def test_skew_is_bounded_and_falls_with_replicas(rows: float, ranks: int, redundant: int) -> None:
    experts = max(ranks, 256)
    plain, replicated = rank_skew(rows, ranks, experts), rank_skew(rows, ranks, experts, redundant)
    assert 1.0 <= replicated <= plain <= ranks
    assert rank_skew(rows, ranks, experts, balance="perfect") == 1.0


def test_touched_experts_matches_draws() -> None:
    rng = np.random.default_rng(3)
    picks = np.argsort(rng.random((3000, 16, 64)), axis=2)[:, :, :4].reshape(3000, -1)
    distinct = np.mean([np.unique(p).size for p in picks])
    assert touched_experts(16.0, 64.0, 4.0) == pytest.approx(distinct, rel=0.01)
