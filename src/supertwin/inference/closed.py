"""Closed loads: a full engine, a loop of fixed concurrency, a set of requests offered at once.

Equation (1) of residence.py at a number of residents that the load or the engine's capacity gives.
"""

from __future__ import annotations

import math

import numpy as np

from supertwin.inference.residence import (
    EULER_GAMMA,
    Curves,
    Load,
    Serving,
    cycle_s,
    decode_steps,
    drain_s,
    token_time_s,
)

LEAST_OUTPUT = 4.0
"""Shortest reply of a conversation benchmark: vLLM's ShareGPT sampler drops replies below four tokens. Times per token
count those after the first."""


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
        waiting = riding.steps * (curves.issue_s + curves.host(half))
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
    ttft = first * _burst_ttft(curves, load, n) + (1.0 - first) * _steady_ttft(curves, load, n)
    ttft = min(ttft, cycle - alone) if alone > 0.0 else cycle
    tpot = token_time_s(load, cycle, ttft, alone)
    cycle += load.request_gap_s
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
    """All requests at once: waves of at most `capacity`, the last one smaller. Varied lengths drain slowly, and after
    the first wave a request starts whenever another one ends."""
    total = max(load.requests / instances, 1.0)
    n = min(total, max(curves.capacity, 1e-9))
    waves, full = total / n, float(cycle_s(curves, load, n, True))
    rest = total - n * math.floor(waves + 1e-9)
    time = full * math.floor(waves + 1e-9) + (float(cycle_s(curves, load, rest, True)) if rest > 1e-6 else 0.0)
    if load.varied:
        prefill = full - decode_steps(load) * float(curves.step(n))
        time = float(cycle_s(curves, load, n)) * max(waves - 1.0, 0.0) + drain_s(curves, load, n) + prefill
    first, alone = _burst_ttft(curves, load, n), decode_steps(load) * float(curves.step(n))
    stall = max(full - first - alone, 0.0) * _short_requests(curves, load, n)
    steady = max(float(cycle_s(curves, load, n)), alone)
    tpot = token_time_s(load, (alone + stall) / waves + steady * (1.0 - 1.0 / waves), 0.0, alone)
    ttft = first + load.request_gap_s + 0.5 * (waves - 1.0) * full
    return Serving(total / time * instances, tpot, ttft, n, 1.0, "engine" if waves > 1 else "concurrency")


def _short_requests(curves: Curves, load: Load, n: float) -> float:
    """Weight of a stall that does not depend on a request's length in the mean of TPOT over requests: mean(1 / length)
    x mean length.

    For exponential lengths above a least length l it is about -0.577 - ln(l / mean). Stalls of prefill-first engines
    hit every length (l = 4: benchmark samplers drop shorter replies); when prefill rides in decode steps a request
    sees at most as many of them as it has tokens, so l is half of the carrying steps.
    """
    if not load.varied:
        return 1.0
    chunks = float(curves.chunks(load, n))
    least = max(LEAST_OUTPUT - 1.0, 0.5 * chunks) if load.mixes_prefill else LEAST_OUTPUT - 1.0
    return max(1.0, -EULER_GAMMA - math.log(least / (load.output_len - 1.0)))
