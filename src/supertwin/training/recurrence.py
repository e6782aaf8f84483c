"""What the backward pass of a recurrent block computes once more.

Mamba-2 keeps its input projection alone: the backward pass runs the convolution, the scores inside chunks, the states
of the chunks and their passing on again (state-spaces/mamba, mamba_ssm/ops/triton/ssd_combined.py,
MambaSplitConv1dScanCombinedFn.backward and _mamba_chunk_scan_combined_bwd).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from supertwin.workload.operators import Gemm, Operator, Vector

_CONVOLUTION, _SCAN = "attention/conv", "attention/scan"


def scanned_again(forward: Sequence[Operator]) -> list[Operator]:
    """Operators of a Mamba block that its backward pass repeats; none where the list has no scan.

    Of the last product of the scan, which stands for making the states and reading them, the first half.
    """
    products = [op for op in forward if isinstance(op, Gemm) and op.part == _SCAN]
    if not products:
        return []
    vectors = [op for op in forward if isinstance(op, Vector) and op.part in (_CONVOLUTION, _SCAN)]
    return [*vectors, products[0], replace(products[-1], k=products[-1].k / 2.0)]
