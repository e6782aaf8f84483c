"""What a framework does by itself: attention kernel, launch mode, overlap, gradient formats. Assumptions with a reason.

A profile is picked by the longest matching prefix of the framework name; an unknown or empty name gets the default
profile (a current Megatron-style stack), and the prediction says so.
"""

from __future__ import annotations

from dataclasses import replace

from supertwin.training.framework import DEFAULT, Framework, wire_bytes

__all__ = [
    "DEFAULT",
    "Framework",
    "default_etp",
    "default_recompute",
    "framework_named",
    "framework_names",
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
    p2p_scattered=True,
    softmax_block=4,
    reason="Megatron-LM of 2021-2023: gradients reduced after the last backward, overlap flags off by default; "
    "scatter-gather of pipeline tensors on (arXiv 2104.04473, section 4.1; DeepSpeed pipe_partitioned likewise); "
    "--attention-dropout and --hidden-dropout are 0.1 by default (megatron/arguments.py), biases summed by torch",
)
# Passes over the values where one kernel takes 2 + 2 (rotary: read, write) and 3 + 5 (gated activation), forward and
# backward. Rotary: two products with cosine and sine, half turn (two negations, join), sum, join of the untouched part:
# 12 and 10. Gated activation: activation, product: 5; two products, gradient of the activation, join: 13
# (megatron rotary_pos_embedding.py, transformer.py; torch autograd).
_ROTARY_APART = 22.0 / 4.0
_GATED_APART = 18.0 / 8.0
_NORM_APART = 3.5  # 139 us against 40 us (hicann/cann-recipes-train, kernels.csv)
_MINDSPEED = replace(
    _CLASSIC,
    name="mindspeed",
    alibi_apart=True,
    softmax_block=1,
    accumulation_fused=False,
    permute_passes=1.0,
    states_reused=True,
    reason="MindSpeed: distributed optimizer, overlap flags mostly off, fused attention, --reuse-fp32-param, "
    "--no-gradient-accumulation-fusion (the fused kernel is CUDA's)",
)
_MODELLINK = replace(
    _MINDSPEED,
    name="mindspeed-llm",
    permute_passes=6.3,
    reason=f"{_MINDSPEED.reason}; permutation by tensor operations, 804 us where the fused kernel takes 127 "
    "(hicann/cann-recipes-train, kernels.csv)",
)


def _modellink() -> tuple[Framework, ...]:
    """ModelLink scripts by the fused vector kernels that they turn on (--use-fused-swiglu, --use-fused-rotary-pos-emb);
    --use-fused-rmsnorm is in all."""
    activation = replace(
        _MODELLINK,
        name="mindspeed-llm-plain-activation",
        activation_passes=_GATED_APART,
        reason=f"{_MODELLINK.reason}; gated activation by tensor operations",
    )
    rotary = replace(
        _MODELLINK,
        name="mindspeed-llm-plain-rotary",
        rotary_passes=_ROTARY_APART,
        reason=f"{_MODELLINK.reason}; rotary positions by tensor operations",
    )
    both = replace(
        activation,
        name="mindspeed-llm-plain",
        rotary_passes=_ROTARY_APART,
        reason=f"{activation.reason}; rotary positions likewise",
    )
    return _MODELLINK, activation, rotary, both


def _paddle() -> tuple[Framework, ...]:
    """PaddleNLP of 2023 on Paddle 2.5: GPT, LLaMA with the fused norm, LLaMA without it."""
    gpt = replace(
        DEFAULT,
        name="paddle",
        dp_overlap=False,
        gradient_bytes=2.0,
        reduce_bytes=2.0,
        attention="fa2",
        attention_passes=2.0,
        accumulation_fused=False,
        dropout=True,
        bias_apart=True,
        reason="PaddleNLP scripts without overlap options; Paddle 2.5 is older than FlashAttention-2, which is around "
        "2 times faster than the first (arXiv 2307.08691, abstract); dropout 0.1 (transformers/gpt/configuration.py)",
    )
    llama = replace(
        gpt,
        name="paddle-llama",
        rotary_passes=_ROTARY_APART,
        activation_passes=_GATED_APART,
        reason=f"{gpt.reason}; rotary, gated activation by tensor operations (transformers/llama/modeling.py)",
    )
    plain = replace(
        llama, name="paddle-llama-plain", norm_passes=_NORM_APART, reason=f"{llama.reason}; use_fused_rms_norm=False"
    )
    return gpt, llama, plain


