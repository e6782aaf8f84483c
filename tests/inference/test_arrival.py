"""Ranks arrive apart: the wait, where it shows and where it hides."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supertwin.inference import InferenceCase, predict
from supertwin.inference.anatomy import anatomy
from supertwin.inference.arrival import ARRIVAL_VARIANCE_S, CUDA_ARRIVAL_VARIANCE_S, apart, arrival_wait_s, waits_s
from supertwin.inference.case import Deployment
from supertwin.inference.exchange import Routed, awaited
from supertwin.inference.overlap import two_streams
from supertwin.inference.pieces import Piece
from supertwin.inference.placement import place
from supertwin.inference.streams import stage_times
from supertwin.machine import load_system
from supertwin.model import load_model
from supertwin.network.exchange import exchange_time
from supertwin.network.group import Group
from supertwin.workload.balance import expected_maximum
from supertwin.workload.operators import Communication

US = 1e-6
DECODE = Deployment(
    dp=320, ep=320, dp_attention=True, weight_dtype="int8", activation_dtype="int8", mtp_tokens=1, mtp_acceptance=0.7,
    framework="cloudmatrix-infer", redundant_experts=32, expert_balance="perfect",
)  # fmt: skip


def case(batch: float, **changed: object) -> InferenceCase:
    deployment = replace(DECODE, **changed)  # type: ignore[arg-type]
    return InferenceCase(load_model("deepseek-r1"), load_system("cm384:320"), deployment, "decode", batch, kv_len=4096)


@pytest.mark.parametrize(("ranks", "steps"), [(16, 40), (320, 60)])
def test_wait_of_ranks_whose_work_is_a_random_walk(ranks: int, steps: int) -> None:
    """Drawn: every rank does `steps` pieces of work of equal mean, each with variance c times its length."""
    piece_s = 3.0 * US
    random = np.random.default_rng(3)
    walk = random.normal(piece_s, np.sqrt(ARRIVAL_VARIANCE_S * piece_s), (300, ranks, steps))
    ends = walk.sum(axis=2)
    waited = (ends.max(axis=1) - ends.mean(axis=1)).mean()
    assert arrival_wait_s(steps * piece_s, apart(ranks)) == pytest.approx(waited, rel=0.03)


def test_constant_is_what_the_published_exchanges_wait() -> None:
    """CM384 paper, table 7: c is the variance that two waits of a round show over the round's work (EP256)."""
    system, group = load_system("cm384"), Group(256)
    times = {op: exchange_time(system, op, 128.0, 7168.0, 8.0, group) for op in ("dispatch", "combine")}
    waits = {"dispatch": 16.56 * US, "combine": 6.715 * US}
    work = sum(float(times[op].time_s) - expected_maximum(256) * waits[op] for op in times)
    assert sum(w**2 for w in waits.values()) / work == pytest.approx(ARRIVAL_VARIANCE_S, rel=0.03)


def test_each_meeting_waits_for_the_work_since_the_last() -> None:
    two = 2.0 * np.sqrt(ARRIVAL_VARIANCE_S)
    found = waits_s([(40 * US, 0.0), (60 * US, 0.0), (20 * US, two), (50 * US, 0.0), (20 * US, two)])
    assert [bool(w) for w in found] == [False, False, True, False, True]
    assert found[2] == pytest.approx(2.0 * np.sqrt(ARRIVAL_VARIANCE_S * 100 * US))
    assert found[4] == pytest.approx(2.0 * np.sqrt(ARRIVAL_VARIANCE_S * 50 * US))


def test_constant_on_nvidia_is_what_a_profile_waits() -> None:
    """SGLang on GB200, 48 ranks: the receiving half of dispatch takes 64.7 us, 23.0 where the rank comes last, 658 us
    after the combine before it (means of two ranks, with and without a load balancer)."""
    assert arrival_wait_s(658 * US, apart(48, CUDA_ARRIVAL_VARIANCE_S)) == pytest.approx(41.7 * US, rel=0.01)


@pytest.mark.parametrize("overlap", [False, True])
def test_ranks_of_nvidia_wait_for_each_other(overlap: bool) -> None:
    """Serial layers show it; behind another micro-batch only what outlasts it; one rank never waits, nor a prompt."""
    wide = replace(DECODE, dp=72, ep=72, framework="sglang deepep", mtp_tokens=0, microbatch_overlap=overlap,
                   weight_dtype="fp8", activation_dtype="fp8")  # fmt: skip
    asked = InferenceCase(load_model("deepseek-r1"), load_system("dgx-h100:72"), wide, "decode", 128, kv_len=2048)
    assert (rank_wait_s(asked) > 0.0) != overlap
    assert rank_wait_s(asked) < 0.15 * predict(asked).step_time_s
    assert rank_wait_s(replace(asked, phase="prefill", input_len=1024, batch=2)) == 0.0


