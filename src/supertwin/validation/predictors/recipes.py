"""What the performance recipes of Megatron-Bridge set and the table has no column for.

Read from NVIDIA-NeMo/Megatron-Bridge: scripts/performance/configs at v0.2.0 (container 25.11), v0.3.0 (26.02), v0.3.1
(26.02.01), v0.4.0 (26.04), v0.5.0 (26.06) and perf_recipes at v0.6.0 (26.08). Only MoE models differ from the habits
of the framework. Nothing here looks at a measured column.
"""

from __future__ import annotations

from collections.abc import Mapping
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

# Later entries overrule earlier ones.
RECIPES = (
    Recipe("", _PARTS),
    Recipe("", _HYBRID, _NVL72, since="25.11"),
    # NVL8 systems: alltoall until 26.02 (moe_flex_dispatcher_backend unset), HybridEP from 26.02.01
    Recipe("", {"dispatcher": "all_to_all"}, _PACKAGE_8, before="26.02.01"),
    Recipe("", _HYBRID, _PACKAGE_8, since="26.02.01"),
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


# apply_moe_token_drop of the recipes: moe_expert_capacity_factor 1.0, moe_pad_expert_input_to_capacity
_TOKEN_DROP: Mapping[str, object] = {"pad_experts": True, "capacity_factor": 1.0}


def recipe_settings(row: Row, system: System) -> dict[str, object]:
    """Settings of the recipe behind a row of Megatron-Bridge's performance summary; empty for dense models."""
    name, _, release = row.text("framework").partition(" ")
    if name != FRAMEWORK or not row.integer("ep") or row.integer("ep") == 1:
        return {}
    found: dict[str, object] = dict(_TOKEN_DROP) if "token-drop" in row.flags else {}
    for recipe in RECIPES:
        if _applies(recipe, row, system.chip.name, release):
            found |= recipe.settings
    return found


def _applies(recipe: Recipe, row: Row, chip: str, release: str) -> bool:
    return (
        row.text("model").startswith(recipe.model)
        and chip in (recipe.chips or (chip,))
        and row.text("precision") in (recipe.precisions or (row.text("precision"),))
        and recipe.since <= release < recipe.before
    )
