"""What every fit shares: the split into fit and held-out rows, errors, residual surfaces, writing of files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from supertwin.core.errors import MissingExtra
from supertwin.cost.surface import Array, Surface, corners

HELD_OUT_SHARE = 0.3
FEW_ROWS_SPREAD = 0.25  # assumption: ln half-width where fewer than 20 rows could be held out
MIXERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F)


def held_out(*keys: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """True for rows not to be fitted: a fixed hash of the shape (one integer array per dimension), 30 % of the shapes.

    Depends on the shape alone: the same shape measured by two frameworks or in two formats is on one side.
    """
    state = np.zeros(np.shape(keys[0]), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for position, key in enumerate(keys):
            mixer = np.uint64(MIXERS[position % len(MIXERS)] ^ position)
            state = (state ^ np.asarray(key).astype(np.int64).astype(np.uint64)) * mixer
            state = state ^ (state >> np.uint64(29))
    return (state >> np.uint64(11)).astype(np.float64) / 2.0**53 < HELD_OUT_SHARE


def errors(predicted: Array, measured: Array) -> dict[str, float]:
    """Median and 90th percentile of |predicted / measured - 1|, median of the signed one, rows."""
    if len(measured) == 0:
        return {"n": 0, "median_ape": float("nan"), "p90_ape": float("nan"), "bias": float("nan")}
    relative = predicted / measured - 1.0
    ape = np.abs(relative)
    return {
        "n": len(measured),
        "median_ape": float(np.median(ape)),
        "p90_ape": float(np.quantile(ape, 0.9)),
        "bias": float(np.median(relative)),
    }


def spread_90(predicted: Array, measured: Array) -> float:
    """90th percentile of |ln(measured / predicted)|: the half-width of the 90 % interval."""
    return float(np.quantile(np.abs(np.log(measured / predicted)), 0.9))


def residual_summary(predicted: Array, measured: Array, held: npt.NDArray[np.bool_]) -> dict[str, float]:
    """`residual` of a calibration file and `spread`; held marks rows that the fit did not see.

    Without 20 such rows the spread is at least FEW_ROWS_SPREAD: errors of fitted rows say little about others.
    """
    fitted, judged = errors(predicted[~held], measured[~held]), errors(predicted[held], measured[held])
    enough = int(held.sum()) >= 20
    spread = spread_90(predicted[held], measured[held]) if enough else spread_90(predicted, measured)
    found = {"fit_median_ape": fitted["median_ape"], "n": fitted["n"], "n_held_out": judged["n"]}
    if judged["n"]:
        found |= {"held_out_median_ape": judged["median_ape"], "p90": judged["p90_ape"]}
    found["spread"] = max(spread, 0.05 if enough else FEW_ROWS_SPREAD)
    return {name: round(value, 4) for name, value in found.items()}


def require_scipy() -> Any:
    """scipy with its sparse and optimise parts. Raises MissingExtra."""
    try:
        import scipy.optimize
        import scipy.sparse.linalg
    except ImportError:
        raise MissingExtra("scipy", "calibrate") from None
    return scipy


def require_polars() -> Any:
    """polars. Raises MissingExtra."""
    try:
        import polars
    except ImportError:
        raise MissingExtra("polars", "calibrate") from None
    return polars


def fit_surface(
    axes: Mapping[str, Sequence[float]],
    coordinates: Sequence[Array],
    log_ratio: Array,
    smoothness: float = 1.0,
    shrinkage: float = 0.05,
) -> Surface:
    """Robust regularised fit of a residual surface to ln(measured / formula).

    axes: name -> knots; coordinates: one array [rows] per axis; smoothness penalises differences between neighbouring
    knots (per squared ln), shrinkage the value itself, so that knots without data fall to their neighbours and to 0.
    Absolute deviations by iterated reweighting (Huber, 5 %): outliers of a timing loop do not bend the surface.
    """
    scipy = require_scipy()
    knots = tuple(np.asarray(k, dtype=np.float64) for k in axes.values())
    shape = tuple(len(k) for k in knots)
    design = _design(scipy, knots, coordinates, len(log_ratio))
    penalty = smoothness * _roughness(scipy, knots) + shrinkage * scipy.sparse.identity(design.shape[1])
    weight = np.ones(len(log_ratio))
    values = np.zeros(design.shape[1])
    for _ in range(4):
        scaled = design.multiply(weight[:, None]).tocsr()
        normal = (design.T @ scaled + penalty).tocsc()
        values, _info = scipy.sparse.linalg.cg(normal, scaled.T @ log_ratio, x0=values, rtol=1e-4, maxiter=400)
        residual = np.abs(log_ratio - design @ values)
        weight = 0.05 / np.maximum(residual, 0.05)
    return Surface(tuple(axes), knots, values.reshape(shape))


def _design(scipy: Any, knots: tuple[Array, ...], coordinates: Sequence[Array], rows: int) -> Any:
    pairs = corners(knots, [np.broadcast_to(np.asarray(c, dtype=np.float64), (rows,)) for c in coordinates])
    row = np.tile(np.arange(rows), len(pairs))
    column = np.concatenate([index for index, _ in pairs])
    weight = np.concatenate([w for _, w in pairs])
    size = int(np.prod([len(k) for k in knots]))
    return scipy.sparse.csr_matrix((weight, (row, column)), shape=(rows, size))


def _roughness(scipy: Any, knots: tuple[Array, ...]) -> Any:
    """Sum over axes of squared first differences, per unit of knot distance."""
    total: Any = 0
    for axis, knot in enumerate(knots):
        if len(knot) == 1:
            continue
        step = np.diff(knot)
        size = len(knot)
        difference = scipy.sparse.diags([-1.0 / np.sqrt(step), 1.0 / np.sqrt(step)], [0, 1], shape=(size - 1, size))
        before = int(np.prod([len(k) for k in knots[:axis]]))
        after = int(np.prod([len(k) for k in knots[axis + 1 :]]))
        one = scipy.sparse.kron(
            scipy.sparse.kron(scipy.sparse.identity(before), difference.T @ difference), scipy.sparse.identity(after)
        )
        total = one if isinstance(total, int) else total + one
    if isinstance(total, int):
        size = int(np.prod([len(k) for k in knots]))
        return scipy.sparse.csr_matrix((size, size))
    return total


def write_calibration(folder: Path, content: Mapping[str, Any]) -> Path:
    """Write `<folder>/<chip>/<family>.json`. Returns the path."""
    path = folder / str(content["chip"]) / f"{content['family']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, separators=(",", ":"), sort_keys=True) + "\n", encoding="utf-8")
    return path
