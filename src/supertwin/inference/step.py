"""One engine step (prefill or decode) in closed form: operators priced, exchanges timed, streams overlapped.

A step is the sum over layers of what is exposed, plus head and sampling, drafts (MTP), hand-overs and the host.
All times broadcast over the batch, so one call samples a whole curve.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from supertwin.cost.engine import CostEngine
from supertwin.cost.result import OperatorCost
from supertwin.inference import assumptions, overlap
from supertwin.inference.case import Deployment
from supertwin.inference.exchange import communication_s
from supertwin.inference.layers import Block, Habits, blocks, shard_of
from supertwin.inference.placement import Placement, moe, place
from supertwin.inference.shape import Shape
from supertwin.machine.chip import Chip
from supertwin.machine.system import System
from supertwin.model.spec import ModelSpec
from supertwin.workload.operators import Communication, Operator

__all__ = ["Shape", "StepTimes", "engine_of", "step", "steps"]

Real = float | npt.NDArray[np.float64]


@dataclass(slots=True)
class StepTimes:
    """A step. parts: exposed time by (part, bound); busy_s: time of each part if nothing overlapped.

    last_layer_s: exposed time of one layer of the last kind (the MoE layer of a mixed model);
    streams_s: the two sides of one micro-batch in that layer, when two are overlapped: (attention, experts) on core
    groups, (compute, exchange) otherwise;
    flop, bytes: arithmetic and memory traffic of one device; kernels: operators executed; costs: (cost, executions).
    """

    time_s: Real = 0.0
    parts: dict[tuple[str, str], Real] = field(default_factory=dict)
    last_layer_s: Real = 0.0
    streams_s: tuple[Real, Real] = (0.0, 0.0)
    flop: Real = 0.0
    bytes: Real = 0.0
    kernels: float = 0.0
    costs: list[tuple[OperatorCost, Real]] = field(default_factory=list)

    def add(self, part: str, bound: str, time_s: Real) -> None:
        """Add exposed time."""
        key = (part, bound)
        self.parts[key] = self.parts.get(key, 0.0) + time_s
        self.time_s = self.time_s + time_s


@dataclass(frozen=True, slots=True)
class Piece:
    """One operator of a layer with its time: stage is attention, experts or exchange (what it overlaps with);
    outward: an exchange that brings tokens to their experts."""

    part: str
    stage: str
    time_s: Real
    bound: str
    cost: OperatorCost | None = None
    count: Real = 1.0
    outward: bool = False


MOST_ENGINES = 64
_ENGINES: dict[tuple[int, str], tuple[Chip, CostEngine]] = {}


def engine_of(chip: Chip, expert_kernels: str = "") -> CostEngine:
    """The cost engine of a chip (one per chip object and kind of expert kernels)."""
    key = (id(chip), expert_kernels)
    found = _ENGINES.get(key)
    if found is None or found[0] is not chip:
        if len(_ENGINES) >= MOST_ENGINES:
            _ENGINES.clear()
        found = _ENGINES[key] = (chip, CostEngine(chip, expert_kernels=expert_kernels))
    return found[1]


def step(model: ModelSpec, system: System, deployment: Deployment, shape: Shape) -> StepTimes:
    """Time of one step of one instance at `shape` (arrays give arrays)."""
    return steps(model, system, [(deployment, shape)])[0]


def steps(model: ModelSpec, system: System, asked: Sequence[tuple[Deployment, Shape]]) -> list[StepTimes]:
    """Several steps whose arrays broadcast against each other, priced in one call of the cost engine."""
    plans = [_plan(model, system, deployment, shape) for deployment, shape in asked]
    compute = [o for p in plans for b in p.blocks for o in b.operators if not isinstance(o, Communication)]
    costs = iter(engine_of(system.chip, expert_kernels(asked[0][0], system.chip)).price(compute))
    return [_assemble(plan, model, system, costs) for plan in plans]


def expert_kernels(deployment: Deployment, chip: Chip) -> str:
    """Kernels of the experts that the deployment's engine takes by default on the chip."""
    return assumptions.engine(deployment.framework, chip).expert_kernels


@dataclass(frozen=True, slots=True)
class Plan:
    """One step before pricing. experts: routed experts and replicas over all ranks."""

    placement: Placement
    shape: Shape
    engine: assumptions.Engine
    blocks: tuple[Block, ...]
    experts: float


def _plan(model: ModelSpec, system: System, deployment: Deployment, shape: Shape) -> Plan:
    placement = place(deployment)
    engine = assumptions.engine(deployment.framework, system.chip)
    if shape.phase == "decode":
        engine = assumptions.speculating(engine, deployment.mtp_tokens, deployment.dp)
    shard = shard_of(model, deployment, placement, system.chip, engine)
    mixture = moe(model)
    experts = float(mixture.experts + deployment.redundant_experts) if mixture is not None else 0.0
    habits = Habits(
        joins_keys=system.chip.vendor != "huawei",  # npu_fused_infer_attention_score takes query_rope and key_rope
        routes_in_passes=engine.routes_in_passes and shape.phase == "prefill",
    )
    return Plan(placement, shape, engine, blocks(model, deployment, placement, shape, shard, habits), experts)


