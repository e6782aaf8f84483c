"""Laws that hold for any deployment: monotone in hit rate, bandwidth and limits; requests are conserved."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.core.errors import InputError, UnknownName
from supertwin.inference import predict
from supertwin.inference.case import Deployment, InferenceCase
from supertwin.inference.deploy import (
    Limits,
    Service,
    at_concurrency,
    at_rate,
    attainment,
    balance,
    economy,
    largest_rate,
    most_requests_per_s,
    pareto,
    pool,
    prepare,
    zipf_hit_rate,
)
from supertwin.inference.deploy.handover import handover
from supertwin.inference.deploy.prefix import break_even_tokens
from supertwin.machine import load_system
from supertwin.model import load_model
from supertwin.scenarios.serving import cm384_service as paper
from tests.inference.deploy.services import priced, small

SHARES = st.floats(0.01, 0.98)
NAMES = st.sampled_from(["small", "paper"])


@settings(max_examples=40, deadline=None)
@given(NAMES, SHARES, SHARES)
def test_more_load_is_never_faster(name: str, one: float, other: float) -> None:
    prepared = priced(name)
    most, _ = most_requests_per_s(prepared)
    light, heavy = (at_rate(prepared, most * share) for share in sorted((one, other)))
    assert heavy.ttft_s >= light.ttft_s - 1e-12
    assert heavy.tpot_s >= light.tpot_s - 1e-12
    assert heavy.ttft_p99_s >= heavy.ttft_s
    assert heavy.tpot_p99_s >= heavy.tpot_s


@settings(max_examples=40, deadline=None)
@given(NAMES, st.floats(1.0, 5000.0))
def test_requests_are_conserved(name: str, requests: float) -> None:
    """Little's law: what is in flight is what was put in, also when the deployment cannot hold it."""
    point = at_concurrency(priced(name), requests)
    assert point.in_flight == pytest.approx(requests, rel=1e-6)
    assert point.ttft_s == pytest.approx(sum(value for _, value in point.ttft_parts), rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(NAMES, st.floats(0.05, 20.0), st.floats(0.005, 0.2), st.floats(1.0, 3.0), st.sampled_from(["mean", "p99"]))
def test_tighter_limits_never_serve_more(name: str, ttft: float, tpot: float, wider: float, statistic: str) -> None:
    prepared = priced(name)
    tight = largest_rate(prepared, Limits(ttft, tpot, statistic))
    wide = largest_rate(prepared, Limits(ttft * wider, tpot * wider, statistic))
    if tight.feasible:
        assert wide.feasible
        assert wide.point.requests_per_s >= tight.point.requests_per_s * (1.0 - 1e-9)
        assert Limits(ttft, tpot, statistic).hold(tight.point)
    else:
        assert "nearest feasible" in tight.reasons[0]


def test_the_nearest_feasible_limit_is_feasible() -> None:
    prepared = priced()
    refused = largest_rate(prepared, Limits(ttft_s=1e-3))
    least = float(refused.reasons[0].split("nearest feasible ")[1].split(" ms")[0]) * 1e-3
    assert not largest_rate(prepared, Limits(ttft_s=0.99 * least)).feasible
    assert largest_rate(prepared, Limits(ttft_s=least + 1e-3)).feasible


@pytest.mark.parametrize("place", ["ub", "vpc", "rdma", "host", "hbm"])
def test_a_cached_prefix_never_hurts_while_loading_beats_computing(place: str) -> None:
    rates, firsts = [], []
    for share in (0.0, 0.25, 0.5, 0.75, 0.9):
        prepared = prepare(replace(paper(), hit_rate=share, cache=place))
        rates.append(most_requests_per_s(prepared)[0])
        firsts.append(at_rate(prepared, 1.0).ttft_s)
    assert rates == sorted(rates)
    assert firsts == sorted(firsts, reverse=True)


def test_places_of_the_cache_in_order_of_their_rates() -> None:
    firsts = [
        at_rate(prepare(replace(paper(), hit_rate=0.9, cache=place)), 1.0).ttft_s
        for place in ("hbm", "host", "ub", "rdma", "vpc")
    ]
    assert firsts == sorted(firsts)


def test_break_even() -> None:
    """A load of 1 ms + 1 us per token against prefill of 3 us per token: 500 tokens."""
    assert break_even_tokens(1e-3, 1e-6, 3e-6) == pytest.approx(500.0)
    assert math.isinf(break_even_tokens(1e-3, 3e-6, 3e-6))


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4, 8]), st.floats(0.001, 2.0))
def test_handover_over_the_faster_plane_and_layer_by_layer(tp: int, other: int, prefill_s: float) -> None:
    base = replace(small("dgx-h100:16"), prefill=Deployment(tp=tp), decode=Deployment(tp=other))
    late = handover(base, prefill_s)
    early = handover(replace(base, layerwise=True), prefill_s)
    layers = base.model.n_layers
    assert late.transfer_s / layers - 1e-12 <= early.exposed_s <= late.exposed_s + 1e-12
    assert early.exposed_s >= late.transfer_s - prefill_s
    copies = max(1.0, other / 8)  # 8 KV heads
    assert late.wire_bytes == pytest.approx(late.bytes_per_token * base.input_len * copies)
    cm = replace(paper(), plane="ub")
    assert handover(cm, 1.0).transfer_s < handover(paper(), 1.0).transfer_s


