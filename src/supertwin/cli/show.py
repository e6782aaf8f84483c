"""`supertwin show [NAME]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supertwin.cli.options import Argument, Command, Values
from supertwin.core.errors import CatalogueError, SupertwinError, UnknownName

if TYPE_CHECKING:
    from supertwin.machine import Chip, System
    from supertwin.model import ModelSpec


def _run(values: Values) -> int:
    from supertwin.cli.output import write_json, write_text
    from supertwin.report import entries
    from supertwin.report.machines import system_fields, system_view

    if values["name"] is None:
        found = entries.catalogue_fields()
        if values["json"]:
            write_json("show", found)
        else:
            write_text(*entries.catalogue_view(found))
        return 0
    entry, explain = find(str(values["name"])), bool(values["explain"])
    fields, view = {
        "System": (system_fields, system_view),
        "Chip": (entries.chip_fields, entries.chip_view),
        "ModelSpec": (entries.model_fields, entries.model_view),
    }[type(entry).__name__]
    if values["json"]:
        write_json("show", fields(entry))  # type: ignore[operator]
    else:
        write_text(*view(entry, explain))  # type: ignore[operator]
    return 0


def find(name: str) -> System | Chip | ModelSpec:
    """What the name means: a system, else a chip, else a model; the same for files.

    Raises UnknownName with the nearest of all names, and the error of the file where one is given.
    """
    from supertwin.machine import chip_names, load_chip, load_system, system_names
    from supertwin.model import load_model, model_names

    first: SupertwinError | None = None
    for load in (load_system, load_chip, load_model):
        try:
            return load(name)  # type: ignore[operator]
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
