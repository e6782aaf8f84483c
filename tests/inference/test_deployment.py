"""The closed-form deployment against conservation laws and a step-by-step simulation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.inference.carried import Carried
from supertwin.inference.deployment import Curves, Load, serve
from supertwin.inference.replies import SHAREGPT_LEAST, SHAREGPT_WEIGHT, reply_weight
from supertwin.inference.residence import cycle_s

LINEAR = Curves(
    resident=np.array([1.0, 64.0, 256.0]),
    decode_s=np.array([0.010, 0.010 + 63 * 1e-4, 0.010 + 255 * 1e-4]),
    prefill_one_s=0.05,
    prefill_each_s=0.02,
    prefill_step_s=0.16,
    chunk_tokens=8192.0,
    issue_s=0.0,
    lone_s=0.0,
    ranks=1,
    capacity=128.0,
    prefill_devices=8,
    decode_devices=8,
)


FREE = Carried(np.array([1.0, 256.0]), np.array([1.0, 8192.0]), np.zeros((2, 2)), 1, 1)
"""Prompts that take no time in decode steps."""


def load(**changes: object) -> Load:
    base: dict[str, object] = {"arrivals": "saturated", "input_len": 1024, "new_tokens": 1024, "output_len": 201}
    base["mixes_prefill"] = False
    return Load(**{**base, **changes})  # type: ignore[arg-type]


def simulate(concurrency: int, requests: int, steps: int) -> tuple[float, float]:
    """A prefill-first engine, step by step: (requests/s, TPOT). Prefill takes 0.02 s per request, decode LINEAR."""
    now, done, started = 0.0, 0, 0
    left: list[int] = []
    first: list[float] = []
    tpots: list[float] = []
    while done < requests:
        while len(left) < concurrency and started < requests:
            now += LINEAR.prefill_each_s
            left.append(steps)
            first.append(now)
            started += 1
        now += float(LINEAR.step(len(left)))
        left = [x - 1 for x in left]
        tpots += [(now - f) / steps for f, x in zip(first, left, strict=True) if x == 0]
        done += sum(x == 0 for x in left)
        keep = [i for i, x in enumerate(left) if x > 0]
        left, first = [left[i] for i in keep], [first[i] for i in keep]
    return done / now, float(np.mean(tpots))


@pytest.mark.parametrize(("residents", "held"), [(4, 1), (64, 1), (512, 1), (64, 9), (128, 9)])
def test_prompts_of_ended_requests_have_passes_of_their_own(residents: int, held: int) -> None:
    """A prefill-first engine with replies of random length: whoever ended is replaced at the next look, by one pass
    that takes 16 ms and 18 ms per prompt."""
    rng, steps, fixed, each = np.random.default_rng(1), 200, 0.016, 0.018
    curves = replace(LINEAR, pass_s=fixed, prefill_each_s=each + fixed * 1024 / LINEAR.chunk_tokens)
    ended = rng.binomial(residents, 1.0 / steps, 900_000).reshape(-1, held).sum(axis=1)
    seconds = ended.size * held * float(curves.step(residents)) + float(np.sum(fixed * (ended > 0) + each * ended))
    cycle = float(cycle_s(curves, load(held_steps=held), residents))
    assert residents / cycle == pytest.approx(ended.sum() / seconds, rel=0.02)


def test_passes_of_prompts_that_ride_in_decode_steps_cost_nothing() -> None:
    riding = load(mixes_prefill=True)
    slow = replace(LINEAR, pass_s=0.1)
    assert float(cycle_s(slow, riding, 32.0)) == float(cycle_s(LINEAR, riding, 32.0))
    assert float(cycle_s(slow, load(), 32.0, True)) == float(cycle_s(LINEAR, load(), 32.0, True))


def test_closed_loop_matches_simulation() -> None:
    rate, _ = simulate(32, 640, 200)
    predicted = serve(LINEAR, load(arrivals="loop", concurrency=32.0), 1.0)
    assert predicted.requests_per_s == pytest.approx(rate, rel=0.05)


def test_closed_set_matches_simulation() -> None:
    rate, tpot = simulate(128, 100, 200)
    predicted = serve(LINEAR, load(arrivals="set", requests=100.0), 1.0)
    assert predicted.requests_per_s == pytest.approx(rate, rel=0.02)
    assert predicted.tpot_s == pytest.approx(tpot, rel=0.05)


def test_little_law_holds_in_saturation() -> None:
    s = serve(LINEAR, load(), 2.0)
    residence = s.tpot_s * 200
    assert s.resident == pytest.approx(s.requests_per_s / 2.0 * residence, rel=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.05, 3.0), st.floats(1.05, 2.0))
def test_load_never_speeds_up(rate: float, factor: float) -> None:
    slow = serve(LINEAR, load(arrivals="poisson", rate_per_s=rate), 1.0)
    fast = serve(LINEAR, load(arrivals="poisson", rate_per_s=rate * factor), 1.0)
    assert fast.tpot_s >= slow.tpot_s * 0.999
    assert fast.requests_per_s >= slow.requests_per_s * 0.999
    assert fast.requests_per_s <= serve(LINEAR, load(), 1.0).requests_per_s * 1.001


def test_mixing_prefill_saves_the_fixed_part() -> None:
    alone, mixed = serve(LINEAR, load(), 1.0), serve(LINEAR, load(mixes_prefill=True), 1.0)
    assert mixed.requests_per_s > alone.requests_per_s


def test_speculation_multiplies_rate() -> None:
    plain, drafts = serve(LINEAR, load(), 1.0), serve(LINEAR, load(accepted=1.7), 1.0)
    assert 1.0 < drafts.requests_per_s / plain.requests_per_s < 1.7


def test_disaggregated_rate_is_that_of_the_slower_side() -> None:
    decode_rich = serve(LINEAR, load(), 1.0, (1.0, 100.0))
    assert decode_rich.bound == "prefill"
    assert decode_rich.requests_per_s == pytest.approx(1.0 / LINEAR.prefill_each_s)
    prefill_rich = serve(LINEAR, load(), 1.0, (100.0, 1.0))
    assert prefill_rich.requests_per_s == pytest.approx(128 / (200 * float(LINEAR.step(128.0))), rel=1e-6)


def test_closed_loop_disaggregated_conserves_requests() -> None:
    s = serve(LINEAR, load(arrivals="loop", concurrency=40.0), 1.0, (4.0, 2.0))
    inside = s.requests_per_s * (LINEAR.prefill_one_s + s.tpot_s * 200)
    assert inside == pytest.approx(40.0, rel=0.02)


def test_ranks_that_share_experts_wait_for_prefill() -> None:
    """Rare prompts: R ranks that prefill at different steps cost R times the aligned prefill."""
    alone = replace(LINEAR, ranks=8, lone_s=0.04, prefill_each_s=0.005)
    aligned = replace(alone, lone_s=0.0)
    rare = load(output_len=100001)
    slow, fast = (float(cycle_s(c, rare, 8.0)) for c in (alone, aligned))
    steps = 100000 * float(LINEAR.step(8.0))
    assert slow - steps == pytest.approx(8 * (fast - steps), rel=0.01)


def test_a_front_end_serves_one_request_after_the_other() -> None:
    """A process that spends 100 ms per request passes 10 per second, whatever the engine does; two of them pass 20."""
    slow, quick = load(request_gap_s=0.1), load(request_gap_s=1e-6)
    assert serve(LINEAR, quick, 1.0).requests_per_s > 15.0
    assert serve(LINEAR, slow, 1.0).requests_per_s == pytest.approx(10.0)
    assert serve(LINEAR, slow, 2.0).requests_per_s == pytest.approx(20.0)
    at_once = load(arrivals="set", requests=1000.0, output_len=2, request_gap_s=0.1)
    assert serve(LINEAR, at_once, 1.0).ttft_s >= 0.5 * 1000 * 0.1


def test_a_burst_starts_when_all_its_templates_are_read() -> None:
    """1,000 chat requests at 7 ms each: the engine gets nothing for 7 s (vllm-project/vllm PR 20065: 6 to 8 s), then
    runs as it would; in a loop only the first wave is a burst, and two servers read half of it each."""
    plain = serve(LINEAR, load(arrivals="set", requests=1000.0), 1.0)
    held = serve(LINEAR, load(arrivals="set", requests=1000.0, template_s=7e-3), 1.0)
    assert held.ttft_s == pytest.approx(plain.ttft_s + 7.0)
    assert 1000.0 / held.requests_per_s == pytest.approx(1000.0 / plain.requests_per_s + 7.0)
    halves = [serve(LINEAR, load(arrivals="set", requests=1000.0, template_s=x), 2.0) for x in (0.0, 7e-3)]
    assert halves[1].ttft_s == pytest.approx(halves[0].ttft_s + 3.5)
    loops = [serve(LINEAR, load(arrivals="loop", concurrency=100.0, template_s=x), 1.0) for x in (0.0, 7e-3)]
    assert 1000.0 / loops[1].requests_per_s == pytest.approx(1000.0 / loops[0].requests_per_s + 0.7)
    assert loops[1].ttft_s == pytest.approx(loops[0].ttft_s + 0.1 * 0.7 + 0.9 * 7e-3)


def test_equal_lengths_keep_ranks_in_step() -> None:
    """Ranks that wait for each other lose nothing when all of them prefill in the same steps."""
    waiting = replace(LINEAR, ranks=8, lone_s=0.05)
    equal, varied = load(), load(varied=True)
    assert serve(waiting, equal, 1.0).requests_per_s == pytest.approx(serve(LINEAR, equal, 1.0).requests_per_s)
    assert serve(waiting, varied, 1.0).requests_per_s < serve(LINEAR, varied, 1.0).requests_per_s


@pytest.mark.parametrize("shape", [{"arrivals": "set"}, {"arrivals": "loop", "concurrency": 64.0}])
def test_longest_reply_bounds_the_drain(shape: dict[str, object]) -> None:
    """The longest of n exponential lengths is ln n + 0.577 times their mean; a data set that cuts replies drains
    sooner, and a set of equal replies does not drain at all."""
    rates = [
        serve(LINEAR, load(varied=True, requests=256.0, longest_over_mean=x, **shape), 1.0).requests_per_s
        for x in (math.inf, 5.0, 2.0)
    ]
    assert rates[0] <= rates[1] < rates[2]
    equal = [serve(LINEAR, load(longest_over_mean=x, **shape), 1.0).requests_per_s for x in (math.inf, 2.0)]
    assert equal[0] == equal[1]


def simulate_set(lengths: np.ndarray, places: int, mixes: bool) -> tuple[float, float, float]:
    """Requests offered at once, answered step by step: (requests/s, mean TTFT, mean over requests of time per token).
    Up to 8 prompts of 0.02 s start in a step, which decodes beside them only with `mixes`."""
    now, head, last = 0.0, 0, np.zeros(len(lengths))
    first, left = np.zeros(len(lengths)), lengths.copy()
    running: list[int] = []
    while head < len(lengths) or running:
        free = min(places - len(running), len(lengths) - head, 8)
        started = list(range(head, head + free))
        head += free
        now += LINEAR.prefill_each_s * free
        if running and (mixes or not free):
            now += float(LINEAR.step(len(running)))
            for r in running:
                left[r] -= 1
                last[r] = now
            running = [r for r in running if left[r] > 1]
        for r in started:
            first[r] = last[r] = now
        running += [r for r in started if left[r] > 1]
    return len(lengths) / now, float(first.mean()), float(((last - first) / (lengths - 1.0)).mean())


@pytest.mark.parametrize(("mixes", "total", "places"), [(False, 96, 96), (False, 500, 100), (True, 480, 160)])
def test_set_of_equal_replies_matches_simulation(mixes: bool, total: int, places: int) -> None:
    """Waves stay in step where prompts come first; a request's own prompt is no time between its tokens."""
    rate, ttft, tpot = simulate_set(np.full(total, 201), places, mixes)
    engine = replace(LINEAR, capacity=float(places), step_tokens=8192.0 if mixes else 0.0)
    asked = load(arrivals="set", requests=float(total), mixes_prefill=mixes)
    found = serve(engine, asked, 1.0)
    assert found.requests_per_s == pytest.approx(rate, rel=0.05)
    assert found.ttft_s == pytest.approx(ttft, rel=0.1)
    assert found.tpot_s == pytest.approx(tpot, rel=0.1)