def test_no_transfer_exceeds_its_link() -> None:
    for name in ("small", "paper"):
        prepared = priced(name)
        most, _ = most_requests_per_s(prepared)
        assert prepared.handover is not None
        assert max(prepared.handover.link_shares(prepared.service, most)) <= 1.0 + 1e-9


def test_balance_is_the_best_split() -> None:
    """Against every split of 16 devices into instances of 4."""
    service = small("dgx-h100:16")
    best = balance(service, 16)
    for prefills in (1, 2, 3):
        rate = most_requests_per_s(prepare(replace(service, prefill_instances=prefills, decode_instances=4 - prefills)))
        assert best.requests_per_s >= rate[0] * (1.0 - 1e-9)


def test_pareto_and_attainment() -> None:
    prepared = priced()
    points = pareto(prepared)
    assert [p.requests_per_s for p in points] == sorted(p.requests_per_s for p in points)
    assert [p.tpot_s for p in points] == sorted(p.tpot_s for p in points)
    limits = Limits(1.0, 0.05)
    shares = [attainment(prepared, p, limits) for p in points]
    assert shares == sorted(shares, reverse=True)
    assert all(0.0 <= share <= 1.0 for share in shares)
    p99 = largest_rate(prepared, Limits(1.0, statistic="p99"))
    assert attainment(prepared, p99.point, Limits(1.0)) == pytest.approx(0.99, abs=1e-3)


def test_economy_adds_up() -> None:
    service, point = small(), at_rate(priced(), 1.0)
    found = economy(service, point)
    assert found.output_tokens_per_s == pytest.approx(256.0)
    assert found.output_tokens_per_s_per_device * 8 == pytest.approx(256.0)
    assert found.bill.power_w is not None
    assert found.output_tokens_per_s_per_mw == pytest.approx(256.0 / found.bill.power_w * 1e6)
    assert found.bill.energy_j_per_token == pytest.approx(found.bill.power_w / 256.0)


@settings(max_examples=50, deadline=None)
@given(st.floats(2, 1e6), st.floats(0, 1), st.floats(0, 1), st.floats(0, 2))
def test_a_larger_cache_hits_more(prefixes: float, one: float, other: float, exponent: float) -> None:
    low, high = sorted((one, other))
    small_one = zipf_hit_rate(prefixes, prefixes * low, exponent)
    assert 0.0 <= small_one <= zipf_hit_rate(prefixes, prefixes * high, exponent) + 1e-9 <= 1.0 + 1e-9


def test_che_against_a_simulated_lru_cache() -> None:
    """100,000 requests to 1,000 prefixes with Zipf 0.9, an LRU cache of 100; all alike: the share that is cached."""
    chance = np.arange(1.0, 1001.0) ** -0.9
    asked = np.random.default_rng(1).choice(1000, 100_000, p=chance / chance.sum())
    held: dict[int, None] = {}
    hits = 0
    for number, prefix in enumerate(asked.tolist()):
        hits += prefix in held and number >= 20_000
        held.pop(prefix, None)
        held[prefix] = None
        if len(held) > 100:
            held.pop(next(iter(held)))
    assert zipf_hit_rate(1000, 100, 0.9) == pytest.approx(hits / 80_000, abs=0.01)
    assert zipf_hit_rate(1000, 100, 0.0) == pytest.approx(0.1, abs=1e-6)
    assert zipf_hit_rate(5000, 500, 0.9) == pytest.approx(zipf_hit_rate(4096, 409.6, 0.9), abs=0.02)  # grouped ranks


