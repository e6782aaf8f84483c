"""Steps of a deployment that was seen before: its operators are the same list, only their sizes are other numbers.

The second time that numbers are asked of a deployment, its operators are made once more with traced sizes (tape.py).
From then on a step replays that arithmetic and fills the sizes into a list that the cost engine has prepared. Where a
comparison comes out otherwise (a context beyond a window), another recording is made.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import Any

import numpy as np

from supertwin.cost.engine import CostEngine
from supertwin.cost.gemm import is_head
from supertwin.cost.prepared import Prepared
from supertwin.cost.result import OperatorCost
from supertwin.cost.stack import GET_SIZES, loop_class
from supertwin.inference.afd_step import AfdPlan, afd_plan
from supertwin.inference.case import Deployment
from supertwin.inference.layers import Block
from supertwin.inference.plan import Plan, engine_of, plan_of
from supertwin.inference.shape import Shape
from supertwin.inference.tape import Replay, Tape, Traced, Unrecorded
from supertwin.machine.chip import Chip
from supertwin.machine.system import System
from supertwin.model.spec import ModelSpec
from supertwin.workload.operators import Attention, Communication, Gemm, Operator, changed

Asked = Sequence[tuple[Deployment, Shape]]
AnyPlan = Plan | AfdPlan
Priced = tuple[list[AnyPlan], list[OperatorCost]]
MOST = 128
"""Lists of deployments that are kept, and recordings of each."""
MOST_WAYS = 8
_NUMBERS = tuple(f.name for f in fields(Shape) if f.type == "Real")
_GET_NUMBERS = attrgetter(*_NUMBERS)
_GET_FORM = attrgetter(*(f.name for f in fields(Shape) if f.type != "Real" and f.name != "chunk"))
_GET_SETTINGS = attrgetter(*(f.name for f in fields(Deployment) if f.name != "mtp_acceptance"))


@dataclass(frozen=True, slots=True)
class Outline:
    """A block without its sizes. exchanges: places of the traced fields of its communication operators, by their place
    in the block; skew: place of a traced one."""

    block: Block
    exchanges: Mapping[int, Mapping[str, int]]
    skew: int | None

    def filled(self, values: Sequence[float]) -> Block:
        """The block with exchanges and skew of a step; its other operators keep the sizes of the recording."""
        if not self.exchanges and self.skew is None:
            return self.block
        operators = list(self.block.operators)
        for at, places in self.exchanges.items():
            operators[at] = changed(operators[at], **{name: values[place] for name, place in places.items()})
        skew = self.block.skew if self.skew is None else values[self.skew]
        return Block(tuple(operators), *_GET_REST(self.block), skew, self.block.pair)


_GET_REST = attrgetter("count", "layer", "microbatches", "shortcut")


@dataclass(frozen=True, slots=True)
class Recording:
    """Plans of a list of deployments without their sizes."""

    replay: Replay
    plans: tuple[AnyPlan, ...]
    outlines: tuple[tuple[Outline, ...], ...]
    numbers: tuple[tuple[int, ...], ...]
    prepared: Prepared

    def priced(self, shapes: Sequence[Shape], inputs: Sequence[float]) -> Priced | None:
        """Plans of a step and the costs of their operators; None where the recording does not hold."""
        values = self.replay.values(inputs)
        if values is None:
            return None
        plans = [
            p.refilled(shape, tuple(o.filled(values) for o in own), tuple(values[i] for i in more))
            for p, shape, own, more in zip(self.plans, shapes, self.outlines, self.numbers, strict=True)
        ]
        return plans, self.prepared.costs(np.array(values))


@dataclass(slots=True)
class _Known:
    """What is known of a list of deployments on a machine. usable: False where its sizes cannot be traced."""

    model: ModelSpec
    engine: CostEngine
    ways: list[Recording] = field(default_factory=list)
    usable: bool = True


_known: OrderedDict[tuple[Any, ...], _Known] = OrderedDict()


def forget() -> None:
    """Drop all recordings."""
    _known.clear()


def planned(model: ModelSpec, chip: Chip, asked: Asked) -> list[AnyPlan]:
    """Steps before pricing."""
    return [(afd_plan if d.afd_instances else plan_of)(model, chip, d, shape) for d, shape in asked]


def priced(model: ModelSpec, system: System, asked: Asked) -> tuple[list[AnyPlan], Iterator[OperatorCost]]:
    """Plans of some steps of one model and the costs of their operators, in order. Compute operators of the plans may
    have the sizes of another step: the costs have the right ones."""
    compared = _priced_again(model, system, asked)
    if compared is not None:
        return compared[0], iter(compared[1])
    plans = planned(model, system.chip, asked)
    costs = engine_of(system.chip, asked[0][0]).price(compute_of(plans))
    return plans, iter(costs)


def compute_of(plans: Sequence[AnyPlan]) -> list[Operator]:
    """Operators of all plans that the cost engine prices."""
    return [o for p in plans for b in p.blocks for o in b.operators if not isinstance(o, Communication)]


def _priced_again(model: ModelSpec, system: System, asked: Asked) -> Priced | None:
    inputs = [x for _, shape in asked for x in _numbers(shape)]
    if not all(isinstance(x, float) for x in inputs) or any(shape.beside is not None for _, shape in asked):
        return None
    inputs = [float(x) for x in inputs]
    engine = engine_of(system.chip, asked[0][0])
    key = (id(model), id(engine), *((_GET_SETTINGS(d), _form(shape)) for d, shape in asked))
    found = _known.get(key)
    if found is None or found.model is not model or found.engine is not engine:
        _known[key] = _Known(model, engine)
        if len(_known) > MOST:
            _known.popitem(last=False)
        return None
    _known.move_to_end(key)
    shapes = [shape for _, shape in asked]
    for way in found.ways:
        done = way.priced(shapes, inputs)
        if done is not None:
            return done
    if found.usable and len(found.ways) < MOST_WAYS:
        try:
            found.ways.append(record(model, asked, engine))
        except (Unrecorded, TypeError, AttributeError):
            found.usable = False
            return None
        return found.ways[-1].priced(shapes, inputs)
    return None


def _numbers(shape: Shape) -> tuple[Any, ...]:
    own: tuple[Any, ...] = _GET_NUMBERS(shape)
    return own if shape.chunk is None else own + _numbers(shape.chunk)


def _form(shape: Shape) -> tuple[Any, ...]:
    """What is no number in a shape."""
    own: tuple[Any, ...] = _GET_FORM(shape)
    return own if shape.chunk is None else (*own, _form(shape.chunk))


def record(model: ModelSpec, asked: Asked, engine: CostEngine) -> Recording:
    """Plans of some steps whose sizes are numbers, with what to do to get them for other numbers.

    Raises Unrecorded, TypeError or AttributeError where a size goes through something that cannot be traced.
    """
    tape = Tape()
    # acceptance of drafts has no part in a step's operators; what would read it gets no number
    plain = [(replace(d, mtp_acceptance=float("nan")), _traced(tape, shape)) for d, shape in asked]
    traced = planned(model, engine.chip, plain)
    compute = compute_of(traced)
    for o in compute:
        _guard_class(o)
    places = [tuple(tape.place(x) for x in GET_SIZES[type(o)](o)) for o in compute]
    blocks = [[_outlined(tape, b) for b in p.blocks] for p in traced]
    outer = [x for own in blocks for _, exchanges, skew in own for x in (*_all(exchanges), *_some(skew))]
    numbers = [[tape.place(x) for x in p.numbers] for p in traced]
    replay, at = tape.cut([x for row in (*places, *numbers, outer) for x in row])
    outlines = [
        tuple(
            Outline(b, {i: {n: at[x] for n, x in own.items()} for i, own in ex.items()}, None if s is None else at[s])
            for b, ex, s in own_blocks
        )
        for own_blocks in blocks
    ]
    concrete = [_concrete(tape, o) for o in compute]
    prepared = engine.prepare(concrete, [tuple(at[x] for x in row) for row in places])
    others = tuple(tuple(at[x] for x in row) for row in numbers)
    plans = tuple(
        p.refilled(shape, tuple(b for b, _, _ in own), tuple(tape.values[x] for x in row))
        for p, own, row, (_, shape) in zip(traced, blocks, numbers, asked, strict=True)
    )
    return Recording(replay, plans, tuple(outlines), others, prepared)


def _all(exchanges: Mapping[int, Mapping[str, int]]) -> Iterator[int]:
    return (place for own in exchanges.values() for place in own.values())


def _some(place: int | None) -> tuple[int, ...]:
    return () if place is None else (place,)


def _traced(tape: Tape, shape: Shape) -> Shape:
    own: Any = dict(zip(_NUMBERS, map(tape.entry, _GET_NUMBERS(shape)), strict=True))
    chunk = None if shape.chunk is None else _traced(tape, shape.chunk)
    return replace(shape, chunk=chunk, **own)


def _guard_class(o: Operator) -> None:
    """What the cost engine sorts operators by is noted as compared; head sizes must not be traced."""
    count: object = o.count
    if type(count) is Traced:
        raise Unrecorded("a traced count of an operator")
    if isinstance(o, Gemm):
        loop_class(o.groups)
        bool(is_head(o.n, o.k))
    sizes: tuple[object, ...] = (o.qk_head_dim, o.v_head_dim) if isinstance(o, Attention) else ()
    if any(type(x) is Traced for x in sizes):
        raise Unrecorded("a traced head size")


def _outlined(tape: Tape, block: Block) -> tuple[Block, dict[int, dict[str, int]], int | None]:
    """The block with the numbers of the recording, and the places of what else its exchanges and skew may be."""
    exchanges = {
        i: {f.name: x.place for f in fields(o) if type(x := getattr(o, f.name)) is Traced}
        for i, o in enumerate(block.operators)
        if isinstance(o, Communication)
    }
    skew: Any = block.skew
    place = skew.place if type(skew) is Traced else None
    value = skew if place is None else tape.values[place]
    concrete = tuple(_concrete(tape, o) for o in block.operators)
    return replace(block, operators=concrete, skew=value), {i: own for i, own in exchanges.items() if own}, place


def _concrete(tape: Tape, o: Operator) -> Operator:
    """The operator with the numbers of the recording."""
    return changed(o, **{f.name: tape.values[x.place] for f in fields(o) if type(x := getattr(o, f.name)) is Traced})
