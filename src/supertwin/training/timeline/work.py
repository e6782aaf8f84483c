"""What a timeline plays: the priced blocks of the closed form summed to single stages instead of whole devices."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from supertwin.training.blocks import PARTS
from supertwin.training.exchange import hop_s, norm_s, optimizer_each_s, sends_in_line, tied_s
from supertwin.training.memory import moved_per_microbatch
from supertwin.training.offload import HostUpdate, host_link, host_update
from supertwin.training.passes import (
    ACCUMULATE,
    COLUMNS,
    HOST,
    Tables,
    accumulate_s,
    block_amounts,
    block_tables,
    copies_s,
    priced_blocks,
    waits_s,
)
from supertwin.training.setting import Setting, recomputed_share, stage_weights
from supertwin.training.sharding import Rounds, full_shard_rounds, is_fully_sharded, replica_rounds
from supertwin.training.stages import StagePlan
from supertwin.training.step import host_step_s
from supertwin.training.timeline.schedules import Schedule, schedule_of
from supertwin.training.weights import device_weights

Array = npt.NDArray[np.float64]

COMPUTE = np.array([name.startswith("compute/") for name in COLUMNS])


@dataclass(frozen=True, slots=True)
class PassWork:
    """One pass of one microbatch through every stage. exposed: [stages, COLUMNS]; hidden: [stages, PARTS];
    issue_s: host, copy_s: activations on the host link, [stages]."""

    exposed: Array
    hidden: Array
    issue_s: Array
    copy_s: Array


@dataclass(frozen=True, slots=True)
class StepWork:
    """All that happens in a step, in seconds, before anything waits for anything.

    wgrad_s: weight-gradient share of backward, [stages]; rounds: exchange with the replicas per stage; sharded: rounds
    are those of full sharding, once per microbatch; every: gradients are reduced after every microbatch (ZeRO-2);
    regather, prefetch: full sharding gathers again for backward, and ahead; blocking: compute waits for hand-overs;
    synced: the host issues an action only when the device begins it, since it synchronises after each hand-over in
    line (Megatron-Core, batch_p2p_sync) or waits inside for the sizes of the experts' products; optimizer_s: [pp];
    update: the host's part of it; loss: compute lost per second of collectives beside it, expert_loss: likewise of
    expert traffic; paired: forward and backward of a unit hide each other's expert traffic.
    """

    schedule: Schedule
    forward: PassWork
    backward: PassWork
    wgrad_s: Array
    rounds: tuple[Rounds, ...]
    sharded: bool
    every: bool
    regather: bool
    prefetch: bool
    hop_s: float
    blocking: bool
    synced: bool
    tied_s: float
    norm_s: float
    optimizer_s: Array
    update: HostUpdate
    host_s: float
    loss: float
    expert_loss: float
    paired: bool


def work_of(setting: Setting) -> StepWork:
    """Sum the blocks of a case to stages. Raises InputError for a schedule that cannot run on its devices."""
    case, layout = setting.case, setting.case.layout
    schedule = schedule_of(case.schedule, layout.pp, layout.vpp, setting.microbatches)
    staged = _staged(setting)
    tables = block_tables(setting, priced_blocks(setting))
    forward, backward = _passes(setting, staged, schedule, tables)
    waits = waits_s(setting)
    forward.exposed[:, HOST] += block_amounts(staged)[0] @ waits
    if not setting.framework.accumulation_fused:
        backward.exposed[:, ACCUMULATE] = accumulate_s(staged)
        if not case.blocking:
            backward.issue_s[:] += backward.exposed[:, ACCUMULATE]  # its launches are not in the blocks' own
    sharded = is_fully_sharded(case)
    if sharded:
        for side, seconds in zip((forward, backward), copies_s(staged), strict=True):
            side.exposed[:, ACCUMULATE] += seconds
    exchange = full_shard_rounds if sharded else replica_rounds
    dual = case.schedule in ("dualpipe", "dualpipev")
    return StepWork(
        schedule,
        forward,
        backward,
        block_amounts(staged)[0] @ tables[1].wgrad,
        tuple(
            exchange(case, setting.framework, setting.fabric, stage_weights(staged, stage))
            for stage in range(schedule.stages)
        ),
        sharded,
        case.sharding == "zero2",
        case.reshard,
        case.prefetch > 0,
        hop_s(setting),
        sends_in_line(setting),
        bool(waits.any()) or (layout.pp > 1 and sends_in_line(setting)),
        tied_s(setting),
        norm_s(setting),
        optimizer_each_s(setting),
        host_update(case, setting.framework, setting.weights),
        host_step_s(setting),
        setting.overlap.loss,
        setting.overlap.expert_loss,
        dual and setting.overlap.ep,
    )


def _staged(setting: Setting) -> Setting:
    """The setting with a row per stage along the model in place of one per device."""
    plan, case = setting.plan, setting.case
    kinds, stages = plan.counts.shape[1], len(plan.chunk_layers)
    ends = np.cumsum(plan.chunk_layers)
    counts = np.array(
        [
            np.bincount(case.model.order[end - size : end], minlength=kinds)
            for end, size in zip(ends, plan.chunk_layers, strict=True)
        ],
        dtype=np.float64,
    ).reshape(stages, kinds)
    first, last = np.zeros(stages), np.zeros(stages)
    first[0] = last[-1] = 1.0
    row = StagePlan(counts, first, last, plan.chunk_layers)
    return replace(setting, plan=row, weights=device_weights(case, row, setting.shard))


def _passes(setting: Setting, staged: Setting, schedule: Schedule, tables: Tables) -> tuple[PassWork, PassWork]:
    """Forward, and backward with recomputation, of every stage; a partly recomputed device is so in every stage."""
    forward, backward, again = tables
    amounts, repeated = block_amounts(staged)
    kinds = staged.plan.counts.shape[1]
    share = recomputed_share(setting.case, setting.plan)
    devices = [schedule.device(stage, 0) for stage in range(schedule.stages)]
    repeated[:, :kinds] = amounts[:, :kinds] * share[devices][:, None]
    link, moved = host_link(setting.case.system), np.zeros(schedule.stages)
    if setting.case.offload or setting.case.offload_modules:
        moved = moved_per_microbatch(staged)
    return (
        _pass(amounts @ forward.table, amounts @ forward.hidden, moved / link.out, setting.case.blocking),
        _pass(
            amounts @ backward.table + repeated @ again.table,
            amounts @ backward.hidden + repeated @ again.hidden,
            moved / link.back,
            setting.case.blocking,
        ),
    )


def _pass(table: Array, hidden: Array, copy_s: Array, blocking: bool) -> PassWork:
    """One pass of all stages; where launches block (case.blocking) host and device take turns."""
    exposed = np.zeros((len(table), len(COLUMNS)))
    exposed[:, : len(PARTS)] = table[:, : len(PARTS)]
    issue_s = table[:, len(PARTS)]
    if blocking:
        exposed[:, HOST] = issue_s
        issue_s = np.zeros_like(issue_s)
    return PassWork(exposed, hidden, issue_s, copy_s)
