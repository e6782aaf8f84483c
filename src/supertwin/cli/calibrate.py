"""`supertwin calibrate`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from supertwin.cli.options import Command, Option, Values
from supertwin.core.errors import InputError, UnknownName

_FAMILIES = ("gemm", "experts", "attention", "training-attention", "vector", "launch", "links")
_FITTED = "supertwin-calibration"


def _run(values: Values) -> int:
    if values["from_"] is not None and values["device"] is not None:
        raise InputError("--from fits operator tables and --device measures this machine; expected one of them")
    if values["from_"] is not None and values["quick"]:
        raise InputError("--quick shortens a measurement; expected it without --from")
    if values["family"] is not None and values["from_"] is None:
        raise InputError("--family chooses what --from fits; expected it together with --from")
    device = str(values["device"] or "cpu")
    if device != "cpu":
        raise InputError(
            f"--device {device} cannot be measured yet; expected cpu, or --from DIR with the times of its operators "
            "(gemm.csv.gz, attention_prefill.csv.gz ...) from a machine that has one"
        )
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

    folder = Path(str(values["out"])) if values["out"] is not None else _user_folder()
    _progress("measuring this processor, less than a minute; other programs disturb it")
    try:
        return calibrate_local(folder, quick=bool(values["quick"]), progress=_progress)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error}") from None


def _fit(values: Values) -> object:
    from supertwin.calibration.folder import fit_folder

    families = tuple(word.strip() for word in str(values["family"] or ",".join(_FAMILIES)).split(","))
    for family in families:
        if family not in _FAMILIES:
            raise UnknownName("family", family, _FAMILIES)
    return fit_folder(str(values["from_"]), str(values["out"] or _FITTED), families, _progress)


def _progress(text: str) -> None:
    print(f"supertwin: {text}", file=sys.stderr, flush=True)


def _user_folder() -> Path:
    """The folder of the user's own calibration files, which the engine reads without being told."""
    data = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local", "share")
    return Path(data) / "supertwin" / "calibration"


COMMAND = Command(
    name="calibrate",
    brief="Measure this machine's chip",
    help="Measure this machine's processor, or fit operator tables; writes dated calibration files.",
    examples=(
        "supertwin calibrate --device cpu",
        "supertwin calibrate --quick --out my-calibration --json",
        "supertwin calibrate --from measurements/operators --family gemm,experts --out my-calibration",
        "SUPERTWIN_CALIBRATION=my-calibration supertwin validate --operators measurements/operators",
    ),
    run=_run,
    options=(
        Option("--device", "str", "What to measure here.", "cpu", ("cpu", "cuda", "npu")),
        Option("--quick", "switch", "Measure for about ten seconds."),
        Option("--from", "path", "Folder of operator tables to fit instead."),
        Option("--family", "str", f"With --from: fit these alone, separated by commas: {', '.join(_FAMILIES)}.", "all"),
        Option("--out", "path", "Folder for the files.", f"--from: ./{_FITTED}; --device: the user's own calibration"),
    ),
)