def sharegpt_lengths(total: int) -> np.ndarray:
    """Replies whose share below any length agrees with SHAREGPT_WEIGHT: d(weight)/d(1 / least) = share below it."""
    least, weight = np.array(SHAREGPT_LEAST), np.array(SHAREGPT_WEIGHT)
    middle = np.sqrt(least[1:] * least[:-1])
    above = -np.diff(weight) / np.diff(least) * middle**2  # dK/dl = -P(length < l) / l^2
    share = np.concatenate([[0.0], above, [1.0]])
    means = np.concatenate([[0.015], middle, [8.0]])
    drawn = np.interp((np.arange(total) + 0.5) / total, share, means)
    order = np.random.default_rng(3).permutation(total)
    return np.maximum(np.round(drawn[order] / drawn.mean() * 200.0), 3).astype(int) + 1


def test_short_replies_weigh_stalls() -> None:
    """Prompts first: everybody waits for all prompts between two tokens, which the short replies spread over few."""
    lengths = sharegpt_lengths(1000)
    _, ttft, tpot = simulate_set(lengths, 1000, False)
    asked = load(arrivals="set", requests=1000.0, varied=True, output_len=float(lengths.mean()))
    found = serve(replace(LINEAR, capacity=1000.0), asked, 1.0)
    assert found.ttft_s == pytest.approx(ttft, rel=0.1)
    assert found.tpot_s == pytest.approx(tpot, rel=0.2)
    tokens = serve(replace(LINEAR, capacity=1000.0), replace(asked, mean_of_tokens=True), 1.0)
    assert tokens.tpot_s < 0.5 * found.tpot_s


