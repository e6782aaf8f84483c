"""Fit of attention: constants of the formula and residual surfaces, one set per kernel variant and library.

Rows come from attention_prefill.csv.gz and attention_decode.csv.gz. The library that serving engines use first on a
chip fills the family "attention"; variants of other libraries go to "attention-<library>". 30 % of the shapes are
never fitted (calibration.common.held_out).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from supertwin.calibration.common import (
    fit_surface,
    held_out,
    require_polars,
    require_scipy,
)
from supertwin.cost.attention_kernels import PRIORS, Variant, attention_times, coordinates
from supertwin.cost.geometry import Array, Shape
from supertwin.cost.surface import Surface
from supertwin.machine.chip import Chip

LIBRARIES = ("trtllm", "flashinfer", "fa3", "sglang", "flashinfer-eager")  # the first that has a variant is the default
EAGER = "flashinfer-eager"  # timed call by call from Python: never shorter than the host needs, so never the default
FIT_ROWS = 1200
FEWEST_ROWS = 12
QUERY_BLOCKS = (64.0, 128.0, 256.0)
BOUNDS: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "prefill": {
        "start_s": (1e-6, 1e-4),
        "tile_s": (1e-8, 5e-5),
        "rate": (0.02, 1.3),
        "memory": (0.1, 1.0),
        "sharp": (1.0, 12.0),
    },
    "decode": {
        "start_s": (1e-6, 1e-4),
        "tile_s": (1e-8, 5e-5),
        "rate": (0.005, 1.0),
        "memory": (0.05, 1.0),
        "split_s": (1e-9, 1e-5),
        "sharp": (1.0, 6.0),
    },
}
KNOTS: Mapping[str, Mapping[str, Sequence[float]]] = {
    "prefill": {
        "items": np.arange(0.0, 14.1, 1.0).tolist(),
        "q": [0.0, 2.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0],
        "group": [0.0, 1.0, 3.0, 5.0, 7.0],
        "depth": [0.0, 1.0, 2.0, 3.0, 5.0, 7.0],
        "windowed": [0.0, 1.0],
    },
    "decode": {
        "items": np.arange(0.0, 15.1, 1.0).tolist(),
        "keys": np.arange(1.0, 17.1, 1.0).tolist(),
        "group": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 5.5, 6.0, 7.0],
        "windowed": [0.0, 1.0],
    },
}
SMOOTHNESS = 0.02  # weak: kernel selection makes real steps, and timing noise is about 1 %
SHRINKAGE = 0.002


@dataclass(frozen=True, slots=True)
class Rows:
    """Measured rows of one variant of one library: shapes, seconds and which of them are held out."""

    variant: Variant
    library: str
    shape: Shape
    measured_s: Array
    test: npt.NDArray[np.bool_]

    def part(self, index: npt.NDArray[Any]) -> Shape:
        """Shapes of some rows."""
        s = self.shape
        fields = (s.batch, s.q_len, s.kv_len, s.heads, s.kv_heads, s.qk_head_dim, s.v_head_dim, s.window)
        return Shape(*(f[index] for f in fields))


def load_rows(operators: Path, chip: str) -> Iterator[Rows]:
    """All variants measured on a chip (name as in the operator tables)."""
    polars = require_polars()
    for phase in ("prefill", "decode"):
        table = polars.read_csv(operators / f"attention_{phase}.csv.gz", infer_schema_length=None)
        table = table.filter(polars.col("chip") == chip)
        if phase == "prefill":
            table = table.with_columns(kv_len=polars.col("q_len") + polars.col("prefix_len"))
        table = table.with_columns(library=library_column(polars, phase))
        keys = ["library", "kind", "qk_head_dim", "dtype", "kv_dtype"]
        for key, group in sorted(table.partition_by(keys, as_dict=True).items()):
            yield _rows(phase, dict(zip(keys, key, strict=True)), group)


def library_column(polars: Any, phase: str) -> Any:
    """Library of each row: first word of `framework`, except for FlashInfer timed with the host in the loop."""
    first = polars.col("framework").str.split(" ").list.first()
    eager = polars.col("framework").str.contains("event")
    if phase == "decode":
        eager = eager | ((first == "flashinfer") & (polars.col("kind") == "gqa"))
    return polars.when(eager).then(polars.lit(EAGER)).otherwise(first)


def _rows(phase: str, key: Mapping[str, Any], group: Any) -> Rows:
    def column(name: str) -> Array:
        return np.asarray(group[name].to_numpy(), dtype=np.float64)

    names = ("batch", "q_len", "kv_len", "heads", "kv_heads", "qk_head_dim", "v_head_dim", "window")
    columns = [column(name) for name in names]
    test = held_out(*columns)
    variant = Variant(phase, key["kind"], int(key["qk_head_dim"]), key["dtype"], key["kv_dtype"])
    return Rows(variant, key["library"], Shape(*columns), column("us") * 1e-6, test)


def fit_variant(chip: Chip, rows: Rows) -> tuple[dict[str, float], Surface | None]:
    """Constants and residual surface of one variant from its fit rows."""
    train = np.flatnonzero(~rows.test)
    sample = np.random.default_rng(0).permutation(train)[:FIT_ROWS]
    blocks = QUERY_BLOCKS if rows.variant.phase == "prefill" else (0.0,)
    trials = [_fit_constants(chip, rows, sample, block) for block in blocks]
    constants = min(trials, key=lambda trial: trial[0])[1]
    shape, measured = rows.part(train), rows.measured_s[train]
    log_ratio = np.log(measured / attention_times(chip, rows.variant, shape, constants).time_s)
    return constants, _fit_residual(rows.variant, shape, log_ratio)


def _fit_constants(
    chip: Chip, rows: Rows, sample: npt.NDArray[np.int64], block: float
) -> tuple[float, dict[str, float]]:
    scipy = require_scipy()
    bounds = BOUNDS[rows.variant.phase]
    low, high = np.log([bounds[n] for n in bounds]).T
    shape, measured = rows.part(sample), rows.measured_s[sample]

    def constants_of(x: Array) -> dict[str, float]:
        values = {n: float(v) for n, v in zip(bounds, np.exp(x), strict=True)}
        return values | ({"rows": block} if block else {})

    def residual(x: Array) -> Array:
        times = attention_times(chip, rows.variant, shape, constants_of(x))
        return np.asarray(np.log(times.time_s / measured))

    start = np.log([PRIORS[rows.variant.phase][n] for n in bounds])
    found = scipy.optimize.least_squares(
        residual, np.clip(start, low + 1e-6, high - 1e-6), loss="soft_l1", f_scale=0.1, bounds=(low, high)
    )
    return float(found.cost), constants_of(found.x)


def _fit_residual(variant: Variant, shape: Shape, log_ratio: Array) -> Surface | None:
    knots = {}
    for axis, values in KNOTS[variant.phase].items():
        x = coordinates((axis,), variant, shape)[0]
        inside = [k for k in values if x.min() - 1.0 < k < x.max() + 1.0]
        if np.ptp(x) > 0.1 and len(inside) > 1:
            knots[axis] = inside
    if len(log_ratio) < FEWEST_ROWS or not knots:
        return None
    points = coordinates(tuple(knots), variant, shape)
    return fit_surface(knots, points, log_ratio, smoothness=SMOOTHNESS, shrinkage=SHRINKAGE)
