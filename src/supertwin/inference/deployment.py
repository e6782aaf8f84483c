"""A deployment in steady state, in closed form: from step times to throughput, TPOT and TTFT.

One *instance* (tp x pp x dp devices) holds N requests; a decode step takes tau(N) and yields a tokens per request
(a = 1 + drafts x acceptance); a request needs S = (output - 1) / a steps and p seconds of the instance's prefill.
In steady state prefill takes the share u = X p of the time, a residence lasts S tau(N) / (1 - u); Little's law gives

    X(N) = N / (S tau(N) + N p')                                                                          (1)

with p' = p when prefill steps stand alone. When prefill chunks ride in decode steps, every chunk step also advances the
residents, and the fixed part tau(1) of a decode step (weights, launch, host) is paid once:

    N p' = N p - min(S, N L / chunk) tau(1).                                                              (2)

Closed set, closed loop, Poisson arrivals and P/D disaggregation are (1) with different conditions on N.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

P99_OVER_MEAN = 1.5
"""TPOT of the slowest hundredth over the mean in continuous batching under Poisson load (assumption: the number of
residents and the prefill that falls into a request both vary by about half)."""

LEAST_OUTPUT = 4.0
"""Shortest reply of a conversation benchmark: vLLM's ShareGPT sampler drops replies below four tokens."""

LONGEST_OVER_MEAN = 4.0
"""Output lengths of conversation data spread about exponentially, cut at roughly four times the mean (ShareGPT)."""


@dataclass(frozen=True, slots=True)
class Curves:
    """Step times of one instance.

    resident, decode_s: [n] requests per instance (increasing) and time of one decode step;
    prefill_one_s: prefill of one request alone; prefill_each_s: prefill time per request when steps are full;
    prefill_step_s: one full prefill step; chunk_tokens: tokens of one full prefill step of the instance;
    issue_s: host time to issue a step that is not one captured graph (steps with prefill tokens);
    lone_s: what one prompt adds to a step on one of `ranks` attention ranks that share experts and so wait for it
    (0: ranks do not wait for each other);
    capacity: most requests that memory and the engine's limits admit; prefill_devices, decode_devices: per instance.
    """

    resident: Array
    decode_s: Array
    prefill_one_s: float
    prefill_each_s: float
    prefill_step_s: float
    chunk_tokens: float
    issue_s: float
    lone_s: float
    ranks: int
    capacity: float
    prefill_devices: int
    decode_devices: int

    def step(self, n: Array | float) -> Array:
        """tau(n), linear between the sampled points and beyond the last one by its slope."""
        n = np.asarray(n, dtype=float)
        inside = np.interp(n, self.resident, self.decode_s)
        slope = (self.decode_s[-1] - self.decode_s[-2]) / (self.resident[-1] - self.resident[-2])
        return np.asarray(inside + np.maximum(0.0, n - self.resident[-1]) * max(slope, 0.0))


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of the deployment.

    arrivals: set (all requests at once), loop (closed loop of `concurrency`), poisson (`rate_per_s`, with at most
    `concurrency` in flight when that is given too) or saturated.
    input_len, new_tokens: prompt tokens and those of them that the prefix cache does not hold; output_len tokens;
    accepted: tokens per request and decode step; requests: size of the run; varied: output lengths are not all equal.
    tpot_limit_s: p99 limit up to which the load was raised (0: none). Near its limit an engine's rate hardly depends on
    the residents, so the mean TPOT follows from the limit rather than from the rate.
    """

    arrivals: str
    input_len: float
    new_tokens: float
    output_len: float
    accepted: float = 1.0
    concurrency: float = 0.0
    rate_per_s: float = 0.0
    requests: float = 1000.0
    varied: bool = False
    request_gap_s: float = 0.0
    mixes_prefill: bool = True
    tpot_limit_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Serving:
    """Steady state of the whole deployment. requests_per_s over all instances; resident: requests per instance."""

    requests_per_s: float
    tpot_s: float
    ttft_s: float
    resident: float
    utilisation: float
    bound: str  # arrivals | concurrency | engine | prefill


def serve(curves: Curves, load: Load, instances: float, disaggregated: tuple[float, float] | None = None) -> Serving:
    """Steady state of `instances` equal instances, or of (prefill instances, decode instances) when disaggregated."""
    return _through_front_end(_engines(curves, load, instances, disaggregated), load, instances)


def _through_front_end(engine: Serving, load: Load, instances: float) -> Serving:
    """A server's front end (HTTP, tokeniser) is one process that takes requests one after the other: no instance serves
    more than 1 / request_gap_s, and of a set that is offered at once the mean request waits for half of all others."""
    most = instances / max(load.request_gap_s, 1e-9)
    rate, ttft = min(engine.requests_per_s, most), engine.ttft_s
    if load.arrivals == "set":
        ttft = max(ttft, 0.5 * load.requests / most)
    return replace(engine, requests_per_s=rate, ttft_s=ttft)


def _engines(curves: Curves, load: Load, instances: float, disaggregated: tuple[float, float] | None = None) -> Serving:
    if disaggregated is not None:
        return _split(curves, load, *disaggregated)
    if load.arrivals == "poisson":
        free = _poisson(curves, load, instances)
        capped = _loop(curves, load, instances) if load.concurrency > 0 else free
        return min(free, capped, key=lambda s: s.requests_per_s)
    if load.arrivals == "set":
        return _closed_set(curves, load, instances)
    if load.arrivals == "loop":
        return _loop(curves, load, instances)
    return _saturated(curves, load, instances)


def decode_steps(load: Load) -> float:
    """S: decode steps of one request (the first token comes from the prefill)."""
    return max(load.output_len - 1.0, 0.0) / load.accepted


def cycle_s(curves: Curves, load: Load, n: Array | float, burst: bool = False) -> Array:
    """S tau(N) + N p' of equations (1) and (2), with the host's floor under steps that carry prefill.

    burst: prompts are queued and fill whole chunks on all ranks; else they arrive one by one, at most one group per
    decode step. Each of R ranks prefills in a share f of the steps; all wait in 1 - (1 - f)^R of them.
    """
    n = np.asarray(n, dtype=float)
    steps, tau, prefill = decode_steps(load), curves.step(n), n * curves.prefill_each_s
    chunks = n * max(load.new_tokens, 1.0) / curves.chunk_tokens
    if not burst and steps > 0:
        busy = np.minimum(n / (curves.ranks * steps), 1.0)
        prefill = np.maximum(prefill, steps * (1.0 - (1.0 - busy) ** curves.ranks) * curves.lone_s)
    if not load.mixes_prefill:
        return np.asarray(steps * tau + prefill)
    carrying = np.minimum(steps, chunks if burst else np.maximum(chunks, n))
    shared = np.minimum(np.minimum(steps, chunks) * curves.step(1.0), 0.8 * prefill)
    one = tau + (prefill - shared) / np.maximum(carrying, 1e-9)
    waits = carrying * np.maximum(curves.issue_s - one, 0.0)
    return np.asarray(steps * tau + prefill - shared + waits)


def _tpot(load: Load, cycle: float, ttft: float, least: float) -> float:
    """Time between accepted tokens: what the residence leaves after the first token, never below the decode steps."""
    if decode_steps(load) <= 0:
        return math.nan
    return max(cycle - ttft, least) / (load.output_len - 1.0)


def _saturated(curves: Curves, load: Load, instances: float) -> Serving:
    n = max(curves.capacity, 1e-9)
    cycle = float(cycle_s(curves, load, n, not load.varied))
    tpot = _tpot(load, cycle, 0.0, 0.0)
    return Serving(n / cycle * instances, tpot, curves.prefill_step_s, n, 1.0, "engine")


def _burst_ttft(curves: Curves, n: float) -> float:
    """Mean time to first token of n requests offered at once: half of everybody's prefill."""
    return 0.5 * n * curves.prefill_each_s + max(curves.prefill_one_s - 0.5 * curves.prefill_each_s, 0.0)


