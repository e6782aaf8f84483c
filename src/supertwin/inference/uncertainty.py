"""The 90 % interval of a prediction, composed from what each part is worth. Nothing here is read off end-to-end rows.

Standard deviations (of the logarithm) are the operators' and links' own residuals on held-out shapes for the chip's
class and judgement for host time, routing and unstated options. Independent causes add in variance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from supertwin.inference.reading import Reading
from supertwin.machine.chip import Chip

Z90 = 1.645
KERNELS = 0.10  # median operator error of about 7 % is a standard deviation of about 0.10
NETWORK = 0.25  # collectives: median error of 12 % with heavy tails
HOST = 0.50  # host gaps are known to about a factor 1.6
COMPOSITION = 0.08  # fusion, stream order, clocks: what operator tables do not see
INHERITED = 0.15  # chip without measurements of its own
LOAD = 0.15  # arrival pattern, length spread, batch reached
OPEN_OPTION = 0.15  # one layout, precision, batch or length that the source leaves open

_OPEN = (
    "layout-unstated", "ep-unstated", "batch-unstated", "precision-unstated", "chip-bin-unstated", "lengths-unstated",
    "input-len-is-dataset", "acceptance-unstated", "experimental-sweep", "lengths-are-means",
)  # fmt: skip


def factors(sigma: float) -> tuple[float, float]:
    """90 % factors of a log-normal error."""
    return math.exp(-Z90 * sigma), math.exp(Z90 * sigma)


def step_sigma(network_share: float, host_share: float, chip: Chip) -> float:
    """Standard deviation of the logarithm of a step time from the shares of its time."""
    kernels = max(0.0, 1.0 - network_share - host_share)
    own = INHERITED if chip.relative else 0.0
    parts = (kernels * KERNELS, network_share * NETWORK, host_share * HOST, COMPOSITION, kernels * own)
    return math.sqrt(sum(x * x for x in parts))


def interval_of_row(row: Mapping[str, object], reading: Reading, chip: Chip) -> tuple[float, float]:
    """90 % factors for the metrics of a table row: the step's own error, the load's and one term per open option."""
    base = step_sigma(0.15, 0.10, chip) ** 2
    if reading.phase in ("serving", "offline"):
        base += LOAD**2
    base += OPEN_OPTION**2 * sum(flag in reading.flags for flag in _OPEN)
    if row.get("kind") == "slo-constrained":
        base += LOAD**2
    return factors(math.sqrt(base))
