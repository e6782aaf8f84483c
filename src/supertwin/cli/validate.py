"""`supertwin validate`."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from supertwin.cli.options import Command, Option, Values
from supertwin.core.errors import InputError, TableError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from supertwin.validation.outcome import Report

_TABLES = ("training", "inference", "kernels", "collectives")
_SAMPLE = 5000  # rows per chip and kind


def _run(values: Values) -> int:
    from supertwin.cli.output import write_json, write_text
    from supertwin.report.scores import report_fields

    given = {table: str(values[table]) for table in (*_TABLES, "operators") if values[table] is not None}
    if given and values["write"] is not None:
        raise InputError("--write describes the shipped tables; expected it without --" + ", --".join(given))
    if values["sample"] is not None and "operators" not in given:
        raise InputError("--sample limits the rows of --operators; expected it together with --operators")
    folder = given.pop("operators", None)
    operators = _operators(folder, values) if folder is not None else {}
    report = _report(given, values) if given or folder is None else None
    if values["json"]:
        write_json("validate", report_fields(report or _empty()) | operators)
    else:
        write_text(*_view(report, operators, bool(values["explain"])))
    return 0


def _look_through(given: dict[str, str]) -> None:
    """Remarks on the files: ids that are there twice. Raises TableError for one without rows."""
    from supertwin.validation.tables import load

    for kind, path in given.items():
        table = load(kind, path)
        if not table.rows and not table.skipped:
            raise TableError(f"{path}: has a header and no rows; expected at least one row of {kind}.csv")
        counts = Counter(row.id for row in table.rows)
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            shown = ", ".join(twice[:5]) + (" ..." if len(twice) > 5 else "")
            print(f"supertwin: note: {path}: {len(twice)} ids are there more than once: {shown}", file=sys.stderr)


def _report(given: dict[str, str], values: Values) -> Report:
    from supertwin.validation.run import validate

    _look_through(given)
    report = validate(given, processes=int(str(values["processes"] or 0)))
    if values["write"] is not None:
        from pathlib import Path

        from supertwin.report.accuracy import write_accuracy

        write_accuracy(report, Path(str(values["write"])))
    return report


def _operators(folder: str, values: Values) -> dict[str, Any]:
    """JSON fields of the operator tables."""
    from pathlib import Path

    from supertwin.calibration.unseen import judge, overall

    sample = _SAMPLE if values["sample"] is None else int(str(values["sample"]))
    judged = judge(Path(folder), sample=sample, progress=lambda text: print(f"supertwin: {text}", file=sys.stderr))
    return {"operators": [j.as_fields() for j in judged], "operators_overall": overall(judged)}


def _empty() -> Report:
    from supertwin.validation.outcome import Report

    return Report((), ())


def _view(report: Report | None, operators: dict[str, Any], explain: bool) -> list[RenderableType]:
    from supertwin.report.operators import operators_view
    from supertwin.report.scores import report_view

    view = operators_view(operators["operators"], operators["operators_overall"]) if operators else []
    return [*(report_view(report, explain) if report else []), *view]


COMMAND = Command(
    name="validate",
    brief="Predicted against measured",
    help="Predicted against measured, row by row: error, bias, interval coverage. With no table the shipped set.",
    examples=(
        "supertwin validate",
        "supertwin validate --kernels my-kernels.csv --collectives my-collectives.csv --explain",
        "supertwin validate --training runs.csv --json",
        "supertwin validate --operators measurements/operators --sample 0",
        "supertwin validate --write docs",
    ),
    run=_run,
    options=(
        *(Option(f"--{table}", "path", f"CSV file with the columns of {table}.csv.") for table in _TABLES),
        Option("--write", "path", "Folder for accuracy.md and accuracy.png.", "nothing is written"),
        Option("--processes", "int", "Worker processes.", "2 when it pays", minimum=1, maximum=64),
        Option("--operators", "path", "Folder of operator tables: errors on the shapes that no fit has seen."),
        Option("--sample", "int", "Most rows of --operators per chip and kind; 0 = all.", str(_SAMPLE), minimum=0),
    ),
)  # fmt: skip
