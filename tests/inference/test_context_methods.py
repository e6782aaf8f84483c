"""Ring, Ulysses and staged prefill: work is conserved, exchanges have their closed forms, uneven prompts cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from supertwin.core.errors import InputError
from supertwin.core.prediction import Prediction
from supertwin.inference import Deployment, InferenceCase, predict
from supertwin.inference.context import busiest_rank, in_hops, staged_savings, turn_exposed_s, with_spread
from supertwin.inference.plan import Plan, plan_of
from supertwin.inference.predict import shape_of
from supertwin.machine import load_system
from supertwin.model import load_model
from supertwin.workload.operators import Attention, Communication, Gemm, Operator

METHODS = ("all_gather", "ring", "ulysses")


def case(model: str, on: str, deployment: Deployment, input_len: int, batch: float, cv: float = 0.0) -> InferenceCase:
    return InferenceCase(
        load_model(model), load_system(on), deployment, "prefill", batch, input_len=input_len, prompt_cv=cv
    )


def planned(one: InferenceCase) -> Plan:
    return plan_of(one.model, one.system.chip, one.deployment, shape_of(one))


def operators(one: InferenceCase) -> list[Operator]:
    return [o for block in planned(one).blocks if block.layer for o in block.operators]


def core_flop(one: InferenceCase) -> float:
    """Multiply-adds of attention on all devices, twice."""
    total = 0.0
    for block in planned(one).blocks:
        for o in block.operators:
            if isinstance(o, Attention):
                keys = float(o.kv_len - (o.q_len - 1) / 2 if o.causal else o.kv_len)
                each = 2.0 * float(o.batch * o.q_len * o.heads) * keys * float(o.qk_head_dim + o.v_head_dim)
                total += each * float(o.count) * block.count
    return total * one.deployment.devices


def llama(cp: int, method: str, tp: int = 1, balanced: bool = True, input_len: int = 32768) -> InferenceCase:
    deployment = Deployment(tp=tp, cp=cp, cp_method=method, cp_balanced=balanced)
    return case("llama-3.1-8b", "dgx-h100:8", deployment, input_len, 1.0 / (tp * cp))


@pytest.mark.parametrize("method", METHODS)
def test_arithmetic_of_attention_does_not_depend_on_how_ranks_share_it(method: str) -> None:
    assert core_flop(llama(8, method)) == pytest.approx(core_flop(llama(1, "all_gather")), rel=1e-9)


@pytest.mark.parametrize("method", ["all_gather", "ring"])
def test_a_contiguous_cut_leaves_the_last_rank_the_longest_rows(method: str) -> None:
    """The last of cp ranks sees (2 cp - 1) / cp of the mean keys (arXiv 2311.09431)."""
    cp = 8
    zigzag, contiguous = (core_flop(llama(cp, method, balanced=b)) for b in (True, False))
    assert contiguous / zigzag == pytest.approx((2 * cp - 1) / cp, rel=1e-3)
    fast, slow = (predict(llama(cp, method, balanced=b)).step_time_s for b in (True, False))
    assert slow > fast
    assert core_flop(llama(cp, "ulysses", balanced=False)) == core_flop(llama(cp, "ulysses"))


@pytest.mark.parametrize(("turn", "block"), [(1.0, 3.0), (3.0, 1.0), (2.0, 2.0)])
def test_turns_are_exposed_as_a_hop_by_hop_clock_says(turn: float, block: float) -> None:
    cp, clock, arrived = 8, 0.0, 0.0
    for hop in range(cp):
        clock = max(clock, arrived)
        arrived = clock + turn if hop < cp - 1 else clock
        clock += block
    assert float(turn_exposed_s((cp - 1) * turn, cp * block, cp)) == pytest.approx(clock - cp * block)


def test_ring_hides_its_turns_where_attention_is_long() -> None:
    for length, hidden in ((131072, True), (8192, False)):
        deployment = Deployment(cp=16, cp_method="ring")
        parts = {p.part for p in predict(case("llama-3.1-8b", "dgx-h100:16", deployment, length, 1 / 16)).breakdown}
        assert ("cp p2p" not in parts) is hidden


def test_a_ring_runs_one_kernel_per_block_and_merges_between_them() -> None:
    core, merge = in_hops(
        [Attention(part="attention/core", batch=1, q_len=4096, kv_len=32768, heads=8, kv_heads=8, qk_head_dim=128,
                   v_head_dim=128)], 8,
    )  # fmt: skip
    assert isinstance(core, Attention)
    assert (core.count, core.causal, merge.count) == (8, False, 7)
    windowed = replace(core, causal=True, window=512.0)
    assert in_hops([windowed], 8) == [windowed]


@pytest.mark.parametrize(("cp", "kv"), [(4, 1.0), (8, 1.0), (16, 2.0)])
def test_ulysses_copies_key_heads_that_are_fewer_than_its_ranks(cp: int, kv: float) -> None:
    """Llama 8B: 32 query and 8 key heads of 128; q, k, v and the result of a rank's tokens travel in BF16."""
    one = case("llama-3.1-8b", "dgx-h100:16", Deployment(cp=cp, cp_method="ulysses"), 32768, 1.0 / cp)
    swap = next(o for o in operators(one) if isinstance(o, Communication) and o.op == "all_to_all")
    assert float(swap.message_bytes) == pytest.approx(32768 / cp * 2 * 128 * (2 * 32 + 2 * 8 * kv))