def _steady_ttft(curves: Curves, load: Load, n: float) -> float:
    """Mean time to first token when a request is replaced as soon as it ends.

    Equal lengths and prefill first: all end together, so every wave is a burst. With prefill in decode steps the groups
    stay one step apart and wait for one carrying step; only when a wave has more chunks than decode steps does a queue
    remain.
    """
    steps = decode_steps(load)
    if not load.mixes_prefill and not load.varied:
        return _burst_ttft(curves, n)
    carrying = max(curves.prefill_one_s, float(curves.step(n)) + curves.prefill_each_s, curves.issue_s)
    chunks = n * max(load.new_tokens, 1.0) / curves.chunk_tokens
    queue = max(0.0, 1.0 - steps / chunks) * n * curves.prefill_each_s if steps > 0 else 0.5 * n * curves.prefill_each_s
    return 0.5 * float(curves.step(n)) * (steps > 0) + carrying + queue


def _loop(curves: Curves, load: Load, instances: float) -> Serving:
    """Closed loop: the first wave is a burst, later ones are steady; residence follows from Little's law."""
    offered = max(load.concurrency / instances, min(load.concurrency, 1.0))
    n = min(offered, curves.capacity)
    first = min(1.0, load.concurrency / max(load.requests, 1.0))
    cycle = first * float(cycle_s(curves, load, n, True)) + (1.0 - first) * float(cycle_s(curves, load, n))
    ttft = first * _burst_ttft(curves, n) + (1.0 - first) * _steady_ttft(curves, load, n)
    ttft = min(ttft, max(cycle - decode_steps(load) * float(curves.step(n)), curves.prefill_one_s))
    tpot = _tpot(load, cycle, ttft, decode_steps(load) * float(curves.step(n)))
    cycle += load.request_gap_s
    rate = n / cycle
    ttft += load.request_gap_s + max(0.0, offered - n) / rate
    active = min(instances, load.concurrency)
    busy = min(n * curves.prefill_each_s / cycle, 1.0)
    return Serving(rate * active, tpot, ttft, n, busy, "concurrency" if n == offered else "engine")


