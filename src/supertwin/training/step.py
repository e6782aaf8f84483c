"""One optimizer step put together: blocks to pipeline devices, schedule, replicas, optimizer and host."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from supertwin.training import assumptions as assume
from supertwin.training.blocks import PARTS, Phase, phase
from supertwin.training.host import HostCost, host_cost
from supertwin.training.pipeline import DeviceTimes, PipelineTime, pipeline_time
from supertwin.training.pricing import PricedBlock, PricedModel, engine_of, priced_model
from supertwin.training.setting import Setting, recomputed_share, stage_weights
from supertwin.training.shape import recipe_of, shard_of, step_of
from supertwin.training.sharding import full_shard_sync, is_fully_sharded, replica_sync
from supertwin.training.weights import optimizer_traffic_bytes
from supertwin.workload.operators import Vector

Array = npt.NDArray[np.float64]
COLUMNS = (*PARTS, "host", "communication/dp", "compute/accumulate")
CHECKPOINTED = ("full", "partial")
HOST, SHARDED, ACCUMULATE = len(PARTS), len(PARTS) + 1, len(PARTS) + 2


@dataclass(frozen=True, slots=True)
class DevicePass:
    """Forward and backward of one microbatch per pipeline device. forward, backward: [pp, COLUMNS], exposed seconds."""

    forward: Array
    backward: Array
    wgrad_s: Array
    executed_flop: float  # forward, backward and recomputation of one microbatch, busiest device
    moved_bytes: float


@dataclass(frozen=True, slots=True)
class StepTime:
    """A step. parts: exposed seconds by name; they add up to total_s."""

    total_s: float
    parts: dict[str, float]
    pipeline: PipelineTime
    passes: DevicePass
    memory_bound_s: float


def step_time(setting: Setting) -> StepTime:
    """Price one optimizer step."""
    case, layout = setting.case, setting.case.layout
    engine = engine_of(case.system.chip, setting.framework.attention)
    shard = shard_of(case, setting.framework)
    priced = priced_model(engine, case.model, step_of(case), shard, recipe_of(case, setting.framework))
    passes = device_passes(setting, priced)
    if not setting.framework.accumulation_fused:
        passes.backward[:, ACCUMULATE] = accumulate_s(setting)
    if is_fully_sharded(case):
        passes = with_full_sharding(setting, passes)
    times = DeviceTimes(passes.forward.sum(axis=1), passes.backward.sum(axis=1), passes.wgrad_s)
    pipeline = pipeline_time(times, setting.microbatches, case.schedule, layout.vpp)
    slowest = pipeline.slowest
    busy = setting.microbatches * (passes.forward[slowest] + passes.backward[slowest])
    parts = dict(zip(COLUMNS, busy.tolist(), strict=True))
    parts["bubble"] = pipeline.bubble_s
    parts["communication/pp"] = handover_s(setting)
    parts["communication/dp"] += 0.0 if is_fully_sharded(case) else replica_s(setting, times)
    parts["optimizer"] = optimizer_s(setting)
    parts["host"] += assume.HOST_STEP_S.value * assume.host_slowness(case.system.chip.architecture)
    total = sum(parts.values())
    return StepTime(total, parts, pipeline, passes, parts["optimizer"])


def device_passes(setting: Setting, priced: PricedModel) -> DevicePass:
    """Sum blocks to pipeline devices, recomputation inside backward, host launch time as what the device waits for."""
    case, plan = setting.case, setting.plan
    share = recomputed_share(case, plan)
    blocks = [*priced.layers, priced.embedding, priced.head, priced.mtp]
    amounts = np.column_stack(
        (plan.counts, plan.embedding, plan.head, plan.head * case.model.mtp_count)
    )  # [pp, blocks]
    launch, architecture = case.launch or setting.framework.launch, case.system.chip.architecture
    nested = "checkpoint" if case.recompute in CHECKPOINTED else "again"
    forward, backward, again = (
        _stack([_pass(block, name, setting) for block in blocks], host_cost(launch, architecture, stage))
        for name, stage in (("forward", "forward"), ("backward", "backward"), ("again", nested))
    )
    repeated = amounts.copy()
    repeated[:, : plan.counts.shape[1]] *= share[:, None]
    return DevicePass(
        _with_host(amounts @ forward.table),
        _with_host(amounts @ backward.table + repeated @ again.table),
        amounts @ backward.wgrad,
        float((amounts @ (forward.flop + backward.flop) + repeated @ again.flop).max()),
        float((amounts @ (forward.moved + backward.moved) + repeated @ again.moved).max()),
    )


@dataclass(frozen=True, slots=True)
class _Table:
    """Per block: seconds by PARTS with launch seconds in the last column, and scalars."""

    table: Array
    wgrad: Array
    flop: Array
    moved: Array


def _pass(block: PricedBlock, name: str, setting: Setting) -> Phase:
    return phase(getattr(block.operators, name), getattr(block, name), setting.fabric, setting.overlap)


def _stack(phases: list[Phase], host: HostCost) -> _Table:
    """Phases of all blocks as a table, with the time to issue them."""
    rows = [np.append(p.times, host.issue_s(p.kernels, p.calls)) for p in phases]
    scalars = [np.array([getattr(p, name) for p in phases]) for name in ("wgrad_s", "flop", "moved_bytes")]
    return _Table(np.array(rows), *scalars)


def _with_host(table: Array) -> Array:
    """Turn the launch time in the host column into what it exceeds the device's own work by; adds empty columns."""
    result = np.column_stack((table, np.zeros((len(table), len(COLUMNS) - table.shape[1]))))
    result[:, HOST] = np.maximum(table[:, HOST] - table[:, :HOST].sum(axis=1), 0.0)
    return result


