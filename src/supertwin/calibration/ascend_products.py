"""INT8 products and products of attention heads on Ascend 910C, as they run inside a model.

Source and conditions: see ascend_serving.py (msModeling 39df672b). The medians over shapes of a 910B, which is the same
die, join the INT8 rows: they time the quantisation of the input with the product, the rows without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from supertwin.calibration.ascend_serving import CHIP, SOURCE
from supertwin.calibration.kernels import ascend_median_rows
from supertwin.calibration.tables import GemmRows
from supertwin.cost.gemm import GemmConditions
from supertwin.workload.operators import Gemm

INT8 = (
    (1, 4096, 7168, 32.2), (1, 7168, 2048, 19.9), (1, 2112, 7168, 28.3), (8, 7168, 2048, 21.4), (1, 3072, 1536, 15.8),
    (8, 4608, 7168, 34.4), (8, 7168, 2304, 21.9), (256, 4096, 7168, 78.6), (256, 7168, 2048, 47.5),
    (256, 2112, 7168, 40.3), (1024, 7168, 2048, 77.6), (2048, 7168, 2048, 131.4), (2048, 3072, 1536, 55.1),
    (2048, 4608, 7168, 251.8), (2048, 7168, 2304, 155.7),
)  # fmt: skip
"""(m, n, k, microseconds) of QuantBatchMatmulV3, weights in NZ, without the pass that quantises the input."""

HEADS = (
    (1, 512, 128, 16, 8.46), (12, 512, 128, 16, 8.49), (1, 128, 512, 16, 12.47), (12, 128, 512, 16, 12.23),
    (12, 128, 512, 64, 12.5),
)  # fmt: skip
"""(m, n, k, heads, microseconds) of BatchMatMulV2 and TransposeBatchMatMul; the last of LongCat-Flash, 4 sequences of 3
tokens (cann-recipes-infer, docs/models/longcat_flash: TBMM, 24 cube cores)."""

QUANTISE: Mapping[str, float] = {"quantize_s": 3.2e-6, "quantize_spread_s": 1.24e-5, "quantize_rate": 0.7}
"""The pass that quantises the input: DynamicQuant of ascend_serving.py. Its rate in long passes is that of sums and
casts less a tenth (assumption; 11 TB/s of a product of 16,384 tokens leave no less)."""


def serving_product_rows() -> list[GemmRows]:
    """Rows of both kinds, and the INT8 medians of the same die."""
    m, n, k, us = np.array(INT8, dtype=np.float64).T
    int8 = Gemm(part="gemm", m=m, n=n, k=k, groups=np.ones_like(m), dtype="int8")
    hm, hn, hk, heads, head_us = np.array(HEADS, dtype=np.float64).T
    head = Gemm(part="gemm", m=hm, n=hn, k=hk, groups=heads, dtype="bf16")
    cold = GemmConditions(weights_cold=True)
    return [
        GemmRows(CHIP, "", int8, us * 1e-6, cold, source=SOURCE),
        GemmRows(CHIP, "", head, head_us * 1e-6, cold, grouped=True, source=SOURCE),
        *(replace(rows, chip=CHIP) for rows in ascend_median_rows() if rows.gemm.dtype == "int8"),
    ]


def start_of(chip: str, parts: Sequence[GemmRows], known: Mapping[str, float]) -> dict[str, float]:
    """Constants that a fit starts from: those known, and the quantisation pass where the rows contain one."""
    quantised = chip == CHIP and any(p.gemm.quantize_input for p in parts)
    return {**known, **QUANTISE} if quantised else dict(known)
