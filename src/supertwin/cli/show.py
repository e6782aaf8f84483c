"""`supertwin show [NAME]`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supertwin.cli.options import Argument, Command, Values
from supertwin.core.errors import CatalogueError, SupertwinError, UnknownName

if TYPE_CHECKING:
    from rich.console import RenderableType

    from supertwin.machine import Chip, System
    from supertwin.model import ModelSpec


def _run(values: Values) -> int:
    from supertwin.cli.output import write_json, write_text

    as_json, explain = bool(values["json"]), bool(values["explain"])
    fields, view = _all() if values["name"] is None else _one(find(str(values["name"])), explain)
    if as_json:
        write_json("show", fields)
    else:
        write_text(*view)
    return 0


def _all() -> tuple[dict[str, Any], list[RenderableType]]:
    from supertwin.report.entries import catalogue_fields, catalogue_view

    fields = catalogue_fields()
    return fields, catalogue_view(fields)


def _one(entry: System | Chip | ModelSpec, explain: bool) -> tuple[dict[str, Any], list[RenderableType]]:
    from supertwin.machine import Chip, System
    from supertwin.report.entries import chip_fields, chip_view, model_fields, model_view
    from supertwin.report.machines import system_fields, system_view

    if isinstance(entry, System):
        return system_fields(entry), system_view(entry, explain)
    if isinstance(entry, Chip):
        return chip_fields(entry), chip_view(entry, explain)
    return model_fields(entry), model_view(entry, explain)


def find(name: str) -> System | Chip | ModelSpec:
    """What the name means: a system, else a chip, else a model; the same for files.

    Raises UnknownName with the nearest of all names, and the error of the file where one is given.
    """
    from supertwin.machine import chip_names, load_chip, load_system, system_names
    from supertwin.model import load_model, model_names

    first: SupertwinError | None = None
    for load in (load_system, load_chip, load_model):
        try:
            return load(name)
        except UnknownName:
            continue
        except CatalogueError as error:
            first = first or error
            if not name.endswith(".toml"):
                break
        except SupertwinError as error:
            first = first or error
            break
    raise first or UnknownName("system, chip or model", name[:80], {*system_names(), *chip_names(), *model_names()})


COMMAND = Command(
    name="show",
    brief="What a machine, chip or model is made of",
    help="A machine: inventory, planes, peaks, memory, power, price and their sources; a chip; a model. Without a name "
    "all that there are.",
    examples=(
        "supertwin show",
        "supertwin show cm384",
        "supertwin show gb200-nvl72 --explain",
        "supertwin show cm384:128 --json",
        "supertwin show h100-sxm",
        "supertwin show deepseek-r1",
        "supertwin show my-system.toml",
    ),
    run=_run,
    arguments=(
        Argument("name", "A system, SYSTEM:N for N devices of it, a chip, a model, or a file of one.", optional=True),
    ),
)
