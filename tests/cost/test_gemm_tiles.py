"""Tiles, waves and operand traffic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supertwin.cost import tiles
from supertwin.cost.memory import resident_share, smooth_maximum, transfer_time_s
from supertwin.cost.tiles import CoreRates, Extent, tile_scale, wave_time_s
from supertwin.machine.chips import load_chip

RATES = CoreRates(cores=132, flop_per_s=7e12, load_bytes_per_s=1e15, prologue_s=0.0, split_s=1.0, quantisation=1.0)


def extent(m: float, n: float, k: float) -> Extent:
    one = np.ones(1)
    return Extent(m * one, n * one, k * one, one, 2.0, 2.0)


def test_one_more_tile_than_cores_costs_a_second_wave() -> None:
    """132 tiles of 256 x 128 fill the cores once; one row more opens a wave (NVIDIA DU-09800, section 4)."""
    full = wave_time_s(extent(256 * 12, 128 * 11, 4096), RATES)[0]
    assert full == pytest.approx(2 * 256 * 128 * 4096 / 7e12)
    more = wave_time_s(extent(256 * 12 + 1, 128 * 11, 4096), RATES)[0]
    assert 1.02 * full < more <= 2 * full
    even = wave_time_s(extent(256 * 12 + 1, 128 * 11, 4096), replace(RATES, quantisation=0.0))[0]
    assert even < more


def test_splitting_the_contraction_helps_few_tiles() -> None:
    alone = wave_time_s(extent(64, 64, 65536), RATES)[0]
    split = wave_time_s(extent(64, 64, 65536), replace(RATES, split_s=0.0))[0]
    assert split == pytest.approx(alone / 8)


def test_long_arrays_match_short_ones() -> None:
    random = np.random.default_rng(0)
    m = random.integers(1, 9000, 20000).astype(float)
    many = wave_time_s(Extent(m, np.full_like(m, 777), np.full_like(m, 512), np.ones_like(m), 2.0, 2.0), RATES)
    for i in (0, 8191, 8192, 19999):
        assert many[i] == wave_time_s(extent(m[i], 777, 512), RATES)[0]


def test_large_cores_have_large_tiles() -> None:
    assert [tile_scale(load_chip(n)) for n in ("h100-sxm", "ascend-910c-die", "gaudi2", "ironwood-core")] == [
        1,
        1,
        4,
        4,
    ]


@given(st.floats(1e-9, 1e-2), st.floats(1e-9, 1e-2), st.floats(1.0, 30.0))
def test_smooth_maximum_lies_between_maximum_and_sum(a: float, b: float, p: float) -> None:
    found = float(smooth_maximum(np.float64(a), np.float64(b), p))
    assert max(a, b) * (1 - 1e-12) <= found <= (a + b) * (1 + 1e-12)


def test_what_fits_the_cache_is_not_read_from_memory() -> None:
    chip = load_chip("h100-sxm")
    assert resident_share(np.array([1e6, 1e9]), chip.l2_bytes) == pytest.approx([1.0, 0.0], abs=1e-4)
    cold, hot = (transfer_time_s(chip, np.array([1e6]), np.array([s]), 0.9)[0] for s in (0.0, 1.0))
    assert cold == pytest.approx(1e6 / (0.9 * chip.memory_bytes_per_s))
    assert hot == pytest.approx(1e6 / (0.9 * chip.l2_bytes_per_s))


def test_long_tables_are_priced_by_their_distinct_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that fill the same tiles stand for each other; the times stay those of every product alone."""
    rng = np.random.default_rng(0)
    m = np.concatenate([rng.uniform(1.0, most, 3000) for most in (300.0, 900.0, 20.0)])
    sizes = ((4096, 512, 4096), (7168, 128, 7168), (1, 64, 1))
    table = Extent(m, *(np.repeat(values, 3000).astype(float) for values in sizes), 1.0, 2.0)
    rates = CoreRates(132.0, 5e12, 2e10, 1e-6, 8e-7, 0.7)
    found = tiles._distinct(table, rates)
    assert found is not None
    assert len(found[0]) <= 19 + 57 + 2
    whole = wave_time_s(table, rates)
    monkeypatch.setattr(tiles, "_distinct", lambda *_: None)
    np.testing.assert_array_equal(whole, wave_time_s(table, rates))


def test_tables_of_unlike_products_are_priced_one_by_one() -> None:
    rng = np.random.default_rng(0)
    many = Extent(*(rng.uniform(1.0, 1e5, 5000) for _ in range(3)), np.ones(5000), 1.0, 2.0)
    assert tiles._distinct(many, CoreRates(132.0, 5e12, 2e10, 1e-6, 8e-7, 0.7)) is None
