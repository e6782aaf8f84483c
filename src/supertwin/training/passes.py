"""One microbatch on every pipeline device: priced blocks summed by part, with recomputation, host and full sharding.

The closed form reads whole devices, the timeline single chunks; both come from the same block tables.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from supertwin.training import assumptions as assume
from supertwin.training.blocks import PARTS, Phase, phase
from supertwin.training.host import HostCost, host_cost
from supertwin.training.memory import moved_per_microbatch
from supertwin.training.offload import activation_exposed_s
from supertwin.training.pricing import PricedBlock, PricedModel, engine_of, priced_model
from supertwin.training.setting import Setting, recomputed_share, stage_weights
from supertwin.training.sharding import copied_bytes, full_shard_sync, is_fully_sharded
from supertwin.workload.operators import Vector

Array = npt.NDArray[np.float64]
COLUMNS = (*PARTS, "host", "communication/dp", "compute/accumulate", "offload/activations")
EP = PARTS.index("communication/ep")
CHECKPOINTED = ("full", "partial")
HOST, SHARDED, ACCUMULATE, OFFLOADED = (len(PARTS) + extra for extra in range(4))


@dataclass(frozen=True, slots=True)
class DevicePass:
    """Forward and backward of one microbatch per pipeline device. forward, backward: [pp, COLUMNS], exposed seconds."""

    forward: Array
    backward: Array
    wgrad_s: Array
    hidden_ep_s: Array  # expert traffic of one microbatch that compute hides, forward and backward
    executed_flop: float  # forward, backward and recomputation of one microbatch, busiest device
    moved_bytes: float


@dataclass(frozen=True, slots=True)
class BlockTable:
    """Every block of a model in one pass (forward, backward or again), rows in the order of `block_amounts`.

    table: exposed seconds by PARTS with launch seconds in the last column, [blocks, PARTS + 1]; hidden: communication
    that the block's own compute hides, [blocks, PARTS]; the rest are scalars per block.
    """

    table: Array
    hidden: Array
    wgrad: Array
    flop: Array
    moved: Array


Tables = tuple[BlockTable, BlockTable, BlockTable]
"""forward, backward, again."""


def passes_of(setting: Setting) -> DevicePass:
    """Price the model and sum it to devices, with separate accumulation and what full sharding leaves visible."""
    passes = device_passes(setting, block_tables(setting, priced_blocks(setting)))
    if not setting.framework.accumulation_fused:
        passes.backward[:, ACCUMULATE] = accumulate_s(setting)
    if is_fully_sharded(setting.case):
        for table, seconds in zip((passes.forward, passes.backward), copies_s(setting), strict=True):
            table[:, ACCUMULATE] += seconds
    passes = with_full_sharding(setting, passes) if is_fully_sharded(setting.case) else passes
    return with_offload(setting, passes) if setting.case.offload or setting.case.offload_modules else passes


def priced_blocks(setting: Setting) -> PricedModel:
    """Every block of the model on one device of the job."""
    case = setting.case
    engine = engine_of(case.system.chip, setting.framework.attention)
    return priced_model(engine, case.model, setting.microbatch, setting.shard, setting.recipe)


def block_tables(setting: Setting, priced: PricedModel) -> Tables:
    """One microbatch of each block: forward, backward, recomputation."""
    case = setting.case
    blocks = [*priced.layers, priced.embedding, priced.head, priced.mtp]
    launch, architecture = case.launch or setting.framework.launch, assume.host_of(case.system.chip)
    nested = "checkpoint" if case.recompute in CHECKPOINTED else "again"
    forward, backward, again = (
        _stack([_pass(block, name, setting) for block in blocks], host_cost(launch, architecture, stage))
        for name, stage in (("forward", "forward"), ("backward", "backward"), ("again", nested))
    )
    return forward, backward, again


def block_amounts(setting: Setting) -> tuple[Array, Array]:
    """How many of each block a device works through per microbatch, and how many it recomputes: [pp, blocks] each."""
    plan = setting.plan
    amounts = np.column_stack((plan.counts, plan.embedding, plan.head, plan.head * setting.case.model.mtp_passes))
    repeated = amounts.copy()
    repeated[:, : plan.counts.shape[1]] *= recomputed_share(setting.case, plan)[:, None]
    return amounts, repeated


def device_passes(setting: Setting, tables: Tables) -> DevicePass:
    """Sum blocks to pipeline devices, recomputation inside backward, host launch time as what the device waits for."""
    forward, backward, again = tables
    amounts, repeated = block_amounts(setting)
    blocking = setting.case.blocking
    ahead = with_host(amounts @ forward.table, blocking)
    ahead[:, HOST] += amounts @ waits_s(setting)
    return DevicePass(
        ahead,
        with_host(amounts @ backward.table + repeated @ again.table, blocking),
        amounts @ backward.wgrad,
        amounts @ (forward.hidden + backward.hidden)[:, EP] + repeated @ again.hidden[:, EP],
        float((amounts @ (forward.flop + backward.flop) + repeated @ again.flop).max()),
        float((amounts @ (forward.moved + backward.moved) + repeated @ again.moved).max()),
    )


def waits_for_counts(setting: Setting) -> bool:
    """Whether the host waits for the token counts of every MoE layer: dropless experts of an eager Megatron stack."""
    case = setting.case
    eager = (case.launch or setting.framework.launch) == "eager" and case.system.chip.vendor == "nvidia"
    return eager and setting.framework.grouped_experts and not case.pad_experts


def waits_s(setting: Setting) -> Array:
    """Forward seconds per block in which the device waits for the host to prepare the experts, [blocks]."""
    case, model = setting.case, setting.case.model
    kinds = [*model.layers, None, None, model.mtp]
    if not waits_for_counts(setting):
        return np.zeros(len(kinds))
    each = assume.HOST_EXPERTS_S.value * assume.host_slowness(assume.host_of(case.system.chip))
    blocks = [kind.feed_forward if kind is not None else None for kind in kinds]
    local = np.array([block.experts / case.layout.ep if block is not None else 0.0 for block in blocks])
    waits: Array = np.where(local > 0.0, each * (0.5 + 0.5 * local / 64.0), 0.0)
    return waits


def _pass(block: PricedBlock, name: str, setting: Setting) -> Phase:
    """One pass of a block. A host that waits for token counts cannot issue the other microbatch meanwhile: the forward
    exchange stays exposed, the backward one (counts are known) runs beside compute."""
    overlap = setting.overlap
    if overlap.ep and name != "backward" and waits_for_counts(setting):
        overlap = replace(overlap, ep=False)
    return phase(getattr(block.operators, name), getattr(block, name), setting.fabric, overlap)


def _stack(phases: list[Phase], host: HostCost) -> BlockTable:
    """Phases of all blocks as a table, with the time to issue them."""
    rows = [[*p.times, host.issue_s(p.kernels, p.calls)] for p in phases]
    scalars = [np.array([getattr(p, name) for p in phases]) for name in ("wgrad_s", "flop", "moved_bytes")]
    return BlockTable(np.array(rows), np.array([p.hidden for p in phases]), *scalars)


def with_host(table: Array, blocking: bool = False) -> Array:
    """Turn the launch time in the host column into what it exceeds the device's own work by (blocking launches: all of
    it, host and device take turns); adds empty columns."""
    result = np.column_stack((table, np.zeros((len(table), len(COLUMNS) - table.shape[1]))))
    if not blocking:
        result[:, HOST] = np.maximum(table[:, HOST] - table[:, :HOST].sum(axis=1), 0.0)
    return result


def accumulate_s(setting: Setting) -> Array:
    """Separate pass per microbatch that adds new gradients to the accumulated ones, shape [pp]: 2-byte gradients
    in place (6 bytes per weight), BF16 into FP32 (10 bytes)."""
    weights = setting.weights
    in_place = setting.case.precision == "fp16" or setting.framework.gradient_bytes == 2.0
    each = 6.0 if in_place else 10.0
    moved = each * (weights.trained_dense + weights.trained_experts)
    add = Vector(part="accumulate", op="add", bytes_read=0.6 * moved, bytes_written=0.4 * moved)
    seconds: Array = np.asarray(engine_of(setting.case.system.chip).price([add])[0].time_s)
    return seconds


def copies_s(setting: Setting) -> tuple[Array, Array]:
    """(forward, backward) seconds per microbatch of copies that sharding parameter by parameter needs, shape [pp]."""
    devices = range(len(setting.weights.layers))
    moved = [copied_bytes(setting.case, setting.framework, stage_weights(setting, device)) for device in devices]
    if not any(back for _, back in moved):
        return np.zeros(len(moved)), np.zeros(len(moved))
    half = 0.5 * np.array(moved)
    copy = Vector(part="accumulate", op="copy", bytes_read=half, bytes_written=half)
    seconds = np.asarray(engine_of(setting.case.system.chip).price([copy])[0].time_s)
    return seconds[:, 0], seconds[:, 1]


def with_full_sharding(setting: Setting, passes: DevicePass) -> DevicePass:
    """Add what full sharding leaves visible of its gathers and reduce-scatters in every microbatch."""
    forward, backward = passes.forward.copy(), passes.backward.copy()
    for device in range(len(forward)):
        window = float(forward[device].sum()), float(backward[device].sum())
        syncs = full_shard_sync(setting.case, setting.framework, setting.fabric, stage_weights(setting, device), window)
        for table, sync in zip((forward, backward), syncs, strict=True):
            table[device, SHARDED] += sync.visible_s(setting.overlap.loss)
    return replace(passes, forward=forward, backward=backward)


def with_offload(setting: Setting, passes: DevicePass) -> DevicePass:
    """Add what moving activations to the host and back leaves visible in every microbatch."""
    forward, backward = passes.forward.copy(), passes.backward.copy()
    window = forward.sum(axis=1), backward.sum(axis=1)
    visible = activation_exposed_s(setting.case, moved_per_microbatch(setting), window)
    for table, seconds in zip((forward, backward), visible, strict=True):
        table[:, OFFLOADED] += seconds
    return replace(passes, forward=forward, backward=backward)
