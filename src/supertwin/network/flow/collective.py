"""A collective, flow by flow, on the real links of a graph.

The schedule of the algorithm (network.flow.schedule) becomes flow classes; the event loop says how long their bytes
take together; fixed costs, rounds and shares of the line rate are those of the closed form (network.flow.costs).
Without contention the two agree; where links are shared, oversubscribed or broken, this one says what happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from supertwin.core.errors import InputError
from supertwin.network.flow.classes import FlowClasses
from supertwin.network.flow.costs import Call, Costs, costs
from supertwin.network.flow.fabric import flows
from supertwin.network.flow.pattern import Ints, Pattern, Phase
from supertwin.network.flow.run import FlowRun, run
from supertwin.network.flow.schedule import Wire, phases
from supertwin.network.group import Group
from supertwin.network.topology.graph import Graph

Ranks = Group | Sequence[int] | npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PhaseTime:
    """One phase: from when its first byte may leave to when its last one is delivered; flows in it."""

    name: str
    start_s: float
    end_s: float
    flows: float


@dataclass(frozen=True, slots=True)
class FlowCollective:
    """time_s = latency_s (fixed costs and rounds) + transfer_s (bytes on the links); inf when some flows never end.

    bottlenecks: (link class, seconds of line rate that its bytes take), slowest first; run: all phases on one time
    axis; reasons: why flows never end.
    """

    op: str
    algorithm: str
    time_s: float
    latency_s: float
    transfer_s: float
    phases: tuple[PhaseTime, ...]
    bottlenecks: tuple[tuple[str, float], ...]
    run: FlowRun
    reasons: tuple[str, ...] = ()


def ranks_of(graph: Graph, group: Ranks, every: bool = False) -> Ints:
    """Device numbers [groups, ranks]: one row for a Group from device 0 or a list, all disjoint copies with `every`.

    A two-dimensional list is several groups at once. Raises InputError for devices that the graph does not have.
    """
    devices = graph.devices
    if isinstance(group, Group):
        size, stride = int(group.size), int(group.stride)
        if size < 1 or stride < 1:
            raise InputError(f"group of size {group.size}, stride {group.stride}: expected whole numbers of at least 1")
        row = np.arange(size, dtype=np.int64) * stride
        first = np.arange(devices // (size * stride))[:, None] * size * stride + np.arange(stride)
        found = first.reshape(-1, 1) + row if every else row[None, :]
    else:
        found = np.atleast_2d(np.asarray(group, dtype=np.int64))
    if found.size == 0 or found.min() < 0 or found.max() >= devices:
        raise InputError(f"ranks {group}: expected device numbers from 0 to {devices - 1} of {graph.system.name}")
    if np.unique(found).size != found.size:
        raise InputError(f"ranks {group}: every device may take part once")
    return found


def collective(  # noqa: PLR0913 - mirrors network.collective_time
    graph: Graph,
    op: str,
    message_bytes: float,
    group: Ranks,
    *,
    algorithm: str = "auto",
    faults: Sequence[str] = (),
    every: bool = False,
    library: str = "default",
    context: str = "benchmark",
) -> FlowCollective:
    """Time of one collective on the links of `graph`, or of several groups at once (`every`, or rows of ranks).

    op and message_bytes as network.collective_time; algorithm "auto" is the library's choice, which does not know
    about faults. faults: addresses of parts to take away. Raises UnknownName, InputError.
    """
    call = Call(op, float(message_bytes), algorithm, library, context)
    ranks = ranks_of(graph, group, every)
    plan = costs(graph.system, call, ranks[0])
    schedule = phases(op, plan.algorithm.split("/")[0], call.message_bytes, Wire(graph.system, plan, ranks))
    return carry(graph, op, plan, schedule, faults)


def carry(graph: Graph, op: str, plan: Costs, schedule: tuple[Phase, ...], faults: Sequence[str]) -> FlowCollective:
    """Run a schedule phase by phase and add the costs beside the links."""
    classes, owner = flows(graph, [pattern for phase in schedule for pattern in phase], faults)
    after, stage = chained(schedule, owner)
    fixed = np.where(stage == 0, plan.latency_s + plan.own_s, 0.0)
    done = run(classes, after, fixed)
    transfer = max(0.0, done.time_s - plan.latency_s - plan.own_s) if schedule else 0.0
    time = plan.total_s(transfer) if schedule else 0.0
    return FlowCollective(
        op, plan.algorithm, time, time - transfer if np.isfinite(time) else plan.latency_s, transfer,
        phase_times(schedule, stage, done), tuple((name, s) for name, s, _ in done.busiest()), done,
        tuple(done.reasons.values()),
    )  # fmt: skip


def chained(schedule: Sequence[Sequence[Pattern]], owner: Ints) -> tuple[list[tuple[int, ...]], Ints]:
    """(classes that each class waits for, phase of each class) when every phase waits for the one before."""
    phase_of = np.repeat(np.arange(len(schedule)), [len(phase) for phase in schedule])
    stage = phase_of[owner] if owner.size else owner
    members = [tuple(np.flatnonzero(stage == s).tolist()) for s in range(len(schedule))]
    return [members[s - 1] if s else () for s in stage.tolist()], stage


def phase_times(schedule: Sequence[Sequence[Pattern]], stage: Ints, done: FlowRun) -> tuple[PhaseTime, ...]:
    """When each phase ran."""
    out = []
    for number, phase in enumerate(schedule):
        mine = stage == number
        if mine.any():
            name = " + ".join(pattern.name for pattern in phase)
            start, end = float(done.first_byte_s[mine].min()), float(done.finish_s[mine].max())
            out.append(PhaseTime(name, start, end, float(done.classes.flows[mine].sum())))
    return tuple(out)


def without_latency(classes: FlowClasses) -> FlowClasses:
    """Path latencies taken out: the calibrated rounds of a collective contain them."""
    return replace(classes, latency_s=np.zeros_like(classes.latency_s))
