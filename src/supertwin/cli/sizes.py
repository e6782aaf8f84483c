"""Sizes on the command line: `1 GiB`, `64 KB`, `1000`, and lists of them."""

from __future__ import annotations

import difflib
import re

from supertwin.cli.options import shorten
from supertwin.core.errors import InputError

_FACTORS = {"": 1.0, "B": 1.0} | {
    prefix + unit: float(base**power)
    for unit, base in (("B", 1000), ("iB", 1024))
    for power, prefix in enumerate("KMGT", start=1)
}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z]*)")
_MOST_BYTES = 1e15
_MOST_SIZES = 64


def parse_sizes(flag: str, text: str) -> list[float]:
    """Bytes of a comma-separated list. KB, MB, GB are powers of 1000, KiB, MiB, GiB of 1024, bare numbers bytes.

    Raises InputError.
    """
    words = text.split(",")
    if len(words) > _MOST_SIZES:
        raise InputError(f"{flag}: expected at most {_MOST_SIZES} sizes, got {len(words)}")
    return [_size(flag, word.strip()) for word in words]


def _size(flag: str, word: str) -> float:
    match = _SIZE.fullmatch(word)
    expected = "a size such as '1 GiB', '64 KB' or 4096"
    if match is None or len(word) > 40:
        raise InputError(f"{flag}: expected {expected}, got {shorten(word)!r}")
    number, unit = match.groups()
    factor = _FACTORS.get("KB" if unit == "kB" else unit)
    if factor is None:
        near = difflib.get_close_matches(unit, [u for u in _FACTORS if u], n=3, cutoff=0.3)
        raise InputError(f"{flag}: unknown unit {shorten(unit)!r}; did you mean {', '.join(near) or 'KiB, MB, GiB'}?")
    size = float(number) * factor
    if not 1.0 <= size <= _MOST_BYTES:
        raise InputError(f"{flag}: expected {expected} of 1 byte to 1000 TB, got {shorten(word)!r}")
    return size
