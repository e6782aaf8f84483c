"""Prompts that ride in decode steps: what chunks add to the steps of a deployment, from the price of mixed steps.

One attention rank (and pipeline micro-batch) holds n of an instance's N = n R P residents and gets their prompts in
K of its S decode steps, c tokens in each:

    K = min(S, max(n L / C, k)),   c = n L / K
    k = min(n, 1) where prompts are queued, n where they come one by one, min(n, 1 + ceil(n L / C)) where replies have
        one length, so that those of one step end in one step, and their prompts come together
    N p' = K (mixed(N, c) - tau(N)) + the rest of the prompts in steps of their own                       (1)

A prompt that is cut into b parts at least, whatever its length, adds b - 1 steps to k, or b - 1 of its own where it
comes alone. C is the room that decodes leave in a step; mixed(N, c) is the step of mixed.py, sampled over N and c.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Carried:
    """resident: [n] requests per instance; tokens: [c] of a chunk on one rank; added_s: [n, c] what it adds to a decode
    step on the device; ranks, microbatches: attention ranks and pipeline micro-batches that hold the residents;
    each_s: what a prompt costs the instance beside that (its cached part on the way to the device)."""

    resident: Array
    tokens: Array
    added_s: Array
    ranks: int
    microbatches: int
    each_s: float = 0.0

    def added(self, n: Array, tokens: Array) -> Array:
        """Seconds that chunks of so many tokens add to a step with n residents, linear between samples."""
        rows = np.stack([np.interp(n, self.resident, column) for column in self.added_s.T])
        position = np.interp(tokens, self.tokens, np.arange(float(len(self.tokens))))
        low = np.minimum(position.astype(np.int64), len(self.tokens) - 2)
        share = position - low
        below, above = (np.take_along_axis(rows, at[None], 0)[0] for at in (low, low + 1))
        small = np.minimum(tokens / self.tokens[0], 1.0)  # a chunk below the smallest sample costs its share of it
        return np.asarray((below * (1.0 - share) + above * share) * small)


@dataclass(frozen=True, slots=True)
class Ride:
    """Steps of each rank that carry prompts, seconds that each is longer for it, and the prompts (of n) that find no
    room in decode steps."""

    steps: Array
    added_s: Array
    left: Array
    each_s: float = 0.0

    def total_s(self, n: Array | float, alone_s: float) -> Array:
        """N p': all that n prompts add to their decode steps; alone_s: of one prompt in a step of its own."""
        return np.asarray(self.steps * self.added_s + (n - self.left) * self.each_s + self.left * alone_s)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """How prompts come: queued, alone or together (module docstring); parts: steps that each needs at least."""

    how: str = "alone"
    parts: float = 1.0

    def steps(self, own: Array, full: Array) -> Array:
        """Least steps that carry `own` prompts of a rank, which would fill `full` of them."""
        if self.how == "alone":
            return own * self.parts
        most = np.asarray(1.0 if self.how == "queued" else 1.0 + np.ceil(full))
        return np.asarray(np.minimum(own, most) + (self.parts - 1.0) * np.minimum(own, 1.0))


def ride(carried: Carried, n: Array, prompt: float, room: tuple[Array, float], arrive: Arrivals) -> Ride:
    """Where the prompts of n residents go. prompt: new tokens of each; room: (tokens that a step of the instance has
    for prompts, decode steps of a request)."""
    whole, steps = room
    shares = carried.ranks * carried.microbatches
    own, space = n / shares, whole / carried.ranks
    full = own * prompt / space
    carrying = np.minimum(steps, np.maximum(full, arrive.steps(own, full)))
    tokens = np.minimum(own * prompt / np.maximum(carrying, 1e-12), space)
    left = np.maximum(n - carrying * tokens * shares / prompt, 0.0)
    return Ride(carrying, carried.added(n, tokens), left, carried.each_s)
