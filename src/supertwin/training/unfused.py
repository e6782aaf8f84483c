"""Attention before fused kernels: batched products with the score matrix in memory between them.

Stacks of before mid-2022 write scores, softmax and probabilities of s x s per head to HBM (arXiv 2205.14135, section
2.2), and compute the whole square, masked half included. Dropout of the probabilities is a kernel of its own that
keeps a mask of one byte per score; the context is copied from [b, a, s, d] to [s, b, a, d], and the three gradients are
joined (Megatron-LM, megatron/model/transformer.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from supertwin.workload.operators import Attention, Gemm, Operator, Real, Vector, changed

_BLOCK = 1024.0  # rows of a block of triangle attention (ascendspeed/model/llama_model.py)
_ALIBI_PASSES = (7.0, 2.0)  # per score: scaled product, scaled bias (read, write), their sum; backward the scale
# Bytes per score of softmax by tensor operations: widen 6, scale 8, mask 8, softmax 8, narrow 6; backward widen and
# narrow 6 each, softmax 12, mask 8, scale 8. Listed as so many operators, each of a few kernels.
_APART = {"fwd": 36.0, "bwd": 40.0}
_PIECES = {"fwd": 2, "bwd": 3}
# Softmax by a compiler that fuses no reduction with what follows: maximum, sum, result read the scores each (backward:
# sum, result read both inputs), over one pass of a fused kernel.
_SCANS = {"fwd": (3.0 + 1.0) / 2.0, "bwd": (4.0 + 1.0) / 3.0}


def unfused(
    operators: Sequence[Operator],
    *,
    dropout: bool = False,
    alibi: bool = False,
    triangle: bool = False,
    softmax_block: int = 1,
    scans: bool = False,
) -> list[Operator]:
    """Replace every Attention of a list by products, softmax, copies and, if asked for, dropout.

    alibi: scale and bias of the scores are tensor operations (ModelLink, dot_product_attention.py). triangle: rows in
    blocks of 1024, each against the keys up to its end, so that (n + 1)/2n of the square is computed (AscendSpeed,
    triangle_attention.py). softmax_block: the fused softmax takes whole blocks of so many of the batch x heads of a
    device (Megatron: 4, megatron/model/fused_softmax.py, is_kernel_available); others run as tensor operations in FP32.
    scans: the softmax reads the scores once per reduction and once for the result (XLA without Triton's softmax).
    """
    result: list[Operator] = []
    for operator in operators:
        if not isinstance(operator, Attention):
            result.append(operator)
            continue
        parts = _parts(_lower(operator) if triangle else operator, dropout)
        if float(operator.batch * operator.heads) % softmax_block:
            parts = [piece for part in parts for piece in _softmax_apart(part, operator)]
        result += [_scanned(part, operator) for part in parts] if scans else parts
        if alibi:
            result.append(_alibi(operator))
    return result


def with_one_head_size(operators: Sequence[Operator], multiple: int) -> list[Operator]:
    """Attention with the sizes of keys and values filled up to one: the next multiple above that of the keys."""
    return [_one_size(op, multiple) if isinstance(op, Attention) else op for op in operators]


def _one_size(op: Attention, multiple: int) -> Attention:
    keys, values = float(op.qk_head_dim), float(op.v_head_dim)
    size = math.ceil(keys / multiple) * float(multiple)
    return op if keys == values else changed(op, qk_head_dim=size, v_head_dim=size)


def _lower(op: Attention) -> Attention:
    blocks = max(op.q_len / _BLOCK, 1.0)
    return changed(op, kv_len=op.kv_len * (blocks + 1.0) / (2.0 * blocks))


def _alibi(op: Attention) -> Vector:
    passes = _ALIBI_PASSES[op.direction == "bwd"]
    moved = passes * op.batch * op.heads * op.q_len * op.kv_len  # 2 bytes, half of them read
    return Vector(part=f"{op.part}/alibi", count=op.count, op="add", bytes_read=moved, bytes_written=moved)


def _parts(op: Attention, dropout: bool) -> list[Operator]:
    parts = _backward(op) if op.direction == "bwd" else _forward(op)
    return [*parts, _copies(op), *([_dropout(op)] if dropout else [])]


def _softmax_apart(part: Operator, op: Attention) -> list[Operator]:
    """The softmax as tensor operations over scores widened to FP32; other parts as they are."""
    if not (isinstance(part, Vector) and part.op == "softmax"):
        return [part]
    direction = "bwd" if op.direction == "bwd" else "fwd"
    pieces = _PIECES[direction]
    moved = _APART[direction] * op.batch * op.heads * op.q_len * op.kv_len / pieces
    return [changed(part, bytes_read=0.5 * moved, bytes_written=0.5 * moved, flop=part.flop / pieces)] * pieces


def _scanned(part: Operator, op: Attention) -> Operator:
    if not (isinstance(part, Vector) and part.op == "softmax"):
        return part
    passes = _SCANS["bwd" if op.direction == "bwd" else "fwd"]
    return changed(part, bytes_read=passes * part.bytes_read, bytes_written=passes * part.bytes_written)


def _copies(op: Attention) -> Vector:
    """Context into token order; backward also the gradients of queries, keys and values into one tensor."""
    tokens = op.batch * op.q_len
    moved = 2.0 * tokens * op.heads * op.v_head_dim
    if op.direction == "bwd":
        moved = moved + 2.0 * tokens * (op.heads * op.qk_head_dim + op.kv_heads * (op.qk_head_dim + op.v_head_dim))
    return Vector(part=f"{op.part}/copy", count=op.count, op="copy", bytes_read=moved, bytes_written=moved)


def _dropout(op: Attention) -> Vector:
    """Forward reads probabilities and writes them with a mask, backward reads gradient and mask."""
    scores = 2.0 * op.batch * op.heads * op.q_len * op.kv_len
    read, written = (1.5 * scores, scores) if op.direction == "bwd" else (scores, 1.5 * scores)
    return Vector(part=f"{op.part}/dropout", count=op.count, op="add", bytes_read=read, bytes_written=written)


def _product(op: Attention, name: str, m: Real, n: Real, k: Real) -> Gemm:
    return Gemm(
        part=f"{op.part}/{name}",
        count=op.count,
        m=m,
        n=n,
        k=k,
        groups=op.batch * op.heads,
        dtype=op.dtype,
        out_dtype=op.dtype,
        direction=op.direction if op.direction == "fwd" else "dgrad",
    )


def _forward(op: Attention) -> list[Operator]:
    scores = 2.0 * op.batch * op.heads * op.q_len * op.kv_len
    return [
        _product(op, "scores", op.q_len, op.kv_len, op.qk_head_dim),
        Vector(
            part=f"{op.part}/softmax",
            count=op.count,
            op="softmax",
            bytes_read=scores,
            bytes_written=scores,
            flop=2.5 * scores,
        ),
        _product(op, "values", op.q_len, op.v_head_dim, op.kv_len),
    ]


def _backward(op: Attention) -> list[Operator]:
    scores = 2.0 * op.batch * op.heads * op.q_len * op.kv_len
    return [
        _product(op, "dvalues", op.kv_len, op.v_head_dim, op.q_len),
        _product(op, "dprobabilities", op.q_len, op.kv_len, op.v_head_dim),
        Vector(
            part=f"{op.part}/dsoftmax",
            count=op.count,
            op="softmax",
            bytes_read=2 * scores,
            bytes_written=scores,
            flop=2 * scores,
        ),
        _product(op, "dqueries", op.q_len, op.qk_head_dim, op.kv_len),
        _product(op, "dkeys", op.kv_len, op.qk_head_dim, op.q_len),
    ]
