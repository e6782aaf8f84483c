"""Time of a decode step whose attention and feed-forward run on devices of their own, with micro-batches in ping-pong.

A micro-batch takes a on the attention side, f on the other and c on each way. With m of them in flight a layer takes

    period = max(m max(a, f, c), a + f + 2 c)

and the step the periods of all layers, less the last one, plus one round trip and (m - 1) max(a, f, c): the last layer
drains. Where m covers the round trip this is equation 5 of MegaScale-Infer, (a + f + 2 c) + max(a, f) (m L - 1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from supertwin.cost.result import OperatorCost
from supertwin.inference import engines
from supertwin.inference.afd import Hop, Sides, ends, hops, sides
from supertwin.inference.case import Deployment
from supertwin.inference.layers import Block, shard_of
from supertwin.inference.piece import Piece
from supertwin.inference.pieces import pieces_of
from supertwin.inference.placement import Real
from supertwin.inference.plan import Plan
from supertwin.inference.shape import Shape
from supertwin.inference.times import StepTimes
from supertwin.machine.chip import Chip
from supertwin.machine.system import System
from supertwin.model.spec import ModelSpec
from supertwin.network.collective import collective_time
from supertwin.network.group import Group
from supertwin.workload.shard import maximum

WAIT = ("round trip of a micro-batch", "network")


@dataclass(frozen=True, slots=True)
class Stage:
    """Seconds of one micro-batch at one hop: attention, feed-forward and the two ways."""

    attention_s: Real
    experts_s: Real
    out_s: Real
    home_s: Real

    @property
    def longest_s(self) -> Real:
        """The slowest of the four; both ways run at once."""
        return maximum(maximum(self.attention_s, self.experts_s), maximum(self.out_s, self.home_s))

    @property
    def round_trip_s(self) -> Real:
        """One micro-batch alone."""
        return self.attention_s + self.experts_s + self.out_s + self.home_s

    def period_s(self, microbatches: int) -> Real:
        """A layer of all micro-batches in steady state."""
        return maximum(microbatches * self.longest_s, self.round_trip_s)


def pipeline_s(stages: Sequence[tuple[Stage, float]], microbatches: int) -> Real:
    """A step over (stage, layers) of all kinds with its last layer drained."""
    last = stages[-1][0]
    steady: Real = sum((stage.period_s(microbatches) * count for stage, count in stages), start=0.0)
    drained: Real = last.round_trip_s + (microbatches - 1) * last.longest_s
    return steady - last.period_s(microbatches) + drained


@dataclass(frozen=True, slots=True)
class AfdPlan:
    """A step before pricing. shape: sequences of all micro-batches on one attention rank; visits and rest (embedding,
    head and sampling): of one micro-batch."""

    deployment: Deployment
    both: Sides
    shape: Shape
    engine: engines.Engine
    visits: tuple[Hop, ...]
    rest: Block

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks in the order in which they are priced."""
        return (*(b for h in self.visits for b in (h.attention, h.experts) if b is not None), self.rest)

    @property
    def numbers(self) -> tuple[Real, ...]:
        """Bytes of all ways, out and home by turns."""
        return tuple(size for h in self.visits for size in (h.out_bytes, h.home_bytes))

    def refilled(self, shape: Shape, blocks: tuple[Block, ...], numbers: tuple[Real, ...]) -> AfdPlan:
        """The plan of a step of another size, from its blocks and numbers."""
        block, size = iter(blocks), iter(numbers)
        visits = tuple(
            Hop(next(block), None if h.experts is None else next(block), next(size), next(size), h.count)
            for h in self.visits
        )
        return AfdPlan(self.deployment, self.both, shape, self.engine, visits, next(block))


def afd_plan(model: ModelSpec, chip: Chip, d: Deployment, shape: Shape) -> AfdPlan:
    """A decode step. shape: sequences of all micro-batches on one attention rank."""
    both, m = sides(d), d.afd_microbatches
    engine = engines.speculating(engines.engine(d.framework, chip), d.mtp_tokens, d.dp)
    small = replace(shape, sequences=shape.sequences / m, shared_sequences=shape.shared_sequences / m)
    shard = shard_of(model, d, both.attention, chip, engine)
    return AfdPlan(d, both, shape, engine, tuple(hops(model, d, small, shard)), ends(model, small, shard))