def test_more_prompts_than_whole_requests_start_at_once() -> None:
    """Blocks are given as tokens come: 100 whole requests of 300 and 200 tokens are 166 prompts; SGLang keeps 0.7 of
    each reply free, TensorRT-LLM all of it; nobody goes beyond the engine's seats, and equal replies end together."""
    base = load(arrivals="set", requests=160.0, input_len=300, new_tokens=300, output_len=200, varied=True)
    engine = replace(LINEAR, capacity=100.0)
    whole = serve(engine, base, 1.0)
    paged = serve(engine, replace(base, reserved=0.0), 1.0)
    part = serve(engine, replace(base, reserved=0.7), 1.0)
    assert (whole.bound, paged.bound) == ("engine", "concurrency")
    assert paged.ttft_s < part.ttft_s < whole.ttft_s
    assert paged.requests_per_s > part.requests_per_s > whole.requests_per_s
    assert serve(replace(engine, seats=100.0), replace(base, reserved=0.0), 1.0) == whole
    equal = replace(base, varied=False)
    assert serve(engine, replace(equal, reserved=0.0), 1.0) == serve(engine, equal, 1.0)


def test_steps_with_prompts_wait_for_all_of_their_host_work() -> None:
    busy = replace(LINEAR, issue_s=0.03, host_s=0.002, issue_each_s=1e-5, captured=100.0, uncaptured_s=0.04)
    assert float(busy.prompt_host(50.0)) == pytest.approx(0.03 + 0.002 + 50e-5)
    assert float(busy.prompt_host(200.0)) == pytest.approx(0.04 + 0.002 + 200e-5)
    assert float(busy.decode_host(50.0)) == pytest.approx(0.002 + 50e-5)


