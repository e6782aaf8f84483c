"""Flows grouped by symmetry: what the flow solver works on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class FlowClasses:
    """Identical flows as one row, identical links as one column.

    flows: how many flows each class has, [classes]; bytes_each: bytes of one flow, [classes];
    usage: [classes, link classes], share of ONE flow's rate that ONE link of the link class carries, summed over all
    flows of the class that cross that link (so load of one link = sum over classes of usage x rate of one flow);
    capacity_bytes_per_s: of one link, [link classes]; links: how many links each link class has;
    limit_bytes_per_s: most that one flow can take by itself (protocol, engine), inf if none, 0 for flows without a
    route, [classes]; priority: strict; lower numbers first, [classes]; start_s: when the class begins, [classes];
    latency_s: of the path, [classes]. names for reports.
    cut_off: flows of the pattern that have no path and are in no class.
    weight: share of a class's flows relative to others at a common bottleneck, [classes]; None: all equal.
    """

    names: tuple[str, ...]
    flows: npt.NDArray[np.float64]
    bytes_each: npt.NDArray[np.float64]
    usage: npt.NDArray[np.float64]
    capacity_bytes_per_s: npt.NDArray[np.float64]
    links: npt.NDArray[np.float64]
    limit_bytes_per_s: npt.NDArray[np.float64]
    priority: npt.NDArray[np.int64]
    start_s: npt.NDArray[np.float64]
    latency_s: npt.NDArray[np.float64]
    link_names: tuple[str, ...]
    weight: npt.NDArray[np.float64] | None = None
    cut_off: float = 0.0
