"""What a step does besides its microbatches: hand-overs of the pipeline, replicas, tied tables, optimizer."""

from __future__ import annotations

import numpy as np

from supertwin.training.frameworks import wire_bytes
from supertwin.training.pipeline import DeviceTimes
from supertwin.training.pricing import engine_of
from supertwin.training.setting import Setting, stage_weights
from supertwin.training.sharding import replica_sync
from supertwin.training.weights import optimizer_traffic_bytes
from supertwin.workload.operators import Vector


def replica_s(setting: Setting, times: DeviceTimes) -> float:
    """Exposed gradient reduction and parameter gather: the latest device, where earlier finishers have slack."""
    slack = (np.cumsum(times.backward_s) - times.backward_s) / setting.case.layout.vpp
    latest = 0.0
    pp = len(slack)
    for device in sorted({0, pp // 2, pp - 1}):
        window = float(times.forward_s[device]), float(times.backward_s[device])
        sync = replica_sync(setting.case, setting.framework, setting.fabric, stage_weights(setting, device), window)
        cost = sync.visible_s(setting.overlap.loss)
        latest = max(latest, cost - float(slack[device]))
    return latest + tied_s(setting)


def tied_s(setting: Setting) -> float:
    """Tied embeddings on a pipeline: both copies of the table are summed between the first and the last device."""
    case = setting.case
    if not case.model.tied_embeddings or case.layout.pp == 1:
        return 0.0
    table = case.model.vocab * case.model.hidden / case.layout.tp * wire_bytes(setting.framework, case.precision)
    return setting.fabric.time_s("all_reduce", "tied", table)


def handover_s(setting: Setting) -> float:
    """Exposed point-to-point time of the pipeline: every hop while it fills and drains, and one hand-over per chunk and
    direction in the steady state unless the schedule sends beside compute (interleaved with overlap)."""
    case, layout = setting.case, setting.case.layout
    if layout.pp == 1:
        return 0.0
    hop = hop_s(setting)
    fill = 2.0 * (layout.pp - 1) * hop
    overlapped = setting.framework.p2p_overlap and (
        layout.vpp > 1 or case.schedule in ("zb-v", "dualpipe", "dualpipev")
    )
    steady = 0.0 if overlapped else 2.0 * layout.vpp * setting.microbatches * hop
    return fill + steady


def hop_s(setting: Setting) -> float:
    """One tensor of a microbatch from a pipeline device to the next: whole, or cut over tp and gathered there."""
    case, layout = setting.case, setting.case.layout
    whole = case.micro_batch * case.seq_len / layout.cp * case.model.hidden * 2.0
    if case.sequence_parallel:
        return setting.fabric.time_s("p2p", "pp", whole / layout.tp)
    if not setting.framework.p2p_scattered:
        return setting.fabric.time_s("p2p", "pp", whole)
    return setting.fabric.time_s("p2p", "pp", whole / layout.tp) + setting.fabric.time_s("all_gather", "tp", whole)


def optimizer_s(setting: Setting) -> float:
    """Gradient norm with its reduction, and the update of the device with most weights."""
    traffic = float(optimizer_traffic_bytes(setting.case, setting.framework, setting.weights).max())
    update = Vector(part="optimizer/adam", op="optimizer", bytes_read=0.6 * traffic, bytes_written=0.4 * traffic)
    cost = engine_of(setting.case.system.chip).price([update])[0]
    return float(cost.time_s) + setting.fabric.time_s("all_reduce", "world", 4.0)
