"""Fit of the vector operators from norm_elementwise.csv.gz and, for linear attention, attention_sparse_linear.csv.gz.

Contexts: `kernel` timings (frontier, current kernels) are what the twin uses; `vidur` (older kernels, times rounded to
microseconds) and `event` (launch cost included) keep their own constants for comparison.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from supertwin.calibration import ascend_mixing, ascend_profile, ascend_serving
from supertwin.calibration.common import (
    errors,
    fit_surface,
    held_out,
    require_polars,
    require_scipy,
    spread_90,
    write_calibration,
)
from supertwin.cost.attention_kernels import Times
from supertwin.cost.calibration import INHERITED_SPREAD, load_calibration
from supertwin.cost.geometry import Array
from supertwin.cost.surface import Surface
from supertwin.cost.vector import CLASSES, KNOTS, NAMES, PRIOR, PRIORS, VectorWork, carried, constants_of, vector_times
from supertwin.machine.chip import Chip
from supertwin.machine.chips import load_chip

# op of the table: (class, values moved per element of the row: read, written; FLOP per element as the workload counts
# them, which tells the two kinds of norm apart: the one with the residual add moves twice as much for 5 FLOP, not 4).
# The norm after attention adds the
# residual in the same kernel in the frontier tables (two reads, two writes), not in vidur (which times add by itself).
OPERATORS: Mapping[str, tuple[str, float, float, float]] = {
    "input_layernorm": ("norm", 1.0, 1.0, 4.0),
    "post_attention_layernorm": ("norm", 1.0, 1.0, 4.0),
    "attn_rope": ("rope", 1.0, 1.0, 6.0),
    "mlp_act": ("activation", 2.0, 1.0, 6.0),
    "add": ("add", 2.0, 1.0, 1.0),
    "emb": ("embedding", 1.0, 1.0, 0.0),
}
FUSED_ADD = ("norm", 2.0, 2.0, 5.0)
ELEMENT_BYTES = 2.0
FIT_ROWS = 1500
_BOUNDS = {
    "start_s": (2e-7, 5e-5),
    "memory": (0.02, 1.0),
    "l2": (0.02, 1.5),
    "row": (0.05, 30.0),
    "compute": (0.01, 2.0),
}
_PRIOR_WEIGHT = 0.02
TABLE_CHIPS = ("h800-sxm", "h100-sxm", "a100-sxm-80gb", "a800-80gb", "b200")
DONOR = "h800-sxm"
DONOR_ROWS = 3581
RECURRENT_CHIP = "h20"
SMALLEST_SPREAD = 0.1


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
    parts: dict[tuple[str, str], list[tuple[Array, Array, Array, Array, Array]]] = {}
    for (op, method, source), group in sorted(table.partition_by(["op", "method", "source"], as_dict=True).items()):
        context = {"vidur": "vidur"}.get(source, "" if method == "kernel" else "event")
        fused_add = op == "post_attention_layernorm" and source != "vidur"
        name, read, written, per_value = FUSED_ADD if fused_add else OPERATORS[op]
        tokens, width = (np.asarray(group[c].to_numpy(), dtype=np.float64) for c in ("tokens", "width"))
        moved = tokens * width * (read + written) * ELEMENT_BYTES
        us = np.asarray(group["us"].to_numpy(), dtype=np.float64)
        parts.setdefault((name, context), []).append((moved, tokens, us * 1e-6, width, per_value * tokens * width))
    for (name, context), pieces in parts.items():
        moved, tokens, seconds, width, flop = (np.concatenate(column) for column in zip(*pieces, strict=True))
        work = VectorWork(moved, flop, tokens, np.zeros_like(moved))
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
    surface = fit_surface({"bytes": KNOTS.tolist()}, points, log_ratio, smoothness=3.0, shrinkage=0.1)
    return {n: float(v) for n, v in zip(NAMES, np.exp(found.x), strict=True)}, surface


def recurrent_constants(operators: Path) -> dict[str, dict[str, float]]:
    """Shares of linear attention from the H20 rows of attention_sparse_linear.csv.gz (gated delta net of Qwen3-Next).

    scan: decode reads and writes 32 x 128 x 128 FP32 of state per sequence; batches of 64 and more (below them the
    host issues slower than the kernel runs). conv: 4096 tokens of 8192 channels read and written. Empty without rows.
    """
    path = operators / "attention_sparse_linear.csv.gz"
    if not path.is_file():
        return {}
    polars = require_polars()
    chip = load_chip(RECURRENT_CHIP)
    table = polars.read_csv(path, infer_schema_length=None)
    rows = table.filter(polars.col("chip") == RECURRENT_CHIP).to_dicts()
    scan = [
        row["batch"] * 2.0 * 32 * 128 * 128 * 4.0 / (row["us"] * 1e-6)
        for row in rows
        if row["op"] == "gdn-gdn_update" and row["batch"] >= 64
    ]
    conv = [
        row["q_len"] * 8192 * 2.0 * 2.0 / (row["us"] * 1e-6)
        for row in rows
        if row["op"] == "gdn-conv" and row["stage"] == "prefill"
    ]
    shares = {op: np.median(rates) for op, rates in (("scan", scan), ("conv", conv)) if rates}
    return {op: {"memory": float(f"{rate / chip.memory_bytes_per_s:.3g}")} for op, rate in shares.items()}


def fit_vector(operators: Path, out: Path, date: str, chips: Sequence[str] = TABLE_CHIPS) -> list[Path]:
    """Fit the chips (names as in the table) and write `out/<chip>/vector.json`. Returns the paths.

    Classes that the twin uses come from kernel timings: of the chip itself, else of DONOR (shares are dimensionless).
    """
    donor = _fit_chip(operators, DONOR)
    recurrent = recurrent_constants(operators)
    written = []
    for table_chip in chips:
        own = donor if table_chip == DONOR else _fit_chip(operators, table_chip)
        for op in ("add",):  # only vidur times it
            if op not in own.parameters and f"vidur:{op}" in own.parameters:
                own.parameters[op] = own.parameters[f"vidur:{op}"]
                own.surfaces[op] = own.surfaces[f"vidur:{op}"]
        taken = {
            n: rounded(carried(c, load_chip(DONOR), load_chip(table_chip)))
            for n, c in donor.parameters.items()
            if ":" not in n
        }
        parameters = {**recurrent, **taken, **own.parameters}
        surfaces = {**{n: s for n, s in donor.surfaces.items() if ":" not in n}, **own.surfaces}
        written.append(write_calibration(out, own.as_json(load_chip(table_chip).name, date, parameters, surfaces)))
    return [*written, write_calibration(out, _ascend(date))]


def _ascend(date: str) -> dict[str, Any]:
    """Ascend 910B2: add reads 1,456 of 1,600 GB/s (asc-devkit sample, kernels.csv).

    Sums, copies, softmax and optimizer are profiled, other classes keep the ratio of the priors to it.
    Start of a kernel in a replayed graph: 3 us (assumption; the floor of a matrix product is 5.1 us). Inference runs
    the kernels measured on a die of 910C, the same die; classes without rows start all cores as sums and copies do.
    """
    gain = 1456.0 / 1600.0 / PRIOR["memory"]
    parameters = {
        op: {
            "memory": round(min(PRIORS.get(op, PRIOR).get("memory", PRIOR["memory"]) * gain, 0.95), 4),
            "start_s": 3e-6,
        }
        for op in sorted(CLASSES)
    }
    chip = load_chip("ascend-910b2")
    profiled = ascend_profile.vector_shares(chip.memory_bytes_per_s, chip.l2_bytes_per_s)
    parameters = {op: {**constants, **profiled.get(op, {})} for op, constants in parameters.items()}
    measured = ascend_serving.vector_constants(load_chip(ascend_serving.CHIP))
    parameters["topk"]["compute"] = 1.0  # cycles are counted one by one (inference/sorting.py)
    other = {"spread_s": ascend_serving.OTHER_SPREAD_S}
    serving = {f"serving:{op}": measured.get(op, {**constants, **other}) for op, constants in parameters.items()}
    return {
        "family": "vector",
        "chip": "ascend-910b2",
        "date": date,
        "data_sets": [
            {"name": "kernels.csv: memory_read", "rows": 1},
            {"name": ascend_profile.SOURCE, "rows": len(profiled)},
            {"name": ascend_serving.SOURCE, "rows": sum(len(rows) for rows in ascend_serving.VECTORS.values())},
            {"name": ascend_mixing.SOURCE, "rows": sum(len(rows) for rows in ascend_mixing.VECTORS.values())},
        ],
        "parameters": {**parameters, **serving},
        "surface": {},
        "residual": {},
        "spread": 0.35,
    }


@dataclass
class _Fitted:
    """One chip's classes and its held-out rows."""

    parameters: dict[str, dict[str, float]]
    surfaces: dict[str, Surface]
    predicted: Array
    measured: Array
    rows: int

    def as_json(
        self, chip: str, date: str, parameters: Mapping[str, Any], surfaces: Mapping[str, Surface]
    ) -> dict[str, Any]:
        held = errors(self.predicted, self.measured)
        # nothing measured on the chip: shares of DONOR alone, one step as along the chain of relatives
        taken_over = float(np.hypot(SMALLEST_SPREAD, INHERITED_SPREAD))
        spread = spread_90(self.predicted, self.measured) if len(self.measured) else taken_over
        residual = {"n": self.rows, "n_held_out": held["n"]}
        if len(self.measured):
            residual |= {"held_out_median_ape": held["median_ape"], "p90": held["p90_ape"]}
        return {
            "family": "vector",
            "chip": chip,
            "date": date,
            "data_sets": [
                {"name": "operators/norm_elementwise", "rows": self.rows},
                {"name": f"operators/norm_elementwise ({DONOR}, shares taken over)", "rows": DONOR_ROWS},
                {"name": f"operators/attention_sparse_linear ({RECURRENT_CHIP}, scan and conv)", "rows": 10},
            ],
            "parameters": parameters,
            "surface": {name: surface.to_json() for name, surface in surfaces.items()},
            "residual": {n: round(float(v), 4) for n, v in residual.items()},
            "spread": round(max(spread, SMALLEST_SPREAD), 4),
        }


