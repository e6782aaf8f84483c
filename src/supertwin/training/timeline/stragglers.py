"""Slow devices: named ones, or a spread over all of them. Ranks that work in lockstep are as slow as their slowest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from supertwin.core.errors import InputError
from supertwin.training.case import TrainingCase

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stragglers:
    """Factors on the kernel time of devices.

    stages: one device of that pipeline stage is slow; devices: by rank, in the order of the case; sigma: standard
    deviation of the logarithm of every device's factor, drawn with `seed`.
    """

    stages: Mapping[int, float] = field(default_factory=dict)
    devices: Mapping[int, float] = field(default_factory=dict)
    sigma: float = 0.0
    seed: int = 0

    @property
    def any(self) -> bool:
        """Whether a device is slower than another."""
        return bool(self.stages or self.devices or self.sigma)


def slowdowns(case: TrainingCase, given: Stragglers) -> Array:
    """Distinct factors of pipelines, shape [pipelines, pp]; row 0 is one that no named device slows down.

    A pipeline is a set of ranks in lockstep: those of a tensor, context and expert group. Pipelines meet when gradients
    are reduced. Rows that another row exceeds at every stage are left out, since they wait for it.

    Raises InputError for a stage or device that the job does not have, or a factor that is not positive.
    """
    layout = case.layout
    inner, group = layout.tp * layout.cp * layout.dp, lockstep(case)
    factors = np.ones((inner // group, layout.pp))
    if given.sigma:
        drawn = np.exp(given.sigma * np.random.default_rng(given.seed).standard_normal((inner, layout.pp)))
        factors = drawn.reshape(inner // group, group, layout.pp).max(axis=1)
    nominal = factors[:1].copy() if given.sigma else np.ones((1, layout.pp))
    for stage, factor in given.stages.items():
        _check("stage", stage, layout.pp, factor)
        factors[-1, stage] = max(factors[-1, stage] if given.sigma else 0.0, factor)
    for device, factor in given.devices.items():
        _check("device", device, layout.devices, factor)
        place, stage = _place(case, device)
        factors[place // group, stage] = max(factors[place // group, stage], factor)
    return np.concatenate((nominal, _slowest(factors, nominal)))


def lockstep(case: TrainingCase) -> int:
    """Ranks of one stage that wait for each other in every layer: a tensor, context and expert group."""
    layout = case.layout
    inner = layout.tp * layout.cp * layout.dp
    group = math.lcm(layout.tp * layout.cp, layout.ep * layout.etp)
    return group if inner % group == 0 else inner


def _place(case: TrainingCase, device: int) -> tuple[int, int]:
    """(place among the ranks of its stage counted tp, cp, dp from the inside, pipeline stage) of a rank."""
    layout, at = case.layout, {"tp": 0, "cp": 0, "dp": 0, "pp": 0}
    for axis in case.order:
        if axis in at:  # ep lies inside the others
            device, at[axis] = divmod(device, getattr(layout, axis))
    return at["tp"] + layout.tp * (at["cp"] + layout.cp * at["dp"]), at["pp"]


def _check(what: str, given: int, count: int, factor: float) -> None:
    if not 0 <= given < count:
        raise InputError(f"straggler {what} {given}; the job has {what}s 0 to {count - 1}")
    if not (factor > 0.0 and math.isfinite(factor)):
        raise InputError(f"straggler factor {factor:g}; expected a positive number, such as 1.2 for 20 % slower")


def _slowest(factors: Array, nominal: Array) -> Array:
    """Distinct rows that differ from the nominal one and that no other row exceeds everywhere."""
    rows = np.unique(factors, axis=0)
    rows = rows[(rows != nominal[0]).any(axis=1)]
    kept = [
        row
        for index, row in enumerate(rows)
        if not any((other >= row).all() for place, other in enumerate(rows) if place != index)
    ]
    return np.array(kept).reshape(len(kept), factors.shape[1])
