"""Loads in closed form against an event simulation of an engine's loop, and conservation laws over random cases."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.inference.deployment import Curves, Load, serve
from supertwin.inference.queueing import fluctuation, steps_of_prompt
from supertwin.inference.residence import cycle_s
from supertwin.inference.runs import at_intervals, cut_spread, requests_of, template_tokens

TAU_S, SLOPE_S, PROMPT_S, LENGTH, CHUNK = 0.007, 3e-5, 0.01, 512.0, 8192.0

ENGINE = Curves(
    resident=np.array([1.0, 64.0, 1024.0]),
    decode_s=TAU_S + SLOPE_S * np.array([1.0, 64.0, 1024.0]),
    prefill_one_s=PROMPT_S,
    prefill_each_s=PROMPT_S,
    prefill_step_s=PROMPT_S * CHUNK / LENGTH,
    chunk_tokens=CHUNK,
    issue_s=0.0,
    lone_s=0.0,
    ranks=1,
    capacity=4096.0,
    prefill_devices=1,
    decode_devices=1,
)


def load(**changes: object) -> Load:
    base: dict[str, object] = {"arrivals": "poisson", "input_len": LENGTH, "new_tokens": LENGTH, "output_len": 129}
    return Load(**{**base, **changes})  # type: ignore[arg-type]


@dataclass
class Run:
    """Means over the requests of a simulated run: s, s per token, requests/s."""

    ttft_s: float
    tpot_s: float
    rate: float


def simulate(given: Load, requests: int, varied_prompts: bool = False, middle: bool = True) -> Run:
    """An engine step by step: each step takes prompts from the queue in order (at most CHUNK tokens) and decodes; a
    prefill-first engine decodes `held_steps` times when nobody waits and not at all in a step with prompts."""
    rng = np.random.default_rng(1)
    gaps = np.full(requests, 1.0) if given.even else rng.exponential(1.0, requests)
    arrival, users = np.cumsum(gaps) / gaps.mean() / max(given.rate_per_s, 1e-9), requests
    if given.arrivals == "loop":
        users = int(given.concurrency)
        arrival = np.where(np.arange(requests) < users, 0.0, np.inf)
    tokens = rng.exponential(LENGTH, requests) if varied_prompts else np.full(requests, LENGTH)
    left, first, last = tokens.copy(), np.zeros(requests), np.zeros(requests)
    ends: list[tuple[int, int]] = []
    now, step, head, done = 0.0, 0, 0, 0
    while done < requests:
        if head < requests and not ends and arrival[head] > now:
            now = float(arrival[head])
        budget, started = CHUNK, []
        begun = now
        while head < requests and arrival[head] <= begun and budget > 0.0:
            part = min(budget, left[head])
            left[head] -= part
            budget -= part
            if left[head] <= 0.0:
                started.append(head)
                head += 1
        now += (CHUNK - budget) * PROMPT_S / LENGTH
        prompts = budget < CHUNK
        decodes = 0 if prompts and not given.mixes_prefill else 1 if given.mixes_prefill else int(given.held_steps)
        for _ in range(decodes if ends else 0):
            now += TAU_S + SLOPE_S * len(ends)
            step += 1
            while ends and ends[0][0] <= step:
                last[heapq.heappop(ends)[1]] = now
                if users + done < requests:
                    arrival[users + done] = now
                done += 1
        for request in started:
            first[request] = now
            heapq.heappush(ends, (step + int(given.output_len) - 1, request))
    part = slice(requests // 5, requests * 4 // 5) if middle else slice(None)
    tpot = (last - first)[part].mean() / (given.output_len - 1.0)
    return Run(float((first - arrival)[part].mean()), float(tpot), requests / now)


@pytest.mark.parametrize(
    ("rate", "varied", "mixes", "held", "even"),
    [
        (8.0, False, True, 1, False),
        (40.0, False, True, 1, False),
        (40.0, True, True, 1, False),
        (60.0, False, True, 1, False),
        (30.0, False, False, 1, False),
        (30.0, True, False, 1, False),
        (30.0, False, False, 9, False),
        (8.0, False, True, 1, True),
        (40.0, False, True, 1, True),
    ],
)
def test_arrivals_match_an_event_simulation(rate: float, varied: bool, mixes: bool, held: int, even: bool) -> None:
    """Mean TTFT within 10 %, TPOT within 6 % of the loop that the formula stands for."""
    asked = load(
        rate_per_s=rate,
        requests=math.inf,
        mixes_prefill=mixes,
        held_steps=float(held),
        varied=varied,
        even=even,
        prompt_cv2=float(varied),
    )
    shared = min(1.0, LENGTH / CHUNK) * TAU_S if mixes else 0.0  # equation (2) takes a fixed part off that stays here
    found = serve(replace(ENGINE, prefill_each_s=PROMPT_S + shared), asked, 1.0)
    run = simulate(asked, 4000, varied)
    assert found.ttft_s == pytest.approx(run.ttft_s, rel=0.10)
    assert found.tpot_s == pytest.approx(run.tpot_s, rel=0.06)


def test_a_short_run_is_not_steady() -> None:
    """500 requests in 12 s, each of which stays for 5: built up and drained, they see fewer neighbours."""
    asked = load(rate_per_s=40.0, requests=500.0, output_len=257)
    run = simulate(asked, 500, middle=False)
    short, steady = (serve(ENGINE, replace(asked, requests=n), 1.0) for n in (500.0, math.inf))
    assert short.tpot_s < 0.9 * steady.tpot_s
    assert short.tpot_s == pytest.approx(run.tpot_s, rel=0.15)
    assert short.requests_per_s == pytest.approx(run.rate, rel=0.06)
    assert steady.requests_per_s == pytest.approx(40.0)


@pytest.mark.parametrize("users", [1, 4, 16, 64, 256])
def test_prompts_of_equal_replies_ride_together(users: int) -> None:
    """In a loop of equal lengths a group stays in step: all its prompts are in the step after its replies end."""
    asked = load(arrivals="loop", concurrency=float(users), requests=float(20 * users), rate_per_s=0.0)
    found, told = simulate(asked, 20 * users), serve(ENGINE, replace(asked, requests=math.inf), 1.0)
    assert told.ttft_s == pytest.approx(found.ttft_s, rel=0.05)
    assert told.requests_per_s == pytest.approx(found.rate, rel=0.05)


@pytest.mark.parametrize(("space", "per_step"), [(170.0, 0.3), (500.0, 0.8), (820.0, 2.4), (3000.0, 4.0)])
def test_prompts_wait_for_room_in_steps(space: float, per_step: float) -> None:
    """Steps until a prompt of exponential length is computed, first come first served, against the recursion."""
    rng, mean, steps = np.random.default_rng(2), 222.0, 40_000
    waits: list[float] = []
    queue = 0.0
    for come in rng.poisson(per_step, steps):
        for tokens in rng.exponential(mean, come):
            queue += tokens
            waits.append(math.ceil(queue / space))
        queue = max(queue - space, 0.0)
    engine = replace(ENGINE, chunk_tokens=space, step_tokens=0.0)
    asked = load(new_tokens=mean, prompt_cv2=1.0)
    assert steps_of_prompt(engine, asked, 1.0, per_step) == pytest.approx(np.mean(waits), rel=0.15)


@pytest.mark.parametrize("capacity", [4096.0])
def test_residents_fluctuate_more_near_saturation(capacity: float) -> None:
    """Standard deviation of the residents against the stationary distribution of the birth-death chain n -> n + 1 at
    the offered rate, n -> n - 1 at n / residence(n)."""
    engine, asked = replace(ENGINE, capacity=capacity), load(requests=10**9)
    n = np.arange(1.0, 1200.0)
    leave = n / cycle_s(engine, asked, n)
    for rate in (20.0, 45.0, 60.0):
        weight = np.cumsum(np.log(rate / leave))
        share = np.exp(weight - weight.max())
        share /= share.sum()
        mean = float(share @ n)
        spread = math.sqrt(float(share @ (n - mean) ** 2)) / mean
        assert fluctuation(engine, asked, rate, mean, 1.0)[0] == pytest.approx(spread, rel=0.15)


def test_admission_waits_only_when_the_engine_is_full() -> None:
    """Above the engine's rate requests wait for one another; a run that fits into the engine does not."""
    small = replace(ENGINE, capacity=64.0)
    asked = load(rate_per_s=100.0, requests=1000.0, output_len=1025)
    full, roomy = serve(small, asked, 1.0), serve(small, replace(asked, requests=60.0), 1.0)
    assert full.bound == "engine"
    assert full.ttft_s > 10.0 * roomy.ttft_s
    most = 64.0 / float(cycle_s(small, asked, 64.0))
    assert full.requests_per_s == pytest.approx(most, rel=0.1)


