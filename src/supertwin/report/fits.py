"""What a calibration run wrote, as text and as JSON fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

from supertwin.report.operators import operators_view
from supertwin.report.tables import grid, heading, pairs
from supertwin.report.text import number

if TYPE_CHECKING:
    from rich.console import RenderableType


def calibration_fields(result: object) -> dict[str, Any]:
    """JSON fields: those of the result, a dataclass or a mapping."""
    if is_dataclass(result) and not isinstance(result, type):
        return asdict(result)
    return dict(result) if isinstance(result, Mapping) else {"result": result}


def calibration_view(result: object, explain: bool) -> list[RenderableType]:
    """What was written, the errors on rows that were not fitted, and the commands that use it."""
    fields = calibration_fields(result)
    plain = {n: v for n, v in fields.items() if not isinstance(v, Mapping | list | tuple)}
    view: list[RenderableType] = [heading("Calibration")]
    view.append(pairs([(name.replace("_", " "), _text(value)) for name, value in plain.items()]))
    for name, value in fields.items():
        if isinstance(value, Mapping) and value and name != "overall":
            view += [heading(name.replace("_", " ")), _mapping(value)]
    if "held_out" in fields:
        view += operators_view([r for r in fields["held_out"] if explain or r["n"]], fields["overall"])
    for warning in fields.get("warnings", ()):
        view.append(pairs([("warning", warning)]))
    if fields.get("next"):
        view += [heading("Use it"), pairs([("", command) for command in fields["next"]])]
    return view


def _mapping(values: Mapping[str, Any]) -> RenderableType:
    if values and all(isinstance(value, Mapping) for value in values.values()):
        names = list(dict.fromkeys(key for value in values.values() for key in value))
        rows = [(str(name), *(_text(value.get(key, "")) for key in names)) for name, value in values.items()]
        return grid(("", *(key.replace("_", " ") for key in names)), rows)
    return pairs([(str(name), _text(value)) for name, value in values.items()])


def _text(value: object) -> str:
    return number(value) if isinstance(value, float) else str(value)
