"""Mixed steps: decode sequences and a chunk of prompt tokens in one pass (chunked prefill, in-flight batching).

Matrices, experts and exchanges see all tokens together; the attention core runs its two parts one after the other, the
decode part with its kernel (absorbed where attention is latent) and the chunk with the other. This is what vLLM V1
(v1/attention/backends: decode and prefill tokens of a batch are split, mla/common.py runs forward_mqa and forward_mha),
SGLang with enable_mixed_chunk and TensorRT-LLM's in-flight batching (context and generation requests of one engine
step) do; the idea is that of Sarathi-Serve (arXiv 2403.02310, section 4.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

import numpy as np

from supertwin.inference.case import Deployment
from supertwin.inference.habits import PLAIN, Habits
from supertwin.inference.layers import Block, blocks
from supertwin.inference.passes import with_routing_passes
from supertwin.inference.placement import Placement, Real
from supertwin.inference.shape import Shape
from supertwin.model.spec import ModelSpec
from supertwin.workload.operators import Attention, Communication, ExpertMlp, Gemm, Operator, Vector
from supertwin.workload.shard import Shard, minimum

OWN_KERNELS = ("scan", "conv")
"""Vector work of recurrent layers that has one kernel for chunks and one for single tokens."""


def chunk_shape(tokens: Real, prompt: Real, cached: Real, ranks: int) -> Shape:
    """A chunk of `tokens` on every attention rank, cut from prompts of `prompt` new tokens after `cached` ones.

    A prompt longer than the chunk takes several steps: the mean chunk of it follows half of the rest. Shorter prompts
    share a chunk.
    """
    new = minimum(tokens, prompt)
    sequences = tokens / new
    past = cached + (prompt - new) / 2.0
    return Shape("prefill", sequences, sequences * ranks, new, past + new)


def mixed_blocks(
    model: ModelSpec,
    deployment: Deployment,
    placement: Placement,
    shape: Shape,
    shard: Shard,
    about: Habits = PLAIN,
) -> tuple[Block, ...]:
    """All blocks of a step whose shape has a chunk: those of its two parts merged; drafts follow the decode part."""
    if shape.chunk is None:
        return blocks(model, deployment, placement, shape, shard, about)
    habits = replace(about, routes_in_passes=False)
    parts = [blocks(model, deployment, placement, part, shard, habits) for part in shape.parts()]
    out = []
    for decode, chunk in zip_longest(*parts):
        merged = decode if chunk is None else replace(decode, operators=tuple(merge(decode.operators, chunk.operators)))
        if about.routes_in_passes and merged.layer:
            passed = with_routing_passes(list(merged.operators), merged.skew, about.wide_gate)
            merged = replace(merged, operators=tuple(passed))
        out.append(merged)
    return tuple(out)


def merge(decode: Sequence[Operator], chunk: Sequence[Operator]) -> list[Operator]:
    """Operators of one pass over the tokens of both lists, in order: equal ones run once on all rows, those that only
    one list has, and attention cores, run on their own."""
    out: list[Operator] = []
    left = list(chunk)
    for o in decode:
        place = next((i for i, other in enumerate(left) if _same(o, other)), None)
        if place is None:
            out.append(o)
            continue
        out += left[:place]
        out.append(_joined(o, left[place]))
        left = left[place + 1 :]
    return out + left


def _same(a: Operator, b: Operator) -> bool:
    """Whether both run in one kernel when their rows come together."""
    if type(a) is not type(b) or a.part != b.part or isinstance(a, Attention):
        return False
    if isinstance(a, Gemm) and isinstance(b, Gemm):
        equal = (a.dtype, a.weight_dtype) == (b.dtype, b.weight_dtype)
        return equal and all(np.array_equal(x, y) for x, y in ((a.n, b.n), (a.k, b.k), (a.groups, b.groups)))
    if isinstance(a, Vector) and isinstance(b, Vector):
        return a.op == b.op and a.op not in OWN_KERNELS
    if isinstance(a, Communication) and isinstance(b, Communication):
        return (a.op, a.axis) == (b.op, b.axis)
    return True


def _joined(a: Operator, b: Operator) -> Operator:
    if isinstance(a, Gemm) and isinstance(b, Gemm):
        return replace(a, m=a.m + b.m)
    if isinstance(a, ExpertMlp) and isinstance(b, ExpertMlp):
        return replace(a, rows=a.rows + b.rows, tokens=a.tokens + b.tokens)
    if isinstance(a, Vector) and isinstance(b, Vector):
        return replace(
            a,
            bytes_read=a.bytes_read + b.bytes_read,
            bytes_written=a.bytes_written + b.bytes_written,
            flop=a.flop + b.flop,
            rows=a.rows + b.rows,
            tokens=a.tokens + b.tokens,
        )
    if isinstance(a, Communication) and isinstance(b, Communication):
        return replace(a, message_bytes=a.message_bytes + b.message_bytes, tokens=a.tokens + b.tokens)
    raise TypeError(f"{type(a).__name__} and {type(b).__name__} have no common kernel")