def test_ranks_gather_prompts() -> None:
    """Waiting for prompts of the other ranks costs the first token half of the wait and spares lone prefills."""
    ranks = replace(ENGINE, ranks=8, lone_s=0.05, prefill_each_s=PROMPT_S / 8.0)
    alone = load(rate_per_s=2.0, requests=math.inf, output_len=1025)
    gathered = replace(alone, gather_steps=9.0)
    at_once, later = serve(ranks, alone, 1.0), serve(ranks, gathered, 1.0)
    assert later.tpot_s < at_once.tpot_s
    assert later.ttft_s - at_once.ttft_s == pytest.approx(4.5 * later.tpot_s, rel=0.3)
    assert float(cycle_s(ranks, gathered, 512.0)) < float(cycle_s(ranks, alone, 512.0))


@st.composite
def engines(draw: st.DrawFn) -> Curves:
    """Engines with steps of 1 to 50 ms, prompts of 3 ms to 3 s, from two requests to thousands."""
    resident, tau = np.array([1.0, 64.0, 512.0]), draw(st.floats(1e-3, 0.05))
    one = draw(st.floats(3e-3, 3.0))
    return replace(
        ENGINE,
        resident=resident,
        decode_s=tau * (1.0 + draw(st.floats(1e-4, 0.1)) * (resident - 1.0)),
        prefill_one_s=one,
        prefill_each_s=one * draw(st.floats(0.2, 1.0)),
        prefill_step_s=4.0 * one,
        issue_s=0.1 * tau,
        lone_s=one * draw(st.booleans()),
        ranks=draw(st.sampled_from([1, 8])),
        capacity=draw(st.sampled_from([2.0, 16.0, 128.0, 4096.0])),
    )


