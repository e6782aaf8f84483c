"""A step before pricing: placement, engine and the operators of all blocks."""

from __future__ import annotations

from dataclasses import dataclass

from supertwin.cost.engine import CostEngine
from supertwin.inference import assumptions
from supertwin.inference.case import Deployment
from supertwin.inference.launch import scheduled
from supertwin.inference.layers import Block, Habits, shard_of
from supertwin.inference.mixed import mixed_blocks
from supertwin.inference.placement import Placement, moe, place
from supertwin.inference.shape import Shape
from supertwin.machine.chip import Chip
from supertwin.machine.system import System
from supertwin.model.spec import ModelSpec

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


def plan_of(model: ModelSpec, system: System, deployment: Deployment, shape: Shape) -> Plan:
    placement = place(deployment)
    engine = assumptions.engine(deployment.framework, system.chip)
    if shape.phase == "decode":
        engine = scheduled(engine, model, deployment)
    shard = shard_of(model, deployment, placement, system.chip, engine)
    mixture = moe(model)
    experts = float(mixture.experts + deployment.redundant_experts) if mixture is not None else 0.0
    habits = Habits(
        joins_keys=system.chip.vendor != "huawei",  # npu_fused_infer_attention_score takes query_rope and key_rope
        routes_in_passes=engine.routes_in_passes and shape.kernels_of == "prefill",
    )
    return Plan(placement, shape, engine, mixed_blocks(model, deployment, placement, shape, shard, habits), experts)
