"""A fault, and the graph after it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from supertwin.core.errors import InputError, UnknownName
from supertwin.network.faults.address import find
from supertwin.network.topology.graph import Graph

REMOVE, DEGRADE = "remove", "degrade"


@dataclass(frozen=True, slots=True)
class Fault:
    """target: address or pattern; kind: remove or degrade; factor: share of the capacity that a degraded link keeps."""

    target: str
    kind: str = REMOVE
    factor: float = 0.0

    @property
    def words(self) -> str:
        """`ub-l2-4-11 removed`, `ub at 50 %`."""
        return f"{self.target} removed" if self.kind == REMOVE else f"{self.target} at {100 * self.factor:g} %"


def fault(text: str) -> Fault:
    """`ADDRESS` is removed, `ADDRESS=0.5` keeps half. Raises InputError."""
    target, equals, factor = text.partition("=")
    if not equals:
        return Fault(target)
    try:
        value = float(factor)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise InputError(f"fault {text!r}: expected ADDRESS or ADDRESS=SHARE with a share from 0 to 1")
    return Fault(target, DEGRADE, value) if value > 0 else Fault(target)


def apply(graph: Graph, faults: Iterable[Fault | str]) -> Graph:
    """The graph after the faults; ids stay as they are, a removed link has capacity 0.

    Factors of several faults multiply. Raises UnknownName (nothing has that address), InputError (kind or factor).
    """
    alive, rate, mark = graph.part_alive.copy(), graph.link_bytes_per_s.copy(), graph.part_mark.copy()
    words = list(graph.faults)
    for given in faults:
        one = fault(given) if isinstance(given, str) else given
        _check(one)
        parts, links, kept = find(graph, one.target)
        factor = 0.0 if one.kind == REMOVE else one.factor
        if len(parts):
            hit = np.zeros(len(graph.parts), bool)
            hit[parts] = True
            if one.kind == REMOVE:
                alive[parts] = False
            rate[hit[graph.link_from] | hit[graph.link_to]] *= factor
        rate[links] *= kept + (1 - kept) * factor
        words.append(one.words)
        if one.target not in graph.planes:
            ends = graph.link_from[links].astype(np.int64), graph.link_to[links].astype(np.int64)
            for place, touched in enumerate((parts, *ends)):
                mark[np.unique(touched)] += np.uint64((3 * len(words) + place) ** 3)
    return replace(graph, part_alive=alive, link_bytes_per_s=rate, part_mark=mark, faults=tuple(words))


def _check(one: Fault) -> None:
    if one.kind not in (REMOVE, DEGRADE):
        raise UnknownName("kind of fault", one.kind, (REMOVE, DEGRADE))
    if not 0 <= one.factor <= 1:
        raise InputError(f"fault {one.target!r}: factor {one.factor}; expected the share that is left, 0 to 1")
