"""Hyper-connections on Ascend: one kernel before a block and one after it (cann-recipes-infer, DeepSeek-V4 mHC guide).

hc_pre makes the mixing weights of a token (product, norm, twenty Sinkhorn iterations) and its input, hc_post the
streams after the block; both are measured for 8 to 65,536 tokens (calibration/ascend_mixing.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from supertwin.workload.operators import Gemm, Operator, Vector

_PART = "norm/hyper"
STREAMS = 4.0
"""Residual streams of the measured kernels, and of every model that has them (hc_mult)."""


def with_mixing_kernels(operators: Sequence[Operator]) -> list[Operator]:
    """Operators of a layer (or draft) with the product and the pass of its hyper-connections as these two kernels."""
    return [_kernel(o) if o.part.endswith(_PART) else o for o in operators]


def _kernel(o: Operator) -> Operator:
    if isinstance(o, Gemm):
        streams = (float(o.n) + 1.0) ** 0.5 - 1.0  # the product makes streams x (streams + 2) weights
        cells = o.m * o.k
        return Vector(part=o.part, op="hyper_pre", bytes_read=2.0 * cells, bytes_written=2.0 * cells / streams)
    if not isinstance(o, Vector):
        return o
    # the pass reads the streams at both ends of a block, hc_post the streams and what the block gave
    read = (STREAMS + 1.0) / (2.0 * STREAMS) * o.bytes_read
    return Vector(part=o.part, op="hyper_post", bytes_read=read, bytes_written=o.bytes_written)
