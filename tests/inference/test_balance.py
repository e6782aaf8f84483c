"""Expert balance against a Monte-Carlo draw and published routing statistics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.inference.assumptions import POPULARITY_CV
from supertwin.inference.balance import Slots, rank_skew
from supertwin.workload.balance import expected_maximum


def test_expected_maximum_matches_draws() -> None:
    rng = np.random.default_rng(1)
    assert expected_maximum(2) == pytest.approx(1.0 / np.sqrt(np.pi), rel=0.05)
    for n in (8, 64, 320):
        drawn = rng.standard_normal((4000, n)).max(axis=1).mean()
        assert expected_maximum(n) == pytest.approx(drawn, rel=0.02)


def test_busiest_rank_of_tensorrt_llm() -> None:
    # examples/wide_ep/ep_load_balancer, DeepSeek-R1: hottest rank 1.564 above the mean on 32 ranks without a balancer,
    # 0.115 with 32 replicas on 36. The spread over ranks enters the constants, the busiest rank does not.
    assert rank_skew(1024.0, Slots(32, 256)) == pytest.approx(2.564, rel=0.12)
    assert rank_skew(1024.0, Slots(36, 256, 32, rebalanced=True)) == pytest.approx(1.115, rel=0.01)


def test_busiest_rank_of_a_recorded_placement() -> None:
    """SGLang on GB200, 48 ranks (shifangx/Scripts-SGLang): experts and the sending half of combine take 402 us on two
    ranks and their receiving halves wait 167 us for the last of 48 (the run without overlap). The spread over layers
    enters the constant, the wait does not."""
    assert rank_skew(8192.0, Slots(48, 256, 32)) == pytest.approx(1.0 + 167.0 / 402.0, rel=0.03)


@pytest.mark.parametrize(("ranks", "experts", "rows"), [(8, 256, 2048.0), (32, 256, 4096.0), (64, 256, 1024.0)])
def test_popularity_matches_simulated_routing(ranks: int, experts: int, rows: float) -> None:
    """Log-normal experts in random order on the ranks, tokens drawn by their popularity."""
    rng = np.random.default_rng(2)
    sigma = np.sqrt(np.log1p(POPULARITY_CV**2))
    busiest = []
    for _ in range(400):
        popularity = rng.lognormal(0.0, sigma, experts)
        counts = rng.multinomial(int(rows * ranks), popularity / popularity.sum())
        busiest.append(counts.reshape(ranks, -1).sum(axis=1).max() / rows)
    assert rank_skew(rows, Slots(ranks, experts)) == pytest.approx(np.mean(busiest), rel=0.12)


def test_draw_alone_matches_multinomial_routing() -> None:
    rng = np.random.default_rng(3)
    counts = rng.multinomial(200 * 32, np.full(32, 1.0 / 32), size=2000)
    rebalanced = rank_skew(200.0, Slots(32, 32 * 10**6, 1))  # so many slots that only the draw is left
    assert rebalanced == pytest.approx(counts.max(axis=1).mean() / 200.0, rel=0.02)


@settings(max_examples=60, deadline=None)
@given(st.floats(1, 1e6), st.integers(2, 320), st.integers(1, 64), st.floats(1, 1e5))
def test_skew_is_bounded_and_falls_with_replicas_and_prompts(
    rows: float, ranks: int, redundant: int, prompts: float
) -> None:
    experts = max(ranks, 256)
    plain, replicated = rank_skew(rows, Slots(ranks, experts)), rank_skew(rows, Slots(ranks, experts, redundant))
    assert 1.0 <= replicated <= plain <= ranks
    few = rank_skew(rows, Slots(ranks, experts, redundant), prompts=prompts)
    assert few >= rank_skew(rows, Slots(ranks, experts, redundant), prompts=2.0 * prompts) >= 1.0
    assert rank_skew(rows, Slots(ranks, experts), balance="perfect") == 1.0
