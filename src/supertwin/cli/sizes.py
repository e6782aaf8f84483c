"""Sizes on the command line: `1 GiB`, `64 KB`, `1000`, and lists of them."""

from __future__ import annotations

import difflib
import re

from supertwin.cli.options import shorten
from supertwin.core.errors import InputError
from supertwin.core.splits import MOST_INSTANCES, split_of

_FACTORS = {"": 1.0, "B": 1.0} | {
    prefix + unit: float(base**power)
    for unit, base in (("B", 1000), ("iB", 1024))
    for power, prefix in enumerate("KMGT", start=1)
}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z]*)")
_MOST_BYTES = 1e15
_MOST_SIZES = 64
_COUNTS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}
_COUNT = re.compile(r"([0-9]+(?:\.[0-9]*)?(?:[eE][0-9]{1,2})?)\s*([KMBGTkmbgt]?)")
_MOST = 1e18
_MOST_POINTS = 16


def parse_sizes(flag: str, text: str) -> list[float]:
    """Bytes of a comma-separated list. KB, MB, GB are powers of 1000, KiB, MiB, GiB of 1024, bare numbers bytes.

    Raises InputError.
    """
    words = text.split(",")
    if len(words) > _MOST_SIZES:
        raise InputError(f"{flag}: expected at most {_MOST_SIZES} sizes, got {len(words)}")
    return [_size(flag, word.strip()) for word in words]


def parse_count(flag: str, text: str) -> float:
    """A count of 1 or more: 13.2T, 500 B, 2e12; K, M, B (or G), T are powers of 1000. Raises InputError."""
    match = _COUNT.fullmatch(text.strip())
    if match is None or len(text) > 40 or not 1.0 <= (count := float(match[1]) * _COUNTS[match[2].upper()]) <= _MOST:
        raise InputError(f"{flag}: expected a count such as 13.2T, 500B or 2e12, got {shorten(text)!r}")
    return count


def parse_devices(flag: str, text: str) -> list[int]:
    """Numbers of devices, ascending and once each: 128,256,512. Raises InputError."""
    words = [word.strip() for word in text.split(",")]
    legal = all(word.isascii() and word.isdigit() and 1 <= len(word) <= 7 and int(word) > 0 for word in words)
    if not legal or len(words) > _MOST_POINTS:
        expected = f"up to {_MOST_POINTS} numbers of devices such as 128,256,512"
        raise InputError(f"{flag}: expected {expected}, got {shorten(text)!r}")
    return sorted({int(word) for word in words})


def parse_split(flag: str, text: str) -> tuple[int, int]:
    """(x, y) of xAyF: attention and feed-forward instances. Raises InputError."""
    found = split_of(text)
    if found is None:
        raise InputError(
            f"{flag}: expected xAyF with 1 to {MOST_INSTANCES} of each, such as 2A2F, got {shorten(text)!r}"
        )
    return found


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
