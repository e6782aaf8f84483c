"""Rows of kernels.csv: time of one operator, read in the same way as calibration reads them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from supertwin.calibration.attention_rows import attention_row, host_floor_s
from supertwin.calibration.kernels import kernel_expert, kernel_gemm, kernel_time_s
from supertwin.core.prediction import Part
from supertwin.validation.outcome import Compared, Skip
from supertwin.validation.predictors.common import NoPrediction, figure, one_by_one
from supertwin.validation.tables import Row
from supertwin.workload.operators import Operator, Vector

if TYPE_CHECKING:
    from supertwin.cost.calibration import Calibration
    from supertwin.cost.engine import CostEngine
    from supertwin.machine.chip import Chip


@dataclass(frozen=True, slots=True)
class Timing:
    """One row: seconds, the 90 % half-width of ln(measured / predicted), and what bounds it."""

    measured_s: float
    predicted_s: float
    spread: float
    bound: str


def compare(rows: Sequence[Row]) -> list[Compared | Skip]:
    """kernel_time_s of each row."""
    return one_by_one(rows, _compare)


def _compare(row: Row) -> Compared:
    kernel = row.text("kernel")
    if kernel not in _READERS:
        raise NoPrediction(f"kernel {kernel} has no shape to price")
    timing = _READERS[kernel](row)
    factors = math.exp(-timing.spread), math.exp(timing.spread)
    found = figure("kernel_time_s", timing.measured_s, timing.predicted_s, factors)
    return Compared((found,), parts=(Part(kernel, timing.predicted_s, 1.0, timing.bound),))


def _product(row: Row) -> Timing:
    """Matrix products, in the context (library, benchmark loop) that the source measured in."""
    from supertwin.cost.gemm import gemm_cost, gemm_spread

    found = kernel_gemm(row)
    if found is None:
        raise NoPrediction("does not state m, n and k")
    gemm, conditions = found
    chip, calibration = _gemm_calibration(row.text("chip"))
    cost = gemm_cost(chip, calibration, gemm, conditions)
    return Timing(_measured(row), float(cost.time_s), gemm_spread(calibration, gemm, conditions), _bound([cost]))


def _attention(row: Row) -> Timing:
    """Attention kernels of the library that the source names, never shorter than its host takes to issue a call."""
    try:
        found = attention_row(row)
    except ValueError as error:
        raise NoPrediction(str(error)) from None
    engine = _engine(row.text("chip"), found.library)
    timing = _priced(found.measured_s, engine, found.operators)
    floor_s = host_floor_s(engine.attention(found.library), found)
    return timing if timing.predicted_s >= floor_s else replace(timing, predicted_s=floor_s, bound="latency")


def _experts(row: Row) -> Timing:
    """A fused expert call after the routing."""
    call = kernel_expert(row)
    if call is None:
        raise NoPrediction("does not state m, n, k and the local experts")
    return _priced(_measured(row), _engine(row.text("chip"), ""), [call])


def _vector(row: Row) -> Timing:
    m, n = row.integer("m"), row.integer("n")
    if not (m and n):
        raise NoPrediction("does not state m and n")
    size = 2.0 * m * n
    op = "norm" if row.text("kernel") == "rmsnorm" else "permute"
    call = Vector(part=op, op=op, bytes_read=size, bytes_written=size, rows=m)
    return _priced(_measured(row), _engine(row.text("chip"), ""), [call])


def _memory_read(row: Row) -> Timing:
    """A rate of reading memory, as the time of an elementwise add that reads _READ_BYTES."""
    rate = row.number("measured_gbps")
    if not rate:
        raise NoPrediction("states no rate")
    call = Vector(part="memory_read", op="add", bytes_read=_READ_BYTES, bytes_written=0.0)
    return _priced(_READ_BYTES / (rate * 1e9), _engine(row.text("chip"), ""), [call])


def _memory_capacity(_row: Row) -> Timing:
    raise NoPrediction("a memory capacity is not a time")


_READ_BYTES = 1e9
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
    "memory_read": _memory_read,
    "memory_capacity": _memory_capacity,
}


def _measured(row: Row) -> float:
    measured_s = kernel_time_s(row)
    if not measured_s:
        raise NoPrediction("states neither a time nor a rate")
    return measured_s


def _priced(measured_s: float, engine: CostEngine, operators: Sequence[Operator]) -> Timing:
    """All operators together, with the widest half-width among them."""
    costs = engine.price(operators)
    spread = max(engine.spread(cost) for cost in costs)
    return Timing(measured_s, sum(float(cost.time_s) for cost in costs), spread, _bound(costs))


def _bound(costs: Sequence[Any]) -> str:
    """compute, memory or latency: the largest of the three parts."""
    names = {"compute": "compute_s", "memory": "memory_s", "latency": "overhead_s"}
    parts = {bound: sum(float(getattr(cost, name)) for cost in costs) for bound, name in names.items()}
    return max(parts, key=lambda bound: parts[bound])


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
