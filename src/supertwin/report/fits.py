"""What a calibration run wrote, as text and as JSON fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

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
    """Files written, and for each kind of operator the rows used and the residual."""
    view: list[RenderableType] = [heading("Calibration")]
    fields = calibration_fields(result)
    plain = {name: value for name, value in fields.items() if not isinstance(value, Mapping | list | tuple)}
    view.append(pairs([(name.replace("_", " "), _text(value)) for name, value in plain.items()]))
    for name, value in fields.items():
        if isinstance(value, Mapping):
            view += [heading(name.replace("_", " ")), _mapping(value)]
        elif isinstance(value, list | tuple) and (explain or len(value) <= 20):
            view += [heading(name.replace("_", " ")), _listing(value)]
    return view


def _mapping(values: Mapping[str, Any]) -> RenderableType:
    if values and all(isinstance(value, Mapping) for value in values.values()):
        names = list(dict.fromkeys(key for value in values.values() for key in value))
        rows = [(str(name), *(_text(value.get(key, "")) for key in names)) for name, value in values.items()]
        return grid(("", *(key.replace("_", " ") for key in names)), rows)
    return pairs([(str(name), _text(value)) for name, value in values.items()])


def _listing(values: Sequence[Any]) -> RenderableType:
    if values and all(isinstance(value, Mapping) for value in values):
        names = list(dict.fromkeys(key for value in values for key in value))
        return grid(names, [tuple(_text(value.get(key, "")) for key in names) for value in values])
    return pairs([("", _text(value)) for value in values])


def _text(value: object) -> str:
    return number(value) if isinstance(value, float) else str(value)
