"""Formats of weights, activations and cache of a row of inference.csv, stated or usual."""

from __future__ import annotations

from collections.abc import Mapping

from supertwin.core.formats import number_format
from supertwin.inference.runs import is_perf_overview
from supertwin.inference.scaling import scaling_of
from supertwin.machine.chip import Chip
from supertwin.model.spec import ModelSpec

_WIDE = ("bf16", "fp16")
# NVFP4 and NVIDIA's own FP8 checkpoints state an FP8 cache (kv_cache_quant_algo; vLLM PR 29980), those of the families
# with block scales none: kv_cache_dtype auto keeps BF16 for them.
_EIGHT_BIT_KV = ("tensorrt", "cuda")
NATIVE_WEIGHTS = {"kimi-k3": "mxfp4"}
"""Formats of experts in checkpoints that their makers release in no wider one (model card of Kimi-K3: MXFP4 experts in
groups of 32, activations, attention and shared experts in BF16)."""


def formats_of(
    row: Mapping[str, object], model: ModelSpec, chip: Chip, defaults: dict[str, object]
) -> tuple[str, str, str]:
    """(weights, activations, cache): what the row states, else what such a run has, listed in `defaults`."""
    weight, activation, kv = (str(row.get(f"{k}_dtype") or "") for k in ("weight", "activation", "kv"))
    framework = str(row.get("framework") or "").lower()
    if not weight:
        weight = defaults["weight_dtype"] = _usual_weight(row, chip)
    if not activation:
        activation = weight if weight not in ("int4", "mxfp4") else "bf16"
        defaults["activation_dtype"] = activation
    if not kv:
        tuned = framework.startswith(_EIGHT_BIT_KV) or row.get("source_group") == "mlperf"
        plain = scaling_of(model, weight, activation)[0] == "fp8-blockwise" and not is_perf_overview(row)
        eight = weight == "nvfp4" or (weight == "fp8" and tuned and not plain)
        kv = defaults["kv_dtype"] = "fp8" if eight else "bf16"
    return (*scaling_of(model, weight, activation), kv)


def _usual_weight(row: Mapping[str, object], chip: Chip) -> str:
    """MLPerf and vendor tables without a stated type: the narrowest format that the chip computes in."""
    if row.get("source_group") == "mlperf":
        return next(
            (f for f, rate in (("nvfp4", "fp4"), ("fp8", "fp8"), ("int8", "int8")) if rate in chip.peak_flop_per_s),
            "fp16",
        )
    return NATIVE_WEIGHTS.get(str(row.get("model")), "bf16")


def width_ratio(weight: str) -> float:
    """Bytes of a stored value over those of BF16."""
    return number_format(weight).bytes_per_element / 2.0


def too_wide(weight: str, weights_bytes: float, sizes: Mapping[str, int], chip: Chip) -> bool:
    """Whether weights of 16 bits do not fit where 8 bits can be multiplied."""
    room = sizes["tp"] * sizes["pp"] * sizes["dp"] * chip.usable_memory_bytes
    return weight in _WIDE and weights_bytes > room and "fp8" in chip.peak_flop_per_s
