"""Experts: load of the busiest rank against drawn routers, capacity, hot copies, nodes that a token reaches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.core.errors import InputError
from supertwin.core.prediction import Prediction
from supertwin.machine.systems import load_system
from supertwin.model.load import load_model
from supertwin.training import Layout, TrainingCase, check, memory, predict
from supertwin.training.routing import rank_rows, reached_nodes, routed_block, routing_of
from supertwin.workload.balance import busiest_over_mean, dropped_share


def job(model: str = "deepseek-v3", system: str = "dgx-h100:128", **changes: object) -> TrainingCase:
    case = TrainingCase(
        model=load_model(model), system=load_system(system), layout=Layout(pp=4, dp=32, ep=32), micro_batch=1,
        global_batch=256, seq_len=4096, framework="megatron-core", force_balanced=False,
    )  # fmt: skip
    return replace(case, **changes)  # type: ignore[arg-type]


def seconds(prediction: Prediction, part: str) -> float:
    return sum(row.time_s for row in prediction.breakdown if row.part == part)


@pytest.mark.parametrize(("ranks", "experts", "cv"), [(8, 8, 0.3), (8, 256, 0.3), (64, 256, 0.5), (32, 128, 0.0)])
def test_busiest_rank_matches_drawn_routers(ranks: int, experts: int, cv: float) -> None:
    """Monte Carlo: experts with normal popularity, tokens drawn by it, loads summed over the experts of a rank."""
    random = np.random.default_rng(3)
    rows, found = 2000, []
    for _ in range(300):
        popularity = np.maximum(1.0 + cv * random.standard_normal(experts), 0.0)
        loads = random.multinomial(rows * ranks, popularity / popularity.sum())
        found.append(loads.reshape(ranks, -1).sum(axis=1).max() / rows)
    assert float(np.mean(found)) == pytest.approx(float(busiest_over_mean(rows, ranks, experts, cv)), rel=0.03)


def test_a_uniform_router_has_no_hot_rank() -> None:
    assert busiest_over_mean(1e12, 64, 256, 0.0) == pytest.approx(1.0, abs=1e-5)
    assert routing_of(job(force_balanced=True)).skew == 1.0
    assert routing_of(job("llama3.1-70b", layout=Layout(tp=8, dp=16))).skew == 1.0


@given(
    st.integers(2, 64), st.integers(1, 32), st.floats(0.0, 1.0), st.floats(10.0, 1e6), st.integers(0, 64),
)  # fmt: skip
def test_load_is_monotone(ranks: int, per_rank: int, cv: float, rows: float, copies: int) -> None:
    """More tokens, more copies and more experts per rank even the load out; more skewed popularity does the reverse."""
    experts = ranks * per_rank
    skew = float(busiest_over_mean(rows, ranks, experts, cv))
    assert 1.0 <= skew <= ranks
    assert float(busiest_over_mean(10.0 * rows, ranks, experts, cv)) <= skew
    assert float(busiest_over_mean(rows, ranks, 2 * experts, cv)) <= skew
    assert float(busiest_over_mean(rows, ranks, experts, 1.5 * cv)) >= skew
    assert float(busiest_over_mean(rows, ranks, experts, cv, copies)) <= skew + 1e-12


def test_dropped_tokens_match_draws() -> None:
    loads = 1.0 + 0.4 * np.random.default_rng(5).standard_normal(2_000_000)
    for capacity in (1.0, 1.25, 2.0):
        drawn = float(np.maximum(loads - capacity, 0.0).mean())
        assert dropped_share(1e12, 0.4, capacity) == pytest.approx(drawn, rel=0.03, abs=1e-5)


def test_capacity_bounds_the_busiest_rank() -> None:
    free, tight = routing_of(job(routing_cv=2.0)), routing_of(job(routing_cv=2.0, capacity_factor=1.2))
    assert free.skew > 1.5
    assert tight.skew == 1.2
    assert (free.dropped, tight.dropped > 0.1) == (0.0, True)
    padded = routing_of(job(force_balanced=True, capacity_factor=1.25, pad_experts=True))
    assert padded.skew == 1.25  # computes air
    assert predict(job(routing_cv=2.0, capacity_factor=1.2)).step_time_s < predict(job(routing_cv=2.0)).step_time_s


def test_copies_of_hot_experts_cost_memory_and_save_time() -> None:
    plain, copied = job(routing_cv=1.0), job(routing_cv=1.0, redundant_experts=32)
    assert routing_of(copied).skew < routing_of(plain).skew
    assert seconds(predict(copied), "compute/moe") < seconds(predict(plain), "compute/moe")
    more = memory(copied).parameters_bytes / memory(plain).parameters_bytes
    assert 1.0 < more < 1.0 + 32 / 256


def test_etp_of_one_is_no_etp() -> None:
    case = job(layout=Layout(tp=2, pp=4, dp=16, ep=8))
    assert predict(replace(case, layout=replace(case.layout, etp=1))).step_time_s == predict(case).step_time_s
    cut = predict(replace(case, layout=replace(case.layout, etp=2)))
    assert seconds(cut, "communication/tp") > seconds(predict(case), "communication/tp")


def test_rows_are_conserved() -> None:
    """Pairs over all expert ranks are the tokens of all ranks times top-k, however experts are cut."""
    for layout in (Layout(pp=4, dp=32, ep=32), Layout(tp=2, pp=4, dp=16, ep=8), Layout(tp=4, pp=4, dp=8, ep=8, etp=4)):
        case = job(layout=layout)
        block = routed_block(case.model)
        assert block is not None
        ranks = layout.tp * layout.cp * layout.dp
        tokens = case.micro_batch * case.seq_len * layout.dp
        assert rank_rows(case, block) * ranks / layout.etp == pytest.approx(tokens * block.topk)


def test_nodes_of_a_token() -> None:
    """DeepSeek-V3: 8 groups of experts, 4 of them per token (arXiv 2412.19437, section 2.1.2)."""
    block = routed_block(load_model("deepseek-v3"))
    assert block is not None
    assert (block.router_groups, block.router_kept) == (8, 4)
    assert [reached_nodes(job(), block, nodes) for nodes in (1, 4, 8, 16)] == [1, 4, 4, 8]
    assert reached_nodes(job("mixtral-8x7b"), routed_block(load_model("mixtral-8x7b")), 8) == 0.0


def test_a_limited_router_sends_less_between_nodes() -> None:
    wide = job(layout=Layout(pp=2, dp=64, ep=64))
    times = [seconds(predict(replace(wide, routing_nodes=limit)), "communication/ep") for limit in (1, 2, 4, 8)]
    assert times == sorted(times)
    assert times[0] < times[-1]


@settings(max_examples=15, deadline=None)
@given(st.floats(1.0, 4.0), st.floats(1.0, 2.0))
def test_a_hotter_rank_is_never_faster(skew: float, factor: float) -> None:
    case = job(skew=skew)
    assert predict(replace(case, skew=skew * factor)).step_time_s >= predict(case).step_time_s * (1.0 - 1e-12)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"redundant_experts": 3}, r"experts\(256\) \+ redundant_experts\(3\) = 259 .* redundant_experts of 0 or 32"),
        ({"pad_experts": True}, "pad_experts needs capacity_factor"),
        ({"skew": 0.5}, "at least the mean load"),
        ({"capacity_factor": -1.0}, r"capacity_factor = -1; expected 0 or more"),
    ],
)
def test_illegal_routing_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        check(job(**changes))
