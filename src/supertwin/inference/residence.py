"""What a request costs an instance in steady state, from the step times of that instance.

One *instance* (tp x pp x dp devices) holds N requests; a decode step takes tau(N) and yields a tokens per request
(a = 1 + drafts x acceptance); a request needs S = (output - 1) / a steps and p seconds of the instance's prefill.
In steady state prefill takes the share u = X p of the time, a residence lasts S tau(N) / (1 - u); Little's law gives

    X(N) = N / (S tau(N) + N p')                                                                          (1)

with p' = p when prefill steps stand alone. Where prompts ride in decode steps, N p' is what they add to them
(carried.py); where no mixed step was priced, the fixed part tau(1) of a decode step is paid once:

    N p' = N p - min(S, N L / chunk) tau(1).                                                              (2)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from supertwin.inference.carried import Arrivals, Carried, Ride, ride

LEAST_ROOM = 1.0 / 8.0
"""Least share of a step's tokens that prompts get however many sequences decode (assumption)."""

Array = npt.NDArray[np.float64]

EULER_GAMMA = 0.5772
"""The longest of n exponential lengths is ln n + EULER_GAMMA times their mean (extreme value theory)."""


@dataclass(frozen=True, slots=True)
class Curves:
    """Step times of one instance.

    resident, decode_s: [n] requests per instance (increasing) and time of one decode step on the device;
    prefill_one_s: prefill of one request alone; prefill_each_s: prefill time per request when steps are full;
    prefill_step_s: one full prefill step; chunk_tokens: tokens of one full prefill step of the instance;
    issue_s: host time to issue a step that is not one captured graph (steps with prefill tokens); issue_each_s: host
    time of any step for each resident, beside the device's; host_s: the same of a step, whoever is in it; captured,
    uncaptured_s: most residents of a step that is one graph, and host time to issue one with more;
    beside_s: [n] what a decode step takes longer on the device when it carries prompts (beside both parts alone);
    step_tokens: most tokens of one step of the instance, decode tokens included (0: as chunk_tokens, beside them);
    pass_s: fixed part of a prefill pass, whatever it takes beside the time that grows with its prompts;
    lone_s: what one prompt adds to a step on one of `ranks` attention ranks that share experts and so wait for it
    (0: ranks do not wait for each other);
    carried: what prompts add to decode steps, where the engine mixes them (None: no mixed step was priced);
    capacity: most requests that memory and the engine's limits admit; seats: its limits alone; fits: memory alone;
    prefill_devices, decode_devices: per instance.
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
    issue_each_s: float = 0.0
    step_tokens: float = 0.0
    beside_s: Array | float = 0.0
    carried: Carried | None = None
    pass_s: float = 0.0
    seats: float = math.inf
    fits: float = math.inf
    host_s: float = 0.0
    captured: float = math.inf
    uncaptured_s: float = 0.0

    def host(self, n: Array | float) -> Array:
        """Host time of a step with n residents beside the device's, but for issuing its operators."""
        return np.asarray(self.host_s + self.issue_each_s * np.asarray(n, dtype=float))

    def decode_host(self, n: Array | float) -> Array:
        """Host time of a step without prompts beside the device's: one graph up to the largest that was captured."""
        return self.host(n) + np.where(np.asarray(n) > self.captured, self.uncaptured_s, 0.0)

    def prompt_host(self, n: Array | float) -> Array:
        """Host time of a step with prompts beside the device's."""
        return np.maximum(self.host(n) + self.issue_s, self.decode_host(n))

    def step(self, n: Array | float) -> Array:
        """tau(n), on the device or as long as the host takes for n residents."""
        return np.maximum(self.device(n), self.decode_host(n))

    def chunks(self, load: Load, n: Array | float) -> Array:
        """Steps that carry the prompts of n requests when they fill what the decode tokens of n residents leave."""
        n = np.asarray(n, dtype=float)
        return np.asarray(n * max(load.new_tokens, 1.0) / self.room(load, n))

    @property
    def microbatches(self) -> int:
        """Pipeline micro-batches that hold the residents, as far as mixed steps are priced."""
        return 1 if self.carried is None else self.carried.microbatches

    def room(self, load: Load, n: Array) -> Array:
        """Tokens of prompts that one step of the instance takes beside n residents (those of one micro-batch)."""
        left = np.maximum(self.step_tokens - n / self.microbatches * load.accepted, LEAST_ROOM * self.step_tokens)
        mixes = self.step_tokens and load.mixes_prefill
        return np.asarray(np.minimum(self.chunk_tokens, left) if mixes else np.full_like(n, self.chunk_tokens))

    def own_prompt_s(self, load: Load, n: float) -> float:
        """Seconds of the steps that carry one request's own prompt beside n residents; 0 where no mixed step is known
        or the engine does not mix."""
        if self.carried is None or not load.mixes_prefill or decode_steps(load) <= 0.0:
            return 0.0
        prompt, space = max(load.new_tokens, 1.0), float(self.room(load, np.asarray(n))) / self.carried.ranks
        chunks = max(math.ceil(prompt / space - 1e-9), load.parts)
        longer = float(self.carried.added(np.asarray(n), np.asarray(prompt / chunks)) + self.beside(np.asarray(n)))
        return chunks * max(float(self.step(n)) + longer, float(self.prompt_host(n)))

    def ride(self, load: Load, n: Array | float, queued: bool) -> Ride | None:
        """Prompts of n residents in decode steps; None where no mixed step is known or the engine does not mix."""
        if self.carried is None or not load.mixes_prefill or decode_steps(load) <= 0.0:
            return None
        n = np.asarray(n, dtype=float)
        room = self.room(load, n), decode_steps(load)
        how = "queued" if queued else "together" if load.together else "alone"
        return ride(self.carried, n, max(load.new_tokens, 1.0), room, Arrivals(how, load.parts))

    def beside(self, n: Array) -> Array:
        """What a step with n residents takes longer when it carries prompts."""
        return np.asarray(np.interp(n, self.resident, np.broadcast_to(self.beside_s, self.resident.shape)))

    def device(self, n: Array | float) -> Array:
        """tau(n) without the host, linear between the sampled points and beyond the last one by its slope."""
        n = np.asarray(n, dtype=float)
        inside = np.interp(n, self.resident, self.decode_s)
        slope = (self.decode_s[-1] - self.decode_s[-2]) / (self.resident[-1] - self.resident[-2])
        return np.asarray(inside + np.maximum(0.0, n - self.resident[-1]) * max(slope, 0.0))


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of the deployment.

    arrivals: set (all requests at once), loop (closed loop of `concurrency`), poisson (`rate_per_s`, with at most
    `concurrency` in flight when that is given too) or saturated. even: arrivals at equal intervals, not Poisson.
    input_len, new_tokens: prompt tokens and those of them that the prefix cache does not hold; output_len tokens;
    accepted: tokens per request and decode step; requests: size of the run; varied: output lengths are not all equal.
    longest_over_mean: longest reply that the data set holds, over the mean one; prompt_cv2: variance of prompt lengths
    over their squared mean.
    template_s: host time per request of a burst before the first of them reaches the engine.
    held_steps: decode steps that a prefill-first engine takes between two looks at its queue; least_prompts: prompts
    that must wait for it to start a pass; gather_steps: steps for
    which prompts at most wait until every attention rank that shares experts has one; parts: steps into which the
    engine cuts every prompt at least.
    reserved: share of the replies to come that admission keeps free in the cache; loads_all: prompts are computed as
    far as the cache holds them, however many requests decode at a time; ahead_steps: steps that are scheduled already
    while one runs.
    mean_of_tokens: TPOT is a mean over tokens (inter-token latency), not over requests.
    tpot_limit_s, ttft_limit_s: p99 limits up to which the load was raised (0: none). Near its limit an engine's rate
    hardly depends on the residents, so the mean TPOT follows from the limit rather than from the rate.
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
    template_s: float = 0.0
    mixes_prefill: bool = True
    tpot_limit_s: float = 0.0
    ttft_limit_s: float = math.inf
    longest_over_mean: float = math.inf
    prompt_cv2: float = 0.0
    even: bool = False
    held_steps: float = 1.0
    least_prompts: float = 1.0
    gather_steps: float = 0.0
    parts: int = 1
    mean_of_tokens: bool = False
    reserved: float = 1.0
    loads_all: bool = False
    ahead_steps: float = 0.0

    @property
    def together(self) -> bool:
        """Whether requests that started together end together, so that the next ones come together too."""
        return self.arrivals == "loop" and not self.varied


