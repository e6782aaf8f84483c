"""The standard deviation of a prediction, composed from what each part is worth. Nothing here is read off end-to-end
rows; how many deviations an interval takes is (regimes.py).

Standard deviations (of the logarithm) are the operators' and links' own residuals on held-out shapes for the chip's
class and judgement for host time, routing and unstated options. Independent causes add in variance.
"""

from __future__ import annotations

import math

from supertwin.core.prediction import Z90
from supertwin.inference.reading import Reading
from supertwin.machine.chip import Chip

KERNELS = 0.12  # typical spread of the operator calibrations where no step is at hand
NETWORK = 0.25  # collectives: median error of 12 % with heavy tails
HOST = 0.50  # host gaps are known to about a factor 1.6
COMPOSITION = 0.08  # fusion, stream order, clocks: what operator tables do not see
INHERITED = 0.15  # chip without measurements of its own
OPEN_OPTION = 0.12  # one layout, precision, batch or length that the source leaves open
LOAD = {
    "output_tokens_per_s_per_device": 0.30,  # batch reached, length spread, refill
    "input_tokens_per_s_per_device": 0.30,
    "tpot_s": 0.40,  # near its limit an engine's latency hardly depends on its rate: small errors grow
    "ttft_s": 0.75,  # queue, burst, server front end
    "step_time_s": 0.0,
}
"""Judgement for deployments, by metric: 90 % factors of 1.6, 1.9 and 3.4."""

_OPEN = (
    "layout-unstated", "ep-unstated", "batch-unstated", "precision-unstated", "chip-bin-unstated", "lengths-unstated",
    "input-len-is-dataset", "acceptance-unstated", "experimental-sweep", "lengths-are-means",
)  # fmt: skip


def factors(sigma: float) -> tuple[float, float]:
    """90 % factors of a log-normal error."""
    return math.exp(-Z90 * sigma), math.exp(Z90 * sigma)


def step_sigma(network_share: float, host_share: float, kernels: float) -> float:
    """Standard deviation of the logarithm of a step time from the shares of its time.

    kernels: that of its operators, taken as fully correlated (one calibration prices them all)."""
    own = max(0.0, 1.0 - network_share - host_share)
    parts = (own * kernels, network_share * NETWORK, host_share * HOST, COMPOSITION)
    return math.sqrt(sum(x * x for x in parts))


def usual_sigma(chip: Chip) -> float:
    """That of a step whose parts are not at hand: typical shares of network and host."""
    return step_sigma(0.15, 0.10, math.hypot(KERNELS, INHERITED) if chip.relative else KERNELS)


def interval_of_row(reading: Reading, chip: Chip, metric: str) -> tuple[float, float]:
    """90 % factors for one metric of a table row: the step's own error, the load's and one term per open option."""
    variance = usual_sigma(chip) ** 2
    if reading.phase in ("serving", "offline"):
        variance += LOAD[metric] ** 2
    variance += OPEN_OPTION**2 * sum(flag in reading.flags for flag in _OPEN)
    return factors(math.sqrt(variance))
