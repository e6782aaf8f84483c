"""Rates of flows that share links: weighted max-min fairness with strict priorities and limits.

Progressive filling (Bertsekas and Gallager, Data Networks, section 6.5.2): the rates of all flows rise together, in
proportion to its weight; flows stop when a link that they use is full or at their own limit; the others go on. In the
result no flow can have more without taking from one that has as little or less, per weight. Higher priorities are
filled first and the rest shares what they leave (strict priority, as with lanes of a lossless fabric).

A class of n identical flows is one unknown, so that the cost grows with classes and not with flows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from supertwin.core.errors import InputError
from supertwin.network.flow.classes import FlowClasses

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
OWN_LIMIT, NOTHING, NO_ROUTE, IDLE = -1, -2, -3, -4  # bottlenecks that are not links
TIE = 1e-12  # links and limits that are reached within this relative distance are reached together


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates at one instant.

    bytes_per_s: of one flow, [classes] (inf: uses no link and has no limit); load_bytes_per_s: of one link,
    [link classes]; bottleneck: link class that stops each class, [classes], or OWN_LIMIT, NOTHING, NO_ROUTE, IDLE.
    """

    bytes_per_s: Floats
    load_bytes_per_s: Floats
    bottleneck: Ints

    @property
    def unreachable(self) -> Ints:
        """Classes whose flows have no route."""
        return np.flatnonzero(self.bottleneck == NO_ROUTE)


@dataclass(frozen=True, slots=True)
class Problem:
    """Flow classes as a list of (class, link class, share), which is what progressive filling walks over."""

    row: Ints
    column: Ints
    share: Floats
    capacity: Floats
    limit: Floats
    weight: Floats
    levels: tuple[npt.NDArray[np.bool_], ...]  # classes of each priority, first the highest

    def load(self, rate: Floats) -> Floats:
        """Bytes/s on one link of each link class. A class that uses no link may have an infinite rate."""
        return np.bincount(self.column, self.share * rate[self.row], self.capacity.size).astype(np.float64)


def problem(classes: FlowClasses) -> Problem:
    """The sparse form of flow classes. Raises InputError on sizes that do not match and on impossible numbers."""
    check(classes)
    row, column = np.nonzero(classes.usage)
    weight = np.ones(len(classes.names)) if classes.weight is None else classes.weight
    levels = tuple(classes.priority == level for level in np.unique(classes.priority))
    share = classes.usage[row, column]
    return Problem(row, column, share, classes.capacity_bytes_per_s, classes.limit_bytes_per_s, weight, levels)


def rates(classes: FlowClasses, active: npt.NDArray[np.bool_] | None = None) -> Rates:
    """Max-min fair rates of all classes at once, or of those that are active. Raises InputError."""
    return fill(problem(classes), np.ones(len(classes.names), bool) if active is None else active)


def fill(given: Problem, active: npt.NDArray[np.bool_]) -> Rates:
    """Progressive filling, priority by priority."""
    rate = np.zeros(active.size)
    bottleneck = np.full(active.size, IDLE, dtype=np.int64)
    blocked = active & (given.limit <= 0)
    bottleneck[blocked] = NO_ROUTE
    free = given.capacity.copy()
    for level in given.levels:
        live = level & active & ~blocked
        if live.any():
            _fill_level(given, live, (rate, bottleneck, free))
    return Rates(rate, given.load(rate), bottleneck)


def _fill_level(given: Problem, live: npt.NDArray[np.bool_], state: tuple[Floats, Ints, Floats]) -> None:
    """Raise the classes in `live` together until each is stopped. Changes live and the three arrays of state."""
    rate, bottleneck, free = state
    keep = live[given.row]
    row, column, share = given.row[keep], given.column[keep], given.share[keep]
    own = np.where(live, given.limit / given.weight, np.inf)
    while live.any():
        slope = np.bincount(column, share * given.weight[row], free.size)
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = np.where(slope > 0, free / slope, np.inf)
        height = min(float(reach.min(initial=np.inf)), float(own.min(initial=np.inf)))
        if height == np.inf:
            rate[live], bottleneck[live] = np.inf, NOTHING
            return
        full = reach <= height * (1 + TIE)
        limited = own <= height * (1 + TIE)
        stopped = np.flatnonzero(full[column])
        bottleneck[limited] = OWN_LIMIT
        bottleneck[row[stopped][::-1]] = column[stopped][::-1]
        hit = limited.copy()
        hit[row[stopped]] = True
        rate[hit] = np.minimum(given.weight[hit] * height, given.limit[hit])
        live &= ~hit
        own[hit] = np.inf
        gone = hit[row]
        free -= np.bincount(column[gone], share[gone] * rate[row[gone]], free.size)
        free[full | (free < TIE * given.capacity)] = 0.0
        row, column, share = row[~gone], column[~gone], share[~gone]


def check(classes: FlowClasses) -> None:
    """Sizes and signs. Raises InputError with the column at fault."""
    count, width = len(classes.names), len(classes.link_names)
    if classes.usage.shape != (count, width):
        raise InputError(f"usage of flow classes has shape {classes.usage.shape}; expected {(count, width)}")
    _column("capacity_bytes_per_s", classes.capacity_bytes_per_s, width)
    _column("links", classes.links, width)
    columns = ("flows", "bytes_each", "limit_bytes_per_s", "priority", "start_s", "latency_s")
    for name in columns:
        _column(name, getattr(classes, name), count, lowest=None if name == "priority" else 0.0)
    if classes.weight is not None:
        _column("weight", classes.weight, count)
        if not (classes.weight > 0).all():
            raise InputError("weight of flow classes: expected numbers above 0")
    if count and width and not (np.isfinite(classes.usage).all() and classes.usage.min() >= 0):
        raise InputError("usage of flow classes: expected finite numbers of at least 0")


def _column(name: str, values: npt.NDArray[np.generic], size: int, lowest: float | None = 0.0) -> None:
    if values.shape != (size,):
        raise InputError(f"{name} of flow classes has shape {values.shape}; expected {(size,)}")
    if lowest is not None and size and not bool((np.asarray(values, dtype=np.float64) >= lowest).all()):
        raise InputError(f"{name} of flow classes: expected numbers of at least {lowest:g}")
