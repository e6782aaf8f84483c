"""The lightning indexer of DeepSeek sparse attention (DeepSeek-V3.2-Exp report, section 2.1)."""

from __future__ import annotations

from supertwin.model.spec import AttentionSpec
from supertwin.workload.block import linear, plain, stream_rows, vector
from supertwin.workload.core import query_share
from supertwin.workload.operators import Attention, Operator
from supertwin.workload.shard import Shard, Step, mean_keys, minimum


def indexer_operators(block: AttentionSpec, step: Step, shard: Shard, hidden: int) -> list[Operator]:
    """Lightning indexer: query map, head weights, scores against all (compressed) keys and the choice of the best.

    Replicated over tp. The scores read one shared key per position and sum over the index heads: an attention call
    with one shared vector and a value of width one. Keys are kept in FP8 in inference.
    """
    if not block.index_heads:
        return []
    rows = step.tokens(shard)
    own = stream_rows(rows, shard)
    width, ratio = block.index_head_dim, block.compress_ratio
    key_width = width * (4 if ratio > 1 else 1)
    queries, _ = query_share(step, shard)
    seen = mean_keys(step.q_len, step.kv_len, step.kv_len) if step.causal else step.kv_len
    entries = seen / ratio
    inference = step.phase != "train"
    scores = Attention(
        part="attention/index",
        batch=step.sequences,
        q_len=queries,
        kv_len=entries,
        heads=block.index_heads,
        kv_heads=1.0,
        qk_head_dim=width,
        v_head_dim=1.0,
        causal=False,
        phase="decode" if step.phase == "decode" else "prefill",
        dtype="fp8" if inference else "bf16",
        kv_dtype="fp8" if inference else "bf16",
        latent=True,
    )
    return [
        linear("attention/index", own, (block.q_lora_rank, block.index_heads * width), shard),
        plain("attention/index", own, (hidden, key_width + block.index_heads)),
        vector("attention/index", "norm", (own * (key_width + block.index_heads * width), own * width), tokens=own),
        scores,
        vector(
            "attention/topk",
            "topk",
            (2 * own * entries, 2 * own * minimum(block.index_topk, entries)),
            flop=2 * own * entries,
            tokens=own,
        ),
    ]
