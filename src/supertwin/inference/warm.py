"""Kernels of Ascend decode that find a part of their work done: weights moved ahead into L2, starts inside one kernel.

Weight prefetch (npu_prefetch; cann-recipes-infer, docs/cann/en/prefetch_principles.md): a copy engine moves the weights
of a product into L2 while operators run that leave the memory alone. It starts when the product before has ended or,
where that one reads L2 itself, has begun; what the window is too short for is read by the product as before.

SuperKernel (docs/cann/en/super_kernel.md there): kernels that follow each other are compiled into one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from supertwin.core.formats import number_format
from supertwin.cost.result import OperatorCost
from supertwin.inference.layers import Block
from supertwin.inference.overlap import MOST_DRAWN, joined
from supertwin.inference.piece import Piece, bound_of
from supertwin.inference.prolog import PRODUCTS
from supertwin.machine.chip import Chip
from supertwin.workload.operators import ExpertMlp, Gemm, Operator, Real
from supertwin.workload.shard import maximum, minimum

STREAMED = 0.9
"""Share of the memory rate at which weights are moved ahead, as BF16 products of the 910C read theirs (0.90;
data/calibration, gemm.json). What a product saves is counted at the rates of the data sheet."""

PROLOG_FROM_L2 = 0.49
"""Share of the L2 rate at which MLAProlog takes weights that lie there: LongCat-Flash's 63 of 71 MB in 37 us of its 45
(kernels.csv, all cores; sizes of the calls in its modeling_longcat_flash.py: 18, 36 and 7 MB)."""

JOINT_S = 1.48e-6
"""What a kernel inside a SuperKernel takes less than behind another one: 194.6 us of 20 kernels become 172.4 in five
SuperKernels of four, 15 joints (cann/graph-autofusion, super_kernel/examples/super_kernel_profiling, Atlas A3; gaps
between kernels are in neither)."""

TARGETS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "cann-recipes": MappingProxyType(
            dict.fromkeys(("attention/down", "attention/q", "mlp/up", "mlp/down", "moe/router"), 1.0)
        ),
        "": MappingProxyType(
            {**dict.fromkeys(("attention/qkv", "attention/out", "mlp/up", "mlp/down"), 1.0), "moe/experts": 0.8 * 2 / 3}
        ),
    }
)
"""Share of a part's weights that is moved ahead, by engine: npu_prefetch in LongCat-Flash of cann-recipes-infer; else
the default prefetch_ratio of vLLM-Ascend (weight_prefetch_config: qkv, o, gate_up and down 1, experts' gate_up 0.8)."""


_ROUTER = "moe/router"


def targets_of(engine: str) -> Mapping[str, float]:
    """Weights that an engine moves ahead when told to."""
    return TARGETS.get(engine, TARGETS[""])


def in_super_kernel(operators: Sequence[Operator], pieces: Sequence[Piece], pair: bool) -> list[Piece]:
    """Kernels of a layer that follow another one on their stream with no exchange between, without the time of a
    joint. pair: experts run on a stream of their own."""
    out: list[Piece] = []
    follows = {False: False, True: False}
    for o, p in zip(operators, pieces, strict=True):
        stream = pair and o.part.startswith("moe")
        if p.cost is None:
            follows[stream] = False
            out.append(p)
            continue
        inner = 2.0 if isinstance(o, ExpertMlp) else float(isinstance(o, Gemm) and o.quantize_input)
        joints = inner + follows[stream]
        out.append(_without_joints(p, p.cost, joints) if joints else p)
        follows[stream] = True
    return out


def _without_joints(p: Piece, cost: OperatorCost, joints: float) -> Piece:
    less = minimum(joints * JOINT_S, cost.overhead_s)
    _, time, compute, memory, start, flop, size = cost
    shorter = OperatorCost(cost.operator, time - less, compute, memory, start - less, flop, size)
    return Piece(p.part, p.stage, p.time_s - less * p.count, p.bound, shorter, p.count, p.outward, p.spread)


def prefetched(
    block: Block, pieces: Sequence[Piece], chip: Chip, targets: Mapping[str, float], prolog: bool
) -> list[Piece]:
    """Pieces of a layer with the weights of `targets` in L2 as far as what runs before them leaves the memory time for
    it. prolog: what precedes the core of latent attention is one kernel.

    The window of its first product begins in the layer before: behind the last product that reads its weights itself.
    Shortcut experts (a pair) run on a stream of their own after the first attention and draw on the memory; their
    router is asked for before.
    """
    operators = block.operators
    walk = _Walk(chip, targets, prolog, _drawn(operators, pieces) if block.pair else 0.0)
    order = [i for i, o in enumerate(operators) if not (block.pair and o.part.startswith("moe"))]
    cold = [at for at, i in enumerate(order) if walk.resets(operators[i])]
    walk.alone = not block.pair
    for i in order[cold[-1] :] if cold else order:
        walk.passed(operators[i], pieces[i])
    walk.alone = True
    out = list(pieces)
    for i in order:
        out[i] = walk.passed(operators[i], pieces[i])
        if walk.alone and operators[i].part == "norm/mlp":
            walk.alone = not block.pair
            if block.pair:
                router = next(j for j, o in enumerate(operators) if o.part == _ROUTER)
                out[router] = walk.product(operators[router], pieces[router])
    return out


@dataclass(slots=True)
class _Walk:
    """One way through the operators of a layer. drawn: share of the memory that another stream takes, but while this
    one runs alone; idle_s: memory time that is left since the last product that reads its weights itself."""

    chip: Chip
    targets: Mapping[str, float]
    prolog: bool
    drawn: Real
    alone: bool = True
    idle_s: Real = 0.0

    def resets(self, o: Operator) -> bool:
        """Whether it is a product that reads its weights itself."""
        return isinstance(o, (Gemm, ExpertMlp)) and o.part not in self.targets

    def passed(self, o: Operator, p: Piece) -> Piece:
        """The operator as it runs."""
        if self.resets(o):
            self.idle_s = 0.0
            return p
        out = self.product(o, p)
        unused = out.time_s if out.cost is None else maximum(out.time_s - out.cost.memory_s * out.count, 0.0)
        most = self.chip.l2_bytes / (STREAMED * self.chip.memory_bytes_per_s)
        self.idle_s = minimum(self.idle_s + (1.0 if self.alone else 1.0 - self.drawn) * unused, most)
        return out

    def product(self, o: Operator, p: Piece) -> Piece:
        """A product with what the idle memory moved of its weights before it."""
        share = self.targets.get(o.part, 0.0)
        if p.cost is None or not share:
            return p
        cost, chip = p.cost, self.chip
        joins = self.prolog and o.part in PRODUCTS
        rate = chip.memory_bytes_per_s
        cached = max(rate, (PROLOG_FROM_L2 if joins else 1.0) * chip.l2_bytes_per_s)
        moved = minimum(minimum(share * _weights(o) / rate, cost.memory_s), STREAMED * self.idle_s / p.count)
        self.idle_s = self.idle_s - moved * p.count / STREAMED
        less = moved * (1.0 - rate / cached)
        both = maximum if joins else joined
        saved = both(cost.compute_s, cost.memory_s) - both(cost.compute_s, cost.memory_s - less)
        memory, time = cost.memory_s - less, p.time_s - saved * p.count
        warm = OperatorCost(
            cost.operator, cost.time_s - saved, cost.compute_s, memory, cost.overhead_s, cost.flop, cost.bytes
        )
        return Piece(p.part, p.stage, time, bound_of(warm), warm, p.count, ahead_s=less * p.count)


def _drawn(operators: Sequence[Operator], pieces: Sequence[Piece]) -> Real:
    """Mean share of the memory that the experts take beside the other stream."""
    beside: Real = 0.0
    traffic: Real = 0.0
    for o, p in zip(operators, pieces, strict=True):
        if not o.part.startswith("moe"):
            beside = beside + p.time_s
        elif p.cost is not None:
            traffic = traffic + p.cost.memory_s * p.count
    return minimum(traffic / maximum(beside, 1e-12), MOST_DRAWN)


def _weights(o: Operator) -> Real:
    """Bytes of the weights of a product."""
    if isinstance(o, Gemm):
        return o.groups * o.n * o.k * number_format(o.weight_dtype or o.dtype).bytes_per_element
    if isinstance(o, ExpertMlp):
        size = number_format(o.weight_dtype or o.dtype).bytes_per_element
        return o.experts * o.hidden * o.inter * (3.0 if o.gated else 2.0) * size
    return 0.0
