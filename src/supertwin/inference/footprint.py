"""Memory beside weights and caches: activations at their peak, captured graphs, communicators, exchange buffers.

Activations: the residual stream twice, and the widest moment of any block, per token of a step; or the logits of the
rows that are sampled. What engines set aside at their start is that of their profile run: all tokens of a full step,
and a sampled row for every sequence that they admit.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache

import numpy as np

from supertwin.core.formats import number_format
from supertwin.inference.case import Deployment
from supertwin.inference.engines import Engine
from supertwin.inference.layers import transport
from supertwin.inference.placement import Placement, Real, moe
from supertwin.inference.profiled import SAMPLER_BYTES, samples_by_kernel
from supertwin.machine.chip import Chip
from supertwin.model.spec import AttentionSpec, FeedForwardSpec, ModelSpec
from supertwin.workload.shard import Shard, above, maximum, minimum

MIB, GIB = 2.0**20, 2.0**30

LOGIT_BYTES = 6.0
"""A sampled logit in BF16 and FP32."""
SORTED_LOGIT_BYTES = 37.0
"""Bytes per logit of vLLM's profile run, which samples all sequences with top-k and top-p, in plain PyTorch: 7.37 GiB
beside the weights with 1,024 rows of 201,088 words (gpt-oss-120b on one H100; vLLM issue 23278); 1.26 GiB with 256 rows
of 128,256, tp 1 and 2 alike (Llama-3-8B; pull request 10511), which it gives as well. V1 takes FlashInfer where it is
installed, as in the official images: profiled.py."""

VLLM_GRAPH_BYTES = 24.0 * MIB
"""One captured size of vLLM: 24 to 28 MiB (pull requests 22897, 23184), about 24 MiB (issue 50780); 1.40 GiB for 67
sizes of Llama-4 Maverick (sgl-project/sglang issue 8538)."""
SGLANG_SEQUENCE_BYTES = 2.0 * MIB
"""Captured sequence of SGLang, up to the largest graph (server_args, mem_fraction_static)."""
GRAPHS_COUNTED_FROM = 21
NPU_GRAPH_BYTES = 0.04 * GIB
"""All captured graphs of vLLM-Ascend (pull request 8289, Qwen3-0.6B)."""

CONTEXT_BYTES = {"huawei": 0.54 * GIB}
"""Runtime of a process: 0.41 GiB before and 0.13 GiB after loading on a 910B (vLLM-Ascend pull request 8289)."""
OTHER_CONTEXT_BYTES = 0.66 * GIB
"""The same on GPUs: 0.5 GiB of CUDA context (assumption) and 0.16 GiB of libraries (vLLM pull request 12126)."""
NCCL_BYTES = 0.75 * GIB
"""Communicators and all-reduce buffers of a GPU in a group: what 71.3 GiB on each of four H100 leave after weights,
8.11 GiB of cache and the profile run (Qwen3-235B in FP8; vLLM issue 21348). Pull request 10511 counts 1.79 GiB more
outside of torch with tp 2 than with tp 1 in an older version."""
HCCL_BYTES = 2.0 * 200.0 * MIB
"""A communicator of HCCL: twice HCCL_BUFFSIZE, 200 MB by default (CANN documentation)."""

DISPATCH_TRAILER_BYTES = 512.0
"""Scale and routing word of a token in an exchange buffer (CM384 paper: 7 KB of INT8 + 512 B = 7.5 KB)."""
LOW_LATENCY_TOKENS = 128.0
"""Tokens per rank that DeepEP's low-latency buffers are sized for at least (SGLang:
SGLANG_DEEPEP_NUM_MAX_DISPATCH_TOKENS_PER_RANK)."""
MOST_LOW_LATENCY_TOKENS = 1024.0
NORMAL_BUFFER_BYTES = GIB
"""DeepEP's normal kernels (vLLM: VLLM_DEEPEP_BUFFER_SIZE_MB 1024)."""
_NO_GRAPHS = ("tensorrt-llm", "mindie")
_SGLANG = ("sglang", "sglang-deepep")


@lru_cache(maxsize=512)
def widths_per_token(model: ModelSpec, tp: float, etp: float) -> float:
    """Values of a token that live at the widest moment of a step on one device: the residual stream and its normed
    copy, and the widest block. MoE: rows of all picks (as many arrive as leave)."""
    widest = 0.0
    for layer in model.layers:
        if layer.attention is not None:
            widest = max(widest, _attention_width(layer.attention, tp))
        for block in (layer.feed_forward, layer.shortcut):
            if block is not None:
                widest = max(widest, _feed_forward_width(block, model.hidden, tp, etp))
    return 2.0 * model.hidden * model.hyper_connections + widest


