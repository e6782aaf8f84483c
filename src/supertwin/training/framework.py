"""Habits that a framework brings to a job: the fields, and the profile of a framework that is not known."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Framework:
    """Habits of one framework.

    launch: eager | graph | compiled (one program per step). flash: fused attention kernel.
    dp_overlap, gather_overlap: gradient reduction beside backward, parameter gathering beside forward.
    tp_overlap, ep_overlap: those collectives run beside compute of the same or another microbatch.
    p2p_scattered: a hand-over sends 1/tp of the tensor over each link and gathers it inside the tensor-parallel group.
    gradient_bytes: per element as accumulated; reduce_bytes: per element on the wire.
    tp_backward_overlap: reduction of the input gradient runs beside the weight gradient of the same matrix.
    loss_fused: the vocabulary loss needs no FP32 copy of the logits; loss_apart: it is a row of tensor operations, each
    of which passes over the FP32 logits (Megatron without --cross-entropy-loss-fusion).
    transport: all_to_all or dispatch kernels.
    attention: kernels on NVIDIA chips, fa2 for stacks of 2023 (FlashAttention-3 and fast cuDNN are of 2024).
    experts_follow_tp: experts are cut over tp unless the job says otherwise (Megatron-Core's default).
    messages_per_layer: collectives per layer and pass under full sharding (flat FSDP units: 1).
    recompute: what the framework recomputes unless the job says otherwise.
    norm_passes, rotary_passes, activation_passes: memory traffic of that vector operator written as a row of tensor
    operations over that of one kernel.
    softmax_block: without fused attention, batch x heads that the fused softmax takes at a time.
    softmax_scans: without fused attention, the softmax reads the scores once per reduction.
    one_hot: tokens are looked up by a matrix product with one-hot rows.
    loop_waits: share of each layer's collectives under full sharding that nothing hides, as a loop over layers keeps
    them inside one iteration.
    alibi_apart: without fused attention, ALiBi's bias and the scale are tensor operations on the scores.
    accumulation_fused: weight-gradient products add to the accumulated gradient themselves.
    vector_passes: memory traffic of vector operators over that of a stack with fused bias, dropout, add and norm.
    dropout: GPT-style models are trained with dropout on attention and on both outputs by default.
    bias_apart: gradients of biases are column sums of their own (no epilogue of the matrix product).
    attention_passes: time of fused attention over that of the library named in `attention`.
    permute_passes: memory traffic of sorting tokens by expert and back over that of fused kernels (Megatron without
    --moe-permute-fusion: gather, chunks sorted by split and join on both sides, product with the weights, scatter-add).
    states_reused: the 2-byte weights are the upper half of the FP32 copy (MindSpeed --reuse-fp32-param).
    new_gradient_bytes: per weight, gradients of one microbatch that wait beside the accumulated ones.
    grouped_experts: dropless experts as grouped products of Transformer Engine, whose row counts the host has to know.
    gradients_scaled: accumulated gradients are divided by the number of replicas in place before they are reduced.
    older_nccl: all-reduces inside a node at the rate of NCCL as of 2023 (supertwin.training.fabric).
    narrow_accumulation: under FP16 gradients are accumulated and reduced in FP16 (megatron/arguments.py sets
    accumulate_allreduce_grads_in_fp32 for BF16 only; DeepSpeed accumulates in the compute format).
    step_bytes: per own weight, temporaries of the optimizer step (FP32 copy of a narrow gradient); flat_step: they are
    one block as long as the share, which no cached block of an activation can hold.
    live_weights: weights that full sharding keeps gathered at once, at least (0: two layers).
    logit_bytes: per logit at the peak of the loss. plain_modules: norms and activations are rows of tensor operations
    that keep each input. weight_copies: low-precision copies of the weights, along rows and columns, stay beside BF16.
    scaling: per-tensor FP8 scales, delayed (from earlier steps) or current (from the tensor itself).
    latent_padding: the fused attention kernel takes one head size: those of keys and values of latent attention are
    filled up to the next multiple of it above the keys' (1: values to the keys' size; 0: the kernel takes two sizes).
    alibi_fused: the fused attention kernel takes ALiBi's bias (FlashAttention: from 2.4, January 2024).
    """

    name: str
    reason: str
    launch: str = "eager"
    flash: bool = True
    dp_overlap: bool = True
    gather_overlap: bool = True
    tp_overlap: bool = False
    ep_overlap: bool = False
    p2p_overlap: bool = True
    p2p_scattered: bool = False
    gradient_bytes: float = 4.0
    reduce_bytes: float = 4.0
    tp_backward_overlap: bool = True
    loss_fused: bool = False
    loss_apart: bool = True
    transport: str = "all_to_all"
    attention: str = "training"
    vector_passes: float = 1.0
    norm_passes: float = 1.0
    rotary_passes: float = 1.0
    activation_passes: float = 1.0
    alibi_apart: bool = False
    softmax_block: int = 1
    softmax_scans: bool = False
    one_hot: bool = False
    loop_waits: float = 0.0
    dropout: bool = False
    bias_apart: bool = False
    attention_passes: float = 1.0
    permute_passes: float = 1.0
    states_reused: bool = False
    new_gradient_bytes: float = 0.0
    narrow_accumulation: bool = False
    step_bytes: float = 0.0
    flat_step: bool = False
    live_weights: float = 0.0
    logit_bytes: float = 6.0
    plain_modules: bool = False
    weight_copies: bool = False
    alibi_fused: bool = True
    experts_follow_tp: bool = False
    accumulation_fused: bool = True
    recompute: str = "none"
    messages_per_layer: float = 1.0
    scaling: str = "current"
    grouped_experts: bool = False
    older_nccl: bool = False
    latent_padding: int = 0
    gradients_scaled: bool = False


# Passes over the values where one kernel takes 2 + 2 (rotary: read, write) and 3 + 5 (gated activation), forward and
# backward. Rotary: two products with cosine and sine, half turn (two negations, join), sum, join of the untouched part:
# 12 and 10. Gated activation: activation, product: 5; two products, gradient of the activation, join: 13
# (megatron rotary_pos_embedding.py, transformer.py; torch autograd).
ROTARY_APART = 22.0 / 4.0
GATED_APART = 18.0 / 8.0
NORM_APART = 3.5  # 139 us against 40 us (hicann/cann-recipes-train, kernels.csv)

BASE = Framework(
    "default",
    "current Megatron-style stack: fused attention, overlapped distributed optimizer, eager; logits in BF16 "
    "with one FP32 copy that the loss works on in place (megatron/core/tensor_parallel/cross_entropy.py)",
    narrow_accumulation=True,
)
DEFAULT = replace(
    BASE,
    weight_copies=True,
    reason=f"{BASE.reason}; Transformer Engine keeps 8-bit weights and their transposes over the microbatches",
)


def wire_bytes(framework: Framework, precision: str) -> float:
    """Bytes per gradient element between replicas. FP16 gradients travel as they are: Megatron sets
    accumulate_allreduce_grads_in_fp32 with --bf16 alone (megatron/arguments.py), DeepSpeed's fp32_allreduce is off."""
    return min(framework.reduce_bytes, 2.0) if precision == "fp16" else framework.reduce_bytes