def _closed_set(curves: Curves, load: Load, instances: float) -> Serving:
    """All requests at once: waves of at most `capacity`, the last one smaller; varied lengths drain slowly."""
    total = max(load.requests / instances, 1.0)
    n = min(total, max(curves.capacity, 1e-9))
    waves, full = total / n, float(cycle_s(curves, load, n, True))
    rest = total - n * math.floor(waves + 1e-9)
    time = full * math.floor(waves + 1e-9) + (float(cycle_s(curves, load, rest, True)) if rest > 1e-6 else 0.0)
    if load.varied:
        prefill = full - decode_steps(load) * float(curves.step(n))
        time = full * max(waves - 1.0, 0.0) + _drain(curves, load, n) + prefill
    first, alone = _burst_ttft(curves, n), decode_steps(load) * float(curves.step(n))
    stall = max(full - first - alone, 0.0) * _short_requests(curves, load, n)
    steady = max(float(cycle_s(curves, load, n)), alone)
    tpot = _tpot(load, (alone + stall) / waves + steady * (1.0 - 1.0 / waves), 0.0, alone)
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
    chunks = n * max(load.new_tokens, 1.0) / curves.chunk_tokens
    least = max(LEAST_OUTPUT, 0.5 * chunks) if load.mixes_prefill else LEAST_OUTPUT
    return max(1.0, -0.5772 - math.log(least / load.output_len))


def _drain(curves: Curves, load: Load, n: float) -> float:
    """Decode time of n requests with exponential lengths (mean S, cut at LONGEST_OVER_MEAN) that start together."""
    t = np.linspace(0.0, LONGEST_OVER_MEAN, 33)
    left = n * (np.exp(-t) - math.exp(-LONGEST_OVER_MEAN)) / (1.0 - math.exp(-LONGEST_OVER_MEAN))
    tau = curves.step(np.maximum(left, 1.0))
    return decode_steps(load) * float(np.sum(0.5 * (tau[1:] + tau[:-1]) * np.diff(t)))


def _poisson(curves: Curves, load: Load, instances: float) -> Serving:
    """Poisson arrivals: the residents at which equation (1) gives the offered rate; above the engine's rate a queue."""
    rate = load.rate_per_s / instances
    n = np.geomspace(1e-3, max(curves.capacity, 2e-3), 96)
    reach = n / cycle_s(curves, load, n)
    over = rate >= reach[-1]
    served = min(rate, float(reach[-1]))
    resident = float(np.interp(served, reach, n))
    alone = decode_steps(load) * float(curves.step(max(resident, 1.0)))
    tpot = _tpot(load, max(resident / served, alone), 0.0, alone)
    if load.tpot_limit_s:
        tpot = min(max(tpot, load.tpot_limit_s / P99_OVER_MEAN), load.tpot_limit_s)
    ttft = load.request_gap_s + _poisson_ttft(curves, load, served, tpot)
    if over and not load.tpot_limit_s:
        wait = 0.5 * load.requests * (1.0 / (served * instances) - 1.0 / load.rate_per_s)
        return Serving(served * instances, tpot, ttft + wait, resident, 1.0, "engine")
    tail = ttft + (0.0 if math.isnan(tpot) else tpot * max(load.output_len - 1.0, 0.0))
    total = load.requests / (load.requests / (served * instances) + tail)
    return Serving(total, tpot, ttft, resident, served / float(reach[-1]), "engine" if over else "arrivals")


def _poisson_ttft(curves: Curves, load: Load, rate: float, tpot: float) -> float:
    """Half of the step in progress, the own prefill, and the queue before it (M/D/1).

    A prefill that rides in a decode step lasts as long as that step."""
    busy = min(rate * curves.prefill_each_s, 0.99)
    queue = 0.5 * curves.prefill_one_s * busy / (1.0 - busy)
    if math.isnan(tpot):
        return curves.prefill_one_s + queue
    step = tpot * load.accepted
    own = max(curves.prefill_one_s, step, curves.issue_s) if load.mixes_prefill else curves.prefill_one_s
    return 0.5 * step + own + queue


def _split(curves: Curves, load: Load, prefills: float, decodes: float) -> Serving:
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
