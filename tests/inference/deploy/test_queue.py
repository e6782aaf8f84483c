"""The queue before prefill against an event-by-event simulation of batch service."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from supertwin.inference.deploy import at_rate
from tests.inference.deploy.services import priced

ALONE_S, EACH_S, MOST = 0.10, 0.02, 16


def simulated(rate: float, prompts: int = 40_000) -> tuple[float, float]:
    """Mean and p99 of the time from arrival to the end of the own step: Poisson arrivals, steps of at most MOST."""
    arrivals = np.cumsum(np.random.default_rng(3).exponential(1.0 / rate, prompts))
    now, first, times = 0.0, 0, []
    while first < prompts:
        now = max(now, arrivals[first])
        last = min(int(np.searchsorted(arrivals, now, "right")), first + MOST)
        now += ALONE_S + (last - first - 1) * EACH_S
        times += list(now - arrivals[first:last])
        first = last
    return float(np.mean(times)), float(np.quantile(times, 0.99))


@pytest.mark.parametrize("share", [0.05, 0.2, 0.4, 0.6, 0.8, 0.9])
def test_time_to_first_token_of_one_prefill_instance(share: float) -> None:
    """Within 20 % up to 90 % of the rate; the assumed p99 is not below the simulated one by more than 10 %."""
    prepared = priced()
    full = ALONE_S + (MOST - 1) * EACH_S
    curves = replace(prepared.curves, prefill_one_s=ALONE_S, prefill_each_s=full / MOST, prefill_step_s=full)
    alone = replace(prepared, curves=curves, load=replace(prepared.load, output_len=1.0))
    point = at_rate(alone, share * MOST / full)
    mean, p99 = simulated(share * MOST / full)
    parts = dict(point.ttft_parts)
    assert parts["queue"] + parts["prefill"] == pytest.approx(mean, rel=0.2)
    others = point.ttft_s - parts["queue"] - parts["prefill"]
    assert point.ttft_p99_s - others > 0.9 * p99
