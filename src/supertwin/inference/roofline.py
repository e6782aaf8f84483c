"""The roofline of every operator of a step (Williams et al. 2009): work, traffic, and what each got of the machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from supertwin.core.formats import number_format
from supertwin.cost.result import OperatorCost
from supertwin.inference.anatomy import Anatomy, Opened
from supertwin.inference.piece import Piece
from supertwin.inference.times import scalar
from supertwin.machine.chip import Chip
from supertwin.workload.operators import Attention, Communication, ExpertMlp, Gemm, Operator


@dataclass(frozen=True, slots=True)
class Point:
    """One operator of one kind of block, on one device.

    executions: per step; flop, bytes, time_s: of one execution (bytes of an exchange: its message); share: of the step
    when nothing overlapped; rate: format of the matrix peak ("" for vector work and exchanges); of_peak, of_bandwidth:
    achieved over the data sheet (None where the operator does not use it).
    """

    operator: str
    block: str
    shape: str
    executions: float
    flop: float
    bytes: float
    bound: str
    time_s: float
    share: float
    rate: str = ""
    of_peak: float | None = None
    of_bandwidth: float | None = None

    @property
    def intensity(self) -> float | None:
        """FLOP per byte of memory traffic; None without arithmetic."""
        return self.flop / self.bytes if self.flop > 0.0 and self.bytes > 0.0 and self.rate else None

    @property
    def flop_per_s(self) -> float:
        """Arithmetic that was achieved."""
        return self.flop / self.time_s if self.time_s > 0.0 else 0.0


def roofline(step: Anatomy) -> tuple[Point, ...]:
    """Operators of a step in the order of their blocks; equal ones of a block are one point."""
    found: dict[tuple[str, str, str], Point] = {}
    for point in (point for opened in step.blocks for point in _points(opened, step)):
        key = (point.block, point.operator, point.shape)
        before = found.get(key)
        found[key] = point if before is None else _joined(before, point)
    return tuple(found.values())


def roofs(step: Anatomy) -> dict[str, float]:
    """Dense peaks in FLOP/s of the formats that the step multiplies in, fastest first."""
    chip = step.case.system.chip
    names = {point.rate for point in roofline(step) if point.rate}
    return dict(sorted(((name, chip.peak(name)) for name in names), key=lambda item: -item[1]))


def ideal_s(cost: OperatorCost, chip: Chip) -> float:
    """Time of an operator at the data sheet's peak and bandwidth, the slower of both."""
    rate = rate_of(cost.operator)
    compute = scalar(cost.flop) / chip.peak(rate) if rate else 0.0
    return max(compute, scalar(cost.bytes) / chip.memory_bytes_per_s)


def rate_of(operator: Operator) -> str:
    """Format whose matrix peak bounds an operator; "" for vector work."""
    return number_format(operator.dtype).rate if isinstance(operator, Gemm | ExpertMlp | Attention) else ""


def shape_text(operator: Operator) -> str:
    """Sizes of an operator in few words: m x n x k, rows over experts, queries against keys, bytes."""
    if isinstance(operator, Gemm):
        groups = _number(operator.groups)
        sizes = " x ".join(_number(size) for size in (operator.m, operator.n, operator.k))
        return sizes if groups == "1" else f"{groups} of {sizes}"
    if isinstance(operator, ExpertMlp):
        rows, experts = _number(operator.rows), _number(operator.experts)
        return f"{rows} rows, {experts} of {_number(operator.hidden)} x {_number(operator.inter)}"
    if isinstance(operator, Attention):
        heads = f"{_number(operator.heads)}/{_number(operator.kv_heads)} heads"
        return f"{_number(operator.batch)} x {_number(operator.q_len)} q, {_number(operator.kv_len)} k, {heads}"
    if isinstance(operator, Communication) and scalar_of(operator.tokens):
        return f"{_number(operator.tokens)} x {_number(operator.hidden)}, top {_number(operator.topk)}"
    return ""


def scalar_of(value: object) -> float:
    """A size as a number."""
    return scalar(value) if not isinstance(value, int) else float(value)  # type: ignore[arg-type]


def _number(value: object) -> str:
    return f"{scalar_of(value):.4g}" if scalar_of(value) < 1e4 else f"{round(scalar_of(value))}"


def _points(opened: Opened, step: Anatomy) -> Iterator[Point]:
    chip, total = step.case.system.chip, step.total_s
    runs = opened.block.count * opened.block.microbatches
    for operator, piece in opened.operators:
        count = scalar_of(operator.count)
        seconds = scalar(piece.time_s)
        if seconds <= 0.0 or count <= 0.0:
            continue
        flop, moved = _work(operator, piece)
        each, rate = seconds / count, rate_of(operator)
        yield Point(
            operator.part,
            opened.name,
            shape_text(operator),
            count * runs,
            flop,
            moved,
            piece.bound,
            each,
            seconds * runs / total,
            rate,
            flop / each / chip.peak(rate) if rate else None,
            moved / each / chip.memory_bytes_per_s if piece.cost is not None else None,
        )


def _work(operator: Operator, piece: Piece) -> tuple[float, float]:
    if piece.cost is not None:
        return scalar(piece.cost.flop), scalar(piece.cost.bytes)
    return 0.0, scalar_of(operator.message_bytes) if isinstance(operator, Communication) else 0.0


def _joined(a: Point, b: Point) -> Point:
    """Two points of one operator and shape as one: a norm that a layer runs twice."""
    runs = a.executions + b.executions

    def mean(x: float, y: float) -> float:
        return (x * a.executions + y * b.executions) / runs

    return Point(
        a.operator, a.block, a.shape, runs, mean(a.flop, b.flop), mean(a.bytes, b.bytes), a.bound,
        mean(a.time_s, b.time_s), a.share + b.share, a.rate,
        None if a.of_peak is None or b.of_peak is None else mean(a.of_peak, b.of_peak),
        None if a.of_bandwidth is None or b.of_bandwidth is None else mean(a.of_bandwidth, b.of_bandwidth),
    )  # fmt: skip
