"""Open loads: Poisson arrivals with the queue before prefill (M/D/1), and prefill and decode on instances of their own.

Equation (1) of residence.py, solved for the residents at the offered rate.
"""

from __future__ import annotations

import math

import numpy as np

from supertwin.inference.residence import Curves, Load, Serving, cycle_s, decode_steps, token_time_s

P99_OVER_MEAN = 1.5
"""TPOT of the slowest hundredth over the mean in continuous batching under Poisson load (assumption: the number of
residents and the prefill that falls into a request both vary by about half)."""


def poisson(curves: Curves, load: Load, instances: float) -> Serving:
    """Poisson arrivals: the residents at which equation (1) gives the offered rate; above the engine's rate a queue."""
    rate = load.rate_per_s / instances
    n = np.geomspace(1e-3, max(curves.capacity, 2e-3), 96)
    reach = n / cycle_s(curves, load, n)
    over = rate >= reach[-1]
    served = min(rate, float(reach[-1]))
    resident = float(np.interp(served, reach, n))
    alone = decode_steps(load) * float(curves.step(max(resident, 1.0)))
    tpot = token_time_s(load, max(resident / served, alone), 0.0, alone)
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