def rounded(constants: Mapping[str, float]) -> dict[str, float]:
    """Four significant digits."""
    return {name: float(f"{value:.4g}") for name, value in constants.items()}


def _fit_chip(operators: Path, table_chip: str) -> _Fitted:
    chip = load_chip(table_chip)
    parameters, surfaces, predicted, measured, count = {}, {}, [np.zeros(0)], [np.zeros(0)], 0
    for rows in load_rows(operators, table_chip):
        constants, surface = fit_class(chip, rows)
        parameters[rows.name] = rounded(constants)
        if surface is not None:
            surfaces[rows.name] = surface
        count += int((~rows.test).sum())
        predicted.append(predict(chip, rows, constants, surface))
        measured.append(rows.measured_s[rows.test])
    return _Fitted(parameters, surfaces, np.concatenate(predicted), np.concatenate(measured), count)


def predict(chip: Chip, rows: VectorRows, constants: Mapping[str, float], surface: Surface | None) -> Array:
    """Predicted seconds of the held-out rows."""
    work = rows.part(np.flatnonzero(rows.test))
    times = vector_times(chip, constants, work).time_s
    return times if surface is None else times * surface.factor([np.log2(work.bytes)])


def evaluate_held_out(operators: Path) -> list[dict[str, Any]]:
    """Errors of the shipped files on held-out rows, by chip, class and context."""
    report = []
    for table_chip in TABLE_CHIPS:
        chip = load_chip(table_chip)
        calibration = load_calibration(chip, "vector")
        for rows in load_rows(operators, table_chip):
            constants = constants_of(calibration, rows.op, rows.context)
            predicted = predict(chip, rows, constants, calibration.surface(rows.name))
            measured = rows.measured_s[rows.test]
            key = {"chip": table_chip, "op": rows.op, "context": rows.context}
            report.append({**key, **errors(predicted, measured), "ape": np.abs(predicted / measured - 1.0)})
    return report