loops = st.builds(
    load,
    arrivals=st.just("loop"),
    concurrency=st.sampled_from([1.0, 2.0, 7.0, 64.0, 1000.0]),
    requests=st.just(math.inf),
    output_len=st.sampled_from([2, 5, 129, 2000]),
    new_tokens=st.integers(16, 40000),
    varied=st.booleans(),
    mixes_prefill=st.booleans(),
    request_gap_s=st.sampled_from([0.0, 0.008, 0.1]),
)


@settings(max_examples=200, deadline=None)
@given(engine=engines(), asked=loops, instances=st.sampled_from([1.0, 4.0]))
def test_closed_loops_conserve_requests(engine: Curves, asked: Load, instances: float) -> None:
    """Little's law: rate x (TTFT + TPOT x later tokens) is the number of users, whatever bounds the rate."""
    found = serve(engine, asked, instances)
    inside = found.requests_per_s * (found.ttft_s + found.tpot_s * (asked.output_len - 1.0))
    assert inside == pytest.approx(asked.concurrency, rel=1e-9)


@settings(max_examples=100, deadline=None)
@given(rate=st.floats(0.1, 55.0), output=st.sampled_from([16, 129, 1025]), mixes=st.booleans(), varied=st.booleans())
def test_open_loads_conserve_requests(rate: float, output: int, mixes: bool, varied: bool) -> None:
    """Residents of an open load are rate x residence, and a queue makes nobody faster."""
    asked = load(rate_per_s=rate, requests=math.inf, output_len=output, mixes_prefill=mixes, varied=varied)
    found = serve(ENGINE, asked, 1.0)
    if found.bound == "arrivals":
        residence = float(cycle_s(ENGINE, asked, found.resident))
        assert found.resident == pytest.approx(rate * residence, rel=0.02)
    assert found.ttft_s >= PROMPT_S
    busier = serve(ENGINE, replace(asked, rate_per_s=rate * 1.05), 1.0)
    assert busier.ttft_s >= found.ttft_s * (1.0 - 1e-3)


def test_runs_of_gpustack_have_the_requests_of_their_profile() -> None:
    page = {"source_group": "gpustack", "notes": "Long Context Profile; peak concurrency 9", "request_rate_per_s": 1.0}
    assert at_intervals(page)
    assert requests_of(page) == 100.0
    assert requests_of(page | {"notes": "Generation Heavy Profile"}) == 200.0
    assert requests_of(page | {"notes": "BS=4; closed loop", "concurrency": 4.0}) == 100.0
    assert requests_of(page | {"notes": "burst of 500 requests", "concurrency": 4.0}) == 500.0
    assert requests_of(page | {"notes": "ShareGPT 8RPS"}) == 1000.0
    assert not at_intervals(page | {"source_group": "mlperf"})


def test_prompts_of_a_set_are_cut_at_its_longest() -> None:
    """Squared spread of exponential lengths cut at m means: by integration of the truncated density with mean 1."""
    for means in (2.0, 3.0, 4.0, 6.0, 10.0):
        x = np.linspace(0.0, means, 20001)
        low, high = -5.0, 5.0
        for _ in range(80):
            middle = 0.5 * (low + high)
            weight = np.exp(-middle * x)
            low, high = (middle, high) if float((weight * x).sum() / weight.sum()) > 1.0 else (low, middle)
        exact = float((weight * x**2).sum() / weight.sum()) - 1.0
        assert cut_spread(means) == pytest.approx(exact, abs=0.02)


