"""Kernels of one training step on Ascend 910B3: fused attention and weight gradients.

Ascend/msprof-analyze at 8399c1cd (Mulan PSL v2), test/ut/advisor/compute_advice/data/kernel_details.csv: a step of
January 2025 on a device of 20 matrix cores at 1.8 GHz. Attention: 4096 tokens, 2 sequences, 4 heads of 128, causal mask
in memory. Weight gradients over 8192 tokens. Medians over the calls.

The two kinds of core of an attention kernel meet in memory. Their busy times (129 us matrix, 229 us vector; backward
344 and 318) add up to 99 and 88 % of the kernel, so they take turns: seconds per query-key pair are the sum of both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from supertwin.cost.attention_kernels import BACKWARD_FLOP
from supertwin.workload.operators import Gemm

CHIP = "ascend-910b3"
CORES = 20.0
SOURCE = "Ascend/msprof-analyze 8399c1cd: kernel_details.csv of a training step"
WEIGHT_GRADIENTS = ((4096.0, 512.0, 8192.0, 187.3e-6), (1536.0, 4096.0, 8192.0, 509.5e-6))
"""(m, n, k, seconds) of MatMulV2 and MatMulV3 with the first operand transposed."""
VECTORS = {
    "add": (3.0 * 100.66e6, 226.0e-6),
    "copy": (75497472.0 * 6.0, 335.0e-6),
    "optimizer": (75497472.0 * 28.0, 1785.0e-6),
    "softmax": (2.0 * 25.17e6, 91.5e-6),
}
"""(bytes, seconds) of vector kernels on 24 cores with 1.6 TB/s, same repository, test/ut/advisor/advisor_backend/
compute_advice/kernel_details.csv (a GPT-3 step in FP16 of November 2023): Add of 4096 x 12288, Cast from FP16 to FP32,
ApplyAdamW, ScaledMaskedSoftmax of 12 x 1024 x 1024 scores. Medians."""
_TOKENS, _HEADS, _HEAD_DIM = 4096.0, 8.0, 128.0  # heads of both sequences
_ROWS = 128.0
_PAIR_FLOP = 4.0 * _HEAD_DIM
_CORE_FLOP_PER_S = 294.9e12 / CORES


@dataclass(frozen=True, slots=True)
class Profiled:
    """Seconds of one attention kernel: its call, from first to last core, matrix and vector units busy."""

    call_s: float
    cores_s: float
    matrix_s: float
    vector_s: float


FORWARD = Profiled(406.6e-6, 359.75e-6, 128.97e-6, 228.69e-6)
BACKWARD = Profiled(759.7e-6, 753.13e-6, 344.04e-6, 318.44e-6)


def vector_shares(memory_bytes_per_s: float, l2_bytes_per_s: float) -> dict[str, dict[str, float]]:
    """Share of the memory rate by class of vector operator. The scores of the softmax lay in L2: its vector units are
    the limit, there as in memory."""
    rates = {name: moved / seconds for name, (moved, seconds) in VECTORS.items()}
    found = {name: {"memory": round(rate / memory_bytes_per_s, 4)} for name, rate in rates.items()}
    found["softmax"]["l2"] = round(rates["softmax"] / l2_bytes_per_s, 4)
    return found


def attention_constants() -> dict[str, dict[str, float]]:
    """Constants of the training kernels by variant, for chips with these cores (shares of a core's own peak)."""
    pair = {"": _constants(FORWARD, 1.0), "/bwd": _constants(BACKWARD, BACKWARD_FLOP)}
    shapes = ("gqa/128", "mla/192")
    return {f"prefill/{shape}/bf16/bf16{mark}": dict(pair[mark]) for shape in shapes for mark in pair}


def _constants(kernel: Profiled, flop_share: float) -> dict[str, float]:
    """Per pair and core. The matrix units run at their peak, so their busy time counts the pairs that are computed:
    those beyond the mean of T/2 + 128 keys of a row block are its fixed cost (blocks cut by the diagonal)."""
    blocks = _HEADS * _TOKENS / _ROWS
    pairs = kernel.matrix_s * CORES * _CORE_FLOP_PER_S / (_PAIR_FLOP * flop_share * blocks)  # of one row block
    waiting = kernel.cores_s / (kernel.matrix_s + kernel.vector_s)
    pair_s = kernel.cores_s * CORES / blocks / pairs
    return {
        "rate": 1.0 / waiting,
        "vector_s": kernel.vector_s * waiting * CORES / blocks / pairs / flop_share,
        "mix": 1.0,
        "rows": _ROWS,
        "start_s": kernel.call_s - kernel.cores_s,
        "tile_s": (pairs - _ROWS * (_TOKENS / 2.0 + 128.0)) * pair_s,
        "memory": 0.85,
        "sharp": 3.0,
    }


def weight_gradient_factor(seconds_of: Callable[[Gemm], float]) -> float:
    """Time of a weight gradient over what `seconds_of` gives for it without a factor, geometric mean."""
    logs = [
        math.log(measured / seconds_of(Gemm(part="profile", m=m, n=n, k=k, direction="wgrad")))
        for m, n, k, measured in WEIGHT_GRADIENTS
    ]
    return math.exp(sum(logs) / len(logs))


def with_weight_gradients(
    parameters: Mapping[str, Mapping[str, float]], factor: float
) -> dict[str, Mapping[str, float]]:
    """Groups of plain 16-bit products with the factor, the others as they are."""
    return {name: {**v, "wgrad": round(factor, 3)} if name in ("bf16", "fp16") else v for name, v in parameters.items()}