@dataclass(frozen=True, slots=True)
class Serving:
    """Steady state of the whole deployment. requests_per_s over all instances; resident: requests per instance."""

    requests_per_s: float
    tpot_s: float
    ttft_s: float
    resident: float
    utilisation: float
    bound: str  # arrivals | concurrency | engine | prefill


def decode_steps(load: Load) -> float:
    """S: decode steps of one request (the first token comes from the prefill)."""
    return max(load.output_len - 1.0, 0.0) / load.accepted


def cycle_s(curves: Curves, load: Load, n: Array | float, burst: bool = False) -> Array:
    """S tau(N) + N p' of equations (1) and (2), with the host's floor under steps that carry prefill.

    burst: prompts are queued and fill whole chunks on all ranks; else they arrive one by one, at most one group per
    decode step (prefill_passes). Each of R ranks prefills in a share f of the steps; all wait in 1 - (1 - f)^R of
    them, or in the same f of them where prompts come together. Where they gather prompts for g steps, one step in g
    carries prompts.
    """
    n = np.asarray(n, dtype=float)
    steps, tau, prefill = decode_steps(load), curves.device(n), n * curves.prefill_each_s
    chunks, alone, issued, waited = curves.chunks(load, n), curves.decode_host(n), curves.prompt_host(n), 0.0 * n
    riding = curves.ride(load, n, burst)
    if not burst and steps > 0:
        gathered = np.maximum(gathered_steps(load, curves, n / steps), 1.0)
        busy = np.minimum(gathered * n / (curves.ranks * steps), 1.0)
        met = steps / gathered * (1.0 - (1.0 - busy) ** curves.ranks)
        waited = (riding.steps if riding is not None and load.together else met) * curves.lone_s
        partial = prefill_passes(load, n) - n * max(load.new_tokens, 1.0) / curves.chunk_tokens
        prefill = np.maximum(prefill + curves.pass_s * np.maximum(partial, 0.0), waited)
    if not load.mixes_prefill:
        return np.asarray(steps * np.maximum(tau, alone) + prefill)
    if riding is not None:
        added = riding.total_s(n, curves.prefill_each_s) + riding.steps * curves.beside(n)
        if not burst:
            added = np.maximum(added, waited)
        one = tau + added / np.maximum(riding.steps, 1e-9)
        share, apart = np.minimum(riding.steps / steps, 1.0), 1 if burst or load.together else curves.ranks
        carrying = steps * (1.0 - (1.0 - share) ** apart)  # ranks that share experts wait for each other
        waits = carrying * np.maximum(issued - one, 0.0)
        return np.asarray(steps * tau + added + waits + (steps - carrying) * np.maximum(alone - tau, 0.0))
    carrying = np.minimum(steps, chunks if burst else np.maximum(chunks, n))
    shared = np.minimum(np.minimum(steps, chunks) * curves.device(1.0), 0.8 * prefill)
    shared = shared - carrying * curves.beside(n)
    one = tau + (prefill - shared) / np.maximum(carrying, 1e-9)
    waits = carrying * np.maximum(issued - one, 0.0) + (steps - carrying) * np.maximum(alone - tau, 0.0)
    return np.asarray(steps * tau + prefill - shared + waits)