def _assemble(plan: Plan, model: ModelSpec, system: System, costs: Iterator[OperatorCost]) -> StepTimes:
    out = StepTimes()
    for block in plan.blocks:
        _add_block(out, block, _pieces(block, plan, system, costs), system.chip, plan.shape.phase)
    _add_handovers(out, model, system, plan.placement, plan.shape)
    _add_uneven_stages(out, model, plan)
    _add_host(out, plan.engine, plan.shape)
    return out


def _pieces(block: Block, plan: Plan, system: System, costs: Iterator[OperatorCost]) -> list[Piece]:
    """Operators of a block with their times; exchanges are timed here, the rest was priced."""
    out = []
    for o in block.operators:
        if isinstance(o, Communication):
            time = communication_s(system, plan.placement, o, plan.experts, plan.engine.routes_in_passes) * o.count
            out.append(Piece(_part(o), "exchange", time, "network", outward=o.part.endswith("dispatch")))
        else:
            cost = next(costs)
            out.append(Piece(_part(o), _stage(o), cost.time_s * o.count, _bound(cost), cost, o.count))
    return out


def _bound(cost: OperatorCost) -> str:
    """What bounds the operator at the largest batch of a sweep."""
    compute, memory, start = (_last(x) for x in (cost.compute_s, cost.memory_s, cost.overhead_s))
    if compute >= memory and compute >= start:
        return "compute"
    return "memory" if memory >= start else "latency"


def _last(value: Real) -> float:
    return float(value.flat[-1]) if isinstance(value, np.ndarray) else float(value)


def _part(operator: Operator) -> str:
    if isinstance(operator, Communication):
        routed = operator.op in ("dispatch", "combine")
        return "dispatch and combine" if routed else f"{operator.axis} {operator.op}".replace("_", "-")
    head = operator.part.split("/")[0]
    kind = type(operator).__name__
    if kind == "Attention":
        return "attention core"
    if kind == "Vector":
        return f"{head} vector work"
    return {"attention": "attention projections"}.get(head, head)


def _stage(operator: Operator) -> str:
    return "attention" if operator.part.startswith(("attention", "norm", "embedding", "head")) else "experts"


def _add_block(out: StepTimes, block: Block, pieces: list[Piece], chip: Chip, phase: str) -> None:
    executions = block.count * block.microbatches
    for p in pieces:
        if p.cost is not None:
            out.flop = out.flop + p.cost.flop * p.count * executions
            out.bytes = out.bytes + p.cost.bytes * p.count * executions
            out.kernels += executions
            out.costs.append((p.cost, p.count * executions))
    if block.microbatches == 1:
        shown = _exposed_share(pieces) if block.shortcut else 1.0
        total: Real = 0.0
        for p in pieces:
            time = p.time_s * shown if p.stage == "exchange" else p.time_s
            out.add(p.part, p.bound, time * block.count)
            total = total + time
        if block.layer:
            out.last_layer_s = total
        return
    two_groups = chip.vendor == "huawei" and phase == "decode"
    streams = _streams(pieces) if two_groups else _compute_and_exchange(pieces)
    layer, shares = _overlapped(pieces, streams, chip, phase)
    out.last_layer_s, out.streams_s = layer, streams
    for (part, bound), share in shares.items():
        out.add(part, bound, layer * share * block.count)


def _exposed_share(pieces: list[Piece]) -> Real:
    """Share of the exchanges that outlasts the dense path beside them."""
    exchange: Real = sum((p.time_s for p in pieces if p.stage == "exchange"), start=0.0)
    dense: Real = sum((p.time_s for p in pieces if p.part.startswith(("mlp", "attention"))), start=0.0)
    return np.maximum(np.asarray(exchange) - dense, 0.0) / np.maximum(exchange, 1e-15)


def _streams(split: list[Piece]) -> tuple[Real, Real]:
    """(attention, experts) of one micro-batch, each on its cores, sharing the memory bandwidth: first alone, then with
    the other's mean draw."""
    attention, experts = _stream(split, True, 0.0), _stream(split, False, 0.0)
    longest = np.maximum(np.maximum(attention, experts), 1e-12)
    draws = [np.minimum(_memory_s(split, side) / longest, 0.5) for side in (False, True)]
    return _stream(split, True, draws[0]), _stream(split, False, draws[1])


def _stream(split: list[Piece], attention: bool, drawn: Real) -> Real:
    share = assumptions.ATTENTION_STREAM if attention else assumptions.MOE_STREAM
    total: Real = 0.0
    for p in split:
        if (p.stage == "attention") == attention:
            total = total + (p.time_s if p.cost is None else overlap.on_cores(p.cost, share, drawn) * p.count)
    return total


