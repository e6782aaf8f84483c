"""Operand traffic: what comes from memory, what is still in L2."""

from __future__ import annotations

import numpy as np

from supertwin.cost.surface import Array
from supertwin.machine.chip import Chip

_SHARPNESS = (
    4.0  # assumption: how fast residency falls once the working set passes the L2 (4: 6 % left at twice its size)
)


def resident_share(bytes_in_use: Array, l2_bytes: float) -> Array:
    """Share of a working set that is found in L2 on its next use: near 1 well below the L2, near 0 well above it."""
    return np.asarray(1.0 / (1.0 + (bytes_in_use / l2_bytes) ** _SHARPNESS))


def transfer_time_s(chip: Chip, bytes_moved: Array, share_in_l2: Array, efficiency: Array | float) -> Array:
    """Seconds to move bytes, a share of which comes from L2; efficiency is the achieved share of the memory peak."""
    from_memory = 1.0 / (chip.memory_bytes_per_s * efficiency)
    from_l2 = 1.0 / (max(chip.l2_bytes_per_s, chip.memory_bytes_per_s) * efficiency)
    return np.asarray(bytes_moved * (share_in_l2 * from_l2 + (1.0 - share_in_l2) * from_memory))


def smooth_maximum(first: Array, second: Array, sharpness: Array | float) -> Array:
    """(a^p + b^p)^(1/p): two overlapping resources; p large is the plain maximum, p = 1 the sum."""
    large = np.maximum(np.maximum(first, second), 1e-15)
    return np.asarray(large * ((first / large) ** sharpness + (second / large) ** sharpness) ** (1.0 / sharpness))
