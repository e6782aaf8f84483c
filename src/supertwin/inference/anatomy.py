"""A step laid open: every operator of every block with its time, and what blocks alone would take.

The same pricing as `step`, with its inputs kept: what waterfall, roofline, lanes and what-if read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from supertwin.core.errors import InputError
from supertwin.inference.case import InferenceCase
from supertwin.inference.layers import Block
from supertwin.inference.piece import Piece
from supertwin.inference.pieces import pieces_of
from supertwin.inference.plan import Plan, engine_of, plan_of
from supertwin.inference.predict import prepared, shape_of
from supertwin.inference.step import added_up, assembled
from supertwin.inference.times import StepTimes, scalar
from supertwin.model.spec import LayerSpec, ModelSpec
from supertwin.workload.operators import Communication, Operator

EMBEDDING, HEAD, DRAFT = "embedding", "head and sampling", "draft"
_KINDS = {"gqa": "attention", "mla": "latent attention", "linear": "linear attention", "mamba": "Mamba"}


@dataclass(frozen=True, slots=True)
class Opened:
    """One block: what it is, and its operators with their times (of one micro-batch)."""

    name: str
    block: Block
    pieces: tuple[Piece, ...]

    @property
    def operators(self) -> list[tuple[Operator, Piece]]:
        """Each operator with its piece."""
        return list(zip(self.block.operators, self.pieces, strict=True))


@dataclass(frozen=True, slots=True)
class Anatomy:
    """A step with all that it was added up from. case: with open options filled in."""

    case: InferenceCase
    plan: Plan
    blocks: tuple[Opened, ...]
    times: StepTimes

    @property
    def total_s(self) -> float:
        """Step time."""
        return scalar(self.times.time_s)

    def alone(self, keep: Callable[[Opened], bool] = lambda _: True) -> StepTimes:
        """The blocks that `keep` names, without hand-overs, waits and host."""
        kept = [opened for opened in self.blocks if keep(opened)]
        plan = replace(self.plan, blocks=tuple(opened.block for opened in kept))
        return added_up(plan, [list(opened.pieces) for opened in kept], self.case.system)


def is_draft(opened: Opened) -> bool:
    """Whether a block is a draft pass."""
    return opened.name == DRAFT


def anatomy(case: InferenceCase) -> Anatomy:
    """One legal case. Raises InputError."""
    return anatomies([prepared(case)])[0]


def anatomies(cases: Sequence[InferenceCase]) -> list[Anatomy]:
    """Several prepared cases of one model and machine, priced in one call of the cost engine.

    Raises InputError where attention and feed-forward run on devices of their own: that is no sequence of blocks.
    """
    if any(case.deployment.afd_instances for case in cases):
        raise InputError("a step with attention and feed-forward on devices of their own is explained by part only")
    model, system = cases[0].model, cases[0].system
    plans = [plan_of(model, system.chip, case.deployment, shape_of(case)) for case in cases]
    compute = [o for p in plans for b in p.blocks for o in b.operators if not isinstance(o, Communication)]
    costs = iter(engine_of(system.chip, cases[0].deployment).price(compute))
    found = []
    for case, plan in zip(cases, plans, strict=True):
        pieces = [pieces_of(block, plan, system, costs) for block in plan.blocks]
        opened = tuple(
            Opened(name, block, tuple(own))
            for name, block, own in zip(_names(model, plan), plan.blocks, pieces, strict=True)
        )
        found.append(Anatomy(case, plan, opened, assembled(plan, pieces, model, system)))
    return found


def _names(model: ModelSpec, plan: Plan) -> list[str]:
    """Blocks in words: embedding, each kind of layer, head, drafts."""
    names, layers = [], iter(model.layers)
    for block in plan.blocks:
        if block.layer:
            joined = [_layer_name(next(layers)) for _ in range(2 if block.pair else 1)]
            names.append(", then ".join(joined))
        elif block.operators and block.operators[0].part.startswith("mtp"):
            names.append(DRAFT)
        else:
            names.append(EMBEDDING if not names else HEAD)
    return names


def _layer_name(layer: LayerSpec) -> str:
    a, f = layer.attention, layer.feed_forward
    words = []
    if a is not None:
        reach = "sliding " if a.window else "chunked " if a.chunk else "sparse " if a.index_topk else ""
        words.append(reach + _KINDS.get(a.kind, a.kind))
    if f is not None:
        words.append("experts" if f.experts else "dense")
    if layer.shortcut is not None:
        words.append("shortcut experts")
    return " + ".join(words)
