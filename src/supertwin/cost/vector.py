"""Work of the vector units: norms, rotary positions, activations, adds, look-ups, quantisation, scans, optimizer ...

    time = start_s + spread_s x min(1, tokens / (2 cores)) + smooth_max(stream, cores, flop / (compute V)) x residual
    stream = bytes / (memory B), or from L2 at `l2` of its rate while the working set fits there
    cores  = ceil(rows / (2 cores)) x bytes of a row / (row B / cores): one block per row, so few or long rows leave
             cores idle (only where the operator says how many rows it has)

spread_s: what starting all vector cores adds to starting one (Ascend: they fetch the same instructions one after the
other); fewer tokens than cores start fewer.

B memory peak, V vector peak, all shares dimensionless. A fused operator starts no kernel and moves nothing: only its
arithmetic counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from supertwin.core.errors import UnknownName
from supertwin.cost.attention_kernels import Times
from supertwin.cost.calibration import Calibration
from supertwin.cost.memory import resident_share, smooth_maximum
from supertwin.cost.surface import Array
from supertwin.machine.chip import Chip
from supertwin.machine.chips import load_chip

# Documented priors by class: shares fitted on H800 kernel timings where there are any (norm, rope, activation, add,
# embedding), else assumption. start_s: kernel start in a replayed graph.
PRIOR: Mapping[str, float] = {
    "start_s": 2.2e-6, "memory": 0.8, "l2": 0.6, "row": 1.5, "compute": 0.5, "spread_s": 0.0,
}  # fmt: skip
PRIORS: Mapping[str, Mapping[str, float]] = {
    "norm": {"memory": 0.68},
    "rope": {"memory": 0.45},
    "activation": {"memory": 0.58},
    "softmax": {"memory": 0.6},
    "quantize": {"memory": 0.7},
    "permute": {"memory": 0.55, "start_s": 4e-6},
    "loss": {"memory": 0.7, "start_s": 5e-6},
    "optimizer": {"memory": 0.8, "start_s": 4e-6},
    "scan": {"memory": 0.56, "start_s": 8e-6},
    "conv": {"memory": 0.4, "start_s": 4e-6},
    "router": {"memory": 0.5, "start_s": 4e-6},
    "topk": {"memory": 0.3, "start_s": 1e-5},
    "sampling": {"memory": 0.4, "start_s": 1.2e-5},
    "hyper_pre": {"memory": 0.3, "start_s": 1e-5},
    "hyper_post": {"memory": 0.6, "start_s": 4e-6},
    "compress": {"memory": 0.3, "start_s": 1e-5},
}
NAMES = ("start_s", "memory", "l2", "row", "compute")  # fitted on operator tables
_TABLE = (*NAMES, "spread_s")
CLASSES = frozenset({
    "norm", "rope", "activation", "add", "embedding", "softmax", "quantize", "permute", "loss", "optimizer", "copy",
    "scan", "conv", "router", "sampling", "topk", "hyper_pre", "hyper_post", "compress",
})  # fmt: skip
KNOT_STEP = 1.5
KNOTS = np.arange(10.0, 36.1, KNOT_STEP)  # log2 bytes of the residuals of all classes


@dataclass(frozen=True, slots=True)
class VectorWork:
    """Arrays of one shape: bytes moved, FLOP, rows (0 = spread evenly), 1 where it is fused into a neighbour, and rows
    that share the work out (0 = all cores start)."""

    bytes: Array
    flop: Array
    rows: Array
    fused: Array
    tokens: Array | float = 0.0


def vector_times(chip: Chip, constants: Mapping[str, Array | float], work: VectorWork) -> Times:
    """Formula of the module head, without residual. constants: NAMES and perhaps spread_s, floats or arrays that
    broadcast."""
    stream = chip.memory_bytes_per_s * constants["memory"]
    cached = np.maximum(chip.l2_bytes_per_s * constants["l2"], stream)
    kept = resident_share(work.bytes, chip.l2_bytes)
    memory = work.bytes * (kept / cached + (1.0 - kept) / stream)
    if work.rows.any():
        rows = np.maximum(work.rows, 1.0)
        core = chip.memory_bytes_per_s / chip.matrix_cores * constants["row"]
        turns = np.ceil(rows / (2.0 * chip.matrix_cores))
        memory = np.where(work.rows > 0, np.maximum(memory, turns * work.bytes / rows / core), memory)
    compute = work.flop / (chip.vector_flop_per_s * constants["compute"])
    apart = 1.0 - work.fused
    wanted = np.where(np.asarray(work.tokens) > 0.0, work.tokens, np.inf)
    started = np.minimum(wanted / (2.0 * chip.matrix_cores), 1.0)
    start = (constants["start_s"] + constants.get("spread_s", 0.0) * started) * apart
    busy = np.where(work.fused > 0, compute, smooth_maximum(memory, compute, 4.0))
    # reported as memory: the second pass of a norm; as compute: what the arithmetic takes at the vector peak
    arithmetic = np.where(work.fused > 0, compute, work.flop / chip.vector_flop_per_s)
    return Times(start + busy, arithmetic, busy * apart, start + 0.0 * busy, work.flop, work.bytes * apart)


@dataclass(frozen=True)
class VectorModel:
    """Vector units of one chip. context: "" is what the twin uses; serving: kernels of inference engines where they
    were measured apart; vidur, event: as those tables were measured.

    Classes live in one table (constants by name, residuals on common knots), so that a list of operators of many
    classes is priced in one call.
    """

    chip: Chip
    calibration: Calibration
    context: str = ""
    _rows: dict[str, int] = field(default_factory=dict)
    _constants: list[list[float]] = field(default_factory=list)
    _residuals: list[Array] = field(default_factory=list)
    _tables: list[Array] = field(default_factory=list)  # both lists as arrays, until a class is added

    def row(self, op: str) -> int:
        """Row of a class in the table. Raises UnknownName for a class that is not in the vocabulary."""
        if op not in self._rows:
            if op not in CLASSES:
                raise UnknownName("vector operator", op, CLASSES)
            constants = carried(constants_of(self.calibration, op, self.context), self._measured_on(op), self.chip)
            surface = self.calibration.surface(*_names(op, self.context))
            known = np.zeros(len(KNOTS)) if surface is None else surface.log_factor([KNOTS])
            self._constants.append([constants[n] for n in _TABLE])
            self._residuals.append(known)
            self._rows[op] = len(self._rows)
            self._tables.clear()
        return self._rows[op]

    def _measured_on(self, op: str) -> Chip:
        source = self.calibration.measured_on(*_names(op, self.context))
        return load_chip(source) if source and source != self.chip.name else self.chip

    def times(self, rows: npt.NDArray[np.int64], work: VectorWork) -> Times:
        """Price executions; rows: class of each entry along the first axis (of length 1 for a single class)."""
        shape = (-1,) + (1,) * (work.bytes.ndim - 1)
        if not self._tables:
            self._tables.extend((np.array(self._constants), np.array(self._residuals)))
        table = self._tables[0][rows].T
        constants = {n: column.reshape(shape) for n, column in zip(_TABLE, table, strict=True)}
        times = vector_times(self.chip, constants, work)
        factor = self._factor(rows.reshape(shape), work.bytes)
        return Times(
            times.time_s * factor, times.compute_s, times.memory_s * factor, times.overhead_s, times.flop, times.bytes
        )

    def _factor(self, rows: npt.NDArray[np.int64], moved: Array) -> Array:
        position = (np.log2(np.maximum(moved, 1.0)) - KNOTS[0]) / KNOT_STEP
        position = np.minimum(np.maximum(position, 0.0), len(KNOTS) - 1.000001)
        low = position.astype(np.int64)
        residuals = self._tables[1]
        share = position - low
        return np.asarray(np.exp(residuals[rows, low] * (1.0 - share) + residuals[rows, low + 1] * share))


def carried(constants: Mapping[str, float], measured: Chip, wanted: Chip) -> dict[str, float]:
    """Constants measured on one chip, for another: arithmetic keeps its proportion to the stream of bytes.

    What looks like an arithmetic limit of a norm is the second pass over a row that is still close by; it grows with
    the memory rate and not with the vector peak.
    """
    balance = [c.memory_bytes_per_s / c.vector_flop_per_s for c in (measured, wanted)]
    return {**constants, "compute": constants["compute"] * balance[1] / balance[0]}


def constants_of(calibration: Calibration, op: str, context: str = "") -> dict[str, float]:
    """Constants of a class: priors overlaid by the fitted ones, those of the context first."""
    return {**PRIOR, **PRIORS.get(op, {}), **calibration.group(*_names(op, context))}


def _names(op: str, context: str) -> tuple[str, ...]:
    return (f"{context}:{op}", op) if context else (op,)
