"""Several jobs on one fabric: their collectives share links from event to event.

A job repeats one collective over its own groups, call after call. All phases of all jobs are one set of flow classes on
common link classes; strict priorities stand for virtual lanes or traffic classes of a lossless fabric.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from supertwin.core.errors import InputError
from supertwin.network.faults import Fault
from supertwin.network.flow.classes import FlowClasses
from supertwin.network.flow.collectives import Ranks, damaged, ranks_of, slowest_links
from supertwin.network.flow.costs import Call, Costs, costs
from supertwin.network.flow.fabric import Ints, flows, rows_of
from supertwin.network.flow.run import FlowRun, run
from supertwin.network.flow.schedule import Phase, Wire, phases
from supertwin.network.topology.graph import Graph
from supertwin.network.topology.patterns import Pattern


@dataclass(frozen=True, slots=True)
class Job:
    """`calls` collectives one after another. group: Group, ranks or rows of ranks; every: all groups of that shape.

    priority: strict, lower numbers first (virtual lane); weight: share of each flow against others of the same
    priority; start_s: when the first call is made.
    """

    name: str
    op: str
    message_bytes: float
    group: Ranks
    algorithm: str = "auto"
    every: bool = False
    priority: int = 0
    weight: float = 1.0
    start_s: float = 0.0
    calls: int = 1
    library: str = "default"
    context: str = "benchmark"


@dataclass(frozen=True, slots=True)
class JobTime:
    """time_s: from the start to the end of the last call, beside the other jobs; alone_s: without them."""

    name: str
    algorithm: str
    time_s: float
    alone_s: float

    @property
    def slowdown(self) -> float:
        """How many times longer than alone."""
        if not np.isfinite(self.alone_s):
            return np.inf
        return self.time_s / self.alone_s if self.alone_s else 1.0


@dataclass(frozen=True, slots=True)
class FlowJobs:
    """jobs in the order given; time_s: end of the last one; bottlenecks as in FlowCollective; run: all flows."""

    jobs: tuple[JobTime, ...]
    time_s: float
    bottlenecks: tuple[tuple[str, float], ...]
    run: FlowRun
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    job: Job
    costs: Costs
    schedule: tuple[Phase, ...]


def jobs(graph: Graph, given: Sequence[Job], faults: Sequence[Fault | str] = ()) -> FlowJobs:
    """Contention between the collectives of several jobs. Raises UnknownName, InputError."""
    if not given:
        raise InputError("expected at least one job")
    whole = damaged(graph, faults)
    plans = [_plan(graph, job) for job in given]
    patterns, shares, place = _distinct(plans)
    found, owner = flows(whole, patterns, shares)
    classes, after, fixed, of_job = _unrolled(plans, place, found, owner)
    together = run(classes, after, fixed)
    times = []
    for number, plan in enumerate(plans):
        mine = np.flatnonzero(of_job == number)
        times.append(JobTime(plan.job.name, plan.costs.algorithm, _span(together, mine, plan), 0.0))
        times[-1] = replace(times[-1], alone_s=_alone(classes, after, fixed, mine, plan))
    end = max((t.time_s + job.start_s for t, job in zip(times, given, strict=True)), default=0.0)
    return FlowJobs(tuple(times), end, slowest_links(together), together, tuple(together.reasons.values()))


def _plan(graph: Graph, job: Job) -> _Plan:
    if job.calls < 1:
        raise InputError(f"job {job.name!r}: {job.calls} calls; expected at least 1")
    ranks = ranks_of(graph, job.group, job.every)
    call = Call(job.op, float(job.message_bytes), job.algorithm, job.library, job.context)
    plan = costs(graph.system, call, ranks[0])
    wire = Wire(graph.system, plan, ranks)
    return _Plan(job, plan, phases(job.op, plan.algorithm.split("/")[0], call.message_bytes, wire))


def _distinct(plans: Sequence[_Plan]) -> tuple[list[Pattern], list[dict[str, float]], list[list[list[int]]]]:
    """Patterns of all jobs with the shares of their libraries, and their numbers by job, phase and place in it."""
    patterns: list[Pattern] = []
    shares: list[dict[str, float]] = []
    place: list[list[list[int]]] = []
    for plan in plans:
        place.append([])
        for phase in plan.schedule:
            place[-1].append([])
            for pattern in phase:
                place[-1][-1].append(len(patterns))
                patterns.append(replace(pattern, name=f"{plan.job.name} {pattern.name}"))
                shares.append(dict(plan.costs.shares))
    return patterns, shares, place


def _unrolled(
    plans: Sequence[_Plan], place: list[list[list[int]]], found: FlowClasses, owner: Ints
) -> tuple[FlowClasses, list[tuple[int, ...]], np.ndarray[tuple[int], np.dtype[np.float64]], Ints]:
    """Classes call by call, what each waits for, its fixed cost, its job."""
    rows: list[int] = []
    after: list[tuple[int, ...]] = []
    fixed: list[float] = []
    of_job: list[int] = []
    for number, plan in enumerate(plans):
        before: tuple[int, ...] = ()
        for _ in range(plan.job.calls):
            lead = plan.costs.latency_s + plan.costs.own_s + plan.costs.extra_s
            for phase in place[number]:
                mine = np.flatnonzero(np.isin(owner, phase)).tolist()
                start = len(rows)
                rows += mine
                after += [before] * len(mine)
                fixed += [lead] * len(mine)
                of_job += [number] * len(mine)
                before, lead = tuple(range(start, len(rows))), 0.0
    job = np.array(of_job, dtype=np.int64)
    classes = rows_of(found, np.array(rows, dtype=np.int64))
    priority = np.array([plan.job.priority for plan in plans], dtype=np.int64)
    start_s = np.array([plan.job.start_s for plan in plans], dtype=np.float64)
    weight = np.array([plan.job.weight for plan in plans], dtype=np.float64)
    classes = replace(classes, priority=priority[job], start_s=start_s[job], weight=weight[job])
    return classes, after, np.array(fixed), job


def _span(done: FlowRun, mine: Ints, plan: _Plan) -> float:
    end = float(done.finish_s[mine].max(initial=plan.job.start_s))
    return max(end - plan.job.start_s, plan.costs.floor_s * plan.job.calls)


def _alone(
    classes: FlowClasses, after: list[tuple[int, ...]], fixed: np.ndarray[tuple[int], np.dtype[np.float64]],
    mine: Ints, plan: _Plan,
) -> float:  # fmt: skip
    number = {row: place for place, row in enumerate(mine.tolist())}
    waits = [tuple(number[other] for other in after[row]) for row in mine.tolist()]
    return _span(run(rows_of(classes, mine), waits, fixed[mine]), np.arange(mine.size), plan)
