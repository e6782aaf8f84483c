"""A deployment in steady state, in closed form: from step times to throughput, TPOT and TTFT.

Closed set, closed loop (closed.py), Poisson arrivals and P/D disaggregation (queueing.py) are equation (1) of
residence.py with different conditions on the number of requests.
"""

from __future__ import annotations

from dataclasses import replace

from supertwin.inference.closed import closed_loop, closed_set, saturated
from supertwin.inference.queueing import poisson, split
from supertwin.inference.residence import Curves, Load, Serving

__all__ = ["Curves", "Load", "Serving", "serve"]


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
        return split(curves, load, *disaggregated)
    if load.arrivals == "poisson":
        free = poisson(curves, load, instances)
        capped = closed_loop(curves, load, instances) if load.concurrency > 0 else free
        return min(free, capped, key=lambda s: s.requests_per_s)
    if load.arrivals == "set":
        return closed_set(curves, load, instances)
    if load.arrivals == "loop":
        return closed_loop(curves, load, instances)
    return saturated(curves, load, instances)
