"""From operators to seconds: one microbatch of one block, with what its own compute hides of its communication."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from supertwin.cost.result import OperatorCost
from supertwin.machine.chip import Chip
from supertwin.training import assumptions as assume
from supertwin.training.contention import brief_loss, collective_loss, lost_s, reserved_loss
from supertwin.training.fabric import Fabric
from supertwin.training.frameworks import Framework
from supertwin.workload.operators import Attention, Communication, Gemm, Operator, Vector

PARTS = (
    "compute/attention",
    "compute/mlp",
    "compute/moe",
    "compute/norm",
    "compute/head",
    "communication/tp",
    "communication/cp",
    "communication/ep",
)
_INDEX = {part: index for index, part in enumerate(PARTS)}
_TP, _CP, _EP = (_INDEX[f"communication/{axis}"] for axis in ("tp", "cp", "ep"))
_HOME = {
    "attention": "compute/attention",
    "mlp": "compute/mlp",
    "moe": "compute/moe",
    "norm": "compute/norm",
    "head": "compute/head",
    "embedding": "compute/head",
    "join": "compute/mlp",
}
_AXIS = {
    "tp": "communication/tp",
    "etp": "communication/tp",
    "cp": "communication/cp",
    "cp_inner": "communication/cp",
    "cp_outer": "communication/cp",
    "ep": "communication/ep",
}


@dataclass(frozen=True, slots=True)
class Phase:
    """One pass of one microbatch through a block. times: exposed seconds by PARTS; hidden: communication that compute
    hides, likewise; kernels, calls: launches of compute kernels and of collectives; wgrad_s: weight-gradient products;
    flop: matrix arithmetic (causal attention halved); moved_bytes: HBM traffic."""

    times: list[float]
    hidden: list[float]
    kernels: float = 0.0
    calls: float = 0.0
    wgrad_s: float = 0.0
    flop: float = 0.0
    moved_bytes: float = 0.0


@dataclass(frozen=True, slots=True)
class Overlap:
    """What this job hides inside a block: share of TP time, backward TP behind weight gradients, ring steps behind
    attention, expert traffic behind the other microbatch. skew scales expert work and traffic of the busiest device;
    loss is the compute time that each second of a hidden collective costs, brief that of one that is shorter than the
    product beside it, reserved that of kernels to which products leave SM (dispatch, user buffers); dispatched: expert
    traffic by such kernels; beside the rate of communication that runs
    beside compute over its rate alone; vector_passes, attention_passes,
    permute_passes, norm_passes, rotary_passes, activation_passes see Framework."""

    tp_share: float
    tp_backward: bool
    ring: bool
    ep: bool
    skew: float
    loss: float
    brief: float = 0.0
    reserved: float = 0.0
    dispatched: bool = False
    vector_passes: float = 1.0
    attention_passes: float = 1.0
    permute_passes: float = 1.0
    norm_passes: float = 1.0
    rotary_passes: float = 1.0
    activation_passes: float = 1.0
    beside: float = 1.0

    @property
    def expert_loss(self) -> float:
        """Compute time that each second of hidden expert traffic costs."""
        return self.reserved if self.dispatched else self.loss

    @property
    def tensor_loss(self) -> float:
        """Compute time that each second of hidden tensor-parallel collectives costs; stacks that overlap them forward
        do so by user buffers, backward too (Transformer Engine, ub_bulk_dgrad and ub_bulk_wgrad)."""
        return self.reserved if self.tp_share else self.brief


def overlap_of(
    framework: Framework, flags: tuple[bool | None, bool | None], ring: bool, skew: float, chip: Chip
) -> Overlap:
    """Overlap of a job: flags = (overlap_tp, overlap_ep) of the case, None for the framework's habit."""
    tp = framework.tp_overlap if flags[0] is None else flags[0]
    ep = framework.ep_overlap if flags[1] is None else flags[1]
    return Overlap(
        assume.TP_OVERLAP_SHARE.value if tp else 0.0,
        framework.tp_backward_overlap,
        ring,
        ep,
        skew,
        collective_loss(chip),
        brief_loss(chip),
        reserved_loss(chip),
        False,
        framework.vector_passes,
        framework.attention_passes,
        framework.permute_passes,
        framework.norm_passes,
        framework.rotary_passes,
        framework.activation_passes,
        assume.MESH_CONTENTION.value if chip.vendor == "huawei" else 1.0,
    )


@dataclass(slots=True)
class _Sums:
    """Raw sums over the operators of one pass. times: seconds by PARTS."""

    times: list[float]
    core_s: float = 0.0
    dgrad_s: float = 0.0
    wgrad_s: float = 0.0
    again_s: float = 0.0  # gathers repeated for the weight gradient
    beside_s: float = 0.0  # reductions of input gradients
    ring_s: float = 0.0  # turns of keys and values
    kernels: float = 0.0
    calls: float = 0.0
    flop: float = 0.0
    moved_bytes: float = 0.0


