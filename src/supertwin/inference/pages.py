"""What the pages behind rows of inference.csv say of a run and the rows do not: the part, options of the server.

Nothing here is chosen by how well a row is met: options are those of the launch commands, parts are read off figures
that no row carries.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from supertwin.inference.assumptions import EAGLE3_TREE
from supertwin.inference.benchmarks import AMD_INTERACTIVE_STEPS, VLLM_GB300_TOKENS, fuses_reduce
from supertwin.inference.engines import FUSED_REDUCE

PAGE_CHIP = {
    "qwen3-14b/h100.md": "h100-pcie",
    "qwen3-32b/h100.md": "h100-pcie",
    "glm-4.x/h100.md": "h100-pcie",
}
"""Pages of GPUStack's performance lab that say "H100 SXM" and print what only the PCIe part (2.0 TB/s, 350 W, no NVLink
switch) can have printed, in figures that no row carries. Full memory (72 GB: weights and caches) is read in the median
time between tokens, 43.3 ms at one request of 32K (Qwen3-32B, vLLM), 43.5 and 41.4 ms (Qwen3-14B, vLLM and SGLang):
1.7 TB/s, as on the pages for A100 (48.6 ms, 2.0 TB/s), where HBM3 takes 24 ms; the pages of Qwen3-8B, Qwen3-235B and
gpt-oss have it. A chunk of 8,192 tokens of GLM-4.6 at tp 8 takes 1,366 ms (99th percentile between tokens) where the
page for H200 has 413: 184 all-reduces of 84 MB at 16 GB/s."""

_GPUSTACK_PAGE = "performance-lab/"


def chip_of(row: Mapping[str, object]) -> str:
    """Chip of a row: what it says, unless its source's own figures show another part (PAGE_CHIP)."""
    _, _, page = str(row.get("source") or "").partition(_GPUSTACK_PAGE)
    stated = str(row["chip"])
    return PAGE_CHIP.get(page, stated) if stated == "h100-sxm" else stated


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a server that its source gives for a run: share of the memory, requests, tokens of a step, decode
    steps of one scheduling decision (0: none), whether experts are reached by DeepEP, cores of the host (0: enough),
    whether prefixes are cached where the engine would not and decode runs two micro-batches, requests per device
    (0: not given)."""

    memory_share: float = 0.0
    most_running: int = 0
    batched_tokens: int = 0
    deepep: bool = False
    held_steps: int = 0
    host_cores: float = 0.0
    caches: bool = False
    two_batches: bool = False
    batch: float = 0.0


_GLM_52 = {
    "Memory Fraction / 0.8;": Options(0.8),
    "Memory Fraction / 0.85": Options(0.85),
    "Chunked Prefill Size": Options(0.85),
    "DeepEP + Max Running Requests / max-running 64": Options(0.85, 64, 0, True),
    "DeepEP + Max Running Requests / max-running 256": Options(0.85, 256, 0, True),
    "DeepEP + Max Running Requests / max-running 512": Options(0.85, 512, 0, True),
    "DeepEP Mode": Options(0.85, 256, 0, True),
    "KV Cache DType": Options(0.85, 256, 0, True),
    "Other Benchmark Cases": Options(0.85, 256, 0, True),
}
PAGE_OPTIONS = {("glm-5.2/h200.md", "SGLang"): _GLM_52}
"""Launch commands of GPUStack's pages by page, engine and the section that the row's text begins with: later sections
keep what earlier ones found best."""

_TOKEN_POSITION = "experimental/token_position_decode_slo"
CORES_OF_JOB = {"minimax-m2.5": 1.0, "qwen3.5-397b-a17b": 1.0}
"""Cores of the servers in that sweep of InferenceX, for the models whose jobs name its partition h200. These
(serve_*_sbatch.sh) ask for eight GPUs and one task, without --cpus-per-task and --exclusive: sbatch then allocates
one processor per task (its manual), a core with both threads where cores are allocated. The project's other jobs on
that partition asked for the whole node then (runners/launch_h200-cw.sh, --exclusive until pull request 1196). That
this cluster sets no DefCpuPerGPU is an assumption; of the other cluster of the sweep (GLM-5, partition main) nothing
is assumed."""

CACHED_PREFIXES = ("qwen3.5-397b-a17b",)
"""Models of that sweep with recurrent layers whose server is started with --enable-prefix-caching."""

SOURCE_OPTIONS = {
    ("lmsys.org blog GB200 part 2", "decode"): Options(most_running=36864),
    ("lmsys.org blog Kimi-K2", "decode"): Options(deepep=True, two_batches=True),
    ("deepseek-ai/open-infra-index", "decode"): Options(batch=128.0),
}
"""Launch commands behind posts, by the start of the source and phase: SGLang on GB200, high precision (issue 10903:
max-running-requests 36864, 768 per device; the batch of low precision is in its row); Kimi-K2 (sgl-project/ome,
kimi-k2-pd-rt.yaml: enable-two-batch-overlap; its balancer, which moves experts every 1,000 steps, cannot follow
requests of 100); DeepSeek (profile-data README: EP128 and 128 requests per device "closely matching the actual online
deployment")."""

DRAFT_TREES = {
    "gpustack-0281": (2, 4, 16),
    "gpustack-0282": (8, 4, 16),
    "gpustack-0283": (4, 8, 16),
    "gpustack-0284": (4, 4, 32),
    "gpustack-0285": (4, 4, 8),
    "gpustack-0286": (2, 1, 3),
    "gpustack-0287": (5, 4, 8),
}
"""Levels, nodes expanded per level and tokens verified of the runs of GPUStack's page qwen3-8b/h100-latency, by row in
the order of the page; the last run gives none, and SGLang takes these (server_args: auto_choose_speculative_params).
A chain of two levels verifies three tokens whatever is asked (arg speculative_num_draft_tokens with topk 1)."""

_CHUNKS = re.compile(r"\b(\d+)K (?:dynamic |static )?chunks", re.IGNORECASE)
_MEMORY_SHARE = re.compile(r"mem(?:ory)?[- ]fraction(?:-static)?[ =/]+(0\.\d+)", re.IGNORECASE)
_MOST_RUNNING = re.compile(r"max[- ](?:running(?:-requests)?|num[- ]seqs)[ =]+(\d+)", re.IGNORECASE)
_BATCHED = re.compile(r"--max[-_]num(?:[-_]batched)?[-_]tokens[ =]+(\d+)", re.IGNORECASE)


def options(row: Mapping[str, object]) -> Options:
    """Options that a row ("dynamic 32K chunks", "--max-num-batched-tokens 4096") or its source gives its server."""
    notes, source = str(row.get("notes") or ""), str(row.get("source") or "")
    _, _, page = source.partition(_GPUSTACK_PAGE)
    sections = PAGE_OPTIONS.get((page, str(row.get("framework") or "").partition(" ")[0]), {})
    given = next((o for section, o in sections.items() if notes.startswith(section)), None) or _of_source(row)
    return Options(
        _number(_MEMORY_SHARE, notes) or given.memory_share,
        int(_number(_MOST_RUNNING, notes)) or given.most_running,
        _batched_tokens(row, notes, source) or given.batched_tokens,
        given.deepep,
        AMD_INTERACTIVE_STEPS.get(str(row.get("chip")), 0) if "Interactive" in notes else 0,
        CORES_OF_JOB.get(str(row.get("model")), 0.0) if _TOKEN_POSITION in source else 0.0,
        _TOKEN_POSITION in source and str(row.get("model")) in CACHED_PREFIXES,
        given.two_batches,
        given.batch,
    )


def _of_source(row: Mapping[str, object]) -> Options:
    source, phase = str(row.get("source") or ""), str(row.get("phase") or "")
    found = (o for (start, of), o in SOURCE_OPTIONS.items() if phase == of and source.startswith(start))
    return next(found, Options())


def draft_tree(row: Mapping[str, object]) -> tuple[int, int, int]:
    """Levels, nodes per level and verified tokens of a row with a tree of drafts."""
    return DRAFT_TREES.get(str(row.get("id") or ""), EAGLE3_TREE)


ASYNC_VLLM = ("2026-01-20", "0.14")
"""Date and number of the first release of vLLM that schedules asynchronously: posts that name none come after it."""


def framework_of(row: Mapping[str, object], served: Options) -> str:
    """The engine as the row names it, and how it reaches its experts where the source says so."""
    name = str(row.get("framework") or "")
    if name == "vLLM" and str(row.get("source_date") or "") >= ASYNC_VLLM[0]:
        name = f"{name} {ASYNC_VLLM[1]}"
    if fuses_reduce(row):
        return f"{name} {FUSED_REDUCE}"
    return f"{name} DeepEP" if served.deepep and "deepep" not in name.lower() else name


def _batched_tokens(row: Mapping[str, object], notes: str, source: str) -> int:
    chunks = _number(_CHUNKS, notes)
    if chunks:
        return int(chunks) * 1024
    if "DeepSeek on GB300" in source and row.get("tp") == 2:
        return VLLM_GB300_TOKENS.get(str(row.get("model")), 0)
    return int(_number(_BATCHED, notes))


def _number(option: re.Pattern[str], text: str) -> float:
    """The number that a text gives for an option, 0 where it gives none."""
    found = option.search(text)
    return float(found[1]) if found else 0.0
