"""`supertwin compare SYSTEM SYSTEM...`."""

from __future__ import annotations

from supertwin.cli.options import Argument, Command, Values
from supertwin.cli.steps import whole_system


def _run(values: Values) -> int:
    from supertwin.cli.output import write_json, write_text
    from supertwin.report.comparison import comparison_fields, comparison_view
    from supertwin.report.machines import system_fields, system_view

    given = values["systems"]
    systems = [whole_system(name) for name in (given if isinstance(given, list) else [str(given)])]
    if values["json"]:
        fields = {"systems": [system_fields(system) for system in systems], "rows": comparison_fields(systems)}
        write_json("compare", fields)
        return 0
    write_text(*comparison_view(systems))
    if values["explain"]:
        for system in systems:
            write_text("", *system_view(system, explain=True))
    return 0


COMMAND = Command(
    name="compare",
    brief="Machines side by side",
    help="Machines side by side, with ratios to the first.",
    examples=("supertwin compare cm384 gb200-nvl72", "supertwin compare cm384:64 dgx-h100:64 dgx-b200:64 --json"),
    run=_run,
    arguments=(Argument("systems", "Two or more systems, each with :N for N devices of it.", many=True, least=2),),
)
