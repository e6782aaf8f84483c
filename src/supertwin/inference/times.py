"""The times of a step: what is exposed of each part, and what is busy."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from supertwin.cost.result import OperatorCost
from supertwin.inference.placement import Real


@dataclass(slots=True)
class StepTimes:
    """A step. parts: exposed time by (part, bound); busy_s: time of each part if nothing overlapped.

    last_layer_s: exposed time of one layer of the last kind (the MoE layer of a mixed model);
    streams_s: the two sides of one micro-batch in that layer, when two are overlapped: (attention, experts) on core
    groups, (compute, exchange) otherwise;
    waited_s: part of the host's time in which the device has nothing to do because it outlasts the step;
    kernels: operators executed; issued: those and exchanges; figures: further ones by name; costs: (cost, executions).
    """

    time_s: Real = 0.0
    parts: dict[tuple[str, str], Real] = field(default_factory=dict)
    last_layer_s: Real = 0.0
    streams_s: tuple[Real, Real] = (0.0, 0.0)
    waited_s: Real = 0.0
    kernels: float = 0.0
    issued: float = 0.0
    figures: dict[str, Real] = field(default_factory=dict)
    costs: list[tuple[OperatorCost, Real]] = field(default_factory=list)

    @property
    def device_s(self) -> npt.NDArray[np.float64]:
        """The step without what it waits for the host."""
        return np.asarray(self.time_s - np.asarray(self.waited_s))

    @property
    def flop(self) -> Real:
        """Arithmetic of one device."""
        return sum((cost.flop * count for cost, count in self.costs), start=0.0)

    @property
    def bytes(self) -> Real:
        """Memory traffic of one device."""
        return sum((cost.bytes * count for cost, count in self.costs), start=0.0)

    def add(self, part: str, bound: str, time_s: Real) -> None:
        """Add exposed time."""
        key = (part, bound)
        self.parts[key] = self.parts.get(key, 0.0) + time_s
        self.time_s = self.time_s + time_s


def scalar(value: Real) -> float:
    """The first of an array, or the number itself."""
    return float(value.flat[0]) if isinstance(value, np.ndarray) else float(value)