def _memory_s(split: list[Piece], attention: bool) -> Real:
    total: Real = 0.0
    for p in split:
        if p.cost is not None and (p.stage == "attention") == attention:
            total = total + p.cost.memory_s * p.count
    return total


def _compute_and_exchange(split: list[Piece]) -> tuple[Real, Real]:
    """(compute, exchange) of one micro-batch on a device that runs both side by side."""
    times = _stage_times(split)
    return times["attention"] + times["experts"], times["dispatch"] + times["combine"]


def _stage_times(split: list[Piece]) -> dict[str, Real]:
    """Time of each stage of one micro-batch; all exchanges but the way to the experts count as combine."""
    times: dict[str, Real] = dict.fromkeys(("attention", "experts", "dispatch", "combine"), 0.0)
    for p in split:
        stage = p.stage if p.stage != "exchange" else "dispatch" if p.outward else "combine"
        times[stage] = times[stage] + p.time_s
    return times


def _overlapped(
    split: list[Piece], streams: tuple[Real, Real], chip: Chip, phase: str
) -> tuple[Real, Mapping[tuple[str, str], Real]]:
    """Layer time of two micro-batches and the share of each part in it (the hidden stream has none)."""
    if chip.vendor == "huawei" and phase == "decode":
        memory = np.asarray(_memory_s(split, True)) + _memory_s(split, False)
        layer = overlap.two_streams(*streams, memory)
        sides = [p.stage == "attention" for p in split]
    else:
        taken = assumptions.SM_COMMUNICATION_SHARE if chip.vendor == "nvidia" and phase == "prefill" else 0.0
        t = _stage_times(split)
        layer = overlap.two_batches((t["attention"], t["experts"]), (t["dispatch"], t["combine"]), taken)
        sides = [p.stage != "exchange" for p in split]
    return layer, _shares(split, sides, np.asarray(streams[0]) >= np.asarray(streams[1]))


def _shares(split: list[Piece], in_first: list[bool], first: npt.NDArray[np.bool_]) -> Mapping[tuple[str, str], Real]:
    critical = [np.where(first == side, p.time_s, 0.0) for p, side in zip(split, in_first, strict=True)]
    total = np.maximum(sum(critical), 1e-15)
    out: dict[tuple[str, str], Real] = {}
    for p, time in zip(split, critical, strict=True):
        key = (p.part, p.bound)
        out[key] = out.get(key, 0.0) + time / total
    return out


def _add_handovers(out: StepTimes, model: ModelSpec, system: System, placement: Placement, shape: Shape) -> None:
    """A pipeline stage passes the hidden state of its tokens on: pp - 1 times per step."""
    if placement.pp == 1:
        return
    size = shape.sequences * shape.q_len * model.hidden * 2.0 / (placement.tp * placement.token_split)
    operator = Communication(part="pp", op="p2p", axis="pp", message_bytes=size)
    out.add("pp p2p", "network", communication_s(system, placement, operator) * (placement.pp - 1))


def _add_uneven_stages(out: StepTimes, model: ModelSpec, plan: Plan) -> None:
    """With pp micro-batches in flight the slowest stage sets the pace. Engines cut the layers evenly, the remainder to
    the first stages, and put the head on the last one (vLLM get_pp_indices, TensorRT-LLM pp_layers).

    A round takes pp x that stage instead of the sum of all. A lone sequence on a rank fills no pipeline.
    """
    pp = plan.placement.pp
    if pp == 1:
        return
    ends: Real = sum((t for (part, _), t in out.parts.items() if part.startswith(("head", "mtp"))), start=0.0)
    passed: Real = sum((t for (part, _), t in out.parts.items() if part == "pp p2p"), start=0.0)
    layer = np.asarray(out.time_s - ends - passed) / model.n_layers
    slowest = np.maximum(layer * math.ceil(model.n_layers / pp), layer * (model.n_layers // pp) + ends)
    wait = pp * slowest - layer * model.n_layers - ends
    out.add("pp wait", "latency", np.where(np.asarray(plan.shape.sequences) > 1.0, wait, 0.0))


def _add_host(out: StepTimes, engine: assumptions.Engine, shape: Shape) -> None:
    """Decode runs captured graphs: a gap per step and per sequence. Prefill without a graph cannot be faster than the
    host issues kernels."""
    if shape.phase == "decode":
        gap = engine.step_gap_s + engine.sequence_gap_s * shape.sequences
        out.add("host", "latency", gap + 0.0 * np.asarray(out.time_s))
        return
    issue = out.kernels * engine.launch_s
    out.add("host", "latency", np.maximum(issue - np.asarray(out.time_s), 0.0) + engine.step_gap_s)
