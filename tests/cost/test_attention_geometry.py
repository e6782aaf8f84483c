"""Counts of attention against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.cost.geometry import Shape, attention_flop, keys_touched, pairs_per_head, tile_queries


def shape(q_len: int, prefix: int, window: int = 0, heads: int = 1) -> Shape:
    fields = (1.0, q_len, q_len + prefix, heads, 1.0, 128.0, 128.0, window)
    return Shape(*(np.asarray(x, dtype=np.float64) for x in fields))


lengths = st.integers(1, 200)
windows = st.integers(0, 250)


@given(q_len=lengths, prefix=st.integers(0, 200), window=windows)
@settings(max_examples=150, deadline=None)
def test_causal_pairs_match_a_mask(q_len: int, prefix: int, window: int) -> None:
    key = np.arange(q_len + prefix)
    query = prefix + np.arange(q_len)[:, None]
    mask = key <= query
    if window:
        mask &= key > query - window
    assert pairs_per_head(shape(q_len, prefix, window), causal=True) == mask.sum()
    seen = mask.any(axis=0).sum()
    assert keys_touched(shape(q_len, prefix, window)) == pytest.approx(seen)


@given(q_len=lengths, prefix=st.integers(0, 200), rows=st.sampled_from([16, 64, 128]))
@settings(max_examples=100, deadline=None)
def test_causal_tiles_match_a_loop(q_len: int, prefix: int, rows: int) -> None:
    ends = [prefix + min((i + 1) * rows, q_len) for i in range(-(-q_len // rows))]
    tiling = tile_queries(shape(q_len, prefix), True, rows, 0.0)
    assert tiling.blocks == len(ends)
    assert tiling.mean_keys == pytest.approx(np.mean(ends))
    assert tiling.longest_keys == max(ends)


def test_window_tiles_see_the_window_and_their_own_rows() -> None:
    tiling = tile_queries(shape(4096, 0, window=128), True, 64.0, 0.0)
    assert tiling.longest_keys == 128 + 64
    assert tiling.mean_keys < 128 + 64
    assert tiling.mean_keys > 0.95 * (128 + 64)


def test_full_mask_counts_every_pair() -> None:
    assert pairs_per_head(shape(64, 0), causal=False) == 64 * 64
    # FlashAttention counts 4 S^2 d per head without, half of it with the causal mask (arXiv 2307.08691, section 4.1)
    long = shape(16384, 0)
    assert attention_flop(long, causal=False) == 4 * 16384**2 * 128
    assert attention_flop(long, causal=True) == pytest.approx(2 * 16384**2 * 128, rel=1e-4)


def test_arrays_equal_scalars() -> None:
    q = np.array([1.0, 100.0, 513.0])
    fields = (np.ones(3), q, q + 7.0, np.ones(3), np.ones(3), np.full(3, 64.0), np.full(3, 64.0), np.full(3, 32.0))
    together = pairs_per_head(Shape(*fields), causal=True)
    assert together.tolist() == [float(pairs_per_head(shape(int(x), 7, 32), causal=True)) for x in q]