def test_a_prompt_in_two_parts_takes_two_steps_at_least() -> None:
    mixing, asked = replace(LINEAR, carried=FREE, step_tokens=8192.0), load(mixes_prefill=True)
    assert mixing.own_prompt_s(asked, 10.0) == pytest.approx(float(LINEAR.step(10.0)))
    assert mixing.own_prompt_s(replace(asked, parts=2), 10.0) == pytest.approx(2.0 * float(LINEAR.step(10.0)))


def test_ranks_that_share_experts_wait_for_each_others_host() -> None:
    """40 prompts on 4 ranks in 200 steps: each carries some in 10 of them, all wait in 200 (1 - 0.95^4) for 0.1 s."""
    mixing = replace(
        LINEAR, carried=replace(FREE, ranks=4), step_tokens=8192.0, chunk_tokens=8192.0, ranks=4, issue_s=0.1
    )
    asked, decode = load(mixes_prefill=True), 200 * float(LINEAR.step(40.0))
    longer = 0.1 - float(LINEAR.step(40.0))
    waiting = float(cycle_s(mixing, asked, 40.0)) - decode
    assert waiting == pytest.approx(200 * (1.0 - 0.95**4) * longer)
    together = replace(asked, arrivals="loop")
    assert float(cycle_s(mixing, together, 40.0)) - decode < 0.5 * waiting


