"""Products and vector kernels of Ascend 950PR: what is published of the generation.

Squares: MXFP8 kernel of hw-native-sys/pto-isa 3186c381 (kernels/manual/a5/matmul_mxfp8_performance), matrices in L2.
Decode: all 279 QuantBatchMatmulV3 of a step of DeepSeek-V4-Flash in MXFP8 under cann-recipes-infer, one token on each
of eight 950PR, take 4,136.4 us (hw-native-sys/pypto-lib, issue 1054, section 5.1); single times are not printed.

BF16 and 8-bit products with one scale per tensor (HiF8) take the same shares (assumption: they are those of cores, L2
and memory, not of the format). Experts load their operands as those products do, and start two of them and the pass
between (SwigluGroupQuant of the same step); what else they need is that of 910B.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from supertwin.calibration import ascend_mixing
from supertwin.calibration.common import require_scipy, write_calibration
from supertwin.cost.calibration import load_calibration
from supertwin.cost.gemm import DEFAULT_CONDITIONS, PRIOR, GemmConditions, flat_extent, gemm_terms
from supertwin.cost.surface import Array
from supertwin.machine.chip import Chip
from supertwin.machine.chips import load_chip
from supertwin.workload.operators import Gemm

CHIP = "ascend-950pr"
SQUARES = ((2048.0, 38.3), (4096.0, 187.9), (6144.0, 602.0), (8192.0, 1474.9))
"""(m = n = k, microseconds)."""
STEP = (
    (43.0, 1024.0, 4096.0), (43.0, 512.0, 4096.0), (43.0, 32768.0, 1024.0), (43.0, 4096.0, 8192.0),
    (21.0, 8192.0, 1024.0), (43.0, 4096.0, 4096.0), (43.0, 4096.0, 2048.0),
)  # fmt: skip
"""(calls, n, k) of one token: queries down and up, keys, output, indexer's queries, shared expert."""
STEP_US = 4136.4
SWIGLU_S = 19.2e-6
"""SwigluGroupQuant between the two products of the experts, one token."""
_SAME = ("mxfp8", "bf16", "fp8-tensorwise")
_FREE: Mapping[str, tuple[float, float, float]] = {
    "multiply": (0.5, 1.0, 0.95), "load": (0.3, 6.0, 0.8), "memory": (0.3, 0.97, 0.93),
    "prologue_s": (5e-8, 4e-6, 5e-7), "sharpness": (1.2, 8.0, 4.0), "fixed_s": (1e-6, 1e-5, 4e-6),
}  # fmt: skip
"""Bounds and first values."""
_PULL, _STEP_WEIGHT = 0.03, 2.0
_WARM = GemmConditions(weights_cold=False)


def predicted_us(chip: Chip, constants: Mapping[str, float]) -> tuple[Array, float]:
    """Microseconds of the squares, and of all products of the decode step."""
    sides = np.array([side for side, _ in SQUARES])
    calls, n, k = np.array(STEP).T
    squares = Gemm(part="gemm", m=sides, n=sides, k=sides, dtype="mxfp8")
    step = Gemm(part="gemm", m=np.ones_like(n), n=n, k=k, dtype="mxfp8")
    warm = gemm_terms(chip, constants, squares, flat_extent(squares)[1], _WARM).time_s
    cold = gemm_terms(chip, constants, step, flat_extent(step)[1], DEFAULT_CONDITIONS).time_s
    return warm * 1e6, float((cold * calls).sum() * 1e6)


def products(chip: Chip) -> dict[str, float]:
    """Constants of MXFP8 products, fitted in the logarithm."""
    scipy = require_scipy()
    low, high, first = np.log(np.array(list(_FREE.values()))).T
    measured = np.array([us for _, us in SQUARES])

    def constants(x: Array) -> dict[str, float]:
        return {**PRIOR, **{name: float(value) for name, value in zip(_FREE, np.exp(x), strict=True)}}

    def misfit(x: Array) -> Array:
        squares, step = predicted_us(chip, constants(x))
        whole = _STEP_WEIGHT * np.log(step / STEP_US)
        return np.concatenate([np.log(squares / measured), [whole], _PULL * (x - first)])

    found = constants(scipy.optimize.least_squares(misfit, first, bounds=(low, high)).x)
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def gemm_content(date: str) -> dict[str, Any]:
    """The calibration file of products."""
    found = products(load_chip(CHIP))
    sets = [
        {"name": "pto-isa 3186c381: MXFP8 squares on A5", "rows": len(SQUARES)},
        {"name": "pypto-lib issue 1054: products of a decode step", "rows": 1},
    ]
    parameters = dict.fromkeys(_SAME, found)
    return {**_content("gemm", date, sets, parameters), "spreads": dict.fromkeys(parameters, 0.25)}


def expert_content(date: str) -> dict[str, Any]:
    """The calibration file of experts after a dispatch."""
    made = products(load_chip(CHIP))
    older = load_calibration(load_chip("ascend-910b2"), "experts").parameters["bf16"]
    found = {**older, "load": made["load"], "fixed_s": float(f"{2.0 * made['fixed_s'] + SWIGLU_S:.4g}")}
    parameters = {f"local:{name}": found for name in ("mxfp8", "fp8-tensorwise")}
    sets = [{"name": "pypto-lib issue 1054: SwigluGroupQuant of a decode step", "rows": 1}]
    return _content("experts", date, sets, parameters)


def vector_content(date: str) -> dict[str, Any]:
    """The calibration file of vector kernels: starts of one token, slopes of 910C."""
    from supertwin.calibration.ascend_serving import vector_constants

    slopes = vector_constants(load_chip("ascend-910c-die"))
    starts = {**ascend_mixing.STARTS}
    parameters = {f"serving:{op}": {**slopes[op], "start_s": start} for op, start in starts.items()}
    parameters["serving:compress"] = compressors(load_chip(CHIP))
    rows = len(starts) + len(ascend_mixing.COMPRESSORS)
    return _content("vector", date, [{"name": ascend_mixing.NEXT_SOURCE, "rows": rows}], parameters)


def compressors(chip: Chip) -> dict[str, float]:
    """Start and share of the memory rate of the compressor kernel: a line through its three times over weights."""
    moved, took = np.array(ascend_mixing.COMPRESSORS).T
    slope, start = np.polyfit(moved, took * 1e-6, 1)
    share = 1.0 / (slope * chip.memory_bytes_per_s)
    cached = share * chip.memory_bytes_per_s / chip.l2_bytes_per_s  # weights of other layers pass through L2 meanwhile
    return {name: float(f"{x:.4g}") for name, x in (("l2", cached), ("memory", share), ("start_s", start))}


def write(family: str, out: Path, date: str) -> list[Path]:
    """Write the calibration file of a family, if the generation has one; returns the files."""
    made = {"gemm": gemm_content, "experts": expert_content, "vector": vector_content}.get(family)
    return [] if made is None else [write_calibration(out, made(date))]


def _content(family: str, date: str, sets: list[dict[str, Any]], parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        "family": family, "chip": CHIP, "date": date, "data_sets": sets, "parameters": parameters,
        "surface": {}, "residual": {}, "spread": 0.3,
    }  # fmt: skip
