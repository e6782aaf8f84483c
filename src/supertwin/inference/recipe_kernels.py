"""Kernels that the Ascend recipes start around the lightning indexer and the picked keys of latent attention in decode.

cann-recipes-infer, deepseek_v3_2_exp and glm_5 (indexer.py: prefill_decode_ascendc; modeling: apply_attention_fusion,
MoE forward). After the indexer's query map three streams run beside each other, and the longest shows (beside):

    queries   slice, rotation, join, Hadamard product, cast, quantisation, cast of the scales     (a vector per head)
    keys      map, norm, slice, rotation, join, Hadamard product, cast, quantisation, cast, two writes to the cache
    weights   the narrow map that weighs the heads

The core takes both parts of a query as one tensor, the gate multiplies a copy of the tokens in FP32, and a kernel of
its own adds the shared expert. Each is priced like others of its class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from supertwin.model.spec import AttentionSpec
from supertwin.workload.block import plain, vector
from supertwin.workload.operators import Attention, Gemm, Operator, Real, Vector, changed

QUERIES, KEYS, WEIGHTS = "attention/index_queries", "attention/index_keys", "attention/index_weights"
STREAMS = (QUERIES, KEYS, WEIGHTS)
_INDEX = "attention/index"


def with_recipe_kernels(operators: Sequence[Operator], block: AttentionSpec) -> list[Operator]:
    """Operators of a layer (or draft) with sparse latent attention `block`, with the kernels of the recipe."""
    return replaced(operators, lambda o, name: _of(o, name, block))


def replaced(operators: Sequence[Operator], kernels: Callable[[Operator, str], list[Operator]]) -> list[Operator]:
    """What `kernels` makes of each operator, given with its part outside drafts; those of drafts stay theirs."""
    out: list[Operator] = []
    for o in operators:
        name = o.part.removeprefix("mtp/")
        before = o.part.removesuffix(name)
        out += [changed(x, part=before + x.part.removeprefix("mtp/")) for x in kernels(o, name)]
    return out


def _of(o: Operator, name: str, block: AttentionSpec) -> list[Operator]:
    if name == _INDEX and isinstance(o, Gemm) and not o.weight_dtype:
        return _streams(o.m, o.k, block)
    if name == _INDEX and isinstance(o, Vector):
        return []
    if name == "attention/core" and isinstance(o, Attention):
        values = o.batch * o.q_len * o.heads * o.qk_head_dim
        return [_pass("attention/join", "copy", values, o.batch * o.q_len * o.heads), o]
    if name == "moe/router" and isinstance(o, Gemm):
        cells = o.m * o.k
        cast = Vector(part=name, op="add", bytes_read=2.0 * cells, bytes_written=4.0 * cells, tokens=o.m)
        return [cast, changed(o, dtype="fp32", weight_dtype="")]
    if name == "moe/add" and isinstance(o, Vector):
        return [replace(o, fused=False)]
    return [o]


def _streams(rows: Real, hidden: Real, block: AttentionSpec) -> list[Operator]:
    """What follows the indexer's query map."""
    width, heads, turned = block.index_head_dim, block.index_heads, block.qk_rope_head_dim
    keys: list[Operator] = [plain(KEYS, rows, (hidden, width)), _pass(KEYS, "norm", rows * width, rows)]
    keys += _prepared(KEYS, rows, width, turned)
    keys += [_pass(KEYS, "copy", rows, rows), _pass(KEYS, "copy", rows * width, rows)]
    queries = _prepared(QUERIES, rows * heads, width, turned)
    return [*queries, *keys, plain(WEIGHTS, rows, (hidden, heads))]


def _prepared(part: str, vectors: Real, width: int, turned: int) -> list[Operator]:
    """Vectors that are turned, multiplied by a Hadamard matrix and quantised, kernel by kernel."""
    values = vectors * width
    return [
        _pass(part, "copy", vectors * turned, vectors),
        _pass(part, "rope", vectors * turned, vectors),
        _pass(part, "copy", values, vectors),
        plain(part, vectors, (width, width)),
        _pass(part, "add", values, vectors),
        _pass(part, "quantize", values, vectors),
        _pass(part, "add", vectors, 1.0),
    ]


def _pass(part: str, op: str, values: Real, rows: Real) -> Vector:
    return vector(part, op, (values, values), tokens=rows)
