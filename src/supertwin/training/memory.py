"""Peak memory of every pipeline device: states, activations in flight, loss, work and communication buffers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from supertwin.core.prediction import Memory, StageMemory
from supertwin.model.spec import LayerSpec, ModelSpec
from supertwin.training import assumptions as assume
from supertwin.training.case import TrainingCase
from supertwin.training.offload import resident_bytes
from supertwin.training.pipeline import in_flight
from supertwin.training.setting import Setting, recomputed_share
from supertwin.training.sharding import is_fully_sharded
from supertwin.training.weights import PARAMETER_BYTES, StateBytes, state_bytes
from supertwin.workload.activations import Recompute, activation_bytes
from supertwin.workload.shard import Shard, Step

Array = npt.NDArray[np.float64]
_GROUPS = ("tp", "pp", "cp", "ep", "dp")


@dataclass(frozen=True, slots=True)
class Activations:
    """Bytes per pipeline device at the peak, arrays of shape [pp], and the microbatches in flight.

    layers: kept for the backward pass; expanded: the recomputed layer whose backward runs; loss: logits; mtp: modules
    of multi-token prediction; host: sent to host memory.
    """

    layers: Array
    expanded: Array
    loss: Array
    mtp: Array
    host: Array
    in_flight: Array

    @property
    def total(self) -> Array:
        """All that lies on the device."""
        return self.layers + self.expanded + self.loss + self.mtp


@dataclass(frozen=True, slots=True)
class Workspace:
    """Bytes per pipeline device beside the kept activations, arrays of shape [pp]."""

    working: Array
    gathered: Array
    libraries: Array
    fragmentation: Array

    @property
    def total(self) -> Array:
        """All of it."""
        return self.working + self.gathered + self.libraries + self.fragmentation


def peak_memory(setting: Setting) -> Memory:
    """Memory of the device with the highest peak, its finer parts, and every pipeline device."""
    states, activations, work = _pieces(setting)
    memory, worst, beyond = _worst(setting, states, activations, work)
    parts = {name: float(values[worst]) for name, values in _parts(states, activations, work)}
    return replace(
        memory,
        parts=parts | ({"optimizer_step": beyond} if beyond else {}),
        stages=_stages(states, activations, work, setting.framework.flat_step),
    )


def worst_memory(setting: Setting) -> Memory:
    """Memory of the device with the highest peak, without its finer parts (for searches)."""
    return _worst(setting, *_pieces(setting))[0]


def _pieces(setting: Setting) -> tuple[StateBytes, Activations, Workspace]:
    activations = activation_peak(setting)
    return (
        state_bytes(setting.case, setting.framework, setting.weights),
        activations,
        workspace_bytes(setting, activations),
    )


def _worst(
    setting: Setting, states: StateBytes, activations: Activations, work: Workspace
) -> tuple[Memory, int, float]:
    """The fullest device, its place, and what its optimizer step needs beyond its passes."""
    passes = activations.total + work.total
    worst = int(np.argmax(states.total + np.maximum(passes, states.step)))
    beyond = max(float(states.step[worst] - passes[worst]), 0.0)
    chip = setting.case.system.chip
    memory = Memory(
        parameters_bytes=float(states.parameters[worst]),
        gradients_bytes=float(states.gradients[worst]),
        optimizer_bytes=float(states.optimizer[worst]),
        activations_bytes=float(activations.total[worst]),
        workspace_bytes=float(work.total[worst]) + beyond,
        capacity_bytes=chip.usable_memory_bytes,
        communication_bytes=communication_bytes(setting.case),
        runtime_bytes=max(chip.memory_bytes - chip.usable_memory_bytes, 0.0),
        host_bytes=float(states.host[worst] + activations.host[worst]),
    )
    return memory, worst, beyond


def _parts(states: StateBytes, activations: Activations, work: Workspace) -> list[tuple[str, Array]]:
    """Finer parts of the peak by name; parts that are nowhere are left out."""
    parts = [
        ("weights", states.parameters - states.copies - states.reference),
        ("weight_copies", states.copies),
        ("reference_model", states.reference),
        ("gradients", states.gradients),
        ("master_weights", states.master),
        ("optimizer_moments", states.moments),
        ("kept_activations", activations.layers),
        ("expanded_layer", activations.expanded),
        ("loss", activations.loss),
        ("mtp", activations.mtp),
        ("working_tensors", work.working),
        ("gathered_layers", work.gathered),
        ("library_workspace", work.libraries),
        ("fragmentation", work.fragmentation),
    ]
    return [(name, values) for name, values in parts if values.any()]


def _stages(states: StateBytes, activations: Activations, work: Workspace, flat: bool) -> tuple[StageMemory, ...]:
    columns = (
        states.parameters, states.gradients, states.optimizer, activations.total, work.total, activations.in_flight,
        states.moments, states.step, states.step * float(flat),
    )  # fmt: skip
    return tuple(StageMemory(*values) for values in np.array(columns).T.tolist())


def activation_peak(setting: Setting) -> Activations:
    """Kept activations per device at the peak of its schedule.

    A recomputed layer keeps its input for every microbatch in flight, and one layer at a time is expanded while its
    backward runs. The loss holds the logits of one microbatch.
    """
    case, plan = setting.case, setting.plan
    step, shard, recipe = setting.microbatch, setting.shard, setting.recipe
    per_layer, expanded, sent = kept_per_microbatch(setting)
    held = held_microbatches(setting)
    layers = held * per_layer
    resident = resident_bytes(case, per_layer, held, plan.counts.sum(axis=1)) if case.offload else layers
    mtp = np.zeros(len(plan.counts))
    if case.model.mtp is not None:
        module = float(activation_bytes(case.model, case.model.mtp, step, shard, Recompute("none", recipe.flash)))
        mtp = plan.head * case.model.mtp_passes * module
    return Activations(
        layers=resident,
        expanded=expanded,
        loss=np.where(plan.head > 0, _loss_bytes(setting, step, shard), 0.0),
        mtp=mtp,
        host=layers - resident + held * sent,
        in_flight=held,
    )


def held_microbatches(setting: Setting) -> Array:
    """Microbatches in flight at the peak, shape [pp]."""
    case = setting.case
    return in_flight(case.layout.pp, case.layout.vpp, setting.microbatches, case.schedule)


def kept_per_microbatch(setting: Setting) -> tuple[Array, Array, Array]:
    """Bytes that the layers of each device keep for one microbatch, those of one layer expanded for its backward pass,
    and those of modules that go to host memory; shape [pp]."""
    plan = setting.plan
    policies = policies_of(setting)
    step, shard = setting.microbatch, setting.shard
    kept, full, home = (_kept_layers(setting.case.model, step, shard, policy) for policy in policies)
    sent = plan.counts @ (home - kept)
    if policies[0].mode != "full":
        return plan.counts @ kept, np.zeros(len(plan.counts)), sent
    share = recomputed_share(setting.case, plan)
    per_layer = share * (plan.counts @ kept) + (1.0 - share) * (plan.counts @ full)
    return per_layer, np.where(plan.counts > 0, full, 0.0).max(axis=1), sent


def moved_per_microbatch(setting: Setting) -> Array:
    """Bytes that each device sends to the host and fetches back for one microbatch, shape [pp]."""
    kept, _, sent = kept_per_microbatch(setting)
    result: Array = setting.case.offload * kept + sent
    return result


def policies_of(setting: Setting) -> tuple[Recompute, Recompute, Recompute]:
    """What a layer keeps on the device, when it is expanded, and on device and host together."""
    case, framework = setting.case, setting.framework
    recipe = setting.recipe
    again, away = frozenset(case.recompute_modules), frozenset(case.offload_modules)
    home = Recompute(
        recipe.recompute,
        recipe.flash,
        recipe.dropout,
        again,
        framework.plain_modules,
        case.lora_modules if case.task == "lora" else "",
        case.narrow_activation,
    )
    expanded = replace(home, mode="none") if home.mode == "full" else home
    return replace(home, modules=again | away) if away else home, expanded, home


@lru_cache(maxsize=2048)
def _kept_layers(model: ModelSpec, step: Step, shard: Shard, keep: Recompute) -> Array:
    """Bytes that each layer kind keeps per microbatch."""
    return np.array([float(activation_bytes(model, kind, step, shard, keep)) for kind in model.layers])


def _loss_bytes(setting: Setting, step: Step, shard: Shard) -> float:
    """Logits with what the loss makes of them at once (Framework.logit_bytes per logit; BF16 pair when fused)."""
    values = float(step.tokens(shard)) * setting.case.model.vocab / setting.case.layout.tp
    per_value = min(setting.framework.logit_bytes, 4.0) if setting.case.fused_loss else setting.framework.logit_bytes
    return per_value * values


def workspace_bytes(setting: Setting, activations: Activations) -> Workspace:
    """Framework workspaces, gradients of the widest tensors in work, gathered layers of full sharding,
    fragmentation."""
    case = setting.case
    step, shard = setting.microbatch, setting.shard
    tokens = float(step.tokens(shard))
    stream = 3.0 * tokens * case.model.hidden * 2.0 / (case.layout.tp if shard.sequence_parallel else 1)
    width = max((_width(case, kind) for kind in case.model.layers), default=0.0)
    like = np.ones_like(activations.layers)
    working = (stream + 2.0 * tokens * width) * like
    if not setting.framework.accumulation_fused:
        working = working + PARAMETER_BYTES * largest_weight(setting)
    gathered = _gathered_bytes(setting) if is_fully_sharded(case) else 0.0 * like
    return Workspace(
        working,
        gathered,
        assume.CONTEXT_BYTES.value * like,
        assume.FRAGMENTATION.value * activations.total,
    )


def _gathered_bytes(setting: Setting) -> Array:
    """Whole weights of the layer in work and of those gathered ahead (all layers without resharding), and the gradients
    of one layer, shape [pp]."""
    case, w, framework = setting.case, setting.weights, setting.framework
    per_layer = (w.dense + w.experts) / np.maximum(w.layers, 1.0)
    ahead = 1.0 + case.prefetch if case.reshard else np.maximum(w.layers, 1.0)
    live = np.maximum(ahead * per_layer, np.minimum(framework.live_weights, w.dense + w.experts))
    result: Array = live * PARAMETER_BYTES + per_layer * framework.reduce_bytes
    return result


def largest_weight(setting: Setting) -> Array:
    """Weights of the largest matrix on each device, shape [pp]: its new gradient lies beside the accumulated one until
    it is added, where the product does not accumulate itself."""
    model, layout = setting.case.model, setting.case.layout
    largest = 0.0
    for kind in model.layers:
        feed = kind.feed_forward
        if feed is not None:
            cut = feed.experts / (layout.ep * layout.etp) if feed.experts else 1.0 / layout.tp
            largest = max(largest, (2 if feed.gated else 1) * model.hidden * feed.inter * cut)
    table = setting.plan.head * model.vocab * model.hidden / layout.tp
    result: Array = np.maximum(largest, table)
    return result


def _width(case: TrainingCase, kind: LayerSpec) -> float:
    """Widest intermediate of a layer on one device, values per token."""
    feed, layout = kind.feed_forward, case.layout
    if feed is None:
        return 0.0
    wide = 2 if feed.gated else 1
    if feed.experts:
        return float(wide * feed.inter * feed.topk / layout.tp)
    return float(wide * feed.inter / layout.tp)


def communication_bytes(case: TrainingCase) -> float:
    """Staging buffers of the collective library: one set for all devices and one per axis that is cut."""
    groups = 1 + sum(getattr(case.layout, axis) > 1 for axis in _GROUPS)
    return float(groups * assume.COMMUNICATION_BUFFERS.value)
