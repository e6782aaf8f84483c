"""A deployment at a rate of requests: time to first token by parts, time per token, who is the bottleneck.

    TTFT = front end + queue + cache load + prefill + exposed transfer + first decode step                    (1)

Prefill instances work in steps of up to B prompts, T(b) = T(1) + (b - 1) (T(B) - T(1)) / (B - 1). At a rate x per
instance a step finds the prompts that came during the one before: b = max(1, x (T(1) - beta) / (1 - x beta)) with beta
the slope. A prompt waits for the step in progress and, near saturation, for whole steps (M/D/1 per prompt):

    W = min(1, x T(1)) T(b) / 2 + (T(B) / B) rho / (2 (1 - rho)),   rho = x T(B) / B                          (2)

Distributions, assumed: waiting is exponential, unless the step in progress says more,

    W_99 = max(W ln 100, T(b) (1 - 0.01 / min(1, x T(1))));                                                   (3)

residents of a decode instance are Poisson, and a request sees about one such number during its residence. Decode and
the instances that do both come from deployment.serve.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from supertwin.inference.curves import curves
from supertwin.inference.deploy.handover import Handover, handover, held_bytes
from supertwin.inference.deploy.prefix import BLOCK_TOKENS, medium_of
from supertwin.inference.deploy.service import Service
from supertwin.inference.deployment import Curves, Load, serve
from supertwin.inference.launch import least_parts
from supertwin.inference.queueing import P99_OVER_MEAN
from supertwin.inference.residence import decode_steps

Z99 = 2.326
"""Standard deviations below which 99 % of a normal distribution lie."""
_NEARLY = 0.98
TAIL = math.log(100.0)
"""p99 over the mean of an exponential distribution."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A service with its step times. curves: the context cache's load is in its prefill; load_s: that load alone."""

    service: Service
    curves: Curves
    load: Load
    load_s: float
    handover: Handover | None

    @property
    def batch(self) -> float:
        """B: prompts of a full prefill step of one instance."""
        return max(1.0, self.curves.prefill_step_s / max(self.curves.prefill_each_s, 1e-12))


@dataclass(frozen=True, slots=True)
class Point:
    """A deployment in steady state. ttft_parts: mean seconds of (1) by name, in order; bound: arrivals | prefill |
    decode | transfer; prefill_busy, decode_busy: share of what either side could take."""

    requests_per_s: float
    ttft_s: float
    ttft_p99_s: float
    ttft_parts: tuple[tuple[str, float], ...]
    tpot_s: float
    tpot_p99_s: float
    resident: float
    prefill_busy: float
    decode_busy: float
    bound: str
    residence_s: float

    @property
    def in_flight(self) -> float:
        """Requests in the deployment (Little's law): waiting, in prefill, in transfer and in decode."""
        return self.requests_per_s * (self.ttft_s + self.residence_s)


def prepare(service: Service) -> Prepared:
    """Price the steps of both sides and the transfers between and around them. Raises InputError.

    A step with more residents is never taken to be shorter: kernels that get faster at some size gain by padding too.
    """
    lengths = (service.input_len, service.new_tokens, service.output_len, 0.5 * service.output_len)
    bare = curves(service.model, service.system, (service.prefill, service.decode), lengths, service.engine)
    load_s = cache_load_s(service, service.cached_tokens)
    ranks = max(service.prefill.dp, 1)
    fill = float(bare.prefill_step_s / max(bare.prefill_each_s, 1e-12))
    loaded = replace(
        bare,
        decode_s=np.maximum.accumulate(bare.decode_s),
        prefill_one_s=float(bare.prefill_one_s) + load_s,
        prefill_each_s=float(bare.prefill_each_s) + load_s / ranks,
        prefill_step_s=float(bare.prefill_step_s) + fill * load_s / ranks,
        carried=None if bare.carried is None else replace(bare.carried, each_s=load_s / ranks),
    )
    engine = service.engine
    load = Load(
        arrivals="poisson", input_len=service.input_len, new_tokens=service.new_tokens, output_len=service.output_len,
        accepted=service.accepted, requests=math.inf, mixes_prefill=engine.mixes_prefill,
        parts=least_parts(engine, service.model, service.hit_rate > 0.0), held_steps=engine.held_steps,
        gather_steps=engine.gather_steps if service.decode.dp_attention else 0.0, ahead_steps=engine.ahead_steps,
    )  # fmt: skip
    sent = handover(service, bare.prefill_one_s) if service.disaggregated else None
    return Prepared(service, loaded, load, load_s, sent)


def cache_load_s(service: Service, tokens: float, busy: float = 1.0) -> float:
    """Time in which one prompt's cached tokens reach the devices of its attention rank.

    busy: share of all devices that load at the same time.
    """
    if tokens <= 0:
        return 0.0
    size = held_bytes(service, service.prefill, tokens)
    block = max(size / tokens / service.model.n_layers * BLOCK_TOKENS, 1.0)  # context parallelism cuts between tokens
    return medium_of(service.system, service.cache).load_s(size / service.prefill.token_split, block, busy)


