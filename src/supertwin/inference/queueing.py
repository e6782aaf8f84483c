"""Open loads: Poisson arrivals with gated batches of prompts, and prefill and decode on instances of their own.

Equation (1) of residence.py, solved for the residents at the offered rate.
"""

from __future__ import annotations

import math

import numpy as np

from supertwin.inference.residence import (
    Array,
    Curves,
    Load,
    Serving,
    cycle_s,
    decode_steps,
    drain_s,
    gathered_steps,
    token_time_s,
)

P99_OVER_MEAN = 1.5
"""TPOT of the slowest hundredth over the mean in a planned deployment (assumption: the number of residents and the
prefill that falls into a request both vary by about half; `fluctuation` gives what the number of residents adds)."""

P99 = 2.326
"""Standard deviations from the mean to the slowest hundredth of a normal distribution."""

WAIT_P99_OVER_MEAN = math.log(100.0)
"""The slowest hundredth of exponential waits over their mean."""

LEAST_FREE = 1.0 / 16.0
"""Least share of the room for prompts that is free in the mean: beyond it a finite run has no steady queue
(assumption)."""

_ROUNDS = 2


def poisson(curves: Curves, load: Load, instances: float) -> Serving:
    """Arrivals at a rate: the residents at which equation (1) gives it; above the engine's rate a queue.

    A run of D seconds of arrivals is not steady from its start: residents build up and drain, and its requests see
    1 - (1 - exp(-D / R)) R / D of their steady number where residences R are exponential, 1 - R / (3 D) where they are
    equal. Requests wait for admission once the capacity is full.
    """
    rate, arriving = load.rate_per_s / instances, load.requests / load.rate_per_s
    n = np.geomspace(1e-3, max(curves.capacity, 2e-3), 96)
    stay = cycle_s(curves, load, n)
    offered = n / (stay * _built_up(arriving / stay, load.varied))
    resident = float(np.interp(rate, offered, n))
    over = rate >= offered[-1]
    served = float(n[-1] / stay[-1]) if over else rate
    alone = decode_steps(load) * float(curves.step(max(resident, 1.0)))
    tpot = token_time_s(load, max(float(np.interp(resident, n, stay)), alone), 0.0, alone)
    if load.tpot_limit_s and not math.isnan(tpot):
        tpot = _near_limit_s(curves, load, rate, tpot, instances)
    ttft = load.request_gap_s + _first_token_s(curves, load, served, resident, tpot)
    backlog = wait = 0.0
    if over and not load.tpot_limit_s:
        waiting = max(0.0, 1.0 - curves.capacity * rate / (rate - served) / (load.requests / instances))
        backlog = waiting * arriving * (rate / served - 1.0)
        wait = 0.5 * waiting * backlog
    whole = arriving + backlog + ttft + _last_reply_s(curves, load, resident, tpot)
    total = load.requests / whole if math.isfinite(whole) else served * instances
    busy = min(rate / float(offered[-1]), 1.0)
    return Serving(total, tpot, ttft + wait, resident, busy, "engine" if over else "arrivals")


def _near_limit_s(curves: Curves, load: Load, rate: float, tpot: float, instances: float) -> float:
    """Mean TPOT of a run whose load was raised until a p99 limit was met: that on TPOT, that on TTFT where it comes
    first, or the places of the engine (fewer residents in the mean than places, by what they fluctuate). No step lasts
    longer than one full of prompts.

    Waits for steps are uniform, their slowest hundredth at most twice the mean; waits for prompts are exponential.
    """
    later = load.output_len - 1.0
    aim = load.tpot_limit_s
    for _ in range(_ROUNDS):
        spread, stiff = fluctuation(curves, load, rate, rate * aim * later, instances)
        aim = load.tpot_limit_s / (1.0 + P99 * spread * stiff)
    spread, _ = fluctuation(curves, load, rate, curves.capacity, instances)
    resident = min(rate * aim * later, curves.capacity / (1.0 + P99 * spread))
    fullest = (float(curves.step(max(resident, 1.0))) + curves.prefill_step_s) / load.accepted
    if load.mixes_prefill and curves.step_tokens:
        taken = (1.0 - LEAST_FREE) * curves.step_tokens * curves.microbatches
        fullest = min(fullest, taken / (rate * (load.new_tokens + load.output_len)))
    aim = min(resident / (rate * later), fullest)
    _, rho, spread_s = _prompts(curves, load, rate, resident)
    queue = (0.5 + rho) * spread_s
    steps = _first_token_s(curves, load, rate, resident, aim) - queue
    left = max(load.ttft_limit_s - WAIT_P99_OVER_MEAN * queue, 0.0)
    return min(max(tpot, aim * min(1.0, 0.5 * left / steps)), aim)


