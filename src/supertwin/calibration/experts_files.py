"""Calibration files of experts: all units of a chip, which of them the twin uses, what is inherited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from supertwin.calibration.common import residual_summary
from supertwin.calibration.experts_fit import (
    ExpertFit,
    ExpertRows,
    expert_units,
    fit_expert_unit,
    split_kernels,
)
from supertwin.cost.calibration import Calibration
from supertwin.cost.experts import SHAPES, expert_cost
from supertwin.cost.gemm import GemmConditions
from supertwin.cost.surface import Array
from supertwin.machine.chip import Chip

_MIXED = ("nvfp4", "mxfp8/mxfp4")  # on Blackwell trtllm rows mix CUTLASS and TRTLLM-Gen kernels without a label
_DEFAULT_CONTEXTS = ("trtllm", "")
_MANY_ROWS = 1000.0  # rows per expert above which the host no longer bounds the contiguous kernels after a dispatch


def fit_expert_chip(
    chip: Chip, rows: Sequence[ExpertRows], above: Calibration | None, split: bool = True
) -> Calibration:
    """Calibration of one chip from its rows. above: calibration of its relative (formats that it has stay there)."""
    own = Calibration(family="experts", chip=chip.name, source_chip=chip.name, origin="shipped")
    units = expert_units(rows, chip.name)
    for (context, key), parts in units.items():
        if context == "trtllm" and key in _MIXED and chip.architecture.startswith("blackwell"):
            slow, fast = split_kernels(chip, parts)
            own = _with(own, "cutlass", key, fit_expert_unit(chip, slow, split=split))
            parts = fast
        own = _with(own, context, key, fit_expert_unit(chip, parts, split=split))
    dispatched = _after_dispatch(units)
    if dispatched:
        own = _with(own, "", dispatched[0], fit_expert_unit(chip, dispatched[1], split=split))
    return own if above else _with_only(own)


def _after_dispatch(units: Mapping[tuple[str, str], list[ExpertRows]]) -> tuple[str, list[ExpertRows]] | None:
    """Default of experts after a dispatch: masked kernels, and contiguous ones where rows are many."""
    few = units.get(("deepep-generation", "local:fp8-blockwise"))
    if not few:
        return None
    many = units.get(("deepep-context", "local:fp8-blockwise"), [])
    picked = [p.take(np.asarray(p.moe.rows) / np.asarray(p.moe.experts) > _MANY_ROWS) for p in many]
    return "local:fp8-blockwise", [*few, *(p for p in picked if len(p))]


def _with(own: Calibration, context: str, key: str, found: ExpertFit) -> Calibration:
    name = key if context in _DEFAULT_CONTEXTS else f"{context}:{key}"
    parameters = {**own.parameters, name: found.parameters}
    if found.shapes:
        parameters[SHAPES + name] = found.shapes
    surfaces = dict(own.surfaces)
    if found.surface is not None:
        surfaces[name] = found.surface
    sets = dict(own.data_sets)
    for source, count in found.sources.items():
        sets[source] = max(sets.get(source, 0), count)
    return replace(own, parameters=parameters, surfaces=surfaces, data_sets=tuple(sorted(sets.items())))


def _with_only(own: Calibration) -> Calibration:
    """Formats measured by one other framework alone are what the twin uses for them."""
    parameters, surfaces = dict(own.parameters), dict(own.surfaces)
    for name in own.parameters:
        context, _, key = name.partition(":")
        if context == "sglang" and key not in parameters:
            parameters[key] = own.parameters[name]
            if SHAPES + name in parameters:
                parameters[SHAPES + key] = parameters[SHAPES + name]
            if name in surfaces:
                surfaces[key] = surfaces[name]
    return replace(own, parameters=parameters, surfaces=surfaces)


def predicted_experts(chip: Chip, calibration: Calibration, part: ExpertRows) -> Array:
    """Predicted seconds of rows, through the same function that the twin calls."""
    return expert_cost(chip, calibration, part.moe, GemmConditions(context=part.context)).time_s


def expert_residuals(chip: Chip, calibration: Calibration, parts: Sequence[ExpertRows]) -> dict[str, float]:
    """Errors on fitted and on held-out rows of a chip, and the spread on held-out rows (all, where there are none)."""
    times = np.concatenate([predicted_experts(chip, calibration, p) for p in parts])
    measured = np.concatenate([p.time_s for p in parts])
    out = np.concatenate([p.held for p in parts])
    return residual_summary(times, measured, out)
