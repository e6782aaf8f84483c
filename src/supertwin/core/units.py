"""Values with units: the one strict parser of the catalogue.

A quantity is a decimal number, a space and one unit of a closed list: "1.6 TB/s", "64 GiB", "376 TFLOP/s", "1.9 us".
Decimal prefixes are powers of 1000 (TB = 1e12 bytes), binary ones powers of 1024 (GiB = 2**30); b is a bit, B a byte.
Everything that could be read in two ways is refused: "1.6 T", "64 G", "512 KB", "5 TFLOPS", a number without a unit.
"""

from __future__ import annotations

import difflib
import math
import re
from decimal import Decimal
from typing import NamedTuple

from supertwin.core.errors import InputError

_DECIMAL = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}
_HOUR_S = 3600.0
_YEAR_S = 365.25 * 24 * _HOUR_S

COUNT_NOUNS = [
    "chips",
    "cores",
    "devices",
    "dies",
    "dimms",
    "fibres",
    "links",
    "modules",
    "nodes",
    "packages",
    "parts",
    "planes",
    "ports",
    "racks",
    "switches",
]


def _unit_table() -> dict[str, tuple[float, str]]:
    """Unit -> (factor to SI, dimension)."""
    table: dict[str, tuple[float, str]] = {}
    for prefix, factor in _DECIMAL.items():
        table[f"{prefix}B"] = (factor, "bytes")
        table[f"{prefix}b"] = (factor / 8.0, "bytes")
        table[f"{prefix}B/s"] = (factor, "bytes_per_s")
        table[f"{prefix}b/s"] = (factor / 8.0, "bytes_per_s")
        table[f"{prefix}FLOP/s"] = (factor, "flop_per_s")
        table[f"{prefix}OP/s"] = (factor, "flop_per_s")
        table[f"{prefix}Hz"] = (factor, "hz")
        table[f"{prefix}W"] = (factor, "w")
        table[f"{prefix}J"] = (factor, "j")
        table[f"{prefix}FLOP/J"] = (factor, "flop_per_j")
        table[f"{prefix}Wh"] = (factor * _HOUR_S, "j")
    for prefix, factor in _BINARY.items():
        table[f"{prefix}B"] = (factor, "bytes")
        table[f"{prefix}B/s"] = (factor, "bytes_per_s")
    times = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": _HOUR_S, "years": _YEAR_S}
    table.update({unit: (factor, "s") for unit, factor in times.items()})
    table.update({unit: (factor, "usd") for unit, factor in {"USD": 1.0, "kUSD": 1e3, "MUSD": 1e6}.items()})
    table["USD/h"] = (1.0 / _HOUR_S, "usd_per_s")
    table["USD/kWh"] = (1.0 / (1e3 * _HOUR_S), "usd_per_j")
    table["x"] = (1.0, "ratio")
    table["%"] = (0.01, "ratio")
    table.update(dict.fromkeys(COUNT_NOUNS, (1.0, "count")))
    return table


UNITS = _unit_table()
SI_UNITS = {
    "bytes": "B",
    "bytes_per_s": "B/s",
    "flop_per_s": "FLOP/s",
    "flop_per_j": "FLOP/J",
    "hz": "Hz",
    "w": "W",
    "j": "J",
    "s": "s",
    "usd": "USD",
    "usd_per_s": "USD/s",
    "usd_per_j": "USD/J",
    "ratio": "",
    "count": "",
}
DIMENSIONS = frozenset(dimension for _, dimension in UNITS.values())

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_AMBIGUOUS = {
    **dict.fromkeys(("k", "K", "M", "G", "T", "P", "E"), "bytes, bits, operations or a bare factor?"),
    **dict.fromkeys(_BINARY, "bytes or bits?"),
    "KB": "kB is 1000 bytes, KiB is 1024 bytes",
    "KB/s": "kB/s is 1000 bytes per second, KiB/s is 1024",
    "Kb": "kb is 1000 bits",
    "m": "minutes are min, milliseconds ms",
}


class Quantity(NamedTuple):
    """A parsed value: SI number, the unit as written, and its dimension (bytes, bytes_per_s, flop_per_s, s, w ...)."""

    value: float
    unit: str
    dimension: str


