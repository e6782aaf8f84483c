"""The 90 % interval of a training step and of its peak memory.

A standard deviation is composed for the step from what each part is worth (assumptions). The interval is that many of
them as past errors of the same regime took (core.regimes, data/training-intervals.json). Regimes run from narrow (chip
family, framework, kind of model, one node or several) to wide (framework, family, vendor, all).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from supertwin.core.prediction import Part
from supertwin.core.regimes import Factors, Quantiles, Regimes, shipped
from supertwin.core.regimes import interval as interval_of
from supertwin.training import assumptions as assume
from supertwin.training.case import TrainingCase
from supertwin.training.check import expert_count
from supertwin.training.frameworks import framework_named

TIME, MEMORY = "time", "memory"
FILE = "training-intervals.json"
_CAUSES = {"compute": "compute", "memory": "compute", "bubble": "compute", "network": "network", "latency": "latency"}


def step_sigma(parts: Sequence[Part]) -> float:
    """Standard deviation of ln(step time): spreads of compute, network and host by their share, and what a table of
    settings leaves out."""
    shares = {"compute": 0.0, "network": 0.0, "latency": 0.0}
    for part in parts:
        shares[_CAUSES[part.bound]] += part.share
    return math.sqrt(
        assume.STEP_SIGMA.value**2
        + (assume.COMPUTE_SIGMA.value * shares["compute"]) ** 2
        + (assume.NETWORK_SIGMA.value * shares["network"]) ** 2
        + (assume.HOST_SIGMA.value * shares["latency"]) ** 2
    )


def regimes_of(case: TrainingCase, metric: str) -> Regimes:
    """Regimes of a job. metric: time | memory."""
    chip, framework = case.system.chip, framework_named(case.framework).name
    family = chip.architecture if chip.vendor == "google" else chip.architecture.rpartition("-")[0] or chip.architecture
    kind = "experts" if expert_count(case.model) else "dense"
    reach = "node" if case.layout.devices <= case.system.devices_per_node else "nodes"
    job = f"{metric}/{family}/{framework}"
    own = (f"{job}/{kind}/{reach}", f"{job}/{kind}", job)
    return Regimes(own, (f"{metric}/*/{framework}", f"{metric}/{family}", f"{metric}/{chip.vendor}", metric))


def interval(regimes: Regimes, sigma: float, known: Quantiles | None = None) -> Factors:
    """(low, high) factors on a predicted time or memory whose composed deviation is sigma."""
    return interval_of(regimes, sigma, shipped(FILE) if known is None else known)
