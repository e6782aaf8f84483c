"""What a step does besides its microbatches: hand-overs of the pipeline, replicas, tied tables, optimizer."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from supertwin.training.frameworks import wire_bytes
from supertwin.training.pipeline import DeviceTimes
from supertwin.training.pricing import engine_of
from supertwin.training.routing import routed_block
from supertwin.training.setting import Setting, stage_weights
from supertwin.training.sharding import gather_bytes, replica_sync
from supertwin.training.weights import optimizer_traffic_bytes
from supertwin.workload.operators import Vector

Array = npt.NDArray[np.float64]


def replica_s(setting: Setting, times: DeviceTimes) -> float:
    """Exposed gradient reduction and parameter gather: the latest device, where earlier finishers have slack.

    Interleaved chunks are complete one after the other, a group of pp microbatches of the next chunk apart
    (Megatron-Core, is_last_microbatch_for_model_chunk), so that all but the last have more than one microbatch beside.
    """
    layout = setting.case.layout
    laps = (1.0 + (layout.vpp - 1.0) * min(layout.pp, setting.microbatches)) / layout.vpp
    slack = (np.cumsum(times.backward_s) - times.backward_s) / setting.case.layout.vpp
    latest = 0.0
    pp = len(slack)
    for device in sorted({0, pp // 2, pp - 1}):
        window = float(times.forward_s[device]), float(times.backward_s[device])
        weights = stage_weights(setting, device)
        sync = replica_sync(setting.case, setting.framework, setting.fabric, weights, window, (layout.vpp, laps))
        cost = sync.visible_s(setting.overlap.loss)
        latest = max(latest, cost - float(slack[device]))
    return latest + tied_s(setting) + copies_sync_s(setting)


def copies_sync_s(setting: Setting) -> float:
    """Copies of hot experts: their gradients go to the rank of the original and the new weights come back."""
    case, block = setting.case, routed_block(setting.case.model)
    if not case.redundant_experts or block is None:
        return 0.0
    share = case.redundant_experts / (block.experts + case.redundant_experts)
    trained = float(setting.weights.trained_experts.max()) * share
    sent = trained * (wire_bytes(setting.framework, case.precision) + gather_bytes(case))
    return setting.fabric.time_s("all_to_all", "ep", sent)


def tied_s(setting: Setting) -> float:
    """Tied embeddings on a pipeline: both copies of the table are summed between the first and the last device."""
    case = setting.case
    if not case.model.tied_embeddings or case.layout.pp == 1:
        return 0.0
    table = case.model.vocab * case.model.hidden / case.layout.tp * wire_bytes(setting.framework, case.precision)
    return setting.fabric.time_s("all_reduce", "tied", table)


def sends_in_line(setting: Setting) -> bool:
    """Whether compute waits for every hand-over: 1F1B in one chunk, where sending forward and receiving backward is one
    call (Megatron, send_forward_recv_backward), and stacks without overlap."""
    case = setting.case
    lockstep = case.layout.vpp == 1 and case.schedule in ("1f1b", "interleaved")
    return lockstep or not setting.framework.p2p_overlap


def handover_s(setting: Setting) -> float:
    """Exposed point-to-point time of the pipeline: every hop through all chunks while it fills and drains (laps of
    forwards or backwards alone leave nothing to hide them), and where compute waits for hand-overs those of the steady
    state, one per microbatch, chunk and direction."""
    layout = setting.case.layout
    hop = hop_s(setting)
    fill = 2.0 * (layout.pp * layout.vpp - 1) * hop
    return fill + (2.0 * layout.vpp * setting.microbatches * hop if sends_in_line(setting) else 0.0)


def hop_s(setting: Setting) -> float:
    """One tensor of a microbatch from a pipeline device to the next: whole, or cut over tp and gathered there."""
    case, layout = setting.case, setting.case.layout
    if layout.pp == 1:
        return 0.0
    whole = case.micro_batch * case.seq_len / layout.cp * case.model.hidden * 2.0
    if case.sequence_parallel:
        return setting.fabric.time_s("p2p", "pp", whole / layout.tp)
    if not setting.framework.p2p_scattered:
        return setting.fabric.time_s("p2p", "pp", whole)
    return setting.fabric.time_s("p2p", "pp", whole / layout.tp) + setting.fabric.time_s("all_gather", "tp", whole)


def optimizer_s(setting: Setting) -> float:
    """Gradient norm with its reduction, and the update of the device with most weights."""
    return float(optimizer_each_s(setting).max()) + norm_s(setting)


def optimizer_each_s(setting: Setting) -> Array:
    """Norm and update of its own weights on every pipeline device, shape [pp]."""
    traffic = optimizer_traffic_bytes(setting.case, setting.framework, setting.weights)
    update = Vector(part="optimizer/adam", op="optimizer", bytes_read=0.6 * traffic, bytes_written=0.4 * traffic)
    seconds: Array = np.asarray(engine_of(setting.case.system.chip).price([update])[0].time_s)
    return seconds


def norm_s(setting: Setting) -> float:
    """Reduction of the gradient norm over the whole job."""
    return setting.fabric.time_s("all_reduce", "world", 4.0)