def fluctuation(curves: Curves, load: Load, rate: float, n: float, instances: float) -> tuple[float, float]:
    """(standard deviation of the residents over their mean n, elasticity of a residence to them).

    Residents of independent requests vary as a Poisson number. A residence that gets longer by e per cent for each per
    cent of them drives them from the mean: their variance is n / (1 - e), reached within a residence / (1 - e), for
    which a run may be too short. A server that sends a request to the instance with the fewest averages over all.
    """
    n = max(n, 1e-3)
    stay, more = (float(x) for x in cycle_s(curves, load, np.array([n, 1.1 * n])))
    elastic = math.log(more / stay) / math.log(1.1)
    restoring = max(1.0 - elastic, stay * rate * instances / load.requests, 1e-3)
    return 1.0 / math.sqrt(n * instances * restoring), elastic


def _built_up(runs: Array, varied: bool) -> Array:
    """Residents that a request of a run of `runs` residences sees, over the steady number.

    Residents are a queue of infinitely many servers from empty to empty: exponential residences build up and drain
    exponentially, equal ones linearly. The mean over requests is that of N^2 over that of N.
    """
    runs = np.maximum(runs, 1e-9)
    if varied:
        return np.asarray(1.0 - np.where(np.isinf(runs), 0.0, -np.expm1(-runs) / runs))
    return np.asarray(np.where(runs > 1.0, 1.0 - 1.0 / (3.0 * runs), runs * (1.0 - runs / 3.0)))


def _last_reply_s(curves: Curves, load: Load, resident: float, tpot: float) -> float:
    """From the last first token to the end of the run: a reply without prompts beside it while the engine empties.
    MLPerf's clock stops with the request that was sent last (loadgen/results.cc), other clocks with the last one."""
    if math.isnan(tpot):
        return 0.0
    if load.varied and not load.tpot_limit_s:
        return drain_s(curves, load, max(resident, 1.0))
    return decode_steps(load) * float(curves.step(max(0.5 * resident, 1.0)))


def _first_token_s(curves: Curves, load: Load, rate: float, resident: float, tpot: float) -> float:
    """Mean time to first token: the rest of what the engine is at, then one step with all prompts that came during it
    (a queue with gated batches).

    Prompts that ride in decode steps: a step lasts T = tau + p K, where K prompts came during the step before, so

        E[T] = tau / (1 - rho),  Var T = rate E[p^2] E[T] / (1 - rho^2),  rho = rate p
        TTFT = (1/2 + rho) E[T^2] / E[T] + tau + p

    under Poisson arrivals. An engine that puts prompts first decodes V = `held_steps` x tau while nobody waits: tau is
    left out of the own step and E[T^2] / E[T] = V / (1 + rho) + rate E[p^2] / (1 - rho^2). Arrivals at equal
    intervals longer than a step with a prompt never meet one. p varies as the prompts do (prompt_cv2). No step lasts
    longer than one full of prompts: prompts that share a step cost less than each alone, where p is still that of a
    lone one. Steps that are scheduled already run first (ahead_steps).
    """
    if math.isnan(tpot):
        busy = min(rate * curves.prefill_each_s, 0.99)
        return curves.prefill_one_s * (1.0 + 0.5 * busy / (1.0 - busy))
    prompt, rho, spread_s = _prompts(curves, load, rate, resident)
    step, held = tpot * load.accepted, max(load.held_steps, 1.0)
    tau = step * (1.0 - rho)
    gated = 1.0 < load.least_prompts > rate * held * step * rho  # later prompts wait for the next look
    seen = (step if load.mixes_prefill else held * (step if gated else tau / (1.0 + rho))) + spread_s
    if load.even and rate * (held * tau + prompt) < 1.0:
        seen = held * tau
    seen = min(seen, held * tau + curves.prefill_step_s)
    others = min(max(rate * seen - load.even, 0.0) * prompt, curves.prefill_step_s)
    gathering = 0.5 * step * float(gathered_steps(load, curves, rate * step))
    gathering += load.ahead_steps * min(resident, 1.0) * (step if load.mixes_prefill else tau)
    if not load.mixes_prefill:
        return 0.5 * seen + others + gathering + curves.prefill_one_s
    chunks = max(1.0, float(curves.chunks(load, resident)) / resident * curves.ranks)
    beside = float(curves.step(max(resident, 1.0)))
    carried = curves.own_prompt_s(load, max(resident, 1.0)) - math.ceil(chunks - 1e-9) * beside
    own = tau * chunks + max(carried if curves.carried else curves.prefill_one_s - float(curves.step(1.0)), prompt)
    own += (steps_of_prompt(curves, load, resident, rate * step) - chunks) * step
    return 0.5 * seen + others + gathering + max(own, curves.issue_s)