_PROFILES = {
    profile.name: profile
    for profile in (
        DEFAULT,
        _CLASSIC,
        replace(
            _CLASSIC,
            name="megatron-deepspeed",
            flash=False,
            p2p_overlap=False,
            tp_backward_overlap=False,
            accumulation_fused=False,
            new_gradient_bytes=2.0,
            reason="fork of Megatron-LM from before fused attention; gradients accumulated and reduced apart, those of "
            "a microbatch kept until its backward is over (DeepSpeed BF16_Optimizer.update_hp_grads)",
        ),
        replace(
            DEFAULT,
            name="deepspeed",
            gradient_bytes=2.0,
            reduce_bytes=2.0,
            messages_per_layer=12.0,
            vector_passes=3.5,
            reason="ZeRO-3 engine: reduces in the compute format, gathers tensor by tensor (12 in a GPT layer); models "
            "of the transformers library, whose norm runs as seven tensor operations (139 us against 40 us fused, "
            "hicann/cann-recipes-train, kernels.csv), rotary positions and activation likewise",
        ),
        replace(
            DEFAULT,
            name="megatron-core",
            grouped_experts=True,
            transport="dispatch",
            reason="Megatron-Core: distributed optimizer with both overlaps, DeepEP",
        ),
        replace(
            DEFAULT,
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
            DEFAULT,
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
            DEFAULT,
            name="llm-foundry",
            reason="MPT of 2023: FSDP with prefetch; separate norm, add, copy and activation; attn_impl is triton by "
            "default (scripts/train/benchmarking/submit_benchmarks.py), which FlashAttention-2 beats 1.3 to 2.5 "
            "times (arXiv 2307.08691, section 4.1; geometric mean taken)",
            reduce_bytes=2.0,
            loss_apart=False,
            attention="fa2",
            attention_passes=1.8,
            vector_passes=2.0,
        ),
        replace(
            DEFAULT,
            name="torchtitan",
            launch="compiled",
            loss_apart=False,
            reduce_bytes=4.0,
            reason="per-layer torch.compile, FSDP2 with FP32 reduction",
        ),
        replace(
            DEFAULT,
            name="maxtext",
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
            DEFAULT,
            name="paxml",
            launch="compiled",
            reduce_bytes=2.0,
            loss_fused=True,
            loss_apart=False,
            reason="one XLA program per step; latency-hiding scheduler; AutodiffCheckpointType.SAVE_NOTHING by default",
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
            norm_passes=_NORM_APART,
            activation_passes=_GATED_APART,
            reason="AscendSpeed 2023: scores in memory, softmax by one kernel; norm and gated activation by tensor "
            "operations (ascendspeed/model/llama_model.py), no overlap, no fused accumulation",
        ),
        replace(
            DEFAULT,
            name="mindformers",
            launch="graph",
            loss_apart=False,
            reason="MindSpore compiles the step to one graph",
        ),
        replace(
            DEFAULT,
            name="megascale",
            attention="fa2",
            tp_overlap=True,
            ep_overlap=True,
            loss_apart=False,
            reason="MegaScale: every collective overlapped by design, arXiv 2402.15627",
        ),
        replace(DEFAULT, name="cann-recipes", reason="CANN training recipes: overlapped distributed optimizer"),
        replace(_CLASSIC, name="flagscale", reason="FlagScale on Megatron-LM of 2023"),
        *_paddle(),
        replace(
            DEFAULT,
            name="meta internal",
            tp_overlap=False,
            loss_apart=False,
            reason="arXiv 2407.21783: FSDP over DP, fused kernels, SP",
        ),
    )
}


def framework_named(name: str) -> Framework:
    """Profile of the longest known prefix of `name`; DEFAULT when there is none."""
    given = name.lower().strip()
    found = [key for key in _PROFILES if given.startswith(key)]
    return _PROFILES[max(found, key=len)] if found else DEFAULT


def framework_names() -> list[str]:
    """Known profiles, sorted."""
    return sorted(_PROFILES)


def default_etp(name: str, tp: int, ep: int, ranks: int) -> int:
    """Expert tensor size of a job that does not state it: tp where the framework cuts experts like dense matrices, or
    where there is no expert parallelism, and the ranks (tp x cp x dp) allow it, else 1."""
    follows = framework_named(name).experts_follow_tp or ep == 1
    return tp if follows and ranks % (ep * tp) == 0 else 1


def default_recompute(name: str) -> str:
    """Recomputation of a job that does not state it."""
    return framework_named(name).recompute
