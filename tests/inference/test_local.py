"""Dense matrices cut over attention ranks: the same work in all, less to read on each, and exchanges in between."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.core.errors import InputError
from supertwin.inference import Deployment, InferenceCase, predict
from supertwin.inference.local import cut_locally, widths
from supertwin.machine import load_system
from supertwin.model import load_model
from supertwin.workload.operators import Communication, Gemm, Vector

PARTS = ("mlp/up", "mlp/down", "attention/out", "head/logits", "mtp/mlp/up", "attention/q")
CASE = InferenceCase(
    load_model("longcat-flash"), load_system("cm384:128"),
    Deployment(
        dp=128, ep=128, dp_attention=True, weight_dtype="int8", activation_dtype="int8", mtp_tokens=2,
        mtp_acceptance=0.6, expert_balance="perfect", framework="cann-recipes",
    ),
    "decode", 2.0, kv_len=4608,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(PARTS), st.sampled_from((2, 4, 8)), st.floats(1, 512))
def test_work_is_kept_and_weights_are_shared(part: str, size: int, tokens: float) -> None:
    whole = Gemm(part=part, m=tokens, n=1024.0, k=512.0)
    cut = cut_locally([whole], {"dense": size, "output": size, "head": size})
    (product,) = (o for o in cut if isinstance(o, Gemm))
    exchanges = [o for o in cut if isinstance(o, Communication)]
    assert product.m * product.n * product.k == pytest.approx(tokens * 1024.0 * 512.0)
    if part == "attention/q":
        assert cut == [whole]
        return
    assert product.n * product.k == pytest.approx(1024.0 * 512.0 / size)
    assert exchanges
    copies = [o for o in cut if isinstance(o, Vector)]  # results of attention, laid out by rank before they are sent
    moved = 2.0 * tokens * 512.0
    assert [(o.op, o.bytes_read, o.bytes_written) for o in copies] == [("copy", moved, moved)] * (
        part == "attention/out"
    )
    assert {o.axis for o in exchanges} == {f"local{size}"}


def test_small_batches_gain_and_large_ones_lose() -> None:
    # LongCat-Flash at 2 sequences per die reads 200 MB of dense matrices per layer (INT8) when they are not cut
    def gain(batch: float, framework: str = "sglang") -> float:
        whole = replace(CASE.deployment, framework=framework)
        plain = predict(replace(CASE, batch=batch, deployment=whole))
        cut = predict(replace(CASE, batch=batch, deployment=replace(whole, dense_tp=8)))
        return plain.step_time_s / cut.step_time_s

    assert gain(2.0) > 1.1
    assert gain(256.0) < gain(2.0)
    assert gain(2.0, "cann-recipes") > 1.1  # the dense path outlasts the experts beside it


def test_widths_must_divide_single_device_ranks() -> None:
    with pytest.raises(InputError, match=r"dense_tp = 3.*divide dp \(given 128\)"):
        predict(replace(CASE, deployment=replace(CASE.deployment, dense_tp=3)))
    assert widths(Deployment(output_tp=4)) == {"output": 4}
