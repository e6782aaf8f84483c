"""Weights that one pipeline device holds, and the bytes of parameters, gradients and optimizer states they cost.

BF16 mixed precision keeps 2 bytes of parameters, a gradient, and 12 bytes of optimizer state per weight (FP32 master
copy and two Adam moments; arXiv 1910.02054, section 3.1). ZeRO-1 shares the optimizer state between the replicas,
ZeRO-2 gradients too, ZeRO-3 and FSDP all three.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from supertwin.core.formats import number_format
from supertwin.model.parameters import norm_parameters
from supertwin.model.spec import LayerSpec, ModelSpec
from supertwin.training.case import TrainingCase
from supertwin.training.fabric import axis_group
from supertwin.training.frameworks import Framework
from supertwin.training.stages import StagePlan
from supertwin.workload.memory import layer_device_parameters
from supertwin.workload.shard import Shard

Array = npt.NDArray[np.float64]

PARAMETER_BYTES = 2.0
FP32_BYTES = 4.0
SWAP_PIECES = 16.0  # MindSpeed --swap-optimizer-times, default
SCALED_ALONG = ("mxfp8", "nvfp4")


@dataclass(frozen=True, slots=True)
class DeviceWeights:
    """Weights per pipeline device after tensor and expert parallelism, arrays of shape [pp].

    dense: all but routed experts; experts: routed experts; adapters: trained low-rank weights (task lora).
    """

    dense: Array
    experts: Array
    layers: Array
    adapters: Array
    frozen: bool = False

    @property
    def stored(self) -> Array:
        """All weights on the device."""
        return self.dense + self.experts + self.adapters

    @property
    def trained_dense(self) -> Array:
        """Dense weights that have a gradient."""
        return self.adapters if self.frozen else self.dense

    @property
    def trained_experts(self) -> Array:
        """Expert weights that have a gradient."""
        return 0.0 * self.experts if self.frozen else self.experts


def device_weights(case: TrainingCase, plan: StagePlan, shard: Shard) -> DeviceWeights:
    """Place the weights of a case on its pipeline devices."""
    model, layout = case.model, case.layout
    per_kind = np.array([_layer(model, kind, shard) for kind in model.layers])
    dense, experts = (plan.counts @ per_kind).T
    table = model.vocab * model.hidden / layout.tp
    positions = model.max_positions * model.hidden if model.positions == "learned" else 0
    own_head = not (model.tied_embeddings and layout.pp == 1)
    dense = dense + plan.embedding * (table + positions) + plan.head * (table * own_head + norm_parameters(model))
    if model.mtp is not None:
        module = _layer(model, model.mtp, shard)
        dense = dense + plan.head * model.mtp_count * (module[0] + 2.0 * model.hidden**2)
        experts = experts + plan.head * model.mtp_count * module[1]
    adapters = np.zeros_like(dense)
    if case.task == "lora":
        adapters = plan.counts @ np.array(
            [adapter_weights(model, kind, case.lora_rank) / layout.tp for kind in model.layers]
        )
    scale = plan.copies
    return DeviceWeights(scale * dense, scale * experts, plan.counts.sum(axis=1), adapters, case.task == "lora")


@lru_cache(maxsize=1024)
def _layer(model: ModelSpec, kind: LayerSpec, shard: Shard) -> tuple[float, float]:
    """(dense, expert) weights of one layer on one device."""
    held = layer_device_parameters(model, kind, shard)
    return float(held.dense + held.wide), float(held.experts)


def adapter_weights(model: ModelSpec, kind: LayerSpec, rank: int) -> float:
    """Low-rank weights beside the dense matrices of one layer: rank x (inputs + outputs) of each (arXiv 2106.09685).

    Routed experts get none. Matrices: joint query-key-value, output, joint up (and gate), down.
    """
    total = 0.0
    if kind.attention is not None:
        block = kind.attention
        q, kv = block.heads * block.qk_head_dim, 2 * block.kv_heads * block.qk_head_dim
        total += model.hidden + q + kv + block.heads * block.v_head_dim + model.hidden
    if kind.feed_forward is not None:
        feed = kind.feed_forward
        inter = feed.shared_inter if feed.experts else feed.inter
        total += (2 * model.hidden + inter * (3 if feed.gated else 2)) if inter else 0
    return rank * total


@dataclass(frozen=True, slots=True)
class StateBytes:
    """Bytes of the states per pipeline device, arrays of shape [pp].

    copies, reference: low-precision copies of the weights and the second model of policy updates (parts of parameters);
    master: FP32 copy of the weights; moments: both of Adam; step: temporaries of the optimizer step; host: states kept
    in host memory.
    """

    parameters: Array
    gradients: Array
    master: Array
    moments: Array
    step: Array
    copies: Array
    reference: Array
    host: Array

    @property
    def optimizer(self) -> Array:
        """States of the optimizer on the device."""
        return self.master + self.moments

    @property
    def total(self) -> Array:
        """What stays on the device for the whole step."""
        return self.parameters + self.gradients + self.optimizer


def state_bytes(case: TrainingCase, framework: Framework, weights: DeviceWeights) -> StateBytes:
    """Parameters, gradients and optimizer states per device under the case's sharding."""
    dense_ranks, expert_ranks = _sharers(case)
    level = {"none": 0, "zero1": 1, "zero2": 2, "zero3": 3, "hsdp": 3}[case.sharding]

    def spread(dense: Array, experts: Array, at_level: int) -> Array:
        shared = level >= at_level
        return dense / (dense_ranks if shared else 1) + experts / (expert_ranks if shared else 1)

    trained = (weights.trained_dense, weights.trained_experts)
    swapped = case.offload_update == "swapped" and case.offload_optimizer > 0.0
    away = case.offload_optimizer * (1.0 - 1.0 / SWAP_PIECES if swapped else 1.0)
    base, own = spread(weights.dense, weights.experts, 3), spread(*trained, 1)
    copies = weight_copy_bytes(case, framework) * base
    master, moments = master_bytes(case, framework) * own, moment_bytes(case) * own
    reference = stored_bytes(case) * base * (1.0 if logprob_passes(case) > 1 else 0.0)
    return StateBytes(
        parameters=stored_bytes(case) * base + PARAMETER_BYTES * weights.adapters + copies + reference,
        gradients=framework.gradient_bytes * spread(*trained, 2)
        + framework.new_gradient_bytes * (trained[0] + trained[1]),
        master=(1.0 - away) * master,
        moments=(1.0 - away) * moments,
        step=framework.step_bytes * own,
        copies=copies,
        reference=reference,
        host=case.offload_optimizer * (master + moments),
    )


