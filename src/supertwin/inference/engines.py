"""Serving engines: how they behave around the kernels. Limits are the engines' own defaults, host gaps come from
statements of their authors; none is chosen with the end-to-end table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from supertwin.inference.versions import engine_name
from supertwin.machine.chip import Chip


@dataclass(frozen=True, slots=True)
class Engine:
    """How a serving engine behaves around the kernels.

    step_gap_s: host time per decode step that the device waits for; sequence_gap_s: the same per resident sequence
    (input preparation, sampling, detokenising); request_gap_s: tokenise, HTTP and scheduling before a request's prefill
    starts; launch_s: host time to issue one kernel without a graph (a floor under short prefill steps); operator_s: the
    same of one operator of the list, exchanges included, in steps of more prompt tokens than captured_tokens (0: not);
    memory_fraction: share of the device memory (or, with of_free, of what weights leave free) that may be filled;
    max_num_seqs, max_batched_tokens: default limits per engine instance (attention rank); mixes_prefill: prefill chunks
    ride in decode steps; exchange: how attention-DP tokens reach the experts (dispatch | gather); expert_kernels:
    calibration context of its default expert kernels; routes_in_passes: long prefill steps exchange tokens by a plain
    all-to-all, and sort and restore them in passes of their own; static_memory: the share is that of weights and
    caches alone, activations lie outside; sequence_host_s: host work per resident sequence and step beside the device's
    own (overlapped scheduling), which bounds the step; logit_bytes: memory of sampler and decoder per sequence that may
    be admitted and entry of the vocabulary; gathers_dense: attention ranks that share experts share MLPs and
    the head too, each holds a part (SGLang: moe_dense_tp_size, enable_dp_lm_head off); prolog: decode runs what
    precedes the core of latent attention as one kernel (prolog.py); held_steps: decode steps that one scheduling
    decision launches, in which no prompt starts (vLLM V0: num_scheduler_steps); gather_steps: steps that attention
    ranks that share experts at most wait for each other's prompts (TensorRT-LLM: attention_dp_config);
    fuses: its kernels on Ascend quantise on the way (fused.py); shared_beside: shared experts run on a stream of their
    own beside gate and dispatch in decode; permutes_beside: with two micro-batches in prefill, vector cores sort the
    tokens of an exchange beside the other one's products; draft_gap_s: as step_gap_s, before every draft pass;
    reserved: share of the replies to come that admission keeps free in the cache (vLLM: blocks as tokens come; SGLang:
    init_new_token_ratio 0.7; others: all, as TensorRT-LLM's GUARANTEED_NO_EVICT); loads_all: it computes
    prompts as long as the cache has room, however many requests decode at a time; ahead_steps: steps that are already
    scheduled while one runs, so that a new prompt rides in the step after (vLLM's asynchronous scheduling:
    step_with_batch_queue with two batches; SGLang: event_loop_overlap; TensorRT-LLM: _executor_loop_overlap);
    whole_drafts: every draft pass runs over all the tokens; rebalances: its load balancer moves experts while it
    serves, by the statistics of what it serves (else they lie as a recording says); unrecorded_s: host time of a
    decode step that is not one graph, beside the device; reduces_beside: products of prompts reduce their tiles over
    the tensor-parallel group as they finish (FUSED_REDUCE).
    """

    name: str
    step_gap_s: float
    sequence_gap_s: float
    request_gap_s: float
    launch_s: float
    memory_fraction: float
    of_free: bool
    max_num_seqs: int
    max_batched_tokens: int
    mixes_prefill: bool
    exchange: str
    source: str
    expert_kernels: str = ""
    routes_in_passes: bool = False
    static_memory: bool = False
    gathers_dense: bool = False
    sequence_host_s: float = 0.0
    logit_bytes: float = 0.0
    prolog: bool = False
    held_steps: int = 1
    gather_steps: int = 0
    fuses: bool = False
    shared_beside: bool = False
    draft_gap_s: float = 0.0
    whole_drafts: bool = False
    reserved: float = 1.0
    loads_all: bool = False
    ahead_steps: int = 0
    permutes_beside: bool = False
    rebalances: bool = False
    operator_s: float = 0.0
    captured_tokens: int = 0
    reduces_beside: bool = False
    unrecorded_s: float = 0.0


_US = 1e-6
PYTHON_OPERATOR_S, CAPTURED = 62e-6, 512
"""Host time per operator, median of nine published steps that wait for it (docs/inference.md); tokens of the largest
step that vLLM V1 captures in pieces (max_cudagraph_capture_size)."""
PYTHON_SEQUENCE_S = 45.11e-3 / 1536
"""Host time per sequence and step of TensorRT-LLM's Python executor on a Grace processor: 45.11 ms per iteration with
1,536 sequences per rank where the host is the bottleneck (gpt-oss-120b on GB200; NVIDIA/TensorRT-LLM pull request
10273). Its sampler alone takes 34 us per sequence in a step of 256 (pull request 16564)."""

GRACE_SLOWER = 1.4
"""Time of such Python work on a core of Grace (Neoverse V2, 3.4 GHz) over that on the x86 cores of HGX machines (3.8 to
4.1 GHz under such loads; assumption)."""

SPECULATIVE_MOST_REQUESTS = 48
"""SGLang resets max_running_requests of the whole server to 48 when speculative decoding is on and no limit is given
(arg_groups/speculative_hook.py; issue 33199 of sgl-project/sglang)."""

UNOVERLAPPED_GAP_S = 800e-6
"""Host gap of a step whose scheduling does not overlap the device, as in vLLM V1; SGLang without its overlapped
scheduler: a step of 2.01 ms takes 2.75 (LFM2, pull request 38131)."""

SPECULATING_GAP_S = 1.8e-3
"""Host gap of a step of SGLang's EAGLE worker, which schedules, drafts and verifies in turn (server_args:
disable_overlap_schedule with speculative decoding, PR 3986). Overlap takes 1.1 ms off it (12.1 to 11.0 ms,
Llama-3.1-8B, PR 11398) and 2.0 (16.3 to 14.4, DeepSeek-R1 at tp 8, PR 12128), and leaves the 0.3 of other steps."""

FUSED_REDUCE = "gemm-allreduce"
"""Word of a framework for products that reduce their own tiles (TensorRT-LLM: gemm_allreduce_plugin)."""

_GRACE = ("gh200", "gb200", "gb300")
_VLLM_LIMITS = "vllm engine/arg_utils.py: 1024 sequences, 8192 tokens on >= 70 GiB parts except A100, else 256 and 2048"
_VLLM_EPLB = "; EPLBConfig: experts rebalanced every 3,000 steps by the last 1,000"

ENGINES: tuple[Engine, ...] = (
    Engine(
        "tensorrt-llm", 300 * _US, 0.5 * _US, 5e-3, 4 * _US, 0.90, True, 2048, 8192, True, "gather",
        "TensorRT-LLM docs: max_batch_size 2048, max_num_tokens 8192, free fraction 0.90 (perf-overview: often 0.95);"
        " llm_args.MoeConfig.backend of 1.0: CUTLASS",
        "cutlass",
    ),
    Engine(
        "tensorrt-llm-pytorch", 300 * _US, 0.5 * _US, 5e-3, 35 * _US, 0.90, True, 2048, 8192, True, "gather",
        "as tensorrt-llm; from 1.0 on in Python by default (llm_args.TorchLlmArgs): 35 us between kernels outside"
        " graphs (NVIDIA/TensorRT-LLM pull request 12653); host per sequence: PYTHON_SEQUENCE_S; logits in BF16 and two"
        " copies in FP32 (bench/build/tuning.py limits the batch for the sake of the decoder's buffers)",
        "cutlass",
        sequence_host_s=PYTHON_SEQUENCE_S / GRACE_SLOWER,
        logit_bytes=10.0,
        ahead_steps=1,
    ),
    Engine(
        "mlperf-tensorrt", 200 * _US, 0.2 * _US, 2e-3, 3 * _US, 0.95, True, 2048, 8192, True, "gather",
        "closed C++ harness around TensorRT-LLM; limits tuned by the submitter, taken as memory; NVIDIA's DeepSeek-R1"
        " Server configuration of 5.1: adp_balancing_timeout_iters 9",
        gather_steps=9,
        reserved=0.0,  # batch_scheduler_policy max_util
    ),
    Engine(
        "vllm-v0", 2000 * _US, 15 * _US, 10e-3, 8 * _US, 0.90, False, 256, 2048, False, "gather",
        "vLLM v0.6 blog: Llama-8B on H100 spends 38 % of the step on the device, the rest in scheduling and the server",
        operator_s=PYTHON_OPERATOR_S, reserved=0.0,
    ),
    Engine(
        "vllm-rocm-mlperf", 1000 * _US, 2 * _US, 5e-3, 8 * _US, 0.95, False, 2048, 40960, False, "gather",
        "AMD's MLPerf 5.0 and 5.1 submissions (harness_llm/models/*/server_mi3*.yaml): num_scheduler_steps 9, chunked"
        " prefill off, 40,960 tokens, sequences tuned by the submitter",
        held_steps=9,
        reserved=0.0,
    ),
    Engine(
        "vllm", 800 * _US, 4 * _US, 8e-3, 8 * _US, 0.90, False, 1024, 8192, True, "gather",
        "vLLM V1 blog: engine core apart from the server, 1.7x of V0; " + _VLLM_LIMITS + _VLLM_EPLB,
        "sglang", operator_s=PYTHON_OPERATOR_S, captured_tokens=CAPTURED, rebalances=True, reserved=0.0,
    ),
    Engine(
        "vllm-async", 250 * _US, 2 * _US, 8e-3, 8 * _US, 0.90, False, 1024, 8192, True, "gather",
        "vLLM from 0.14: asynchronous scheduling by default; " + _VLLM_LIMITS + _VLLM_EPLB,
        "sglang", operator_s=PYTHON_OPERATOR_S, captured_tokens=CAPTURED, rebalances=True, reserved=0.0,
        ahead_steps=1,
    ),
    Engine(
        "vllm-ascend", 1500 * _US, 5 * _US, 10e-3, 10 * _US, 0.90, False, 256, 8192, True, "dispatch",
        "vLLM on A3: step = compute + communication + free time, factor 1.03 to 1.37",
        routes_in_passes=True,
        reserved=0.0,
    ),
    Engine(
        "sglang", 300 * _US, 1 * _US, 8e-3, 8 * _US, 0.88, False, 2048, 8192, False, "gather",
        "SGLang v0.4 blog: overlapped scheduler, device idle under 2 %; server_args: chunk 8192, mem_fraction 0.88",
        "sglang",
        gathers_dense=True, operator_s=PYTHON_OPERATOR_S, reserved=0.7, ahead_steps=1,
    ),
    Engine(
        "sglang-deepep", 300 * _US, 1 * _US, 8e-3, 8 * _US, 0.88, False, 2048, 16384, False, "dispatch",
        "SGLang large-scale EP blog: DeepEP, two-batch overlap, 16384 tokens per device in prefill",
        operator_s=PYTHON_OPERATOR_S, reserved=0.7,
        ahead_steps=1,
    ),
    Engine(
        "sglang-ascend", 1500 * _US, 5 * _US, 10e-3, 10 * _US, 0.85, False, 1024, 8192, False, "dispatch",
        "as vllm-ascend for the host side",
        reserved=0.7,
    ),
    Engine(
        "mindie", 1000 * _US, 2 * _US, 10e-3, 8 * _US, 0.90, False, 256, 8192, False, "dispatch",
        "MindIE defaults: maxBatchSize 200 to 256, maxPrefillTokens 8192",
        routes_in_passes=True,
        loads_all=True,  # SLO scheduling of MindIE 2.3 limits batches lest all requests be loaded into on-chip memory
    ),
    Engine(
        "cann-recipes", 700 * _US, 0.0, 0.0, 10 * _US, 0.95, False, 4096, 16384, False, "dispatch",
        "offline loop, a graph per pass of model and draft with torch.npu.synchronize() before it, drafts of next_n + 1"
        " tokens (executor/core/model_worker), enable_multi_streams, enable_mla_prolog; CM384 paper 4.2.4: 0.6 to"
        " 0.8 ms to launch one graph",
        routes_in_passes=True, prolog=True, fuses=True, shared_beside=True, draft_gap_s=700 * _US, whole_drafts=True,
    ),
    Engine(
        "cloudmatrix-infer", 700 * _US, 0.0, 5e-3, 10 * _US, 0.95, False, 4096, 8192, False, "dispatch",
        "CM384 paper 4.2.4: main and MTP graph are launched back to back; one launch of 0.6 to 0.8 ms stays exposed;"
        " table 3: 16,384 prompt tokens per package and step, two dies; 4.3.2: prefill products on the matrix cores,"
        " the vector work of dispatch and combine on the vector cores, their transfers by SDMA; EPLB"
        " adjusted while it serves, as DeepSeek has it (assumption)",
        routes_in_passes=True, prolog=True, fuses=True, permutes_beside=True, rebalances=True,
    ),
    Engine(
        "deepseek", 300 * _US, 0.0, 5e-3, 8 * _US, 0.95, False, 4096, 16384, False, "dispatch",
        "DeepSeek open-infra: DeepEP, two micro-batches, profile shows no host gap beyond step boundaries; replicas"
        " adjusted about every 10 minutes by statistics of the service (DeepSeek-V3 report, 3.4.1)",
        rebalances=True,
    ),
    Engine(
        "generic", 500 * _US, 2 * _US, 8e-3, 8 * _US, 0.90, False, 1024, 8192, True, "gather",
        "between the published engines",
    ),
)  # fmt: skip
_BY_NAME = {e.name: e for e in ENGINES}


def engine(framework: str, chip: Chip | None = None) -> Engine:
    """The engine that a framework string of the tables means (version included); unknown strings give `generic`.

    vLLM takes smaller limits on A100 and on parts below 70 GiB.
    """
    text = framework.lower()
    npu = "ascend" in text or (chip is not None and chip.vendor == "huawei")
    found = _BY_NAME[engine_name(text, npu)]
    if FUSED_REDUCE in text:
        found = replace(found, reduces_beside=True)
    if found.sequence_host_s and chip is not None and chip.name.startswith(_GRACE):
        slow = GRACE_SLOWER
        found = replace(found, sequence_host_s=found.sequence_host_s * slow, launch_s=found.launch_s * slow)
    if found.name in ("vllm", "vllm-async") and chip is not None:
        small = chip.name.startswith("a100") or chip.memory_bytes < 70 * 2**30
        return replace(found, max_num_seqs=256, max_batched_tokens=2048) if small else found
    return found


def speculating(about: Engine, drafts: int, ranks: int) -> Engine:
    """The engine when it drafts tokens: SGLang then admits few requests and schedules between steps."""
    if not drafts or not about.name.startswith("sglang"):
        return about
    gap = max(about.step_gap_s, UNOVERLAPPED_GAP_S if about.name == "sglang-ascend" else SPECULATING_GAP_S)
    return replace(about, max_num_seqs=max(1, SPECULATIVE_MOST_REQUESTS // ranks), step_gap_s=gap, ahead_steps=0)


@lru_cache(maxsize=512)
def rebalances(framework: str) -> bool:
    """Whether the load balancer of a framework moves experts while it serves."""
    return engine(framework).rebalances
