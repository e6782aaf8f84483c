"""Claims about running the machine: card-hours per day."""

from __future__ import annotations

from collections.abc import Callable

from supertwin.claims.result import DEPENDS, Verdict
from supertwin.machine import load_system

# Huawei, June 2025: availability of a 10,000-card cluster (operations.csv, dossier of CM384 section 5.2).
AVAILABILITY = 0.98


def card_hours() -> Verdict:
    """C10: 10,000 card-hours of training per day."""
    packages = load_system("cm384").counts["npu_packages"]
    ideal = packages * 24.0
    real = ideal * AVAILABILITY
    return Verdict(
        f"{real:.0f} package-hours per day of one supernode ({2 * real:.0f} die-hours)",
        DEPENDS,
        f"384 packages x 24 h = {ideal:.0f} at best, {real:.0f} at the published 98 % availability;"
        f" 10,000 is met when dies are counted as cards, or with {10_000 / real:.2f} supernodes;"
        " `supertwin cluster` will add goodput",
        ("huawei-availability-2025",),
        real,
        "depends on what counts as a card",
    )


ANSWERS: dict[str, Callable[[], Verdict]] = {"C10": card_hours}
