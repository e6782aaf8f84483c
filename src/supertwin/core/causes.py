"""A time taken apart into causes that add up to it, one after the other: the waterfall of a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_LEAST = 1e-9  # of the whole: what is shorter is left out


@dataclass(frozen=True, slots=True)
class Cause:
    """Seconds by one cause. bound: compute|memory|network|latency|bubble; reached: for kernels, the share of what the
    waterfall begins with (peak or roofline) that the class reaches, None for everything else."""

    time_s: float
    bound: str
    reached: float | None = None


@dataclass(frozen=True, slots=True)
class Rung:
    """A cause in its place. start_s: sum of the rungs before; share: of the whole."""

    part: str
    time_s: float
    start_s: float
    share: float
    bound: str
    reached: float | None = None


def stacked(found: Mapping[str, Cause], total_s: float) -> tuple[Rung, ...]:
    """Rungs in the order of the causes; they add up to total_s where the causes do."""
    out: list[Rung] = []
    start = 0.0
    for part, cause in found.items():
        if abs(cause.time_s) > _LEAST * total_s:
            out.append(Rung(part, cause.time_s, start, cause.time_s / total_s, cause.bound, cause.reached))
        start += cause.time_s
    return tuple(out)