def test_cached_keys_travel_too() -> None:
    """A rank holds its share of the prefix; keys of 8 heads, 128 wide, two vectors, BF16."""
    one = replace(llama(4, "all_gather", input_len=4096), prefix_len=12288)
    gather = next(o for o in operators(one) if isinstance(o, Communication) and o.axis == "cp")
    assert float(gather.message_bytes) == pytest.approx(16384 * 8 * 128 * 2 * 2)


R1 = Deployment(
    ep=32, weight_dtype="int8", activation_dtype="int8", redundant_experts=32, framework="cloudmatrix-infer"
)
PARALLEL = replace(R1, dp=32, dp_attention=True)
STAGED = replace(R1, cp=32, cp_method="staged")


def r1(deployment: Deployment, cv: float = 0.0, **fields: object) -> InferenceCase:
    return case("deepseek-r1", "cm384:32", replace(deployment, **fields), 4096, 2.0, cv)  # type: ignore[arg-type]


def products(one: InferenceCase) -> float:
    return sum(float(o.m * o.n * o.k) for o in operators(one) if isinstance(o, Gemm) and o.part.startswith("attention"))


def test_stages_do_the_work_of_data_parallel_ranks_and_move_narrow_vectors() -> None:
    """CM384 paper 4.3.1. 2 x 4,096 tokens per die: 1,536 + 576 BF16 values of each are gathered, 128 heads of 128 go
    back."""
    assert products(r1(STAGED)) == pytest.approx(products(r1(PARALLEL)))
    assert core_flop(r1(STAGED)) == pytest.approx(core_flop(r1(PARALLEL)))
    moved = [o for o in operators(r1(STAGED)) if isinstance(o, Communication) and o.axis == "cp"][:2]
    assert [o.op for o in moved] == ["all_gather", "all_to_all"]
    assert float(moved[0].message_bytes) == pytest.approx(32 * 8192 * (1536 + 576) * 2)
    assert float(moved[1].message_bytes) == pytest.approx(8192 * 128 * 128 * 2)


def test_stages_hold_the_wide_maps_once() -> None:
    """61 layers of 128 heads: 1,536 x 192 of the query and 512 x 256 of keys and values, 31 of 32 parts not held."""
    saved = staged_savings(load_model("deepseek-r1"), STAGED)
    assert saved == pytest.approx(61 * 128 * (1536 * 192 + 512 * 256) * 31 / 32)
    used = [predict(r1(d)).memory.parameters_bytes for d in (PARALLEL, STAGED)]
    assert used[0] - used[1] == pytest.approx(saved, rel=0.01)  # INT8 with its scales


def seconds(deployment: Deployment, cv: float) -> float:
    return predict(r1(deployment, cv, microbatch_overlap=True)).step_time_s


def test_stages_pay_for_uneven_prompts_and_cost_with_even_ones() -> None:
    """The paper's reason: data-parallel ranks wait for the one with the longest prompts."""
    assert 1.05 < seconds(STAGED, 0.0) / seconds(PARALLEL, 0.0) < 1.3
    assert seconds(PARALLEL, 0.5) > 1.2 * seconds(STAGED, 0.5)
    assert seconds(PARALLEL, 1.0) / seconds(STAGED, 1.0) > seconds(PARALLEL, 0.5) / seconds(STAGED, 0.5)


