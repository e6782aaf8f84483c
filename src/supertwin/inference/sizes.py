"""Sizes of a step from the sequences per device that a case states. Numbers or arrays alike."""

from __future__ import annotations

from supertwin.inference.case import Deployment
from supertwin.inference.placement import Real, place
from supertwin.inference.shape import Shape
from supertwin.workload.shard import maximum


def lengths_of(deployment: Deployment, phase: str, given: tuple[Real, Real, Real]) -> tuple[Real, Real]:
    """(new tokens, keys) of a sequence; given = (input_len, kv_len, prefix_len)."""
    input_len, kv_len, prefix_len = given
    if phase == "prefill":
        return input_len * 1.0, (input_len + prefix_len) * 1.0
    return 1.0 * deployment.new_tokens, kv_len * 1.0


def step_shape(deployment: Deployment, phase: str, batch: Real, lengths: tuple[Real, Real]) -> Shape:
    """Sequences on one attention rank (tp devices, times cp in prefill): at least one whole sequence."""
    placement = place(deployment)
    sequences = batch * deployment.rank_devices
    return Shape(
        phase=phase,
        sequences=maximum(sequences, 1.0),
        shared_sequences=maximum(sequences * placement.ranks, 1.0),
        q_len=lengths[0],
        kv_len=lengths[1],
    )


def resident(deployment: Deployment, batch: Real, new: Real) -> tuple[Real, Real]:
    """(sequences in the memory of one attention rank over all stages, new tokens of one step on it)."""
    d = deployment
    here = batch * d.rank_devices
    return maximum(here * d.pp, 1.0), maximum(here, 1.0) * new / d.token_split
