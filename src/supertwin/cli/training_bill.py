"""What `train` adds to the figures of the step: its explanation, the bill of a whole run, scaling curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supertwin.cli.options import Values
from supertwin.cli.sizes import parse_count, parse_devices
from supertwin.cli.steps import More

if TYPE_CHECKING:
    from supertwin.core.prediction import Prediction
    from supertwin.training.case import TrainingCase

_TUNED = ("tp", "pp", "ep", "vpp", "micro_batch", "recompute")


def check_options(values: Values) -> None:
    """Raises InputError for text that is no count or list, before anything is computed."""
    if values["tokens"] is not None:
        parse_count("--tokens", str(values["tokens"]))
    if values["scaling"] is not None:
        parse_devices("--scaling", str(values["scaling"]))


def more(case: TrainingCase, values: Values, prediction: Prediction) -> More:
    """Everything that the options ask for."""
    asked = [
        _nearest(case) if not prediction.memory.fits else More(),
        _explained(case) if values["explain"] else More(),
        _run(prediction, values) if values["tokens"] is not None else More(),
        _scaling(case, values) if values["scaling"] is not None else More(),
    ]
    return sum(asked, More())


def _nearest(case: TrainingCase) -> More:
    """Jobs with the fewest changes that fit."""
    from supertwin.report.memory import nearest_fields, nearest_view
    from supertwin.training.nearest import in_words, nearest_fitting

    found = nearest_fitting(case)
    advice = f"nearest that fits: {in_words(found[0].changes)}" if found else ""
    return More({"nearest": nearest_fields(found)}, after=nearest_view(found), advice=advice)


def _explained(case: TrainingCase) -> More:
    """Waterfall, power by phase and what-if table."""
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


def _run(prediction: Prediction, values: Values) -> More:
    """Days, device hours, energy and money of the run."""
    from supertwin.report.training_run import run_fields, run_view
    from supertwin.training.run_bill import run_bill

    factor = None if values["co2_per_kwh"] is None else float(str(values["co2_per_kwh"]))
    found = run_bill(prediction, parse_count("--tokens", str(values["tokens"])), factor)
    return More({"run": run_fields(found)}, after=run_view(found))


def _scaling(case: TrainingCase, values: Values) -> More:
    """Curves around the job; sizes that were given stay."""
    from supertwin.report.training_run import scaling_fields, scaling_view
    from supertwin.training.scaling import curves

    counts = parse_devices("--scaling", str(values["scaling"]))
    given = frozenset(name for name in _TUNED if values[name] is not None)
    found = curves(case, counts, given)
    return More({"scaling": scaling_fields(found)}, after=scaling_view(found))
