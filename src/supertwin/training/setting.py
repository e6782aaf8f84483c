"""A case with everything that is derived from it once: stages, weights, groups, overlap."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from supertwin.core.formats import number_format
from supertwin.model.parameters import layer_parameters
from supertwin.model.spec import LayerSpec, ModelSpec
from supertwin.training.blocks import Overlap, overlap_of
from supertwin.training.case import TrainingCase
from supertwin.training.check import expert_count
from supertwin.training.fabric import Fabric
from supertwin.training.frameworks import Framework, framework_named, in_precision
from supertwin.training.routing import routed_block, routing_of
from supertwin.training.shape import Recipe, pack_excess, recipe_of, shard_of, step_of, transport_of
from supertwin.training.sharding import StageWeights
from supertwin.training.stages import StagePlan, stage_plan
from supertwin.training.weights import DeviceWeights, device_weights
from supertwin.workload.flops import attention_flops_per_token
from supertwin.workload.shard import Shard, Step

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Setting:
    """A checked case with everything that is derived from it once; microbatch: what one asks of one device."""

    case: TrainingCase
    framework: Framework
    plan: StagePlan
    weights: DeviceWeights
    fabric: Fabric
    overlap: Overlap
    microbatch: Step
    shard: Shard
    recipe: Recipe

    @property
    def microbatches(self) -> int:
        """Microbatches per pipeline and step."""
        return max(self.case.global_batch // (self.case.micro_batch * self.case.layout.dp), 1)


def setting_of(case: TrainingCase) -> Setting:
    """Derive stages, weights, groups and overlap of a case."""
    framework = with_formats(in_precision(framework_named(case.framework), case.precision), case)
    layout = case.layout
    head = 0.0 if case.stages else head_layers(case)
    plan = stage_plan(case.model.order, (layout.pp, layout.vpp), case.schedule, head, case.stages)
    ring = case.cp_method in ("ring", "hybrid")
    flags = (case.overlap_tp, case.overlap_ep)
    overlap = overlap_of(framework, flags, ring, routing_of(case).skew, case.system.chip)
    if case.dispatcher == "hybridep" or transport_of(case, framework) == "dispatch":
        overlap = replace(overlap, dispatched=True)
    elif framework.grouped_experts:
        overlap = replace(overlap, permute_passes=overlap.permute_passes * sorted_passes(case))
    if case.packed and case.sample_cv:
        overlap = replace(overlap, attention_passes=overlap.attention_passes * pack_excess(case))
    shard = shard_of(case, framework)
    return Setting(
        case,
        framework,
        plan,
        device_weights(case, plan, shard),
        Fabric(case, expert_count(case.model), older_nccl=framework.older_nccl),
        overlap,
        step_of(case),
        shard,
        recipe_of(case, framework),
    )


def sorted_passes(case: TrainingCase) -> float:
    """Traffic of fused permutation around an all-to-all over that of one read and write on either side.

    Per pair of token and expert and side: the gather reads tokens once for all k picks, (1 + 1/k), the scatter-add
    likewise, and behind and before the exchange chunks are sorted by local expert, 2 (Megatron-Core,
    MoEAlltoAllTokenDispatcher; no sort where a rank has one expert).
    """
    block, experts = routed_block(case.model), expert_count(case.model)
    if block is None or case.layout.ep == 1:
        return 1.0
    sort = 2.0 if experts > case.layout.ep else 0.0
    return (1.0 + 1.0 / block.topk + sort) / 2.0


def with_formats(framework: Framework, case: TrainingCase) -> Framework:
    """The framework with the gradient formats that the case states."""
    if case.gradient_dtype:
        framework = replace(framework, gradient_bytes=number_format(case.gradient_dtype).bytes_per_element)
    if case.reduce_dtype:
        framework = replace(framework, reduce_bytes=number_format(case.reduce_dtype).bytes_per_element)
    return framework


@lru_cache(maxsize=512)
def head_weight(model: ModelSpec) -> float:
    """Work of LM head and MTP modules in layers: weights used per token over those of an average layer."""
    layers = sum(layer_parameters(model, kind).active * kind.count for kind in model.layers)
    head = float(model.vocab * model.hidden)
    module = layer_parameters(model, model.mtp).active if model.mtp is not None else 0.0
    return (head + model.mtp_passes * (head + module)) * model.n_layers / layers


def head_layers(case: TrainingCase) -> float:
    """Layers that LM head and MTP modules stand for when stages are cut."""
    if case.balance == "layers":
        return 1.0 + case.model.mtp_count
    if case.balance == "time":
        return head_time(case.model, case.seq_len, case.recompute == "full")
    return head_weight(case.model)


@lru_cache(maxsize=512)
def head_time(model: ModelSpec, seq_len: int, recomputed: bool) -> float:
    """Arithmetic of LM head and MTP modules over that of an average layer: attention of the sequence included, a
    recomputed layer counted with its second forward pass (4/3)."""

    def work(kind: LayerSpec) -> float:
        attention = attention_flops_per_token(kind.attention, seq_len, True) if kind.attention else 0.0
        return 2.0 * layer_parameters(model, kind).active + float(attention)

    layers = sum(work(kind) * kind.count for kind in model.layers) * (4.0 / 3.0 if recomputed else 1.0)
    head = 2.0 * model.vocab * model.hidden
    module = work(model.mtp) if model.mtp is not None else 0.0
    return (head + model.mtp_count * (head + module)) * model.n_layers / layers


def recomputed_share(case: TrainingCase, plan: StagePlan) -> Array:
    """Share of each device's layers that are recomputed, shape [pp]."""
    if case.recompute != "partial":
        return np.ones(len(plan.counts))
    layers = np.maximum(plan.counts.sum(axis=1), 1.0)
    share: Array = np.minimum(case.recompute_layers / layers, 1.0)
    return share


def stage_weights(setting: Setting, device: int) -> StageWeights:
    """Weights of one pipeline device."""
    w = setting.weights
    return StageWeights(
        float(w.dense[device] + w.adapters[device]),
        float(w.experts[device]),
        float(w.layers[device]),
        float(w.trained_dense[device]),
        float(w.trained_experts[device]),
    )
