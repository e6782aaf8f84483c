"""Kernels of DeepSeek-V4's recipe on Ascend 950."""

from __future__ import annotations

import pytest

from supertwin.inference.case import Deployment
from supertwin.inference.plan import plan_of
from supertwin.inference.recipe_kernels import QUERIES, WEIGHTS
from supertwin.inference.shape import Shape
from supertwin.machine.chips import load_chip
from supertwin.model import load_model
from supertwin.model.parameters import compressor_width
from supertwin.workload.operators import Gemm, Operator, Vector

MODEL = load_model("deepseek-v4-pro")


def _layers(chip: str, activation: str = "mxfp8") -> list[tuple[Operator, ...]]:
    deployment = Deployment(
        dp=16, ep=16, dp_attention=True, weight_dtype="mxfp4", activation_dtype=activation, kv_dtype="bf16",
        expert_balance="perfect", framework="cann-recipes",
    )  # fmt: skip
    plan = plan_of(MODEL, load_chip(chip), deployment, Shape("decode", 1.0, 4.0, 1.0, 8192.0))
    return [tuple(b.operators) for b in plan.blocks if any(o.part == "attention/q" for o in b.operators)]


def _indexed(chip: str, activation: str = "mxfp8") -> tuple[Operator, ...]:
    return next(x for x in _layers(chip, activation) if any(o.part.startswith("attention/index") for o in x))


def _compressors(operators: tuple[Operator, ...]) -> list[Vector]:
    return [o for o in operators if isinstance(o, Vector) and o.op == "compress"]


def test_compressors_are_kernels_of_their_own_on_950_alone() -> None:
    own, older = _indexed("ascend-950dt"), _indexed("ascend-910c-die")
    assert [o.part for o in _compressors(own)] == ["attention/compress", WEIGHTS]
    assert not _compressors(older)
    narrow, joined = (next(o.n for o in x if isinstance(o, Gemm) and o.part == "attention/down") for x in (own, older))
    width = max(compressor_width(x.attention) for x in MODEL.layers if x.attention is not None)
    assert joined - narrow == width


def test_one_scale_per_tensor_needs_no_pass_and_no_hadamard_product() -> None:
    scaled, static = _indexed("ascend-950dt"), _indexed("ascend-950dt", "fp8-tensorwise")

    def quantised(operators: tuple[Operator, ...]) -> set[str]:
        return {o.part for o in operators if isinstance(o, Gemm) and o.quantize_input and "attention" in o.part}

    assert quantised(scaled) == {"attention/down", "attention/q", "attention/out_a", "attention/out"}
    assert not quantised(static)
    products = [sum(isinstance(o, Gemm) and o.part == QUERIES for o in x) for x in (scaled, static)]
    assert products == [2, 1]
    read = [_compressors(x)[0].bytes_read for x in (scaled, static)]
    assert read[0] == pytest.approx(2.0 * read[1], rel=0.01)
