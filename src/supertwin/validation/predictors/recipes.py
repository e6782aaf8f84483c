"""What the performance recipes of Megatron-Bridge set and the table has no column for.

Read from NVIDIA-NeMo/Megatron-Bridge: scripts/performance/configs at v0.2.0 (container 25.11), v0.3.0 (26.02), v0.3.1
(26.02.01), v0.4.0 (26.04), v0.5.0 (26.06) and perf_recipes at v0.6.0 (26.08). Dense models follow the habits of the
framework but for NVFP4. Nothing here looks at a measured column.
"""

from __future__ import annotations

from dataclasses import dataclass

from supertwin.machine.system import System
from supertwin.validation.tables import Row

FRAMEWORK = "megatron-bridge"
_NVL72 = ("gb200", "gb300")
_PACKAGE_8 = ("b200-sxm", "b300", "h100-sxm")
# set_full_iter_cg_configs (v0.5.0) and _enable_hybridep_full_iteration_mxfp8 (v0.6.0): one graph per step, expert
# exchange beside the other microbatch, CuTe grouped MLP.
_WHOLE_GRAPH: dict[str, object] = {"launch": "graph", "overlap_ep": True, "fused_experts": True}
# Graphs of attention and router at most: experts are issued by the host (dropless routing has no fixed shapes).
_PARTS: dict[str, object] = {"launch": "eager"}
# llama3_llm_pretrain.py: tp_comm_overlap = False if precision == "nvfp4" else True
_DENSE_NVFP4: dict[str, object] = {"overlap_tp": False}
# --moe-expert-capacity-factor 1 --moe-pad-expert-input-to-capacity: run_pretrain_deepseekv2.sh of SimuMax; the same by
# apply_moe_token_drop in Megatron-Bridge
_PADDED: dict[str, object] = {"pad_experts": True, "capacity_factor": 1.0}
# arXiv 2603.07685: scripts of yanring/Megatron-MoE-ModelZoo (best_practice/DeepSeekV3/run.sh, deepseek-v3/
# run_deepseek_v3_gb300.sh, qwen3/run_gb300_235b.sh) and the table of canonical layouts in Megatron-Bridge,
# skills/nemo-mbridge-perf-moe-hardware-configs
_CORE, _REPORT = "megatron-core", "2603.07685"
_HOPPER: dict[str, object] = {
    "dispatcher": "deepep",
    "overlap_ep": True,
    "precision": "fp8-blockwise",
    "recompute_modules": ("mla_up", "mlp"),
}
_SUPERCHIP: dict[str, object] = {"dispatcher": "hybridep", "precision": "mxfp8"}
_REPORTED: dict[tuple[str, str], tuple[dict[str, int], dict[str, object]]] = {
    ("deepseek-v3", "h100-sxm"): ({"tp": 2, "pp": 8, "cp": 1, "ep": 64, "vpp": 4}, _HOPPER),
    ("deepseek-v3", "gb200"): (
        {"tp": 1, "pp": 4, "cp": 1, "ep": 64, "vpp": 4},
        {**_SUPERCHIP, "recompute_modules": ("mlp",)},
    ),
    ("deepseek-v3", "gb300"): (
        {"tp": 1, "pp": 4, "cp": 1, "ep": 64, "vpp": 4},
        {**_SUPERCHIP, "recompute_modules": ("mlp",)},
    ),
    ("qwen3-235b-a22b", "gb300"): (
        {"tp": 1, "pp": 4, "cp": 1, "ep": 32, "vpp": 1},
        {**_SUPERCHIP, "micro_batch": 2},
    ),
}
_BATCHES = {
    ("deepseek-v3", "h100-sxm"): 8192,
    ("deepseek-v3", "gb200"): 4096,
    ("deepseek-v3", "gb300"): 4096,
    ("qwen3-235b-a22b", "gb300"): 8192,
}
# sbatch_benchmarking.sh: DISPATCHER is deepep unless set, hybridep in run_gb*.sh; one row is noted as "A2A dispatcher"
_ZOO = "Megatron-MoE-ModelZoo"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings of recipes. model: prefix; chips, precisions: empty = any; since, before: container releases."""

    model: str
    settings: dict[str, object]
    chips: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    since: str = ""
    before: str = "99"


_MX = ("mxfp8",)
_FP8_ATTENTION: dict[str, object] = {"attention_dtype": "fp8"}
_HYBRID: dict[str, object] = {"dispatcher": "hybridep"}
_OVERLAP: dict[str, object] = {"overlap_ep": True}
_PLAIN_TP: dict[str, object] = {"overlap_tp": False}  # CommOverlapConfig(tp_comm_overlap=False)


def _again(*modules: str) -> dict[str, object]:
    """recompute_modules of a recipe."""
    return {"recompute_modules": modules}


# Later entries overrule earlier ones.
RECIPES = (
    Recipe("", _PARTS),
    Recipe("", _HYBRID, _NVL72, since="25.11"),
    # NVL8 systems: alltoall until 26.02 (moe_flex_dispatcher_backend unset), HybridEP from 26.02.01
    Recipe("", {"dispatcher": "all_to_all"}, _PACKAGE_8, before="26.02.01"),
    Recipe("", _HYBRID, _PACKAGE_8, since="26.02.01"),
    Recipe("deepseek-v3", {**_PLAIN_TP, **_again("mla_up")}, since="25.11"),
    Recipe("deepseek-v3", _again("mlp"), ("gb200",), ("mxfp8", "fp8-tensorwise"), since="26.02", before="26.06"),
    Recipe("deepseek-v3", _again("activation"), ("gb300",), since="25.11", before="26.02"),
    Recipe("deepseek-v3", _again(), ("gb300",), _MX, since="26.06"),
    Recipe("deepseek-v3", {**_PLAIN_TP, **_again("mla_up", "mlp")}, ("h100-sxm",)),
    Recipe("nemotron3-nano", _again("experts", "norm", "activation"), ("h100-sxm",), ("fp8-tensorwise",)),
    Recipe("nemotron3-super", _again("activation", "norm"), ("b300",), ("nvfp4",)),
    Recipe("qwen3-235b", _PLAIN_TP, ("h100-sxm",)),
    Recipe("deepseek-v3", {"dispatcher": "deepep", **_OVERLAP}, ("h100-sxm",), before="26.02.01"),
    Recipe("qwen3-235b", _OVERLAP, ("b200-sxm",), since="25.11", before="26.02"),
    Recipe("qwen3-235b", _OVERLAP, ("h100-sxm",), since="25.11"),
    Recipe("qwen3-235b", {"dispatcher": "all_to_all"}, ("b200-sxm", "h100-sxm")),
    Recipe("qwen3-30b", _OVERLAP, ("h100-sxm",), since="25.11", before="26.02.01"),
    Recipe("gpt-oss", {"dispatcher": "all_to_all"}, before="26.02.01"),
    Recipe("gpt-oss", _OVERLAP, ("gb200",), ("bf16",), since="26.04"),
    Recipe("qwen3", {**_WHOLE_GRAPH, **_FP8_ATTENTION}, ("gb200", "gb300", "b300"), _MX, since="26.06"),
    Recipe("deepseek-v3", _WHOLE_GRAPH, _NVL72, _MX, since="26.06"),
    Recipe("deepseek-v3", _FP8_ATTENTION, ("gb300",), _MX, since="26.06"),
    Recipe("gpt-oss", _WHOLE_GRAPH, _NVL72, _MX, since="26.06"),
)


def recipe_settings(row: Row, system: System) -> dict[str, object]:
    """Settings of the recipe behind a row of Megatron-Bridge's performance summary."""
    name, _, release = row.text("framework").partition(" ")
    padded = _PADDED if name in (FRAMEWORK, _CORE) and "token-drop" in row.flags else {}
    if _REPORT in row.text("source"):
        return _REPORTED.get((row.text("model"), system.chip.name), ({}, {}))[1]
    if _ZOO in row.text("source"):
        return {**padded, **_zoo_settings(row, system)}
    if name != FRAMEWORK:
        return padded
    if (row.integer("ep") or 1) == 1:
        return _DENSE_NVFP4 if row.text("precision") == "nvfp4" else {}
    found: dict[str, object] = dict(padded)
    for recipe in RECIPES:
        if _applies(recipe, row, system.chip.name, release):
            found |= recipe.settings
    return found


def _zoo_settings(row: Row, system: System) -> dict[str, object]:
    overlap = {"overlap_ep": True} if row.text("notes").startswith("1F1B A2A overlap") else {}
    if "A2A dispatcher" in row.text("notes"):
        return {"dispatcher": "all_to_all", **overlap}
    return {"dispatcher": "hybridep" if system.chip.name in _NVL72 else "deepep", **overlap}


def reported_sizes(row: Row) -> dict[str, int]:
    """Parallel sizes of the scripts behind the rows of arXiv 2603.07685, which print none; empty for others."""
    if _REPORT not in row.text("source"):
        return {}
    return _REPORTED.get((row.text("model"), row.text("chip")), ({}, {}))[0]


def reported_batch(row: Row) -> int:
    """Global batch of the same scripts; 0 for other rows."""
    return _BATCHES.get((row.text("model"), row.text("chip")), 0) if _REPORT in row.text("source") else 0


def _applies(recipe: Recipe, row: Row, chip: str, release: str) -> bool:
    return (
        row.text("model").startswith(recipe.model)
        and chip in (recipe.chips or (chip,))
        and row.text("precision") in (recipe.precisions or (row.text("precision"),))
        and recipe.since <= release < recipe.before
    )
