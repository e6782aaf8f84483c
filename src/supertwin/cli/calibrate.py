"""`supertwin calibrate`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from supertwin.cli.options import Command, Option, Values
from supertwin.core.errors import InputError

_FAMILIES = ("matrix", "attention", "vector", "links")


def _run(values: Values) -> int:
    if values["from_"] is not None and values["device"] is not None:
        raise InputError("--from fits operator tables and --device measures this machine; expected one of them")
    if values["family"] is not None and values["from_"] is None:
        raise InputError("--family chooses what --from fits; expected it together with --from")
    device = str(values["device"] or "cpu")
    if device != "cpu":
        raise InputError(f"--device {device} cannot be measured yet; expected cpu, or operator tables with --from")
    from supertwin.cli.output import write_json, write_text
    from supertwin.report.fits import calibration_fields, calibration_view

    result = _fit(values) if values["from_"] is not None else _measure(values)
    if values["json"]:
        write_json("calibrate", calibration_fields(result))
    else:
        write_text(*calibration_view(result, bool(values["explain"])))
    return 0


def _measure(values: Values) -> object:
    from supertwin.calibration.local import calibrate_local

    print("measuring this processor, less than a minute ...", file=sys.stderr)
    try:
        return calibrate_local(_folder(values), quick=bool(values["quick"]))
    except OSError as error:
        raise InputError(f"cannot write to {_folder(values)}: {error.strerror or error}") from None


def _fit(values: Values) -> object:
    from supertwin.calibration.folder import fit_folder

    print("fitting, several minutes ...", file=sys.stderr)
    families = (str(values["family"]),) if values["family"] is not None else _FAMILIES
    return fit_folder(str(values["from_"]), _folder(values), families)


def _folder(values: Values) -> Path:
    """Where to write: --out, or the folder of the user's own calibration files that the engine reads."""
    if values["out"] is not None:
        return Path(str(values["out"]))
    data = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local", "share")
    return Path(data) / "supertwin" / "calibration"


COMMAND = Command(
    name="calibrate",
    brief="Measure this machine's chip",
    help="Measure this machine's processor, or fit operator tables; writes dated calibration files.",
    examples=(
        "supertwin calibrate --device cpu",
        "supertwin calibrate --quick --out my-calibration --json",
        "supertwin calibrate --from measurements/operators --family matrix --out my-calibration",
    ),
    run=_run,
    options=(
        Option("--device", "str", "What to measure here.", "cpu", ("cpu", "cuda", "npu")),
        Option("--quick", "switch", "Measure for about ten seconds."),
        Option("--from", "path", "Folder of operator tables to fit instead."),
        Option("--family", "str", "With --from: fit this family alone.", "all", _FAMILIES),
        Option("--out", "path", "Folder for the calibration files.", "the user's own calibration folder"),
    ),
)