def logprob_passes(case: TrainingCase) -> int:
    """Forward passes before the update: as stated, else two for task rl (old policy, reference)."""
    return case.logprob_passes or (2 if case.task == "rl" else 0)


def master_bytes(case: TrainingCase, framework: Framework) -> float:
    """Bytes per own weight of the master copy: none, or in its format; where the 2-byte weights are the upper half of
    it (MindSpeed --reuse-fp32-param, BF16 only), the lower half."""
    if case.master_dtype == "none":
        return 0.0
    reused = framework.states_reused if case.states_reused is None else case.states_reused
    swapped = case.offload_update == "swapped" and case.offload_optimizer > 0.0
    shared = PARAMETER_BYTES if reused and case.precision == "bf16" and not swapped else 0.0
    return max(number_format(case.master_dtype).bytes_per_element - shared, 0.0)


def moment_bytes(case: TrainingCase) -> float:
    """Bytes per own weight of both moments of Adam (BF16 in DeepSeek-V3: arXiv 2412.19437, section 3.3.3)."""
    return 2.0 * number_format(case.moment_dtype).bytes_per_element


def adam_bytes(case: TrainingCase) -> float:
    """Bytes per weight that an update reads and writes as states: master copy and moments."""
    master = 0.0 if case.master_dtype == "none" else number_format(case.master_dtype).bytes_per_element
    return master + moment_bytes(case)


def stored_bytes(case: TrainingCase) -> float:
    """Bytes per stored weight: BF16 beside its master copy; frozen weights may lie in the format of the products."""
    frozen = case.task == "lora"
    return min(PARAMETER_BYTES, number_format(case.precision).bytes_per_element) if frozen else PARAMETER_BYTES


def weight_copy_bytes(case: TrainingCase, framework: Framework) -> float:
    """Bytes per weight of the quantised copies that stay over the microbatches of a step: one along rows, one along
    columns where the matrix engine wants both operands in rows (8-bit products of Hopper and CDNA) or the scales run
    along the inner dimension (MX and NVFP4 formats)."""
    form = number_format(case.precision)
    if not framework.weight_copies or case.task == "lora" or form.bytes_per_element >= PARAMETER_BYTES:
        return 0.0
    both = case.precision in SCALED_ALONG or not case.system.chip.architecture.startswith("blackwell")
    return form.bytes_per_element * (2.0 if both else 1.0)


def _sharers(case: TrainingCase) -> tuple[int, int]:
    """Ranks that share the states of dense and of expert weights (hsdp: those that share a copy)."""
    return axis_group(case, "shard").size, axis_group(case, "expert_shard").size


def optimizer_traffic_bytes(case: TrainingCase, framework: Framework, weights: DeviceWeights) -> Array:
    """HBM bytes of one optimizer step per device, shape [pp]: gradient norm, Adam, and the copy back to parameters.

    Norm: gradients read once over the whole local gradient share; Adam: read gradient, master and both moments, write
    master and moments, write the 2-byte parameter. An eager optimizer runs one kernel after the other, so it also
    scales the gradients in place (clipping), reads the master copy again to cast it, widens 2-byte gradients first and,
    in FP16, takes the loss scale off and checks for infinities (Megatron-LM, megatron/optimizer/optimizer.py).
    All local gradients are filled with zeros, and on some stacks read and written once more to divide them by the
    replicas (megatron/model/distributed.py; megatron/core/distributed/param_and_grad_buffer.py, start_grad_sync).
    """
    whole = updated_weights(case, weights)
    own = whole * (1.0 if case.offload_update == "swapped" else 1.0 - case.offload_optimizer)
    norm = framework.gradient_bytes
    adam = framework.gradient_bytes + 2.0 * adam_bytes(case) + PARAMETER_BYTES
    adam += PARAMETER_BYTES if case.master_dtype == "none" else 0.0
    if (case.launch or framework.launch) == "eager":
        adam += 3.0 * FP32_BYTES + (2.0 * FP32_BYTES if case.precision == "fp16" else 0.0)
        adam += FP32_BYTES + framework.gradient_bytes if framework.gradient_bytes < FP32_BYTES else 0.0
    zero_fill = framework.gradient_bytes * (weights.trained_dense + weights.trained_experts)
    if framework.gradients_scaled and case.layout.dp * case.layout.cp > 1:
        zero_fill = 3.0 * zero_fill
    result: Array = whole * norm + own * adam + zero_fill
    return result


def updated_weights(case: TrainingCase, weights: DeviceWeights) -> Array:
    """Weights whose optimizer states a device owns, shape [pp]."""
    dense_ranks, expert_ranks = _sharers(case) if case.sharding != "none" else (1, 1)
    result: Array = weights.trained_dense / dense_ranks + weights.trained_experts / expert_ranks
    return result
