"""How much a deployment serves inside limits on TTFT and TPOT, and the curve of throughput against TPOT.

TTFT and TPOT grow with the rate, so the largest rate inside both limits is a root by bisection. At vanishing rate they
have their least values: a limit below them is infeasible at any rate, and the least value is the nearest feasible.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from supertwin.core.errors import InputError, UnknownName
from supertwin.inference.deploy.evaluate import TAIL, Point, Prepared, at_rate, most_requests_per_s

STATISTICS = ("mean", "p99")
_HALVINGS = 50
_LIGHT = 0.01
_FULL = 0.99
"""Most of the saturated rate that is offered without limits: at the rate itself queues never end."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits in s (inf: none) on the mean or the p99 of TTFT and TPOT."""

    ttft_s: float = math.inf
    tpot_s: float = math.inf
    statistic: str = "mean"

    def __post_init__(self) -> None:
        """Raise InputError for limits of 0 or less."""
        if self.statistic not in STATISTICS:
            raise UnknownName("statistic of the limits", self.statistic, STATISTICS)
        if not (self.ttft_s > 0 and self.tpot_s > 0):
            raise InputError(f"limits of {self.ttft_s:g} and {self.tpot_s:g} s: expected above 0")

    def figures(self, point: Point) -> tuple[float, float]:
        """TTFT and TPOT of a point in the statistic of the limits."""
        mean = self.statistic == "mean"
        tpot = point.tpot_s if mean else point.tpot_p99_s
        return (point.ttft_s if mean else point.ttft_p99_s), (0.0 if math.isnan(tpot) else tpot)

    def hold(self, point: Point) -> bool:
        """Whether a point is inside both limits."""
        ttft, tpot = self.figures(point)
        return ttft <= self.ttft_s and tpot <= self.tpot_s


@dataclass(frozen=True, slots=True)
class Best:
    """The largest rate inside the limits. reasons: why there is none, with the least that is feasible (then point is
    that of a lightly loaded deployment)."""

    point: Point
    limited_by: str
    reasons: tuple[str, ...] = ()

    @property
    def feasible(self) -> bool:
        """Whether any rate is inside the limits."""
        return not self.reasons


def largest_rate(prepared: Prepared, limits: Limits) -> Best:
    """The most requests per second inside the limits; without limits, 99 % of what the slowest side takes."""
    most, slowest = most_requests_per_s(prepared)
    if most <= 0 or not math.isfinite(most):
        return Best(at_rate(prepared, 0.0), slowest, (_no_room(prepared),))
    idle = at_rate(prepared, most * 1e-9)
    reasons = _reasons(limits, idle)
    if reasons:
        limited = "ttft" if limits.figures(idle)[0] > limits.ttft_s else "tpot"
        return Best(at_rate(prepared, most * _LIGHT), limited, reasons)
    top = at_rate(prepared, most * _FULL)
    if limits.hold(top):
        return Best(top, slowest)
    rate = root(lambda x: limits.hold(at_rate(prepared, x)), most * 1e-9, most * _FULL)
    point, beyond = at_rate(prepared, rate), at_rate(prepared, min(rate * (1.0 + 1e-6), most * _FULL))
    return Best(point, "ttft" if limits.figures(beyond)[0] > limits.ttft_s else "tpot")


def root(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Largest x between low, which holds, and high, by bisection."""
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def at_concurrency(prepared: Prepared, requests: float) -> Point:
    """A closed loop of so many requests: the rate at which as many are in flight (Little's law)."""
    if not requests > 0:
        raise InputError(f"concurrency {requests:g}: expected above 0")
    most, _ = most_requests_per_s(prepared)
    top = most * _FULL
    if top <= 0:
        return at_rate(prepared, 0.0)
    point = at_rate(prepared, root(lambda x: at_rate(prepared, x).in_flight <= requests, top * 1e-9, top))
    return waiting(point, requests / point.requests_per_s - point.ttft_s - point.residence_s)


def waiting(point: Point, longer_s: float) -> Point:
    """The point with so much more queue: requests of a closed loop that the deployment cannot hold."""
    if not longer_s > 1e-9:
        return point
    parts = tuple((name, value + longer_s if name == "queue" else value) for name, value in point.ttft_parts)
    late = point.ttft_p99_s + longer_s
    return replace(point, ttft_s=point.ttft_s + longer_s, ttft_p99_s=late, ttft_parts=parts)


def at_most(prepared: Prepared) -> Point:
    """The nearly saturated deployment: what is left of an offered rate that exceeds it."""
    return at_rate(prepared, most_requests_per_s(prepared)[0] * _FULL)


def attainment(prepared: Prepared, point: Point, limits: Limits) -> float:
    """Share of requests inside both limits: waiting is exponential with the point's p99, residents are Poisson, and the
    two are taken as independent."""
    least = point.ttft_s - dict(point.ttft_parts)["queue"]
    wait = (point.ttft_p99_s - least) / TAIL
    slack = limits.ttft_s - least
    inside = 0.0 if slack < 0 else 1.0 if wait <= 0 else -math.expm1(-slack / wait)
    return inside * _on_time(prepared, point, limits.tpot_s)


def _on_time(prepared: Prepared, point: Point, limit_s: float) -> float:
    """Chance that TPOT is below the limit: that of so few residents, normal around the mean with its variance."""
    if math.isnan(point.tpot_s) or math.isinf(limit_s):
        return 1.0
    c = prepared.curves
    scale = point.tpot_s / float(c.step(max(point.resident, 1.0)))
    n = np.geomspace(1.0, max(c.capacity, 2.0), 256)
    tpot = np.asarray(c.step(n)) * scale
    inside = int(np.searchsorted(tpot, limit_s, side="right"))
    if inside in (0, n.size):
        return float(inside > 0)
    most = float(np.interp(limit_s, tpot[inside - 1 : inside + 1], n[inside - 1 : inside + 1]))
    return 0.5 * math.erfc(-(most - point.resident) / math.sqrt(2.0 * max(point.resident, 1e-9)))


def pareto(prepared: Prepared, points: int = 13) -> list[Point]:
    """From a nearly idle to a nearly full deployment, rates spread so that the crowded end is resolved."""
    most, _ = most_requests_per_s(prepared)
    if most <= 0:
        return []
    shares = 1.0 - np.geomspace(1.0 - 1e-3, 1.0 - _FULL, points)
    return [at_rate(prepared, most * float(share)) for share in shares]


def _reasons(limits: Limits, idle: Point) -> tuple[str, ...]:
    ttft, tpot = limits.figures(idle)
    found = []
    if ttft > limits.ttft_s:
        parts = ", ".join(f"{name} {1e3 * value:.1f}" for name, value in idle.ttft_parts if value > 0)
        found.append(
            f"a TTFT of {1e3 * limits.ttft_s:g} ms is out of reach: one request alone takes {1e3 * ttft:.1f} ms"
            f" ({parts}); nearest feasible {1e3 * ttft:.1f} ms; more tp or cp in prefill or a cached prefix help"
        )
    if tpot > limits.tpot_s:
        found.append(
            f"a TPOT of {1e3 * limits.tpot_s:g} ms is out of reach: one request per rank takes {1e3 * tpot:.2f} ms;"
            f" nearest feasible {1e3 * tpot:.2f} ms; more tp, narrower weights or draft tokens help"
        )
    return tuple(found)


def _no_room(prepared: Prepared) -> str:
    service = prepared.service
    tokens = service.input_len + service.output_len
    return (
        f"no request of {tokens:g} tokens fits beside the weights of {service.model.name} on an instance of"
        f" {service.decode.devices} devices; take larger instances or narrower formats"
    )
