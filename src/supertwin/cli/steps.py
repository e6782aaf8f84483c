"""What `train` and `infer` share: defaults, known names, presentation, infeasible results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from supertwin.cli.options import Values
from supertwin.core.errors import CatalogueError, Infeasible, InputError, SupertwinError, UnknownName
from supertwin.core.formats import format_names

if TYPE_CHECKING:
    from rich.console import RenderableType

    from supertwin.core.prediction import Prediction
    from supertwin.machine.system import System

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


def system_named(given: object) -> System:
    """The machine of `--on` (cm384 when not given). A chip's file stands for its usual system with that chip in it.

    Raises the error of the system's file where the file is not a chip's either, InputError for a chip without system.
    """
    from supertwin.machine import load_system

    text = str(given or "cm384")
    try:
        return load_system(text)
    except (UnknownName, CatalogueError) as error:
        base, _, count = text.rpartition(":") if text.rpartition(":")[2].isdigit() else (text, "", "")
        if base.endswith(".toml"):  # one that names a chip after `like` is an unknown system
            return _with_chip(base, int(count) if count else None, error)
        raise (_chip_hint(text, error) if isinstance(error, UnknownName) else error) from None


def whole_system(text: str) -> System:
    """A machine by name or file. Raises InputError that says so where the text names a chip."""
    from supertwin.machine import load_system

    try:
        return load_system(text)
    except UnknownName as error:
        raise _chip_hint(text, error) from None


def _with_chip(path: str, devices: int | None, error: SupertwinError) -> System:
    """The usual system of a chip's file; raises `error` where the file is not a chip's."""
    from supertwin.machine import load_chip, system_for_chip

    try:
        chip = load_chip(path)
    except SupertwinError:
        raise error from None
    if not chip.system:
        raise InputError(f"{path} is a chip; name its usual system in its field system, or give a system") from None
    return system_for_chip(path, devices)


def _chip_hint(text: str, error: UnknownName) -> SupertwinError:
    """A chip's name where a system is expected: say which system has it."""
    from supertwin.machine import load_chip

    try:
        chip = load_chip(text.partition(":")[0])
    except SupertwinError:
        return error
    return InputError(f"{chip.name} is a chip, not a system; expected a system such as {chip.system or 'cm384'}")


@dataclass(frozen=True, slots=True)
class More:
    """What a command adds to a prediction.

    fields: of the JSON object; reasons: views in place of the breakdown; after: views after all others; advice: what to
    do where the job does not fit.
    """

    fields: Mapping[str, object] = field(default_factory=dict)
    reasons: Sequence[RenderableType] = ()
    after: Sequence[RenderableType] = ()
    advice: str = ""

    def __add__(self, other: More) -> More:
        return More(
            {**self.fields, **other.fields},
            [*self.reasons, *other.reasons],
            [*self.after, *other.after],
            self.advice or other.advice,
        )


def present(
    command: str,
    values: Values,
    predict: Callable[[], Prediction],
    more: Callable[[Prediction], More] = lambda _: More(),
) -> int:
    """Predict and write the result, also when it does not fit: then Infeasible is raised, with the reasons."""
    from supertwin.cli.output import write_json, write_text
    from supertwin.report.steps import step_fields, step_view

    model, system = str(values["model"]), str(values["on"] or "cm384")
    prediction = predict()
    added = more(prediction)
    reasons = _reasons(prediction, added.advice or _ADVICE[command])
    if values["json"]:
        fields = {**step_fields(prediction, model, system), **added.fields}
        write_json(command, {**fields, "feasible": not reasons, "reasons": reasons})
    else:
        title = f"{model} on {system}: one {prediction.kind} step"
        write_text(*step_view(prediction, title, bool(values["explain"]), added.reasons), *added.after)
    if reasons:
        raise Infeasible(reasons)
    return 0


def _reasons(prediction: Prediction, advice: str) -> list[str]:
    """Why the case cannot run; empty when it can."""
    from supertwin.report.text import gib

    memory, found = prediction.memory, []
    if not memory.fits:
        missing, have = memory.missing_bytes, gib(memory.capacity_bytes)
        need = gib(memory.capacity_bytes + missing)
        found.append(f"does not fit: {need} needed per device, {have} there, {gib(missing)} missing; {advice}")
    used, there = (prediction.figures.get(f"host_{name}_bytes") or 0.0 for name in ("memory", "capacity"))
    if used > there:
        found.append(f"does not fit: {gib(used)} of host memory needed per node, {gib(there)} there; offload less")
    return found
