"""Launch costs: the difference between event and kernel timings of one small kernel, and published graph launches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supertwin.calibration.common import require_polars, write_calibration
from supertwin.core.errors import TableError

# Chips that share the host software of the A800 timings (PyTorch on x86).
GPUS = ("a100-sxm-80gb", "h100-sxm", "b200-sxm")
# arXiv 2506.12708v2 section 4.2.4: a naive launch takes 0.6 to 0.8 ms per graph; issue time per eager operator of CANN
# is an assumption (twice that of the GPUs: Kunpeng cores clock lower and aclnn prepares a workspace per call).
ASCEND: Mapping[str, Mapping[str, float]] = {
    "graph": {"start_s": 7e-4, "gap_s": 5e-7},
    "eager": {"issue_s": 1.2e-5, "gap_s": 1.5e-6, "start_s": 3e-5},
    "compiled": {"issue_s": 8e-6, "gap_s": 1e-6, "start_s": 3e-5},
}


def issue_time_s(operators: Path) -> tuple[float, int]:
    """Host time per kernel: median event time minus median kernel time of the smallest norms; and the rows used.

    A kernel of a few rows takes 2.5 us on any of these GPUs, so what an event adds is the host. Raises TableError.
    """
    polars = require_polars()
    table = polars.read_csv(operators / "norm_elementwise.csv.gz", infer_schema_length=None)
    small = table.filter(
        (polars.col("op") == "input_layernorm") & (polars.col("tokens") <= 64) & (polars.col("width") <= 2304)
    )
    events = small.filter(polars.col("method") == "event")["us"]
    kernels = small.filter(polars.col("method") == "kernel")["us"]
    if not (len(events) and len(kernels)):
        raise TableError(
            f"{operators}: norm_elementwise.csv.gz has {len(events)} event and {len(kernels)} kernel timings of small "
            "norms; expected both, since their difference is the launch cost"
        )
    return (float(events.median()) - float(kernels.median())) * 1e-6, len(events) + len(kernels)


def fit_launch(operators: Path, out: Path, date: str) -> list[Path]:
    """Write `out/<chip>/launch.json` for GPUs and Ascend. Returns the paths. Raises MissingExtra."""
    issue_s, rows = issue_time_s(operators)
    source = "operators/norm_elementwise (event minus kernel)"
    parameters = {"eager": {"issue_s": round(issue_s, 8)}}
    written = [write_calibration(out, _content(chip, date, parameters, (source, rows))) for chip in GPUS]
    ascend = _content("ascend-910b2", date, ASCEND, ("arXiv 2506.12708v2 graph launch", 1))
    return [*written, write_calibration(out, ascend)]


def _content(
    chip: str, date: str, parameters: Mapping[str, Mapping[str, float]], data_set: tuple[str, int]
) -> dict[str, Any]:
    return {
        "family": "launch",
        "chip": chip,
        "date": date,
        "data_sets": [{"name": data_set[0], "rows": data_set[1]}],
        "parameters": parameters,
        "surface": {},
        "residual": {},
        "spread": 0.5,
    }
