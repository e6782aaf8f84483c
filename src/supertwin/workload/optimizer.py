"""The optimizer step: gradient exchange, update, parameter exchange."""

from __future__ import annotations

from dataclasses import dataclass

from supertwin.core.errors import InputError
from supertwin.workload.block import exchange
from supertwin.workload.operators import Operator, Real, Vector

SHARDINGS = ("none", "zero1", "zero2", "zero3", "hsdp")
ADAM_FLOP = 12.0  # per weight: two moments, bias correction, root, update, decay


@dataclass(frozen=True, slots=True)
class StatePolicy:
    """How weights and optimizer states lie. axis: ranks that hold the same weights (dp, or edp for experts) and their
    number `size`; sharding: none, zero1, zero2, zero3, hsdp (arXiv 1910.02054); *_bytes: per weight; Adam keeps a
    master copy and two moments in FP32."""

    sharding: str = "zero1"
    axis: str = "dp"
    size: Real = 1
    gradient_bytes: float = 4.0
    parameter_bytes: float = 2.0
    state_bytes: float = 12.0

    def __post_init__(self) -> None:
        if self.sharding not in SHARDINGS:
            raise InputError(f"sharding is {self.sharding!r}, expected one of {', '.join(SHARDINGS)}")


def gradient_operators(parameters: Real, policy: StatePolicy) -> list[Operator]:
    """Sum of gradients over replicas: all-reduce without sharding, reduce-scatter with."""
    op = "all_reduce" if policy.sharding == "none" else "reduce_scatter"
    return [exchange("optimizer/gradients", op, policy.axis, parameters * policy.gradient_bytes, policy.size)]


def gather_operators(parameters: Real, policy: StatePolicy) -> list[Operator]:
    """All-gather of parameters: once per step with zero1 and zero2, per layer and pass with zero3."""
    if policy.sharding == "none":
        return []
    return [
        exchange("optimizer/parameters", "all_gather", policy.axis, parameters * policy.parameter_bytes, policy.size)
    ]


def optimizer_operators(parameters: Real, policy: StatePolicy) -> list[Operator]:
    """The whole optimizer step for `parameters` weights per device (before sharding over replicas): gradient sum, Adam
    on this device's share, parameters back."""
    share = parameters if policy.sharding == "none" else parameters / policy.size
    update = Vector(
        part="optimizer/update",
        op="optimizer",
        bytes_read=share * (policy.state_bytes + policy.gradient_bytes),
        bytes_written=share * (policy.state_bytes + policy.parameter_bytes),
        flop=share * ADAM_FLOP,
    )
    gather = gather_operators(parameters, policy) if policy.sharding in ("zero1", "zero2") else []
    return [*gradient_operators(parameters, policy), update, *gather]
