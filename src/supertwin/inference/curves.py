"""Step times of one instance over its batch, sampled once and interpolated: what the closed-form deployment needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from supertwin.inference.beside import beside_s
from supertwin.inference.carried import Carried
from supertwin.inference.case import Deployment
from supertwin.inference.engines import Engine
from supertwin.inference.host import Shortage, shortage, usual_issue_s
from supertwin.inference.memory import largest_batch
from supertwin.inference.mixed import chunk_shape
from supertwin.inference.placement import Placement, Real, place
from supertwin.inference.residence import Array, Curves
from supertwin.inference.shape import Shape
from supertwin.inference.step import step, steps
from supertwin.inference.times import StepTimes
from supertwin.inference.unified import further_s
from supertwin.machine.system import System
from supertwin.model.spec import ModelSpec

SAMPLES, EVERY = 9, 2
CHUNKS = 5
"""Samples of the batch; of mixed steps, every second one beside so many sizes of a chunk."""


@dataclass(frozen=True, slots=True)
class _Room:
    """What an instance takes in: residents sampled, most that it admits (seats) and holds (fits); prompts of a full
    step and its tokens, per attention rank."""

    resident: Array
    seats: float
    fits: float
    fill: float
    limit_tokens: float
    most_tokens: float

    @property
    def capacity(self) -> float:
        """Residents at most."""
        return max(min(self.seats, self.fits), 0.0)


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
    (input_len, new, _, decoded), (prefill, decode) = lengths, deployments
    fits = largest_batch(model, system, decode, input_len + lengths[2], engine)
    room = _room(engine, deployments, new, float(fits), most)
    fill, context = room.fill, input_len + decoded
    chunks = np.geomspace(max(1.0, min(new, room.most_tokens / 8.0)), max(room.most_tokens, 2.0), CHUNKS)
    tau, full, *mixed = steps(model, system, _asked(engine, deployments, lengths, room, chunks))
    p = place(prefill)
    further = further_s(model, prefill, system.chip, engine, (max(input_len, 1.0), max(new, 1.0)), full)
    decode_s = np.broadcast_to(tau.device_s, room.resident.shape)
    alone, together = (float(np.ravel(full.time_s)[i]) + n * further for i, n in ((0, 1.0), (-1, fill)))
    return Curves(
        resident=room.resident,
        decode_s=decode_s,
        prefill_one_s=alone / p.pp * (1.0 + (p.pp - 1.0) / max(1.0, new / room.limit_tokens)),
        prefill_each_s=together / (fill * p.dp * p.pp),
        prefill_step_s=together,
        chunk_tokens=room.most_tokens * p.dp,
        lone_s=max(alone - float(np.ravel(tau.time_s)[0]), 0.0) if p.ranks > 1 else 0.0,
        ranks=p.ranks,
        capacity=room.capacity,
        seats=room.seats,
        fits=max(room.fits, 0.0),
        prefill_devices=prefill.devices,
        decode_devices=decode.devices,
        step_tokens=float(room.limit_tokens * p.dp),
        beside_s=beside_s(model, decode, system.chip, engine, tau, room.resident / decode.dp * context),
        carried=_carried(mixed, decode_s, (room, chunks), further / max(new, 1.0), p),
        pass_s=max(alone * fill - together, 0.0) / (fill - 1.0) / p.pp if fill > 1.0 and prefill == decode else 0.0,
        **_host(engine, shortage(engine, system, decode.host_cores, place(decode)), (tau, full), new, decode),
    )


def _host(
    engine: Engine, lacks: Shortage, priced: tuple[StepTimes, StepTimes], new_tokens: float, decode: Deployment
) -> dict[str, float]:
    """What steps need of the host, as fields of Curves. priced: a decode step and one with prompts of new_tokens."""
    (tau, full), gap = priced, engine.step_gap_s
    usual = usual_issue_s(engine, full.kernels, full.issued, max(new_tokens, 1.0)) + gap
    alone, microbatches = engine.unrecorded_s or tau.issued * engine.operator_s, decode.dp * decode.pp
    recorded = engine.captured_tokens or (0.0 if engine.unrecorded_s else np.inf)
    return {
        "issue_s": float(lacks.issue_s(usual, full.issued)),
        "issue_each_s": engine.sequence_host_s / decode.dp + lacks.sequence_s / microbatches,
        "host_s": lacks.step_s,
        "captured": recorded * microbatches / decode.new_tokens,
        "uncaptured_s": float(lacks.issue_s(alone + gap, tau.issued)),
    }


def _carried(
    mixed: Sequence[StepTimes], decode_s: Array, asked: tuple[_Room, Array], each_s: Real, p: Placement
) -> Carried | None:
    """What prompts add to decode steps. asked: residents and chunks of the mixed step, if one was priced; each_s:
    of each prompt token beside."""
    if not mixed:
        return None
    room, chunks = asked
    added = np.maximum(mixed[0].device_s - decode_s[::EVERY, None], 0.0) + each_s * chunks
    return Carried(room.resident[::EVERY], chunks, added, p.dp, p.pp)


def _room(
    engine: Engine, deployments: tuple[Deployment, Deployment], new_tokens: float, fits: float, most: float
) -> _Room:
    prefill, decode = deployments
    seats = float(engine.max_num_seqs * decode.dp)
    if fits >= decode.dp:  # nobody starts on a part of what it needs
        fits = float(decode.dp * np.floor(fits / decode.dp + 1e-9))
    capacity = max(min(seats, fits), 0.0)
    top = max(2.0, min(capacity, most) if capacity > 0 else min(seats, most))
    limit_tokens = float(engine.max_batched_tokens * prefill.staged_devices)
    fill = max(1.0, float(np.floor(limit_tokens / max(new_tokens, 1.0))))
    most_tokens = max(1.0, min(fill * new_tokens, limit_tokens))
    return _Room(np.geomspace(1.0, top, SAMPLES), seats, fits, fill, limit_tokens, most_tokens)


def _asked(
    engine: Engine,
    deployments: tuple[Deployment, Deployment],
    lengths: tuple[float, float, float, float],
    room: _Room,
    chunks: Array,
) -> list[tuple[Deployment, Shape]]:
    """Steps to price: decode over the residents, prefill over its prompts and, where prompts ride in decode steps,
    steps with a chunk of prompts."""
    (input_len, new, _, decoded), (prefill, decode) = lengths, deployments
    asked = [
        (decode, decode_shape(decode, room.resident, input_len + decoded)),
        (replace(prefill, mtp_tokens=0, cp=prefill.token_split), prefill_shape(prefill, room.fill, input_len, new)),
    ]
    if engine.mixes_prefill and _together(prefill, decode):
        beside = chunk_shape(chunks[None, :], max(new, 1.0), input_len - new, place(decode).ranks)
        some = decode_shape(decode, room.resident[::EVERY, None], input_len + decoded)
        asked.append((decode, replace(some, chunk=beside)))
    return asked


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
