"""Data parallelism: what gradients and parameters cost between replicas, and how much of it compute hides.

Replicated or ZeRO-1/2: one reduction of the gradients after (or beside) the last backward and, when optimizer states
are sharded, one gather of the new parameters beside the next forward. Full sharding: two gathers and one
reduce-scatter of every layer per microbatch, prefetched one layer ahead (arXiv 1910.02054, 2304.11277).
"""

from __future__ import annotations

from dataclasses import dataclass

from supertwin.training import assumptions as assume
from supertwin.training.case import TrainingCase
from supertwin.training.check import FULL_SHARDING
from supertwin.training.fabric import Fabric
from supertwin.training.frameworks import Framework


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
    """Communication time of a step, split into what stays visible and what runs beside compute."""

    exposed_s: float = 0.0
    hidden_s: float = 0.0

    def visible_s(self, loss: float) -> float:
        """Exposed time, and the compute time that the hidden part costs at `loss` seconds per second."""
        return self.exposed_s + loss * self.hidden_s

    def __add__(self, other: Exposure) -> Exposure:
        return Exposure(self.exposed_s + other.exposed_s, self.hidden_s + other.hidden_s)


def hide(communication_s: float, window_s: float, pieces: float) -> Exposure:
    """Overlap of `communication_s`, cut into pieces, with a window of compute: the last piece always stays exposed."""
    last = communication_s / max(pieces, 1.0)
    exposed = max(communication_s - window_s, last) if communication_s > 0.0 else 0.0
    return Exposure(exposed, communication_s - exposed)


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
    rounds = {"dp": weights.trained_dense, "edp": weights.trained_experts}
    reduce_s = gather_s = 0.0
    pieces = 0.0
    for axis, parameters in rounds.items():
        reduced = parameters * framework.reduce_bytes
        if case.sharding == "none":
            reduce_s += fabric.time_s("all_reduce", axis, reduced)
        else:
            reduce_s += fabric.time_s("reduce_scatter", axis, reduced)
            gather_s += fabric.time_s("all_gather", axis, parameters * 2.0)
        pieces += reduced / assume.DP_BUCKETS.value
    beside = [flag if case.overlap_dp is None else case.overlap_dp for flag in _habits(framework)]
    return Rounds(reduce_s, gather_s, pieces, (beside[0], beside[1]))


def replica_sync(
    case: TrainingCase, framework: Framework, fabric: Fabric, weights: StageWeights, window: tuple[float, float]
) -> Exposure:
    """What of `replica_rounds` stays exposed.

    window: compute time of one microbatch's forward and backward on this device, s.
    """
    forward_s, backward_s = window
    rounds = replica_rounds(case, framework, fabric, weights)
    beside, pieces = rounds.beside, rounds.pieces
    reduction = hide(rounds.reduce_s, backward_s if beside[0] else 0.0, pieces if beside[0] else 1.0)
    gather = hide(rounds.gather_s, forward_s if beside[1] else 0.0, pieces if beside[1] else 1.0)
    return reduction + gather


def _habits(framework: Framework) -> tuple[bool, bool]:
    return framework.dp_overlap, framework.gather_overlap


def full_shard_rounds(case: TrainingCase, framework: Framework, fabric: Fabric, weights: StageWeights) -> Rounds:
    """Gathers (of one pass) and reduce-scatters of one microbatch under full sharding (zero3, hsdp); expert weights
    stay in their group."""
    units = max(weights.layers, 1.0) * framework.messages_per_layer
    width = 2.0 / units
    gather_s = units * _both(fabric, "all_gather", weights.dense * width, weights.experts * width)
    reduced = framework.reduce_bytes / units
    scatter_s = units * _both(
        fabric, "reduce_scatter", weights.trained_dense * reduced, weights.trained_experts * reduced
    )
    if case.sharding == "hsdp":
        shard = max(case.hsdp_shard_size, 1)
        scatter_s += units * fabric.time_s("all_reduce", "replica", weights.trained_dense * reduced / shard)
    return Rounds(scatter_s, gather_s, units)


def full_shard_sync(
    case: TrainingCase, framework: Framework, fabric: Fabric, weights: StageWeights, window: tuple[float, float]
) -> tuple[Exposure, Exposure]:
    """(forward, backward) exposure of `full_shard_rounds` in one microbatch."""
    forward_s, backward_s = window
    rounds = full_shard_rounds(case, framework, fabric, weights)
    gather_s, units = rounds.gather_s, rounds.pieces
    return hide(gather_s, forward_s, units), hide(gather_s + rounds.reduce_s, backward_s, units)


def _both(fabric: Fabric, op: str, dense_bytes: float, expert_bytes: float) -> float:
    return fabric.time_s(op, "shard", dense_bytes) + fabric.time_s(op, "edp", expert_bytes)


def is_fully_sharded(case: TrainingCase) -> bool:
    """Whether parameters themselves are spread over the replicas."""
    return case.sharding in FULL_SHARDING
