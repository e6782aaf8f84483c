"""Rows of kernels.csv: time of one operator, read in the same way as calibration reads them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from supertwin.calibration.attention_rows import attention_row
from supertwin.calibration.kernels import kernel_expert, kernel_gemm, kernel_time_s
from supertwin.validation.outcome import Compared, Skip
from supertwin.validation.predictors.common import NoPrediction, figure, one_by_one
from supertwin.validation.tables import Row
from supertwin.workload.operators import Operator, Vector

if TYPE_CHECKING:
    from supertwin.cost.calibration import Calibration
    from supertwin.cost.engine import CostEngine
    from supertwin.machine.chip import Chip

Timing = tuple[float, float, float]  # measured_s, predicted_s, 90 % half-width of ln(measured / predicted)


def compare(rows: Sequence[Row]) -> list[Compared | Skip]:
    """kernel_time_s of each row."""
    return one_by_one(rows, _compare)


def _compare(row: Row) -> Compared:
    kernel = row.text("kernel")
    if kernel not in _READERS:
        raise NoPrediction(f"kernel {kernel} has no shape to price")
    measured_s, predicted_s, spread = _READERS[kernel](row)
    return Compared((figure("kernel_time_s", measured_s, predicted_s, (math.exp(-spread), math.exp(spread))),))


def _product(row: Row) -> Timing:
    """Matrix products, in the context (library, benchmark loop) that the source measured in."""
    from supertwin.cost.gemm import gemm_cost

    found = kernel_gemm(row)
    if found is None:
        raise NoPrediction("does not state m, n and k")
    gemm, conditions = found
    chip, calibration = _gemm_calibration(row.text("chip"))
    return _measured(row), float(gemm_cost(chip, calibration, gemm, conditions).time_s), calibration.spread


def _attention(row: Row) -> Timing:
    """Attention kernels of the library that the source names."""
    try:
        found = attention_row(row)
    except ValueError as error:
        raise NoPrediction(str(error)) from None
    return found.measured_s, *_priced(_engine(row.text("chip"), found.library), found.operators)


def _experts(row: Row) -> Timing:
    """A fused expert call after the routing."""
    call = kernel_expert(row)
    if call is None:
        raise NoPrediction("does not state m, n, k and the local experts")
    return _measured(row), *_priced(_engine(row.text("chip"), ""), [call])


def _vector(row: Row) -> Timing:
    m, n = row.integer("m"), row.integer("n")
    if not (m and n):
        raise NoPrediction("does not state m and n")
    size = 2.0 * m * n
    op = "norm" if row.text("kernel") == "rmsnorm" else "permute"
    call = Vector(part=op, op=op, bytes_read=size, bytes_written=size, rows=m)
    return _measured(row), *_priced(_engine(row.text("chip"), ""), [call])


_READERS: dict[str, Callable[[Row], Timing]] = {
    "gemm": _product,
    "grouped_gemm": _product,
    "gemm_weight_stream": _product,
    "attention": _attention,
    "attention_decode": _attention,
    "mla_decode": _attention,
    "sparse_mla_prefill": _attention,
    "moe_mlp": _experts,
    "rmsnorm": _vector,
    "moe_permute": _vector,
}


def _measured(row: Row) -> float:
    measured_s = kernel_time_s(row)
    if not measured_s:
        raise NoPrediction("states neither a time nor a rate")
    return measured_s


def _priced(engine: CostEngine, operators: Sequence[Operator]) -> tuple[float, float]:
    """Seconds of all operators together and the widest half-width among them."""
    costs = engine.price(operators)
    return sum(float(cost.time_s) for cost in costs), max(engine.spread(cost) for cost in costs)


@cache
def _engine(chip: str, library: str) -> CostEngine:
    from supertwin.cost.engine import CostEngine
    from supertwin.machine import load_chip

    return CostEngine(load_chip(chip), library)


@cache
def _gemm_calibration(chip: str) -> tuple[Chip, Calibration]:
    from supertwin.cost.calibration import load_calibration
    from supertwin.machine import load_chip

    loaded = load_chip(chip)
    return loaded, load_calibration(loaded, "gemm")
