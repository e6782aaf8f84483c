"""Memory of one device: weights by placement, KV cache, and what footprint.py adds; what engines leave to caches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from supertwin.core.formats import number_format
from supertwin.core.memo import by_identity
from supertwin.core.prediction import Memory
from supertwin.cost.stack import largest
from supertwin.inference import engines
from supertwin.inference.case import Deployment
from supertwin.inference.context import staged_savings
from supertwin.inference.drafts import bf16, draft_weights_bytes, drafter
from supertwin.inference.engines import Engine
from supertwin.inference.footprint import (
    activations_bytes,
    buffer_bytes,
    communicators_bytes,
    context_bytes,
    counts_graphs,
    graphs_bytes,
    profiled_logit_bytes,
    runtime_bytes,
)
from supertwin.inference.layers import shard_of
from supertwin.inference.local import saved_parameters, widths
from supertwin.inference.placement import Placement, Real, moe, place
from supertwin.inference.profiled import padding_bytes
from supertwin.inference.shared import shared_bytes
from supertwin.inference.versions import sglang_version
from supertwin.machine.chip import Chip
from supertwin.machine.system import System
from supertwin.model.parameters import LayerParameters, parameter_count
from supertwin.model.spec import LayerSpec, ModelSpec
from supertwin.workload.attention import stored_bytes_per_token
from supertwin.workload.shard import Shard, maximum, minimum

Parts = tuple[tuple[str, str, str], ...]
MOST_PROFILED_TOKENS = 8192.0
LEAST_ROOM, FEWER_SEQUENCES = 0.03, 256.0
"""An engine whose profile run of all sequences leaves less than that share of the memory is started with fewer."""


def total_weights_bytes(model: ModelSpec) -> float:
    """All weights in BF16, MTP modules included."""
    return 2.0 * parameter_count(model).stored


def weights_bytes(model: ModelSpec, deployment: Deployment, shard: Shard, engine: Engine | None = None) -> float:
    """Weights on one device. Experts are cut over ep x etp (replicas too), dense matrices over tp, stages over pp; an
    engine that gathers them cuts MLPs, shared experts and the head over all attention ranks."""
    wide = engine is not None and engine.gathers_dense and deployment.dp_attention
    key = (*_key(shard, deployment.dp if wide else 1), deployment.part_dtypes)
    whole = _weights_bytes(model, deployment.pp, deployment.redundant_experts, deployment.drafts_itself, key)
    if deployment.draft and deployment.mtp_tokens:
        whole += draft_weights_bytes(model, deployment.draft, deployment.tp)
    groups = widths(deployment)
    if not groups and shard.context != "staged":
        return whole
    layers, head = saved_parameters(model, groups)
    dense = number_format(shard.weight_dtype or shard.linear_dtype).bytes_per_element
    if shard.context == "staged":
        layers += staged_savings(model, deployment)
    return whole - layers / deployment.pp * dense - head / (1 if deployment.pp == 1 else 2) * 2.0


def _key(shard: Shard, ranks: int) -> tuple[int, int, int, int, str, str, str]:
    return (
        int(np.max(shard.tp)), int(np.max(shard.tp)) * ranks, int(np.max(shard.ep)), int(np.max(shard.etp)),
        shard.weight_dtype or shard.linear_dtype, shard.expert_weight_dtype or shard.expert_dtype, shard.moe_transport,
    )  # fmt: skip


@lru_cache(maxsize=1024)
def _weights_bytes(
    model: ModelSpec, pp: int, redundant: int, drafts: bool, key: tuple[int, int, int, int, str, str, str, Parts]
) -> float:
    tp, wide_tp, ep, etp, dense, expert, carrier, parts = key
    size = {part: number_format(weight).bytes_per_element for part, weight, _ in parts}
    counted = parameter_count(model)
    wide, dense_bytes = number_format("bf16").bytes_per_element, number_format(dense).bytes_per_element
    expert_bytes = number_format(expert).bytes_per_element

    def layer_bytes(layer: LayerSpec, p: LayerParameters) -> float:
        a, f = p.attention, p.feed_forward
        kv_heads = layer.attention.kv_heads if layer.attention is not None else 1
        attention = a.sharded / tp + a.kv / min(tp, max(kv_heads, 1)) + a.replicated
        mixture = next((b for b in (layer.feed_forward, layer.shortcut) if b is not None and b.experts), None)
        copies = 1.0 if mixture is None or ep == 1 else (mixture.experts + redundant) / mixture.experts
        shared = f.shared if carrier == "dispatch" else f.shared / wide_tp
        narrow = attention * size.get("attention", dense_bytes) + f.dense / wide_tp * size.get("mlp", dense_bytes)
        narrow += shared * size.get("shared", dense_bytes)
        return narrow + f.experts * copies / (ep * etp) * expert_bytes + (f.replicated + p.norms) * wide

    body = sum(layer_bytes(x, p) * x.count for x, p in zip(model.layers, counted.per_layer, strict=True)) / pp
    ends = (counted.embedding + counted.positions) / tp * wide + counted.head / wide_tp * size.get("head", wide)
    ends /= 1 if pp == 1 else 2
    module = 0.0
    if drafts and model.mtp is not None:
        from supertwin.model.parameters import layer_parameters

        module = layer_bytes(model.mtp, layer_parameters(model, model.mtp)) + 2.0 * model.hidden**2 * dense_bytes
    return body + ends + module


def kv_bytes_per_token(model: ModelSpec, shard: Shard, drafts: bool = False) -> float:
    """Cache of one token over all layers on one device of the tensor-parallel group; windows are not cut here."""
    layers = [*model.layers, model.mtp] if drafts and model.mtp is not None else list(model.layers)
    out = 0.0
    for layer in layers:
        if layer is not None and layer.attention is not None:
            out += largest(stored_bytes_per_token(layer.attention, shard)) * layer.count
    return out


LAST_UNBOUNDED_SGLANG = (0, 5, 6)
"""Last release of SGLang (of those looked at: 0.5.3, 0.5.6, 0.5.9) that keeps all tokens in layers with windows
(server_args: disable_hybrid_swa_memory for gpt-oss and Gemma)."""


def sequence_bytes(
    model: ModelSpec, shard: Shard, context: Real, drafts: bool = False, pool: int = 0, whole: bool = False
) -> Real:
    """Cache of one sequence of `context` tokens: windows keep only their span, recurrent layers one state. pool: tokens
    of sparse attention that stay on the device (0: all); the indexer's keys all do. whole: windows keep all tokens."""
    out: Real = 0.0
    for layer in [*model.layers, *([model.mtp] if drafts and model.mtp is not None else [])]:
        a = layer.attention
        if a is None:
            continue
        if a.kind in ("linear", "mamba"):
            state = a.linear_value_heads * a.linear_value_head_dim * a.linear_key_head_dim
            out = out + layer.count * 4.0 * state / float(np.max(shard.tp))
            continue
        span = minimum(context, a.window) if a.window and a.compress_ratio == 1 and not whole else context
        stored = largest(stored_bytes_per_token(a, shard))
        if pool and a.index_topk:
            index = stored - largest(stored_bytes_per_token(replace(a, index_heads=0), shard))
            out = out + layer.count * (index * context + (stored - index) * minimum(context, float(pool)))
            continue
        out = out + layer.count * span * stored
        if a.window and a.compress_ratio > 1:
            kept = minimum(context, a.window) * a.qk_head_dim * number_format(shard.kv_dtype).bytes_per_element
            out = out + layer.count * kept
    return out


