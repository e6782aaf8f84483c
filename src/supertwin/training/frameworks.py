"""What a framework does by itself: attention kernel, launch mode, overlap, gradient formats. Assumptions with a reason.

A profile is picked by the longest matching prefix of the framework name; an unknown or empty name gets the default
profile (a current Megatron-style stack), and the prediction says so.
"""

from __future__ import annotations

from dataclasses import replace

from supertwin.training.framework import BASE, DEFAULT, GATED_APART, NORM_APART, ROTARY_APART, Framework, wire_bytes
from supertwin.training.paddle import paddle_profiles

__all__ = [
    "DEFAULT",
    "Framework",
    "default_etp",
    "default_recompute",
    "framework_named",
    "framework_names",
    "in_precision",
    "wire_bytes",
]

_CLASSIC = replace(
    DEFAULT,
    experts_follow_tp=True,
    attention="fa2",
    name="megatron-lm",
    launch="eager",
    dropout=True,
    bias_apart=True,
    alibi_fused=False,
    permute_passes=3.0,
    dp_overlap=False,
    gather_overlap=False,
    logit_bytes=10.0,
    p2p_scattered=True,
    softmax_block=4,
    older_nccl=True,
    gradients_scaled=True,
    reason="Megatron-LM of 2021-2023: gradients reduced after the last backward, overlap flags off by default; "
    "scatter-gather of pipeline tensors on (arXiv 2104.04473, section 4.1; DeepSpeed pipe_partitioned likewise); "
    "--attention-dropout and --hidden-dropout are 0.1 by default (megatron/arguments.py), biases summed by torch; "
    "the loss takes the exponential of FP32 logits into a new tensor (megatron/mpu/cross_entropy.py)",
)
_MINDSPEED = replace(
    _CLASSIC,
    name="mindspeed",
    alibi_apart=True,
    softmax_block=1,
    older_nccl=False,
    accumulation_fused=False,
    permute_passes=1.0,
    logit_bytes=6.0,
    reason="MindSpeed: distributed optimizer, overlap flags mostly off, fused attention, "
    "--no-gradient-accumulation-fusion (the fused kernel is CUDA's)",
)
_MODELLINK = replace(
    _MINDSPEED,
    name="mindspeed-llm",
    permute_passes=6.3,
    latent_padding=1,
    reason=f"{_MINDSPEED.reason}; permutation by tensor operations, 804 us where the fused kernel takes 127 "
    "(hicann/cann-recipes-train, kernels.csv); values of latent attention padded to the size of the keys where the "
    "script lacks --mla-fa-without-pad (multi_head_latent_attention.py)",
)


def _modellink() -> tuple[Framework, ...]:
    """ModelLink scripts by the fused vector kernels that they turn on (--use-fused-swiglu, --use-fused-rotary-pos-emb);
    --use-fused-rmsnorm is in all."""
    activation = replace(
        _MODELLINK,
        name="mindspeed-llm-plain-activation",
        activation_passes=GATED_APART,
        reason=f"{_MODELLINK.reason}; gated activation by tensor operations",
    )
    rotary = replace(
        _MODELLINK,
        name="mindspeed-llm-plain-rotary",
        rotary_passes=ROTARY_APART,
        reason=f"{_MODELLINK.reason}; rotary positions by tensor operations",
    )
    both = replace(
        activation,
        name="mindspeed-llm-plain",
        rotary_passes=ROTARY_APART,
        reason=f"{activation.reason}; rotary positions likewise",
    )
    padded = replace(
        _MODELLINK,
        name="mindspeed-llm-padded-heads",
        latent_padding=256,
        reason=f"{_MODELLINK.reason}; without --shape-order BNSD queries, keys and values to 256",
    )
    return _MODELLINK, activation, rotary, both, padded


