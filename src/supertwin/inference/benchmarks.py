"""Rules and data sets of published benchmarks: lengths, sizes of runs and latency limits, each with its source."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

_LENGTHS = "token lengths of the samples, mlperf-data/summaries of openshift-psap/performance-dashboard"

DATASET_PROMPTS = {
    "OpenOrca": (222.3, 0.595, _LENGTHS + " (llama2-70b-99.csv, 24,576 of up to 1,024 tokens)"),
    "OpenOrca+GSM8K+MBXP": (427.4, 0.591, _LENGTHS + " (mixtral-8x7b.csv, 15,000 of up to 2,048)"),
    "LongBench-class": (9428.0, 0.186, _LENGTHS + " (llama3-1-405b.csv, 8,313 of up to 20,000); output 684 tokens"),
    "CNN-DailyMail": (870.7, 0.244, _LENGTHS + " (llama3-1-8b-datacenter.csv, 13,368 of up to 2,540)"),
    "reasoning mix": (803.8, 0.255, _LENGTHS + " (deepseek-r1.csv, 4,388 of up to 3,140); mean output 3,880 tokens"),
}
"""Prompts of data sets that rows name without a length: mean tokens, variance over squared mean, source."""

MLPERF_REPLY_SPREAD = {"llama-2-70b": 0.62, "mixtral-8x7b": 0.61, "llama-3.1-405b": 0.15, "deepseek-r1": 1.24}
"""Variance over squared mean of the reference replies of the same files (DeepSeek-R1 cut at 20,000 tokens)."""

DATASET_OF_MODEL = {
    "llama-2-70b": "OpenOrca",
    "mixtral-8x7b": "OpenOrca+GSM8K+MBXP",
    "llama-3.1-405b": "LongBench-class",
    "llama-3.1-8b": "CNN-DailyMail",
    "deepseek-r1": "reasoning mix",
}
"""Data set of MLPerf by model."""

MLPERF_TPOT_S = {
    "llama-2-70b": (0.200, 0.040),
    "mixtral-8x7b": (0.200, 0.0),
    "llama-3.1-405b": (0.175, 0.080),
    "llama-3.1-8b": (0.100, 0.030),
    "deepseek-r1": (0.080, 0.015),
}
"""p99 limits on TPOT, (server, interactive), of the MLPerf inference rules (MLCommons inference_policies)."""

MLPERF_TTFT_S = {
    "llama-2-70b": (2.0, 0.450),
    "mixtral-8x7b": (2.0, 0.0),
    "llama-3.1-405b": (6.0, 4.5),
    "llama-3.1-8b": (2.0, 0.5),
    "deepseek-r1": (2.0, 1.5),
}
"""p99 limits on TTFT, (server, interactive), of the same rules."""

LONGEST_CHAT_PROMPT = 1024.0
"""Tokens of the longest prompt that benchmark samplers keep (vLLM benchmarks/datasets.py, is_valid_sequence)."""

MLPERF_SAMPLES = {
    "llama-2-70b": 24576,
    "mixtral-8x7b": 15000,
    "llama-3.1-405b": 8313,
    "llama-3.1-8b": 13368,
    "deepseek-r1": 4388,
}
"""Samples of the MLPerf data sets, the fewest of a run (loadgen/mlperf.conf: performance_sample_count_override)."""

TRTLLM_DEEPSEEK = {1: (0, 10), 1024: (1151, 5120), 3072: (1536, 49152), 7168: (2048, 114688)}
"""(max_num_tokens, num_requests) by concurrency of TensorRT-LLM's Best_perf_practice_on_DeepSeek-R1."""

_LEAST_RUN_S = 600.0
_NVIDIA_RUN_S = {"llama-2-70b": 2400.0, "mixtral-8x7b": 2400.0}
_NVIDIA_SETS = {"deepseek-r1": 6.0}
_OFFLINE_SLACK = 1.1


_NVIDIA_LAYOUTS = {
    ("llama-3.1-405b", "offline"): (("b200", 2, 2), ("gb200", 2, 2), ("gb300", 2, 1), ("h200", 4, 2), ("h100", 8, 1)),
    ("llama-3.1-405b", "serving"): (("b200", 4, 1), ("gb200", 4, 1), ("gb300", 4, 1), ("h200", 8, 1), ("h100", 8, 1)),
    ("llama-2-70b", "offline"): (("h100-sxm", 1, 2), ("h100-pcie", 1, 2)),
    ("llama-2-70b", "serving"): (("h100-sxm", 1, 2), ("h100-pcie", 1, 2)),
}
_FIRST_STAGED = 8


