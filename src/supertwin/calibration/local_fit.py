"""Fit of a measured processor: products, streams, small calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from supertwin.calibration.common import errors, fit_surface, held_out, require_scipy, residual_summary, spread_90
from supertwin.calibration.gemm_files import predicted
from supertwin.calibration.gemm_fit import predict_parts
from supertwin.calibration.local_measure import STREAMS, Effort, Timings, points
from supertwin.calibration.tables import GemmRows
from supertwin.calibration.vector_fit import VectorRows, fit_class, predict
from supertwin.cost.calibration import Calibration
from supertwin.cost.gemm import PRIOR, GemmConditions
from supertwin.cost.surface import Array, Surface
from supertwin.cost.vector import VectorWork
from supertwin.machine.chip import Chip
from supertwin.workload.operators import Gemm

SOURCE = "numpy on this machine"
CACHE = "cache"
MANY_ROWS = 16
# A processor has other orders of magnitude than the bounds of the device fit allow.
_BOUNDS = {
    "multiply": (0.3, 1.1),
    "load": (0.02, 5.0),
    "memory": (0.1, 3.0),
    "prologue_s": (1e-8, 1e-4),
    "fixed_s": (1e-7, 1e-4),
    "sharpness": (1.0, 8.0),
}
_FAMILY_SPREAD = 0.1  # smallest spread that is believed of a shared machine
_PULL = 0.02


@dataclass(frozen=True, slots=True)
class Measured:
    """Timings as rows.

    products: by context, as the twin uses them ("": weights from memory; with many rows a product reuses them so often
    that a loop over one set says the same) and in a loop whose weights stay in the cache ("cache"); streams by class.
    """

    products: Mapping[str, tuple[GemmRows, ...]]
    streams: tuple[VectorRows, ...]

    @classmethod
    def of(cls, chip: str, effort: Effort, timings: Timings) -> Measured:
        """Rows of one measurement. chip: name of the chip to be."""
        every = points(effort)
        loop = _rows(chip, CACHE, every["gemm"], timings.best("gemm"))
        cold = _rows(chip, "", every["cold"], timings.best("cold"))
        many = loop.take(np.asarray(loop.gemm.m) >= MANY_ROWS)
        reused = replace(many, context="", conditions=GemmConditions(weights_cold=False))
        return cls({"": (cold, reused), CACHE: (loop,)}, tuple(_stream(name, effort, timings) for name in STREAMS))


def _rows(chip: str, context: str, shapes: list[tuple[int, ...]], time_s: Array) -> GemmRows:
    conditions = GemmConditions(context=context, weights_cold=not context)
    return GemmRows(chip, context, _products(shapes), time_s, conditions, source=SOURCE)


def _products(shapes: list[tuple[int, ...]]) -> Gemm:
    m, n, k = np.array(shapes, dtype=np.float64).T
    return Gemm(part="gemm", m=m, n=n, k=k, groups=np.ones_like(m), dtype="fp32", out_dtype="fp32")


def _stream(name: str, effort: Effort, timings: Timings) -> VectorRows:
    sizes, stream = np.array(effort.sizes, dtype=np.float64), STREAMS[name]
    nothing = np.zeros_like(sizes)
    work = VectorWork(4.0 * stream.moved * sizes, stream.flop * sizes, nothing, nothing)
    return VectorRows(name, "", work, timings.best(name), held_out(sizes))


def fit_gemm(chip: Chip, products: Mapping[str, tuple[GemmRows, ...]]) -> tuple[Calibration, dict[str, float]]:
    """Calibration of products and its errors on fitted and on held-out shapes."""
    own = Calibration(family="gemm", chip=chip.name, source_chip=chip.name, origin="user")
    for context, rows in products.items():
        seen = tuple(part.take(~_held(part)) for part in rows)
        parameters = _constants(chip, seen)
        names = [f"{context}:{dtype}" if context else dtype for dtype in ("fp32", "bf16")]
        own = replace(
            own,
            parameters={**own.parameters, **dict.fromkeys(names, parameters)},
            surfaces={**own.surfaces, **dict.fromkeys(names, _surface(chip, seen, parameters))},
        )
    every = [part for rows in products.values() for part in rows]
    own = replace(own, data_sets=((SOURCE, sum(len(part) for part in every)),))
    times = np.concatenate([predicted(chip, own, part) for part in every])
    held = np.concatenate([_held(part) for part in every])
    return own, residual_summary(times, np.concatenate([p.time_s for p in every]), held)


def _held(part: GemmRows) -> npt.NDArray[np.bool_]:
    return held_out(*(np.asarray(x) for x in (part.gemm.m, part.gemm.n, part.gemm.k)))


def _constants(chip: Chip, rows: tuple[GemmRows, ...]) -> dict[str, float]:
    """Robust least squares on ln time."""
    scipy = require_scipy()
    low, high = np.log(np.array(list(_BOUNDS.values()))).T
    start = 0.5 * (low + high)
    prior = {**PRIOR, "quantisation": 0.1}

    def constants_of(x: Array) -> dict[str, float]:
        return {**prior, **{n: float(f"{v:.4g}") for n, v in zip(_BOUNDS, np.exp(x), strict=True)}}

    def residual(x: Array) -> Array:
        formula, _, measured = predict_parts(chip, rows, {**prior, **dict(zip(_BOUNDS, np.exp(x), strict=True))})
        return np.concatenate([np.log(formula / measured), _PULL * (x - start)])

    found = scipy.optimize.least_squares(residual, start, loss="soft_l1", f_scale=0.1, bounds=(low, high))
    return constants_of(found.x)


def _surface(chip: Chip, rows: tuple[GemmRows, ...], parameters: Mapping[str, float]) -> Surface:
    formula, _, measured = predict_parts(chip, rows, parameters)
    points_of = [[np.log2(np.asarray(x)) for x in (p.gemm.m, p.gemm.n, p.gemm.k)] for p in rows]
    columns = [np.concatenate(axis) for axis in zip(*points_of, strict=True)]
    knots = {name: sorted({float(v) for v in axis}) for name, axis in zip("mnk", columns, strict=True)}
    knots = {name: values if name == "m" else values[::2] for name, values in knots.items()}
    return fit_surface(knots, columns, np.log(measured / formula), smoothness=0.02, shrinkage=0.01)


def fit_vector(chip: Chip, streams: tuple[VectorRows, ...], date: str) -> tuple[dict[str, Any], dict[str, float]]:
    """Calibration file of the streams and its errors on held-out sizes."""
    parameters, times, measured, fitted = {}, [], [], 0
    for rows in streams:
        constants, _surface_of_bytes = fit_class(chip, rows)
        parameters[rows.op] = {n: float(f"{v:.4g}") for n, v in constants.items()}
        times.append(predict(chip, rows, constants, None))
        measured.append(rows.measured_s[rows.test])
        fitted += int((~rows.test).sum())
    joined, known = np.concatenate(times), np.concatenate(measured)
    held = errors(joined, known)
    spread = max(spread_90(joined, known), _FAMILY_SPREAD)
    residual = {"held_out_median_ape": held["median_ape"], "p90": held["p90_ape"], "n_held_out": held["n"], "n": fitted}
    return _file("vector", chip.name, date, parameters, residual, spread), {**residual, "spread": spread}


def launch_content(chip: str, call_s: float, date: str) -> dict[str, Any]:
    """Calibration file of small calls: a processor starts its own work."""
    constants = {"issue_s": 0.0, "gap_s": 0.0, "start_s": call_s}
    return _file("launch", chip, date, dict.fromkeys(("eager", "graph", "compiled"), constants), {}, 0.5)


def _file(
    family: str, chip: str, date: str, parameters: Mapping[str, Any], residual: Mapping[str, float], spread: float
) -> dict[str, Any]:
    return {
        "family": family,
        "chip": chip,
        "date": date,
        "data_sets": [{"name": SOURCE, "rows": int(residual.get("n", 0) + residual.get("n_held_out", 0)) or 1}],
        "parameters": parameters,
        "surface": {},
        "residual": dict(residual),
        "spread": round(spread, 4),
    }
