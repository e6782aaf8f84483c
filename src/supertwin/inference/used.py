"""Numbers that the options of a case bring in, as rows of a prediction's sources: (name, value, source, layer)."""

from __future__ import annotations

from supertwin.inference import engines
from supertwin.inference.acceptance import GUESS_EXPONENT
from supertwin.inference.case import InferenceCase
from supertwin.inference.drafts import EAGLE3_VOCAB
from supertwin.inference.footprint import (
    GIB,
    HCCL_BYTES,
    MIB,
    NCCL_BYTES,
    SGLANG_SEQUENCE_BYTES,
    VLLM_GRAPH_BYTES,
    communicators_bytes,
    graphs_bytes,
)
from supertwin.inference.host import host_rows
from supertwin.inference.placement import place
from supertwin.inference.sampling import KERNEL_BYTES, PENALTY_BYTES, SORT_BYTES
from supertwin.inference.shared import TWO_KERNELS_S

Row = tuple[str, str, str, str]


def option_sources(case: InferenceCase) -> list[Row]:
    """Rows of the options that the case uses, and of the memory that its engine takes at its start."""
    d, found = case.deployment, _memory(case)
    if d.draft_topk > 1:
        chance = f"1 - (1 - a) k^-{GUESS_EXPONENT:g}"
        found.append(("right guess among the first k", chance, "arXiv 2402.12374 through 2401.10774", "assumption"))
    if d.draft == "eagle3":
        shape = f"one dense layer, {EAGLE3_VOCAB:,} words"
        found.append(("EAGLE-3 head", shape, "arXiv 2503.01840; configs of sgl-project/SpecForge", "spec"))
    if d.sampling:
        found += _sampling(frozenset(d.sampling.split(",")))
    if d.shared_prefix and d.cascade and case.phase != "prefill":
        found.append(
            ("least saving of cascade attention", f"{TWO_KERNELS_S * 1e6:.0f} us", "two kernels", "assumption")
        )
    if case.prompt_cv:
        source = "sums of log-normal lengths, dealt out as they come"
        found.append(("prompts of the busiest rank", "exp(s e(R) - s^2 / 2)", source, "assumption"))
    return found + host_rows(d, engines.engine(d.framework, case.system.chip))


def _sampling(words: frozenset[str]) -> list[Row]:
    kept = words & {"topk", "topp"}
    measured = "vLLM pull request 40376"
    rows: list[Row] = []
    if kept:
        size = SORT_BYTES if "sort" in words else KERNEL_BYTES[kept]
        rows.append(("sampled logit", f"{size:.0f} B", measured, "calibration"))
    if "penalties" in words:
        rows.append(("penalised logit", f"{PENALTY_BYTES:.0f} B", "vLLM pull request 13594", "assumption"))
    return rows


def _memory(case: InferenceCase) -> list[Row]:
    d, chip = case.deployment, case.system.chip
    engine, placement = engines.engine(d.framework, chip), place(d)
    rows: list[Row] = []
    graphs = graphs_bytes(engine, chip, d)
    if graphs:
        each = SGLANG_SEQUENCE_BYTES if engine.name.startswith("sglang") else VLLM_GRAPH_BYTES
        unit = "all" if chip.vendor == "huawei" else f"{each / MIB:.0f} MiB each"
        rows.append(("captured graphs", f"{graphs / GIB:.2f} GiB ({unit})", "docs/inference-memory.md", "assumption"))
    if communicators_bytes(chip, placement):
        size = HCCL_BYTES if chip.vendor == "huawei" else NCCL_BYTES
        source = "HCCL_BUFFSIZE, 200 MB" if chip.vendor == "huawei" else "vLLM issue 21348"
        rows.append(
            ("communicators", f"{size / GIB:.2f} GiB", source, "spec" if chip.vendor == "huawei" else "assumption")
        )
    return rows
