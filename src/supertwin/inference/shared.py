"""A prefix that all requests of an attention rank share, such as a system prompt, in decode.

Its keys lie in memory once (prefix caching). Cascade attention also reads them once: queries of all sequences attend
to it in one call, cut into chunks of keys that run side by side, each sequence to its own keys in another, and partial
results are merged by their log-sum-exp (Hydragen, arXiv 2402.05099; FlashInfer, cascade inference). Like in vLLM
(use_cascade_attention) it is left out below 256 tokens and 8 sequences, and where it does not pay for its kernels.
Latent attention of many heads is bound by arithmetic, windows do not reach back, sparse cores pick: they stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from supertwin.core.formats import number_format
from supertwin.inference.layers import Block
from supertwin.machine.chip import Chip
from supertwin.model.spec import ModelSpec
from supertwin.workload.attention import stored_bytes_per_token
from supertwin.workload.operators import Attention, Operator, Vector, changed
from supertwin.workload.shard import Shard

LEAST_TOKENS, LEAST_SEQUENCES, CHUNK_KEYS = 256, 8.0, 512.0
TWO_KERNELS_S = 25e-6
"""Time that the reads it saves must exceed: a second core and a merge (assumption)."""
_PARTIAL_BYTES, _RESULT_BYTES = 4.0, 2.0  # of a value of each partial result (FP32) and of the merged one


def with_cascade(blocks: Sequence[Block], prefix: int, ranks: int, chip: Chip) -> tuple[Block, ...]:
    """Blocks whose decode cores read the prefix once. ranks: devices over which the cache of a sequence is cut."""
    if prefix < LEAST_TOKENS:
        return tuple(blocks)
    return tuple(
        replace(block, operators=tuple(x for o in block.operators for x in _cascaded(o, prefix / ranks, chip)))
        for block in blocks
    )


def _cascaded(o: Operator, prefix: float, chip: Chip) -> list[Operator]:
    """A core in its parts where that pays; in a sweep the parts of the other entries run no time."""
    if not (isinstance(o, Attention) and o.phase == "decode" and o.part.endswith("attention/core")):
        return [o]
    if o.latent or o.gathered or np.any(o.window):
        return [o]
    pays = _pays(o, prefix, chip)
    if not np.any(pays):
        return [o]
    times = pays.astype(np.float64) if isinstance(pays, np.ndarray) and pays.ndim else 1.0
    queries, chunks = o.batch * o.q_len, max(prefix / CHUNK_KEYS, 1.0)
    values = queries * o.heads * o.v_head_dim
    together = changed(o, batch=chunks, q_len=queries, kv_len=prefix / chunks, causal=False, phase="prefill")
    merge = Vector(
        part=o.part.replace("core", "merge"), op="add", count=o.count * times, flop=values * 4.0,
        bytes_read=(chunks + 1.0) * values * _PARTIAL_BYTES, bytes_written=values * _RESULT_BYTES,
    )  # fmt: skip
    own = changed(o, kv_len=o.kv_len - prefix * times)
    return [changed(together, count=o.count * times), own, merge]


def _pays(o: Attention, prefix: float, chip: Chip) -> bool | npt.NDArray[np.bool_]:
    """Whether the sequences are enough, see the prefix and something else, and save more than two kernels take."""
    size = o.kv_heads * (o.qk_head_dim + o.v_head_dim) * number_format(o.kv_dtype).bytes_per_element
    saved_s = (o.batch - 1.0) * prefix * size / chip.memory_bytes_per_s
    pays: bool | npt.NDArray[np.bool_] = (o.batch >= LEAST_SEQUENCES) & (o.kv_len > prefix) & (saved_s > TWO_KERNELS_S)
    return pays


def shared_bytes(model: ModelSpec, shard: Shard, prefix: float) -> float:
    """Cache of the prefix on one device: what every further sequence does not hold. Windows and recurrent states are
    each sequence's own."""
    blocks = ((x.attention, x.count) for x in model.layers if x.attention is not None)
    kept = (
        float(np.max(stored_bytes_per_token(a, shard))) * n for a, n in blocks if not a.window or a.compress_ratio > 1
    )
    return prefix * sum(kept)
