"""Neighbouring sizes in a search over layouts."""

from __future__ import annotations

from collections.abc import Iterator


def twice_and_half(size: int) -> Iterator[int]:
    """Twice the size, and half of it where that is whole."""
    yield 2 * size
    if size % 2 == 0:
        yield size // 2
