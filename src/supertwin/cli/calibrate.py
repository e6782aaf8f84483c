"""`supertwin calibrate`."""

from __future__ import annotations

from supertwin.cli.options import Command, Option, Values
from supertwin.core.errors import InputError


def _run(values: Values) -> int:
    if values["from_"] is not None and values["device"] is not None:
        raise InputError("--from fits operator tables and --device measures this machine; expected one of them")
    from supertwin import calibration
    from supertwin.cli.output import write_json, write_text
    from supertwin.report.fits import calibration_fields, calibration_view

    if values["from_"] is not None:
        result = calibration.fit_folder(str(values["from_"]), str(values["out"] or ""))
    else:
        result = calibration.calibrate_local(str(values["device"] or "cpu"), str(values["out"] or ""))
    if values["json"]:
        write_json("calibrate", calibration_fields(result))
    else:
        write_text(*calibration_view(result, bool(values["explain"])))
    return 0


COMMAND = Command(
    name="calibrate",
    brief="Measure this machine's chip",
    help="Measure this machine's chip, or fit operator tables; writes dated calibration files.",
    examples=(
        "supertwin calibrate --device cpu",
        "supertwin calibrate --from measurements/operators --out my-calibration",
    ),
    run=_run,
    options=(
        Option("--device", "str", "What to measure here.", "cpu", ("cpu", "cuda", "npu")),
        Option("--from", "path", "Folder of operator tables to fit instead."),
        Option("--out", "path", "Folder for the calibration files.", "the user's own calibration folder"),
    ),
)
