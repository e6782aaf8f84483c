"""What a prediction is: the same form for a training step, a prefill step and a decode step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Z90 = 1.645  # standard deviations to either side of a normal 90 % interval


@dataclass(frozen=True, slots=True)
class Part:
    """One row of the breakdown. time_s is exposed time (hidden work does not count); shares add up to 1.

    bound: compute | memory | network | latency | bubble.
    """

    part: str
    time_s: float
    share: float
    bound: str


@dataclass(frozen=True, slots=True)
class StageMemory:
    """Bytes of one pipeline device at its peak. in_flight: microbatches whose activations it holds.

    moments_bytes: part of optimizer_bytes; step_bytes: temporaries of the optimizer step, when activations are gone;
    flat_bytes: those of them that are single blocks as long as the share.
    """

    parameters_bytes: float
    gradients_bytes: float
    optimizer_bytes: float
    activations_bytes: float
    workspace_bytes: float
    in_flight: float
    moments_bytes: float = 0.0
    step_bytes: float = 0.0
    flat_bytes: float = 0.0

    @property
    def states_bytes(self) -> float:
        """What lies on the device from step to step."""
        return self.parameters_bytes + self.gradients_bytes + self.optimizer_bytes

    @property
    def passes_bytes(self) -> float:
        """What forward and backward passes allocate and free."""
        return self.activations_bytes + self.workspace_bytes

    @property
    def peak_bytes(self) -> float:
        """The larger of the passes and the optimizer step, with the states."""
        return self.states_bytes + max(self.passes_bytes, self.step_bytes)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes per device, worst pipeline stage. peak_bytes is the sum; capacity_bytes what the device offers.

    parts: the same bytes in finer parts; stages: every pipeline device. Outside the peak: communication_bytes, staging
    buffers of the collective library; runtime_bytes, what driver and context keep of the device (capacity is without
    it); host_bytes, states and activations kept in host memory.
    """

    parameters_bytes: float = 0.0
    gradients_bytes: float = 0.0
    optimizer_bytes: float = 0.0
    activations_bytes: float = 0.0
    kv_cache_bytes: float = 0.0
    workspace_bytes: float = 0.0
    capacity_bytes: float = 0.0
    communication_bytes: float = 0.0
    runtime_bytes: float = 0.0
    host_bytes: float = 0.0
    parts: Mapping[str, float] = field(default_factory=dict)
    stages: tuple[StageMemory, ...] = ()

    @property
    def peak_bytes(self) -> float:
        """Sum of all uses."""
        return (
            self.parameters_bytes
            + self.gradients_bytes
            + self.optimizer_bytes
            + self.activations_bytes
            + self.kv_cache_bytes
            + self.workspace_bytes
        )

    @property
    def fits(self) -> bool:
        """Whether peak and communication buffers are within the capacity."""
        return self.missing_bytes <= 0.0

    @property
    def missing_bytes(self) -> float:
        """What peak and communication buffers need beyond the capacity (not above 0 when they fit)."""
        return self.peak_bytes + self.communication_bytes - self.capacity_bytes


@dataclass(frozen=True, slots=True)
class Bill:
    """Power, energy and money of the step (whole job power; per-token energy and price).

    power_w, and with it energy and price, includes cooling (IT power x PUE); it_power_w does not.
    """

    power_w: float | None
    energy_j_per_token: float | None
    usd_per_million_tokens: float | None
    it_power_w: float | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """One predicted step.

    kind: train | prefill | decode. figures: further figures of the interface by JSON name (mfu, ttft_s, tpot_s ...).
    defaults: options that the user did not give, with the value used. interval: 90 % factors (low, high) on step time;
    memory_interval: on peak memory ((1, 1): not known).
    sources: numbers that it stands on, as (name, value with unit, source id, layer spec|calibration|assumption).
    """

    kind: str
    step_time_s: float
    tokens_per_s_per_device: float
    tokens_per_s_per_chip: float
    figures: Mapping[str, float | None]
    memory: Memory
    breakdown: tuple[Part, ...]
    bill: Bill
    layout: Mapping[str, int | str]
    defaults: Mapping[str, object] = field(default_factory=dict)
    interval: tuple[float, float] = (1.0, 1.0)
    memory_interval: tuple[float, float] = (1.0, 1.0)
    sources: tuple[tuple[str, str, str, str], ...] = ()
    warnings: tuple[str, ...] = ()