@pytest.mark.parametrize("cv", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("prompts", [2, 8])
@pytest.mark.parametrize("ranks", [4, 32])
def test_busiest_rank_as_drawn(cv: float, prompts: int, ranks: int) -> None:
    sigma = np.sqrt(np.log1p(cv**2))
    drawn = np.random.default_rng(7).lognormal(-(sigma**2) / 2, sigma, (4000, ranks, prompts)).sum(axis=2)
    expected = float((drawn.max(axis=1) / drawn.mean(axis=1)).mean())
    assert float(busiest_rank(cv, float(prompts), ranks)) == pytest.approx(expected, rel=0.1)


def test_spread_keeps_tokens_and_squares_of_lengths() -> None:
    shape = shape_of(r1(STAGED))
    wide = with_spread(shape, 0.8, 1)
    assert wide.tokens == pytest.approx(shape.tokens)
    assert wide.sequences * wide.q_len**2 == pytest.approx(shape.sequences * shape.q_len**2 * (1 + 0.8**2))
    busy = with_spread(shape, 0.8, 32)
    assert busy.shared_tokens == pytest.approx(shape.shared_tokens)
    assert busy.tokens > wide.tokens


def test_experts_lie_on_all_context_ranks_where_ep_says_so() -> None:
    own, shared = (predict(r1(STAGED, ep=ep, weight_dtype="int4")) for ep in (1, 32))
    assert shared.memory.parameters_bytes < 0.2 * own.memory.parameters_bytes
    moe = {p.part for p in shared.breakdown}
    assert "dispatch and combine" in moe
    assert "dispatch and combine" not in {p.part for p in own.breakdown}


@pytest.mark.parametrize(
    ("model", "fields", "message"),
    [
        ("llama-3.1-8b", {"cp_method": "zigzag"}, "all_gather, ring, ulysses, staged"),
        ("llama-3.1-8b", {"cp_method": "staged"}, "legal: all_gather, ring, ulysses"),
        ("llama-3.1-8b", {"cp_method": "ulysses", "tp": 8, "cp": 8}, "legal cp: 1, 2, 4"),
        ("deepseek-v3.2", {"cp_method": "ring"}, "sparse attention"),
        ("deepseek-r1", {"ep": 48}, r"tp \(dp .* x cp = 8; legal: 1, 2, 4, 8"),
    ],
)
def test_what_cannot_be_cut_that_way_is_refused(model: str, fields: dict[str, object], message: str) -> None:
    deployment = replace(Deployment(cp=8), **fields)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        predict(case(model, "dgx-h100:64", deployment, 4096, 1.0 / 8))


def test_lengths_without_spread_change_nothing() -> None:
    found: list[Prediction] = [predict(r1(PARALLEL)), predict(replace(r1(PARALLEL), prompt_cv=0.0))]
    assert found[0].step_time_s == found[1].step_time_s
    with pytest.raises(InputError, match="prompt_cv"):
        predict(r1(PARALLEL, cv=-1.0))


def test_a_ring_seen_before_is_the_same_step() -> None:
    """Steps that are asked for again replay their sizes; the turns must stay hidden in them."""
    found = {predict(llama(8, "ring", input_len=65536)).step_time_s for _ in range(4)}
    assert len(found) == 1


def test_recurrent_layers_gather_their_states() -> None:
    """Qwen3-Next: 32 value heads with a state of 128 x 128 in FP32 each, from every one of four ranks."""
    one = case("qwen3-next-80b-a3b", "dgx-h200:4", Deployment(cp=4, cp_method="ring"), 32768, 0.25)
    gather = next(o for o in operators(one) if isinstance(o, Communication) and o.part == "attention/state")
    assert float(gather.message_bytes) == 4 * 32 * 128 * 128 * 4.0
    assert not any(o.part == "attention/state" for o in operators(replace(one, deployment=Deployment(), batch=1.0)))


def test_the_layout_says_how_ranks_share_a_sequence() -> None:
    assert predict(llama(4, "ulysses")).layout["cp_method"] == "ulysses"
    assert "cp_method" not in predict(llama(1, "ring")).layout


def test_exchanges_inside_attention_are_not_hidden_by_the_other_micro_batch() -> None:
    """CM384 paper: micro-batches gain 23 to 31 % of prefill throughput (section 5.4, 4K prompts)."""
    serial, overlapped = (predict(r1(STAGED, microbatch_overlap=both)).step_time_s for both in (False, True))
    assert 1.1 < serial / overlapped < 1.35


def million(cp: int) -> Prediction:
    parts = (("attention", "bf16", "bf16"),)
    deployment = Deployment(
        tp=8, cp=cp, cp_method="ring", weight_dtype="fp8", activation_dtype="fp8", part_dtypes=parts
    )  # fmt: skip
    return predict(case("llama-3.1-405b", f"dgx-h100:{8 * cp}", deployment, 1_000_000, 1 / (8 * cp)))


def test_a_million_tokens_around_a_ring_of_nodes() -> None:
    """Llama-3 405B on 16 nodes of 8 H100 (HBM2e, 500 W): 77 s, 93 % of 16 times one node (arXiv 2411.01783)."""
    assert million(16).step_time_s == pytest.approx(77.0, rel=0.2)
    assert million(1).step_time_s / 16 / million(16).step_time_s == pytest.approx(0.93, abs=0.06)
