"""Data parallelism: what gradients and parameters cost between replicas, and how much of it compute hides.

Traffic per device and step in units of the weights' bytes Psi (arXiv 1910.02054, section 7; (n - 1)/n left out):

    none     all-reduce 2                       zero1  reduce-scatter 1 + gather 1
    zero2    reduce-scatter m + gather 1        zero3, hsdp  m (gather 1 + gather 1 + reduce-scatter 1)

with m microbatches: sharded gradients are reduced in every microbatch (DeepSpeed runtime/engine.py reduces at each
micro step from stage 2 on), others once. zero3 without reshard after forward gathers once per microbatch. Reductions
go bucket by bucket beside the last backward, the gather of new parameters beside the next forward; full sharding
prefetches layers (arXiv 2304.11277). HSDP adds an all-reduce of the shard over the replicas.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from supertwin.core.formats import number_format
from supertwin.training import assumptions as assume
from supertwin.training.case import TrainingCase
from supertwin.training.check import FULL_SHARDING
from supertwin.training.contention import lost_s
from supertwin.training.fabric import Fabric
from supertwin.training.frameworks import Framework, wire_bytes

BF16_BYTES = 2.0
_PER_PARAMETER = ("torchtitan",)  # stacks on FSDP2


@dataclass(frozen=True, slots=True)
class StageWeights:
    """Trained and stored parameters of one device (after tp, pp and ep), and the layers they are spread over."""

    dense: float
    experts: float
    layers: float
    trained_dense: float
    trained_experts: float


@dataclass(frozen=True, slots=True)
class Exposure:
    """Communication time of a step, split into what stays visible and what runs beside compute.

    beside: (hidden, longer) of each stretch that has a window of compute, s; longer: what exceeds the window.
    """

    exposed_s: float = 0.0
    hidden_s: float = 0.0
    beside: tuple[tuple[float, float], ...] = ()

    def visible_s(self, loss: float) -> float:
        """Exposed time, and the compute time that communication beside it costs at `loss` seconds per second."""
        return self.exposed_s + sum(lost_s(hidden, longer, loss) for hidden, longer in self.beside)

    def __add__(self, other: Exposure) -> Exposure:
        return Exposure(self.exposed_s + other.exposed_s, self.hidden_s + other.hidden_s, (*self.beside, *other.beside))


def hide(communication_s: float, window_s: float, pieces: float) -> Exposure:
    """Overlap of `communication_s`, cut into pieces, with a window of compute: the last piece always stays exposed."""
    last = communication_s / max(pieces, 1.0)
    return _split(communication_s, max(communication_s - window_s, last), last)


def _split(communication_s: float, exposed_s: float, last_s: float) -> Exposure:
    """Communication of which exposed_s stays visible, last_s of that with nothing beside it."""
    hidden = communication_s - exposed_s
    return Exposure(exposed_s, hidden, ((hidden, max(exposed_s - last_s, 0.0)),))


@dataclass(frozen=True, slots=True)
class Rounds:
    """What one device exchanges with its replicas, all in seconds of the collectives alone.

    pieces: messages that each of them is cut into; beside: whether the reduction runs beside backward and the gather
    beside forward.
    """

    reduce_s: float
    gather_s: float
    pieces: float
    beside: tuple[bool, bool] = (True, True)


def replica_rounds(case: TrainingCase, framework: Framework, fabric: Fabric, weights: StageWeights) -> Rounds:
    """Gradient reduction and parameter gather of one step without full sharding."""
    beside = [flag if case.overlap_dp is None else case.overlap_dp for flag in _habits(framework)]
    rounds = {"dp": weights.trained_dense, "edp": weights.trained_experts}
    each = wire_bytes(framework, case.precision)
    reduce_s = gather_s = 0.0
    pieces = 0.0
    for axis, parameters in rounds.items():
        reduced, gathered = parameters * each, parameters * gather_bytes(case)
        number = bucket_number(case, reduced, each) if beside[0] else 1
        op = "all_reduce" if case.sharding == "none" else "reduce_scatter"
        reduce_s += number * fabric.time_s(op, axis, reduced / number)
        gather_s += number * fabric.time_s("all_gather", axis, gathered / number) if op != "all_reduce" else 0.0
        pieces += number if parameters else 0
    return Rounds(reduce_s, gather_s, pieces, (beside[0], beside[1]))


def bucket_number(case: TrainingCase, reduced_bytes: float, element_bytes: float) -> int:
    """Buckets that the gradients are reduced in: of the stated size, or of 40 M elements and at least 1 M per replica
    (Megatron-Core, DistributedDataParallel)."""
    elements = max(assume.DP_BUCKET_ELEMENTS.value, assume.DP_BUCKET_PER_RANK.value * case.layout.dp * case.layout.cp)
    return max(math.ceil(reduced_bytes / (case.bucket_bytes or elements * element_bytes)), 1)


def gather_bytes(case: TrainingCase) -> float:
    """Bytes per weight of gathered parameters."""
    return number_format(case.gather_dtype).bytes_per_element if case.gather_dtype else BF16_BYTES


def replica_sync(
    case: TrainingCase,
    framework: Framework,
    fabric: Fabric,
    weights: StageWeights,
    window: tuple[float, float],
    chunks: tuple[int, float] = (1, 1.0),
) -> Exposure:
    """What of `replica_rounds` stays exposed.

    window: compute time of one microbatch's forward and backward on this device, s; chunks: (chunks of the device,
    microbatches of compute from the first gradients that are complete to the last ones, likewise for parameters).
    """
    forward_s, backward_s = window
    rounds = replica_rounds(case, framework, fabric, weights)
    beside, pieces = rounds.beside, rounds.pieces
    reduction = _hide_chunks(rounds.reduce_s, backward_s, pieces, chunks) if beside[0] else Exposure(rounds.reduce_s)
    gather = _hide_chunks(rounds.gather_s, forward_s, pieces, chunks) if beside[1] else Exposure(rounds.gather_s)
    if case.sharding != "zero2":
        return reduction + gather
    before = case.global_batch // (case.micro_batch * case.layout.dp) - 1
    room = forward_s + backward_s if beside[0] else 0.0
    early = max(rounds.reduce_s - room, 0.0)
    return reduction + gather + _split(before * rounds.reduce_s, before * early, 0.0)


def _hide_chunks(communication_s: float, window_s: float, pieces: float, chunks: tuple[int, float]) -> Exposure:
    """`hide` for a device whose chunks are complete one after the other: all of it behind all the compute between, and
    the share of the last chunk behind that chunk alone."""
    number, laps = chunks
    exposed = hide(communication_s, laps * window_s, pieces).exposed_s
    exposed = max(exposed, (communication_s - window_s) / number)
    return _split(communication_s, exposed, communication_s / max(pieces, 1.0))


def _habits(framework: Framework) -> tuple[bool, bool]:
    return framework.dp_overlap, framework.gather_overlap


def full_shard_rounds(case: TrainingCase, framework: Framework, fabric: Fabric, weights: StageWeights) -> Rounds:
    """Gathers (of one pass) and reduce-scatters of one microbatch under full sharding (zero3, hsdp); expert weights
    stay in the group of their replicas."""
    units = max(weights.layers, 1.0) * framework.messages_per_layer
    padded = padding(case, framework, fabric.group("shard").size)
    width = gather_bytes(case) * padded / units
    gather_s = units * _both(fabric, "all_gather", weights.dense * width, weights.experts * width)
    reduced = wire_bytes(framework, case.precision) * padded / units
    scatter_s = units * _both(
        fabric, "reduce_scatter", weights.trained_dense * reduced, weights.trained_experts * reduced
    )
    if case.sharding == "hsdp":
        shard, expert_shard = (fabric.group(axis).size for axis in ("shard", "expert_shard"))
        scatter_s += units * fabric.time_s("all_reduce", "replica", weights.trained_dense * reduced / shard)
        scatter_s += units * fabric.time_s(
            "all_reduce", "expert_replica", weights.trained_experts * reduced / expert_shard
        )
    return Rounds(scatter_s, gather_s, units)


def per_parameter(case: TrainingCase, framework: Framework) -> bool:
    """Whether full sharding cuts each parameter along its first dimension (FSDP2) instead of one flat tensor."""
    return framework.name in _PER_PARAMETER if case.flat_parameters is None else not case.flat_parameters


def padding(case: TrainingCase, framework: Framework, ranks: int) -> float:
    """Padded over real rows of a sharded weight: the first dimension is filled up to a multiple of the ranks (a flat
    tensor by less than one value per rank)."""
    rows = case.model.hidden
    return math.ceil(rows / ranks) * ranks / rows if per_parameter(case, framework) else 1.0


def copied_bytes(case: TrainingCase, framework: Framework, weights: StageWeights) -> tuple[float, float]:
    """(forward, backward) memory traffic per microbatch of copies between parameters and the flat buffers of the
    collectives: gathered weights out of the buffer, gradients into it (torch fully_shard, _fsdp_collectives.py:
    split_with_sizes_copy, chunk_cat). Flat parameters are views and need none."""
    if not per_parameter(case, framework):
        return 0.0, 0.0
    gathered = 2.0 * gather_bytes(case) * (weights.dense + weights.experts)
    gradients = (BF16_BYTES + wire_bytes(framework, case.precision)) * (weights.trained_dense + weights.trained_experts)
    return gathered, (gathered if case.reshard else 0.0) + gradients


def full_shard_sync(
    case: TrainingCase, framework: Framework, fabric: Fabric, weights: StageWeights, window: tuple[float, float]
) -> tuple[Exposure, Exposure]:
    """(forward, backward) exposure of `full_shard_rounds` in one microbatch."""
    forward_s, backward_s = window
    rounds = full_shard_rounds(case, framework, fabric, weights)
    again_s = rounds.gather_s if case.reshard else 0.0
    if not case.prefetch:
        return Exposure(rounds.gather_s), Exposure(again_s) + hide(rounds.reduce_s, backward_s, rounds.pieces)
    units, waits = rounds.pieces, framework.loop_waits
    first, last = rounds.gather_s * waits, (again_s + rounds.reduce_s) * waits
    before = hide(rounds.gather_s - first, forward_s, units)
    return before + Exposure(first), hide(again_s + rounds.reduce_s - last, backward_s, units) + Exposure(last)


def _both(fabric: Fabric, op: str, dense_bytes: float, expert_bytes: float) -> float:
    return fabric.time_s(op, "shard", dense_bytes) + fabric.time_s(op, "expert_shard", expert_bytes)


def is_fully_sharded(case: TrainingCase) -> bool:
    """Whether parameters themselves are spread over the replicas."""
    return case.sharding in FULL_SHARDING
