"""One engine step (prefill or decode) in closed form: operators priced, exchanges timed, streams overlapped.

A step is the sum over layers of what is exposed, plus head and sampling, drafts (MTP), hand-overs and the host.
All times broadcast over the batch, so one call samples a whole curve.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from supertwin.cost.result import OperatorCost
from supertwin.inference.afd_step import AfdPlan, afd_times
from supertwin.inference.arrival import meets, waits_s
from supertwin.inference.case import Deployment
from supertwin.inference.host import shortage, usual_issue_s
from supertwin.inference.layers import Block
from supertwin.inference.piece import Piece
from supertwin.inference.pieces import pieces_of
from supertwin.inference.placement import Real
from supertwin.inference.plan import Plan
from supertwin.inference.recorded import priced
from supertwin.inference.shape import Shape
from supertwin.inference.stages import add_handovers, add_uneven_stages
from supertwin.inference.streams import exposed_share, shortcut_shares, shortcut_streams, side_by_side
from supertwin.inference.times import StepTimes
from supertwin.machine.chip import Chip
from supertwin.machine.system import System
from supertwin.model.spec import ModelSpec

RANK_WAIT = ("rank wait", "latency")


def step(model: ModelSpec, system: System, deployment: Deployment, shape: Shape) -> StepTimes:
    """Time of one step of one instance at `shape` (arrays give arrays)."""
    return steps(model, system, [(deployment, shape)])[0]


def steps(model: ModelSpec, system: System, asked: Sequence[tuple[Deployment, Shape]]) -> list[StepTimes]:
    """Several steps whose arrays broadcast against each other, priced in one call of the cost engine."""
    plans, costs = priced(model, system, asked)
    return [_times(p, model, system, costs) for p in plans]


def _times(plan: Plan | AfdPlan, model: ModelSpec, system: System, costs: Iterator[OperatorCost]) -> StepTimes:
    if isinstance(plan, AfdPlan):
        return afd_times(plan, system, costs)
    return assembled(plan, [pieces_of(b, plan, system, costs) for b in plan.blocks], model, system)


def added_up(plan: Plan, pieces: Sequence[list[Piece]], system: System) -> StepTimes:
    """The blocks of a plan one after the other, from the pieces of each."""
    out = StepTimes()
    for block, own in zip(plan.blocks, pieces, strict=True):
        _add_block(out, block, own, system.chip, plan.shape.kernels_of)
    return out


def assembled(plan: Plan, pieces: Sequence[list[Piece]], model: ModelSpec, system: System) -> StepTimes:
    """The whole step: blocks, hand-overs between pipeline stages and their wait, host."""
    out = added_up(plan, pieces, system)
    add_handovers(out, model, system, plan.placement, plan.shape)
    add_uneven_stages(out, model, plan.placement, plan.shape)
    _add_host(out, plan, system)
    return out


def _add_block(out: StepTimes, block: Block, pieces: list[Piece], chip: Chip, phase: str) -> None:
    executions = block.count * block.microbatches
    counted = [(p.cost, p.count * executions) for p in pieces if p.cost is not None]
    out.costs += counted
    out.kernels += executions * len(counted)
    out.issued += executions * len(pieces)
    if block.pair:
        found = shortcut_streams(pieces, chip)
        out.last_layer_s = found.layer_s
        for (part, bound), time in shortcut_shares(found).items():
            out.add(part, bound, time * block.count)
        return
    if block.microbatches == 1:
        shown = exposed_share(pieces) if block.shortcut else 1.0
        total: Real = 0.0
        for p, wait in zip(pieces, waits_s([(p.time_s, p.spread) for p in pieces]), strict=True):
            time = p.time_s * shown if p.stage == "exchange" else p.time_s
            out.add(p.part, p.bound, time * block.count)
            total = total + time
            if meets(p.spread):
                out.add(*RANK_WAIT, wait * shown * block.count)
                total = total + wait * shown
        if block.layer:
            out.last_layer_s = total
        return
    both = side_by_side(pieces, chip, phase)
    out.last_layer_s, out.streams_s = both.layer_s, both.streams_s
    for (part, bound), share in both.shares.items():
        out.add(part, bound, both.layer_s * share * block.count)


def _add_host(out: StepTimes, plan: Plan, system: System) -> None:
    """Decode runs captured graphs, up to their largest size: a gap per step and per sequence, and no faster than the
    host prepares the sequences of all pp micro-batches beside it. Prefill, or a step with a chunk of it, has no graph
    and cannot be faster than the host issues kernels, which it starts after the gap; the work per sequence is all that
    a step needs of the host. Processes with too few cores take longer for either (host.py).
    """
    engine, shape, p = plan.engine, plan.shape, plan.placement
    decodes = shape.sequences if shape.phase == "decode" else 0.0
    lacks = shortage(engine, system, plan.host_cores, p)
    per_sequence = engine.sequence_gap_s * decodes
    issue = (engine.sequence_host_s * p.pp + lacks.sequence_s) * decodes + lacks.step_s
    if shape.kernels_of != "decode":
        prompts = shape.tokens if shape.chunk is None else np.maximum(shape.tokens, shape.chunk.tokens)
        usual = usual_issue_s(engine, out.kernels, out.issued, prompts) + engine.step_gap_s
        issue = issue + lacks.issue_s(usual, out.issued)
    elif engine.captured_tokens:
        uncaptured = lacks.issue_s(out.issued * engine.operator_s + engine.step_gap_s, out.issued)
        issue = issue + np.where(shape.tokens > engine.captured_tokens, uncaptured, 0.0)
    elif engine.unrecorded_s:
        issue = issue + lacks.issue_s(engine.unrecorded_s + engine.step_gap_s, out.issued)
    gap = engine.step_gap_s + per_sequence
    out.waited_s = np.maximum(issue - gap - np.asarray(out.time_s), 0.0)
    out.add("host", "latency", out.waited_s + gap)
