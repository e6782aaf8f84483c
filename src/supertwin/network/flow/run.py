"""Flows from start to finish: rates change only when a class starts or ends.

Between two events all rates are constant (network.flow.rates), so the cost grows with events and not with bytes. A
class starts at start_s or, when it waits for others, as soon as the last of them is delivered; then its fixed protocol
cost passes, its bytes drain at the rates of the moment, and it is delivered one path latency after the last byte.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from supertwin.core.errors import InputError
from supertwin.network.flow.classes import FlowClasses
from supertwin.network.flow.rates import NO_ROUTE, TIE, Floats, Problem, Rates, fill, problem

After = Sequence[Sequence[int]]
HISTORY_ELEMENTS = 20_000_000  # loads over time are kept up to this many numbers (160 MB)


@dataclass(frozen=True, slots=True)
class FlowRun:
    """What happened, per class and per link class.

    ready_s: when a class may begin; first_byte_s: after its fixed cost; drained_s: last byte sent; finish_s: delivered,
    all [classes], inf for what never happens (reasons says why, by class index).
    link_bytes: carried by one link in all, [link classes]. times_s: bounds of the intervals between events, [events +
    1], pauses included; load_bytes_per_s: of one link in each interval, [events, link classes]; rate_bytes_per_s: of
    one flow, [events, classes]; both are empty when they would be larger than HISTORY_ELEMENTS. solved: how often
    rates were computed.
    """

    classes: FlowClasses
    ready_s: Floats
    first_byte_s: Floats
    drained_s: Floats
    finish_s: Floats
    link_bytes: Floats
    times_s: Floats
    load_bytes_per_s: Floats
    rate_bytes_per_s: Floats
    reasons: dict[int, str]
    solved: int

    @property
    def time_s(self) -> float:
        """When the last class is delivered; inf when one never is."""
        return float(self.finish_s.max(initial=0.0))

    @property
    def finished(self) -> bool:
        """Whether every class is delivered."""
        return not self.reasons

    def utilisation(self) -> Floats:
        """Share of the capacity that each link class carries on average from the first byte to the end of the flows."""
        span = self.times_s[-1] - self.times_s[0] if self.times_s.size else 0.0
        capacity = self.classes.capacity_bytes_per_s * span
        return np.divide(self.link_bytes, capacity, out=np.zeros(capacity.size), where=capacity > 0)

    def busiest(self, most: int = 5) -> list[tuple[str, float, float]]:
        """(link class, seconds of line rate that its bytes take, bytes on one link), the slowest first."""
        capacity = self.classes.capacity_bytes_per_s
        seconds = np.divide(self.link_bytes, capacity, out=np.zeros(capacity.size), where=capacity > 0)
        order = np.argsort(-seconds, kind="stable")[:most]
        names = self.classes.link_names
        return [(names[i], float(seconds[i]), float(self.link_bytes[i])) for i in order if self.link_bytes[i] > 0]

    def rows(self) -> list[dict[str, str | float]]:
        """One row per class for tables and timelines."""
        given = self.classes
        columns: dict[str, Floats] = {
            "flows": given.flows, "bytes_each": given.bytes_each, "ready_s": self.ready_s,
            "first_byte_s": self.first_byte_s, "drained_s": self.drained_s, "finish_s": self.finish_s,
        }  # fmt: skip
        return [
            {"name": name} | {key: float(values[i]) for key, values in columns.items()}
            for i, name in enumerate(given.names)
        ]


def run(classes: FlowClasses, after: After = (), fixed_s: npt.ArrayLike = 0.0) -> FlowRun:
    """Carry all classes from start to finish.

    after: for each class the indices of those that it waits for (empty: none waits); fixed_s: protocol cost of each
    class before its first byte, [classes] or one number. Flows without a route, links without capacity and classes
    that wait for each other give finish_s inf with a reason. Raises InputError.
    """
    return _Loop(classes, after, fixed_s).run()


class _Loop:
    """State of one run."""

    def __init__(self, classes: FlowClasses, after: After, fixed_s: npt.ArrayLike) -> None:
        count = len(classes.names)
        self.classes, self.given = classes, problem(classes)
        self.fixed = np.broadcast_to(np.asarray(fixed_s, dtype=np.float64), (count,))
        if count and not (self.fixed >= 0).all():
            raise InputError("fixed_s of flow classes: expected numbers of at least 0")
        self.waits, self.next = _dependencies(after, count)
        self.ready = classes.start_s.astype(np.float64)
        self.first, self.drained, self.finish = (np.full(count, np.inf) for _ in range(3))
        self.left = classes.bytes_each.astype(np.float64)
        self.active = np.zeros(count, dtype=np.bool_)
        self.starts: list[tuple[float, int]] = []
        self.carried = np.zeros(classes.capacity_bytes_per_s.size)
        self.times: list[float] = []
        self.loads: list[Floats] = []
        self.rates: list[Floats] = []
        self.solved = 0
        for index in np.flatnonzero(self.waits == 0).tolist():
            self._schedule(index)

    def run(self) -> FlowRun:
        now = 0.0
        found: Rates | None = None
        changed = True
        while self.starts or self.active.any():
            if not self.active.any():
                now = max(now, self.starts[0][0])
            changed |= self._begin(now)
            if not self.active.any():
                continue
            if changed or found is None:
                found = fill(self.given, self.active)
                self.solved += 1
            step = self._step(now, found)
            if step == np.inf:
                break
            now, changed = self._advance(now, step, found)
        return self._result(found)

    def _schedule(self, index: int) -> None:
        self.first[index] = self.ready[index] + self.fixed[index]
        heapq.heappush(self.starts, (float(self.first[index]), index))

    def _begin(self, now: float) -> bool:
        """Start what is due; classes without bytes end at once. Whether the active set changed."""
        changed = False
        while self.starts and self.starts[0][0] <= now:
            _, index = heapq.heappop(self.starts)
            routed = self.classes.limit_bytes_per_s[index] > 0
            if self.classes.flows[index] == 0 or (routed and self.left[index] == 0):
                self._end(index, float(self.first[index]))
            else:
                self.active[index] = changed = True
        return changed

    def _step(self, now: float, found: Rates) -> float:
        rate = found.bytes_per_s
        moving = self.active & (rate > 0)
        step = float((self.left[moving] / rate[moving]).min(initial=np.inf))
        return min(step, self.starts[0][0] - now) if self.starts else step

    def _advance(self, now: float, step: float, found: Rates) -> tuple[float, bool]:
        rate = np.where(self.active, found.bytes_per_s, 0.0)
        with np.errstate(invalid="ignore"):
            done = self.active & (rate > 0) & ((self.left <= rate * step * (1 + TIE)) | (rate == np.inf))
            left = np.where(done, 0.0, self.left - rate * step)
        self._record(now, step, found, self.left - left)
        self.left = left
        then = self.starts[0][0] if self.starts and self.starts[0][0] - now == step else now + step
        self.active &= ~done
        for index in np.flatnonzero(done).tolist():
            self._end(index, then)
        return then, bool(done.any())

    def _record(self, now: float, step: float, found: Rates, sent: Floats) -> None:
        self.carried += self.given.load(sent)
        if step <= 0:
            return
        if not self.times:
            self.times.append(now)
        if now > self.times[-1]:  # nothing moved since
            self._keep(now, np.zeros(self.carried.size), np.zeros(self.left.size))
        self._keep(now + step, found.load_bytes_per_s, found.bytes_per_s)

    def _keep(self, end: float, load: Floats, rate: Floats) -> None:
        self.times.append(end)
        if len(self.times) * (load.size + rate.size) <= HISTORY_ELEMENTS:
            self.loads.append(load)
            self.rates.append(rate)

    def _end(self, index: int, when: float) -> None:
        self.drained[index] = when
        self.finish[index] = when + self.classes.latency_s[index]
        for follower in self.next[index]:
            self.waits[follower] -= 1
            self.ready[follower] = max(self.ready[follower], self.finish[index])
            if not self.waits[follower]:
                self._schedule(follower)

    def _result(self, found: Rates | None) -> FlowRun:
        kept = len(self.loads) == max(0, len(self.times) - 1)
        width, count = self.carried.size, self.left.size
        loads = np.array(self.loads).reshape(len(self.loads), width) if kept else np.zeros((0, width))
        rates = np.array(self.rates).reshape(len(self.rates), count) if kept else np.zeros((0, count))
        reasons = self._reasons(found)
        self.ready[[i for i in reasons if self.waits[i]]] = np.inf
        times = np.array(self.times)
        return FlowRun(
            self.classes, self.ready, self.first, self.drained, self.finish, self.carried, times, loads, rates, reasons,
            self.solved,
        )  # fmt: skip

    def _reasons(self, found: Rates | None) -> dict[int, str]:
        reasons: dict[int, str] = {}
        names = self.classes.names
        for index in np.flatnonzero(~np.isfinite(self.finish)).tolist():
            if self.waits[index]:
                reasons[index] = f"{names[index]} waits for classes that never end, or for itself"
            elif found is None or found.bottleneck[index] == NO_ROUTE:
                reasons[index] = f"{names[index]}: no route"
            else:
                where = self.classes.link_names[found.bottleneck[index]]
                reasons[index] = f"{names[index]} gets nothing on {where}"
        return reasons


def _dependencies(after: After, count: int) -> tuple[npt.NDArray[np.int64], list[list[int]]]:
    if len(after) not in (0, count):
        raise InputError(f"dependencies for {len(after)} flow classes; expected {count}")
    following: list[list[int]] = [[] for _ in range(count)]
    waits = np.zeros(count, dtype=np.int64)
    for index, before in enumerate(after):
        for other in set(before):
            if not 0 <= other < count:
                raise InputError(f"flow class {index} waits for class {other}; expected 0 to {count - 1}")
            following[other].append(index)
            waits[index] += 1
    return waits, following


__all__ = ["FlowRun", "Problem", "run"]
