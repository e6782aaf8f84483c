"""What the MaxText configurations of AI-Hypercomputer/gpu-recipes say about rows of the same recipes."""

from __future__ import annotations

from collections.abc import Mapping

from supertwin.validation.predictors.reading import Reading
from supertwin.validation.schema import Value

_RECIPES = "gpu-recipes training/"
_YAML = "AI-Hypercomputer/gpu-recipes src/frameworks"
_REPEATED: Mapping[str, object] = {"recompute_modules": ("norm", "mlp")}


def _sharded(dp: int, micro_batch: int, recompute: str, **others: Value) -> dict[str, Value]:
    sizes: dict[str, Value] = {"tp": 1, "pp": 1, "cp": 1, "ep": 1, "dp": dp, "micro_batch": micro_batch}
    return {**sizes, "sharding": "zero3", "recompute": recompute, **others}


MAXTEXT = (
    Reading(
        f"{_RECIPES}a3ultra/llama3-1-70b/maxtext",
        f"{_YAML}/a3ultra, 256gpus-a3u-bf16: DP 2, FSDP 16 x 8, save_dot_with_context_except_mlp",
        fills=_sharded(256, 2, "none", sharding="hsdp", hsdp_shard_size=128),
        settings=_REPEATED,
    ),
    Reading(
        f"{_RECIPES}a4/llama3-1-405b/maxtext",
        f"{_YAML}/a4, 256gpus-a4-fp8: DP 2, FSDP 16 x 8, full",
        fills=_sharded(256, 2, "full", sharding="hsdp", hsdp_shard_size=128),
    ),
    Reading(
        f"{_RECIPES}a4/llama3-1-70b/maxtext",
        f"{_YAML}/a4, 256gpus-a4-fp8: FSDP 32 x 8, full",
        fills=_sharded(256, 8, "full"),
    ),
)
