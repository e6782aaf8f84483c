"""The form of an answer to a claim."""

from __future__ import annotations

from dataclasses import dataclass

HOLDS, FAILS, DEPENDS, OPEN = "holds", "fails", "depends", "open"


@dataclass(frozen=True, slots=True)
class Statement:
    """One row of data/claims.csv: what is claimed, of which quantity, in which unit."""

    id: str
    claim: str
    quantity: str
    claimed_value: str
    unit: str
    compare_with: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the twin says: the computed value as text (a range where readings differ), verdict, reason, source ids."""

    computed: str
    verdict: str  # holds | fails | depends | open
    because: str
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement with its verdict."""

    statement: Statement
    verdict: Verdict


def ratio_verdict(computed: float, claimed: float, tolerance: float = 0.10) -> str:
    """holds when within the tolerance of the claimed ratio, else fails."""
    return HOLDS if abs(computed / claimed - 1.0) <= tolerance else FAILS
