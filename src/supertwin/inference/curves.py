"""Step times of one instance over its batch, sampled once and interpolated: what the closed-form deployment needs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from supertwin.inference.assumptions import Engine
from supertwin.inference.case import Deployment
from supertwin.inference.deployment import Curves
from supertwin.inference.memory import largest_batch, memory_of
from supertwin.inference.placement import place
from supertwin.inference.step import Shape, step
from supertwin.machine.system import System
from supertwin.model.spec import ModelSpec

SAMPLES = 9


def curves(
    model: ModelSpec,
    system: System,
    deployments: tuple[Deployment, Deployment],
    lengths: tuple[float, float, float],
    engine: Engine,
    most: float = np.inf,
) -> Curves:
    """Sample prefill of deployments[0] and decode of deployments[1] (the same one unless disaggregated).

    lengths: prompt tokens, those not in the prefix cache, output tokens. most: residents beyond which nobody asks
    (requests per instance); samples stop there.
    """
    input_len, new_tokens, output_len = lengths
    prefill, decode = deployments
    ranks = decode.dp
    limit = float(engine.max_num_seqs * ranks)
    fit = largest_batch(model, system, decode, input_len + output_len, engine)
    capacity = float(max(min(limit, fit), 0.0))
    top = max(2.0, min(capacity, most) if capacity > 0 else min(limit, most))
    resident = np.unique(np.geomspace(1.0, top, SAMPLES))
    tau = decode_time(model, system, decode, resident, input_len + output_len / 2.0)
    one, each, full, chunk, issue = prefill_times(model, system, prefill, (input_len, new_tokens), engine)
    return Curves(
        resident=resident,
        decode_s=tau,
        prefill_one_s=one,
        prefill_each_s=each,
        prefill_step_s=full,
        chunk_tokens=chunk,
        issue_s=issue,
        capacity=capacity,
        prefill_devices=prefill.devices,
        decode_devices=decode.devices,
    )


def decode_time(
    model: ModelSpec, system: System, deployment: Deployment, resident: np.ndarray, kv_len: float
) -> np.ndarray:
    """Time of a decode step with `resident` requests on the instance; a rank never holds a fraction of a sequence."""
    p = place(deployment)
    per_rank = resident / (p.dp * p.pp)
    shape = Shape(
        phase="decode",
        sequences=np.maximum(per_rank, 1.0),
        shared_sequences=np.maximum(per_rank * p.ranks, 1.0),
        q_len=1.0 + deployment.mtp_tokens,
        kv_len=kv_len,
    )
    return np.asarray(step(model, system, deployment, shape).time_s)


def prefill_times(
    model: ModelSpec, system: System, deployment: Deployment, lengths: tuple[float, float], engine: Engine
) -> tuple[float, float, float, float, float]:
    """(one request alone, per request in full steps, a full step, tokens of a full step, host issue) of one instance.

    A pipeline works on pp steps at once. A prompt longer than a chunk is a full step by itself (its chunks add up
    to the same work); a single long prompt flows through the stages chunk by chunk.
    """
    input_len, new_tokens = lengths
    p = place(deployment)
    fill = max(1.0, np.floor(engine.max_batched_tokens / max(new_tokens, 1.0)))
    shape = Shape(
        phase="prefill",
        sequences=np.array([1.0, fill]),
        shared_sequences=np.array([1.0, fill * p.ranks]),
        q_len=max(new_tokens, 1.0),
        kv_len=max(input_len, 1.0),
    )
    times = step(model, system, replace(deployment, mtp_tokens=0), shape)
    one, full = (float(t) for t in np.asarray(times.time_s))
    chunks = max(1.0, new_tokens / engine.max_batched_tokens)
    one = one / p.pp * (1.0 + (p.pp - 1.0) / chunks) if p.pp > 1 else one
    each = full / (fill * p.dp * p.pp)
    return (
        one,
        each,
        full,
        max(1.0, min(fill * new_tokens, engine.max_batched_tokens)) * p.dp,
        times.kernels * engine.launch_s,
    )


def weights_fit(model: ModelSpec, system: System, deployment: Deployment) -> bool:
    """Whether the weights alone leave room."""
    return memory_of(model, system, deployment, 0.0, 0.0, 1.0).fits
