"""What `train` adds to the figures of the step: its explanation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supertwin.cli.options import Values
from supertwin.cli.steps import More

if TYPE_CHECKING:
    from supertwin.training.case import TrainingCase


def more(case: TrainingCase, values: Values) -> More:
    """Waterfall, power by phase and what-if table, where `--explain` asks for them."""
    if not values["explain"]:
        return More()
    from supertwin.report.training import explain_fields, power_view, waterfall_view, what_if_view
    from supertwin.training.phases import phase_powers
    from supertwin.training.setting import setting_of
    from supertwin.training.step import step_time
    from supertwin.training.waterfall import rungs
    from supertwin.training.what_if import what_if

    setting = setting_of(case)
    step = step_time(setting)
    found, gains, phases = rungs(setting, step), what_if(case), phase_powers(setting, step)
    reasons = [*waterfall_view(found), *what_if_view(gains), *power_view(phases)]
    return More(explain_fields(found, gains, phases), reasons)
