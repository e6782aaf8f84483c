"""Closed loads: a full engine, a loop of fixed concurrency, a set of requests offered at once.

Equation (1) of residence.py at a number of residents that the load or the engine's capacity gives.
"""

from __future__ import annotations

import math

import numpy as np

from supertwin.inference.replies import reply_weight
from supertwin.inference.residence import (
    Curves,
    Load,
    Serving,
    cycle_s,
    decode_steps,
    drain_s,
    token_time_s,
)


def saturated(curves: Curves, load: Load, instances: float) -> Serving:
    n = max(curves.capacity, 1e-9)
    cycle = float(cycle_s(curves, load, n, not load.varied))
    tpot = token_time_s(load, cycle, 0.0, 0.0)
    return Serving(n / cycle * instances, tpot, curves.prefill_step_s, n, 1.0, "engine")


def _burst_ttft(curves: Curves, load: Load, n: float) -> float:
    """Mean time to first token of n requests offered at once: half of everybody's prefill, and of the decode steps in
    which it rides (those of the half that decodes already)."""
    everybody, riding = n * curves.prefill_each_s, curves.ride(load, n, True)
    if riding is not None:
        half = max(0.5 * n, 1.0)
        decoding = riding.steps * curves.step(half)
        waiting = riding.steps * curves.prompt_host(half)
        everybody = float(np.maximum(decoding + riding.total_s(n, curves.prefill_each_s), waiting))
    return 0.5 * everybody + max(curves.prefill_one_s - 0.5 * curves.prefill_each_s, 0.0)


def _steady_ttft(curves: Curves, load: Load, n: float) -> float:
    """Mean time to first token when a request is replaced as soon as it ends.

    Equal lengths and prefill first: all end together, so every wave is a burst. With prefill in decode steps the groups
    stay one step apart and wait for one carrying step; only when a wave has more chunks than decode steps does a queue
    remain. Equal replies of a group end in the same step, so that all its prompts ride in the next one.
    """
    steps = decode_steps(load)
    if not load.mixes_prefill and not load.varied:
        return _burst_ttft(curves, load, n)
    own = curves.own_prompt_s(load, n) or float(curves.step(n)) + curves.prefill_each_s
    carrying = max(curves.prefill_one_s, own, curves.issue_s)
    chunks = float(curves.chunks(load, n))
    queue = max(0.0, 1.0 - steps / chunks) * n * curves.prefill_each_s if steps > 0 else 0.5 * n * curves.prefill_each_s
    if load.varied:
        return 0.5 * float(curves.step(n)) * (steps > 0) + carrying + queue
    room = float(curves.room(load, np.asarray(n))) / max(load.new_tokens, 1.0)
    together = max(min(n, room), 1.0)
    return carrying + (together - 1.0) * curves.prefill_each_s + queue


def closed_loop(curves: Curves, load: Load, instances: float) -> Serving:
    """Closed loop: the first wave is a burst, later ones are steady; residence follows from Little's law."""
    offered = max(load.concurrency / instances, min(load.concurrency, 1.0))
    n = min(offered, curves.capacity)
    first = min(1.0, load.concurrency / max(load.requests, 1.0))
    cycle = first * float(cycle_s(curves, load, n, True)) + (1.0 - first) * float(cycle_s(curves, load, n))
    alone = decode_steps(load) * float(curves.step(n))
    cycle = max(cycle, alone + curves.prefill_one_s)
    scheduled = load.ahead_steps * min(max(n - 1.0, 0.0), 1.0) * float(curves.step(n))
    ttft = first * _burst_ttft(curves, load, n) + (1.0 - first) * _steady_ttft(curves, load, n)
    ttft = min(ttft, cycle - alone) if alone > 0.0 else cycle
    tpot = token_time_s(load, cycle, ttft, alone)
    cycle, ttft = cycle + load.request_gap_s + scheduled, ttft + scheduled
    rate = n / cycle
    if load.varied and load.requests > n * instances:
        last = drain_s(curves, load, n) + max(cycle - alone, 0.0)
        share = n * instances / load.requests
        rate /= 1.0 - share + share * max(last / cycle, 1.0)
    ttft += load.request_gap_s + _admission_s(offered, n, load.requests / instances) / rate
    active = min(instances, load.concurrency)
    busy = min(n * curves.prefill_each_s / cycle, 1.0)
    return Serving(rate * active, tpot, ttft, n, busy, "concurrency" if n == offered else "engine")


def _admission_s(offered: float, admitted: float, requests: float) -> float:
    """Mean requests that a request waits for: the first ones for none, the rest of the first wave for ever more of it,
    later ones for all that are offered and not admitted."""
    waiting = max(offered - admitted, 0.0)
    whole = max(requests, offered)
    return waiting if math.isinf(whole) else waiting * (whole - offered + 0.5 * waiting) / whole


