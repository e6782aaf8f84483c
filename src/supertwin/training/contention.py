"""What communication beside compute costs the compute."""

from __future__ import annotations

from supertwin.machine.chip import Chip
from supertwin.training import assumptions as assume

_PERSISTENT = ("hopper", "blackwell")


def persistent(chip: Chip) -> bool:
    """Whether the chip's library runs products as one block per SM that works through its tiles in fixed order. Beside
    a collective of C seconds one of T then takes T + min(C, T): the blocks that find no SM start when the collective or
    the first blocks end, and do all of their share (CUTLASS, Blackwell Cluster Launch Control, Static Scheduler)."""
    return chip.vendor == "nvidia" and chip.architecture.startswith(_PERSISTENT)


def collective_loss(chip: Chip) -> float:
    """Compute time that each second of a collective costs that is longer than the products beside it."""
    if chip.vendor == "nvidia":
        return (assume.OVERLAP_PERSISTENT_LOSS if persistent(chip) else assume.OVERLAP_AMPERE_LOSS).value
    return assume.OVERLAP_COMPUTE_LOSS.value if chip.vendor == "amd" else 0.0


def brief_loss(chip: Chip) -> float:
    """Likewise of a collective that is shorter than the product beside it."""
    return 1.0 if persistent(chip) else collective_loss(chip)


def reserved_loss(chip: Chip) -> float:
    """Likewise of communication kernels to which the products beside them leave cores."""
    return assume.OVERLAP_COMPUTE_LOSS.value if chip.vendor in ("nvidia", "amd") else 0.0


def lost_s(hidden_s: float, longer_s: float, loss: float) -> float:
    """Compute time that communication beside it costs beyond what the rest of the communication covers.

    Communication of R = hidden + longer seconds beside w = hidden seconds of compute that loses `loss` seconds in each
    of them: both have ended after max(R, w + loss R), which is `longer` and this beyond w.
    """
    return max(loss * (hidden_s + longer_s) - longer_s, 0.0)