_PROFILES = {
    profile.name: profile
    for profile in (
        DEFAULT,
        _CLASSIC,
        replace(
            _CLASSIC,
            name="megatron-llama",
            dp_overlap=True,
            gather_overlap=True,
            attention_passes=2.0,
            rotary_passes=ROTARY_APART,
            activation_passes=GATED_APART,
            reason="Megatron-LLaMA of 2023: Megatron-LM with OverlappedDistributedOptimizer; FlashAttention-2, around "
            "2 times faster (arXiv 2307.08691, abstract), is yet to come (README); rotary, SwiGLU by tensor operations",
        ),
        replace(
            _CLASSIC,
            name="megatron-deepspeed",
            flash=False,
            p2p_overlap=False,
            tp_backward_overlap=False,
            accumulation_fused=False,
            new_gradient_bytes=2.0,
            flat_step=True,
            reason="fork of Megatron-LM from before fused attention; gradients accumulated and reduced apart, those of "
            "a microbatch kept until its backward is over (DeepSpeed BF16_Optimizer.update_hp_grads)",
        ),
        replace(
            _CLASSIC,
            name="megatron-deepspeed-zero",
            flash=False,
            p2p_overlap=False,
            tp_backward_overlap=False,
            accumulation_fused=False,
            gradient_bytes=2.0,
            reduce_bytes=2.0,
            step_bytes=6.0,
            flat_step=True,
            reason="the same fork where DeepSpeed accumulates in the compute format (FP16; BF16 before BF16_Optimizer "
            "or with grad_accum_dtype bf16): the step flattens the own gradients and copies them to FP32 "
            "(deepspeed/runtime/zero/stage_1_and_2.py, step)",
        ),
        replace(
            BASE,
            name="deepspeed",
            plain_modules=True,
            live_weights=1e9,
            step_bytes=4.0,
            flat_step=True,
            logit_bytes=20.0,
            gradient_bytes=2.0,
            reduce_bytes=2.0,
            messages_per_layer=12.0,
            vector_passes=3.5,
            reason="ZeRO-3 engine: reduces in the compute format, gathers tensor by tensor (12 in a GPT layer); models "
            "of the transformers library, whose norm runs as seven tensor operations (139 us against 40 us fused, "
            "hicann/cann-recipes-train, kernels.csv), rotary positions and activation likewise; logits, shifted "
            "copy, log-softmax and two gradients in FP32 (transformers, modeling_llama.py); stage3_max_live_parameters "
            "is 1e9 (deepspeed/runtime/zero/config.py) and the step copies the own gradients to FP32 (stage3.py)",
        ),
        replace(
            DEFAULT,
            name="megatron-core",
            grouped_experts=True,
            gradients_scaled=True,
            transport="dispatch",
            reason="Megatron-Core: distributed optimizer with both overlaps, DeepEP",
        ),
        replace(
            BASE,
            name="nemo",
            grouped_experts=True,
            launch="eager",
            scaling="delayed",
            tp_overlap=True,
            gradient_bytes=2.0,
            reduce_bytes=2.0,
            loss_apart=False,
            reason="NeMo performance recipes: user-buffer TP overlap, BF16 gradients, both DP overlaps, fused loss, "
            "delayed scaling (fp8_recipe of NeMo 1.x and 2.0, MLPerf submissions)",
        ),
        replace(
            BASE,
            name="megatron-bridge",
            grouped_experts=True,
            launch="graph",
            transport="dispatch",
            tp_overlap=True,
            loss_apart=False,
            gradient_bytes=2.0,
            reduce_bytes=2.0,
            reason="Megatron-Bridge recipes: CUDA graphs, user-buffer TP overlap, BF16 reduction, DeepEP or HybridEP",
        ),
        replace(
            BASE,
            name="llm-foundry",
            logit_bytes=2.0,
            reason="MPT of 2023: FSDP with prefetch; separate norm, add, copy and activation; attn_impl is triton by "
            "default (scripts/train/benchmarking/submit_benchmarks.py), which FlashAttention-2 beats 1.3 to 2.5 "
            "times (arXiv 2307.08691, section 4.1; geometric mean taken); loss_fn fused_crossentropy writes the "
            "gradient over the BF16 logits (llmfoundry/models/mpt/modeling_mpt.py)",
            reduce_bytes=2.0,
            loss_apart=False,
            attention="fa2",
            attention_passes=1.8,
            vector_passes=2.0,
        ),
        replace(
            BASE,
            name="torchtitan",
            launch="compiled",
            loss_apart=False,
            reduce_bytes=4.0,
            reason="per-layer torch.compile, FSDP2 with FP32 reduction",
        ),
        replace(
            BASE,
            name="maxtext",
            logit_bytes=4.0,
            launch="compiled",
            gradient_bytes=4.0,
            reduce_bytes=4.0,
            tp_overlap=True,
            loss_fused=True,
            loss_apart=False,
            reason="one XLA program per step; latency-hiding scheduler; remat_policy is full by default",
            recompute="full",
        ),
        replace(
            BASE,
            name="paxml",
            logit_bytes=4.0,
            launch="compiled",
            reduce_bytes=2.0,
            loss_fused=True,
            loss_apart=False,
            softmax_scans=True,
            one_hot=True,
            loop_waits=0.25,
            bias_apart=True,
            reason="one XLA program per step; latency-hiding scheduler; AutodiffCheckpointType.SAVE_NOTHING and "
            "EMBEDDING_LOOKUP_STYLE matmul by default (paxml/tasks/lm/params/lm_cloud.py, c4.py); "
            "--xla_gpu_enable_triton_softmax_fusion=false (run_base_config_multinode.sh)",
            recompute="full",
        ),
        _MINDSPEED,
        *_modellink(),
        replace(
            _CLASSIC,
            name="ascendspeed",
            flash=False,
            alibi_apart=True,
            softmax_block=1,
            accumulation_fused=False,
            norm_passes=NORM_APART,
            activation_passes=GATED_APART,
            reason="AscendSpeed 2023: scores in memory, softmax by one kernel; norm and gated activation by tensor "
            "operations (ascendspeed/model/llama_model.py), no overlap, no fused accumulation",
        ),
        replace(
            BASE,
            name="mindformers",
            launch="graph",
            loss_apart=False,
            reason="MindSpore compiles the step to one graph",
        ),
        replace(
            BASE,
            name="megascale",
            attention="fa2",
            tp_overlap=True,
            ep_overlap=True,
            loss_apart=False,
            reason="MegaScale: every collective overlapped by design, arXiv 2402.15627",
        ),
        replace(BASE, name="cann-recipes", reason="CANN training recipes: overlapped distributed optimizer"),
        replace(
            _CLASSIC,
            name="flagscale",
            rotary_passes=ROTARY_APART,
            activation_passes=GATED_APART,
            reason="FlagScale on Megatron-LM of 2023, whose rotary positions and SwiGLU are tensor operations "
            "(megatron/model/transformer.py, rotary_pos_embedding.py)",
        ),
        *paddle_profiles(),
        replace(
            BASE,
            name="meta internal",
            tp_overlap=False,
            loss_apart=False,
            reason="arXiv 2407.21783: FSDP over DP, fused kernels, SP",
        ),
    )
}