def phase(
    operators: Sequence[Operator], costs: Sequence[OperatorCost | None], fabric: Fabric, overlap: Overlap
) -> Phase:
    """Sum one pass; costs[i] is None for communication, which the fabric prices."""
    sums = _Sums([0.0] * len(PARTS))
    for operator, cost in zip(operators, costs, strict=True):
        if cost is None:
            assert isinstance(operator, Communication)
            _add_call(sums, operator, fabric, overlap)
        else:
            _add_kernel(sums, operator, cost, overlap)
    return _hide(sums, overlap)


@lru_cache(maxsize=1024)
def home(part: str) -> str:
    """Breakdown row of a compute operator."""
    head, _, rest = part.partition("/")
    return _HOME[rest.partition("/")[0] if head == "mtp" else head]


def _add_kernel(sums: _Sums, operator: Operator, cost: OperatorCost, overlap: Overlap) -> None:
    place = home(operator.part)
    count = float(operator.count)
    seconds = float(cost.time_s) * count
    sums.moved_bytes += float(cost.bytes) * count
    sums.kernels += count
    if isinstance(operator, Vector):
        seconds *= _passes(operator.op, overlap) * (1.0 if place == "compute/head" else overlap.vector_passes)
        sums.kernels -= count * operator.fused
    elif isinstance(operator, Attention):
        seconds *= overlap.attention_passes
    elif isinstance(operator, Gemm) and not _aligned(operator):
        seconds *= assume.UNALIGNED_PRODUCT.value
    if place == "compute/moe" and "shared" not in operator.part:
        seconds *= overlap.skew
    sums.times[_INDEX[place]] += seconds
    if isinstance(operator, Gemm):
        if operator.direction == "wgrad":
            sums.wgrad_s += seconds
        elif operator.direction == "dgrad":
            sums.dgrad_s += seconds
        sums.flop += float(cost.flop) * count
    elif isinstance(operator, Attention):
        sums.core_s += seconds
        sums.flop += float(cost.flop) * count


def _passes(op: str, overlap: Overlap) -> float:
    if op == "permute":
        return overlap.permute_passes
    if op == "norm":
        return overlap.norm_passes
    if op == "rope":
        return overlap.rotary_passes
    return overlap.activation_passes if op == "activation" else 1.0


def _aligned(operator: Gemm) -> bool:
    """Whether the rows of a batched product over heads start at multiples of 16 bytes."""
    return "attention/core" not in operator.part or not (float(operator.n) % 8 or float(operator.k) % 8)


def _add_call(sums: _Sums, operator: Communication, fabric: Fabric, overlap: Overlap) -> None:
    seconds = fabric.operator_time_s(operator) * float(operator.count)
    sums.calls += float(operator.count)
    if operator.part.endswith("_again"):
        sums.again_s += seconds
        return
    if operator.axis == "ep":
        seconds *= overlap.skew
    sums.times[_INDEX[_AXIS[operator.axis]]] += seconds
    if operator.op == "p2p" and operator.axis in ("cp", "cp_outer"):
        sums.ring_s += seconds
    if operator.axis == "tp" and operator.op in ("reduce_scatter", "all_reduce"):
        sums.beside_s += seconds


def _hide(sums: _Sums, overlap: Overlap) -> Phase:
    """Take from the communication what runs beside compute, and charge the compute that it slows down."""
    times, hidden, longer = sums.times, [0.0] * len(PARTS), [0.0] * len(PARTS)
    tp, cp, ep = _TP, _CP, _EP
    if overlap.tp_backward and sums.wgrad_s > 0.0:
        # the column-cut half of the matrices (qkv, up) has its reduction beside its own weight gradient
        hidden[tp] += min(sums.beside_s, 0.5 * overlap.beside * sums.wgrad_s)
        times[tp] += sums.again_s
        hidden[tp] += min(sums.again_s, 0.5 * overlap.beside * sums.dgrad_s)
    else:
        times[tp] += sums.again_s
    hidden[tp] += overlap.tp_share * (times[tp] - hidden[tp])
    if overlap.ring:
        hidden[cp] = min(sums.ring_s, overlap.beside * sums.core_s)
        longer[cp] = sums.ring_s - hidden[cp]
    if overlap.ep:
        hidden[ep] = min(times[ep], sum(times[:tp]))
        longer[ep] = times[ep] - hidden[ep]
    loss = {tp: overlap.tensor_loss, cp: overlap.loss, ep: overlap.expert_loss}
    for axis, lost in loss.items():
        times[axis] += lost_s(hidden[axis], longer[axis], lost) - hidden[axis]
    return Phase(times, hidden, sums.kernels, sums.calls, sums.wgrad_s, sums.flop, sums.moved_bytes)