def _attention_width(a: AttentionSpec, tp: float) -> float:
    """Queries, keys, values and results of the heads here; full latent attention writes the keys of all heads from
    their parts."""
    if a.kind in ("linear", "mamba"):
        key, value = a.linear_key_heads * a.linear_key_head_dim, a.linear_value_heads * a.linear_value_head_dim
        return (2.0 * (2.0 * key + value) + 2.0 * value) / tp
    if a.kind == "mla":
        made = a.qk_nope_head_dim + a.v_head_dim + a.qk_head_dim
        heads = a.heads * (a.qk_head_dim + made + a.v_head_dim) / tp
        return heads + a.q_lora_rank + a.kv_lora_rank + a.qk_rope_head_dim
    return (a.heads * (a.qk_head_dim + a.v_head_dim) + 2.0 * max(a.kv_heads, tp) * a.qk_head_dim) / tp


def _feed_forward_width(block: FeedForwardSpec, hidden: int, tp: float, etp: float) -> float:
    """Up (and gate), activation; with experts a row per pick, whose input or result is the wider."""
    parts = 3.0 if block.gated else 2.0
    if not block.experts:
        return parts * block.inter / tp
    width = block.latent or hidden
    inner = block.inter / etp
    return block.topk * (max((parts - 1.0) * inner, float(width)) + inner) + parts * block.shared_inter / tp


def activations_bytes(
    model: ModelSpec, shard: Shard, tokens: Real, rows: Real, logit_bytes: float = LOGIT_BYTES
) -> Real:
    """Peak of a step of `tokens` new tokens on an attention rank of which `rows` are sampled."""
    tp, etp = float(np.max(shard.tp)), float(np.max(shard.etp))
    body = tokens * 2.0 * widths_per_token(model, tp, etp)
    return maximum(body, rows * float(model.vocab) * logit_bytes + tokens * 4.0 * model.hidden)


def profiled_logit_bytes(engine: Engine, chip: Chip) -> float:
    """Bytes per logit that an engine counts when it measures its memory."""
    if not engine.name.startswith("vllm"):
        return LOGIT_BYTES
    return SAMPLER_BYTES if samples_by_kernel(engine, chip) else SORTED_LOGIT_BYTES