def afd_times(plan: AfdPlan, system: System, costs: Iterator[OperatorCost]) -> StepTimes:
    """Time of a step whose operators were priced."""
    both, engine, m = plan.both, plan.engine, plan.deployment.afd_microbatches
    plans = [Plan(p, plan.shape, engine, (), 0.0) for p in (both.attention, both.experts)]
    out = StepTimes()
    stages: list[tuple[Stage, float]] = []
    for hop in plan.visits:
        stages.append((_visit(out, hop, (system, both, m), plans, costs), hop.count))
    for p in pieces_of(plan.rest, plans[0], system, costs):
        out.add(p.part, p.bound, p.time_s * m)
        _count(out, p, m * both.attention_devices / plan.deployment.devices)
    out.add(*WAIT, pipeline_s(stages, m) - sum((s.period_s(m) * n for s, n in stages), start=0.0))
    out.add("host", "latency", engine.step_gap_s + engine.sequence_gap_s * plan.shape.sequences)
    _tell(out, stages, m)
    return out


def _visit(
    out: StepTimes,
    hop: Hop,
    about: tuple[System, Sides, int],
    plans: list[Plan],
    costs: Iterator[OperatorCost],
) -> Stage:
    """Adds the periods of a hop to `out`: the slowest stage by its parts, the rest of the round trip as waiting."""
    system, both, m = about
    own = pieces_of(hop.attention, plans[0], system, costs)
    there = [] if hop.experts is None else pieces_of(hop.experts, plans[1], system, costs)
    total = both.attention_devices + both.expert_devices
    for side, devices in ((own, both.attention_devices), (there, both.expert_devices)):
        for p in side:
            _count(out, p, m * hop.count * devices / total)
    ways = [_way_s(system, both, size) if hop.experts is not None else 0.0 for size in (hop.out_bytes, hop.home_bytes)]
    stage = Stage(_sum(own), _sum(there), *ways)
    slowest = np.asarray(stage.longest_s)
    for side, time in ((own, stage.attention_s), (there, stage.experts_s)):
        shown = np.where(np.asarray(time) == slowest, 1.0, 0.0)
        for p in side:
            out.add(p.part, p.bound, p.time_s * shown * m * hop.count)
    busy = np.maximum(stage.attention_s, np.asarray(stage.experts_s))
    out.add("afd transfer", "network", np.where(slowest > busy, slowest, 0.0) * m * hop.count)
    out.add(*WAIT, (stage.period_s(m) - m * slowest) * hop.count)
    out.last_layer_s, out.streams_s = stage.period_s(m), (stage.attention_s, stage.experts_s)
    return stage


def _way_s(system: System, both: Sides, size: Real) -> Real:
    """One block between an attention device and a feed-forward device, which lie a whole side apart."""
    group = Group(2, both.attention_devices)
    return collective_time(system, "p2p", size, group, library="inference", context="production").time_s


def _sum(pieces: list[Piece]) -> Real:
    return sum((p.time_s for p in pieces), start=0.0)


def _count(out: StepTimes, piece: Piece, executions: float) -> None:
    """Work of a mean device: a side counts by its share of all devices."""
    if piece.cost is None:
        return
    out.kernels += executions
    out.costs.append((piece.cost, piece.count * executions))


def _tell(out: StepTimes, stages: list[tuple[Stage, float]], m: int) -> None:
    """Figures of the layer that has most of the time, and how long each side works in a step."""
    main = max(stages, key=lambda one: float(np.max(one[0].period_s(m))) * one[1])[0]
    steps = np.asarray(out.time_s)
    for name, times in (
        ("attention", [(s.attention_s, n) for s, n in stages]),
        ("experts", [(s.experts_s, n) for s, n in stages]),
    ):
        busy: Real = sum((m * t * n for t, n in times), start=0.0)
        out.figures[f"{name}_busy_share"] = busy / steps
    out.figures |= {
        "attention_stage_s": main.attention_s,
        "experts_stage_s": main.experts_s,
        "transfer_out_s": main.out_s,
        "transfer_home_s": main.home_s,
    }
