"""Peak memory of the worst pipeline device: states, activations in flight, loss and communication buffers."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from supertwin.core.prediction import Memory
from supertwin.model.spec import LayerSpec, ModelSpec
from supertwin.training import assumptions as assume
from supertwin.training.case import TrainingCase
from supertwin.training.offload import resident_bytes
from supertwin.training.pipeline import in_flight
from supertwin.training.setting import Setting, recomputed_share
from supertwin.training.shape import recipe_of, shard_of, step_of
from supertwin.training.sharding import is_fully_sharded
from supertwin.training.weights import PARAMETER_BYTES, state_bytes
from supertwin.workload.memory import Recompute, activation_bytes
from supertwin.workload.shard import Shard, Step

Array = npt.NDArray[np.float64]


def peak_memory(setting: Setting) -> Memory:
    """Memory of the device with the highest peak."""
    states = state_bytes(setting.case, setting.framework, setting.weights)
    activations = activation_peak(setting)
    workspace = workspace_bytes(setting, activations)
    worst = int(np.argmax(states.parameters + states.gradients + states.optimizer + activations + workspace))
    return Memory(
        parameters_bytes=float(states.parameters[worst]),
        gradients_bytes=float(states.gradients[worst]),
        optimizer_bytes=float(states.optimizer[worst]),
        activations_bytes=float(activations[worst]),
        workspace_bytes=float(workspace[worst]),
        capacity_bytes=setting.case.system.chip.usable_memory_bytes,
    )


def activation_peak(setting: Setting) -> Array:
    """Kept activations per device at the peak of its schedule, shape [pp].

    A recomputed layer keeps its input for every microbatch in flight, and one layer at a time is expanded while its
    backward runs. The loss holds the logits of one microbatch.
    """
    case, plan = setting.case, setting.plan
    step, shard = step_of(case), shard_of(case, setting.framework)
    recipe = recipe_of(case, setting.framework)
    per_layer, expanded = kept_per_microbatch(setting)
    held = held_microbatches(setting)
    held_bytes = resident_bytes(case, per_layer, held, plan.counts.sum(axis=1)) if case.offload else held * per_layer
    result: Array = held_bytes + expanded + _loss_bytes(setting, step, shard)
    if case.model.mtp is not None:
        module = activation_bytes(case.model, case.model.mtp, step, shard, Recompute("none", recipe.flash))
        result = result + plan.head * case.model.mtp_passes * float(module)
    return result


def held_microbatches(setting: Setting) -> Array:
    """Microbatches in flight at the peak, shape [pp]."""
    case = setting.case
    return in_flight(case.layout.pp, case.layout.vpp, setting.microbatches, case.schedule)


def kept_per_microbatch(setting: Setting) -> tuple[Array, Array]:
    """Bytes that the layers of each device keep for one microbatch, and those of one layer expanded for its backward
    pass; shape [pp]."""
    case, plan = setting.case, setting.plan
    recipe = recipe_of(case, setting.framework)
    step, shard = step_of(case), shard_of(case, setting.framework)
    kept, full = _kept_layers(case.model, step, shard, (recipe.recompute, recipe.flash, recipe.dropout))
    if recipe.recompute != "full":
        return plan.counts @ kept, np.zeros(len(plan.counts))
    share = recomputed_share(case, plan)
    per_layer = share * (plan.counts @ kept) + (1.0 - share) * (plan.counts @ full)
    return per_layer, np.where(plan.counts > 0, full, 0.0).max(axis=1)


@lru_cache(maxsize=2048)
def _kept_layers(model: ModelSpec, step: Step, shard: Shard, policy: tuple[str, bool, bool]) -> tuple[Array, Array]:
    """Bytes that each layer kind keeps per microbatch: under the policy, and without recomputation."""

    def kept(kind: LayerSpec, mode: str) -> float:
        return float(activation_bytes(model, kind, step, shard, Recompute(mode, policy[1], policy[2])))

    return np.array([kept(k, policy[0]) for k in model.layers]), np.array([kept(k, "none") for k in model.layers])


def _loss_bytes(setting: Setting, step: Step, shard: Shard) -> Array:
    """Logits in BF16, their FP32 copy, and their gradient, on devices with an LM head."""
    values = float(step.tokens(shard)) * setting.case.model.vocab / setting.case.layout.tp
    per_value = 4.0 if setting.framework.loss_fused else 8.0
    ends: Array = np.where(setting.plan.head > 0, per_value * values, 0.0)
    return ends


def workspace_bytes(setting: Setting, activations: Array) -> Array:
    """Framework workspaces, gradients of the widest tensors in work, gathered layers of full sharding,
    fragmentation."""
    case = setting.case
    step, shard = step_of(case), shard_of(case, setting.framework)
    tokens = float(step.tokens(shard))
    stream = 3.0 * tokens * case.model.hidden * 2.0 / (case.layout.tp if shard.sequence_parallel else 1)
    width = max((_width(case, kind) for kind in case.model.layers), default=0.0)
    working = stream + 2.0 * tokens * width
    gathered = np.zeros_like(activations)
    if is_fully_sharded(case):
        w = setting.weights
        per_layer = (w.dense + w.experts) / np.maximum(w.layers, 1.0)
        ahead = 1.0 + case.prefetch if case.reshard else np.maximum(w.layers, 1.0)
        gathered = per_layer * (ahead * PARAMETER_BYTES + setting.framework.reduce_bytes)
    result: Array = assume.CONTEXT_BYTES.value + working + gathered + assume.FRAGMENTATION.value * activations
    return result


def _width(case: TrainingCase, kind: LayerSpec) -> float:
    """Widest intermediate of a layer on one device, values per token."""
    feed, layout = kind.feed_forward, case.layout
    if feed is None:
        return 0.0
    wide = 2 if feed.gated else 1
    if feed.experts:
        return wide * feed.inter * feed.topk / layout.tp
    return wide * feed.inter / layout.tp