_PROFILES["paxml-te"] = replace(
    _PROFILES["paxml"],
    name="paxml-te",
    softmax_scans=False,
    reason="Pax with Transformer Engine: fused softmax and norm",
)


def framework_named(name: str) -> Framework:
    """Profile of the longest known prefix of `name`; DEFAULT when there is none."""
    given = name.lower().strip()
    found = [key for key in _PROFILES if given.startswith(key)]
    return _PROFILES[max(found, key=len)] if found else DEFAULT


def in_precision(framework: Framework, precision: str) -> Framework:
    """The profile with gradients as that precision accumulates them (FP16 narrow where the stack does so)."""
    if precision != "fp16" or not framework.narrow_accumulation or framework.gradient_bytes == 2.0:
        return framework
    step = 6.0 if framework.flat_step else 4.0
    return replace(framework, gradient_bytes=2.0, reduce_bytes=2.0, new_gradient_bytes=0.0, step_bytes=step)


def framework_names() -> list[str]:
    """Known profiles, sorted."""
    return sorted(_PROFILES)


def default_etp(name: str, tp: int, ep: int, ranks: int, experts: int) -> int:
    """Expert tensor size of a job that does not state it: tp where the framework cuts experts like dense matrices, or
    where there is no expert parallelism, and the ranks (tp x cp x dp) allow it, else 1. experts: of the model; without
    any, 1."""
    if not experts:
        return 1
    follows = framework_named(name).experts_follow_tp or ep == 1
    return tp if follows and ranks % (ep * tp) == 0 else 1


def default_recompute(name: str) -> str:
    """Recomputation of a job that does not state it."""
    return framework_named(name).recompute