_NVIDIA_BATCH = {("deepseek-r1", "b200"): 512, ("deepseek-r1", "gb300"): 1536}
_NVIDIA_EARLY_BATCH = {
    ("llama-2-70b", "offline"): {"h100-sxm": 896, "h100-nvl": 1300, "gh200-144gb": 806, "h200-sxm": 806},
    ("llama-2-70b", "serving"): {"h100-sxm": 1024, "h100-nvl": 640, "gh200-144gb": 806, "h200-sxm": 896},
    ("mixtral-8x7b", "offline"): {"h100-sxm": 896, "gh200-144gb": 1024},
    ("mixtral-8x7b", "serving"): {"h100-sxm": 896, "gh200-144gb": 1024, "h200-sxm": 1200},
}


_PLUGIN_MODEL = "llama-3.1-405b"
_LLAMA_TOKENS = (("h200", 1536), ("gh200", 1536), ("h100", 1024), ("b200", 3584), ("gb", 3584), ("rtx", 2048))
_NVIDIA_TOKENS: dict[tuple[str, str], tuple[tuple[str, int], ...]] = {
    ("llama-2-70b", "offline"): _LLAMA_TOKENS,
    ("llama-2-70b", "server"): _LLAMA_TOKENS,
    ("llama-2-70b", "interactive"): (("h200", 256), ("b200", 768)),
    ("llama-3.1-405b", "offline"): (("h200", 1536), ("b200", 1536), ("gb", 1536), ("rtx", 1536)),
    ("llama-3.1-405b", "server"): (("h200", 2560), ("b200", 2048), ("gb200", 2048), ("gb300", 1536)),
    ("llama-3.1-405b", "interactive"): (("h200", 2560), ("b200", 1536), ("gb", 1024)),
    ("llama-3.1-8b", "offline"): (("h", 1536), ("b200", 12000), ("gb", 12000)),
    ("llama-3.1-8b", "server"): (("h", 1536), ("b200", 12000), ("gb", 12000)),
    ("llama-3.1-8b", "interactive"): (("h", 1536), ("b200", 12000), ("gb", 12000)),
    ("mixtral-8x7b", "offline"): (("h200", 9216), ("b200", 14336), ("gb", 16384), ("rtx", 9216)),
    ("mixtral-8x7b", "server"): (("h200", 8192), ("b200", 10240), ("rtx", 8192)),
    ("deepseek-r1", "offline"): (("b200", 4608), ("gb200", 4608), ("gb300", 6656), ("h200", 4608)),
    ("deepseek-r1", "server"): (("b200", 3456), ("gb200", 3456), ("gb300", 6656), ("h200", 4608)),
}  # fmt: skip


def mlperf_tokens(row: Mapping[str, object]) -> int:
    """Tokens of a step in NVIDIA's harness (runtime flag max_num_tokens; closed/*/configs of round 5.1 as most
    submitters have it, 5.0 for Llama 2 70B on H100 and GH200), 0 where the engine's own limit is taken."""
    if row.get("source_group") != "mlperf" or not _runs_nvidia(row) or _minor(row) < _FIRST_STAGED:
        return 0
    kind = "server" if row.get("phase") == "serving" else "offline"
    kind = "interactive" if "Interactive" in str(row.get("notes") or "") else kind
    known = _NVIDIA_TOKENS.get((str(row.get("model")), kind), ())
    return next((tokens for chip, tokens in known if str(row.get("chip")).startswith(chip)), 0)


def mlperf_batch(row: Mapping[str, object]) -> int:
    """Largest batch of an attention rank in NVIDIA's harness (gpu_batch_size; closed/NVIDIA/configs, before TensorRT
    10.8 those of round 4.1), 0 where memory is the limit."""
    if row.get("source_group") != "mlperf" or not _runs_nvidia(row):
        return 0
    model, chip = str(row.get("model")), str(row.get("chip"))
    early = _NVIDIA_EARLY_BATCH.get((model, str(row.get("phase"))), {}) if _minor(row) < _FIRST_STAGED else {}
    return early.get(chip, 0) or _NVIDIA_BATCH.get((model, chip), 0)


def fuses_reduce(row: Mapping[str, object]) -> bool:
    """Whether an MLPerf run reduces in its products: Llama 3.1 405B on Blackwell (gemm_allreduce_plugin of NVIDIA's
    configurations of round 5.1, all scenarios of B200 and GB200)."""
    blackwell = str(row.get("chip")).startswith(("b200", "gb200"))
    return row.get("source_group") == "mlperf" and _runs_nvidia(row) and blackwell and row.get("model") == _PLUGIN_MODEL


