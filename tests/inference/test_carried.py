"""Prompts in decode steps: what they add is the price of mixed steps, and all of them ride or have their own steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supertwin.inference import Deployment, InferenceCase, predict
from supertwin.inference.carried import Arrivals, Carried, ride
from supertwin.inference.curves import curves
from supertwin.inference.deployment import Curves, Load, serve
from supertwin.inference.engines import engine
from supertwin.inference.residence import cycle_s
from supertwin.machine import load_system
from supertwin.model import load_model

SMALL = Carried(np.array([1.0, 100.0]), np.array([100.0, 1000.0]), np.array([[0.01, 0.1], [0.02, 0.2]]), 1, 1)
LINEAR = Curves(
    resident=np.array([1.0, 128.0]), decode_s=np.array([0.010, 0.020]), prefill_one_s=0.1, prefill_each_s=0.1,
    prefill_step_s=0.1, chunk_tokens=1000.0, issue_s=0.0, lone_s=0.0, ranks=1, capacity=64.0, prefill_devices=1,
    decode_devices=1, carried=SMALL,
)  # fmt: skip


def load(**changes: object) -> Load:
    base: dict[str, object] = {"arrivals": "loop", "input_len": 1000, "new_tokens": 1000, "output_len": 101}
    return Load(**{**base, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(("phase_batch", "chunk"), [(0, 0), (2, 2), (4, 4)])
def test_samples_are_mixed_steps(phase_batch: int, chunk: int) -> None:
    model, system = load_model("llama3.1-8b"), load_system("dgx-h100:1")
    d = Deployment(framework="vllm")
    about = replace(engine("vllm", system.chip), launch_s=0.0)
    found = curves(model, system, (d, d), (3000.0, 3000.0, 200.0, 100.0), about, 256.0).carried
    assert found is not None
    n, tokens = found.resident[phase_batch], found.tokens[chunk]
    asked = {"kv_len": 3100, "input_len": 3000, "chunk_tokens": tokens}
    step = predict(InferenceCase(model, system, d, "mixed", n, **asked))
    waited = max(0.0, sum(p.time_s for p in step.breakdown if p.part == "host") - about.step_gap_s - n * 4e-6)
    expected = step.step_time_s - waited - (step.figures["decode_step_time_s"] or 0.0)
    assert found.added_s[phase_batch, chunk] == pytest.approx(expected, rel=1e-6, abs=1e-9)


ARRIVALS = [Arrivals(how, parts) for how in ("queued", "together", "alone") for parts in (1.0, 2.0)]


@given(
    st.floats(0.01, 5e3), st.floats(1.0, 2e4), st.floats(1.0, 3e3), st.sampled_from(ARRIVALS), st.sampled_from([1, 4])
)
def test_all_prompts_ride_or_have_steps_of_their_own(
    n: float, prompt: float, steps: float, arrive: Arrivals, ranks: int
) -> None:
    carried = replace(SMALL, ranks=ranks)
    found = ride(carried, np.array([n]), prompt, (np.array([1000.0 * ranks]), steps), arrive)
    assert 0.0 <= found.steps[0] <= steps
    assert 0.0 <= found.left[0] <= n
    tokens = (n - found.left[0]) * prompt / ranks / max(found.steps[0], 1e-12)
    assert tokens <= 1000.0 * (1.0 + 1e-6)
    if n / ranks * prompt < 1000.0 * steps:
        assert found.left[0] == pytest.approx(0.0, abs=1e-6 * n)


def test_between_samples_is_linear_and_small_chunks_cost_their_share() -> None:
    n = np.array([1.0, 50.5, 100.0, 100.0])
    tokens = np.array([100.0, 550.0, 1000.0, 50.0])
    np.testing.assert_allclose(SMALL.added(n, tokens), [0.01, 0.0825, 0.2, 0.01])


def simulate(concurrency: int, requests: int) -> float:
    """Requests per second of an engine that takes one chunk of 1,000 tokens beside its residents, step by step."""
    now, done, waiting = 0.0, 0, requests
    left: list[int] = []
    while done < requests:
        prompt = waiting > 0 and len(left) < concurrency
        n = np.array([max(len(left), 1.0)])
        now += float(LINEAR.step(n)[0]) + (float(SMALL.added(n, np.array([1000.0]))[0]) if prompt else 0.0)
        left = [x - 1 for x in left]
        done += sum(x == 0 for x in left)
        left = [x for x in left if x > 0]
        if prompt:
            left.append(100)
            waiting -= 1
    return done / now


@pytest.mark.parametrize("concurrency", [4, 16, 48])
def test_closed_loop_of_a_mixing_engine_matches_simulation(concurrency: int) -> None:
    found = serve(LINEAR, load(concurrency=concurrency, requests=60 * concurrency), 1.0)
    assert found.requests_per_s == pytest.approx(simulate(concurrency, 60 * concurrency), rel=0.06)


def in_groups(concurrency: int, requests: int, floor_s: float) -> float:
    """Requests per second of a loop of equal replies on an engine that takes all waiting prompts of 100 tokens that fit
    into 1,000; the first user is one step ahead of the others. A step with prompts takes the host floor_s at least."""
    now, done, sent = 0.0, 0, concurrency
    left, waiting, late = [100], 0, concurrency - 1
    now += max(float(LINEAR.step(1.0)) + 0.01, floor_s)
    while done < requests:
        waiting, late = waiting + late, 0
        taken = min(waiting, 10)
        time = float(LINEAR.step(max(len(left), 1)))
        if taken:
            time += float(SMALL.added(np.array([max(len(left), 1.0)]), np.array([100.0 * taken]))[0])
        now += max(time, floor_s) if taken else time
        left = [x - 1 for x in left] + [100] * taken
        waiting -= taken
        ended = sum(x == 0 for x in left)
        left = [x for x in left if x > 0]
        done += ended
        late = min(ended, requests - sent)
        sent += late
    return done / now


@pytest.mark.parametrize("floor_s", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("concurrency", [4, 16, 48])
def test_equal_replies_bring_their_prompts_together(concurrency: int, floor_s: float) -> None:
    about = replace(LINEAR, issue_s=floor_s)
    found = serve(about, load(concurrency=concurrency, requests=60 * concurrency, input_len=100, new_tokens=100), 1.0)
    assert found.requests_per_s == pytest.approx(in_groups(concurrency, 60 * concurrency, floor_s), rel=0.12)


def test_ranks_wait_less_for_prompts_that_come_together() -> None:
    """Eight residents on four ranks that wait for each other: their prompts meet in two steps of the residence where
    replies are equal, and in up to eight where they come one by one."""
    ranks = replace(LINEAR, ranks=4, lone_s=0.5, carried=replace(SMALL, ranks=4), step_tokens=4000.0, chunk_tokens=4e3)
    equal, apart = (load(new_tokens=100, input_len=100, varied=varied) for varied in (False, True))
    steps = 100.0 * float(ranks.device(8.0))
    assert float(cycle_s(ranks, equal, 8.0)) == pytest.approx(steps + 2 * 0.5)
    assert float(cycle_s(ranks, apart, 8.0)) == pytest.approx(steps + 100 * (1 - (1 - 0.02) ** 4) * 0.5)


def test_rare_requests_cost_their_own_prompt() -> None:
    """At vanishing load the share of the time that prompts take is rate x what one adds."""
    n = np.array([1e-3, 1e-4])
    cycle = cycle_s(LINEAR, load(), n) - 100.0 * LINEAR.device(n)
    np.testing.assert_allclose(cycle / n, SMALL.added_s[0, 1], rtol=1e-6)


def test_prefill_first_engines_do_not_ride() -> None:
    assert LINEAR.ride(load(mixes_prefill=False), 8.0, True) is None
    assert LINEAR.own_prompt_s(load(mixes_prefill=False), 8.0) == 0.0
    assert LINEAR.own_prompt_s(load(), 1.0) == pytest.approx(0.010 + 0.1)
    assert LINEAR.own_prompt_s(load(new_tokens=1500), 1.0) == pytest.approx(2 * (0.010 + 0.075))


def test_nobody_starts_on_a_part_of_the_memory() -> None:
    """Qwen3-32B in BF16 on one A100 has room for one prompt of 32K tokens and a part of another."""
    model, system = load_model("qwen3-32b"), load_system("dgx-a100:1")
    d = Deployment(framework="TensorRT-LLM 1.2.0rc1")
    about = engine(d.framework, system.chip)
    found = curves(model, system, (d, d), (32000.0, 32000.0, 79.0, 39.5), about)
    assert found.capacity == found.fits == 1.0
