"""Claims about running the machine: card-hours per day."""

from __future__ import annotations

from collections.abc import Callable

from supertwin.claims.result import DEPENDS, Verdict
from supertwin.machine import load_system
from supertwin.scenarios import run_scenario
from supertwin.training.run_bill import run_bill

# Huawei, June 2025: availability of a 10,000-card cluster (operations.csv, dossier of CM384 section 5.2).
AVAILABILITY = 0.98
CLAIMED = 10_000.0


def card_hours() -> Verdict:
    """C10: 10,000 card-hours of training per day."""
    packages = load_system("cm384").counts["npu_packages"]
    ideal = packages * 24.0
    real = ideal * AVAILABILITY
    job = run_scenario("pangu-ultra-135b", system="cm384:768", dp=12, global_batch=2040).prediction
    run = run_bill(job, 1e12)
    low, high = run.days_range
    billions = run.tokens_per_day * AVAILABILITY / 1e9
    return Verdict(
        f"{real:.0f} package-hours per day of one supernode ({2 * real:.0f} die-hours)",
        DEPENDS,
        f"384 packages x 24 h = {ideal:.0f} at best, {real:.0f} at the published 98 % availability;"
        f" 10,000 is met when dies are counted as cards, or with {CLAIMED / real:.2f} supernodes. A day of"
        f" one supernode trains a 135B dense model on {billions:.0f} billion tokens; a trillion take"
        f" {run.days / AVAILABILITY:.0f} days ({low / AVAILABILITY:.0f} to {high / AVAILABILITY:.0f});"
        " `supertwin cluster` will add goodput",
        ("huawei-availability-2025", "pangu-ultra"),
        real,
        "depends on what counts as a card",
        real,
        2.0 * real,
    )


ANSWERS: dict[str, Callable[[], Verdict]] = {"C10": card_hours}
