"""Calibration files of matrix products: all units of a chip, which of them the twin uses, what is inherited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from supertwin.calibration import ascend_profile
from supertwin.calibration.ascend_products import start_of
from supertwin.calibration.common import residual_summary
from supertwin.calibration.gemm_fit import FEW_ROWS, GemmFit, GemmUnit, fit_gemm_unit, gemm_units, held_out_masks
from supertwin.calibration.gemm_long import long_loss
from supertwin.calibration.gemm_spread import unit_spread
from supertwin.calibration.tables import GemmRows
from supertwin.cost.calibration import INHERITED_SPREAD, Calibration, complete
from supertwin.cost.gemm import PRIOR, candidate_names, gemm_cost
from supertwin.cost.surface import Array
from supertwin.machine.chip import Chip
from supertwin.machine.chips import load_chip

# The context that the twin uses where it was measured: the widest tables, graph replay, the same method on every chip.
_DEFAULT_CONTEXTS = ("trtllm", "")
_BEST_SHAPE_GAIN = 1.05  # assumption: an ordinary product of a library against the best shape of a search


def fit_chip(chip: Chip, rows: Sequence[GemmRows], above: Calibration | None, split: bool = True) -> Calibration:
    """Calibration of one chip from its rows; above: the calibration of its relative, to start from and to complete."""
    own = Calibration(family="gemm", chip=chip.name, source_chip=chip.name, origin="shipped")
    starts: dict[str, float] = {}
    for unit in sorted(gemm_units(rows, chip), key=_order):
        known = complete(own, above) if above else own
        names = candidate_names(unit.key, unit.context)
        fixed_s = starts.get(unit.context) if any(p.gemm.quantize_input for p in unit.parts) else None
        start = start_of(chip.name, unit.parts, known.group(*names))
        fit = partial(fit_gemm_unit, start=start, fixed_s=fixed_s, split=split)
        found = fit(unit)
        if unit.key == "bf16":
            starts[unit.context] = found.parameters["fixed_s"]
        own = _with(own, found, unit_spread(found, fit))
    if chip.name == "ascend-910b2":
        own = _with_profile(own)
    return _with_default(own) if not above else own


def _with_profile(own: Calibration) -> Calibration:
    """Weight gradients of the relative with fewer of the same cores, over what the fitted forward products give."""
    chip = load_chip(ascend_profile.CHIP)
    factor = ascend_profile.weight_gradient_factor(lambda g: float(gemm_cost(chip, own, g).time_s))
    sets = (*own.data_sets, (ascend_profile.SOURCE, len(ascend_profile.WEIGHT_GRADIENTS)))
    parameters = ascend_profile.with_weight_gradients(own.parameters, factor)
    return replace(own, parameters=parameters, data_sets=tuple(sorted(sets)))


def _order(unit: GemmUnit) -> tuple[bool, bool, bool, str]:
    """Single before grouped, BF16 first (kernel start of the others), large sets before small ones."""
    return (unit.grouped, unit.key not in ("bf16", "fp16"), unit.rows < FEW_ROWS, unit.key)


def _with(own: Calibration, found: GemmFit, spread: float) -> Calibration:
    unit = found.unit
    named = f"{unit.context}:{unit.key}" if unit.context else unit.key
    default = unit.context in _DEFAULT_CONTEXTS or (unit.context == "deepgemm" and unit.rows >= 300)
    parameters: dict[str, Mapping[str, float]] = {**own.parameters, named: found.parameters}
    surfaces = dict(own.surfaces)
    spreads = {**own.spreads, named: spread}
    if default:
        quantize_s = found.parameters["quantize_s"]
        if unit.context:
            quantize_s = min(quantize_s, PRIOR["quantize_s"])
        lost = long_loss(found)
        long = {} if lost is None else {"long": lost}
        parameters[unit.key] = {**found.parameters, "quantize_s": quantize_s, **long}
        named = unit.key
        spreads[named] = spread
    if found.surface is not None:
        surfaces[named] = found.surface
    sets = dict(own.data_sets)
    for name, count in found.sources.items():
        sets[name] = sets.get(name, 0) + count
    return replace(
        own, parameters=parameters, surfaces=surfaces, spreads=spreads, data_sets=tuple(sorted(sets.items()))
    )


def _with_default(own: Calibration) -> Calibration:
    """A chip known only from a shape search or from eager launches still needs groups that the twin can use."""
    parameters, spreads = dict(own.parameters), dict(own.spreads)
    for name, values in own.parameters.items():
        context, _, key = name.partition(":")
        if key and key not in parameters and context in ("best-shape", "torch-eager", "cublas-training"):
            gain = _BEST_SHAPE_GAIN if context == "best-shape" else 1.0
            scale = float(f"{values['scale'] * gain:.4g}")
            parameters[key] = {**values, "scale": scale, "fixed_s": PRIOR["fixed_s"], "host_s": 0.0}
            spreads[key] = round(float(np.hypot(own.spread_of(name), INHERITED_SPREAD)), 4)
    return replace(own, parameters=parameters, spreads=spreads)


def predicted(chip: Chip, calibration: Calibration, part: GemmRows) -> Array:
    """Predicted seconds of rows, through the same function that the twin calls."""
    return gemm_cost(chip, calibration, part.gemm, part.conditions).time_s


def residuals(chip: Chip, calibration: Calibration, rows: Sequence[GemmRows]) -> dict[str, float]:
    """Errors on fitted and on held-out rows of a chip, and the spread on held-out rows (all, where there are few)."""
    parts = [p for p in rows if p.chip == chip.name]
    times = np.concatenate([predicted(chip, calibration, p) for p in parts])
    measured = np.concatenate([p.time_s for p in parts])
    out = np.concatenate(held_out_masks(parts))
    return residual_summary(times, measured, out)


def content(calibration: Calibration, residual: Mapping[str, float], date: str) -> dict[str, Any]:
    """The JSON object of a calibration file."""
    return {
        "family": calibration.family,
        "chip": calibration.chip,
        "date": date,
        "data_sets": [{"name": name, "rows": count} for name, count in calibration.data_sets],
        "parameters": {g: dict(v) for g, v in calibration.parameters.items()},
        "surface": {n: s.to_json() for n, s in calibration.surfaces.items()},
        "residual": {n: v for n, v in residual.items() if n != "spread"},
        "spread": residual["spread"],
        **({"spreads": dict(calibration.spreads)} if calibration.spreads else {}),
    }
