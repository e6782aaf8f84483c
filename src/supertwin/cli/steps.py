"""What `train` and `infer` share: defaults, presentation, infeasible results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from supertwin.cli.options import Values
from supertwin.core.errors import Infeasible

if TYPE_CHECKING:
    from supertwin.core.prediction import Prediction

FORMATS = (
    "bf16", "fp16", "fp32", "tf32", "fp8", "fp8-tensorwise", "fp8-rowwise", "fp8-blockwise", "mxfp8", "mxfp4", "nvfp4",
    "int8", "int4",
)  # fmt: skip

INFEASIBLE = 3


def stated(values: Values, fixed: Mapping[str, int | float | str | bool]) -> tuple[dict[str, str], dict[str, object]]:
    """Options with a fixed default filled in, as text, and the defaults that were used."""
    given = {name: str(value) for name, value in values.items() if value is not None}
    defaults = {name: value for name, value in fixed.items() if name not in given}
    return {**{name: str(value) for name, value in fixed.items()}, **given}, dict(defaults)


def present(command: str, values: Values, predict: Callable[[], Prediction]) -> int:
    """Predict and write the result. Returns 3, with the result still written, when the case does not fit."""
    from supertwin.cli.output import write_json, write_text
    from supertwin.report.steps import step_fields, step_view
    from supertwin.report.text import gib

    model, system = str(values["model"]), str(values["on"] or "cm384")
    try:
        prediction = predict()
    except Infeasible as error:
        if values["json"]:
            write_json(command, {"model": model, "system": system, "feasible": False, "reasons": error.reasons})
        raise
    if values["json"]:
        write_json(command, {**step_fields(prediction, model, system), "feasible": prediction.memory.fits})
    else:
        write_text(*step_view(prediction, f"{model} on {system}: one {prediction.kind} step", bool(values["explain"])))
    if prediction.memory.fits:
        return 0
    memory = prediction.memory
    need, have = gib(memory.peak_bytes), gib(memory.capacity_bytes)
    advice = "raise tp, pp or ep, or recompute" if command == "train" else "use more devices, a smaller batch or format"
    print(f"supertwin: does not fit: {need} needed per device, {have} there; {advice}", file=sys.stderr)
    return INFEASIBLE
