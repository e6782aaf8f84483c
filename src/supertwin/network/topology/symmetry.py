"""Flows and links of a pattern grouped by symmetry.

Two parts of the same stable colour are taken to each other by a relabelling of the fabric that keeps links, faults and
pattern. So one source per colour stands for all of them, and, with that source told apart, one target per colour stands
for all targets that look the same from it. All links of a class carry the same load, so the share of one flow on the
class, times the flows, over the links of the class, is the load of each link.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from supertwin.core.errors import Infeasible, InputError
from supertwin.network.flow.classes import FlowClasses
from supertwin.network.topology.colours import Colouring
from supertwin.network.topology.graph import Graph
from supertwin.network.topology.patterns import Pattern
from supertwin.network.topology.routes import AUTO, HOST, Paths, best_paths, link_shares, path_latency_s

FEW_TARGETS = 24  # below this every target is routed; above, targets are coloured first
MOST_PAIRS = 200_000
Ints = npt.NDArray[np.int64]


@dataclass(slots=True)
class _Row:
    """One flow class while it is collected. usage: share of one flow on the links of each class."""

    name: str
    pattern: Pattern
    flows: float
    usage: dict[int, float]
    latency_s: float


@dataclass(slots=True)
class _Rows:
    """Flow classes so far, by what makes them equal."""

    rows: dict[tuple[Any, ...], _Row] = field(default_factory=dict)
    cut_off: float = 0.0
    routed: int = 0

    def add(self, key: tuple[Any, ...], row: _Row) -> None:
        same = self.rows.setdefault((*key, round(row.latency_s, 12)), row)
        if same is not row:
            same.flows += row.flows


def classes(graph: Graph, patterns: Pattern | Sequence[Pattern], plane: str = AUTO) -> FlowClasses:
    """Flow classes of the patterns that run at once on a graph (faults applied before). Raises as `joint_classes`."""
    return joint_classes(graph, [patterns] if isinstance(patterns, Pattern) else patterns, plane)[0]


def joint_classes(graph: Graph, patterns: Sequence[Pattern], plane: str = AUTO) -> tuple[FlowClasses, Ints]:
    """As `classes`, with the index of the pattern that each class belongs to, [classes].

    Raises InputError (ranks outside the system, no flow at all), Infeasible (so little symmetry that more than
    MOST_PAIRS representative pairs would have to be routed).
    """
    given = list(patterns)
    _check(graph, given)
    colouring = Colouring(graph, given, planes_in_use(graph, plane))
    names, link_class = np.unique(colouring.link_classes(), return_inverse=True)
    collected = _Rows()
    for number, pattern in enumerate(given):
        for source, targets, flows in _representatives(graph, colouring, pattern):
            for target, times in zip(targets, flows, strict=True):
                found = best_paths(graph, int(source), int(target), plane)
                _collect(
                    graph, collected, (number, pattern, link_class), (int(source), int(target), float(times), found)
                )
    owner = np.array([key[0] for key in collected.rows], np.int64)
    return _close(graph, collected, np.bincount(link_class, minlength=len(names)), link_class), owner


def _collect(
    graph: Graph,
    collected: _Rows,
    where: tuple[int, Pattern, Ints],
    flow: tuple[int, int, float, Paths],
) -> None:
    number, pattern, link_class = where
    source, target, times, found = flow
    collected.routed += 1
    if collected.routed > MOST_PAIRS:
        raise _too_little(graph, pattern)
    if not len(found.share):
        collected.cut_off += times
        return
    links, share = link_shares(found)
    groups, place = np.unique(link_class[links], return_inverse=True)
    total = np.bincount(place.ravel(), share)
    usage = dict(zip(groups.tolist(), total.tolist(), strict=True))
    key = (number, tuple((group, round(value, 9)) for group, value in usage.items()))
    name = f"{graph.parts[source]} -> {graph.parts[target]}"
    collected.add(key, _Row(name, pattern, times, usage, path_latency_s(graph, found)))


def _too_little(graph: Graph, pattern: Pattern) -> Infeasible:
    return Infeasible(
        [
            f"{graph.system.name}: faults and ranks leave so little symmetry that {pattern.name} has more than "
            f"{MOST_PAIRS} kinds of flows; expected fewer devices or faults"
        ]
    )


def representatives(graph: Graph, pattern: Pattern) -> Iterator[tuple[int, Ints, Ints]]:
    """One pair of parts per kind of flow: (source part, target parts, flows that each pair stands for)."""
    return _representatives(graph, Colouring(graph, [pattern], planes_in_use(graph)), pattern)


def _representatives(graph: Graph, colouring: Colouring, pattern: Pattern) -> Iterator[tuple[int, Ints, Ints]]:
    """(source part, target parts, flows that each pair stands for)."""
    ranks = pattern.ranks()
    parts = graph.device_parts[ranks]
    _, first, count = np.unique(colouring.stable[parts], return_index=True, return_counts=True)
    if pattern.groups and len(first) ** 2 > MOST_PAIRS:
        raise _too_little(graph, pattern)
    for place, number in zip(first, count, strict=True):
        source = int(parts[place])
        targets = graph.device_parts[pattern.targets(int(ranks[place]))].astype(np.int64)
        if not len(targets):
            continue
        if len(targets) <= FEW_TARGETS:
            yield source, targets, np.full(len(targets), number, np.int64)
            continue
        seen = colouring.apart(source)[targets]
        _, where, times = np.unique(seen, return_index=True, return_counts=True)
        yield source, targets[where], times * number


def planes_in_use(graph: Graph, plane: str = AUTO) -> list[str]:
    """Planes that routes may take: the named one, all of them after faults, else those up to full reach."""
    if plane != AUTO:
        return [graph.structure(plane).plane]
    every = [s for s in graph.structures if s.plane != HOST]
    if graph.faults:
        return [s.plane for s in every]
    enough = next((i for i, s in enumerate(every) if s.reach >= graph.devices), len(every))
    return [s.plane for s in every[: enough + 1]]


def _check(graph: Graph, patterns: Sequence[Pattern]) -> None:
    for pattern in patterns:
        ranks = pattern.ranks()
        if len(ranks) and ranks[-1] >= graph.devices:
            raise InputError(
                f"{pattern.name}: rank {ranks[-1]}; {graph.system.name} has devices 0 to {graph.devices - 1}"
            )
    if not sum(pattern.flows for pattern in patterns):
        raise InputError("expected at least one flow between two different devices")


def _close(graph: Graph, collected: _Rows, size: Ints, link_class: Ints) -> FlowClasses:
    rows = list(collected.rows.values())
    used = sorted({group for row in rows for group in row.usage})
    column = {group: place for place, group in enumerate(used)}
    usage = np.zeros((len(rows), len(used)))
    for place, row in enumerate(rows):
        for group, share in row.usage.items():
            usage[place, column[group]] = row.flows * share / size[group]
    _, first = np.unique(link_class, return_index=True)
    sample = first[used] if used else np.zeros(0, np.int64)
    return FlowClasses(
        names=tuple(row.name for row in rows),
        flows=np.array([row.flows for row in rows]),
        bytes_each=np.array([row.pattern.bytes_each for row in rows]),
        usage=usage,
        capacity_bytes_per_s=graph.link_bytes_per_s[sample],
        links=size[used].astype(np.float64) if used else np.zeros(0),
        limit_bytes_per_s=np.array([row.pattern.limit_bytes_per_s for row in rows]),
        priority=np.array([row.pattern.priority for row in rows], np.int64),
        start_s=np.array([row.pattern.start_s for row in rows]),
        latency_s=np.array([row.latency_s for row in rows]),
        link_names=tuple(f"{graph.parts[graph.link_from[i]]} -> {graph.parts[graph.link_to[i]]}" for i in sample),
        cut_off=collected.cut_off,
    )
