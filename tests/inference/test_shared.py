"""A shared prefix is held once, and read once where attention cascades."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supertwin.core.errors import InputError
from supertwin.core.prediction import Prediction
from supertwin.inference import Deployment, InferenceCase, predict
from supertwin.inference.engines import engine
from supertwin.inference.memory import largest_batch
from supertwin.inference.plan import plan_of
from supertwin.inference.predict import shape_of
from supertwin.machine import load_system
from supertwin.model import load_model
from supertwin.workload.operators import Attention, Vector


def case(batch: float = 16.0, kv_len: int = 8704, model: str = "llama-3.1-70b", **fields: object) -> InferenceCase:
    d = Deployment(tp=8, **fields)  # type: ignore[arg-type]
    return InferenceCase(load_model(model), load_system("dgx-h100:8"), d, "decode", batch, kv_len=kv_len)


def priced(**fields: object) -> Prediction:
    return predict(case(**fields))  # type: ignore[arg-type]


def cores(one: InferenceCase) -> list[Attention]:
    plan = plan_of(one.model, one.system.chip, one.deployment, shape_of(one))
    return [o for b in plan.blocks if b.layer for o in b.operators if isinstance(o, Attention)]


def test_queries_of_all_sequences_attend_to_the_prefix_together() -> None:
    (plain,), (shared, own) = cores(case()), cores(case(shared_prefix=8192))
    assert (shared.batch * shared.kv_len, shared.q_len, shared.causal) == (8192.0, 128.0, False)
    assert (own.batch, own.kv_len) == (plain.batch, 512.0)

    def work(o: Attention) -> float:
        return float(o.q_len * o.batch * o.kv_len)

    assert work(shared) + work(own) == work(plain)
    merge = [o for b in plan_of(*_about(case(shared_prefix=8192))).blocks if b.layer for o in b.operators
             if isinstance(o, Vector) and o.part == "attention/merge"]  # fmt: skip
    assert merge[0].bytes_read == 17 * 128 * 8 * 128 * 4.0  # 16 chunks of the prefix and the own keys, FP32


def _about(one: InferenceCase) -> tuple[object, ...]:
    return one.model, one.system.chip, one.deployment, shape_of(one)


def test_reading_the_prefix_once_is_faster_the_longer_it_is() -> None:
    plain = priced().step_time_s
    times = [priced(shared_prefix=n).step_time_s for n in (256, 2048, 8192)]
    assert times == sorted(times, reverse=True)
    assert times[-1] < 0.75 * plain
    assert times[0] <= plain
    assert priced(shared_prefix=8192, cascade=False).step_time_s == plain
    assert len({priced(shared_prefix=8192).step_time_s for _ in range(4)}) == 1


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        ("llama-3.1-70b", {"shared_prefix": 128}),  # too short
        ("llama-3.1-70b", {"shared_prefix": 8192, "batch": 0.5}),  # four sequences
        ("deepseek-r1", {"shared_prefix": 8192}),  # latent
    ],
)
def test_where_it_does_not_pay_cores_stay(model: str, fields: dict[str, object]) -> None:
    assert cores(case(model=model, **fields)) == cores(case(model=model, **{**fields, "shared_prefix": 0}))  # type: ignore[arg-type]


def test_windows_read_their_own_keys() -> None:
    """gpt-oss: every other layer has a window of 128."""
    found = cores(case(model="gpt-oss-120b", shared_prefix=8192))
    assert sum(o.kv_len == 128.0 for o in found) == 1
    assert {o.phase for o in found} == {"decode", "prefill"}


def test_memory_holds_the_prefix_once() -> None:
    """128 sequences, 80 layers, one key head of 128 per device, two vectors in BF16."""
    per_token = 80 * 2 * 128 * 2.0
    held = priced(shared_prefix=8192).memory.kv_cache_bytes
    assert held == pytest.approx((8192 + 128 * 512) * per_token)
    assert priced(shared_prefix=8192, cascade=False).memory.kv_cache_bytes == held


def test_more_requests_fit_beside_a_shared_prefix() -> None:
    model, system, about = load_model("llama-3.1-70b"), load_system("dgx-h100:8"), engine("vLLM 0.11")
    d = Deployment(tp=8, framework="vLLM 0.11")
    alone = largest_batch(model, system, d, 8704.0, about)
    shared = largest_batch(model, system, replace(d, shared_prefix=8192), 8704.0, about)
    assert shared * 512 + 8192 == pytest.approx(alone * 8704)


def test_a_prefix_that_no_request_can_have_is_refused() -> None:
    with pytest.raises(InputError, match=r"shared_prefix\(8704\)"):
        priced(shared_prefix=8704)
    with pytest.raises(InputError, match="0 or more"):
        priced(shared_prefix=-1)
