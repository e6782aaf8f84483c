"""Figures side by side: ranges over the open readings, order of the names."""

from __future__ import annotations

import pytest

from supertwin.machine import Cited, compare, load_chip, load_system, readings

PAIR = compare([load_system("cm384"), load_system("gb200-nvl72")])


def test_readings_leave_out_what_is_refuted() -> None:
    cited = load_chip("ascend-910c-die").cited["memory.bandwidth"]
    assert 0.9e12 in [other.value for other in cited.alternatives]
    assert 0.9e12 not in [reading.value for reading in readings(cited)]
    assert readings(cited)[0] is cited
    assert readings(Cited(1.0, "W", "x")) == (Cited(1.0, "W", "x"),)


def test_ranges_by_hand() -> None:
    """Power: 500 to 719 kW against 120 to 145 kW; price: 8.2 to 17.7 MUSD against 3 to 5 MUSD."""
    power, price = PAIR.to_first("power")[1], PAIR.to_first("price")[1]
    assert power is not None
    assert price is not None
    assert (power.value, power.low, power.high) == pytest.approx((145 / 559, 120 / 719, 145 / 500))
    assert (price.value, price.low, price.high) == pytest.approx((3 / 8.2, 3 / 17.7, 5 / 8.2))


def test_ratios_to_the_first_and_of_the_first_are_reciprocal() -> None:
    for name, figures in PAIR.figures:
        if None not in figures:
            there, back = PAIR.to_first(name)[1], PAIR.ratio(name, "gb200-nvl72")
            assert there is not None
            assert (there.value, there.low, there.high) == pytest.approx((1 / back.value, 1 / back.high, 1 / back.low))


def test_shared_readings_give_no_range() -> None:
    """Twice the same server is exactly twice as much, whichever reading of it is right."""
    pair = compare([load_system("dgx-h100:8"), load_system("dgx-h100:16")])
    for name in ("peak_bf16", "memory", "power", "price"):
        ratio = pair.to_first(name)[1]
        assert ratio is not None
        assert (ratio.low, ratio.value, ratio.high) == pytest.approx((2.0, 2.0, 2.0))


def test_a_figure_that_one_system_lacks_stands_beside_its_neighbours() -> None:
    names = [name for name, _ in PAIR.figures]
    assert names.index("peak_fp8") < names.index("memory")
    assert PAIR.to_first("peak_fp8") == (None, None)
