"""A replayed step is the step priced from the start, for every kind of model and layout."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.inference import Deployment, InferenceCase, predict, recorded
from supertwin.inference.predict import prepared, shape_of
from supertwin.inference.step import steps
from supertwin.inference.tape import Tape, Unrecorded
from supertwin.machine import load_system
from supertwin.model import load_model

INT8 = {"weight_dtype": "int8", "activation_dtype": "int8", "framework": "cloudmatrix-infer"}
FP8 = {"weight_dtype": "fp8", "activation_dtype": "fp8"}
LAYOUTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "deepseek-r1 ep64": ("deepseek-r1", "cm384:64", {**INT8, "dp": 64, "ep": 64, "dp_attention": True}),
    "deepseek-r1 ep320": (
        "deepseek-r1",
        "cm384:320",
        {**INT8, "dp": 320, "ep": 320, "dp_attention": True, "redundant_experts": 32, "microbatch_overlap": True},
    ),
    "deepseek-v3.2": ("deepseek-v3.2", "dgx-h200:16", {**FP8, "dp": 16, "ep": 16, "dp_attention": True}),
    "llama": ("llama3.1-70b", "dgx-h100:8", {**FP8, "tp": 8, "framework": "vllm"}),
    "windows": ("gpt-oss-120b", "dgx-h100:4", {"tp": 4, "weight_dtype": "mxfp4", "framework": "vllm"}),
    "recurrent": ("qwen3-next-80b-a3b", "dgx-h100:4", {"tp": 4, "framework": "sglang"}),
    "keys in host memory": (
        "deepseek-v3.2",
        "cm384:16",
        {**INT8, "dp": 16, "ep": 16, "dp_attention": True, "kv_pool": 8192},
    ),
    "weights in L2": (
        "longcat-flash",
        "cm384:32",
        {
            **INT8,
            "framework": "cann-recipes",
            "dp": 32,
            "ep": 32,
            "dp_attention": True,
            "dense_tp": 8,
            "weight_prefetch": True,
            "super_kernel": True,
        },
    ),
    "pipeline": ("llama3.1-70b", "dgx-h100:8", {"tp": 2, "pp": 4, "framework": "vllm"}),
    "afd": (
        "deepseek-r1",
        "cm384:192",
        {**INT8, "dp": 64, "ep": 128, "dp_attention": True, "afd": (4, 8), "afd_unit": 16},
    ),
}


def seconds(case: InferenceCase) -> list[float]:
    case = prepared(case)
    (times,) = steps(case.model, case.system, [(case.deployment, shape_of(case))])
    return [float(times.time_s), float(times.flop), float(times.bytes), *map(float, times.parts.values())]


@pytest.mark.parametrize("name", LAYOUTS)
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_replay_equals_the_step_from_the_start(name: str, data: st.DataObject) -> None:
    model, system, settings_ = LAYOUTS[name]
    batch = data.draw(st.floats(0.5, 200.0))
    length, chunk = data.draw(st.integers(1, 40_000)), data.draw(st.integers(1, 5000))
    phase = data.draw(st.sampled_from(["prefill", "decode", "mixed"])) if name != "afd" else "decode"
    drafts = data.draw(st.integers(0, 2)) if phase != "prefill" else 0
    lengths = {"input_len": length, "kv_len": length + 7, "prefix_len": data.draw(st.integers(0, 999))}
    given_ = {**lengths, "chunk_tokens": chunk if phase == "mixed" else 0}
    deployment = Deployment(**settings_, mtp_tokens=drafts, mtp_acceptance=0.7)

    def asked(size: float) -> InferenceCase:
        return InferenceCase(load_model(model), load_system(system), deployment, phase, size, **given_)

    recorded.forget()
    expected = seconds(asked(batch))
    for size in (3.0, 5.0, batch):
        found = seconds(asked(size))
    assert found == pytest.approx(expected, rel=1e-12)
    assert all(known.usable and known.ways for known in recorded._known.values())


def test_a_prediction_does_not_depend_on_what_was_asked_before() -> None:
    deployment = Deployment(**INT8, dp=64, ep=64, dp_attention=True, mtp_tokens=1, mtp_acceptance=0.7)

    def asked(batch: float, kv_len: int) -> InferenceCase:
        return InferenceCase(
            load_model("deepseek-r1"), load_system("cm384:64"), deployment, "decode", batch, kv_len=kv_len
        )

    recorded.forget()
    first = predict(asked(20.0, 3000))
    for batch in range(1, 9):
        predict(asked(float(batch), 100 * batch))
    again = predict(asked(20.0, 3000))
    assert again == first


def test_windows_and_short_contexts_take_their_own_recordings() -> None:
    recorded.forget()
    for kv_len in (50, 100, 129, 5000, 60, 7000):
        case = InferenceCase(
            load_model("gpt-oss-120b"), load_system("dgx-h100:4"), Deployment(tp=4), "decode", 8.0, kv_len=kv_len
        )
        found = seconds(case)
        forgotten = dict(recorded._known)
        recorded.forget()
        assert found == pytest.approx(seconds(case), rel=1e-12)
        recorded._known.update(forgotten)
    assert all(len(known.ways) <= recorded.MOST_WAYS for known in recorded._known.values())


def test_memory_of_recordings_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "MOST", 3)
    recorded.forget()
    for drafts in range(6):
        case = InferenceCase(
            load_model("deepseek-r1"), load_system("cm384:64"), Deployment(tp=8, dp=8, ep=64, dp_attention=True,
            mtp_tokens=drafts), "decode", 4.0, kv_len=100,
        )  # fmt: skip
        predict(case)
    assert len(recorded._known) == 3


@pytest.mark.parametrize(
    "formula",
    [
        lambda x, y: x * 2 + y / x - 3.0**y,
        lambda x, y: np.maximum(x, np.float64(3.0)) + np.minimum(y, x) // 2.0,
        lambda x, y: np.log1p(x) * np.sqrt(y) + np.exp(-x) if x < 10.0 else -y,
        lambda x, y: np.ceil(x / y) ** 2 + np.log2(x) - np.expm1(1.0 / y),
    ],
)
def test_tape_repeats_arithmetic(formula: Callable[[Any, Any], Any]) -> None:
    tape = Tape()
    made = formula(tape.entry(2.5), tape.entry(4.0))
    replay, at = tape.cut([made.place])
    for x, y in ((2.5, 4.0), (1.0, 3.0), (9.5, 1.25)):
        values = replay.values([x, y])
        assert values is not None
        assert values[at[made.place]] == pytest.approx(float(formula(x, y)), rel=1e-14)


def test_tape_refuses_the_other_branch() -> None:
    tape = Tape()
    x = tape.entry(2.0)
    made = x * 3.0 if x > 1.0 else x
    replay, _ = tape.cut([made.place])
    assert replay.values([1.5]) is not None
    assert replay.values([0.5]) is None


def test_equal_arithmetic_is_done_once() -> None:
    tape = Tape()
    x = tape.entry(2.0)
    assert (x * 3.0 + 1.0).place == (x * 3.0 + 1.0).place
    unused = x / 7.0
    replay, at = tape.cut([(x * 3.0).place])
    assert len(replay.steps) == 1
    assert unused.place not in at


@pytest.mark.parametrize(
    "lose",
    [float, int, math.ceil, np.asarray, np.sin, lambda x: np.array([1.0]) * x, lambda x: x + "1", hash, np.add.reduce],
)
def test_what_would_lose_the_trace_raises(lose: Callable[[Any], Any]) -> None:
    with pytest.raises((Unrecorded, TypeError)):
        lose(Tape().entry(2.0))
