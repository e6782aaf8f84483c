"""What one change to a deployment or to its machine would buy: every candidate priced and checked like the step."""

from __future__ import annotations

from dataclasses import replace

from supertwin.core import change
from supertwin.core.errors import SupertwinError
from supertwin.inference.anatomy import Anatomy, Opened, anatomies
from supertwin.inference.case import InferenceCase
from supertwin.inference.changes import PLAIN, Change, Scale, changes
from supertwin.inference.exchange import communication
from supertwin.inference.piece import Piece
from supertwin.inference.pieces import routed_of
from supertwin.inference.predict import memory, prepared, shape_of
from supertwin.inference.step import assembled, step
from supertwin.inference.times import scalar
from supertwin.network.collective import CollectiveTime
from supertwin.workload.operators import Communication, Operator

Gain = change.Gain[InferenceCase, Scale]


def what_if(case: InferenceCase) -> tuple[Gain, ...]:
    """Gains of all single changes that are legal and fit the memory, best first. Raises InputError for an illegal
    case."""
    case = prepared(case)
    now = tokens_per_s_per_device(case, _seconds(case, PLAIN))
    return change.best_first(_judged(one, now) for one in changes(case))


def scaled_s(opened: Anatomy, scale: Scale) -> float:
    """Step time when the fixed and per-byte parts of all exchanges, and the host's gaps, take another share of their
    time."""
    if scale == PLAIN:
        return opened.total_s
    case = opened.case
    pieces = [
        [_scaled(piece, _exchange(operator, block, opened), scale) for operator, piece in block.operators]
        for block in opened.blocks
    ]
    times = assembled(opened.plan, pieces, case.model, case.system)
    host = sum(scalar(t) for (part, _), t in times.parts.items() if part == "host")
    handed = sum(scalar(t) for (part, _), t in times.parts.items() if part == "pp p2p")
    return scalar(times.time_s) - (1.0 - scale.host) * host - (1.0 - scale.per_byte) * handed


def tokens_per_s_per_device(case: InferenceCase, seconds: float) -> float:
    """Output tokens in decode (drafts that are accepted count), prompt tokens in prefill, both in a mixed step."""
    d = case.deployment
    if case.phase == "prefill":
        return case.batch * case.input_len / seconds
    return (case.batch * (1.0 + d.mtp_tokens * d.mtp_acceptance) + case.chunk_tokens / d.tp) / seconds


def _exchange(operator: Operator, block: Opened, opened: Anatomy) -> CollectiveTime | None:
    """The time of an exchange again, with its fixed part."""
    if not isinstance(operator, Communication):
        return None
    plan = opened.plan
    return communication(opened.case.system, plan.placement, operator, routed_of(block.block, plan))


def _scaled(piece: Piece, priced: CollectiveTime | None, scale: Scale) -> Piece:
    if priced is None or scalar(priced.time_s) <= 0.0:
        return piece
    whole = scalar(priced.time_s)
    fixed = min(scalar(priced.latency_s), whole)
    return replace(piece, time_s=piece.time_s * (scale.fixed * fixed + scale.per_byte * (whole - fixed)) / whole)


def _seconds(case: InferenceCase, scale: Scale) -> float:
    """Step time of a prepared case. Raises InputError for one that cannot be laid open and is to be scaled."""
    if case.deployment.afd_instances and scale == PLAIN:
        return scalar(step(case.model, case.system, case.deployment, shape_of(case)).time_s)
    return scaled_s(anatomies([case])[0], scale)


def _judged(one: Change, now: float) -> Gain | None:
    try:
        case = prepared(one.case)
        used = memory(case)
        if not used.fits:
            return None
        seconds = _seconds(case, one.scale)
    except SupertwinError:
        return None
    rate = tokens_per_s_per_device(case, seconds)
    d = case.deployment
    token = seconds if case.phase == "prefill" else seconds / (1.0 + d.mtp_tokens * d.mtp_acceptance)
    return Gain(one, rate / now - 1.0, seconds, token, rate, used.peak_bytes)
