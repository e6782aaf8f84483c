"""All operators of a case through the cost engine in one call, and back to blocks. Repeated shapes are remembered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from supertwin.cost.engine import CostEngine
from supertwin.cost.result import OperatorCost
from supertwin.machine.chip import Chip
from supertwin.model.spec import ModelSpec
from supertwin.training.shape import BlockOperators, Recipe, end_blocks, layer_block
from supertwin.workload.operators import Communication, Operator
from supertwin.workload.shard import Shard, Step

Costs = tuple[OperatorCost | None, ...]
_MOST_KEPT = 128


@dataclass(frozen=True, slots=True)
class PricedBlock:
    """Operators of a block with their costs, in the same order; None for communication."""

    operators: BlockOperators
    forward: Costs
    backward: Costs
    again: Costs


@dataclass(frozen=True, slots=True)
class PricedModel:
    """One priced block per layer kind (order of ModelSpec.layers), then both ends and the MTP module."""

    layers: tuple[PricedBlock, ...]
    embedding: PricedBlock
    head: PricedBlock
    mtp: PricedBlock


_engines: dict[tuple[int, str], tuple[Chip, CostEngine]] = {}
_priced: dict[tuple[object, ...], PricedModel] = {}


def engine_of(chip: Chip, attention: str = "training") -> CostEngine:
    """One engine per chip object and attention library (libraries by name are NVIDIA's)."""
    library = attention if chip.vendor == "nvidia" else "training"
    found = _engines.get((id(chip), library))
    if found is None:
        found = _engines[id(chip), library] = (chip, CostEngine(chip, library))
    return found[1]


_sources: dict[int, tuple[tuple[str, str, str, str], ...]] = {}


def engine_sources(engine: CostEngine) -> tuple[tuple[str, str, str, str], ...]:
    """Calibration that an engine uses, read once."""
    if id(engine) not in _sources:
        _sources[id(engine)] = engine.sources()
    return _sources[id(engine)]


def priced_model(engine: CostEngine, model: ModelSpec, step: Step, shard: Shard, recipe: Recipe) -> PricedModel:
    """Price every block of a model for one microbatch on one device."""
    key = (id(engine), id(model), step, shard, recipe)
    found = _priced.get(key)
    if found is None:
        if len(_priced) >= _MOST_KEPT:
            _priced.clear()
        found = _priced[key] = _price(engine, model, step, shard, recipe)
        _kept[id(model)] = model
    return found


_kept: dict[int, ModelSpec] = {}  # keeps a model alive as long as its id is a key


def _price(engine: CostEngine, model: ModelSpec, step: Step, shard: Shard, recipe: Recipe) -> PricedModel:
    blocks = [layer_block(model, kind, step, shard, recipe) for kind in model.layers]
    blocks += end_blocks(model, step, shard, recipe)
    lists = [ops for block in blocks for ops in (block.forward, block.backward, block.again)]
    flat = [op for ops in lists for op in ops if not isinstance(op, Communication)]
    costs = iter(engine.price(flat))
    split = [_costs(ops, costs) for ops in lists]
    priced = [PricedBlock(block, *split[3 * i : 3 * i + 3]) for i, block in enumerate(blocks)]
    return PricedModel(tuple(priced[:-3]), *priced[-3:])


def _costs(operators: Sequence[Operator], costs: Iterator[OperatorCost]) -> Costs:
    return tuple(None if isinstance(op, Communication) else next(costs) for op in operators)
