"""Formats by part: each matrix in its own, memory by the bytes of each, and the whole as one format says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supertwin.cli.inference_options import given_formats
from supertwin.core.errors import InputError, UnknownName
from supertwin.core.formats import number_format
from supertwin.core.prediction import Prediction
from supertwin.inference import Deployment, InferenceCase, predict
from supertwin.inference.plan import plan_of
from supertwin.inference.predict import shape_of
from supertwin.machine import load_system
from supertwin.model import load_model
from supertwin.model.parameters import parameter_count
from supertwin.workload.operators import Communication, ExpertMlp, Gemm

Parts = tuple[tuple[str, str, str], ...]
BASE = Deployment(dp=8, ep=8, dp_attention=True, framework="SGLang + DeepEP")
ALL = ("attention", "mlp", "shared", "experts", "head")


def case(parts: Parts = (), model: str = "deepseek-r1", **fields: object) -> InferenceCase:
    d = replace(BASE, part_dtypes=parts, **fields)  # type: ignore[arg-type]
    return InferenceCase(load_model(model), load_system("dgx-b200:8"), d, "decode", 32.0, kv_len=4096)


def priced(parts: Parts = (), **fields: object) -> Prediction:
    return predict(case(parts, **fields))  # type: ignore[arg-type]


def test_each_matrix_has_the_format_of_its_part() -> None:
    mix: Parts = (
        ("experts", "int4", "fp8"), ("attention", "fp8", "fp8"), ("mlp", "nvfp4", "nvfp4"), ("shared", "fp8", "bf16"),
        ("head", "fp8", "fp8"),
    )  # fmt: skip
    one = case(mix, mtp_tokens=1, mtp_acceptance=0.7)
    plan = plan_of(one.model, one.system.chip, one.deployment, shape_of(one))
    found = {
        o.part.removeprefix("mtp/"): (o.dtype, o.weight_dtype)
        for block in plan.blocks
        for o in block.operators
        if isinstance(o, Gemm | ExpertMlp)
    }
    expected = {
        "moe/experts": ("fp8", "int4"), "attention/down": ("fp8", "fp8"), "attention/out": ("fp8", "fp8"),
        "mlp/up": ("nvfp4", "nvfp4"), "mlp/down": ("nvfp4", "nvfp4"), "moe/shared/up": ("bf16", "fp8"),
        "head/logits": ("fp8", "fp8"), "moe/router": ("bf16", ""), "attention/absorb_q": ("bf16", ""),
    }  # fmt: skip
    assert {part: found[part] for part in expected} == expected
    sent = {o.dtype for b in plan.blocks for o in b.operators if isinstance(o, Communication) and o.op == "dispatch"}
    assert sent == {"fp8"}


@pytest.mark.parametrize("weight", ["int8", "fp8"])
def test_all_parts_in_one_format_are_that_format(weight: str) -> None:
    """But for the head, which no whole format quantises."""
    parts = tuple((part, weight, weight) for part in ALL if part != "head")
    whole = priced(weight_dtype=weight, activation_dtype=weight)
    mixed = priced(parts, weight_dtype=weight, activation_dtype=weight)
    assert mixed.step_time_s == pytest.approx(whole.step_time_s)
    assert mixed.memory.parameters_bytes == pytest.approx(whole.memory.parameters_bytes)


def test_memory_counts_the_bytes_of_each_part() -> None:
    """From a BF16 model, each part saves its weights times what it is narrower."""
    model = load_model("deepseek-r1")
    counted = parameter_count(model)
    pairs = list(zip(model.layers, counted.per_layer, strict=True))
    held = {
        "attention": sum(p.attention.total * x.count for x, p in pairs),
        "mlp": sum(p.feed_forward.dense * x.count for x, p in pairs),
        "shared": sum(p.feed_forward.shared * x.count for x, p in pairs),
        "experts": sum(p.feed_forward.experts * x.count for x, p in pairs) / 8,
        "head": counted.head,
    }
    wide = priced().memory.parameters_bytes
    for part, weights in held.items():
        saved = wide - priced(((part, "int8", "int8"),)).memory.parameters_bytes
        assert saved == pytest.approx(weights * (2.0 - number_format("int8").bytes_per_element), rel=1e-6), part


def test_narrower_experts_are_faster_and_wider_attention_is_slower() -> None:
    eight = {"weight_dtype": "fp8", "activation_dtype": "fp8"}
    plain = priced(**eight).step_time_s
    assert priced((("experts", "nvfp4", "nvfp4"),), **eight).step_time_s < plain
    assert priced((("attention", "bf16", "bf16"),), **eight).step_time_s > plain
    assert len({priced((("experts", "nvfp4", "nvfp4"),), **eight).step_time_s for _ in range(4)}) == 1


def test_command_line_reads_parts() -> None:
    def usual(weight: str) -> str:
        return "bf16" if weight == "int4" else weight

    text = {"weight_dtype": "fp8,experts=int4/fp8,attention=INT8"}
    assert given_formats(text, "bf16", usual) == {
        "weight_dtype": "fp8", "activation_dtype": "fp8",
        "part_dtypes": (("experts", "int4", "fp8"), ("attention", "int8", "int8")),
    }  # fmt: skip
    assert given_formats({"weight_dtype": "experts=int4"}, "bf16", usual)["part_dtypes"] == (
        ("experts", "int4", "bf16"),
    )
    assert given_formats({}, "fp8", usual) == {"weight_dtype": "fp8", "activation_dtype": "fp8", "part_dtypes": ()}
    stated = {"weight_dtype": "experts=int4", "activation_dtype": "int8"}
    assert given_formats(stated, "bf16", usual)["part_dtypes"] == (("experts", "int4", "int8"),)
    for wrong in ("router=int8", "mlp=int8,mlp=fp8"):
        with pytest.raises(InputError, match="attention, mlp, shared, experts, head"):
            given_formats({"weight_dtype": wrong}, "bf16", usual)
    with pytest.raises(UnknownName, match="did you mean"):
        given_formats({"weight_dtype": "mlp=fp9"}, "bf16", usual)


def test_parts_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="no experts; legal: attention, mlp, head"):
        predict(replace(case((("experts", "int8", "int8"),), "llama-3.1-8b"),
                        deployment=Deployment(dp=8, part_dtypes=(("experts", "int8", "int8"),))))  # fmt: skip
    with pytest.raises(InputError, match="expected one of attention, mlp"):
        priced((("router", "int8", "int8"),))
