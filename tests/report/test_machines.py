"""`show` and `compare`: whole numbers, ranges, what the power stands on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.run import supertwin


def fields(*arguments: str) -> dict[str, Any]:
    result = supertwin(*arguments, "--json")
    assert result.code == 0, result.err
    return json.loads(result.out)  # type: ignore[no-any-return]


def row(compared: dict[str, Any], quantity: str) -> dict[str, Any]:
    return next(row for row in compared["rows"] if row["quantity"] == quantity)


def test_counts_and_prices_are_whole() -> None:
    shown = fields("show", "cm384")
    assert repr(shown["chips"]) == "384"
    assert all(isinstance(count, int) for count in shown["counts"].values())
    assert all(isinstance(part["count"], int) for part in shown["parts"])
    assert shown["price_usd"] == 8_200_000
    compared = row(fields("compare", "cm384", "dgx-h100"), "chips")
    assert [repr(value) for value in compared["values"]] == ["384", "8"]


def test_show_says_what_the_power_is() -> None:
    shown = fields("show", "cm384")
    assert shown["power_w"] == 559_000
    assert shown["component_maximum_w"] == pytest.approx(719e3, rel=0.01)
    text = " ".join(supertwin("show", "cm384").out.split())
    assert "559 kW full system as stated, its parts at most 719.2 kW, without cooling" in text


def test_compare_gives_the_range_of_the_readings() -> None:
    power = row(fields("compare", "cm384", "gb200-nvl72"), "power")
    assert power["unit"] == "W"
    assert (power["low"][0], power["values"][0], power["high"][0]) == (500_000, 559_000, 719_000)
    assert power["ratio_low"][1] == pytest.approx(120 / 719)
    assert power["ratio_high"][1] == pytest.approx(145 / 500)
    assert power["ratios"][0] == 1.0
    assert "semianalysis-cm384" in power["sources"][0]


def test_compare_prints_the_ranges_within_100_columns() -> None:
    text = supertwin("compare", "cm384", "gb200-nvl72", "dgx-h100").out
    assert "500 to 719 kW" in text
    assert "(0.17 to 0.29x)" in text
    assert max(map(len, text.splitlines())) <= 100


def test_refuted_readings_are_shown_as_such() -> None:
    text = supertwin("show", "cm384", "--explain").out
    assert "refuted" in text
    assert "not chosen" in text