def test_equal_replies_come_in_waves_and_the_last_one_is_smaller() -> None:
    """Two waves of 100 and one of 50: prompts of 0.02 s each (0.05 alone), 200 steps of replies."""
    found = serve(replace(LINEAR, capacity=100.0), load(arrivals="set", requests=250.0), 1.0)
    whole, wave = 0.5 * 100 * 0.02 + 0.04, 100 * 0.02 + 200 * float(LINEAR.step(100.0))
    part = 0.5 * 50 * 0.02 + 0.04
    ttft = (100 * whole + 100 * (whole + wave) + 50 * (part + 2 * wave)) / 250
    assert found.ttft_s == pytest.approx(ttft, rel=0.005)
    assert 250 / found.requests_per_s == pytest.approx(2 * wave + 50 * 0.02 + 200 * float(LINEAR.step(50.0)), rel=0.005)


def test_few_lengths_count_where_all_are_at_least_as_long() -> None:
    """Beyond the longest length every request counts as the same one."""
    assert reply_weight(0.0) == pytest.approx(6.82)
    assert reply_weight(10.0) == pytest.approx(0.1)
    assert np.all(np.diff(reply_weight(np.geomspace(0.01, 20.0, 50))) <= 0.0)


def test_prompts_loaded_ahead_wait_between_their_first_two_tokens() -> None:
    """MindIE: 400 prompts of 0.02 s first, then 100 requests decode at a time: turns of 200 steps, of which the groups
    wait for 0, 1, 2 and 3."""
    asked = load(arrivals="set", requests=400.0, loads_all=True)
    engine = replace(LINEAR, capacity=100.0, fits=400.0)
    found = serve(engine, asked, 1.0)
    decode = 200 * float(LINEAR.step(100.0))
    assert found.ttft_s == pytest.approx(0.5 * 400 * 0.02, rel=0.05)
    assert found.tpot_s * 200 == pytest.approx(decode + 4.0 + 1.5 * decode, rel=0.05)
    assert 400 / found.requests_per_s == pytest.approx(8.0 + 4.0 * decode, rel=0.05)
    ordinary = serve(engine, replace(asked, loads_all=False), 1.0)
    assert ordinary.ttft_s > 2.0 * found.ttft_s
    assert ordinary.tpot_s < found.tpot_s
