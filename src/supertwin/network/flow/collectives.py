"""A collective, flow by flow, on the real links of a graph.

The schedule of the algorithm (network.flow.schedule) becomes flow classes; the event loop says how long their bytes
take together; fixed costs, rounds and shares of the line rate are those of the closed form (network.flow.costs).
Without contention the two agree; where links are shared, oversubscribed or broken, this one says what happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from supertwin.core.errors import InputError
from supertwin.network.faults import Fault, apply
from supertwin.network.flow.classes import FlowClasses
from supertwin.network.flow.costs import Call, Costs, costs
from supertwin.network.flow.fabric import NO_FLOWS, Ints, flows, one_after_the_other
from supertwin.network.flow.run import FlowRun, run
from supertwin.network.flow.schedule import Phase, Wire, phases
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
    faults: Sequence[Fault | str] = (),
    every: bool = False,
    library: str = "default",
    context: str = "benchmark",
) -> FlowCollective:
    """Time of one collective on the links of `graph`, or of several groups at once (`every`, or rows of ranks).

    op and message_bytes as network.collective_time; algorithm "auto" is the library's choice, which does not know
    about faults. faults: parts to take away or degrade, as network.faults. Raises UnknownName, InputError.
    """
    call = Call(op, float(message_bytes), algorithm, library, context)
    ranks = ranks_of(graph, group, every)
    plan = costs(graph.system, call, ranks[0])
    schedule = phases(op, plan.algorithm.split("/")[0], call.message_bytes, Wire(graph.system, plan, ranks))
    return carry(damaged(graph, faults), op, plan, schedule)


def damaged(graph: Graph, faults: Sequence[Fault | str]) -> Graph:
    """The graph after the faults; itself when there is none. Raises UnknownName, InputError."""
    return apply(graph, faults) if len(faults) else graph


def carry(graph: Graph, op: str, plan: Costs, schedule: tuple[Phase, ...]) -> FlowCollective:
    """Run a schedule phase by phase and add the costs beside the links."""
    if not schedule:
        return FlowCollective(op, plan.algorithm, 0.0, 0.0, 0.0, (), (), run(NO_FLOWS))
    parts = [part for part, _ in _phase_classes(graph, schedule, plan)]
    stage = np.repeat(np.arange(len(parts)), [len(part.names) for part in parts])
    beside = plan.latency_s + plan.own_s
    done = run(one_after_the_other(parts), chained(stage), np.where(stage == 0, beside, 0.0))
    transfer = max(0.0, done.time_s - beside)
    time = plan.total_s(transfer)
    return FlowCollective(
        op, plan.algorithm, time, time - transfer if np.isfinite(time) else beside, transfer,
        phase_times(schedule, stage, done), slowest_links(done), done, tuple(done.reasons.values()),
    )  # fmt: skip


def _phase_classes(graph: Graph, schedule: tuple[Phase, ...], plan: Costs) -> list[tuple[FlowClasses, Ints]]:
    """Flow classes of every phase; the two halves of an all-reduce often have the same links."""
    seen: dict[tuple[tuple[int, ...], tuple[float, ...]], tuple[FlowClasses, Ints]] = {}
    out = []
    for phase in schedule:
        key = tuple(id(part) for pattern in phase for part in (*pattern.groups, pattern.source, pattern.target))
        sizes = tuple(pattern.bytes_each for pattern in phase)
        if (key, sizes) not in seen:
            seen[key, sizes] = flows(graph, phase, [plan.shares] * len(phase))
        out.append(seen[key, sizes])
    return out


def chained(stage: Ints) -> list[tuple[int, ...]]:
    """Classes that each class waits for when every phase waits for the one before; stage: phase of each class."""
    members = [tuple(np.flatnonzero(stage == s).tolist()) for s in range(int(stage.max(initial=-1)) + 1)]
    return [members[s - 1] if s else () for s in stage.tolist()]


def phase_times(schedule: Sequence[Phase], stage: Ints, done: FlowRun) -> tuple[PhaseTime, ...]:
    """When each phase ran."""
    out = []
    for number, phase in enumerate(schedule):
        mine = stage == number
        name = " + ".join(pattern.name for pattern in phase)
        start, end = float(done.first_byte_s[mine].min()), float(done.finish_s[mine].max())
        out.append(PhaseTime(name, start, end, float(done.classes.flows[mine].sum())))
    return tuple(out)


def slowest_links(done: FlowRun, most: int = 5) -> tuple[tuple[str, float], ...]:
    """(link class, seconds of line rate that its bytes take) over all phases, the slowest first."""
    seconds: dict[str, float] = {}
    for name, value, _ in done.busiest(len(done.classes.link_names)):
        seconds[name] = seconds.get(name, 0.0) + value
    return tuple(sorted(seconds.items(), key=lambda entry: -entry[1])[:most])
