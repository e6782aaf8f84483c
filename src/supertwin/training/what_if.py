"""What one change to the job or to its machine would buy: every candidate priced and checked like the job itself."""

from __future__ import annotations

from dataclasses import replace

from supertwin.core import change
from supertwin.core.errors import SupertwinError
from supertwin.training.case import TrainingCase
from supertwin.training.changes import PLAIN, Change, Scale, changes
from supertwin.training.check import check
from supertwin.training.memory import worst_memory
from supertwin.training.setting import Setting, setting_of
from supertwin.training.step import step_time

Gain = change.Gain[TrainingCase, Scale]


def what_if(case: TrainingCase) -> tuple[Gain, ...]:
    """Gains of all single changes that are legal and fit the memory, best first. Raises InputError for an illegal
    job."""
    check(case)
    now = _rate(case, step_time(setting_of(case)).total_s)
    return change.best_first(_judged(one, now) for one in changes(case))


def scaled_setting(case: TrainingCase, scale: Scale) -> Setting:
    """Setting of a case on a fabric whose fixed and per-byte times are scaled."""
    setting = setting_of(case)
    return setting if scale == PLAIN else replace(setting, fabric=setting.fabric.scaled(scale))


def _judged(one: Change, now: float) -> Gain | None:
    try:
        check(one.case)
        setting = scaled_setting(one.case, one.scale)
        memory = worst_memory(setting)
        if not memory.fits:
            return None
        seconds = step_time(setting).total_s
    except SupertwinError:
        return None
    rate = _rate(one.case, seconds)
    return Gain(one, rate / now - 1.0, seconds, seconds, rate, memory.peak_bytes)


def _rate(case: TrainingCase, seconds: float) -> float:
    return case.global_batch * case.seq_len / seconds / case.layout.devices
