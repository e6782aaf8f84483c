"""What one change to the job or to its machine would buy: every candidate priced and checked like the job itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

from supertwin.core.errors import SupertwinError
from supertwin.training.case import TrainingCase
from supertwin.training.changes import PLAIN, Change, changes
from supertwin.training.check import check
from supertwin.training.memory import worst_memory
from supertwin.training.setting import Setting, setting_of
from supertwin.training.step import step_time


@dataclass(frozen=True, slots=True)
class Gain:
    """A change that is legal and fits. gain: tokens/s over those of the job, minus 1."""

    change: Change
    gain: float
    step_time_s: float
    tokens_per_s_per_device: float
    peak_memory_bytes: float


def what_if(case: TrainingCase) -> tuple[Gain, ...]:
    """Gains of all single changes that are legal and fit the memory, best first. Raises InputError for an illegal
    job."""
    check(case)
    now = _rate(case, step_time(setting_of(case)).total_s)
    found = [gain for change in changes(case) if (gain := _judged(change, now)) is not None]
    return tuple(sorted(found, key=lambda gain: -gain.gain))


def scaled_setting(case: TrainingCase, scale: tuple[float, float]) -> Setting:
    """Setting of a case on a fabric whose fixed and per-byte times are scaled."""
    setting = setting_of(case)
    return setting if scale == PLAIN else replace(setting, fabric=setting.fabric.scaled(scale))


def _judged(change: Change, now: float) -> Gain | None:
    try:
        check(change.case)
        setting = scaled_setting(change.case, change.scale)
        memory = worst_memory(setting)
        if not memory.fits:
            return None
        seconds = step_time(setting).total_s
    except SupertwinError:
        return None
    rate = _rate(change.case, seconds)
    return Gain(change, rate / now - 1.0, seconds, rate, memory.peak_bytes)


def _rate(case: TrainingCase, seconds: float) -> float:
    return case.global_batch * case.seq_len / seconds / case.layout.devices
