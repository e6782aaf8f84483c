"""The unit parser: every unit once, every ambiguity refused, never anything but InputError."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supertwin.core.errors import InputError
from supertwin.core.units import UNITS, format_quantity, parse_quantity


@pytest.mark.parametrize(
    ("text", "value", "dimension"),
    [
        ("1.6 TB/s", 1.6e12, "bytes_per_s"),
        ("1.6 TiB/s", 1.6 * 1024**4, "bytes_per_s"),
        ("64 GiB", 64 * 2**30, "bytes"),
        ("64 GB", 64e9, "bytes"),
        ("64 Gb", 8e9, "bytes"),
        ("200 Gb/s", 25e9, "bytes_per_s"),
        ("376 TFLOP/s", 376e12, "flop_per_s"),
        ("1.504 POP/s", 1.504e15, "flop_per_s"),
        ("1.9 us", 1.9e-6, "s"),
        ("4 years", 4 * 365.25 * 86400, "s"),
        ("1.8 GHz", 1.8e9, "hz"),
        ("559 kW", 559e3, "w"),
        ("1 kWh", 3.6e6, "j"),
        ("8.2 MUSD", 8.2e6, "usd"),
        ("0.08 USD/kWh", 0.08 / 3.6e6, "usd_per_j"),
        ("24 cores", 24, "count"),
        ("80 %", 0.8, "ratio"),
        ("2e3 W", 2000, "w"),
    ],
)
def test_reads_exactly(text: str, value: float, dimension: str) -> None:
    quantity = parse_quantity(text)
    assert quantity.value == pytest.approx(value, rel=1e-15)
    assert quantity.dimension == dimension


@pytest.mark.parametrize(
    "text",
    [
        *("1.6 T", "64 G", "64", "1.6TB/s", "512 KB", "5 TFLOPS", "400 Gbps", "1 m", "64 gb", "-1 GB", "-0 GB"),
        *("nan GB", "inf GB", "1e9999 GB", "1,504 TB", "1_0 GB", "", " ", "GB", "1 GB GB", "0x10 B", "١ GB", "1 GB\n"),
        *(None, 64, 1.6, True, ["1 GB"], {}),
    ],
)
def test_refuses(text: object) -> None:
    with pytest.raises(InputError) as caught:
        parse_quantity(text)
    assert len(str(caught.value)) > 15


def test_ambiguity_is_named() -> None:
    with pytest.raises(InputError, match="ambiguous"):
        parse_quantity("1.6 T")
    with pytest.raises(InputError, match="kB is 1000 bytes"):
        parse_quantity("512 KB")
    with pytest.raises(InputError, match="TFLOP/s"):
        parse_quantity("5 TFLOPS")


def test_wrong_dimension_is_refused() -> None:
    with pytest.raises(InputError, match="expected bytes_per_s"):
        parse_quantity("64 GB", "bytes_per_s")


@given(st.text(max_size=40), st.sampled_from([None, "bytes", "s"]))
def test_any_text_is_a_quantity_or_an_input_error(text: str, dimension: str | None) -> None:
    try:
        quantity = parse_quantity(text, dimension)
    except InputError:
        return
    assert math.isfinite(quantity.value)
    assert quantity.value >= 0
    assert quantity.unit in UNITS


@given(st.floats(0, 1e30), st.sampled_from(sorted(UNITS)))
def test_number_and_unit_always_read_back(number: float, unit: str) -> None:
    factor, dimension = UNITS[unit]
    quantity = parse_quantity(f"{number!r} {unit}")
    assert quantity.value == pytest.approx(number * factor, rel=1e-12)
    assert quantity[1:] == (unit, dimension)


def test_decimal_values_are_exact() -> None:
    assert parse_quantity("8.2 MUSD").value == 8_200_000
    assert parse_quantity("4.39 kUSD").value == 4_390
    assert parse_quantity("1.1 TB/s").value == 1.1e12


@given(
    st.floats(1e-9, 1e18),
    st.sampled_from(["bytes", "bytes_per_s", "flop_per_s", "flop_per_j", "s", "w", "j", "hz", "usd"]),
)
def test_display_keeps_the_value(value: float, dimension: str) -> None:
    shown = parse_quantity(format_quantity(value, dimension).replace(",", ""), dimension)
    assert shown.value == pytest.approx(value, rel=2e-3) or value < 1e-3


def test_display() -> None:
    assert format_quantity(1.6e12, "bytes_per_s") == "1.6 TB/s"
    assert format_quantity(719e3, "w") == "719 kW"
    assert format_quantity(1.9e-6, "s") == "1.9 us"
    assert format_quantity(6912, "count") == "6,912"
    assert format_quantity(0, "bytes") == "0 B"
    with pytest.raises(InputError):
        format_quantity(1.0, "furlongs")
