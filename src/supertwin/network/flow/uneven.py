"""All-to-all with a size per pair (all_to_all_v): experts and expert copies that are not equally loaded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from supertwin.core.errors import InputError
from supertwin.network.faults import Fault
from supertwin.network.flow.collectives import FlowCollective, Ranks, carry, damaged, ranks_of
from supertwin.network.flow.costs import Call, costs
from supertwin.network.topology.graph import Graph
from supertwin.network.topology.patterns import Pattern

OP = "all_to_all"


def all_to_all_v(
    graph: Graph,
    bytes_by_pair: npt.ArrayLike,
    group: Ranks,
    *,
    faults: Sequence[Fault | str] = (),
    library: str = "default",
    context: str = "benchmark",
) -> FlowCollective:
    """Time of one all-to-all in which rank i sends bytes_by_pair[i, j] to rank j, [ranks, ranks].

    Protocol and fixed costs are those of an even all-to-all of the mean bytes per rank, what a rank keeps included.
    Pairs of equal size are one pattern. Raises InputError, UnknownName.
    """
    ranks = ranks_of(graph, group)[0]
    size = np.asarray(bytes_by_pair, dtype=np.float64)
    if size.shape != (ranks.size, ranks.size) or not (np.isfinite(size).all() and (size >= 0).all()):
        raise InputError(f"bytes by pair of shape {size.shape}: expected {(ranks.size,) * 2} numbers of at least 0")
    plan = costs(graph.system, Call(OP, float(size.sum() / ranks.size), "auto", library, context), ranks)
    sent = size.copy()
    np.fill_diagonal(sent, 0.0)
    patterns = []
    for value in np.unique(sent[sent > 0]).tolist():
        source, target = np.nonzero(sent == value)
        patterns.append(Pattern(OP, value, source=ranks[source], target=ranks[target]))
    return carry(damaged(graph, faults), OP, plan, (tuple(patterns),) if patterns else ())
