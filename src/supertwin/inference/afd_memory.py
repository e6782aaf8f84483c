"""Memory of both sides of an attention-FFN split."""

from __future__ import annotations

import numpy as np

from supertwin.core.formats import number_format
from supertwin.core.prediction import Memory
from supertwin.inference import engines
from supertwin.inference.afd import Sides, sides
from supertwin.inference.case import Deployment
from supertwin.inference.footprint import activations_bytes, runtime_bytes
from supertwin.inference.layers import shard_of
from supertwin.inference.memory import Held, sequence_bytes
from supertwin.inference.placement import Real, moe, place
from supertwin.machine.system import System
from supertwin.model.parameters import LayerParameters, layer_parameters, parameter_count
from supertwin.model.spec import LayerSpec, ModelSpec
from supertwin.network.exchange import token_bytes
from supertwin.workload.shard import Shard


def afd_memory(
    model: ModelSpec, system: System, d: Deployment, sequences: float, context: float
) -> tuple[Memory, Memory]:
    """(attention device, feed-forward device); see afd_held."""
    attention, experts = afd_held(model, system, d, (sequences, context))
    return attention.memory(system), experts.memory(system)


def afd_held(model: ModelSpec, system: System, d: Deployment, sizes: tuple[Real, Real]) -> tuple[Held, Held]:
    """(attention device, feed-forward device) at sizes = (sequences, tokens of each) on one attention rank.

    Both hold the tokens of one micro-batch per buffer, and as many buffers as micro-batches.
    """
    sequences, context = sizes
    both = sides(d)
    engine = engines.engine(d.framework, system.chip)
    shard = shard_of(model, d, both.attention, system.chip, engine)
    tokens = sequences * (1.0 + d.mtp_tokens)
    attention, experts = _weights(model, d, both, shard)
    one = token_bytes(model.hidden, shard.dispatch_dtype) + token_bytes(model.hidden, shard.combine_dtype)
    mixture = moe(model)
    copies = float(min(mixture.topk, both.experts.ep)) if mixture is not None else 1.0
    kv = sequences * sequence_bytes(model, shard, context, d.mtp_tokens > 0)
    arriving = tokens * d.dp * copies / both.expert_devices

    runtime = runtime_bytes(engine, system.chip, d, place(d))

    def side(weights: float, kept: Real, activations: Real, travelling: Real) -> Held:
        return Held(weights, activations / d.afd_microbatches, kept, runtime + travelling * float(np.max(one)))

    live = arriving * 2.0 * (model.hidden + (3.0 * mixture.inter / both.experts.etp if mixture is not None else 0.0))
    own = activations_bytes(model, shard, tokens, tokens)
    return side(attention, kv, own, tokens / d.tp * copies), side(experts, 0.0 * kv, live, arriving)


def _weights(model: ModelSpec, d: Deployment, both: Sides, shard: Shard) -> tuple[float, float]:
    """Bytes of weights on one device of each side."""
    counted = parameter_count(model)
    wide = number_format("bf16").bytes_per_element
    dense = number_format(shard.weight_dtype or shard.linear_dtype).bytes_per_element
    narrow = number_format(shard.expert_weight_dtype or shard.expert_dtype).bytes_per_element

    def of(layer: LayerSpec, p: LayerParameters) -> tuple[float, float]:
        a, f = p.attention, p.feed_forward
        kv_heads = max(layer.attention.kv_heads if layer.attention is not None else 1, 1)
        own = (a.sharded / d.tp + a.kv / min(d.tp, kv_heads) + a.replicated) * dense + (p.norms + f.replicated) * wide
        mixture = (
            layer.feed_forward if layer.feed_forward is not None and layer.feed_forward.experts else layer.shortcut
        )
        copies = 1.0
        if mixture is not None and mixture.experts and both.experts.ep > 1:
            copies = max((mixture.experts + d.redundant_experts) / mixture.experts, both.experts.ep / mixture.experts)
        there = f.dense / both.unit * dense + f.shared * dense + f.experts * copies / both.expert_devices * narrow
        return own * layer.count, there * layer.count

    pairs = [of(layer, p) for layer, p in zip(model.layers, counted.per_layer, strict=True)]
    if d.mtp_tokens and model.mtp is not None:
        own, there = of(model.mtp, layer_parameters(model, model.mtp))
        pairs.append((own + 2.0 * model.hidden**2 * dense, there))
    last = (counted.embedding + counted.head + counted.positions) / d.tp * wide
    return sum(own for own, _ in pairs) + last, sum(there for _, there in pairs)
