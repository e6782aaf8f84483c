"""Keys in host memory under sparse attention: a pool on the device, what it misses is read from the host.

The indexer stays on the device with its own keys. Every layer gathers the picked entries (top-k per query token) into a
buffer for the core, from the pool or over the host link; the pool is refilled on a side stream, which hides it. Layers
that share the picks share the look-up. cann-recipes-infer, docs/models/glm_5_2 and deepseek_v3_2_exp ("KVCache
Offload"): hit rates of the full model at 64K tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from supertwin.core.formats import number_format
from supertwin.machine.system import System
from supertwin.workload.operators import Attention, Communication, Operator, Real, Vector
from supertwin.workload.shard import maximum, minimum

HOST = "host"
POOL_OVER_TOPK = (1.0, 4.0, 8.0)
"""Entries of the pool over those of one query's picks: the previous picks alone, 8,192 and 16,384 of 2,048."""
HIT_RATES = (0.5885, 0.85, 0.90)
"""Share of the picks found in such a pool (set-associative, first in first out; LRU of 8,192 entries: 0.905)."""
HOST_STREAM_SHARE = 0.72
"""Of the peak rate of host memory, when all devices of a node read (STREAM-like run on an Atlas A2 host: 442 of 614
GB/s)."""
READS_PER_ENTRY, READ_S = 2.0, 0.997e-6
"""Latent and rotary part of an entry lie apart (1,024 and 128 bytes); a read of 512 bytes from the node's host memory
takes 0.997 us (CM384 paper, table 1). Vector cores fetch missed entries one by one, each with one read under way
(assumption; the two pools of the GLM-5.2 guide differ by 64 ns per missed entry, here 42)."""


def hit_rate(pool: float, topk: Real) -> Real:
    """Share of the picked entries that lie on the device; pool: entries per sequence, linear in its logarithm."""
    position = np.log2(maximum(pool / topk, 1.0))
    known = [(float(np.log2(x)), rate) for x, rate in zip(POOL_OVER_TOPK, HIT_RATES, strict=True)]
    found: Real = known[0][1]
    for (left, low), (right, high) in pairwise(known):
        inside = minimum(maximum(position - left, 0.0), right - left)
        found = found + (high - low) / (right - left) * inside
    return found


def with_host_keys(operators: Sequence[Operator], pool: int) -> list[Operator]:
    """Before every core that gathers picked entries: what the pool misses comes from the host, then all of them are
    copied into the buffer that the core reads. pool: entries per sequence on the device, 0: all."""
    if not pool:
        return list(operators)
    out: list[Operator] = []
    for o in operators:
        if isinstance(o, Attention) and o.gathered:
            picked = o.batch * o.q_len * o.kv_len * o.qk_head_dim * number_format(o.kv_dtype).bytes_per_element
            share = 1.0 - hit_rate(pool, o.kv_len)
            entries = o.batch * o.q_len * o.kv_len * share
            part = o.part.rsplit("/", 1)[0] + "/offload"
            fetch = Communication(part=part, op="fetch", axis=HOST, message_bytes=picked * share, tokens=entries)
            out.append(fetch)
            out.append(Vector(part=part, op="permute", bytes_read=picked, bytes_written=picked))
        out.append(o)
    return out


def fetch_s(system: System, size_bytes: Real, entries: Real = 0.0) -> Real:
    """Seconds of a read from host memory while every device of the node reads: link, share of the memory, or the
    latency of single entries."""
    sharers = min(system.devices_per_node, system.devices)
    memory = system.host_memory_bytes_per_s_per_node * HOST_STREAM_SHARE / sharers
    rates = [rate for rate in (system.host_link_bytes_per_s, memory) if rate > 0.0]
    if not rates:
        return size_bytes * np.inf
    one_by_one = entries * READS_PER_ENTRY * READ_S / max(system.chip.vector_cores, 1)
    return maximum(size_bytes / min(rates), one_by_one)