def captured_sizes(most: float) -> int:
    """Batch sizes that vLLM captures: 1, 2, 4, then every 8 up to 256 and every 16 up to `most`, at most 512."""
    most = min(most, 512.0)
    small = sum(size <= most for size in (1, 2, 4))
    return int(small + min(most, 256.0) // 8 + max(most - 256.0, 0.0) // 16)


def graphs_bytes(engine: Engine, chip: Chip, deployment: Deployment) -> float:
    """Pools of captured graphs."""
    if chip.vendor == "huawei":
        return NPU_GRAPH_BYTES
    if engine.name in _NO_GRAPHS:
        return 0.0
    if engine.name in _SGLANG:
        return SGLANG_SEQUENCE_BYTES * largest_graph(chip.usable_memory_bytes / MIB, server_devices(deployment))
    most = 128.0 if engine.name.startswith(("tensorrt", "mlperf")) else 2.0 * engine.max_num_seqs
    return VLLM_GRAPH_BYTES * captured_sizes(most)


def server_devices(deployment: Deployment) -> int:
    """Devices of one SGLang server (tp_size): ranks that share nothing are servers of their own."""
    return deployment.tp * (deployment.dp if deployment.dp_attention else 1)


@lru_cache(maxsize=128)
def counts_graphs(framework: str) -> bool:
    """Whether an engine captures inside its share of the memory: vLLM from 0.21 on estimates its graphs before it sizes
    the cache (VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS)."""
    version = re.search(r"vllm\s+v?0\.(\d+)", framework.lower())
    return version is not None and int(version[1]) >= GRAPHS_COUNTED_FROM


def largest_graph(size_mib: float, devices: int) -> int:
    """Largest batch that SGLang captures, by device memory (server_args, cuda_graph_max_bs)."""
    small, large = 8, 16
    for limit_gib, choice in ((35, (24, 80)), (60, (32, 160)), (160, (256, 512))):
        if size_mib < 20.0 * 1024.0:
            break
        small, large = choice
        if size_mib < limit_gib * 1024.0:
            break
    else:
        small = large = 512
    return small if devices < 4 else large


def communicators_bytes(chip: Chip, placement: Placement) -> float:
    """Buffers of the collective library: of a GPU in any group; of each group of an Ascend device (tensor, context,
    expert or data parallel, pipeline)."""
    groups = [placement.tp, placement.cp, placement.moe_devices if placement.moe_devices > placement.tp else 1]
    apart = sum(size > 1 for size in (*groups, placement.pp))
    return HCCL_BYTES * apart if chip.vendor == "huawei" else NCCL_BYTES * (apart > 0)


def runtime_bytes(engine: Engine, chip: Chip, deployment: Deployment, placement: Placement) -> float:
    """Process, graphs and communicators."""
    return context_bytes(chip) + graphs_bytes(engine, chip, deployment) + communicators_bytes(chip, placement)


def context_bytes(chip: Chip) -> float:
    """What a process takes before anything else."""
    return CONTEXT_BYTES.get(chip.vendor, OTHER_CONTEXT_BYTES)


def buffer_bytes(
    model: ModelSpec, placement: Placement, tokens_per_rank: Real, shard: Shard, engine: Engine, vendor: str = "huawei"
) -> Real:
    """Exchange buffers of dispatch and combine on one device, up to 512 (DeepEP: 1,024) tokens per rank."""
    mixture = moe(model)
    if mixture is None or transport(placement, engine) != "dispatch":
        return 0.0
    width = float(mixture.latent or model.hidden)
    experts = mixture.experts + float(shard.redundant_experts)
    if vendor != "huawei":
        low = low_latency_bytes(maximum(tokens_per_rank, LOW_LATENCY_TOKENS), width, experts)
        many = above(tokens_per_rank, MOST_LOW_LATENCY_TOKENS)
        return low * (1.0 - many) + NORMAL_BUFFER_BYTES * many
    tokens = minimum(tokens_per_rank, 512.0)
    if engine.name == "cloudmatrix-infer":
        return paper_bytes(tokens, width, placement.ep, (mixture.topk, experts), shard.dispatch_dtype)
    return maximum(mc2_bytes(tokens, width, placement.ep, (mixture.topk, experts)) - HCCL_BYTES, 0.0)


def paper_bytes(tokens: Real, width: float, ranks: int, picks: tuple[int, float], dtype: str) -> Real:
    """Every source rank owns slots for all its tokens: ranks x tokens x (hidden in the payload format + 512 B) to
    receive and ranks x tokens x hidden x 2 B for results, times the experts of one token that may lie on one rank
    (CM384 paper 4.2.1: 320 x 96 x (7.5 + 14) KB = 225 + 420 = 645 MiB)."""
    local = max(1.0, min(picks[0], picks[1] // ranks))
    one = width * number_format(dtype).bytes_per_element + DISPATCH_TRAILER_BYTES + 2.0 * width
    return ranks * tokens * one * min(local, 2.0)


def mc2_bytes(tokens: Real, width: float, ranks: int, picks: tuple[int, float]) -> Real:
    """Window of CANN's dispatch and combine: 2 x (local experts x tokens x ranks x (hidden in BF16, 32 B aligned, + 44
    B, 512 B for each 480) + top-k x tokens x hidden in BF16) (aclnnMoeDistributeDispatchV2, HCCL_BUFFSIZE;
    cann-recipes-infer, calc_moe_hccl_buffer_size)."""
    sent = math.ceil((math.ceil(2.0 * width / 32.0) * 32.0 + 44.0) / 480.0) * 512.0
    home = math.ceil(2.0 * width / 512.0) * 512.0
    here = max(1.0, picks[1] // ranks)
    return 2.0 * tokens * (here * ranks * sent + picks[0] * home)


def low_latency_bytes(tokens: Real, width: float, experts: float) -> Real:
    """DeepEP's low-latency layout: two sets of send and receive buffers of a message per expert and token (config.hpp,
    LowLatencyLayout; BF16 payload + 16 B out, BF16 + 4 B per 128 values home) and of a counter per expert."""
    out = 16.0 + 2.0 * width
    home = 2.0 * width + width / 128.0 * 4.0
    return 2.0 * (experts * tokens * home + experts * tokens * max(out, home) + 4.0 * experts)
