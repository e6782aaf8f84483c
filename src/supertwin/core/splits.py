"""xAyF: attention and feed-forward instances of a split deployment, in words."""

from __future__ import annotations

import re

MOST_INSTANCES = 4096
_SPLIT = re.compile(r"([0-9]{1,5})[aA]([0-9]{1,5})[fF]")


def split_of(text: str) -> tuple[int, int] | None:
    """(x, y) of xAyF with 1 to MOST_INSTANCES of each; None for anything else."""
    match = _SPLIT.fullmatch(text.strip())
    found = (int(match[1]), int(match[2])) if match is not None else (0, 0)
    return found if all(1 <= n <= MOST_INSTANCES for n in found) else None