def steps_of_prompt(curves: Curves, load: Load, resident: float, per_step: float) -> float:
    """Mean steps until a prompt is computed where each takes so many tokens of prompts (C) of a rank, first come first
    served: those of the prompt itself, of varied length (exponential: 1 / (1 - exp(-C / L))), and those of a queue of
    tokens that vary from step to step (Lindley's recursion under load: Var / (2 (C - mean)))."""
    new, space = max(load.new_tokens, 1.0), float(curves.room(load, np.asarray(resident))) / curves.ranks
    own = -1.0 / math.expm1(-space / new) if load.prompt_cv2 else float(math.ceil(new / space - 1e-9))
    offered = min(per_step * new / (curves.ranks * curves.microbatches), (1.0 - LEAST_FREE) * space)
    uneven = offered * new * (1.0 + load.prompt_cv2 - load.even)
    queue = uneven / (2.0 * (space - offered))
    return own + queue / space


def _prompts(curves: Curves, load: Load, rate: float, resident: float) -> tuple[float, float, float]:
    """(p, rho, rate E[p^2] / (1 - rho^2)): what a prompt adds to the steps, its share of the time and its spread."""
    prompt = (float(cycle_s(curves, load, resident)) - decode_steps(load) * float(curves.step(resident))) / resident
    prompt = min(max(prompt, 0.0), 0.95 / rate)
    rho = rate * prompt
    return prompt, rho, rate / (1.0 - rho**2) * (1.0 - load.even + load.prompt_cv2) * prompt**2


def split(curves: Curves, load: Load, prefills: float, decodes: float) -> Serving:
    """P/D disaggregation: the slower side bounds the rate; a closed loop fills both."""
    steps, cap = decode_steps(load), max(curves.capacity, 1e-9)
    most_prefill = prefills / curves.prefill_each_s
    n = np.geomspace(min(1e-3, cap / 2), cap, 96)
    reach = decodes * n / np.maximum(steps * curves.step(np.maximum(n, 1.0)), 1e-12)
    most_decode = float(reach[-1])
    rate, bound = min(most_prefill, most_decode), "prefill" if most_prefill < most_decode else "engine"
    first = load.request_gap_s + curves.prefill_one_s
    if load.arrivals == "poisson" and load.rate_per_s < rate:
        rate, bound = load.rate_per_s, "arrivals"
    if load.concurrency > 0:
        inside = reach * first + decodes * n
        loop = float(np.interp(load.concurrency, inside, reach))
        if loop < rate:
            rate, bound = loop, "concurrency"
    resident = float(np.interp(rate, reach, n))
    tpot = steps * float(curves.step(max(resident, 1.0))) / (load.output_len - 1.0) if steps > 0 else math.nan
    busy = min(rate / most_prefill, 0.99)
    ttft = first + 0.5 * curves.prefill_one_s * busy / (1.0 - busy)
    if load.concurrency > 0 and bound != "concurrency":
        ttft = max(ttft, load.concurrency / rate - steps * float(curves.step(resident)))
    return Serving(rate, tpot, ttft, resident, busy, bound)