def test_the_limit_that_comes_first_bounds_a_loaded_run() -> None:
    """A run loaded up to a limit on TPOT has a mean near it, unless the limit on TTFT comes first."""
    free = load(rate_per_s=10.0)
    loaded = replace(free, tpot_limit_s=0.15)
    one, many = (serve(ENGINE, replace(loaded, rate_per_s=10.0 * n), n).tpot_s for n in (1.0, 16.0))
    spread, elastic = fluctuation(ENGINE, loaded, 10.0, 10.0 * one * 128.0, 1.0)
    assert one == pytest.approx(0.15 / (1.0 + 2.326 * spread * elastic), rel=1e-3)
    assert one < many < 0.15
    first = replace(loaded, ttft_limit_s=0.05)
    assert serve(ENGINE, free, 1.0).tpot_s <= serve(ENGINE, first, 1.0).tpot_s < 0.05


@pytest.mark.parametrize(("users", "requests", "room"), [(200, 400, 40), (64, 640, 40), (100, 100, 40)])
def test_waits_for_admission_match_a_list(users: int, requests: int, room: int) -> None:
    """A server of `room` places that frees one every 1 / room: request k starts at the (k - room)th end and came, after
    the first wave, at the (k - users)th."""
    k = np.arange(requests)
    waits = np.maximum(k - room + 1, 0) - np.maximum(k - users + 1, 0)
    small = replace(ENGINE, capacity=float(room), prefill_one_s=1e-6, prefill_each_s=1e-6)
    asked = load(arrivals="loop", concurrency=float(users), requests=float(requests), output_len=2001)
    found = serve(small, asked, 1.0)
    assert found.ttft_s == pytest.approx(float(np.mean(waits)) / found.requests_per_s, rel=0.03)


def test_chat_templates_lengthen_raw_prompts() -> None:
    page = {"source_group": "gpustack", "notes": "ShareGPT; 1000 requests at t=0"}
    assert template_tokens(page) == 8.0
    assert template_tokens(page | {"flags": "tpot-derived-from-latency"}) == 0.0  # guidellm counts what the server read
    assert template_tokens(page | {"source_group": "trtllm-online"}) == 0.0


def test_a_prompt_waits_for_the_step_that_is_scheduled_already() -> None:
    """vLLM's asynchronous scheduling keeps two batches in its queue: one step more before the own one, not of an idle
    engine."""
    for mixes in (True, False):
        asked = load(rate_per_s=20.0, requests=math.inf, mixes_prefill=mixes)
        found, ahead = (serve(ENGINE, replace(asked, ahead_steps=n), 1.0) for n in (0.0, 1.0))
        step = found.tpot_s if mixes else float(ENGINE.step(found.resident))
        assert ahead.ttft_s - found.ttft_s == pytest.approx(step, rel=0.2)
        assert ahead.tpot_s == found.tpot_s
        users = replace(asked, arrivals="loop", rate_per_s=0.0, concurrency=16.0, requests=math.inf)
        found, ahead = (serve(ENGINE, replace(users, ahead_steps=n), 1.0) for n in (0.0, 1.0))
        assert ahead.ttft_s - found.ttft_s == pytest.approx(float(ENGINE.step(16.0)))
        assert ahead.requests_per_s * (ahead.ttft_s + 128 * ahead.tpot_s) == pytest.approx(16.0)
        alone = replace(users, concurrency=1.0)
        assert serve(ENGINE, replace(alone, ahead_steps=1.0), 1.0) == serve(ENGINE, alone, 1.0)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.02, 0.97), st.integers(1, 32), st.floats(0.0, 0.3), st.booleans())
def test_no_prompt_waits_longer_than_for_full_steps(share: float, ranks: int, lone_s: float, mixes: bool) -> None:
    """At most the rest of a step full of prompts and an own step full of them, however dear a lone prompt is, behind
    those that find no room in a step."""
    engine = replace(ENGINE, ranks=ranks, lone_s=lone_s, prefill_one_s=PROMPT_S + lone_s)
    given_load = load(requests=math.inf, mixes_prefill=mixes)
    most = serve(engine, replace(given_load, rate_per_s=1e9), 1.0).requests_per_s
    found = serve(engine, replace(given_load, rate_per_s=share * most), 1.0)
    full = engine.prefill_step_s + found.tpot_s
    behind = steps_of_prompt(engine, given_load, found.resident, share * most * found.tpot_s) - 1.0 if mixes else 0.0
    assert found.ttft_s <= 0.5 * full + full + 2.0 * (found.tpot_s + engine.prefill_one_s) + behind * found.tpot_s
