"""`supertwin show SYSTEM`."""

from __future__ import annotations

from supertwin.cli.options import Argument, Command, Values


def _run(values: Values) -> int:
    from supertwin.cli.output import write_json, write_text
    from supertwin.machine import load_system
    from supertwin.report.machines import system_fields, system_view

    system = load_system(str(values["system"]))
    if values["json"]:
        write_json("show", system_fields(system))
    else:
        write_text(*system_view(system, bool(values["explain"])))
    return 0


COMMAND = Command(
    name="show",
    brief="What a machine is made of",
    help="A machine: inventory, planes, peaks, memory, power, price and their sources.",
    examples=(
        "supertwin show cm384",
        "supertwin show gb200-nvl72 --explain",
        "supertwin show cm384:128 --json",
        "supertwin show my-system.toml",
    ),
    run=_run,
    arguments=(Argument("system", "A shipped system, SYSTEM:N for N devices of it, or a TOML file."),),
)