def mlperf_layout(row: Mapping[str, object]) -> tuple[int, int] | None:
    """(tp, pp) of NVIDIA's harness for an MLPerf row that states none (closed/NVIDIA/configs of rounds 5.0 and 5.1:
    TP4PP2 of Llama 3.1 405B offline on H200, TP2PP2 on B200; PP2 of Llama 2 70B on H100, from TensorRT 10.8 on)."""
    if row.get("source_group") != "mlperf" or not _runs_nvidia(row):
        return None
    model = str(row.get("model"))
    if model == "llama-2-70b" and _minor(row) < _FIRST_STAGED:
        return None
    known = _NVIDIA_LAYOUTS.get((model, str(row.get("phase"))), ())
    return next(((tp, pp) for chip, tp, pp in known if str(row.get("chip")).startswith(chip)), None)


def _runs_nvidia(row: Mapping[str, object]) -> bool:
    return str(row.get("framework") or "").startswith(("TensorRT", "CUDA"))


def _minor(row: Mapping[str, object]) -> int:
    """Second number of a TensorRT 10 version, 0 of others."""
    found = re.match(r"TensorRT 10\.(\d+)", str(row.get("framework") or ""))
    return int(found[1]) if found else 0


def mlperf_run(row: Mapping[str, object]) -> tuple[float, float]:
    """(samples of the data set, fewest seconds) of an MLPerf run, without repetitions that the rate asks for.

    A run lasts 600 s at least (mlperf.conf: min_duration). NVIDIA's harness, which most submitters run, asks for
    2,400 s of Llama 2 70B and Mixtral (closed/NVIDIA/configs, min_duration) and for six data sets of DeepSeek-R1 under
    load (min_query_count 26,328).
    """
    model = str(row.get("model"))
    nvidia = _runs_nvidia(row)
    sets = _NVIDIA_SETS.get(model, 1.0) if nvidia and row.get("phase") == "serving" else 1.0
    return sets * MLPERF_SAMPLES.get(model, 24576), _NVIDIA_RUN_S.get(model, _LEAST_RUN_S) if nvidia else _LEAST_RUN_S


def mlperf_samples(data_set: float, seconds: float, rate_per_s: float, offline: bool) -> float:
    """Requests of a run: whole data sets (equal issue mode, mlperf.conf: sample_concatenate_permutation) that last long
    enough at the rate, offline with a tenth more (LoadGen, Offline: samples_per_query)."""
    asked = rate_per_s * seconds * (_OFFLINE_SLACK if offline else 1.0)
    return data_set * max(1.0, math.ceil(asked / data_set - 1e-9))


AMD_INTERACTIVE_STEPS = {"mi300x": 8, "mi325x": 3}
"""num_scheduler_steps of the interactive runs of AMD's partners (Supermicro and GigaComputing, MLPerf 5.0) by chip."""

_AMD_PROMPTS = {"mi300x": 8, "mi325x": 10}


def amd_prompts(row: Mapping[str, object]) -> int:
    """Prompts that must wait for a pass to start in AMD's Llama 2 70B servers (VLLM_LLAMA2_MLPERF_MIN_REQUIRE_PREFILL_
    QUERY of harness_llm/models/llama2-70b/server_mi3*.yaml, MLPerf 5.1; one in interactive runs)."""
    server = row.get("source_group") == "mlperf" and row.get("phase") == "serving"
    if not server or row.get("model") != "llama-2-70b" or "Interactive" in str(row.get("notes") or ""):
        return 1
    return _AMD_PROMPTS.get(str(row.get("chip")), 1)


GPUSTACK_REQUESTS = {"Long Context": 100, "Generation Heavy": 200}
"""Requests of GPUStack's named profiles (gpustack/assets/profiles_config, docs/performance-lab: total_requests)."""

GPUSTACK_FEW = (8, 100)
"""Runs of GPUStack with so many in flight or fewer have so many requests (docs/performance-lab: --num-prompts 100)."""

TRTLLM_REQUESTS = {
    (128, 128): 30000,
    (128, 2048): 3000,
    (128, 4096): 1500,
    (500, 2000): 3000,
    (1000, 1000): 3000,
    (1000, 2000): 1500,
    (2048, 128): 3000,
    (2048, 2048): 1500,
    (5000, 500): 1500,
    (20000, 2000): 1000,
    (1024, 1024): 3000,
    (1024, 8192): 1500,
    (1024, 32768): 1000,
    (8192, 1024): 1500,
    (32768, 1024): 1000,
}
"""Requests of one run of TensorRT-LLM's perf-overview by (input, output) length (its section "Preparing a Dataset", of
0.17 to 1.0 and of 1.2)."""

VLLM_GB300_TOKENS = {"deepseek-r1": 32768, "deepseek-v3.2": 20480}
"""max-num-batched-tokens at TP 2 by model in vLLM's post on GB300 of 2026-02, "Optimize Batch Configuration"."""
