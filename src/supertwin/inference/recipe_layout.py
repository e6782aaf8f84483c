"""Dense matrices that Ascend recipes cut over attention ranks in decode, where rows do not carry it.

parallel_config of cann-recipes-infer (fbc225d and its history), models/*/config:

| Rows | o_proj | dense | lm_head | File |
|---|---|---|---|---|
| LongCat-Flash (flag dense-tp8) | 8 | 8 | 16 | longcat_flash_densetp8_*.yaml |
| DeepSeek-V3.2 (flag oproj-lmhead-local-tp) | 8 | 4 | 16 | deepseek_v3.2_exp_rank_16_16ep, _32_32ep, _64_64ep |
| GLM-5 on A3 | 4 | 4 | 16 | glm_5_rank_128_128ep_w8a8_decode_benchmark.yaml |
| GLM-5.2 on A3 | 16 | 16 | 16 | glm_5_2_rank_32_32ep_w8a8.yaml |
| GLM-5.2 on A3, keys in host memory | 1 | 1 | 32 | glm_5_2_rank_32_32ep_w8a8_offload_mtp.yaml |
| DeepSeek-V4 on A3 | - | - | 4 | deepseek_v4_flash_rank_128_128ep_w8a8.yaml, _pro_rank_64_64ep_w4a8.yaml |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FLAGGED: Mapping[str, Mapping[str, int]] = {
    "dense-tp8": {"dense_tp": 8, "output_tp": 8, "head_tp": 16},
    "oproj-lmhead-local-tp": {"dense_tp": 4, "output_tp": 8, "head_tp": 16},
}
_RECIPES: Mapping[str, Mapping[str, int]] = {
    "glm-5": {"dense_tp": 4, "output_tp": 4, "head_tp": 16},
    "glm-5.2": {"dense_tp": 16, "output_tp": 16, "head_tp": 16},
    "deepseek-v4-flash": {"head_tp": 4},
    "deepseek-v4-pro": {"head_tp": 4},
}
_OFFLOADED: Mapping[str, Mapping[str, int]] = {"glm-5.2": {"head_tp": 32}}
_SWITCHED: Mapping[str, Mapping[str, bool]] = {"longcat-flash": {"weight_prefetch": True, "super_kernel": True}}
"""enable_prefetch and enable_superkernel of the same files: longcat_flash_densetp8_ep128_gegraph_mtp_eplb_w8a8.yaml and
_ep64_gegraph_mtp2_eplb_afd_w8a8.yaml; no other recipe above has a prefetch, none of them switches SuperKernel on."""
_MEASURED_ON = "ascend-910c"


def local_widths(row: Mapping[str, object], flags: frozenset[str], sizes: Mapping[str, int]) -> dict[str, Any]:
    """dense_tp, output_tp and head_tp of a row of inference.csv, where a flag or the row's recipe says so and the
    layout allows it."""
    asked = next((_FLAGGED[flag] for flag in _FLAGGED if flag in flags), None)
    if asked is None:
        asked = _of_recipe(row, flags)
    return {name: n for name, n in asked.items() if sizes["tp"] == 1 and sizes["dp"] % n == 0}


def _of_recipe(row: Mapping[str, object], flags: frozenset[str]) -> Mapping[str, int]:
    if not _ours(row):
        return {}
    offloaded = _OFFLOADED if "kv-offload-host" in flags else {}
    model = str(row.get("model"))
    return offloaded.get(model) or _RECIPES.get(model, {})


def switches(row: Mapping[str, object]) -> Mapping[str, Any]:
    """weight_prefetch and super_kernel of a row of inference.csv whose recipe switches them on."""
    return _SWITCHED.get(str(row.get("model")), {}) if _ours(row) else {}


def _ours(row: Mapping[str, object]) -> bool:
    recipe = str(row.get("framework") or "").startswith("cann-recipes") and row.get("phase") == "decode"
    return recipe and str(row.get("chip") or "").startswith(_MEASURED_ON)
