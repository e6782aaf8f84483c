"""Attention of a tree of drafts, whose nodes see the context and their own ancestors only.

SGLang on Hopper (FlashAttention 3 has no mask of trees) attends in two calls, as sgl-project/sglang does in
flashattention_backend.py (use_cascade_attn with topk > 1): all nodes of a sequence to its context, each node alone to
its ancestors, and merges the two by their log-sum-exp. So do the drafter's passes over the nodes that it expands.
Others take a mask in one call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from supertwin.inference.layers import Block
from supertwin.machine.chip import Chip
from supertwin.workload.operators import Attention, Operator, Vector, changed

_RESULT_BYTES = 2.0  # of a value of each partial result and of the merged one


def attends_twice(engine: str, chip: Chip) -> bool:
    """Whether a tree takes two calls: engine is the name of assumptions.engine."""
    return engine.startswith("sglang") and chip.architecture == "hopper"


def with_trees(blocks: Sequence[Block], levels: int, topk: int) -> tuple[Block, ...]:
    """Blocks of a decode step whose nodes attend in two calls."""
    return tuple(replace(b, operators=tuple(x for o in b.operators for x in _split(o, levels, topk))) for b in blocks)


def _split(o: Operator, levels: int, topk: int) -> list[Operator]:
    """The target's core over all nodes, the drafter's over those that it expands; its first pass is a chain."""
    if not (isinstance(o, Attention) and o.phase == "decode" and o.part in ("attention/core", "mtp/attention/core")):
        return [o]
    drafts = o.part.startswith("mtp/")
    if o.gathered or np.any(o.window) or (drafts and o.q_len != topk):
        return [o]
    nodes, values = o.batch * o.q_len, o.batch * o.q_len * o.heads * o.v_head_dim
    context = changed(o, kv_len=np.maximum(o.kv_len - o.q_len, 1.0), causal=False)
    ancestors = changed(o, batch=nodes, q_len=1.0, kv_len=levels + 1.0)
    merge = Vector(
        part=o.part.replace("core", "merge"), op="add", count=o.count, flop=values * 4.0,
        bytes_read=2.0 * values * _RESULT_BYTES, bytes_written=values * _RESULT_BYTES,
    )  # fmt: skip
    return [context, ancestors, merge]