def most_requests_per_s(prepared: Prepared) -> tuple[float, str]:
    """The rate that the slowest of prefill, decode and transfer takes, and which one it is."""
    sides = _sides(prepared)
    slowest = min(sides, key=lambda name: sides[name])
    return sides[slowest], slowest


def _sides(prepared: Prepared) -> dict[str, float]:
    service, c = prepared.service, prepared.curves
    if prepared.handover is None:
        flood = replace(prepared.load, arrivals="poisson", rate_per_s=1e12, requests=math.inf)
        return {"engine": serve(c, flood, float(service.decode_instances)).requests_per_s}
    steps, cap = decode_steps(prepared.load), max(c.capacity, 1e-9)
    residence = max(steps * float(c.step(max(cap, 1.0))), 1e-12)
    return {
        "prefill": service.prefill_instances / c.prefill_each_s,
        "decode": service.decode_instances * cap / residence if c.capacity > 0 else 0.0,
        "transfer": prepared.handover.most_requests_per_s(service),
    }


def at_rate(prepared: Prepared, requests_per_s: float) -> Point:
    """Steady state at a Poisson rate. A rate that the deployment cannot take gives infinite waiting."""
    if prepared.handover is None:
        return _together(prepared, requests_per_s)
    service, c, load = prepared.service, prepared.curves, prepared.load
    sides = _sides(prepared)
    most = min(sides.values())
    rate = min(requests_per_s, most)
    split = (float(service.prefill_instances), float(service.decode_instances))
    found = serve(c, replace(load, rate_per_s=rate), 1.0, split)
    prefill_s, wait, late_wait = _prefill(prepared, rate / service.prefill_instances)
    tau = float(c.step(max(found.resident, 1.0)))
    share = max(prepared.handover.link_shares(service, rate))
    crowd = 0.5 * prepared.handover.transfer_s * share / (1.0 - share) if share < 1.0 else math.inf
    if requests_per_s > most * (1.0 + 1e-9):
        wait = late_wait = math.inf
    parts = (
        ("front end", service.engine.request_gap_s),
        ("queue", wait),
        ("cache load", prepared.load_s),
        ("prefill", prefill_s - prepared.load_s),
        ("transfer", prepared.handover.exposed_s + crowd),
        ("first decode step", 1.5 * tau if service.decode_first and load.output_len > 1 else 0.0),
    )
    many = min(found.resident + Z99 * math.sqrt(found.resident), max(c.capacity, found.resident))
    late = float(c.step(max(many, 1.0))) / tau
    bound = min(sides, key=lambda name: sides[name]) if requests_per_s >= _NEARLY * most else "arrivals"
    ttft = sum(value for _, value in parts)
    residence = max(load.output_len - (2.0 if service.decode_first else 1.0), 0.0) * _or_zero(found.tpot_s)
    return Point(
        rate, ttft, ttft - wait + late_wait, parts, found.tpot_s, found.tpot_s * late, found.resident,
        rate / sides["prefill"], rate / max(sides["decode"], 1e-30), bound, residence,
    )  # fmt: skip


def _prefill(prepared: Prepared, rate: float) -> tuple[float, float, float]:
    """Time of the own prefill step and of waiting for it (2), mean and p99 (3), at a rate per instance."""
    c, most = prepared.curves, prepared.batch
    slope = (c.prefill_step_s - c.prefill_one_s) / (most - 1.0) if most > 1.0 else 0.0
    busy = min(rate * c.prefill_each_s, 1.0)
    free = 1.0 - rate * slope
    prompts = rate * (c.prefill_one_s - slope) / free if free > 0 else most
    prompts = min(max(prompts, 1.0), most)
    own = c.prefill_one_s + (prompts - 1.0) * slope
    working = min(1.0, rate * c.prefill_one_s)
    queue = 0.5 * c.prefill_each_s * busy / (1.0 - busy) if busy < 1.0 else math.inf
    wait = 0.5 * working * own + queue
    return own, wait, max(TAIL * wait, own * (1.0 - 0.01 / working) if working > 0.01 else 0.0)


def _together(prepared: Prepared, requests_per_s: float) -> Point:
    """Instances that prefill and decode: the steady state of queueing.poisson."""
    service, c, load = prepared.service, prepared.curves, prepared.load
    most, _ = most_requests_per_s(prepared)
    found = serve(c, replace(load, rate_per_s=requests_per_s), float(service.decode_instances))
    own = min(c.prefill_one_s, found.ttft_s)
    over = requests_per_s > most * (1.0 + 1e-9)
    wait = math.inf if over else found.ttft_s - own
    parts = (
        ("front end", service.engine.request_gap_s),
        ("queue", wait),
        ("cache load", prepared.load_s),
        ("prefill", own - prepared.load_s),
    )
    ttft = sum(value for _, value in parts)
    busy = min(requests_per_s / max(most, 1e-30), 1.0)
    residence = max(load.output_len - 1.0, 0.0) * _or_zero(found.tpot_s)
    rate = min(requests_per_s, most)
    return Point(
        rate, ttft, ttft + (TAIL - 1.0) * wait, parts, found.tpot_s, found.tpot_s * P99_OVER_MEAN, found.resident,
        busy, busy, "engine" if requests_per_s >= _NEARLY * most else "arrivals", residence,
    )  # fmt: skip


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value
