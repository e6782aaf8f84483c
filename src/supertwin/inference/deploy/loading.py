"""Time to bring a model's weights to instances: object store, shared pool, memory of the own node.

B bytes of checkpoint, n instances of D devices:

    object store, every instance by itself       n B / bucket                  (they share one bucket)          (1)
    object store once, then from the pool        B / bucket                    (the rest is hidden behind it)   (2)
    from the pool or the own node's memory       max(w / line, n D w / sources)  w: weights of one device       (3)
    switch to one of M models, a share h cached  h warm + (1 - h) cold                                          (4)

Table 2 of the CM384 paper: DeepSeek-R1, 8 instances, a bucket of 2.5 GB/s; it takes one reader per instance in (3).
"""

from __future__ import annotations

from dataclasses import dataclass

from supertwin.core.formats import number_format
from supertwin.inference.deploy.prefix import medium_of, reaches_hosts
from supertwin.inference.deploy.service import Service
from supertwin.inference.layers import shard_of
from supertwin.inference.memory import weights_bytes
from supertwin.inference.placement import place
from supertwin.machine.systems import with_devices
from supertwin.model.parameters import parameter_count
from supertwin.network.transfer import UNMEASURED_SHARE

BUCKET_BYTES_PER_S = 2.5e9
"""Bandwidth of one bucket of the object store (CM384 paper, table 2: OBS)."""
STORE_SHARE = UNMEASURED_SHARE
"""Share of it that a download reaches: as every transfer engine without a measurement."""
READ_BYTES = 2.0**26
"""Bytes of one read of weights: large enough that its fixed cost does not count."""


@dataclass(frozen=True, slots=True)
class Loading:
    """Times in s. cold_alone_s: no cache, every instance downloads (1); cold_pool_s: one download for all (2);
    local_s, pool_s: weights already in the own node's memory or in the pool (3); *_copies: copies of the checkpoint in
    host memory; local_hit: share of models that the own memory holds; switch_*_s: expected time to switch (4)."""

    checkpoint_bytes: float
    instances: int
    cold_alone_s: float
    cold_pool_s: float
    local_s: float | None
    pool_s: float | None
    local_copies: int
    pool_copies: int
    local_hit: float
    switch_cold_s: float
    switch_local_s: float | None
    switch_pool_s: float | None


def checkpoint_bytes(service: Service) -> float:
    """Weights of the model in their stored format, without the MTP module's copies: what is downloaded."""
    return parameter_count(service.model).total * number_format(service.decode.weight_dtype).bytes_per_element


def loading(
    service: Service,
    instances: int | None = None,
    models: int = 8,
    local_models: float = 1.0,
    readers: int = 0,
    bucket_bytes_per_s: float = BUCKET_BYTES_PER_S,
) -> Loading:
    """Load and switch times of the decode deployment's weights.

    instances: that load at once (default: all of the service); models: among which instances switch; local_models: how
    many of them the memory of an instance's nodes holds; readers: devices of an instance that read at the same time
    (0: all of them, each its own weights; 1: one stream for the whole checkpoint).
    """
    number = instances or service.prefill_instances + service.decode_instances
    size = checkpoint_bytes(service)
    once = size / (bucket_bytes_per_s * STORE_SHARE)
    local, pool = (_from_memory(service, medium, number, readers) for medium in ("host", "ub"))
    hit = min(1.0, local_models / max(models, 1))
    return Loading(
        checkpoint_bytes=size,
        instances=number,
        cold_alone_s=number * once,
        cold_pool_s=once,
        local_s=local,
        pool_s=pool,
        local_copies=number,
        pool_copies=1,
        local_hit=hit,
        switch_cold_s=once,
        switch_local_s=None if local is None else hit * local + (1.0 - hit) * once,
        switch_pool_s=pool,
    )


def _from_memory(service: Service, medium: str, instances: int, readers: int) -> float | None:
    """(3); None where the machine has no such memory in the catalogue."""
    system, d = service.system, service.decode
    if not system.host_memory_bytes_per_node or (medium == "host" and not system.host_link_bytes_per_s):
        return None
    if medium == "ub":
        if not reaches_hosts(system):
            return None
        system = with_devices(system, min(system.devices, system.full_devices))  # every supernode has a pool of its own
    shard = shard_of(service.model, d, place(d), system.chip, service.engine)
    own = weights_bytes(service.model, d, shard)
    streams = min(readers, d.devices) if readers else d.devices
    each = own if not readers else checkpoint_bytes(service) / streams
    way = medium_of(system, medium)
    if way.line is None:
        return None
    alone = way.line.seconds(READ_BYTES, each / READ_BYTES)
    if medium == "host":
        return max(
            alone, each * min(streams, system.devices_per_node) / (way.share_bytes_per_s * system.devices_per_node)
        )
    sources_bytes_per_s = way.share_bytes_per_s * system.devices_per_node * service.system.nodes
    return max(alone, instances * streams * each / sources_bytes_per_s)
