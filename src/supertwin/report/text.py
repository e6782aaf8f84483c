"""Numbers and bars as text."""

from __future__ import annotations

_DECIMAL = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_TIME = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
UNKNOWN = "-"


def si(value: float | None, unit: str, digits: int = 4) -> str:
    """A value with a decimal prefix: 1.6e12, 'B/s' -> '1.6 TB/s'; '-' when unknown."""
    if value is None:
        return UNKNOWN
    if value == 0.0:
        return f"0 {unit}"
    for scale, prefix in _DECIMAL:
        if abs(value) >= scale:
            return f"{_significant(value / scale, digits)} {prefix}{unit}"
    return f"{value:.{digits}g} {unit}"


def gib(value: float | None) -> str:
    """Memory in binary units, as memory is built: 64 GiB, 1.5 TiB."""
    if value is None:
        return UNKNOWN
    scale, unit = (2.0**40, "TiB") if value >= 2.0**40 else (2.0**30, "GiB") if value >= 2.0**30 else (2.0**20, "MiB")
    return f"{_significant(value / scale, 4)} {unit}"


def seconds(value: float | None) -> str:
    """A duration in s, ms, us or ns."""
    if value is None:
        return UNKNOWN
    for scale, unit in _TIME:
        if abs(value) >= scale:
            return f"{_significant(value / scale, 4)} {unit}"
    return "0 s" if value == 0.0 else f"{value * 1e9:.3g} ns"


def number(value: float | None, digits: int = 4) -> str:
    """A plain number with thousands separators and about `digits` significant digits."""
    return UNKNOWN if value is None else _significant(value, digits)


def whole(value: float) -> int | float:
    """A count as an integer, for JSON; anything that is not whole stays as it is."""
    return int(value) if float(value).is_integer() and abs(value) < 2**53 else value


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction as per cent."""
    return UNKNOWN if fraction is None else f"{100.0 * fraction:.{digits}f} %"


def usd(value: float | None) -> str:
    """Money."""
    return UNKNOWN if value is None else f"${_significant(value, 4)}"


def bar(share: float, width: int) -> str:
    """A horizontal bar of up to `width` columns; anything above zero shows at least a sliver."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    if share > 0.0:
        eighths = max(1, eighths)
    full, rest = divmod(eighths, 8)
    return "█" * full + ("▏▎▍▌▋▊▉"[rest - 1] if rest else "")


def _significant(value: float, digits: int) -> str:
    whole = len(str(int(abs(value)))) if abs(value) >= 1.0 else 0
    if abs(value) < 1.0:
        return f"{value:.{max(digits - 1, 1)}g}"
    text = f"{value:,.{max(0, digits - whole)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
