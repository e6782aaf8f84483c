"""What `train` and `infer` share: defaults, known names, presentation, infeasible results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from supertwin.cli.options import Values
from supertwin.core.errors import Infeasible, UnknownName
from supertwin.core.formats import format_names

if TYPE_CHECKING:
    from supertwin.core.prediction import Prediction

FORMATS = tuple(format_names())
_ADVICE = {
    "train": "raise tp, pp or ep, recompute, or take more devices",
    "infer": "use more devices, a smaller batch or a narrower format",
}


def stated(values: Values, fixed: Mapping[str, int | float | str | bool]) -> tuple[dict[str, str], dict[str, object]]:
    """Options with a fixed default filled in, as text, and the defaults that were used."""
    given = {name: str(value) for name, value in values.items() if value is not None}
    defaults = {name: value for name, value in fixed.items() if name not in given}
    return {**{name: str(value) for name, value in fixed.items()}, **given}, dict(defaults)


def known_framework(given: object, names: Sequence[str]) -> str:
    """The framework that was given, "" for none: one of `names`, with or without a version behind it.

    Raises UnknownName for any other.
    """
    if given is None:
        return ""
    text = str(given).strip().lower()
    if not any(text.startswith(name) and not text[len(name) :][:1].isalpha() for name in names):
        raise UnknownName("framework", str(given), names)
    return str(given)


def present(command: str, values: Values, predict: Callable[[], Prediction]) -> int:
    """Predict and write the result, also when it does not fit: then Infeasible is raised, with the reasons."""
    from supertwin.cli.output import write_json, write_text
    from supertwin.report.steps import step_fields, step_view

    model, system = str(values["model"]), str(values["on"] or "cm384")
    prediction = predict()
    reasons = _reasons(command, prediction)
    if values["json"]:
        fields = step_fields(prediction, model, system)
        write_json(command, {**fields, "feasible": not reasons, "reasons": reasons})
    else:
        write_text(*step_view(prediction, f"{model} on {system}: one {prediction.kind} step", bool(values["explain"])))
    if reasons:
        raise Infeasible(reasons)
    return 0


def _reasons(command: str, prediction: Prediction) -> list[str]:
    """Why the case cannot run; empty when it can."""
    from supertwin.report.text import gib

    memory = prediction.memory
    if memory.fits:
        return []
    need, have = gib(memory.peak_bytes), gib(memory.capacity_bytes)
    return [f"does not fit: {need} needed per device, {have} there; {_ADVICE[command]}"]
