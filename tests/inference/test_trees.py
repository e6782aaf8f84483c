"""A tree of drafts attends in two calls in SGLang on Hopper, in one elsewhere."""

from __future__ import annotations

import pytest

from supertwin.inference import Deployment, InferenceCase, predict
from supertwin.inference.plan import plan_of
from supertwin.inference.predict import shape_of
from supertwin.machine import load_system
from supertwin.model import load_model
from supertwin.workload.operators import Attention, Operator, Vector

TREE = {"mtp_tokens": 4, "mtp_acceptance": 0.5, "draft": "eagle3", "draft_topk": 4, "verify_tokens": 16}


def case(framework: str = "sglang", system: str = "dgx-h100:1", **fields: object) -> InferenceCase:
    d = Deployment(framework=framework, **{**TREE, **fields})  # type: ignore[arg-type]
    return InferenceCase(load_model("qwen3-8b"), load_system(system), d, "decode", 8.0, kv_len=4096)


def operators(one: InferenceCase, part: str) -> list[Operator]:
    plan = plan_of(one.model, one.system.chip, one.deployment, shape_of(one))
    return [o for block in plan.blocks for o in block.operators if o.part == part]


def test_nodes_see_the_context_together_and_their_ancestors_alone() -> None:
    context, ancestors = (o for o in operators(case(), "attention/core") if isinstance(o, Attention))
    assert (context.batch, context.q_len, context.causal) == (8.0, 16.0, False)
    assert (ancestors.batch, ancestors.q_len, ancestors.kv_len) == (8.0 * 16, 1.0, 5.0)
    (whole,) = (o for o in operators(case("vllm"), "attention/core") if isinstance(o, Attention))
    assert context.kv_len == whole.kv_len - 16
    (merge,) = (o for o in operators(case(), "attention/merge") if isinstance(o, Vector))
    assert merge.bytes_read == 2 * merge.bytes_written == 2 * (8 * 16 * 32 * 128) * 2.0


def test_the_drafter_attends_twice_over_the_nodes_that_it_expands() -> None:
    found = [o for o in operators(case(), "mtp/attention/core") if isinstance(o, Attention)]
    assert sorted((o.batch, o.q_len) for o in found) == [(8.0, 4.0), (8.0, 16.0), (32.0, 1.0)]


@pytest.mark.parametrize(
    "one", [case("vllm"), case(system="dgx-b200:1"), case(draft_topk=1, verify_tokens=0)], ids=["vllm", "b200", "chain"]
)
def test_a_mask_or_a_chain_takes_one_call(one: InferenceCase) -> None:
    assert len(operators(one, "attention/core")) == 1
    assert not operators(one, "attention/merge")


def test_two_calls_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    twice = predict(case()).step_time_s
    monkeypatch.setattr("supertwin.inference.plan.attends_twice", lambda *_: False)
    once = predict(case()).step_time_s
    assert 36 * 5e-6 < twice - once < 36 * 60e-6
