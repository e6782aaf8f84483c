"""A deployment in steady state, in closed form: from step times to throughput, TPOT and TTFT.

Closed set, closed loop (closed.py), Poisson arrivals and P/D disaggregation (queueing.py) are equation (1) of
residence.py with different conditions on the number of requests.
"""

from __future__ import annotations

import math
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
    more than 1 / request_gap_s, and of a set that is offered at once the mean request waits for half of all others.

    Its event loop runs the handlers of a burst one after the other up to their first wait, so the engine starts when
    the templates of all are read (template_s each); a later request waits for its own. Handlers that far have done
    what the front end does of a request, so a set waits for nothing else of it."""
    most = instances / max(load.request_gap_s, load.template_s, 1e-9)
    held = load.arrivals == "set" and load.template_s > 0.0
    rate, ttft = engine.requests_per_s if held else min(engine.requests_per_s, most), engine.ttft_s
    if load.arrivals == "set" and not held:
        ttft = max(ttft, 0.5 * load.requests / most)
    if load.arrivals == "loop" and math.isfinite(load.concurrency):
        ttft += load.concurrency * (1.0 / rate - 1.0 / engine.requests_per_s)
    burst = {"set": load.requests, "loop": load.concurrency}.get(load.arrivals, 0.0) / instances * load.template_s
    if burst > 0.0 and math.isfinite(burst):
        first = min(1.0, burst / load.template_s * instances / max(load.requests, 1.0))
        ttft += first * burst + (1.0 - first) * load.template_s
        rate = load.requests / (load.requests / rate + burst)
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