def parse_quantity(text: object, dimension: str | None = None) -> Quantity:
    """Read "1.6 TB/s" -> Quantity(1.6e12, "TB/s", "bytes_per_s").

    dimension: when given, any other one is refused. Raises InputError; zero is legal, negative and infinite are not.
    """
    if not isinstance(text, str):
        raise InputError(f"{_shown(text)} has no unit; expected text such as {_example(dimension)}")
    match = _NUMBER.match(text)
    if match is None:
        raise InputError(f"{_shown(text)} is not a number with a unit; expected text such as {_example(dimension)}")
    rest = text[match.end() :]
    unit = rest.strip(" ")
    if not unit:
        raise InputError(f"{_shown(text)} has no unit; expected text such as {_example(dimension)}")
    if not rest.startswith(" "):
        raise InputError(
            f"{_shown(text)}: expected one decimal number, a space and a unit, such as {_example(dimension)}"
        )
    factor, found = _factor(text, unit, dimension)
    value = float(Decimal(match.group()) * Decimal(factor))  # 8.2 MUSD is 8200000, not 8199999.999999999
    if not math.isfinite(value) or value < 0 or text.startswith("-"):
        raise InputError(f"{_shown(text)}: expected a finite number that is not negative")
    if dimension is not None and found != dimension:
        raise InputError(f"{_shown(text)} is in {found}; expected {dimension}, such as {_example(dimension)}")
    return Quantity(value, unit, found)


def format_quantity(value: float, dimension: str) -> str:
    """Short text of an SI value for people: 1.6e12 bytes_per_s -> "1.6 TB/s". Decimal prefixes, three digits."""
    if dimension not in DIMENSIONS:
        raise InputError(f"unknown dimension {dimension!r}; expected one of {', '.join(sorted(DIMENSIONS))}")
    if dimension == "s":
        return _with_scale(value, (("h", _HOUR_S), ("min", 60.0), ("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)))
    if dimension == "usd":
        return _with_scale(value, (("MUSD", 1e6), ("kUSD", 1e3), ("USD", 1.0)))
    if dimension == "usd_per_s":
        return f"{_digits(value * _HOUR_S)} USD/h"
    if dimension == "usd_per_j":
        return f"{_digits(value * 1e3 * _HOUR_S)} USD/kWh"
    if dimension == "ratio":
        return f"{_digits(value)} x"
    if dimension == "count":
        return f"{value:,.0f}" if float(value).is_integer() else _digits(value)
    base = SI_UNITS[dimension]
    return _with_scale(value, tuple((prefix + base, factor) for prefix, factor in reversed(_DECIMAL.items())))


def _factor(text: str, unit: str, dimension: str | None) -> tuple[float, str]:
    """Factor and dimension of a unit, or the sentence that says what to write instead."""
    if unit in UNITS:
        return UNITS[unit]
    if unit in _AMBIGUOUS:
        raise InputError(f"{_shown(text)}: unit {unit!r} is ambiguous ({_AMBIGUOUS[unit]})")
    near = difflib.get_close_matches(unit[:20], UNITS, n=3, cutoff=0.6)
    hint = f"did you mean {', '.join(near)}?" if near else f"expected a unit such as the one in {_example(dimension)}"
    raise InputError(f"{_shown(text)}: unknown unit {unit[:40]!r}; {hint}")


def _with_scale(value: float, scales: tuple[tuple[str, float], ...]) -> str:
    """The largest unit of which there is at least one; the smallest otherwise."""
    for unit, factor in scales:
        if abs(value) >= factor * 0.9995:
            return f"{_digits(value / factor)} {unit}"
    unit, factor = scales[-1]
    return f"{_digits(value / factor)} {unit}"


def _digits(value: float) -> str:
    """Four significant digits, without exponent for ordinary sizes."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.4g}"


def _shown(text: object) -> str:
    """What was given, short enough for one sentence."""
    shown = repr(text)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _example(dimension: str | None) -> str:
    """A legal text of the dimension."""
    examples = {
        "bytes": "'64 GiB'",
        "bytes_per_s": "'1.6 TB/s'",
        "flop_per_s": "'376 TFLOP/s'",
        "flop_per_j": "'1.2 TFLOP/J'",
        "hz": "'1.8 GHz'",
        "w": "'400 W'",
        "j": "'1 kWh'",
        "s": "'1.9 us'",
        "usd": "'8.2 MUSD'",
        "usd_per_s": "'2 USD/h'",
        "usd_per_j": "'0.08 USD/kWh'",
        "ratio": "'1.2 x'",
        "count": "'24 cores'",
    }
    return examples.get(dimension or "bytes_per_s", "'1.6 TB/s'")
