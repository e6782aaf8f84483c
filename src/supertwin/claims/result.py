"""The form of an answer to a claim."""

from __future__ import annotations

import math
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
    """What the twin says.

    computed: the answer as text (a range where readings differ); value: its main number in the unit of the claim, None
    where the answer is a list or not computed; low, high: its range (90 % interval, open readings of the sources);
    rule: when the verdict would have been "holds".
    """

    computed: str
    verdict: str  # holds | fails | depends | open
    because: str
    sources: tuple[str, ...] = ()
    value: float | None = None
    rule: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement with its verdict."""

    statement: Statement
    verdict: Verdict


def near_rule(tolerance: float) -> str:
    """The rule of `near` in words."""
    return f"holds when within {100 * tolerance:.0f} % of the claimed value"


def near(computed: float, claimed: float, tolerance: float = 0.10) -> str:
    """holds when within the tolerance of the claimed value (claims are rounded), else fails."""
    return HOLDS if abs(computed / claimed - 1.0) <= tolerance else FAILS


LEAST_RULE = "holds when the prediction reaches the claimed value, depends when only its 90 % interval does"


def at_least(computed: float, claimed: float, best: float) -> str:
    """holds when the prediction reaches the claimed value, depends when only the end `best` of its interval does."""
    return HOLDS if computed >= claimed else DEPENDS if best >= claimed else FAILS


def over(range_: tuple[float, float], limit: float, most: bool = True) -> str:
    """holds when the whole range lies on the right side of the limit (at most it, or at least it), fails when all of it
    lies on the wrong one, else depends."""
    low, high = range_
    good, bad = (high <= limit, low > limit) if most else (low >= limit, high < limit)
    return HOLDS if good else FAILS if bad else DEPENDS


def ratio_range(ratio: float, first: tuple[float, float], second: tuple[float, float]) -> tuple[float, float]:
    """Range of first / second from the 90 % factors of both, taken as independent (logarithms add in squares)."""
    down = math.hypot(math.log(first[0]), math.log(second[1]))
    up = math.hypot(math.log(first[1]), math.log(second[0]))
    return ratio * math.exp(-down), ratio * math.exp(up)
