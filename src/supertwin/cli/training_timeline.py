"""`train --timeline`, `--trace` and `--straggler`: the step played event by event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supertwin.cli.options import Values, shorten
from supertwin.cli.steps import More
from supertwin.core.errors import InputError

if TYPE_CHECKING:
    from supertwin.core.prediction import Prediction
    from supertwin.training.case import TrainingCase
    from supertwin.training.timeline import Stragglers


def wanted(values: Values) -> Stragglers | None:
    """The slow devices of a timeline that is asked for; None when none is. Raises InputError."""
    given = values["straggler"]
    if not (values["timeline"] or values["trace"] or given):
        return None
    from supertwin.training.timeline import Stragglers

    return Stragglers(dict(_straggler(text) for text in str(given).split(",")) if given else {})


def _straggler(text: str) -> tuple[int, float]:
    stage, colon, factor = text.partition(":")
    try:
        if colon:
            return int(stage), float(factor)
    except ValueError:
        pass
    raise InputError(f"--straggler: expected STAGE:FACTOR such as 3:1.2, got {shorten(text)!r}")


def played(case: TrainingCase, stragglers: Stragglers, values: Values) -> tuple[Prediction, More]:
    """The prediction with the timeline's time, and what the timeline adds to the output; writes the trace."""
    from supertwin.report.timeline import timeline_view
    from supertwin.training.predict import prediction_of
    from supertwin.training.setting import setting_of
    from supertwin.training.timeline import play, write_trace

    timeline = play(case, stragglers)
    path = str(values["trace"]) if values["trace"] else None
    slices = write_trace(timeline, path) if path else 0
    fields = {"timeline": {**timeline.fields(), "trace": path}}
    view = [] if values["json"] else timeline_view(timeline, path, slices)
    return prediction_of(setting_of(case), timeline.step), More(fields, after=view)