def closed_set(curves: Curves, load: Load, instances: float) -> Serving:
    """All requests at once. Equal lengths: waves of at most `capacity`, the last one smaller. Varied lengths drain
    slowly, and after the first wave a request starts whenever another one ends."""
    total = max(load.requests / instances, 1.0)
    if load.loads_all:
        return _loaded_set(curves, load, instances, total)
    n = min(total, max(curves.capacity, 1e-9))
    begun = min(_first_wave(curves, load), total)
    later, full, cycle = 1.0 - begun / total, float(cycle_s(curves, load, begun, True)), float(cycle_s(curves, load, n))
    first, steps = _burst_ttft(curves, load, begun), decode_steps(load)
    together, alone = steps * float(curves.step(begun)), steps * float(curves.step(_beside(load, begun, later)))
    starved = _starved_s(curves, load, begun)
    stall = max(full - first - together, 0.0) + 0.5 * starved
    waited = min(_steady_ttft(curves, load, n), max(cycle - steps * float(curves.step(n)), 0.0))
    stay = (alone + stall * _short_requests(curves, load, begun)) * (1.0 - later) + (cycle - waited) * later
    ttft = load.request_gap_s + 0.5 * starved * (1.0 - later)
    if load.varied:  # places come free one by one, once the first wave decodes and is no larger than later ones
        shrinks = steps * math.log(begun / n) * float(curves.step(0.5 * (begun + n))) if later else 0.0
        time = shrinks + cycle * later * total / n + drain_s(curves, load, n if later else begun)
        time += max(full - together, 0.0)
        freed = (1.0 if load.mixes_prefill else 2.0) * first + starved + shrinks + cycle * 0.5 * later * total / n
        ttft += first * (1.0 - later) + (freed + waited) * later
    else:
        whole, rest = divmod(total + 1e-6, n)
        part = rest / n
        time = full * whole + (float(cycle_s(curves, load, rest, True)) if rest > 1e-5 else 0.0)
        ttft += (first * (whole + part**2) + full * whole * (0.5 * (whole - 1.0) + part)) * n / total
    rate = total / (time + starved) * instances
    bound = "engine" if later else "concurrency"
    return Serving(rate, token_time_s(load, stay, 0.0, min(alone, together)), ttft, n, 1.0, bound)


def _loaded_set(curves: Curves, load: Load, instances: float, total: float) -> Serving:
    """A set whose prompts are all computed before anybody decodes, as far as the cache holds them; then `capacity`
    requests decode at a time and the others wait between their first two tokens."""
    held = max(min(total, curves.fits * (1.0 + load.output_len / max(load.input_len, 1.0))), 1.0)
    n, steps = min(held, max(curves.capacity, 1e-9)), decode_steps(load)
    first, decode = _burst_ttft(curves, load, held), steps * float(curves.step(n))
    turns = held / n
    wait = first + _turn_wait(turns, load.varied) * decode
    weight = float(reply_weight(0.0)) if load.varied and not load.mean_of_tokens else 1.0
    last = drain_s(curves, load, n) if load.varied else decode
    time = 2.0 * first + (turns - 1.0) * decode + last
    ttft = first + load.request_gap_s + 0.5 * (total / held - 1.0) * time
    tpot = token_time_s(load, decode + wait * weight, 0.0, decode)
    return Serving(held / time * instances, tpot, ttft, n, 1.0, "engine")


def _turn_wait(turns: float, varied: bool) -> float:
    """Mean wait for a place, in replies, of `turns` groups of requests. Equal replies leave all places at once, the
    i-th group waits for i replies; of varied ones they come free one by one, for all but the first group."""
    if varied:
        return 0.5 * (turns - 1.0) ** 2 / turns
    whole, part = divmod(turns + 1e-9, 1.0)
    return whole * (0.5 * (whole - 1.0) + part) / turns


def _first_wave(curves: Curves, load: Load) -> float:
    """Requests that start at once. Blocks are given as tokens come, and admission keeps a share of each reply free
    (Load.reserved), so before anybody has answered more requests of varied length fit than later: until the memory is
    full with those prompts and that share, or with the replies of who is left at the fullest moment,

        max over t of exp(-t / m) (L + t) = m exp(L / m - 1) at t = m - L

    for prompts of L and exponential replies of m tokens. `seats` is the engine's own limit."""
    if not load.varied:
        return max(curves.capacity, 1e-9)
    prompt, reply = load.input_len, max(load.output_len, 1.0)
    fullest = max(prompt, reply * math.exp(prompt / reply - 1.0) if reply > prompt else 0.0)
    share = min(max(fullest, prompt + load.reserved * reply) / (prompt + reply), 1.0)
    return max(min(curves.capacity / share, curves.seats), curves.capacity, 1e-9)


def _beside(load: Load, n: float, later: float) -> float:
    """Residents that a token of the first wave sees, in the mean, where a share `later` of all requests takes the
    places that come free: varied replies leave one after the other, and of exponential lengths a request sees ln 2 of
    all (mean of (1 - exp(-x)) / x), a token one half."""
    left = 0.5 if load.mean_of_tokens else math.log(2.0)
    return n * (1.0 - (1.0 - left) * (1.0 - later)) if load.varied else n


def _starved_s(curves: Curves, load: Load, n: float) -> float:
    """Seconds that prefill passes of the first wave take beyond full ones where prompts come first: the server's front
    end hands prompts over one by one, a pass takes what has come, and the next one starts at once as long as a pass
    lasts longer than a request takes to come."""
    if load.mixes_prefill or decode_steps(load) <= 0.0:
        return 0.0
    return n * max(min(load.request_gap_s, curves.prefill_one_s) - curves.prefill_each_s, 0.0)


def _short_requests(curves: Curves, load: Load, n: float) -> float:
    """Weight of the first wave's stalls in the mean of TPOT over requests: mean(1 / length) x mean length.

    Stalls of prefill-first engines hit every length; when prefill rides in decode steps, a request whose first token
    comes with the i-th of them sees as many later ones as it has tokens at most, so lengths count as that many at
    least: mean over the requests.
    """
    uneven = load.varied and not load.mean_of_tokens
    if not load.mixes_prefill:
        return float(reply_weight(0.0)) if uneven else 1.0
    later = float(curves.chunks(load, n)) * (np.arange(8.0) + 0.5) / 8.0
    least = later / max(decode_steps(load), 1.0)
    return float(np.average(reply_weight(least) if uneven else np.minimum(1.0 / least, 1.0), weights=later))
