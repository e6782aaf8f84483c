"""What `infer` adds to the figures of the step: its explanation, the roofline as a picture, the trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supertwin.cli.options import Values
from supertwin.cli.steps import More
from supertwin.core.errors import InputError

if TYPE_CHECKING:
    from supertwin.core.prediction import Prediction
    from supertwin.inference.case import InferenceCase


def more(case: InferenceCase, values: Values, prediction: Prediction) -> More:
    """Everything that the options ask for."""
    nearest = _nearest(case) if not prediction.memory.fits else More()
    if case.deployment.afd_instances:
        return _split(case, values) + nearest
    asked = [
        nearest,
        _explained(case) if values["explain"] else More(),
        _picture(case, str(values["roofline"])) if values["roofline"] else More(),
        _trace(case, str(values["trace"])) if values["trace"] else More(),
    ]
    return sum(asked, More())


def _nearest(case: InferenceCase) -> More:
    """Deployments with the fewest changes that fit."""
    from supertwin.inference.fitting import nearest_fitting
    from supertwin.report.memory import nearest_fields, nearest_view
    from supertwin.training.nearest import in_words

    found = nearest_fitting(case)
    advice = f"nearest that fits: {in_words(found[0].changes)}" if found else ""
    return More({"nearest": nearest_fields(found)}, after=nearest_view(found, "deployments"), advice=advice)


def _split(case: InferenceCase, values: Values) -> More:
    """Both sides of an attention-FFN split run at once: the breakdown is that of the slower one, and the what-if table
    explains. Raises InputError."""
    for name in ("roofline", "trace"):
        if values[name]:
            raise InputError(f"--{name} shows one device's step; it is not drawn with --afd, whose sides have one each")
    if not values["explain"]:
        return More()
    from supertwin.inference.what_if import what_if
    from supertwin.report.causes import gain_fields
    from supertwin.report.inference import what_if_view

    gains = what_if(case)
    return More({"what_if": gain_fields(gains)}, after=what_if_view(gains, case.phase))


def _explained(case: InferenceCase) -> More:
    """Waterfall, streams of overlapped layers, what-if table and rooflines."""
    from supertwin.inference.lanes import lanes
    from supertwin.inference.roofline import roofline, roofs
    from supertwin.inference.waterfall import waterfall
    from supertwin.inference.what_if import what_if
    from supertwin.report.inference import explain_fields, streams_view, waterfall_view, what_if_view
    from supertwin.report.roofline import roofline_fields, roofline_view

    fall, gains = waterfall(case), what_if(case)
    step = fall.step
    streams = {o.name: lanes(o, step) for o in step.blocks if o.block.microbatches > 1}
    points, chip = roofline(step), case.system.chip
    view = waterfall_view(fall)
    for name, one in streams.items():
        view += streams_view(name, one)
    view += [*what_if_view(gains, case.phase), *roofline_view(points, roofs(step), chip.memory_bytes_per_s)]
    return More({**explain_fields(fall, streams, gains), "roofline": roofline_fields(points)}, view)


def _picture(case: InferenceCase, path: str) -> More:
    """The roofline in a file."""
    from rich.text import Text

    from supertwin.inference.anatomy import anatomy
    from supertwin.inference.roofline import roofline, roofs
    from supertwin.report.roofline import draw

    step = anatomy(case)
    draw(roofline(step), roofs(step), case.system.chip.memory_bytes_per_s, path)
    return More({"roofline_picture": path}, after=[Text(f"  roofline {path}", style="dim")])


def _trace(case: InferenceCase, path: str) -> More:
    """One step as a Perfetto trace."""
    from rich.text import Text

    from supertwin.inference.anatomy import anatomy
    from supertwin.inference.trace import write_trace

    events = write_trace(anatomy(case), path)
    shown = Text(f"  trace {path}, {events:,} events; open it at ui.perfetto.dev", style="dim")
    return More({"trace": path, "trace_events": events}, after=[shown])