def test_pool_sizes() -> None:
    """2 TiB of 32 nodes hold half a million prefixes of 2K latent tokens in half of their memory."""
    found = pool(replace(paper(), cache="ub"), 1e5, 2048)
    assert found.prefix_bytes == 2048 * 70272
    assert found.held == 1e5
    assert found.hit == 1.0
    assert pool(replace(paper(), cache="hbm"), 1e5, 2048).hit < pool(replace(paper(), cache="ub"), 1e7, 2048).hit


def test_bad_input_names_what_is_legal() -> None:
    service = small()
    for changes, words in (
        ({"prefill_instances": 3}, "take fewer instances or dgx-h100:16"),
        ({"hit_rate": 1.0}, "expected 0 to below 1"),
        ({"cache": "ub"}, "expected rdma"),
        ({"cache": "vpc"}, "no vpc plane"),
        ({"decode_instances": 0}, "expected at least 0"),
        ({"input_len": 0.0}, "expected at least 1"),
    ):
        with pytest.raises(InputError, match=words):
            replace(service, **changes)
    with pytest.raises(UnknownName, match="rdma"):
        replace(service, plane="rdmaa")
    with pytest.raises(InputError, match="joins 8 devices"):
        replace(small("dgx-h100:16"), plane="ub")
    with pytest.raises(InputError, match="prefill instances of their own"):
        balance(replace(service, prefill_instances=0), 8)
    with pytest.raises(InputError, match="above 0"):
        Limits(ttft_s=0.0)


def test_one_kind_of_instance() -> None:
    """Instances that do both: fewer requests than disaggregated ones need no transfer and no second wait."""
    both = prepare(replace(small(), prefill_instances=0, decode_instances=2))
    assert both.handover is None
    point = at_rate(both, 1.0)
    assert {name for name, _ in point.ttft_parts} == {"front end", "queue", "cache load", "prefill"}
    assert at_concurrency(both, 16.0).in_flight == pytest.approx(16.0, rel=1e-6)


def test_a_model_that_does_not_fit_is_infeasible() -> None:
    service = Service(small().model, load_system("dgx-h100:8"), Deployment(), Deployment(), 1, 1)
    best = largest_rate(prepare(service), Limits())
    assert not best.feasible
    assert "fits beside the weights" in best.reasons[0]
    assert economy(service, best.point).bill.energy_j_per_token is None  # nothing is served


def test_steps_of_a_deployment_are_those_of_predict() -> None:
    """Plain FP8 has the blocks of the checkpoint in both."""
    d = Deployment(dp=8, ep=8, dp_attention=True, weight_dtype="fp8", activation_dtype="fp8", framework="sglang")
    model = load_model("qwen3-235b-a22b")
    prepared = prepare(Service(model, load_system("dgx-h200:16"), d, d, 1, 1, 2048.0, 512.0))
    n = float(prepared.curves.resident[4])
    case = InferenceCase(model, load_system("dgx-h200:8"), d, "decode", n / 8.0, kv_len=2304)
    assert prepared.curves.step(n) == pytest.approx(predict(case).step_time_s, rel=1e-9)
    mixing = replace(d, framework="vllm")
    both = Service(model, load_system("dgx-h200:8"), mixing, mixing, 0, 1, 2048.0, 512.0)
    assert both.prefill.weight_dtype == both.decode.weight_dtype == "fp8-blockwise"
    assert prepare(both).curves.carried is not None  # prompts ride in decode steps


def test_an_illegal_instance_is_refused() -> None:
    with pytest.raises(InputError, match="does not divide the 64 heads"):
        Service(small().model, load_system("dgx-h100:8"), Deployment(tp=3), Deployment(), 1, 1)
