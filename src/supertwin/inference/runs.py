"""The run behind a row of inference.csv: how many requests, how long, up to which latency limits, of which prompts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from supertwin.inference.assumptions import MAX_QUEUE_REQUESTS
from supertwin.inference.benchmarks import (
    DATASET_OF_MODEL,
    DATASET_PROMPTS,
    GPUSTACK_FEW,
    GPUSTACK_REQUESTS,
    LONGEST_CHAT_PROMPT,
    MLPERF_REPLY_SPREAD,
    MLPERF_TPOT_S,
    MLPERF_TTFT_S,
    TRTLLM_DEEPSEEK,
    TRTLLM_REQUESTS,
    mlperf_run,
    mlperf_samples,
)
from supertwin.inference.replies import SHAREGPT_SPREAD
from supertwin.inference.row_layout import number

_RUN = re.compile(r"(\d+) (?:requests|prompts)\b")


def requests_of(row: Mapping[str, object]) -> float:
    """Size of the run; the experimental sweeps of InferenceX send ten prompts per request in flight (bmk_*_sbatch.sh:
    NUM_PROMPTS)."""
    flags = str(row.get("flags") or "")
    concurrency = number(row, "concurrency", 0.0)
    if row.get("source_group") == "mlperf":
        return mlperf_samples(*mlperf_run(row), number(row, "request_rate_per_s", 0.0), offline=False)
    stated = _RUN.search(str(row.get("notes") or ""))
    if stated:
        return float(stated[1])
    if row.get("source_group") == "gpustack":
        return _gpustack_requests(str(row.get("notes") or ""), concurrency)
    if is_perf_overview(row):
        lengths = (round(number(row, "input_len", 0.0)), round(number(row, "output_len", 0.0)))
        return float(TRTLLM_REQUESTS.get(lengths, MAX_QUEUE_REQUESTS))
    if row.get("source_group") == "trtllm-dsr1" and concurrency in TRTLLM_DEEPSEEK:
        return float(TRTLLM_DEEPSEEK[int(concurrency)][1])
    if "all-requests-at-t0" in flags or row.get("phase") == "offline":
        return concurrency or float(MAX_QUEUE_REQUESTS)
    if "experimental-sweep" in flags:
        return 10.0 * concurrency
    return float(MAX_QUEUE_REQUESTS)


def _gpustack_requests(notes: str, concurrency: float) -> float:
    named = [count for name, count in GPUSTACK_REQUESTS.items() if name in notes]
    if not named and 0.0 < concurrency <= GPUSTACK_FEW[0]:
        return float(GPUSTACK_FEW[1])
    return float(named[0] if named else MAX_QUEUE_REQUESTS)


def least_run_s(row: Mapping[str, object]) -> float:
    """Fewest seconds of an MLPerf offline run, 0 of other runs."""
    return mlperf_run(row)[1] if row.get("source_group") == "mlperf" and row.get("phase") == "offline" else 0.0


def is_perf_overview(row: Mapping[str, object]) -> bool:
    """Whether a row is a queue of equal requests that TensorRT-LLM's own benchmark answers at once."""
    offline = row.get("phase") == "offline" and "saturated" in str(row.get("flags") or "")
    return offline and not row.get("concurrency") and str(row.get("framework") or "").startswith("TensorRT-LLM")


def prompt_spread(row: Mapping[str, object], mean: float) -> float:
    """Variance of prompt lengths over their squared mean: of the MLPerf data set, else of exponential lengths cut at
    the longest prompt that samplers keep."""
    if row.get("source_group") == "mlperf":
        known = DATASET_PROMPTS.get(DATASET_OF_MODEL.get(str(row.get("model")), ""))
        if known:
            return known[1]
    return cut_spread(LONGEST_CHAT_PROMPT / max(mean, 1.0))


def reply_spread(row: Mapping[str, object]) -> float:
    """Variance of reply lengths over their squared mean where they vary."""
    mlperf = row.get("source_group") == "mlperf"
    return MLPERF_REPLY_SPREAD.get(str(row.get("model")), 1.0) if mlperf else SHAREGPT_SPREAD


def limits_s(row: Mapping[str, object]) -> tuple[float, float]:
    """The p99 limits on TPOT and TTFT that an MLPerf server or interactive run was loaded up to."""
    if row.get("kind") != "slo-constrained" or row.get("source_group") != "mlperf":
        return 0.0, math.inf
    which, model = int("Interactive" in str(row.get("notes") or "")), str(row.get("model"))
    tpot, ttft = (table.get(model, (0.0, 0.0))[which] for table in (MLPERF_TPOT_S, MLPERF_TTFT_S))
    return tpot, ttft or math.inf


def at_intervals(row: Mapping[str, object]) -> bool:
    """Whether requests come at equal intervals: GPUStack's fixed rates are guidellm's `constant` profile
    (gpustack/schemas/benchmark.py); their pages print peaks in flight within a few of rate times latency."""
    return row.get("source_group") == "gpustack" and number(row, "request_rate_per_s", 0.0) > 0.0


def means_of_tokens(row: Mapping[str, object]) -> bool:
    """Whether a row's TPOT weights all tokens alike: a mean inter-token latency, or one derived from mean latencies;
    vLLM's client prints the mean over requests of (latency - TTFT) / (tokens - 1) (benchmarks/serve.py)."""
    derived = "tpot-derived-from-latency" in str(row.get("flags") or "")
    return derived or "inter-token latency" in str(row.get("notes") or "")


CHAT_TEMPLATE_TOKENS = 8.0
"""Role marks that a chat template puts around one message: 8 in Qwen3 (<|im_start|>user, <|im_end|>, <|im_start|>
assistant and line ends), 5 to 7 in GLM-4.x, 4 in DeepSeek-R1, 6 in gpt-oss behind a system message that is cached."""


def template_tokens(row: Mapping[str, object]) -> float:
    """Tokens that the server adds to a prompt as long as the row says: GPUStack's runs of vLLM's client send raw
    prompts to /v1/chat/completions and print the client's own count; guidellm prints the server's."""
    guidellm = "tpot-derived-from-latency" in str(row.get("flags") or "")
    return CHAT_TEMPLATE_TOKENS if row.get("source_group") == "gpustack" and not guidellm else 0.0


def cut_spread(means: float) -> float:
    """Variance over squared mean of exponential lengths cut at `means` times their mean: uniform, 1 / 3, at 2 (no fewer
    are possible from zero), 1 without a cut; within 0.02 of the truncated distribution."""
    return 1.0 - 2.0 / 3.0 * math.exp(-0.55 * (max(means, 2.0) - 2.0))
