"""Fit of training attention (forward and backward) from the kernel tables, few constants per library and head size.

FlashAttention-2/3 tables, cuDNN through TransformerEngine (SimuMax). Too few rows for a residual surface. Timings with
an event around a call from Python cannot be shorter than the host takes to issue it: host_s, part of the comparison
and not of the kernel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from supertwin.calibration.attention_rows import AttentionRow, attention_row
from supertwin.calibration.common import require_scipy
from supertwin.cost.attention import shape_of, variant_of
from supertwin.cost.attention_kernels import PRIORS, attention_times
from supertwin.cost.geometry import Array
from supertwin.machine.chip import Chip
from supertwin.workload.operators import Attention

# name: (start, lower, upper). back_*: backward over forward, for the rate and the fixed cost of a tile. A library of
# which only one direction was measured gets the start value: the median of those with both (cuDNN on A100 and B200).
_CONSTANTS = {
    "start_s": (8e-6, 1e-6, 2e-5),
    "tile_s": (1.5e-6, 1e-8, 2e-5),
    "rate": (0.65, 0.05, 1.1),
    "sharp": (2.5, 1.0, 8.0),
    "host_s": (1e-5, 1e-7, 3e-4),
    "throttle": (0.02, 1e-3, 0.5),
    "back_rate": (0.75, 0.3, 1.5),
    "back_tile": (1.5, 0.2, 8.0),
}
_PRIOR_WEIGHT = 0.03


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """Rows of one library and head size."""

    library: str
    head_dim: int
    rows: tuple[AttentionRow, ...]


def group_rows(table: Sequence[Mapping[str, Any]]) -> list[TrainingRows]:
    """Rows of kernels.csv with a complete shape, by library and head size."""
    groups: dict[tuple[str, int], list[AttentionRow]] = {}
    for row in table:
        if row["kernel"] == "attention" and row.get("heads"):
            read = attention_row(row)
            groups.setdefault((read.library, int(row["head_dim"])), []).append(read)
    return [TrainingRows(*key, tuple(rows)) for key, rows in sorted(groups.items())]


def fit_training(chip: Chip, rows: TrainingRows) -> dict[str, dict[str, float]]:
    """Constants by name of variant, forward and backward (causal and full share them)."""
    fastest = min(row.measured_s for row in rows.rows)
    trials = [_fit(chip, rows, block, host) for block in (64.0, 128.0) for host in (1e-5, 0.95 * fastest)]
    fitted = min(trials, key=lambda found: found[0])[1]
    out = {}
    for op in (op for read in rows.rows for op in read.operators):
        for direction in ("fwd", "bwd"):
            out[variant_of(replace(op, direction=direction)).name] = directed(fitted, direction)
    return out


def directed(fitted: Mapping[str, float], direction: str) -> dict[str, float]:
    """Constants of one direction."""
    constants = {n: v for n, v in fitted.items() if not n.startswith("back_")}
    if direction == "bwd":
        constants["rate"] = fitted["rate"] * fitted["back_rate"]
        constants["tile_s"] = fitted["tile_s"] * fitted["back_tile"]
    return constants


def row_time_s(chip: Chip, row: AttentionRow, constants: Mapping[str, Mapping[str, float]]) -> float:
    """Predicted time of a row, host included. constants: by direction."""
    total = sum(_time(chip, op, constants[op.direction]) for op in row.operators)
    return max(total, constants["fwd"].get("host_s", 0.0))


def _time(chip: Chip, op: Attention, constants: Mapping[str, float]) -> float:
    variant = variant_of(op)
    return float(attention_times(chip, variant, shape_of(op, variant), constants).time_s)


def _fit(chip: Chip, rows: TrainingRows, block: float, host_s: float) -> tuple[float, dict[str, float]]:
    scipy = require_scipy()
    table = {**_CONSTANTS, "host_s": (min(host_s, 2e-4), 1e-7, 3e-4)}
    start, low, high = np.log(np.array(list(table.values()))).T
    measured = np.array([row.measured_s for row in rows.rows])

    def constants_of(x: Array) -> dict[str, float]:
        fitted = {n: float(v) for n, v in zip(_CONSTANTS, np.exp(x), strict=True)}
        return {"memory": PRIORS["prefill"]["memory"], **fitted, "rows": block}

    def residual(x: Array) -> Array:
        fitted = constants_of(x)
        constants = {d: directed(fitted, d) for d in ("fwd", "bwd")}
        predicted = np.array([row_time_s(chip, row, constants) for row in rows.rows])
        return np.concatenate([np.log(predicted / measured), _PRIOR_WEIGHT * (x - start)])

    found = scipy.optimize.least_squares(residual, start, loss="soft_l1", f_scale=0.1, bounds=(low, high))
    return float(found.cost), constants_of(found.x)