def request_bytes(model: ModelSpec, deployment: Deployment, shard: Shard, context: Real) -> Real:
    """Cache of one sequence of `context` tokens, with that of the module or model that drafts."""
    release = sglang_version(deployment.framework)
    whole = release is not None and release <= LAST_UNBOUNDED_SGLANG
    own = sequence_bytes(model, shard, context, deployment.drafts_itself, deployment.kv_pool, whole)
    found = drafter(model, deployment.draft) if deployment.draft and deployment.mtp_tokens else None
    return own if found is None else own + sequence_bytes(found.model, bf16(shard), context)


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes on one device; all but the weights are arrays where sizes are."""

    weights_bytes: float
    activations_bytes: Real
    kv_bytes: Real
    workspace_bytes: Real

    @property
    def peak_bytes(self) -> Real:
        """All together."""
        return self.weights_bytes + self.activations_bytes + self.kv_bytes + self.workspace_bytes

    def memory(self, system: System) -> Memory:
        """That of a step that is no sweep."""
        return Memory(
            parameters_bytes=self.weights_bytes,
            activations_bytes=float(self.activations_bytes),
            kv_cache_bytes=float(self.kv_bytes),
            workspace_bytes=float(self.workspace_bytes),
            capacity_bytes=system.chip.usable_memory_bytes,
        )


def loaded_bytes(model: ModelSpec, chip: Chip, deployment: Deployment, engine: Engine) -> float:
    """Weights of one device as the engine's kernels lay them out."""
    shard = shard_of(model, deployment, place(deployment), chip, engine)
    padding = padding_bytes(model, shard, engine, chip) / deployment.pp
    return weights_bytes(model, deployment, shard, engine) + padding


def held(model: ModelSpec, system: System, deployment: Deployment, sizes: tuple[Real, Real, Real]) -> Held:
    """What lies on one device at sizes = (sequences resident on its attention rank, tokens of context of each, new
    tokens of one step on the rank). A decode context-parallel group shares one cache."""
    sequences, context, step_tokens = sizes
    placement, engine, shard, loaded, runtime = _standing(model, system.chip, deployment)
    kv = cache_bytes(model, system.chip, deployment, (sequences, context))
    buffers = buffer_bytes(model, placement, step_tokens / placement.tp, shard, engine, system.chip.vendor)
    activations = activations_bytes(model, shard, step_tokens, minimum(step_tokens, sequences))
    return Held(loaded, activations, kv, buffers + runtime)


