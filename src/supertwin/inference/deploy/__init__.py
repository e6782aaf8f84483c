"""One deployment in closed form: P/D balance, hand-over of keys and values, context cache, model loading, limits.

service     what is served and how the machine is split     evaluate    TTFT and TPOT at a rate
ratio       how many prefill and decode instances           slo         largest rate inside limits, Pareto
handover    keys and values from prefill to decode          planes      rates of UB, RDMA
prefix      pooled context cache                            pool        its size and hit rate (popularity: Che)
loading     weights: cold, warm, switch                     economy     per chip, user, TFLOPS, MW, dollar
"""

from supertwin.inference.deploy.economy import Economy, economy
from supertwin.inference.deploy.evaluate import Point, Prepared, at_rate, most_requests_per_s, prepare
from supertwin.inference.deploy.handover import Handover, handover
from supertwin.inference.deploy.loading import Loading, loading
from supertwin.inference.deploy.pool import Pool, pool
from supertwin.inference.deploy.popularity import zipf_hit_rate
from supertwin.inference.deploy.ratio import Balance, balance
from supertwin.inference.deploy.service import Service
from supertwin.inference.deploy.slo import Best, Limits, at_concurrency, at_most, attainment, largest_rate, pareto

__all__ = [
    "Balance",
    "Best",
    "Economy",
    "Handover",
    "Limits",
    "Loading",
    "Point",
    "Pool",
    "Prepared",
    "Service",
    "at_concurrency",
    "at_most",
    "at_rate",
    "attainment",
    "balance",
    "economy",
    "handover",
    "largest_rate",
    "loading",
    "most_requests_per_s",
    "pareto",
    "pool",
    "prepare",
    "zipf_hit_rate",
]