def accumulate_s(setting: Setting) -> Array:
    """Separate pass per microbatch that adds new gradients to the accumulated ones, shape [pp]: FP16 in place (6 bytes
    per weight), BF16 into FP32 (10 bytes)."""
    weights = setting.weights
    each = 6.0 if setting.case.precision == "fp16" else 10.0
    moved = each * (weights.trained_dense + weights.trained_experts)
    add = Vector(part="accumulate", op="add", bytes_read=0.6 * moved, bytes_written=0.4 * moved)
    seconds: Array = np.asarray(engine_of(setting.case.system.chip).price([add])[0].time_s)
    return seconds


def with_full_sharding(setting: Setting, passes: DevicePass) -> DevicePass:
    """Add what full sharding leaves visible of its gathers and reduce-scatters in every microbatch."""
    forward, backward = passes.forward.copy(), passes.backward.copy()
    for device in range(len(forward)):
        window = float(forward[device].sum()), float(backward[device].sum())
        syncs = full_shard_sync(setting.case, setting.framework, setting.fabric, stage_weights(setting, device), window)
        for table, sync in zip((forward, backward), syncs, strict=True):
            table[device, SHARDED] += sync.visible_s(setting.overlap.loss)
    return replace(passes, forward=forward, backward=backward)


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
    table = case.model.vocab * case.model.hidden / case.layout.tp * setting.framework.reduce_bytes
    return setting.fabric.time_s("all_reduce", "tied", table)


def handover_s(setting: Setting) -> float:
    """Exposed point-to-point time of the pipeline: every hop while it fills and drains, and one hand-over per chunk and
    direction in the steady state unless the schedule sends beside compute (interleaved with overlap)."""
    case, layout = setting.case, setting.case.layout
    if layout.pp == 1:
        return 0.0
    tokens = case.micro_batch * case.seq_len / layout.cp
    message = tokens * case.model.hidden * 2.0 / (layout.tp if case.sequence_parallel else 1)
    hop = setting.fabric.time_s("p2p", "pp", message)
    fill = 2.0 * (layout.pp - 1) * hop
    overlapped = setting.framework.p2p_overlap and (
        layout.vpp > 1 or case.schedule in ("zb-v", "dualpipe", "dualpipev")
    )
    steady = 0.0 if overlapped else 2.0 * layout.vpp * setting.microbatches * hop
    return fill + steady


def optimizer_s(setting: Setting) -> float:
    """Gradient norm with its reduction, and the update of the device with most weights."""
    traffic = float(optimizer_traffic_bytes(setting.case, setting.framework, setting.weights).max())
    update = Vector(part="optimizer/adam", op="optimizer", bytes_read=0.6 * traffic, bytes_written=0.4 * traffic)
    cost = engine_of(setting.case.system.chip).price([update])[0]
    return float(cost.time_s) + setting.fabric.time_s("all_reduce", "world", 4.0)
