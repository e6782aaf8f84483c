"""One optimizer step put together: blocks to pipeline devices, schedule, replicas, optimizer and host."""

from __future__ import annotations

from dataclasses import dataclass

from supertwin.training import assumptions as assume
from supertwin.training.exchange import handover_s, optimizer_s, replica_s
from supertwin.training.offload import host_update, update_exposed_s
from supertwin.training.passes import COLUMNS, DevicePass, passes_of
from supertwin.training.pipeline import DeviceTimes, PipelineTime, paired_share, pipeline_time
from supertwin.training.setting import Setting
from supertwin.training.sharding import is_fully_sharded
from supertwin.training.weights import logprob_passes


@dataclass(frozen=True, slots=True)
class StepTime:
    """A step. parts: exposed seconds by name; they add up to total_s."""

    total_s: float
    parts: dict[str, float]
    pipeline: PipelineTime
    passes: DevicePass


def step_time(setting: Setting, device: int | None = None) -> StepTime:
    """Price one optimizer step. device: pipeline device whose parts are listed; None: the one that ends last."""
    case, layout = setting.case, setting.case.layout
    passes = passes_of(setting)
    times = DeviceTimes(passes.forward.sum(axis=1), passes.backward.sum(axis=1), passes.wgrad_s)
    pipeline = pipeline_time(times, setting.microbatches, case.schedule, layout.vpp)
    device = pipeline.slowest if device is None else device
    busy = setting.microbatches * (passes.forward[device] + passes.backward[device])
    parts = dict(zip(COLUMNS, busy.tolist(), strict=True))
    parts["bubble"] = pipeline.total_s - float(busy.sum())
    parts["communication/ep"] += unpaired_s(setting, passes, device)
    parts["communication/pp"] = handover_s(setting)
    parts["communication/dp"] += 0.0 if is_fully_sharded(case) else replica_s(setting, times)
    parts["optimizer"] = optimizer_s(setting)
    update = host_update(case, setting.framework, setting.weights)
    parts["offload/optimizer"] = update_exposed_s(case, update, parts["optimizer"], pipeline.total_s)
    parts["compute/logprob"] = logprob_s(setting, times)
    parts["host"] += host_step_s(setting)
    total = sum(parts.values())
    return StepTime(total, parts, pipeline, passes)


def unpaired_s(setting: Setting, passes: DevicePass, device: int) -> float:
    """Expert traffic of a step that stays visible because its forward or backward has no partner (DualPipe and
    DualPipeV, which hide it behind the other pass of a unit: nothing runs beside while they fill and drain)."""
    case = setting.case
    if not setting.overlap.ep or case.schedule not in ("dualpipe", "dualpipev"):
        return 0.0
    alone = 1.0 - paired_share(case.schedule, case.layout.pp, setting.microbatches, device)
    return alone * setting.microbatches * (1.0 - setting.overlap.expert_loss) * float(passes.hidden_ep_s[device])


def logprob_s(setting: Setting, times: DeviceTimes) -> float:
    """Forward passes over the batch before a policy update: log-probabilities of the old policy and of the reference
    (PPO and GRPO, arXiv 2402.03300). Each pass is a pipeline of forwards, m max f + the fill of the others."""
    passes = logprob_passes(setting.case)
    if not passes:
        return 0.0
    forward = times.forward_s
    fill = float(forward.sum() - forward.max()) / setting.case.layout.vpp
    return passes * (setting.microbatches * float(forward.max()) + fill)


def host_step_s(setting: Setting) -> float:
    """Host work of a step that nothing hides."""
    return assume.HOST_STEP_S.value * assume.host_slowness(assume.host_of(setting.case.system.chip))
