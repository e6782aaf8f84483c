"""Tables of docs/inference-accuracy.md from a validation run: errors by source, and the groups known to be off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from supertwin.report.published import markdown
from supertwin.validation import tables
from supertwin.validation.outcome import Score
from supertwin.validation.statistics import by_metric, grouped

RATE = "output_tokens_per_s_per_device"
METRICS = {
    RATE: "output tokens/s",
    "input_tokens_per_s_per_device": "input tokens/s",
    "tpot_s": "TPOT",
    "ttft_s": "TTFT",
    "step_time_s": "step",
}
LEAST = 4


@dataclass(frozen=True, slots=True)
class Group:
    """Rows whose cells begin so, by column, and the metric that is looked at."""

    title: str
    cells: Mapping[str, str]
    metric: str = RATE


def _group(title: str, metric: str = RATE, **cells: str) -> Group:
    return Group(title, cells, metric)


OFF = (
    _group("DeepSeek-V3.2, Ascend recipe", source_group="cann-recipes", model="deepseek-v3.2"),
    _group("GLM-5.2, Ascend recipe", source_group="cann-recipes", model="glm-5.2"),
    _group("LongCat-Flash, Ascend recipe", source_group="cann-recipes", model="longcat-flash"),
    _group("DeepSeek-V4-Flash, Ascend recipe", source_group="cann-recipes", model="deepseek-v4-flash"),
    _group("DeepSeek-V4-Pro on 950DT, Ascend recipe", source_group="cann-recipes", model="deepseek-v4-pro"),
    _group("DeepSeek-R1 on H200, wide EP of vLLM", source_group="vllm-blog", framework="vLLM wide-EP"),
    _group("Kimi-K3, one request", model="kimi-k3", phase="decode"),
    _group("gpt-oss on A100, SGLang", source_group="gpustack", framework="SGLang", model="gpt-oss", chip="a100"),
    _group("DeepSeek on H200, trtllm-serve", source_group="gpustack", framework="TensorRT-LLM", model="deepseek"),
    _group("Qwen3-30B-A3B on GB200, TensorRT-LLM 1.0", source_group="trtllm-1.0", chip="gb200", model="qwen3-30b"),
    _group("Scout on GB200, TensorRT-LLM 1.0", source_group="trtllm-1.0", chip="gb200", model="llama-4-scout"),
    _group("Scout, Maverick on H100, TensorRT-LLM 1.0", source_group="trtllm-1.0", chip="h100-sxm", model="llama-4"),
    _group("Llama 3.3 70B, 8 stages of RTX PRO 6000", chip="rtx-pro-6000", model="llama-3.3-70b", pp="8"),
    _group("Llama 2 70B on B200, MLPerf, TPOT", "tpot_s", source_group="mlperf", chip="b200", model="llama-2-70b"),
    _group("Mixtral offline on NVIDIA, MLPerf", framework="TensorRT", model="mixtral-8x7b", phase="offline",
           source_group="mlperf"),
    _group("Mixtral offline on AMD, MLPerf", framework="vLLM", model="mixtral-8x7b", phase="offline",
           source_group="mlperf"),
    _group("DeepSeek-R1 offline, MLPerf", source_group="mlperf", model="deepseek-r1", phase="offline"),
    _group("MiniMax-M2.5, InferenceX's sweep", source_group="inferencex", model="minimax-m2.5"),
    _group("Qwen3.5-397B, InferenceX's sweep", source_group="inferencex", model="qwen3.5-397b"),
)  # fmt: skip
"""Groups of rows that the page names as off."""


def groups_table(scores: Sequence[Score]) -> str:
    """Median of |predicted / measured - 1| and, in brackets, its 90 % quantile, by source of at least LEAST rows."""
    measured = [s for s in scores if s.table == "inference" and s.kind != "ci-floor"]
    rows = []
    for source, group in grouped(measured, lambda score: score.source_group).items():
        count = len({score.id for score in group})
        if count < LEAST:
            continue
        found = by_metric(group)
        cells = (
            f"{100 * found[metric].median_ape:.0f} ({100 * found[metric].p90_ape:.0f})" if metric in found else ""
            for metric in METRICS
        )
        rows.append((count, (source, f"{count:,}", *cells)))
    ordered = [row for _, row in sorted(rows, key=lambda row: -row[0])]
    return markdown(("error in %", "rows", *METRICS.values()), "l" + "r" * (1 + len(METRICS)), ordered)


def off_table(scores: Sequence[Score]) -> str:
    """Predicted over measured output tokens/s of every group of OFF: median, least and most. Raises ValueError for
    a group without rows."""
    cells = {row.id: row.cells() for row in tables.load("inference", None).rows}
    rows = []
    for group in OFF:
        ratios = [
            s.ratio
            for s in scores
            if s.table == "inference"
            and s.metric == group.metric
            and all(cells[s.id][column].startswith(begin) for column, begin in group.cells.items())
        ]
        if not ratios:
            raise ValueError(f"no rows: {group.title}")
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}" if len(ratios) > 1 else ""
        rows.append((group.title, str(len(ratios)), f"{median(ratios):.2f}", spread))
    return markdown(("predicted / measured output tokens/s", "rows", "median", "from, to"), "lrrr", rows)
