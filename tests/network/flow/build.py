"""Flow classes from plain lists, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from supertwin.network.flow import FlowClasses


def make(usage: npt.ArrayLike, capacity: Sequence[float], bytes_each: npt.ArrayLike = 1.0, **other: Any) -> FlowClasses:
    """Classes c0, c1 ... on links l0, l1 ...; one flow per class, no limits, one priority unless given."""
    use = np.asarray(usage, dtype=np.float64).reshape(-1, len(capacity))
    count, width = use.shape

    def column(name: str, default: float) -> npt.NDArray[np.float64]:
        return np.array(np.broadcast_to(np.asarray(other.get(name, default), dtype=np.float64), (count,)))

    return FlowClasses(
        names=tuple(f"c{i}" for i in range(count)),
        flows=column("flows", 1.0),
        bytes_each=np.array(np.broadcast_to(np.asarray(bytes_each, dtype=np.float64), (count,))),
        usage=use,
        capacity_bytes_per_s=np.asarray(capacity, dtype=np.float64),
        links=np.ones(width),
        limit_bytes_per_s=column("limit", np.inf),
        priority=column("priority", 0).astype(np.int64),
        start_s=column("start", 0.0),
        latency_s=column("latency", 0.0),
        link_names=tuple(f"l{i}" for i in range(width)),
        weight=column("weight", 1.0) if "weight" in other else None,
    )
