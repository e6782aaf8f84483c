"""Patterns of a schedule as flow classes on the links of a graph, with the calibrated share of each plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from supertwin.network.flow.classes import FlowClasses
from supertwin.network.topology.graph import Graph
from supertwin.network.topology.patterns import Pattern
from supertwin.network.topology.symmetry import joint_classes

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Shares = Mapping[str, float]  # plane -> share of its line rate that the library reaches; "" for all other planes
NO_FLOWS = FlowClasses(
    (), np.zeros(0), np.zeros(0), np.zeros((0, 0)), np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0, np.int64),
    np.zeros(0), np.zeros(0), (),
)  # fmt: skip


def flows(graph: Graph, patterns: Sequence[Pattern], shares: Sequence[Shares]) -> tuple[FlowClasses, Ints]:
    """Joint flow classes of patterns that may run together, and the pattern that each class belongs to.

    shares: one mapping per pattern; a payload byte takes 1 / share bytes of every link of the plane. Flows without a
    route become a class of their own with limit 0.
    """
    given = [(number, pattern) for number, pattern in enumerate(patterns) if pattern.flows]
    if not given:
        return NO_FLOWS, np.zeros(0, np.int64)
    found, place = joint_classes(graph, [pattern for _, pattern in given])
    owner = np.array([number for number, _ in given], dtype=np.int64)[place]
    planes = _planes(graph, found.link_names)
    usage = found.usage.copy()
    for number, _ in given:
        by_column = np.array([shares[number].get(plane, shares[number].get("", 1.0)) for plane in planes])
        usage[owner == number] /= by_column
    names = tuple(f"{patterns[number].name}: {name}" for number, name in zip(owner.tolist(), found.names, strict=True))
    # the calibrated rounds of a collective contain the latency of its paths
    found = replace(found, names=names, usage=usage, latency_s=np.zeros(owner.size), cut_off=0.0)
    return _with_cut_off(found, owner, given)


def _with_cut_off(found: FlowClasses, owner: Ints, given: Sequence[tuple[int, Pattern]]) -> tuple[FlowClasses, Ints]:
    """Flows of a pattern that no class holds have no route."""
    held = np.bincount(owner, found.flows, max(number for number, _ in given) + 1)
    lost = [(number, pattern, pattern.flows - held[number]) for number, pattern in given]
    lost = [entry for entry in lost if entry[2] > 0.5]
    if not lost:
        return found, owner
    more = len(lost)
    extra = replace(
        NO_FLOWS,
        names=tuple(f"{pattern.name}: {round(number)} flows" for _, pattern, number in lost),
        flows=np.array([number for _, _, number in lost], dtype=np.float64),
        bytes_each=np.array([pattern.bytes_each for _, pattern, _ in lost]),
        usage=np.zeros((more, len(found.link_names))),
        limit_bytes_per_s=np.zeros(more),
        priority=np.array([pattern.priority for _, pattern, _ in lost], np.int64),
        start_s=np.zeros(more),
        latency_s=np.zeros(more),
    )
    return _rows_of_both(found, extra), np.append(owner, [number for number, _, _ in lost])


def _rows_of_both(one: FlowClasses, other: FlowClasses) -> FlowClasses:
    columns = ("flows", "bytes_each", "limit_bytes_per_s", "priority", "start_s", "latency_s")
    joined: dict[str, Any] = {name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in columns}
    return replace(one, names=one.names + other.names, usage=np.vstack([one.usage, other.usage]), **joined)


def one_after_the_other(parts: Sequence[FlowClasses]) -> FlowClasses:
    """Classes of phases that never run together: every phase has link classes of its own."""
    joined = parts[0]
    for part in parts[1:]:
        wide = np.zeros((len(joined.names) + len(part.names), len(joined.link_names) + len(part.link_names)))
        wide[: len(joined.names), : len(joined.link_names)] = joined.usage
        wide[len(joined.names) :, len(joined.link_names) :] = part.usage
        both = _rows_of_both(
            replace(joined, usage=np.zeros((len(joined.names), 1))), replace(part, usage=np.zeros((len(part.names), 1)))
        )
        joined = replace(
            both,
            usage=wide,
            capacity_bytes_per_s=np.append(joined.capacity_bytes_per_s, part.capacity_bytes_per_s),
            links=np.append(joined.links, part.links),
            link_names=joined.link_names + part.link_names,
        )
    return joined


def _planes(graph: Graph, link_names: Sequence[str]) -> list[str]:
    """Plane of each link class, by the two parts that its sample link joins ("a -> b")."""
    numbers = _part_numbers(graph.parts)
    count = len(graph.parts)
    key = graph.link_from.astype(np.int64) * count + graph.link_to
    wanted = [name.split(" -> ") for name in link_names]
    sample = np.array([numbers[a] * count + numbers[b] for a, b in wanted], dtype=np.int64)
    where = np.flatnonzero(np.isin(key, sample))
    plane_of = dict(zip(key[where].tolist(), graph.link_plane[where].tolist(), strict=True))
    return [graph.planes[plane_of[k]] for k in sample.tolist()]


@lru_cache(maxsize=4)
def _part_numbers(parts: tuple[str, ...]) -> dict[str, int]:
    return {name: number for number, name in enumerate(parts)}


def rows_of(given: FlowClasses, rows: Ints) -> FlowClasses:
    """Classes by index, repeated where an index repeats, on the same link classes."""
    columns = ("flows", "bytes_each", "usage", "limit_bytes_per_s", "priority", "start_s", "latency_s")
    taken: dict[str, Any] = {name: getattr(given, name)[rows] for name in columns}
    weight = None if given.weight is None else given.weight[rows]
    return replace(given, names=tuple(given.names[i] for i in rows.tolist()), weight=weight, **taken)