def test_a_wait_lengthens_the_exchange_of_two_micro_batches() -> None:
    """As the exchange side has it where nothing else hides it."""
    spread = apart(72, CUDA_ARRIVAL_VARIANCE_S)
    layer = [
        Piece("attention core", "attention", 400 * US, "memory"),
        Piece("moe dispatch", "exchange", 50 * US, "network", outward=True, spread=spread),
        Piece("moe experts", "experts", 300 * US, "memory"),
        Piece("moe combine", "exchange", 90 * US, "network", spread=spread),
    ]
    found = stage_times(layer)
    assert found["dispatch"] == pytest.approx(50 * US + arrival_wait_s(400 * US, spread))
    assert found["combine"] == pytest.approx(90 * US + arrival_wait_s(300 * US, spread))
    assert (found["attention"], found["experts"]) == (400 * US, 300 * US)


def test_attention_ranks_of_nvidia_meet_not_their_parts() -> None:
    """Four attention ranks of two devices that gather or send tokens; one rank never waits."""
    system, routed = load_system("dgx-h100:8"), Routed(256.0, True)
    for op in ("dispatch", "all_gather"):
        sent = Communication(part="moe/dispatch", op=op, message_bytes=1e6, axis="ep", tokens=8.0)
        shared = Deployment(tp=2, dp=4, ep=8, dp_attention=True)
        assert awaited(system, place(shared), sent, routed) == apart(4, CUDA_ARRIVAL_VARIANCE_S)
        assert awaited(system, place(Deployment(tp=8, ep=8)), sent, routed) == 0.0
        assert awaited(load_system("mi355x-8"), place(shared), sent, routed) == 0.0


@given(*[st.floats(1e-6, 1e-3) for _ in range(3)])
def test_the_stream_with_time_left_waits(attention: float, experts: float, wait: float) -> None:
    layer = two_streams(attention, experts, 0.0, wait)
    assert layer >= two_streams(attention, experts, 0.0)
    spare = abs(attention - experts)
    assert layer == pytest.approx(2.0 * (max(attention, experts) + max(0.0, wait - spare)))


def rank_wait_s(asked: InferenceCase) -> float:
    return sum(part.time_s for part in predict(asked).breakdown if part.part == "rank wait")


def test_wait_is_a_part_of_its_own_and_grows_with_batch_and_ranks() -> None:
    wide, narrow = case(48), replace(case(48, dp=64, ep=64), system=load_system("cm384:64"))
    assert 0.0 < rank_wait_s(case(4)) < rank_wait_s(wide)
    assert 0.0 < rank_wait_s(narrow) < rank_wait_s(wide)
    beside = rank_wait_s(case(48, microbatch_overlap=True))  # the draft's alone: else inside the longer stream
    assert 0.0 < beside < rank_wait_s(wide) / 50.0


def test_the_prolog_is_one_kernel_on_ascend_recipes() -> None:
    """npu_mla_prolog: products without starts between them, passes beside them."""
    fused, apart = (
        {o.part: p.cost for opened in anatomy(case(4, framework=name)).blocks for o, p in opened.operators if p.cost}
        for name in ("cloudmatrix-infer", "vllm-ascend")
    )
    assert float(fused["attention/rope"].time_s) == 0.0 < float(apart["attention/rope"].time_s)
    for part in ("attention/down", "attention/q", "attention/absorb_q"):
        cost = fused[part]
        needed = float(np.maximum(cost.compute_s, cost.memory_s))
        assert needed <= float(cost.time_s) < float(apart[part].time_s)
    assert float(fused["attention/out"].time_s) == float(apart["attention/out"].time_s)


def test_few_tokens_pay_no_exchange_of_many() -> None:
    """Fused kernels: fixed part and copies. A sixteenth of the tokens takes far less than half of the time."""
    system, group = load_system("cm384"), Group(320)
    for op in ("dispatch", "combine"):
        many, few = (float(exchange_time(system, op, t, 7168.0, 9.0, group).bandwidth_s) for t in (128.0, 8.0))
        assert few == pytest.approx(many / 16.0, rel=1e-6)
