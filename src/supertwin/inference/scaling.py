"""Which scaling plain "fp8" means for a checkpoint."""

from __future__ import annotations

from supertwin.model.spec import ModelSpec

BLOCKWISE = ("deepseek", "qwen3", "glm", "minimax", "kimi", "longcat")
"""Families whose FP8 checkpoints carry one scale per 128 x 128 block (quantization_config: weight_block_size)."""


def scaling_of(model: ModelSpec, weight: str, activation: str) -> tuple[str, str]:
    """(weight, activation) formats with the scaling that plain "fp8" means for the model's checkpoint."""
    if weight == "fp8" and model.name.startswith(BLOCKWISE):
        weight = "fp8-blockwise"
    if activation == "fp8" and weight == "fp8-blockwise":
        activation = "fp8-blockwise"
    return weight, activation
