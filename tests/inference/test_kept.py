"""Formats that quantised checkpoints keep (kept.py): ignore lists of cann-recipes-infer and NVIDIA's R1 checkpoint."""

from __future__ import annotations

import numpy as np
import pytest

from supertwin.inference.case import Deployment
from supertwin.inference.plan import plan_of
from supertwin.inference.shape import Shape
from supertwin.machine import load_system
from supertwin.model import load_model
from supertwin.workload.operators import Gemm


def _formats(model: str, system: str, weight: str, activation: str) -> dict[str, str]:
    one = Deployment(
        dp=16, ep=16, dp_attention=True, weight_dtype=weight, activation_dtype=activation, mtp_tokens=1,
        framework="cann-recipes",
    )  # fmt: skip
    shape = Shape("decode", np.array([4.0]), np.array([64.0]), 2.0, 4096.0)
    plan = plan_of(load_model(model), load_system(system).chip, one, shape)
    return {o.part: o.dtype for b in plan.blocks for o in b.operators if isinstance(o, Gemm)}


@pytest.mark.parametrize(
    ("model", "wide", "quantised"),
    [
        ("deepseek-r1", ["mtp/join"], ["attention/down", "attention/q", "attention/out", "mlp/up"]),
        ("deepseek-v3.2", ["attention/down", "mtp/join"], ["attention/q", "attention/out", "moe/shared/up"]),
        ("deepseek-v4-flash", ["attention/down", "attention/out_a"], ["attention/q", "attention/out"]),
        ("longcat-flash", ["attention/down", "attention/q", "attention/out"], ["mlp/up"]),
    ],
)
def test_int8_checkpoints_of_the_ascend_recipes(model: str, wide: list[str], quantised: list[str]) -> None:
    found = _formats(model, "cm384:16", "int8", "int8")
    assert {found[p] for p in wide} == {"bf16"}
    assert {found[p] for p in quantised} == {"int8"}


def test_matrices_beside_four_bit_experts_with_eight_bit_activations_are_eight_bit() -> None:
    """DeepSeek-V4: FP8 everywhere but in the experts (deepseek_v4_inference_guide.md, quantisation on 950)."""
    found = _formats("deepseek-v4-pro", "atlas-950:16", "mxfp4", "mxfp8")
    assert {found[p] for p in ("attention/down", "attention/q", "attention/out_a", "moe/shared/up")} == {"mxfp8"}


def test_nvfp4_leaves_attention_wide_and_quantises_the_mlp() -> None:
    found = _formats("deepseek-r1", "gb200-nvl72:16", "nvfp4", "nvfp4")
    assert {found[p] for p in ("mlp/up", "mlp/down", "moe/shared/up")} == {"nvfp4"}
    assert {found[p] for p in ("attention/down", "attention/q", "attention/out")} == {"bf16"}


def test_nvfp4_weights_on_a_chip_that_multiplies_none() -> None:
    """All matrices of the checkpoint stay stored in 4 bits and are multiplied in what the chip has."""
    formats = _formats("deepseek-r1", "atlas-300i", "nvfp4", "nvfp4")
    assert set(formats.values()) == {"bf16"}
    assert _formats("deepseek-r1", "gb200-nvl72", "nvfp4", "nvfp4")["moe/shared/up"] == "nvfp4"
