"""Kernels of DeepSeek-V4's compressors and indexer as the recipe starts them on Ascend 950 in decode.

cann-recipes-infer, deepseek_v4 (modeling: attention, indexer). The compressor is one kernel with its own BF16 matrices,
in the main stream (A3 runs it beside the narrow maps, where it is hidden and its matrices count as theirs). The
indexer's two streams run beside each other and the longer shows:

    queries   map, rotation, Hadamard product, quantisation
    weights   the narrow map that weighs the heads, and the compressor of the indexer's keys

Times of the compressor: calibration/ascend_950.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from supertwin.inference.recipe_kernels import QUERIES, WEIGHTS, replaced
from supertwin.model.parameters import compressor_width
from supertwin.model.spec import AttentionSpec
from supertwin.workload.block import plain, vector
from supertwin.workload.operators import Gemm, Operator, Real, Vector, changed

STATIC = "fp8-tensorwise"
"""Format with one scale per tensor (HiF8): matrices of the compressor are stored in it, and no Hadamard product."""
_INDEX = "attention/index"


def with_compressors(operators: Sequence[Operator], block: AttentionSpec) -> list[Operator]:
    """Operators of a layer (or draft) with attention `block`, with the compressors as kernels of their own."""
    return replaced(operators, lambda o, name: _of(o, name, block))


def _of(o: Operator, name: str, block: AttentionSpec) -> list[Operator]:
    width = compressor_width(block)
    if name == "attention/down" and isinstance(o, Gemm):
        return [changed(o, n=o.n - width), _compressor("attention/compress", o, width)]
    if name == _INDEX and isinstance(o, Gemm) and o.weight_dtype:
        vectors = o.m * block.index_heads
        values = vectors * block.index_head_dim
        turned = vectors * block.qk_rope_head_dim
        found: list[Operator] = [changed(o, part=QUERIES), _pass("rope", turned, vectors)]
        if o.dtype != STATIC:
            found.append(plain(QUERIES, vectors, (block.index_head_dim, block.index_head_dim)))
        return [*found, _pass("quantize", values, vectors)]
    if name == _INDEX and isinstance(o, Gemm):
        keys = _compressor(WEIGHTS, o, 4 * block.index_head_dim)
        return [plain(WEIGHTS, o.m, (o.k, block.index_heads)), keys]
    return [] if name == _INDEX and isinstance(o, Vector) else [o]


def _compressor(part: str, beside: Gemm, width: int) -> Vector:
    """One kernel: reads its matrix and the tokens, writes what they add to the window."""
    stored = 1.0 if beside.dtype == STATIC else 2.0
    read = stored * beside.k * width + 2.0 * beside.m * beside.k
    return Vector(part=part, op="compress", bytes_read=read, bytes_written=4.0 * beside.m * width)


def _pass(op: str, values: Real, rows: Real) -> Vector:
    return vector(QUERIES, op, (values, values), tokens=rows)
