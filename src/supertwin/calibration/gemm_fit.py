"""Fit of the matrix-product formula (supertwin.cost.gemm) to operator tables: parameters first, then the residual.

Each (chip, framework, format) is one unit. The loss is on ln(predicted / measured), robust (soft L1 at 10 %), so that
a microsecond kernel counts as much as a millisecond one. Rows whose shape hashes to the held-out side are never seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from supertwin.calibration.common import fit_surface, held_out, require_scipy
from supertwin.calibration.tables import GemmRows
from supertwin.cost.gemm import (
    KINDS,
    PRIOR,
    coordinates,
    flat_extent,
    format_key,
    gemm_terms,
    product_kinds,
    quantize_time_s,
)
from supertwin.cost.surface import Array, Surface
from supertwin.machine.chip import Chip

_BOUNDS: Mapping[str, tuple[float, float]] = {
    "multiply": (0.2, 1.1),
    "load": (0.1, 6.0),
    "memory": (0.3, 0.97),
    "prologue_s": (5e-8, 8e-6),
    "split_s": (5e-8, 2e-5),
    "quantisation": (0.02, 1.0),
    "sharpness": (1.2, 12.0),
    "fixed_s": (3e-7, 1e-4),
    "quantize_s": (3e-7, 1e-4),
    "dgrad": (0.5, 2.0),
    "wgrad": (0.5, 2.0),
    "scale": (0.3, 3.0),
    "throttle": (0.01, 0.5),
    "throttle_s": (1e-5, 1e-2),
    "host_s": (1e-7, 1e-4),
    "group_s": (1e-7, 5e-5),
}
_FROM: Mapping[str, float] = {"throttle": 0.05, "host_s": 2e-6, "group_s": 6e-6}  # where the fit starts, unlike PRIOR
_PULL = 0.03  # weight of the starting value, per ln: decides only what the rows leave open
_ALL = ("multiply", "load", "memory", "prologue_s", "split_s", "quantisation", "sharpness", "fixed_s")
_SOME = ("multiply", "load", "memory", "prologue_s", "quantisation", "fixed_s")
_FEW = ("multiply", "load", "memory", "prologue_s", "sharpness", "fixed_s")
_HOST_BOUND = ("vllm", "vidur", "frontier", "cublas-training")  # contexts timed without a graph
FEW_ROWS = 4  # below it only a factor on the work of the nearest known group is fitted
_CURVE_ROWS = 12  # rows from which a residual is fitted, below 40 in m alone
_SPLIT_ROWS = 40  # rows of a unit from which some are held out
_OWN_START = 30  # rows from which the priors are tried as a second starting point
_SUBSAMPLE = 1500  # rows per unit in the nonlinear fit: enough for ten parameters; the surface sees all rows
_FIT_SEED = 20261121


@dataclass(frozen=True, slots=True)
class GemmUnit:
    """Rows of one chip, context and calibration group (several directions may be among them)."""

    chip: Chip
    context: str
    key: str
    parts: tuple[GemmRows, ...]

    @property
    def grouped(self) -> bool:
        """Whether these are grouped products."""
        return self.parts[0].grouped

    @property
    def rows(self) -> int:
        """Measured rows."""
        return sum(len(p) for p in self.parts)


@dataclass(frozen=True, slots=True)
class GemmFit:
    """Fitted parameters and residual of one unit."""

    unit: GemmUnit
    parameters: Mapping[str, float]
    surface: Surface | None = None
    sources: Mapping[str, int] = field(default_factory=dict)


def gemm_units(rows: Sequence[GemmRows], chip: Chip) -> list[GemmUnit]:
    """Rows of a chip by context and calibration group."""
    found: dict[tuple[str, str], list[GemmRows]] = {}
    for part in rows:
        if part.chip == chip.name:
            found.setdefault((part.context, format_key(part.gemm, part_kind(part))), []).append(part)
    return [GemmUnit(chip, context, key, tuple(parts)) for (context, key), parts in sorted(found.items())]


def part_kind(part: GemmRows) -> str:
    """Kind of the product of the rows (all alike)."""
    return KINDS[int(product_kinds(flat_extent(part.gemm)[1], part.grouped).max())]


def held_out_rows(part: GemmRows) -> npt.NDArray[np.bool_]:
    """Mask of the rows that a fit must not see, by shape."""
    _, extent = flat_extent(part.gemm)
    keys = (extent.m, extent.n, extent.k) if not part.grouped else (extent.m, extent.n, extent.k, extent.groups)
    return held_out(*keys)


def held_out_masks(parts: Sequence[GemmRows]) -> list[npt.NDArray[np.bool_]]:
    """Rows of each part that a fit must not see: none of a unit (context, group) of fewer than 40 rows, which is too
    small to be split and is then reported as fitted.
    """
    count: dict[tuple[str, str, str], int] = {}
    keys = [(p.chip, p.context, format_key(p.gemm, part_kind(p))) for p in parts]
    for key, part in zip(keys, parts, strict=True):
        count[key] = count.get(key, 0) + len(part)
    return [
        held_out_rows(p) if count[key] >= _SPLIT_ROWS else np.zeros(len(p), dtype=bool)
        for key, p in zip(keys, parts, strict=True)
    ]


def fit_gemm_unit(
    unit: GemmUnit, start: Mapping[str, float] | None = None, fixed_s: float | None = None, split: bool = True
) -> GemmFit:
    """Fit one unit. start: parameters of a relative format or context; fixed_s: known kernel start (a quantised format
    takes the one of BF16, so that the rest is its quantisation pass); split: leave the held-out rows out.
    """
    seen = [p.take(~mask) if split else p for p, mask in zip(unit.parts, held_out_masks(unit.parts), strict=True)]
    seen = [p for p in seen if len(p)] or list(unit.parts)
    rows = sum(len(p) for p in seen)
    names = _free_names(seen, rows, fixed_s is not None)
    known = {"fixed_s": fixed_s} if fixed_s else {}
    begins = [{**PRIOR, **(start or {}), **known}]
    if rows >= _OWN_START:
        begins.append({**PRIOR, **known})
    fits = [_least_squares(unit.chip, seen, names, begin) for begin in begins]
    parameters = min(fits, key=lambda fit: fit[1])[0]
    surface = _fit_residual(unit.chip, seen, parameters, rows)
    sources: dict[str, int] = {}
    for part in unit.parts:
        sources[part.source] = sources.get(part.source, 0) + len(part)
    kept = {name: float(f"{parameters[name]:.4g}") for name in parameters}
    return GemmFit(unit, kept, surface, sources)


def _free_names(parts: Sequence[GemmRows], rows: int, start_known: bool) -> list[str]:
    names = list(_ALL if rows >= 200 else _SOME if rows >= 30 else _FEW if rows >= FEW_ROWS else ("scale",))
    if rows >= 30:
        names += ["throttle", "throttle_s"]
        host = parts[0].context in _HOST_BOUND
        names += (["group_s"] if parts[0].grouped else ["host_s"]) if host else []
    directions = sorted({p.gemm.direction for p in parts} - {"fwd"})
    return _quantized(names, parts, start_known) + directions


def _quantized(names: list[str], parts: Sequence[GemmRows], start_known: bool) -> list[str]:
    """A known kernel start is not free; the start of a quantisation pass is, where there is one."""
    free = [n for n in names if n != "fixed_s" or not start_known]
    return free + (["quantize_s"] if any(p.gemm.quantize_input for p in parts) else [])


def predict_parts(chip: Chip, parts: Sequence[GemmRows], parameters: Mapping[str, float]) -> tuple[Array, Array, Array]:
    """Formula, quantisation pass and measured time, seconds, of all rows in order."""
    formula, quantize, measured = [], [], []
    for part in parts:
        _, extent = flat_extent(part.gemm)
        formula.append(gemm_terms(chip, parameters, part.gemm, extent, part.conditions).time_s)
        quantize.append(quantize_time_s(chip, parameters, part.gemm, extent))
        measured.append(part.time_s)
    return np.concatenate(formula), np.concatenate(quantize), np.concatenate(measured)


def _least_squares(
    chip: Chip, parts: Sequence[GemmRows], names: Sequence[str], begin: Mapping[str, float]
) -> tuple[dict[str, float], float]:
    """Parameters and the cost reached from one starting point."""
    scipy = require_scipy()
    sample = _subsample(parts)
    low, high = (np.log([_BOUNDS[n][side] for n in names]) for side in (0, 1))

    def misfit(x: Array) -> Array:
        formula, quantize, measured = predict_parts(chip, sample, {**begin, **_named(names, x)})
        pull = _PULL * (x - first)
        return np.concatenate([np.log((formula + quantize) / measured), pull])

    first = np.clip(np.log([_FROM.get(n, begin[n]) for n in names]), low + 1e-6, high - 1e-6)
    found = scipy.optimize.least_squares(
        misfit, first, bounds=(low, high), loss="soft_l1", f_scale=0.1, diff_step=1e-3, max_nfev=60
    )
    return {**begin, **_named(names, found.x)}, float(found.cost)


def _named(names: Sequence[str], x: Array) -> dict[str, float]:
    return {name: float(value) for name, value in zip(names, np.exp(x), strict=True)}


def _subsample(parts: Sequence[GemmRows]) -> list[GemmRows]:
    random = np.random.default_rng(_FIT_SEED)
    total = sum(len(p) for p in parts)
    share = min(1.0, _SUBSAMPLE / total)
    return [p.take(random.permutation(len(p))[: max(int(len(p) * share), min(len(p), 20))]) for p in parts]


def _fit_residual(chip: Chip, parts: Sequence[GemmRows], parameters: Mapping[str, float], rows: int) -> Surface | None:
    if rows < _CURVE_ROWS:
        return None if rows < FEW_ROWS else Surface(("m",), (np.zeros(1),), np.zeros(1))
    formula, quantize, measured = predict_parts(chip, parts, parameters)
    target = np.log(np.maximum(measured - quantize, 0.2 * measured) / formula)
    axes = _grouped_axes(rows, part_kind(parts[0]) == "heads") if parts[0].grouped else _single_axes(rows)
    points = [coordinates(tuple(axes), flat_extent(p.gemm)[1]) for p in parts]
    joined = [np.concatenate(column) for column in zip(*points, strict=True)]
    return fit_surface(axes, joined, target, smoothness=0.5 if rows > 800 else 1.5)


def _log2(*values: float) -> list[float]:
    return [float(np.log2(v)) for v in values]


def _single_axes(rows: int) -> dict[str, list[float]]:
    if rows < 40:
        return {"m": _log2(1, 16, 64, 256, 1024, 8192)}
    if rows > 1500:
        wide = _log2(32, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 65536)
        m = _log2(1, 16, 32, 64, 128, 192, 256, 512, 768, 1024, 1536, 2048, 3072, 4096, 16384)
        return {"m": m, "n": wide, "k": wide}
    if rows > 300:
        wide = _log2(128, 512, 2048, 4096, 8192, 32768)
        return {"m": _log2(1, 32, 64, 128, 256, 512, 1024, 2048, 4096, 16384), "n": wide, "k": wide}
    wide = _log2(512, 2048, 8192, 32768)
    return {"m": _log2(1, 64, 128, 512, 2048, 8192), "n": wide, "k": wide}


def _grouped_axes(rows: int, heads: bool) -> dict[str, list[float]]:
    if rows < 40:
        return {"m": _log2(16, 256, 4096)}
    groups = _log2(1, 4, 16, 64, 128, 256)
    if heads:
        m = _log2(1, 16, 64, 128, 256, 512, 1024, 2048, 4096, 16384)
        return {"m": m, "groups": _log2(1, 2, 4, 8, 16, 32, 64, 128), "nk": [16.0]}
    if rows > 300:
        m = _log2(1, 8, 32, 64, 128, 256, 512, 1024, 4096, 16384)
        return {"m": m, "groups": groups, "nk": [16.0, 20.0, 22.0, 24.0, 26.0]}
    return {"m": _log2(16, 64, 256, 1024, 4096), "groups": groups[1:5:2], "nk": [20.0, 22.0, 24.0]}
