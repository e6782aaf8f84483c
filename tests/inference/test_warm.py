"""Weights moved into L2 ahead of their products, and kernels joined to one, in Ascend decode."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.inference import Deployment, InferenceCase, predict
from supertwin.inference.anatomy import anatomy
from supertwin.inference.recipe_layout import switches
from supertwin.machine import load_system
from supertwin.machine.doubled import doubled
from supertwin.model import load_model

LONGCAT = Deployment(
    dp=128, ep=128, dp_attention=True, weight_dtype="int8", activation_dtype="int8", expert_balance="perfect",
    framework="cann-recipes", dense_tp=8, output_tp=8, head_tp=16, mtp_tokens=2, mtp_acceptance=0.7,
)  # fmt: skip
BOTH = {"weight_prefetch": True, "super_kernel": True}


def _longcat(batch: float = 4.0, **fields: object) -> InferenceCase:
    """LongCat-Flash as its recipe runs it on 64 packages."""
    deployment = replace(LONGCAT, **fields)  # type: ignore[arg-type]
    return InferenceCase(
        load_model("longcat-flash"), load_system("cm384:128"), deployment, "decode", batch, kv_len=4608
    )


def _times(case: InferenceCase) -> dict[str, float]:
    """Seconds of each part of the first attention and dense block of the layer."""
    opened = next(o for o in anatomy(case).blocks if o.block.layer)
    found: dict[str, float] = {}
    for operator, piece in opened.operators:
        if piece.cost is not None:
            found.setdefault(operator.part, float(piece.time_s))
    return found


def test_kernels_of_longcat_take_what_its_guide_prints() -> None:
    """In the running model on 24 and 48 cores (cann-recipes-infer, longcat_flash_optimization.md; kernels.csv): the
    prolog calibrates its rate from L2; the other two are not fitted."""
    moved, warm = _times(_longcat(weight_prefetch=True)), _times(_longcat(**BOTH))
    prolog = sum(moved[f"attention/{part}"] for part in ("down", "q", "absorb_q"))
    assert prolog == pytest.approx(45.2e-6, rel=0.02)
    assert warm["attention/absorb_v"] == pytest.approx(12.5e-6, rel=0.05)
    assert warm["mlp/down"] == pytest.approx(16.3e-6, rel=0.05)


def test_what_was_moved_ahead_is_still_read_from_memory_once() -> None:
    """Traffic beside the shortcut experts stays: the copy engine reads what the products do not."""
    traffic = []
    for case in (_longcat(), _longcat(weight_prefetch=True)):
        pieces = next(o for o in anatomy(case).blocks if o.block.layer).pieces
        ahead = sum(float(p.ahead_s) for p in pieces)
        assert (ahead > 0.0) == case.deployment.weight_prefetch
        traffic.append(ahead + sum(float(p.cost.memory_s * p.count) for p in pieces if p.cost is not None))
    assert traffic[0] == pytest.approx(traffic[1])


def test_a_super_kernel_saves_a_joint_per_kernel() -> None:
    """Of two kernels without an exchange between, the second starts 1.48 us earlier; the first in a stream does not."""
    cold, warm = _times(_longcat()), _times(_longcat(super_kernel=True))
    assert cold["attention/core"] - warm["attention/core"] == pytest.approx(1.48e-6)
    assert cold["mlp/down"] - warm["mlp/down"] == pytest.approx(1.48e-6)
    assert cold["moe/router"] == warm["moe/router"]


@given(
    st.sampled_from(["longcat-flash", "deepseek-r1", "qwen3-235b-a22b", "llama-3.1-70b"]),
    st.sampled_from(["cann-recipes", "vllm-ascend"]),
    st.sampled_from(["int8", "bf16"]),
    st.floats(0.5, 128.0),
    st.integers(128, 65_536),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_it_never_slows_a_step_nor_does_a_better_machine(
    name: str, engine: str, dtype: str, batch: float, kv: int, two: bool
) -> None:
    """Beside shortcut experts a per cent is left of finding how both streams share the bandwidth; two micro-batches on
    better machines are a matter of test_laws.py."""
    model = load_model(name)
    wide = {"dp": 64, "ep": 64, "dp_attention": True, "microbatch_overlap": two}
    layout = {"tp": 8} if name.startswith("llama") else wide
    plain = Deployment(weight_dtype=dtype, activation_dtype=dtype, framework=engine, expert_balance="perfect", **layout)  # type: ignore[arg-type]
    system = load_system("cm384:8" if name.startswith("llama") else "cm384:64")
    case = InferenceCase(model, system, plain, "decode", batch, kv_len=kv)
    cold = predict(case).step_time_s
    for fields in ({"weight_prefetch": True}, {"super_kernel": True}, BOTH):
        warm = replace(case, deployment=replace(plain, **fields))
        now = predict(warm).step_time_s
        assert now <= cold * (1.0 + 1e-9)
        for _, better in doubled(system) if not two else ():
            assert predict(replace(warm, system=better)).step_time_s <= now * 1.01


def test_other_chips_and_prompts_stay_as_they_are() -> None:
    model = load_model("llama-3.1-70b")
    for system, phase in (("dgx-h100:8", "decode"), ("cm384:8", "prefill")):
        case = InferenceCase(model, load_system(system), Deployment(tp=8), phase, 1.0, input_len=512, kv_len=512)
        warm = replace(case, deployment=replace(case.deployment, **BOTH))
        assert predict(warm).step_time_s == predict(case).step_time_s


def test_only_the_recipe_of_longcat_switches_them_on() -> None:
    """enable_prefetch and enable_superkernel of models/*/config in cann-recipes-infer."""
    row = {"framework": "cann-recipes (torchair)", "phase": "decode", "chip": "ascend-910c-die"}
    assert switches({**row, "model": "longcat-flash"}) == BOTH
    assert switches({**row, "model": "longcat-flash", "phase": "prefill"}) == {}
    assert switches({**row, "model": "glm-5"}) == switches({"model": "longcat-flash", "framework": "vllm"}) == {}


@pytest.mark.parametrize("model", ["deepseek-r1", "deepseek-v3.2"])
@pytest.mark.parametrize("batch", [1.0, 32.0])
def test_joined_kernels_that_are_hidden_take_no_less_than_nothing(model: str, batch: float) -> None:
    """Shared experts and the streams of the indexer run beside others."""
    d = replace(LONGCAT, dense_tp=1, output_tp=1, head_tp=1, mtp_tokens=1, **BOTH)
    asked = InferenceCase(load_model(model), load_system("cm384:128"), d, "decode", batch, kv_len=4096)
    assert all(float(np.ravel(p.time_s)[0]) >= 0.0 for b in anatomy(asked).blocks for _, p in b.operators)
    assert predict(asked).step_time_s < predict(replace(asked, deployment=replace(d, super_kernel=False))).step_time_s
