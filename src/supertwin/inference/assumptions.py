"""Assumptions of the inference model: routing statistics, shares of cores, what runs that do not state it have.

Every entry carries where it comes from. None is chosen with the end-to-end table.
"""

from __future__ import annotations

from supertwin.inference.engines import rebalances
from supertwin.machine.chip import Chip

POPULARITY_CV = 1.36
"""Spread of expert popularity over its mean in the traffic of one service, without a load balancer.

TensorRT-LLM, examples/wide_ep/ep_load_balancer: DeepSeek-R1 on 32 ranks of 8 experts, 1,024 rows per rank and
iteration: standard deviation over ranks 491.65 rows, mean of 58 layers and 100 iterations; less the draw
(1 / sqrt(1024)), times sqrt(8). One layer of DeepSeek-V3 under mixed traffic: 0.70 (sgl-project/sglang PR 5524, counts
of 16 experts); DeepSeek-V2-Lite, Gini 0.24 on text and 0.29 to 0.38 on random tokens: 0.45 to 0.75 (arXiv 2605.20982).
"""

REBALANCED_CV = 0.12
"""Spread that a balancer leaves per expert slot when it places the experts by the statistics of the traffic it meets.

Same source, after rebalancing (36 ranks of 8 slots, 32 replicas): 53.98 of 1,024 rows; less the draw, times sqrt(8).
Decode, thousands of sequences per step, so that single prompts average out.
"""

DRIFT_CV = 0.37
"""The same when the statistics were recorded before: the batch has moved away from them.

Profiles of SGLang on GB200 (shifangx/Scripts-SGLang, logs_gb200_blog2_fp4: DeepSeek-R1, 48 ranks of 6 slots, 32
replicas placed by --init-expert-location): the sending half of combine, which copies a rank's rows, varies over the
layers of a rank by 0.152 (two ranks of two runs: 0.133 to 0.175; its products by 0.12 to 0.20) and by 0.02 from step to
step; less the draw (1 / sqrt(8192)), times sqrt(6). The placement itself leaves 0.01 by the recording.
"""

PROMPT_CV = 1.17
"""Spread of one prompt's own expert popularity around that of the traffic: what one data set adds to mixed traffic,
sqrt(1.36^2 - 0.70^2) of the figures under POPULARITY_CV; a prompt is taken to be as narrow as a data set."""

ATTENTION_STREAM = 16.0 / 24.0
"""Share of cube and vector cores of the attention stream (CM384 paper, figure 14: 16 AIC + 32 AIV of 24 + 48)."""

MOE_STREAM = 8.0 / 24.0
"""Share of the expert stream (8 AIC + 16 AIV)."""

SM_COMMUNICATION_SHARE = 20.0 / 132.0
"""Shader cores that an NVIDIA exchange kernel occupies while it runs (DeepEP README: 20 to 24 SMs of 132)."""

ATTENTION_DP_MODELS = ("qwen3-235b", "qwen3-30b", "llama-4-maverick", "gpt-oss", "deepseek")
"""Models that TensorRT-LLM's perf-overview runs with enable_attention_dp and --ep when a table states only TP."""

EAGLE3_TREE = (4, 4, 16)
"""Levels, nodes expanded per level and tokens verified of a tree that states none: GPUStack's performance lab, page
qwen3-8b/h100-latency (its other runs change one of the three)."""

EAGLE3_DRAFTS = 3
"""Draft steps of an EAGLE-3 run that states none: `speculative-num-steps 3` of SGLang's examples and recipes."""

MAX_QUEUE_REQUESTS = 1000
"""Size of a closed benchmark set when a source does not state it (vllm bench and trtllm-bench use 1,000 or more)."""


def unknown_balance(chip: Chip, phase: str) -> str:
    """Balance of a run that does not state it: Ascend decode results with draft tokens are published with forced expert
    balance (measurements/README, traps); everything else is taken as natural."""
    return "perfect" if chip.vendor == "huawei" and phase in ("decode", "kernel-step") else "natural"


def routing_rows(balanced: bool, framework: str) -> list[tuple[str, str, str, str]]:
    """Rows for --explain on natural routing: (name, value, source, layer). balanced: a load balancer places experts."""
    source = "TensorRT-LLM examples/wide_ep/ep_load_balancer"
    recorded = balanced and not rebalances(framework)
    spread = DRIFT_CV if recorded else REBALANCED_CV if balanced else POPULARITY_CV
    found = "profile of SGLang on GB200 (shifangx/Scripts-SGLang)" if recorded else source
    name = "expert load left by the balancer" if balanced else "expert popularity"
    return [
        (f"spread of {name}", f"{spread:g}", found, "assumption"),
        ("spread of a prompt's expert popularity", f"{PROMPT_CV:g}", source + "; sglang PR 5524", "assumption"),
    ]
