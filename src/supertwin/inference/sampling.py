"""How a token is drawn from the logits of a row, beside the plain pass that every head has (arg max).

    topp, topk, both   18, 24, 36 B per logit by a kernel without sort, one core per row: softmax, and rounds of
                       rejection (FlashInfer)
    sort               170 B instead: radix sort of FP32 keys with 64-bit indices (4 passes of 24 B and 4 of 4 B),
                       softmax, cumulative sum, mask, scatter, softmax, exponential race (vLLM, apply_top_k_top_p)
    penalties          60 B: counts of prompt and output words in 64 bits, and three passes over the logits (vLLM,
                       pull request 13594)
    guided             a bit per word from the host, and a pass over the logits (XGrammar, token bit mask)

Measured (vLLM pull request 40376, 131,072 words, part not named; priced on H200): 512 rows top-p 0.37 ms, sorted
6.15, here 0.42 and 5.9; top-k 0.49 and 5.5, here 0.56 and 5.9; 128 rows with both 0.27 and 2.4, here 0.21 and 1.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from supertwin.inference.layers import Block
from supertwin.inference.offload import HOST
from supertwin.workload.operators import Communication, Operator, Real, Vector

KERNEL_BYTES = {frozenset({"topp"}): 18.0, frozenset({"topk"}): 24.0, frozenset({"topk", "topp"}): 36.0}
SORT_BYTES, PENALTY_BYTES, MASK_BYTES = 170.0, 60.0, 8.0
_PLAIN_BYTES, _TOKEN_BYTES = 4.0, 8.0  # of sampling_operators


def with_sampling(blocks: Sequence[Block], words: str) -> tuple[Block, ...]:
    """Blocks whose head samples that way; drafts are taken greedily."""
    asked = frozenset(words.split(","))
    out = []
    for block in blocks:
        here = any(o.part == "head/sample" for o in block.operators)
        ops = [x for o in block.operators for x in _drawn(o, asked)] if here else block.operators
        out.append(replace(block, operators=tuple(ops)) if here else block)
    return tuple(out)


def _drawn(o: Operator, words: frozenset[str]) -> list[Operator]:
    if o.part != "head/sample" or not isinstance(o, Vector):
        return [o]
    logits, rows = o.bytes_read / _PLAIN_BYTES, o.bytes_written / _TOKEN_BYTES
    out: list[Operator] = []
    if "guided" in words:
        out.append(Communication(part="head/mask", op="fetch", axis=HOST, message_bytes=logits / 8.0))
        out.append(_passes("head/mask", "add", logits, MASK_BYTES))
    if "penalties" in words:
        out.append(_passes("head/penalties", "add", logits, PENALTY_BYTES))
    kept = words & {"topk", "topp"}
    if not kept:
        return [*out, o]
    if "sort" in words:
        return [*out, _passes("head/sample", "sampling", logits, SORT_BYTES)]
    return [*out, replace(_passes("head/sample", "softmax", logits, KERNEL_BYTES[frozenset(kept)]), rows=rows)]


def _passes(part: str, op: str, logits: Real, bytes_each: float) -> Vector:
    moved = logits * bytes_each / 2.0
    return Vector(part=part, op=op, bytes_read=moved, bytes_written=moved, flop=logits * 8.0)
