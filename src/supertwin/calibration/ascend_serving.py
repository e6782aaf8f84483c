"""Vector work of serving steps on Ascend 910C (752T bin), as it runs inside a model. Products: ascend_products.py.

msModeling (Ascend/msmodeling, Mulan PSL v2) as kept by Horacehxw/msModeling at 39df672b, docs/perf_database/reports:
profiling_analysis_eager/full_output.txt and profiling_analysis_aclgraph/per_shape_cv_output.txt, means over hundreds of
calls per shape. DeepSeek-V3 in INT8 (TP 8, DP 2) and Qwen3-32B in BF16 (TP 16) under vLLM 0.15, CANN 8.5.

Every kernel that works on rows takes 10 to 30 us longer on all cores than on one, in captured graphs as well: cores
that run one code fetch its instructions one after the other (cann-recipes-infer, docs/cann/en/super_kernel.md, 2.1.4).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from supertwin.calibration import ascend_mixing
from supertwin.calibration.common import require_scipy
from supertwin.cost.surface import Array
from supertwin.cost.vector import VectorWork, vector_times
from supertwin.machine.chip import Chip

SOURCE = "msModeling 39df672b: kernels of vLLM steps on 910C"
CHIP = "ascend-910c-die"

Row = tuple[float, float, float]
"""tokens, values per token (read and written), microseconds."""

VECTORS: Mapping[str, tuple[Row, ...]] = {
    # AddRmsNormBias reads and writes two rows, RmsNorm one
    "norm": (
        (1, 28672, 3.86), (32, 28672, 8.85), (96, 28672, 20.4), (128, 28672, 19.7), (256, 28672, 25.5),
        (16, 20480, 5.25), (192, 20480, 19.2), (256, 20480, 18.9), (768, 20480, 32.2), (1539, 20480, 81.6),
        (2565, 20480, 126.4), (1, 3072, 4.0), (32, 3072, 15.6), (96, 3072, 21.7), (128, 3072, 19.5), (256, 3072, 20.1),
        (16, 10240, 7.07), (768, 10240, 27.5), (1, 14336, 4.48), (256, 14336, 18.2),
    ),
    # SwiGlu
    "activation": (
        (1, 6144, 3.3), (32, 6144, 6.9), (96, 6144, 14.9), (128, 6144, 17.4), (256, 6144, 17.9), (8, 6912, 4.24),
        (768, 6912, 20.7), (1024, 6912, 22.4), (2048, 6912, 29.4), (16, 4800, 4.8), (256, 4800, 15.3),
        (768, 4800, 17.25), (3072, 4800, 28.8), (24624, 4800, 188.0), (41040, 4800, 343.0),
    ),
    # DynamicQuant: BF16 to INT8
    "quantize": (
        (1, 10752, 3.62), (1, 3072, 3.32), (8, 10752, 5.3), (8, 3456, 5.5), (32, 10752, 15.1), (96, 10752, 23.0),
        (128, 10752, 19.8), (256, 10752, 24.5), (128, 3072, 13.4), (256, 3072, 15.3), (2048, 3456, 35.0),
    ),
    "add": ((1, 21504, 2.3), (96, 21504, 9.9), (128, 21504, 10.4), (256, 21504, 11.5)),
    # TensorMove
    "copy": ((32, 14336, 7.0), (256, 14336, 9.4), (2048, 4096, 12.0), (24624, 1024, 16.6), (41040, 1024, 27.8)),
    # InterleaveRope, 16 heads of 64
    "rope": (
        (1, 2048, 6.76), (5, 2048, 8.46), (8, 2048, 9.67), (256, 2048, 18.8), (768, 2048, 25.4), (1024, 2048, 29.5),
        (2048, 2048, 40.8),
    ),
    # MoeGatingTopK over 256 experts
    "router": ((1, 288, 5.12), (2, 288, 5.7), (32, 288, 22.7), (96, 288, 33.8), (128, 288, 31.6), (256, 288, 35.6)),
    # ArgMaxV2 over a vocabulary in FP32 (two values of 16 bit each)
    "sampling": ((4, 258560, 70.0), (5, 258560, 74.8), (8, 303872, 91.4), (16, 303872, 139.6)),
}  # fmt: skip
"""Classes of vector work by kernel. BF16 values."""

MEMORY: Mapping[str, float] = {"add": 0.8351, "copy": 0.8451}  # share of the memory rate, known from longer kernels
OTHER_SPREAD_S = 1.0e-5
"""Start of all cores in classes that no row measures: as sums and copies (assumption)."""
_FREE = ("start_s", "spread_s", "l2", "memory")
_FIRST = {"start_s": 3e-6, "spread_s": 1e-5, "l2": 0.4, "memory": 0.6}
_BOUNDS = {"start_s": (1e-6, 8e-5), "spread_s": (1e-7, 5e-5), "l2": (0.005, 1.0), "memory": (0.5, 0.95)}
_MIXING_BOUNDS = {"memory": (0.05, 0.95), "spread_s": (1e-7, 2e-7)}  # their starts are those of all cores
_PULL = 0.02


def vector_constants(chip: Chip) -> dict[str, dict[str, float]]:
    """Start, start of all cores, share of L2 and of memory by class, fitted on VECTORS in the logarithm.

    The share of memory moves alone where rows are long enough to leave L2; else it keeps the ratio of the two rates.
    """
    every = {**VECTORS, **ascend_mixing.VECTORS}
    return {op: _fitted(chip, op, np.array(rows, dtype=np.float64)) for op, rows in every.items()}


def _fitted(chip: Chip, op: str, rows: Array) -> dict[str, float]:
    scipy = require_scipy()
    tokens, values, measured = rows[:, 0], rows[:, 1], rows[:, 2] * 1e-6
    nothing = np.zeros_like(tokens)
    work = VectorWork(tokens * values * 2.0, nothing, nothing, nothing, tokens)
    long = float(work.bytes.max()) > 0.3 * chip.l2_bytes and op not in MEMORY
    names = _FREE if long else _FREE[:3]
    bounds = {**_BOUNDS, **(_MIXING_BOUNDS if op in ascend_mixing.VECTORS else {})}
    low, high = np.log([bounds[n] for n in names]).T
    first = np.clip(np.log([_FIRST[n] for n in names]), low, high)

    def constants(x: Array) -> dict[str, float]:
        found = {n: float(v) for n, v in zip(names, np.exp(x), strict=True)}
        slow = min(found["l2"] * chip.l2_bytes_per_s / chip.memory_bytes_per_s, 0.8)
        return {"memory": MEMORY.get(op, slow), **found, "compute": 1.0, "row": 1.0}

    def misfit(x: Array) -> Array:
        times = vector_times(chip, constants(x), work).time_s
        return np.concatenate([np.log(times / measured), _PULL * (x - first)])

    best = scipy.optimize.least_squares(misfit, first, bounds=(low, high), loss="soft_l1", f_scale=0.2)
    found = constants(best.x)
    return {n: float(f"{found[n]:.3g}") for n in _FREE}
