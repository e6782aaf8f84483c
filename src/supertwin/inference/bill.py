"""Power, energy and money of a step."""

from __future__ import annotations

from supertwin.core.prediction import Bill
from supertwin.machine.system import System


def bill_of(system: System, devices: int, tokens_per_s_per_device: float, compute_use: float, memory_use: float) -> Bill:
    """Bill of `devices` of the system at the given use of compute and memory bandwidth (0..1)."""
    return Bill(None, None, None)