def cache_bytes(model: ModelSpec, chip: Chip, deployment: Deployment, sizes: tuple[Real, Real]) -> Real:
    """Caches of sizes = (sequences, tokens of each) on one device."""
    sequences, context = sizes
    placement, _, shard, _, _ = _standing(model, chip, deployment)
    each = request_bytes(model, deployment, shard, context)
    total = sequences * each
    if deployment.shared_prefix:
        own = shared_bytes(model, shard, float(deployment.shared_prefix))
        total = total - maximum(sequences - 1.0, 0.0) * minimum(own, each)
    return total / (deployment.pp * placement.cp)


@by_identity(most=512, owners=2)
def _standing(model: ModelSpec, chip: Chip, deployment: Deployment) -> tuple[Placement, Engine, Shard, float, float]:
    """What does not depend on a step's size: groups, engine, shard, bytes of weights and of the runtime."""
    placement, engine = place(deployment), engines.engine(deployment.framework, chip)
    shard = shard_of(model, deployment, placement, chip, engine)
    runtime = runtime_bytes(engine, chip, deployment, placement)
    return placement, engine, shard, loaded_bytes(model, chip, deployment, engine), runtime


def memory_of(
    model: ModelSpec, system: System, deployment: Deployment, sequences: float, context: float, step_tokens: float
) -> Memory:
    """Memory of one device; see held."""
    return held(model, system, deployment, (sequences, context, step_tokens)).memory(system)


def expert_workspace_bytes(model: ModelSpec, deployment: Deployment, engine: Engine) -> float:
    """What CUTLASS experts keep for every copy of the tokens of a step, those of all attention ranks sharing them
    (TensorRT-LLM, moe_max_num_tokens: max_num_tokens x dp): input and activated values in 8 bits, the output of
    the first product and of the second in BF16. 0 for other kernels."""
    mixture, placement = moe(model), place(deployment)
    if mixture is None or engine.expert_kernels != "cutlass":
        return 0.0
    row = 3.0 * (mixture.latent or model.hidden) + 5.0 * mixture.inter / placement.etp
    return engine.max_batched_tokens * placement.ranks * mixture.topk * row


def cache_room(
    model: ModelSpec, system: System, deployment: Deployment, engine: Engine, logit_bytes: float = 0.0
) -> float:
    """Bytes of one device that the engine leaves to caches after its profile run (a full step and a sampled row for
    every sequence that it admits); negative where nothing is left. logit_bytes: of a sampled row, 0: the engine's."""
    placement, chip = place(deployment), system.chip
    shard = shard_of(model, deployment, placement, chip, engine)
    weights, capacity = loaded_bytes(model, chip, deployment, engine), chip.usable_memory_bytes
    used = weights + engine.logit_bytes * engine.max_num_seqs * model.vocab
    used += expert_workspace_bytes(model, deployment, engine)
    if engine.static_memory:
        return engine.memory_fraction * capacity - used
    used += communicators_bytes(chip, placement) + _buffers_at_start(model, system, deployment, engine)
    profiles = engine.name.startswith("vllm")
    if not profiles or counts_graphs(deployment.framework):
        used += graphs_bytes(engine, chip, deployment)
    if not profiles:  # vLLM counts from what was free when it started
        used += context_bytes(chip)
    tokens = min(engine.max_batched_tokens, MOST_PROFILED_TOKENS)

    def left(rows: float) -> float:
        logits = logit_bytes or profiled_logit_bytes(engine, chip)
        taken = used + float(activations_bytes(model, shard, tokens, rows, logits))
        return engine.memory_fraction * ((capacity - taken) if engine.of_free else capacity) - (
            0.0 if engine.of_free else taken
        )

    room = left(min(float(engine.max_num_seqs), tokens) if profiles else 0.0)
    if profiles and room < LEAST_ROOM * capacity:
        return left(min(float(engine.max_num_seqs), FEWER_SEQUENCES))
    return room


def _buffers_at_start(model: ModelSpec, system: System, deployment: Deployment, engine: Engine) -> float:
    """Exchange buffers of a full step. On Ascend those of long steps are HCCL's own; windows of short ones are set to
    what the batch needs."""
    placement, chip = place(deployment), system.chip
    if chip.vendor == "huawei" and engine.name != "cloudmatrix-infer":
        return 0.0
    shard = shard_of(model, deployment, placement, chip, engine)
    tokens = min(engine.max_batched_tokens, MOST_PROFILED_TOKENS) / placement.tp
    return float(buffer_bytes(model, placement, tokens, shard, engine, chip.vendor))


def largest_batch(model: ModelSpec, system: System, deployment: Deployment, context: float, engine: Engine) -> float:
    """Most requests that one instance holds in memory at `context` tokens each (all ranks together)."""
    placement = place(deployment)
    shard = shard_of(model, deployment, placement, system.chip, engine)
    kept = request_bytes(model, deployment, shard, context)
    own = shared_bytes(model, shard, min(float(deployment.shared_prefix), context)) if deployment.shared_prefix else 0.0
    each, once = (float(x) / (deployment.pp * placement.cp) for x in (kept - own, own))
    room = cache_room(model, system, deployment, engine) - once
    return max(0.0, room / max(each, 1.0)) * placement.dp
