"""Fit of the vector operators from norm_elementwise.csv.gz and, for linear attention, attention_sparse_linear.csv.gz.

Contexts: `kernel` timings (frontier, current kernels) are what the twin uses; `vidur` (older kernels, times rounded to
microseconds) and `event` (launch cost included) keep their own constants for comparison.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from supertwin.calibration.common import fit_surface, held_out, require_polars, require_scipy
from supertwin.cost.attention_kernels import Times
from supertwin.cost.geometry import Array
from supertwin.cost.surface import Surface
from supertwin.cost.vector import KNOTS, NAMES, PRIOR, PRIORS, VectorWork, vector_times
from supertwin.machine.chip import Chip

# op of the table: (class, values moved per element of the row: read, written). The norm after attention adds the
# residual in the same kernel in the frontier tables (two reads, two writes), not in vidur (which times add by itself).
OPERATORS: Mapping[str, tuple[str, float, float]] = {
    "input_layernorm": ("norm", 1.0, 1.0),
    "post_attention_layernorm": ("norm", 1.0, 1.0),
    "attn_rope": ("rope", 1.0, 1.0),
    "mlp_act": ("activation", 2.0, 1.0),
    "add": ("add", 2.0, 1.0),
    "emb": ("embedding", 1.0, 1.0),
}
FUSED_ADD = ("norm", 2.0, 2.0)
ELEMENT_BYTES = 2.0
FLOP_PER_BYTE = 1.0
FIT_ROWS = 1500
_BOUNDS = {
    "start_s": (2e-7, 5e-5),
    "memory": (0.02, 1.0),
    "l2": (0.02, 1.5),
    "row": (0.05, 30.0),
    "compute": (0.01, 2.0),
}
_PRIOR_WEIGHT = 0.02


@dataclass(frozen=True, slots=True)
class VectorRows:
    """Measured rows of one class in one context."""

    op: str
    context: str
    work: VectorWork
    measured_s: Array
    test: npt.NDArray[np.bool_]

    @property
    def name(self) -> str:
        """Group name in the calibration file."""
        return f"{self.context}:{self.op}" if self.context else self.op

    def part(self, index: npt.NDArray[Any]) -> VectorWork:
        """Work of some rows."""
        w = self.work
        return VectorWork(w.bytes[index], w.flop[index], w.rows[index], w.fused[index])


def load_rows(operators: Path, chip: str) -> Iterator[VectorRows]:
    """All classes and contexts measured on a chip (name as in the operator tables)."""
    polars = require_polars()
    table = polars.read_csv(operators / "norm_elementwise.csv.gz", infer_schema_length=None)
    table = table.filter(polars.col("chip") == chip)
    parts: dict[tuple[str, str], list[tuple[Array, Array, Array, Array]]] = {}
    for (op, method, source), group in sorted(table.partition_by(["op", "method", "source"], as_dict=True).items()):
        context = {"vidur": "vidur"}.get(source, "" if method == "kernel" else "event")
        fused_add = op == "post_attention_layernorm" and source != "vidur"
        name, read, written = FUSED_ADD if fused_add else OPERATORS[op]
        tokens, width = (np.asarray(group[c].to_numpy(), dtype=np.float64) for c in ("tokens", "width"))
        moved = tokens * width * (read + written) * ELEMENT_BYTES
        us = np.asarray(group["us"].to_numpy(), dtype=np.float64)
        parts.setdefault((name, context), []).append((moved, tokens, us * 1e-6, width))
    for (name, context), pieces in parts.items():
        moved, tokens, seconds, width = (np.concatenate(column) for column in zip(*pieces, strict=True))
        work = VectorWork(moved, FLOP_PER_BYTE * moved, tokens, np.zeros_like(moved))
        yield VectorRows(name, context, work, seconds, held_out(tokens, width))


def fit_class(chip: Chip, rows: VectorRows) -> tuple[dict[str, float], Surface | None]:
    """Constants and residual over bytes of one class, from its fit rows."""
    scipy = require_scipy()
    train = np.flatnonzero(~rows.test)
    sample = np.random.default_rng(0).permutation(train)[:FIT_ROWS]
    work, measured = rows.part(sample), rows.measured_s[sample]
    low, high = np.log([_BOUNDS[n] for n in NAMES]).T
    prior = {**PRIOR, **PRIORS.get(rows.op, {})}
    start = np.log([prior[n] for n in NAMES])

    def times(x: Array, work: VectorWork) -> Times:
        return vector_times(chip, {n: float(v) for n, v in zip(NAMES, np.exp(x), strict=True)}, work)

    def residual(x: Array) -> Array:
        return np.concatenate([np.log(times(x, work).time_s / measured), _PRIOR_WEIGHT * (x - start)])

    found = scipy.optimize.least_squares(
        residual, np.clip(start, low + 1e-6, high - 1e-6), loss="soft_l1", f_scale=0.1, bounds=(low, high)
    )
    log_ratio = np.log(rows.measured_s[train] / times(found.x, rows.part(train)).time_s)
    points = [np.log2(rows.work.bytes[train])]
    surface = fit_surface({"bytes": KNOTS.tolist()}, points, log_ratio, smoothness=0.1, shrinkage=0.02)
    return {n: float(v) for n, v in zip(NAMES, np.exp(found.x), strict=True)}, surface
