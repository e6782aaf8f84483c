"""Step times of one instance over its batch, sampled once and interpolated: what the closed-form deployment needs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from supertwin.inference.assumptions import Engine
from supertwin.inference.beside import beside_s
from supertwin.inference.carried import Carried
from supertwin.inference.case import Deployment
from supertwin.inference.host import shortage, usual_issue_s
from supertwin.inference.memory import largest_batch
from supertwin.inference.mixed import chunk_shape
from supertwin.inference.placement import place
from supertwin.inference.residence import Array, Curves
from supertwin.inference.shape import Shape
from supertwin.inference.step import step, steps
from supertwin.inference.unified import further_s
from supertwin.machine.system import System
from supertwin.model.spec import ModelSpec

SAMPLES, EVERY = 9, 2
CHUNKS = 5
"""Samples of the batch; of mixed steps, every second one beside so many sizes of a chunk."""


def curves(
    model: ModelSpec,
    system: System,
    deployments: tuple[Deployment, Deployment],
    lengths: tuple[float, float, float, float],
    engine: Engine,
    most: float = np.inf,
) -> Curves:
    """Sample prefill of deployments[0] and decode of deployments[1] (the same one unless disaggregated).

    lengths: prompt tokens, those not in the prefix cache, output tokens, and those of them that a resident has got in
    the mean. most: residents beyond which nobody asks (requests per instance); samples stop there.
    """
    input_len, new_tokens, output_len, decoded = lengths
    prefill, decode = deployments
    ranks = decode.dp
    limit = float(engine.max_num_seqs * ranks)
    fit = largest_batch(model, system, decode, input_len + output_len, engine)
    capacity = float(max(min(limit, fit), 0.0))
    top = max(2.0, min(capacity, most) if capacity > 0 else min(limit, most))
    resident = np.geomspace(1.0, top, SAMPLES)
    limit_tokens = engine.max_batched_tokens * prefill.staged_devices
    fill = max(1.0, np.floor(limit_tokens / max(new_tokens, 1.0)))
    most_tokens = max(1.0, min(fill * new_tokens, limit_tokens))
    context = input_len + decoded
    asked = [
        (decode, decode_shape(decode, resident, context)),
        (replace(prefill, mtp_tokens=0, cp=prefill.token_split), prefill_shape(prefill, fill, input_len, new_tokens)),
    ]
    chunks = np.geomspace(max(1.0, min(new_tokens, most_tokens / 8.0)), max(most_tokens, 2.0), CHUNKS)
    if engine.mixes_prefill and _together(prefill, decode):
        beside = chunk_shape(chunks[None, :], max(new_tokens, 1.0), input_len - new_tokens, place(decode).ranks)
        some = decode_shape(decode, resident[::EVERY, None], context)
        asked.append((decode, replace(some, chunk=beside)))
    tau, full, *mixed = steps(model, system, asked)
    p, chunk = place(prefill), limit_tokens
    lacks = shortage(engine, system, decode.host_cores, place(decode))
    further = further_s(model, prefill, system.chip, engine, (max(input_len, 1.0), max(new_tokens, 1.0)), full)
    decode_s = np.broadcast_to(tau.device_s, resident.shape)
    carried = None
    if mixed:
        added = np.maximum(mixed[0].device_s - decode_s[::EVERY, None], 0.0)
        added = added + further * chunks / max(new_tokens, 1.0)
        carried = Carried(resident[::EVERY], chunks, added, p.dp, p.pp)
    alone, together = (float(np.ravel(full.time_s)[i]) + n * further for i, n in ((0, 1.0), (-1, fill)))
    return Curves(
        resident=resident,
        decode_s=decode_s,
        prefill_one_s=alone / p.pp * (1.0 + (p.pp - 1.0) / max(1.0, new_tokens / chunk)),
        prefill_each_s=together / (fill * p.dp * p.pp),
        prefill_step_s=together,
        chunk_tokens=most_tokens * p.dp,
        issue_s=float(
            lacks.issue_s(usual_issue_s(engine, full.kernels, full.issued, max(new_tokens, 1.0)), full.issued)
        ),
        lone_s=max(alone - float(np.ravel(tau.time_s)[0]), 0.0) if p.ranks > 1 else 0.0,
        ranks=p.ranks,
        capacity=capacity,
        seats=limit,
        fits=float(max(fit, 0.0)),
        prefill_devices=prefill.devices,
        decode_devices=decode.devices,
        issue_each_s=engine.sequence_host_s / ranks + lacks.sequence_s / (ranks * p.pp),
        host_s=lacks.step_s,
        captured=engine.captured_tokens * ranks * p.pp / decode.new_tokens or np.inf,
        uncaptured_s=float(lacks.issue_s(tau.issued * engine.operator_s, tau.issued)),
        step_tokens=float(chunk * p.dp),
        beside_s=beside_s(model, decode, system.chip, engine, tau, resident / ranks * context),
        carried=carried,
        pass_s=max(alone * fill - together, 0.0) / (fill - 1.0) / p.pp if fill > 1.0 and prefill == decode else 0.0,
    )


def _together(prefill: Deployment, decode: Deployment) -> bool:
    """Whether one instance does both, in a layout that mixed steps know."""
    same = replace(
        prefill,
        mtp_tokens=decode.mtp_tokens,
        mtp_acceptance=decode.mtp_acceptance,
        cp_adds_devices=decode.cp_adds_devices,
    )
    return same == decode and decode.cp == 1 and not decode.afd_instances


def decode_shape(deployment: Deployment, resident: Array, kv_len: float) -> Shape:
    """A decode step with `resident` requests on the instance; a rank never holds a fraction of a sequence."""
    p = place(deployment)
    per_rank = resident / (p.dp * p.pp)
    return Shape(
        phase="decode",
        sequences=np.maximum(per_rank, 1.0),
        shared_sequences=np.maximum(per_rank * p.ranks, 1.0),
        q_len=1.0 * deployment.new_tokens,
        kv_len=kv_len,
    )


def prefill_shape(deployment: Deployment, fill: float, input_len: float, new_tokens: float) -> Shape:
    """Prefill from one sequence on the instance to `fill` on every rank, sampled as finely as decode.

    A prompt longer than a chunk is a step by itself (its chunks add up to the same work).
    """
    ranks = place(deployment).ranks
    return Shape(
        phase="prefill",
        sequences=np.geomspace(1.0, fill, SAMPLES),
        shared_sequences=np.geomspace(1.0, fill * ranks, SAMPLES),
        q_len=max(new_tokens, 1.0),
        kv_len=max(input_len, 1.0),
    )


def decode_time(model: ModelSpec, system: System, deployment: Deployment, resident: Array, kv_len: float) -> Array:
    """Time of a decode step with `resident` requests on the instance."""
    return np.asarray(step(model, system, deployment, decode_shape(deployment, resident, kv_len)).time_s)