def prefill_passes(load: Load, n: Array | float) -> Array:
    """Prefill passes of N residents in one residence, where prompts have passes of their own: a scheduler that puts
    them first starts one at each look that finds a prompt, every held_steps, and a place is free when a request ends.
    """
    looks = max(decode_steps(load) / max(load.held_steps, 1.0), 1.0)
    n = np.asarray(n, dtype=float)
    return 0.0 * n if load.mixes_prefill else np.asarray(looks * -np.expm1(-n / looks))


def token_time_s(load: Load, cycle: float, ttft: float, least: float) -> float:
    """Time between accepted tokens: what the residence leaves after the first token, never below the decode steps."""
    if decode_steps(load) <= 0:
        return math.nan
    return max(cycle - ttft, least) / (load.output_len - 1.0)


def gathered_steps(load: Load, curves: Curves, per_step: Array | float) -> Array:
    """Steps that ranks gather prompts for before they prefill together: until each has one, at most gather_steps.

    per_step: prompts that arrive during a step.
    """
    most = load.gather_steps if curves.ranks > 1 else 0.0
    return np.asarray(np.minimum(most, curves.ranks / np.maximum(per_step, 1e-12)))


def drain_s(curves: Curves, load: Load, n: float) -> float:
    """Decode time of n requests with exponential lengths (mean S) that start together: the longest is the last one, or
    the data set cuts it."""
    longest = min(math.log(max(n, 1.0)) + EULER_GAMMA, load.longest_over_mean)
    t = np.linspace(0.0, longest, 33)
    left = n * np.exp(-t) * (1.0 - np.exp(t - longest)) / (1.0 - math.exp(-longest))
    tau = curves.step(np.maximum(left, 1.0))
    return decode_steps(load) * float(np.sum(0.5 * (tau[1:] + tau[:-1]) * np.diff(t)))
