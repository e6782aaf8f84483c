"""Size of the context cache against the prefixes that are asked for: its hit rate.

M prefixes of t tokens with Zipf popularity; the medium keeps C = share x capacity / (t x bytes per token) of them, and
an LRU cache of C hits at the rate of popularity.py. In HBM every prefill instance has its own cache and sees all
prefixes (requests are not routed by prefix), so C is that of one instance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from supertwin.core.errors import InputError
from supertwin.inference.deploy.handover import held_bytes
from supertwin.inference.deploy.popularity import zipf_hit_rate
from supertwin.inference.deploy.prefix import medium_of
from supertwin.inference.deploy.service import Service
from supertwin.inference.memory import largest_batch

POOL_SHARE = 0.5
"""Share of the host memory that the pool may take (assumption: the rest holds weights and the system)."""


@dataclass(frozen=True, slots=True)
class Pool:
    """prefix_bytes: of one prefix; held: prefixes that fit; hit: share of requests whose prefix is there."""

    capacity_bytes: float
    prefix_bytes: float
    held: float
    hit: float


def pool(service: Service, prefixes: float, prefix_tokens: float, exponent: float = 1.0) -> Pool:
    """The cache of the service's medium for a working set of `prefixes` of prefix_tokens each. Raises InputError."""
    if not prefix_tokens >= 1:
        raise InputError(f"prefixes of {prefix_tokens:g} tokens: expected at least 1")
    rank = service.prefill.tp * service.prefill.pp
    each = held_bytes(service, service.prefill, prefix_tokens) * rank
    medium = medium_of(service.system, service.cache)
    if medium.name == "hbm":
        free = largest_batch(service.model, service.system, service.prefill, prefix_tokens, service.engine) * each
        capacity = max(free, 0.0)
    elif medium.name == "host":
        nodes = max(1.0, service.prefill.devices / service.system.devices_per_node)
        capacity = POOL_SHARE * service.system.host_memory_bytes_per_node * nodes
    else:
        capacity = POOL_SHARE * medium.capacity_bytes if math.isfinite(medium.capacity_bytes) else math.inf
    held = min(capacity / each, prefixes)
    return Pool(capacity, each, held, zipf_hit_rate(prefixes, held, exponent))
