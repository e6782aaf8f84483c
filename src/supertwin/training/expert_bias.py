"""Biased, clamped experts as Megatron-Core's TEGroupedMLP runs them (gpt-oss): tensor operations around the kernels.

Bytes per value, each tensor operation counted as it reads and writes (megatron/core/transformer/moe/experts.py,
fusions/fused_bias_geglu.py; torch autograd):

    clamp of both halves and their join, per value of the first product     4 + 4       backward 6 + 4
    down bias times router weight in FP32, per value of the result          28          backward 40

The second row: product with the weight (4 written), sum (6 read, 4 written), join (8), cast (6); backward cast (6),
cast of the result's gradient (6), gradients of bias and weight with their sums (12 each), join (4).
"""

from __future__ import annotations

from collections.abc import Sequence

from supertwin.model.spec import ModelSpec
from supertwin.workload.operators import Gemm, Operator, Vector

CLAMP_BYTES = (8.0, 10.0)
BIAS_BYTES = (28.0, 40.0)
_EXPERTS, _ACTIVATION = "moe/experts", "moe/act"
_READ = 0.55  # of the bytes of both chains


def has_expert_bias(model: ModelSpec) -> bool:
    """Whether routed gated experts have biases (gpt-oss, whose activation is clamped too)."""
    blocks = [kind.feed_forward for kind in model.layers if kind.feed_forward is not None]
    return any(block.experts and block.gated and block.bias for block in blocks)


def bias_operators(forward: Sequence[Operator], backward: bool = False) -> list[Operator]:
    """Tensor operations that a pass adds to the operators of a layer's forward pass (none without experts).

    backward: those of the backward pass. Sizes come from the forward products: [rows, 2 inter] and [rows, hidden].
    """
    products = [op for op in forward if isinstance(op, Gemm) and op.part.endswith(_EXPERTS)]
    if not products or not any(op.part.endswith(_ACTIVATION) for op in forward):
        return []
    up, down = products[0], products[-1]
    moved = (CLAMP_BYTES[backward] * up.m * up.n + BIAS_BYTES[backward] * down.m * down.n) * down.groups
    read = _READ * moved
    return [Vector(part=_ACTIVATION, op="add", bytes_read=read, bytes_written=moved - read, count=down.count)]
