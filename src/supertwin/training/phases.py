"""What the devices do over a step, phase by phase, and the power that each phase draws.

Phases are the exposed parts of the step: products and kernels, waiting for links, the optimizer's pass over memory, and
waiting for the pipeline, the host or transfers to it. Power is that of the whole job in the phase, as if all devices
were in it at once; the mean over the step weighs it by time, which is what a meter behind thousands of devices in
different phases reads.
"""

from __future__ import annotations

from dataclasses import dataclass

from supertwin.core.formats import number_format
from supertwin.room import Activity, power_w
from supertwin.training.setting import Setting
from supertwin.training.step import StepTime
from supertwin.training.weights import optimizer_traffic_bytes

NAMES = ("compute", "communication", "optimizer", "waiting")


@dataclass(frozen=True, slots=True)
class PhasePower:
    """One phase: seconds and share of the step, and the power of the job (cooling included) while it lasts."""

    phase: str
    time_s: float
    share: float
    power_w: float


def phase_powers(setting: Setting, step: StepTime) -> tuple[PhasePower, ...]:
    """Phases of a step that take time, in the order of NAMES."""
    seconds = _seconds(step)
    system, devices = setting.case.system, setting.case.layout.devices
    rows = zip(NAMES, seconds, _activities(setting, step, seconds), strict=True)
    lasting = [(name, s, power_w(system, activity, devices)) for name, s, activity in rows if s > 0.0]
    return tuple(PhasePower(name, s, s / step.total_s, watts) for name, s, watts in lasting)


def mean_power_w(phases: tuple[PhasePower, ...]) -> float:
    """Power of the job over the step, weighed by time."""
    return sum(phase.share * phase.power_w for phase in phases)


def _seconds(step: StepTime) -> list[float]:
    spent = dict.fromkeys(NAMES, 0.0)
    for part, seconds in step.parts.items():
        spent[_phase_of(part)] += seconds
    return [max(spent[name], 0.0) for name in NAMES]


def _phase_of(part: str) -> str:
    head = part.partition("/")[0]
    if head in ("bubble", "host", "offload"):
        return "waiting"
    return head if head in NAMES else "compute"


def _activities(setting: Setting, step: StepTime, seconds: list[float]) -> list[Activity[float]]:
    """Shares of what chip, memory and links can do, by phase; at most 1."""
    chip, rounds = setting.case.system.chip, setting.microbatches
    working, updating = max(seconds[0], 1e-12), max(seconds[2], 1e-12)
    peak = chip.peak(number_format(setting.case.precision).rate)
    matrix = step.passes.executed_flop * rounds / working / peak
    memory = step.passes.moved_bytes * rounds / working / chip.memory_bytes_per_s
    traffic = float(optimizer_traffic_bytes(setting.case, setting.framework, setting.weights).max())
    update = traffic / updating / chip.memory_bytes_per_s
    return [
        Activity(min(matrix, 1.0), min(memory, 1.0), 0.0, 1.0),
        Activity(0.0, 0.0, 1.0, 1.0),
        Activity(0.0, min(update, 1.0), 0.0, 1.0),
        Activity(0.0, 0.0, 0.0, 0.0),
    ]
