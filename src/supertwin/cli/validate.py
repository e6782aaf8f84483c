"""`supertwin validate`."""

from __future__ import annotations

from supertwin.cli.options import Command, Option, Values
from supertwin.core.errors import InputError

_TABLES = ("training", "inference", "kernels", "collectives")


def _run(values: Values) -> int:
    from supertwin.cli.output import write_json, write_text
    from supertwin.report.errors import report_fields, report_view
    from supertwin.validation.run import validate

    given = {table: str(values[table]) for table in _TABLES if values[table] is not None}
    if given and values["write"] is not None:
        raise InputError("--write describes the shipped tables; expected it without --" + ", --".join(given))
    report = validate(given, processes=int(str(values["processes"] or 0)))
    if values["write"] is not None:
        from pathlib import Path

        from supertwin.report.accuracy import write_accuracy

        write_accuracy(report, Path(str(values["write"])))
    if values["json"]:
        write_json("validate", report_fields(report))
    else:
        write_text(*report_view(report, bool(values["explain"])))
    return 0


COMMAND = Command(
    name="validate",
    brief="Predicted against measured",
    help="Predicted against measured, row by row: error, bias, interval coverage. With no table the shipped set.",
    examples=(
        "supertwin validate",
        "supertwin validate --kernels my-kernels.csv --collectives my-collectives.csv --explain",
        "supertwin validate --training runs.csv --json",
        "supertwin validate --write docs",
    ),
    run=_run,
    options=(
        *(Option(f"--{table}", "path", f"CSV file with the columns of {table}.csv.") for table in _TABLES),
        Option("--write", "path", "Folder for accuracy.md and accuracy.png.", "nothing is written"),
        Option("--processes", "int", "Worker processes.", "2 when it pays", minimum=1, maximum=64),
    ),
)  # fmt: skip
